"""One good input in a folder that is damaged, read and restored, again and again."""

import contextlib
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import damage
import numpy as np
from specimens import Change, Specimen

from synseg_jax.errors import InputError

OUTCOMES = ('refused', 'whole', 'warned', 'harmless', 'WRONG')
LETTERS = 500  # that a line of an error may have
LATER = 10**18  # ns; times of files that were restored are beyond it


class Bench:
    """A good specimen in the folder `root`."""

    def __init__(self, name: str, specimen: Specimen, root: Path):
        self.name, self.specimen, self.root, self.time_ns = name, specimen, root, LATER
        self.path = specimen.write(root)
        self.contents = {file: file.read_bytes() for file in sorted(root.rglob('*')) if file.is_file()}
        try:
            self.good = specimen.read(self.path)
        except InputError:  # nobody reads its kind
            self.good = None

    def change(self, number: int, seed: int) -> Change:
        """Damages the specimen in a way that follows from its name, the number and the seed alone."""
        self.time_ns += 1000
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        edited = [file for file in self.specimen.files(self.path) if self._edit(file)]
        own = [*(['field'] * 7 if edited else []), *(['folder'] * 7 if self.specimen.folder else [])]
        own += ['misplaced'] if self.specimen.misplaced else []
        kind = str(rng.choice([*damage.KINDS, *damage.TRANSFERS, *own]))
        if kind == 'folder':
            return Change(kind, self.path, self.specimen.folder(self.path, rng))
        files = edited if kind == 'field' else self.specimen.files(self.path)
        file, told = files[rng.integers(len(files))], ''
        before = self.contents[file]
        if kind == 'misplaced':
            return Change(kind, file, damage.misplace(file, rng), before)
        if kind == 'field':
            after, told = self._edit(file)(before, rng)
        else:
            after = damage.damaged(before, kind, rng) if before else b'x'
        damage.replace(file, after, self.time_ns)
        return Change(kind, file, told, before, after)

    def outcome(self, change: Change) -> tuple[str, str]:
        """One of OUTCOMES after reading the damaged specimen, and why; the specimen is whole again afterwards."""
        try:
            with _capture_warnings() as lines:
                return self._outcome(change, lines)
        finally:
            self._restore()

    def _edit(self, file):
        return next((edit for end, edit in self.specimen.fields.items() if file.name.endswith(end)), None)

    def _outcome(self, change, lines) -> tuple[str, str]:
        try:
            found = self.specimen.read(self.path)
        except InputError as error:
            return self._refused(str(error))
        except OSError as error:  # which commands print as one line as well
            return self._refused(f'{error.filename}: {error.strerror}') if error.filename else _uncaught(error)
        except Exception as error:  # whatever nobody has caught is what is looked for
            return _uncaught(error)
        if self.good is None:
            return 'WRONG', 'read, though the whole specimen is not'
        if same(self.good, found):
            return 'whole', ''
        if lines:
            return 'warned', lines[0]
        why = self.specimen.judge(self.good, found, change)
        return ('WRONG', why) if why else ('harmless', '')

    def _refused(self, message) -> tuple[str, str]:
        """Whether an error is one line that a terminal can show, and names what is wrong."""
        lines = message.split('\n') if self.specimen.several_lines else [message]
        if not all(line.isprintable() and len(line) <= LETTERS for line in lines):
            return 'WRONG', f'no clear line: {len(message)} letters, {message[:300]!r}'
        if not any(file.name in message for file in (*self.contents, self.path)):
            return 'WRONG', f'names no file: {message!r}'
        return 'refused', message

    def _restore(self) -> None:
        for path in sorted(self.root.rglob('*'), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.is_symlink() or not path.is_file() or path not in self.contents:
                path.unlink()
        for file, content in self.contents.items():
            if not file.is_file() or file.read_bytes() != content:
                file.parent.mkdir(parents=True, exist_ok=True)
                damage.replace(file, content, self.time_ns + 500)


def same(one, other) -> bool:
    """Whether two results are equal, arrays to the bit."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


def _uncaught(error) -> tuple[str, str]:
    """An error that would be a traceback, and the last line of the package that it passed."""
    at, trace = '', error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        at = f' at {file.name}:{trace.tb_lineno}' if 'synseg_jax' in file.parts else at
        trace = trace.tb_next
    return 'WRONG', f'traceback: {type(error).__name__}{at}: {str(error)[:200]!r}'


@contextlib.contextmanager
def _capture_warnings() -> Iterator[list[str]]:
    lines: list[str] = []
    handler, logger = logging.Handler(logging.WARNING), logging.getLogger('absl')
    handler.emit = lambda record: lines.append(record.getMessage())
    others, logger.handlers, logger.propagate = logger.handlers, [handler], False
    try:
        yield lines
    finally:
        logger.handlers, logger.propagate = others, True
