"""What a disk does to files: failures of it, as opposed to damaged content, and paths that checkpoints cannot have."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synseg_jax.errors import InputError

# etils and orbax glob below the path, tensorstore reads \ as / and gs:/ as an address, and takes UTF-8 only.
UNREADABLE = re.compile(r'\*\*|\\|(?<=/)gs:(?=/|$)|[\ud800-\udfff]')
UNWRITABLE = re.compile(rf'{UNREADABLE.pattern}|[*?[]')
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)  # what damage to a folder looks like
STATUS = ('RESOURCE_EXHAUSTED', 'PERMISSION_DENIED', 'UNAVAILABLE')  # of tensorstore and array_record
CHUNK = 2**22


def check_path(folder: Path, reading: bool = False) -> None:
    """InputError if checkpoints under this path could not be written and read again, or, with `reading`, not read."""
    found = (UNREADABLE if reading else UNWRITABLE).search(str(folder.absolute()))
    if found:
        remedy = 'rename the folder, or give a symbolic link to it'
        raise InputError(f'{folder}: checkpoints cannot be kept in a path with {ascii(found[0])}; {remedy}')


def require_readable(path: Path) -> None:
    """Reads a file, or every file of a folder; InputError naming the one that permissions or the disk withhold."""

    def refuse(error):
        raise error

    inside = [path]
    if path.is_dir():
        with reading(path):
            inside = [Path(place, name) for place, _, names in os.walk(path, onerror=refuse) for name in names]
    for file in inside:
        with reading(file), file.open('rb') as content:
            while content.read(CHUNK):
                pass


def is_failure(error: BaseException) -> bool:
    """Whether an error comes from memory, permissions or the disk, so that the content may be whole.

    Python raises OSError, tensorstore ValueError and array_record RuntimeError with a status or `os_error_code='5'`
    in the text.
    """
    text = str(error) if type(error) in (ValueError, RuntimeError) else ''
    codes = [int(code) for code in CODE.findall(text)]
    if isinstance(error, OSError):
        codes.append(error.errno or errno.ENOENT)  # gzip and zip raise it without a number for damaged content
    failed = any(code not in ABSENT for code in codes) or any(status in text for status in STATUS)
    return isinstance(error, MemoryError) or failed


CODE = re.compile(r"os_error_code='(\d+)'")


def reason(error: BaseException) -> str:
    """The cause in one line."""
    if isinstance(error, MemoryError):
        return 'out of memory'
    codes = CODE.findall(str(error))
    number = int(codes[-1]) if codes else getattr(error, 'errno', None)
    return os.strerror(number) if number else str(error).strip().split('\n')[0][:200]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A failure to read `path` becomes an InputError that says so; damaged content raises what it raised."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever orbax, tensorstore, array_record or Python raise
        if not is_failure(error):
            raise
        remedy = 'nothing was changed, so run again when it can be'
        raise InputError(f'{path}: cannot be read ({reason(error)}); {remedy}') from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A failure to write below `path`, such as a full disk or one that is gone, becomes an InputError that says so."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever orbax, tensorstore or Python raise
        if not (is_failure(error) or isinstance(error, OSError) or CODE.search(str(error))):
            raise
        remedy = 'what was saved before is whole, and the same command goes on from there'
        raise InputError(f'{path}: cannot be written ({reason(error)}); {remedy}') from error
