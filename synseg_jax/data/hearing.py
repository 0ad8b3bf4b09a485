"""What others log, heard here and not printed."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def overheard(name: str = 'absl') -> Iterator[list[str]]:
    """The warnings that are logged under a name, on this thread and meanwhile, kept instead of printed."""
    lines, thread, logger = [], threading.get_ident(), logging.getLogger(name)

    def keep(record) -> bool:
        if record.thread == thread:
            lines.append(record.getMessage())
        return record.thread != thread

    logger.addFilter(keep)
    try:
        yield lines
    finally:
        logger.removeFilter(keep)
