"""Losses, terms, and the one train step of every method."""
