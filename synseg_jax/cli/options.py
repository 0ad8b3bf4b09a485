"""Flags of a command and their parser; every call has its own parser, independent of absl's global flags."""

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

from synseg_jax.cli.command_line import CONFIGURATIONS, CommandLine
from synseg_jax.cli.flag_errors import explain, tuple_syntax
from synseg_jax.errors import InputError
from synseg_jax.specification import check


@dataclass(frozen=True)
class Flag:
    """Declaration of a flag; `define` is one of absl's DEFINE_ functions."""

    name: str
    help: str
    default: Any = None
    define: Callable[..., Any] = flags.DEFINE_string
    required: bool = False
    data: tuple[str, ...] = ()  # for --config: flags whose value is the default of DATA in FILE:DATA


def config_flag(
    name: str = 'config', example: str = 'configs/quickstart.py', required: bool = False, data: tuple[str, ...] = ()
) -> Flag:
    """The flags `--config=FILE[:DATA]` and `--config.field=value`, or the same with another name.

    DATA defaults to the value of the first flag in `data` that has one: without data a configuration is at
    demonstration scale.
    """
    text = (
        f'Configuration, a file or a name, e.g. {example}; FILE:DATA names its data, --{name}.FIELD=VALUE sets a field.'
    )
    return Flag(name, text, None, config_flags.DEFINE_config_file, required, data)


class Options(SimpleNamespace):
    """The values of a command's flags as attributes.

    Also `arguments`, the normalised command line; `config_file`, the configuration file or None; and `overrides`, the
    fields set by flags such as --config.train.batch=8.
    """


class Parser:
    """Parser of a command's flags and those of libraries, e.g. --verbosity of absl's logging."""

    def __init__(self, program: str, defined: Sequence[Flag]):
        self.program, self.defined = program, defined
        self.values, self.arguments = flags.FlagValues(), []
        self.configuration = next((flag for flag in defined if flag.name in CONFIGURATIONS), None)
        for flag in defined:
            more = {'sys_argv': self.arguments} if flag is self.configuration else {}  # searched for --config.FIELD
            flag.define(flag.name, flag.default, flag.help, flag_values=self.values, **more)
            self.values.register_key_flag_for_module(program, self.values[flag.name])
        for name in flags.FLAGS:
            if flags.FLAGS[name].name == name and name not in self.values:  # which adds its short name as well
                self.values[name] = flags.FLAGS[name]
        flags.FLAGS.mark_as_parsed()  # grain and others refuse to read unparsed flags

    def help(self) -> str:
        """The help text: all flags with their defaults."""
        return f'Flags:\n{self.values.module_help(self.program)}'

    def line(self, argv: Sequence[str]) -> CommandLine:
        """Normalise the arguments `argv`."""
        return CommandLine.read([self.program, *argv], self.values)

    def parse(self, line: CommandLine) -> Options:
        """The values of the flags; exceptions of absl, ml_collections and the configuration become InputErrors."""
        if self.configuration:
            line = _with_configuration(self.configuration.name, line)
        self.arguments[:] = line.argv(self.configuration.data if self.configuration else ())
        try:
            with _without_bytecode():
                rest = self.values(self.arguments)
        except Exception as error:  # a configuration is user code, which may raise anything
            raise InputError(explain(error, line, self.values)) from error
        if len(rest) > 1:
            raise InputError(f'unexpected argument {rest[1]!r}; flags are written --name=value')
        options = self._options(line)
        for flag in self.defined:
            if flag.required and not getattr(options, flag.name):
                raise InputError(f'--{flag.name} is missing; --help shows an example')
        return options

    def _options(self, line) -> Options:
        options = Options(arguments=self.arguments, config_file=None, overrides=())
        if self.configuration and line.value(self.configuration.name) is not None:
            flag = self.values[self.configuration.name]
            options.config_file = Path(config_flags.get_config_filename(flag).partition(':')[0])
            options.overrides = tuple(config_flags.get_override_values(flag))
            _check(flag, line)
        vars(options).update({flag.name: self.values[flag.name].value for flag in self.defined})
        return options


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Import configurations without leaving __pycache__ beside them, in folders of the user."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextmanager
def imports_restored() -> Iterator[None]:
    """Undo the side effects of importing a configuration: its folder in sys.path, and its module."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for flag in CONFIGURATIONS:
            sys.modules.pop(f'{flag}_config', None)  # else the next file runs in the namespace of this one


def _with_configuration(flag, line) -> CommandLine:
    """`line` with the file of a configuration that it gives by name, e.g. --config=quickstart.

    The folder above the file's configs/ is put on sys.path, so that it can import `configs.base` from anywhere.
    """
    if line.value(flag) is None:
        if fields := line.overrides(flag):
            raise InputError(f'--{flag}.{next(iter(fields))}: --{flag}=FILE is missing')
        return line
    path = Path(line.value(flag).partition(':')[0])
    if not path.is_file():
        path = _by_name(flag, str(path) if path.name else '')
        line = line.with_file(flag, str(path))
    above = path.resolve().parents
    sys.path.insert(0, str(next((folder for folder in above if (folder / 'configs').is_dir()), above[1])))
    importlib.invalidate_caches()
    return line


def _by_name(flag, name) -> Path:
    """The file of a configuration of the package: quickstart, tables/heart."""
    folder = Path(importlib.import_module('configs.base').__file__).parent
    files = (file for file in folder.glob('**/*.py') if 'def get_config(' in file.read_text())
    files = {file.relative_to(folder).with_suffix('').as_posix(): file for file in files}
    if name in files:
        return files[name]
    named = f' or name; names: {", ".join(sorted(files))}' if name.isidentifier() else ''
    raise InputError(f'--{flag}={name}: no such file{named}')


def _check(flag, line):
    """Raise InputError for files without ConfigDict, and for missing, misread and invalid values of fields."""
    config, values = flag.value, config_flags.get_override_values(flag)
    if not hasattr(config, 'copy_and_resolve_references'):  # config_flags keeps the OSError of an unreadable file
        file = config_flags.get_config_filename(flag).partition(':')[0]
        raise InputError(f'--{flag.name}={file}: get_config returns no ConfigDict; see configs/base.py')
    for field, text in line.overrides(flag.name).items():
        value = values.get(field)
        if text is None and not isinstance(value, bool):
            raise InputError(f'--{flag.name}.{field}: its value is missing; write --{flag.name}.{field}=VALUE')
        if text and ',' in text and value == (text,):
            raise InputError(tuple_syntax(f'{flag.name}.{field}', text))
    check.check(config.copy_and_resolve_references().to_dict())
