"""Runwarden: stands watch over training runs."""

__version__ = "0.1.0"
