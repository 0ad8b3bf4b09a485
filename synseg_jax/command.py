"""What every command shares: flags, one-line errors, exit codes."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from synseg_jax.command_line import CONFIGURATIONS, CommandLine
from synseg_jax.errors import InputError, printable
from synseg_jax.mistakes import explained, unquoted
from synseg_jax.ranges import check_ranges

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # --config is a flag of the command that asks for it, and in the list of its --help
ARGUMENTS: list[str] = []  # the command line in one spelling, once it is parsed; ml_collections looks for fields here
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


def config_flag(name: str = 'config', example: str = 'configs/quickstart.py') -> flags.FlagHolder:
    """Defines `--config=FILE[:DATA]` and `--config.field=value`, or the same under another name."""
    text = f'Configuration file, e.g. {example}; FILE:DATA names its data, --{name}.FIELD=VALUE sets a field of it.'
    return config_flags.DEFINE_config_file(name, None, text, sys_argv=ARGUMENTS)


def run(main: Callable[[], None], required: Sequence[str] = (), data: Sequence[str] = ()) -> None:
    """Runs `main` after parsing the flags; a mistake that a user can mend is one line on stderr and exit code 2.

    `data` names flags; a configuration is given the value of the first that has one as its data unless it names its
    own: bare, it would be at demonstration scale.
    """
    try:
        sys.stdout.reconfigure(errors='backslashreplace')  # as stderr: names of files may be of any bytes
        line = CommandLine.read(sys.argv, FLAGS)
        if line.asks_for_help:
            module = sys.modules['__main__']
            print(f'{module.__doc__.strip()}\n\nFlags:\n{FLAGS.module_help(module)}', flush=True)
            return
        with_xla(CHANNELS_LAST, 'true')
        _parse(line, data)
        for name in required:
            if not FLAGS[name].value:
                raise InputError(f'--{name} is missing; --help shows an example')
        main()
    except InputError as error:
        sys.exit(_refuse(str(error)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; say nothing at exit either
    except OSError as error:
        sys.exit(_refuse(printable(f'{error.filename}: {error.strerror}' if error.filename else str(error))))
    except MemoryError as error:
        sys.exit(_refuse(f'out of memory ({error or "none left"}); lower the batch or the size, or free some'))
    except KeyboardInterrupt:
        sys.exit(130)


def with_xla(flag: str, value: str) -> None:
    """Sets a flag of XLA, unless XLA_FLAGS names it already; before JAX first looks for devices."""
    given = os.environ.get('XLA_FLAGS', '')
    if flag not in given and os.environ.get('JAX_PLATFORMS') != 'cpu':
        os.environ['XLA_FLAGS'] = f'{given} {flag}={value}'.strip()


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


def config_path(flag: str = 'config') -> Path:
    """The file that --config, or another such flag, names."""
    return Path(config_flags.get_config_filename(FLAGS[flag]).partition(':')[0])


def overrides(flag: str = 'config') -> tuple[str, ...]:
    """The fields that flags such as --config.train.batch=8 set."""
    return tuple(config_flags.get_override_values(FLAGS[flag]))


def _refuse(message):
    """Prints `error: ` and the message, further lines of it indented; the exit code."""
    print('error: ' + message.replace('\n', '\n  '), file=sys.stderr)
    return 2


def _parse(line, data):
    """Parses the flags; everything that absl, ml_collections and the configuration raise becomes one line."""
    given = [flag for flag in CONFIGURATIONS if flag in FLAGS]
    for flag in given:
        _find(flag, line)
    ARGUMENTS[:] = line.argv(data)
    try:
        rest = FLAGS(ARGUMENTS)
    except Exception as error:  # a configuration is a program of the user's, which may raise anything
        raise InputError(explained(error, line, FLAGS)) from error
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; flags are written --name=value')
    for flag in given:
        if line.value(flag) is not None:
            _check(flag, line)


def _find(flag, line):
    """Lets a configuration import `configs.base`, from wherever the command runs."""
    if line.value(flag) is None:
        if fields := line.overrides(flag):
            raise InputError(f'--{flag}.{next(iter(fields))}: of which configuration? --{flag}=FILE is missing')
        return
    path = Path(line.value(flag).partition(':')[0])
    if not path.is_file():
        raise InputError(f'--{flag}={path if path.name else ""}: no such file')
    above = path.resolve().parents
    sys.path.insert(0, str(next((folder for folder in above if (folder / 'configs').is_dir()), above[1])))
    importlib.invalidate_caches()


def _check(flag, line):
    """InputError for a configuration that is none, and for fields whose values were misread or will not do."""
    config, read = FLAGS[flag].value, config_flags.get_override_values(FLAGS[flag])
    if not hasattr(config, 'copy_and_resolve_references'):  # an OSError where the file could not be read
        raise InputError(f'--{flag}={config_path(flag)}: get_config returns no ConfigDict; see configs/base.py')
    for field, text in line.overrides(flag).items():
        value = read.get(field)
        if text is None and not isinstance(value, bool):
            raise InputError(f'--{flag}.{field}: its value is missing; write --{flag}.{field}=VALUE')
        if text and ',' in text and value == (text,):
            raise InputError(unquoted(f'{flag}.{field}', text))
    check_ranges(config)
