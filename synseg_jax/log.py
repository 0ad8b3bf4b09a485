"""Warnings, by the logger of absl, which every command uses; what runs without absl prints them plainly."""

import logging


def warning(text: str, *values: object) -> None:
    """Logs a warning, `values` put into `text` as % does."""
    logging.getLogger('absl').warning(text, *values, stacklevel=2)
