"""Checks of scans, labels and sets before training."""
