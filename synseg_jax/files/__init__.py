"""Files and folders that appear whole or not at all, locks, and the JSON and CSV that commands read and write."""

import csv
import errno
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from synseg_jax.errors import InputError

TEMPORARY = re.compile(r'\.synseg-[0-9a-f]{8}-.+')  # the names of files and folders that are not finished
LONGEST = 40  # characters of a name kept in that of its temporary file: file systems end names at 255 bytes
ABANDONED_S = 60  # age from which an unlocked temporary file counts as left behind by a process that was killed
POLL_S = 0.2  # between attempts to take a lock
FORMULA = ('=', '+', '-', '@', '\t', '\r')  # how text begins that a spreadsheet would run


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file beside `path`, with its suffix, that replaces it when the block ends well and vanishes if not.

    It is new, so that no planted link is followed, and on the disk before it takes its place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = _temporary(path)
    held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        _claim(held)
        with _named(temporary, path):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(held)


@contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends well and vanishes if not.

    InputError where `path` exists by then and is not an empty folder, unless `replace` allows to remove it.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = _temporary(path)
    temporary.mkdir()
    held = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _claim(held)
        with _named(temporary, path):
            yield temporary
        old = path.with_name(f'{path.name}.replaced-{uuid.uuid4().hex[:8]}')  # not hidden: a power cut may leave it
        if replace and path.exists():
            path.rename(old)
        _rename(temporary, path)
        _sync(path.parent)
        old.unlink() if old.is_symlink() else shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


@contextmanager
def exclusive_lock(path: str | os.PathLike, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock (flock) on the file `path`, made for it; the kernel releases it if the process dies.

    `waiting()` is called repeatedly while another process holds the lock, and may raise.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while (held := _lock(path, waiting)) is None:
        pass
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released: whoever waited for this file makes a new one
        os.close(held)


def read_json(path: str | os.PathLike, remedy: str = 'replace the file') -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark; InputError where it is none.

    OSError, with the path, where it cannot be read.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f'{path}: a folder, pipe or device, no file; {remedy}')
    try:
        return json.loads(Path(path).read_text(encoding='utf-8-sig'))
    except OSError as error:
        error.filename = error.filename or str(path)  # open names it, read does not
        raise
    except (ValueError, RecursionError) as error:
        told = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise InputError(f'{path}: not readable as JSON ({told}); {remedy}') from error


def write_json(path: str | os.PathLike, content: Mapping) -> None:
    """Writes JSON, whole or not at all; NaN or infinity in it is a ValueError."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + '\n', encoding='utf-8', errors='surrogateescape')


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping], columns: Sequence[str] = ()) -> None:
    """Writes rows under all of their keys, `columns` where there are no rows; None and NaN are empty cells.

    Text that a spreadsheet would take for a formula is written after an apostrophe.
    """
    names = list(dict.fromkeys(key for row in rows for key in row)) or list(columns)
    with atomic_file(path) as temporary:
        with temporary.open('w', newline='', encoding='utf-8', errors='surrogateescape') as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


@contextmanager
def _named(temporary: Path, path: Path) -> Iterator[None]:
    """OSErrors name what was to be written: `write` names no file, and nobody knows the temporary one."""
    try:
        yield
    except OSError as error:
        name = os.fspath(error.filename or temporary)
        if isinstance(name, str) and name.startswith(str(temporary)):
            error.filename = f'{path}{name.removeprefix(str(temporary))}'
        raise


def _cell(value):
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return None if value != value else value


def _temporary(path: Path) -> Path:
    return path.with_name(f'.synseg-{uuid.uuid4().hex[:8]}-{path.name[-LONGEST:]}')


def _rename(temporary, path) -> None:
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise InputError(f'{path}: exists and is not empty; remove it or choose another folder') from error
        raise


def _remove_abandoned(folder: Path) -> None:
    """Removes the temporary files and folders of processes that were killed: old ones that nobody holds."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if TEMPORARY.fullmatch(entry.name)]
    for path in (folder / name for name in names):
        try:
            if time.time() - path.lstat().st_mtime < ABANDONED_S:
                continue
            held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # finished meanwhile, or not ours to remove
            continue
        with suppress(OSError):
            if _locked(held):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.close(held)


def _claim(held: int) -> None:
    """Marks a temporary file as in use, where the file system knows locks."""
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX)


def _lock(path, waiting) -> int | None:
    """The open, locked file at `path`; None if its former owner removed it meanwhile."""
    try:
        held = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f'{path}: is a link, where a lock is needed; remove it') from error
        raise
    try:
        while not _locked(held):
            waiting()
            time.sleep(POLL_S)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.stat()):
                return held
    except BaseException:
        os.close(held)
        raise
    os.close(held)
    return None


def _locked(held: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _sync(path: Path) -> None:
    """Returns when a file or folder is on the disk."""
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(held)
    finally:
        os.close(held)
