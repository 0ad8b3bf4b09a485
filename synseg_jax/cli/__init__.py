"""Flags, error messages, exit codes and progress of the commands."""
