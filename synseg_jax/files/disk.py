"""Storage failures, as opposed to damaged content, and paths that checkpoint libraries cannot handle."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synseg_jax.errors import InputError

# etils and orbax glob below the path; tensorstore reads \ as /, gs:/ as a bucket, and accepts UTF-8 only.
UNREADABLE = re.compile(r'\*\*|\\|(?<=/)gs:(?=/|$)|[\ud800-\udfff]')
UNWRITABLE = re.compile(rf'{UNREADABLE.pattern}|[*?[]')
DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)  # files missing from a folder: damaged content
STATUS = ('RESOURCE_EXHAUSTED', 'PERMISSION_DENIED', 'UNAVAILABLE')  # of tensorstore and array_record
CODE = re.compile(r"os_error_code='(\d+)'")  # in errors of tensorstore
CHUNK = 2**22  # bytes


def check_path(folder: Path, reading: bool = False) -> None:
    """Raise InputError if the checkpoint libraries cannot write (with `reading`: read) below this path."""
    match = (UNREADABLE if reading else UNWRITABLE).search(str(folder.absolute()))
    if match:
        remedy = 'rename the folder, or give a symbolic link to it'
        raise InputError(f'{folder}: checkpoints cannot be stored in a path with {ascii(match[0])}; {remedy}')


def require_readable(path: Path) -> None:
    """Read a file, or all files of a folder, to the end; raises InputError naming the one that cannot be read."""

    def onerror(error):
        raise error

    files = [path]
    if path.is_dir():
        with reading(path):
            files = [Path(parent, name) for parent, _, names in os.walk(path, onerror=onerror) for name in names]
    for file in files:
        with reading(file), file.open('rb') as content:
            while content.read(CHUNK):
                pass


def is_failure(error: BaseException) -> bool:
    """Whether an error comes from memory, permissions or the disk, so that the content may be intact.

    Python raises OSError; tensorstore ValueError and array_record RuntimeError with a status or `os_error_code='5'`
    in the text.
    """
    text = str(error) if type(error) in (ValueError, RuntimeError) else ''
    codes = [int(code) for code in CODE.findall(text)]
    if isinstance(error, OSError):
        codes.append(error.errno or errno.ENOENT)  # gzip and zip raise it without errno for damaged content
    failed = any(code not in DAMAGE for code in codes) or any(status in text for status in STATUS)
    return isinstance(error, MemoryError) or failed


def reason(error: BaseException) -> str:
    """The cause of an error in one line."""
    if isinstance(error, MemoryError):
        return 'out of memory'
    codes = CODE.findall(str(error))
    number = int(codes[-1]) if codes else getattr(error, 'errno', None)
    return os.strerror(number) if number else str(error).strip().split('\n')[0][:200]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a storage failure while reading `path` into an InputError; other exceptions pass through."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever orbax, tensorstore, array_record or Python raise
        if not is_failure(error):
            raise
        remedy = 'nothing was changed; run again once it is readable'
        raise InputError(f'{path}: cannot be read ({reason(error)}); {remedy}') from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write below `path`, e.g. a full or unmounted disk, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever orbax, tensorstore or Python raise
        if not (is_failure(error) or isinstance(error, OSError) or CODE.search(str(error))):
            raise
        remedy = 'earlier saves are intact; run the same command to resume'
        raise InputError(f'{path}: cannot be written ({reason(error)}); {remedy}') from error
