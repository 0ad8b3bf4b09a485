"""Running a command as a function or as a program: flags, one-line errors, exit codes, settings of XLA."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from synseg_jax.cli.options import Flag, Options, Parser, imports_restored
from synseg_jax.errors import InputError, printable

LARGE_PAGES = 'glibc.malloc.hugetlb=1'
CHANNELS_LAST = '--xla_gpu_force_conv_nhwc'  # otherwise XLA's transposes of volumes take a quarter of a 3-D step on GPU
ACCELERATORS = ('/proc/driver/nvidia', '/dev/kfd', '/dev/accel0', '/dev/vfio/0')  # NVIDIA, AMD, TPU


def quieten_xla() -> None:
    """On machines without accelerators, hide XLA's slow-compilation alarms, unless TF_CPP_MIN_LOG_LEVEL is set.

    XLA logs them as errors.  Real errors are raised too on CPU, but not always on accelerators, whose log stays.
    """
    if os.environ.get('JAX_PLATFORMS') == 'cpu' or not any(map(os.path.exists, ACCELERATORS)):
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


quieten_xla()  # here because commands import this module before JAX, which reads the variable once


def run(body: Callable[[Options], int | None], defined: Sequence[Flag], argv: Sequence[str]) -> int:
    """Parse `argv` and call `body` with the options; returns its exit code, or 2 after a user error.

    User errors are printed as one line on stderr.  --help prints the docstring of the module of `body`, and the flags.
    """
    try:
        with imports_restored():
            return _run(body, defined, argv) or 0
    except InputError as error:
        return print_error(str(error))
    except BrokenPipeError:
        raise  # stdout was closed: not a user error, see `start`
    except OSError as error:
        return print_error(printable(f'{error.filename}: {error.strerror}' if error.filename else str(error)))
    except MemoryError as error:
        return print_error(f'out of memory ({error or "none left"}); lower the batch or the size, or free some')


def _run(body, defined, argv):
    module = sys.modules[body.__module__]
    parser = Parser(f'synseg_jax.{Path(module.__file__).stem}', defined)
    line = parser.line(argv)
    if line.asks_for_help:
        print(f'{module.__doc__.strip()}\n\n{parser.help()}', flush=True)
        return 0
    return body(parser.parse(line))


def print_error(message) -> int:
    """Print `error: ` and the message, its further lines indented; returns the exit code."""
    print('error: ' + message.replace('\n', '\n  '), file=sys.stderr)
    return 2


def start(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command as a program and exit with its exit code."""
    try:
        sys.stdout.reconfigure(errors='backslashreplace')  # as stderr does: file names may be any bytes
        with_xla(CHANNELS_LAST, 'true')
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit raises it again
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def with_xla(flag: str, value: str) -> None:
    """Set a flag of XLA unless XLA_FLAGS has it; call before JAX initialises its backend."""
    current = os.environ.get('XLA_FLAGS', '')
    if flag not in current and os.environ.get('JAX_PLATFORMS') != 'cpu':
        os.environ['XLA_FLAGS'] = f'{current} {flag}={value}'.strip()


@contextmanager
def xla_flags(more: str) -> Iterator[None]:
    """Append to XLA_FLAGS within the block; JAX reads it when it initialises its backend."""
    previous = os.environ.get('XLA_FLAGS')
    os.environ['XLA_FLAGS'] = f'{previous or ""} {more}'.strip()
    try:
        yield
    finally:
        os.environ.pop('XLA_FLAGS')
        if previous is not None:
            os.environ['XLA_FLAGS'] = previous


def with_large_pages() -> None:
    """Re-execute the program on Linux with transparent huge pages for malloc, which glibc reads only at its start.

    On CPU, XLA allocates the memory of a step at every step, and page faults of 4 kB pages take a tenth of its time.
    Setting GLIBC_TUNABLES, even to the empty string, disables this.
    """
    program = getattr(sys.modules['__main__'].__spec__, 'name', None)
    direct = sys.orig_argv[1:3] == ['-m', program]  # not under a debugger, profiler or other wrapper
    if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ and direct:
        os.environ['GLIBC_TUNABLES'] = LARGE_PAGES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
