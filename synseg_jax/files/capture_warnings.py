"""What others log, heard here and not printed."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Ear(logging.Filter):
    """Keeps the messages of one thread, which go no further."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []
        self.thread = threading.get_ident()

    def filter(self, record) -> bool:
        if record.thread == self.thread:
            self.lines.append(record.getMessage())
        return record.thread != self.thread


@contextmanager
def overheard(name: str = 'absl') -> Iterator[list[str]]:
    """The warnings that are logged under a name, on this thread and meanwhile, kept instead of printed."""
    ear, logger = _Ear(), logging.getLogger(name)
    logger.addFilter(ear)
    try:
        yield ear.lines
    finally:
        logger.removeFilter(ear)
