"""Atomic files and folders, locks, JSON and CSV."""

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

TEMPORARY = re.compile(r'\.synseg-[0-9a-f]{8}-.+')  # names of temporary files and folders
LONGEST = 40  # characters of the final name kept in the temporary one: file systems limit names to 255 bytes
STALE_S = 60  # an unlocked temporary file older than this was left by a killed process
POLL_S = 0.2  # between attempts to take a lock
FORMULA = ('=', '+', '-', '@', '\t', '\r')  # first characters of what spreadsheets evaluate as a formula


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Write `path` atomically: yields a temporary file in the same folder that replaces `path` on success.

    It has the suffix of `path`, is created exclusively (no link is followed), and is flushed to disk before the rename.
    After an exception it is removed and `path` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = _temporary(path)
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        _mark_in_use(fd)
        with _errors_name(path, temporary):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(fd)


@contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """Write the folder `path` atomically: yields a temporary folder beside it that is renamed to `path` on success.

    Raises InputError if `path` is then anything but an empty folder, unless `replace` allows removing it.  After an
    exception the temporary folder is removed.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = _temporary(path)
    temporary.mkdir()
    fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _mark_in_use(fd)
        with _errors_name(path, temporary):
            yield temporary
        old = path.with_name(f'{path.name}.replaced-{uuid.uuid4().hex[:8]}')  # visible: a power cut may leave it
        if replace and path.exists():
            path.rename(old)
        _rename(temporary, path)
        _sync(path.parent)
        old.unlink() if old.is_symlink() else shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(fd)


@contextmanager
def exclusive_lock(path: str | os.PathLike, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock (flock) on the lock file `path`; the kernel releases it if the process dies.

    `waiting()` is called repeatedly while another process holds the lock, and may raise.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while (fd := _lock(path, waiting)) is None:
        pass
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released: the next process creates a new file
        os.close(fd)


def read_json(path: str | os.PathLike, remedy: str = 'replace the file') -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Raises InputError for invalid JSON, and OSError with the path if the file cannot be read.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f'{path}: not a regular file; {remedy}')
    try:
        return json.loads(Path(path).read_text(encoding='utf-8-sig'))
    except OSError as error:
        error.filename = error.filename or str(path)  # errors of open name the file, those of read do not
        raise
    except (ValueError, RecursionError) as error:
        cause = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise InputError(f'{path}: invalid JSON ({cause}); {remedy}') from error


def write_json(path: str | os.PathLike, content: Mapping) -> None:
    """Write a JSON file atomically; raises ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + '\n', encoding='utf-8', errors='surrogateescape')


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping], columns: Sequence[str] = ()) -> None:
    """Write rows to a CSV file atomically, with one column per key (`columns` if there are no rows).

    None and NaN become empty cells.  Text that a spreadsheet would evaluate as a formula is prefixed by an apostrophe.
    """
    names = list(dict.fromkeys(key for row in rows for key in row)) or list(columns)
    with atomic_file(path) as temporary:
        with temporary.open('w', newline='', encoding='utf-8', errors='surrogateescape') as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a file of `write_csv`, all values as text."""
    with Path(path).open(newline='', encoding='utf-8', errors='surrogateescape') as file:
        return [{name: _plain(text) for name, text in row.items()} for row in csv.DictReader(file)]


@contextmanager
def _errors_name(path: Path, temporary: Path) -> Iterator[None]:
    """Make OSErrors name `path` in place of the temporary file, or of none (those of `write`)."""
    try:
        yield
    except OSError as error:
        name = os.fspath(error.filename or temporary)
        if isinstance(name, str) and name.startswith(str(temporary)):
            error.filename = f'{path}{name.removeprefix(str(temporary))}'
        raise


def _plain(text) -> str:
    """The text of a cell without the apostrophe of `_cell`."""
    return text[1:] if text and text[0] == "'" and text[1:].startswith(FORMULA) else text or ''


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


def _remove_stale(folder: Path) -> None:
    """Remove temporary files and folders left by killed processes: older than STALE_S and not locked."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if TEMPORARY.fullmatch(entry.name)]
    for path in (folder / name for name in names):
        try:
            if time.time() - path.lstat().st_mtime < STALE_S:
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # renamed in the meantime, or of another user
            continue
        with suppress(OSError):
            if _try_lock(fd):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.close(fd)


def _mark_in_use(fd: int) -> None:
    """Lock a temporary file against `_remove_stale`, if the file system supports locks."""
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)


def _lock(path, waiting) -> int | None:
    """Open and lock `path`; None if its previous holder removed the file in the meantime."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f'{path}: the lock file is a symbolic link; remove it') from error
        raise
    try:
        while not _try_lock(fd):
            waiting()
            time.sleep(POLL_S)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _try_lock(fd: int) -> bool:
    """Try to take the lock without blocking; whether it was taken."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
