"""Flags, error messages and exit codes of the commands."""
