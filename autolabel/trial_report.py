"""Writes a trial's page."""
