"""Writes a review's page."""
