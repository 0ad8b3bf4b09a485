"""Scans to records to batches."""
