"""Folders of scans as lists of cases, and their writers."""
