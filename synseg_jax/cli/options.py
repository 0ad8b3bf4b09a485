"""The flags of a command and their values; a parser is made for every call, so that none sees the flags of another."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from absl import flags
from ml_collections import config_flags

from synseg_jax.cli.mistakes import explained, unquoted
from synseg_jax.cli.spelling import CONFIGURATIONS, CommandLine
from synseg_jax.errors import InputError
from synseg_jax.specification import check


@dataclass(frozen=True)
class Flag:
    """A flag of a command; `define` is one of absl's DEFINE_ functions."""

    name: str
    help: str
    default: Any = None
    define: Callable[..., Any] = flags.DEFINE_string
    required: bool = False
    data: tuple[str, ...] = ()  # of a configuration: the flags whose value is its data where it names none


def config_flag(
    name: str = 'config', example: str = 'configs/quickstart.py', required: bool = False, data: tuple[str, ...] = ()
) -> Flag:
    """The flags `--config=FILE[:DATA]` and `--config.field=value`, or the same under another name.

    A configuration that names no data gets the value of the first flag in `data` that has one: without data it would be
    at demonstration scale.
    """
    text = f'Configuration file, e.g. {example}; FILE:DATA names its data, --{name}.FIELD=VALUE sets a field of it.'
    return Flag(name, text, None, config_flags.DEFINE_config_file, required, data)


class Options(SimpleNamespace):
    """The values of a command's flags, by their names.

    Beside them `arguments`, the command line in one spelling; `config_file`, the file of its configuration, None
    without one; and `overrides`, the fields that flags such as --config.train.batch=8 set.
    """


class Parser:
    """Parses the flags of one call of a command, and those of libraries, such as --verbosity of absl's logging."""

    def __init__(self, program: str, defined: Sequence[Flag]):
        self.program, self.defined = program, defined
        self.values, self.arguments = flags.FlagValues(), []
        self.configuration = next((flag for flag in defined if flag.name in CONFIGURATIONS), None)
        for flag in defined:
            more = {'sys_argv': self.arguments} if flag is self.configuration else {}  # where it looks for its fields
            flag.define(flag.name, flag.default, flag.help, flag_values=self.values, **more)
            self.values.register_key_flag_for_module(program, self.values[flag.name])
        for name in flags.FLAGS:
            if flags.FLAGS[name].name == name and name not in self.values:  # its short name comes with it
                self.values[name] = flags.FLAGS[name]
        flags.FLAGS.mark_as_parsed()  # grain and others read their flags only then

    def help(self) -> str:
        """The flags of the command, each with its default."""
        return f'Flags:\n{self.values.module_help(self.program)}'

    def line(self, argv: Sequence[str]) -> CommandLine:
        """The arguments `argv` in one spelling."""
        return CommandLine.read([self.program, *argv], self.values)

    def parse(self, line: CommandLine) -> Options:
        """The values of the flags; whatever absl, ml_collections or the configuration raise is an InputError."""
        if self.configuration:
            _find(self.configuration.name, line)
        self.arguments[:] = line.argv(self.configuration.data if self.configuration else ())
        try:
            rest = self.values(self.arguments)
        except Exception as error:  # a configuration is a program of the user's, which may raise anything
            raise InputError(explained(error, line, self.values)) from error
        if len(rest) > 1:
            raise InputError(f'unexpected argument {rest[1]!r}; flags are written --name=value')
        options = self._options(line)
        for flag in self.defined:
            if flag.required and not getattr(options, flag.name):
                raise InputError(f'--{flag.name} is missing; --help shows an example')
        return options

    def _options(self, line) -> Options:
        found = Options(arguments=self.arguments, config_file=None, overrides=())
        if self.configuration and line.value(self.configuration.name) is not None:
            given = self.values[self.configuration.name]
            found.config_file = Path(config_flags.get_config_filename(given).partition(':')[0])
            found.overrides = tuple(config_flags.get_override_values(given))
            _check(given, line)
        vars(found).update({flag.name: self.values[flag.name].value for flag in self.defined})
        return found


@contextmanager
def imports_restored() -> Iterator[None]:
    """Undo what importing a configuration leaves behind: its folder on the search path, and its module."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for flag in CONFIGURATIONS:
            sys.modules.pop(f'{flag}_config', None)  # the next file would be run in this one's namespace


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
    config, read = flag.value, config_flags.get_override_values(flag)
    if not hasattr(config, 'copy_and_resolve_references'):  # an OSError where the file could not be read
        file = config_flags.get_config_filename(flag).partition(':')[0]
        raise InputError(f'--{flag.name}={file}: get_config returns no ConfigDict; see configs/base.py')
    for field, text in line.overrides(flag.name).items():
        value = read.get(field)
        if text is None and not isinstance(value, bool):
            raise InputError(f'--{flag.name}.{field}: its value is missing; write --{flag.name}.{field}=VALUE')
        if text and ',' in text and value == (text,):
            raise InputError(unquoted(f'{flag.name}.{field}', text))
    check.check(config.copy_and_resolve_references().to_dict())
