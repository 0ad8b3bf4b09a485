"""Scans to records: settings, splits, extraction."""
