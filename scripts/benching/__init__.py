"""Measures the connector beside `encord-agents`, on the sandbox. Nothing of the product imports this."""
