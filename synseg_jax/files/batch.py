"""Scans one after another: an error in one of them is reported at the end, after all others are done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synseg_jax.errors import InputError


class Batch:
    """The errors of single scans, by file."""

    def __init__(self, total: int):
        self.total = total  # scans
        self.left_out: list[str] = []
        self.incomplete: list[str] = []

    @contextmanager
    def scan(self, file: Path, still: str = '') -> Iterator[None]:
        """Collects what is wrong with one scan; `still` says how far it is done all the same.

        OSErrors are raised: the folder that is written to serves all scans.
        """
        try:
            yield
        except (InputError, MemoryError, RuntimeError) as error:  # XLA's and PyTorch's for want of memory
            line = _reason(error)
            if not line:
                raise
            line = line if str(file) in line else f'{file}: {line}'
            (self.incomplete if still else self.left_out).append(f'{line} ({still})' if still else line)

    def finish(self, done: str) -> None:
        """InputError with a line for each error; `done` says what became of the other scans."""
        lines = [*self.left_out, *self.incomplete]
        if not lines:
            return
        if len(self.left_out) == self.total or len(lines) == self.total == 1:
            raise InputError(*lines)
        kinds = (self.left_out, 'left out'), (self.incomplete, 'incomplete')
        told = ' and '.join(f'{len(of)} of {self.total} scans {word}' for of, word in kinds if of)
        raise InputError(f'{told}, the others {done}:', *lines)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """InputError where a file cannot be read: an error of its scan, unlike those of the folder that is written to."""
    try:
        yield
    except OSError as error:
        raise InputError(f'{file}: cannot be read ({error.strerror or error})') from error


def _reason(error) -> str:
    """One line for an error; empty for what no scan is to blame for."""
    if isinstance(error, InputError):
        return ' '.join(str(error).split('\n'))
    memory = isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)
    return 'not enough memory for it; crop it, or use a machine with more' if memory else ''
