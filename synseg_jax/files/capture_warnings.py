"""Warnings of other code, captured instead of logged."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Capture(logging.Filter):
    """Keeps the messages of one thread and drops their records."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []
        self.thread = threading.get_ident()

    def filter(self, record) -> bool:
        if record.thread == self.thread:
            self.lines.append(record.getMessage())
        return record.thread != self.thread


@contextmanager
def capture_warnings(logger_name: str = 'absl') -> Iterator[list[str]]:
    """Yields the list of messages that this thread logs within the block; they are not printed."""
    capture, logger = _Capture(), logging.getLogger(logger_name)
    logger.addFilter(capture)
    try:
        yield capture.lines
    finally:
        logger.removeFilter(capture)
