"""Errors of single scans, collected while the other scans are processed and raised together at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synseg_jax.errors import InputError


class ScanErrors:
    """Collects the errors of `total` scans that are processed one after another."""

    def __init__(self, total: int):
        self.total = total
        self.skipped: list[str] = []
        self.incomplete: list[str] = []

    @contextmanager
    def collect(self, file: Path, state: str = '') -> Iterator[None]:
        """Collect an error of the scan `file`; `state` tells what was written of it before, if anything.

        OSErrors are raised: they concern the output folder, which all scans share.
        """
        try:
            yield
        except (InputError, MemoryError, RuntimeError) as error:  # RuntimeError: XLA and PyTorch out of memory
            line = _reason(error)
            if not line:
                raise
            line = line if str(file) in line else f'{file}: {line}'
            (self.incomplete if state else self.skipped).append(f'{line} ({state})' if state else line)

    def finish(self, done: str) -> None:
        """Raise an InputError with one line per error; `done` says what happened to the other scans."""
        lines = [*self.skipped, *self.incomplete]
        if not lines:
            return
        if len(self.skipped) == self.total or len(lines) == self.total == 1:
            raise InputError(*lines)
        counts = (len(self.skipped), 'left out'), (len(self.incomplete), 'incomplete')
        summary = ' and '.join(f'{count} of {self.total} scans {word}' for count, word in counts if count)
        raise InputError(f'{summary}, the others {done}:', *lines)


@contextmanager
def reading_scan(file: Path) -> Iterator[None]:
    """Turn an OSError while reading a scan into an InputError, to tell it from those of writing the output."""
    try:
        yield
    except OSError as error:
        raise InputError(f'{file}: cannot be read ({error.strerror or error})') from error


def _reason(error) -> str:
    """The error in one line; empty if it is not about the scan."""
    if isinstance(error, InputError):
        return ' '.join(str(error).split('\n'))
    out_of_memory = isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)
    return 'out of memory; crop the scan or use a machine with more memory' if out_of_memory else ''
