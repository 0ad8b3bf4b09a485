"""Warnings, by the logger of absl, which every command uses; what runs without absl prints them plainly."""

import logging

from synseg_jax.errors import printable


def warning(text: str, *values: object) -> None:
    """Logs a warning, `values` put into `text` as % does, so that any terminal can show it."""
    logging.getLogger('absl').warning('%s', printable(text % values), stacklevel=2)
