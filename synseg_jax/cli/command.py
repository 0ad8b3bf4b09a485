"""What every command shares: its call as a function and as a program, one-line errors, exit codes."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from synseg_jax.cli.options import Flag, Options, Parser, imports_restored
from synseg_jax.errors import InputError, printable

LARGE_PAGES = 'glibc.malloc.hugetlb=1'
CHANNELS_LAST = '--xla_gpu_force_conv_nhwc'  # else XLA turns volumes over and over: a quarter of a 3-D step on a GPU
ACCELERATORS = ('/proc/driver/nvidia', '/dev/kfd', '/dev/accel0', '/dev/vfio/0')  # of NVIDIA, AMD and TPUs


def quieten_xla() -> None:
    """Keeps XLA on CPUs from asking for bug reports where compiling is slow, unless TF_CPP_MIN_LOG_LEVEL is set.

    It logs that as an error.  True errors are raised too; accelerators log some that are not, so there all is shown.
    """
    if os.environ.get('JAX_PLATFORMS') == 'cpu' or not any(map(os.path.exists, ACCELERATORS)):
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


quieten_xla()  # commands import this module before JAX, which reads it once


def run(body: Callable[[Options], int | None], defined: Sequence[Flag], argv: Sequence[str]) -> int:
    """Call `body` with the values of the flags in `argv`; the exit code, of `body` or 2 for a user error.

    A user error is one line on stderr.  --help prints the docstring of the module of `body`, and its flags.
    """
    try:
        with imports_restored():
            return _run(body, defined, argv) or 0
    except InputError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        raise  # no reader is left, which is no error of the user's
    except OSError as error:
        return _refuse(printable(f'{error.filename}: {error.strerror}' if error.filename else str(error)))
    except MemoryError as error:
        return _refuse(f'out of memory ({error or "none left"}); lower the batch or the size, or free some')


def _run(body, defined, argv):
    module = sys.modules[body.__module__]
    parser = Parser(f'synseg_jax.{Path(module.__file__).stem}', defined)
    line = parser.line(argv)
    if line.asks_for_help:
        print(f'{module.__doc__.strip()}\n\n{parser.help()}', flush=True)
        return 0
    return body(parser.parse(line))


def _refuse(message):
    """Prints `error: ` and the message, further lines of it indented; the exit code."""
    print('error: ' + message.replace('\n', '\n  '), file=sys.stderr)
    return 2


def start(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command as the program of this process: settings of stdout and XLA, and an exit with its exit code."""
    try:
        sys.stdout.reconfigure(errors='backslashreplace')  # as stderr: names of files may be of any bytes
        with_xla(CHANNELS_LAST, 'true')
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; say nothing at exit either
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def with_xla(flag: str, value: str) -> None:
    """Sets a flag of XLA, unless XLA_FLAGS names it already; before JAX first looks for devices."""
    given = os.environ.get('XLA_FLAGS', '')
    if flag not in given and os.environ.get('JAX_PLATFORMS') != 'cpu':
        os.environ['XLA_FLAGS'] = f'{given} {flag}={value}'.strip()


@contextmanager
def xla_flags(more: str) -> Iterator[None]:
    """Add flags of XLA, which JAX reads when it first looks for devices, to XLA_FLAGS; restored afterwards."""
    given = os.environ.get('XLA_FLAGS')
    os.environ['XLA_FLAGS'] = f'{given or ""} {more}'.strip()
    try:
        yield
    finally:
        os.environ.pop('XLA_FLAGS')
        if given is not None:
            os.environ['XLA_FLAGS'] = given


def with_large_pages() -> None:
    """Starts a program on Linux anew if its memory would come in small pages: glibc hears of it only at the start.

    On CPU, XLA takes what a step needs anew at every step, and the faults of 4 kB pages are a tenth of the step's time.
    Whoever sets GLIBC_TUNABLES, be it to nothing, decides instead.
    """
    program = getattr(sys.modules['__main__'].__spec__, 'name', None)
    plain = sys.orig_argv[1:3] == ['-m', program]  # no debugger, profiler or other program that runs this one
    if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ and plain:
        os.environ['GLIBC_TUNABLES'] = LARGE_PAGES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
