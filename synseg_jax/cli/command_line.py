"""The command line in normal form, --name=value, whichever of absl's forms was used."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from absl.flags import Error, FlagValues

from synseg_jax.errors import InputError

CONFIGURATIONS = ('config', 'table')  # flags whose value is a configuration file
HELP = ('h', 'help', 'helpfull', 'helpshort')


@dataclass(frozen=True)
class CommandLine:
    """Flags as (name, value), with None for a missing value, and the positional arguments after them.

    `-x`, `--x=1`, `--x 1`, `--nox` and the lines of `--flagfile=FILE` are normalised.
    """

    program: str
    flags: tuple[tuple[str, str | None], ...]
    rest: tuple[str, ...] = ()

    @classmethod
    def read(cls, argv: Sequence[str], known: FlagValues) -> 'CommandLine':
        """Parse `argv` as absl does with the flags `known`; raises InputError for a flag without its value."""
        arguments, flags = deque(_with_flagfiles(argv[1:], known)), []
        while arguments and arguments[0].startswith('-') and arguments[0].strip('-'):
            flags.append(_pop_flag(arguments, known))
        return cls(argv[0], tuple(flags), tuple(arguments))

    def value(self, name: str) -> str | None:
        """The (last) value of a flag; None without."""
        return next((value for flag, value in reversed(self.flags) if flag == name), None)

    def with_file(self, flag: str, file: str) -> 'CommandLine':
        """With another FILE as the value of `--flag=FILE:DATA`; its data stay."""

        def moved(value):
            return f'{file}:{value.partition(":")[2]}' if ':' in value else file

        flags = ((name, moved(value) if name == flag and value else value) for name, value in self.flags)
        return replace(self, flags=tuple(flags))

    @property
    def asks_for_help(self) -> bool:
        return any(name in HELP for name, _ in self.flags)

    def overrides(self, flag: str) -> dict[str, str | None]:
        """{field: value} of the flags --config.FIELD=VALUE."""
        return {name.split('.', 1)[1]: value for name, value in self.flags
                if name.partition('.')[0] in (flag, f'no{flag}') and '.' in name}  # fmt: skip

    def argv(self, data: Sequence[str] = ()) -> list[str]:
        """The normalised command line: configurations first, each once.

        A configuration FILE becomes FILE:DATA, DATA the value of the first flag of `data` that has one.
        """
        default = next((value for value in map(self.value, data) if value), '')
        configurations = []
        for name in CONFIGURATIONS:
            if value := self.value(name):
                configurations.append((name, f'{value}:{default}' if default and ':' not in value else value))
        others = [flag for flag in self.flags if flag[0] not in dict(configurations)]
        return [self.program, *(_argument(*flag) for flag in [*configurations, *others]), *self.rest]


def _with_flagfiles(arguments, known):
    """The arguments with those of --flagfile=FILE in its place."""
    try:
        return known.read_flags_from_files(list(arguments), force_gnu=True)  # also after positional arguments
    except (Error, UnicodeDecodeError) as error:
        raise InputError(f'--flagfile: {str(error).removeprefix("ERROR:: ").splitlines()[0]}') from error


def _pop_flag(arguments, known):
    """Remove the next flag from the arguments; returns its name and value."""
    argument = arguments.popleft()
    name, equals, value = argument[2 if argument.startswith('--') else 1 :].partition('=')
    if equals:
        return name, value
    if _is_switch(name, known):
        return name, 'true'
    if name not in known and name.startswith('no') and _is_switch(name[2:], known):
        return name[2:], 'false'
    if arguments and (name in known or _is_field(name)) and not _is_flag(arguments[0]):
        return name, arguments.popleft()
    if name in known:
        raise InputError(f'--{name}: its value is missing; write --{name}=VALUE')
    return name, None  # an unknown flag, or a configuration field of yet unknown type, which may be boolean


def _is_switch(name, known):
    return name in known and known[name].boolean


def _is_field(name):
    """Whether a flag is --config.FIELD."""
    return name.partition('.')[0] in CONFIGURATIONS and '.' in name


def _is_flag(argument):
    """Whether an argument is a flag and not a negative number."""
    return argument.startswith('-') and not argument[1:2].isdigit() and argument[1:2] != '.'


def _argument(name, value):
    """A flag as one argument; a field without value counts as boolean, which is checked once its type is known."""
    field = name.removeprefix('no')
    if value is None and _is_field(field):
        return f'--{field}={"true" if field == name else "false"}'
    return f'--{name}' if value is None else f'--{name}={value}'
