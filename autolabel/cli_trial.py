"""The command `trial`."""
