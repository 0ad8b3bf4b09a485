"""What every command shares: flags, one-line errors, exit codes."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from synseg_jax.errors import InputError

FLAGS = flags.FLAGS
CONFIGURATIONS = ('config', 'table')  # flags that name one
LARGE_PAGES = 'glibc.malloc.hugetlb=1'
CHANNELS_LAST = '--xla_gpu_force_conv_nhwc'  # else XLA turns volumes over and over: a quarter of a 3-D step on a GPU


def config_flag(name: str = 'config', example: str = 'configs/quickstart.py') -> flags.FlagHolder:
    """Defines `--config=FILE[:DATA]` and `--config.field=value`, or the same under another name."""
    return config_flags.DEFINE_config_file(name, None, f'Configuration file, e.g. {example}.')


def run(main: Callable[[], None], required: Sequence[str] = (), data: str = '') -> None:
    """Runs `main` after parsing the flags; a mistake that a user can mend is one line on stderr and exit code 2.

    `data` names the flag whose value a configuration is given as its data unless it names its own: bare, it would
    be at demonstration scale.
    """
    try:
        if {'-h', '--help'} & set(sys.argv[1:]):
            module = sys.modules['__main__']
            print(f'{module.__doc__.strip()}\n\nFlags:\n{FLAGS.module_help(module)}', flush=True)
            return
        with_xla(CHANNELS_LAST, 'true')
        _parse(with_data(sys.argv, data) if data else sys.argv)
        for name in required:
            if not FLAGS[name].value:
                raise InputError(f'--{name} is missing; --help shows an example')
        main()
    except InputError as error:
        sys.exit(_refuse(str(error)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; say nothing at exit either
    except OSError as error:
        sys.exit(_refuse(f'{error.filename}: {error.strerror}' if error.filename else str(error)))
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


def config_path(flag: str = 'config') -> Path | None:
    """The file that --config, or another such flag, names."""
    for argument, following in zip(sys.argv[1:], [*sys.argv[2:], ''], strict=False):
        name, equals, value = argument.partition('=')
        if name in (f'--{flag}', f'-{flag}'):
            return Path((value if equals else following).split(':')[0])
    return None


def with_data(argv: Sequence[str], flag: str) -> list[str]:
    """`argv` with the value of `--flag` after the configuration's colon, unless something stands there already."""
    value = next((a.split('=', 1)[1] for a in argv if a.startswith(f'--{flag}=')), '')
    return [f'{a}:{value}' if a.startswith('--config=') and ':' not in a and value else a for a in argv]


def _refuse(message):
    """Prints `error: ` and the message, further lines of it indented; the exit code."""
    print('error: ' + message.replace('\n', '\n  '), file=sys.stderr)
    return 2


def _parse(argv):
    """Parses the flags; everything that absl and ml_collections raise on the way becomes one line."""
    for flag in CONFIGURATIONS:
        path = config_path(flag)
        if path is None:
            continue
        if not path.is_file():
            raise InputError(f'--{flag}={path}: no such file')
        # A configuration imports `configs.base`, from wherever the command runs.
        above = path.resolve().parents
        sys.path.insert(0, str(next((folder for folder in above if (folder / 'configs').is_dir()), above[1])))
        importlib.invalidate_caches()
    try:
        rest = FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError, ImportError, OSError) as error:
        raise InputError(_explain(error, argv)) from error
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; flags are written --name=value')


def _explain(error, argv):
    """One line for what absl or ml_collections raised, naming the field of the configuration where it can."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # str of a KeyError is a repr
    line = next((part for part in text.splitlines() if part.strip()), type(error).__name__)
    for override in (a for a in argv if a.startswith(tuple(f'--{flag}.' for flag in CONFIGURATIONS))):
        flag, _, name = override.removeprefix('--').split('=')[0].partition('.')
        if not isinstance(error, flags.Error) and any(part in line for part in name.split('.')):
            return f'--{flag}.{name}: no such field, or not of its type ({line}); configs/base.py lists them'
    return line
