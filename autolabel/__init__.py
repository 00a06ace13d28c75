"""Unattended zero-shot pre-labelling for Encord projects."""

__version__ = "0.1.0"
