"""The command line in one spelling, whatever spelling of absl's it was typed in."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from absl.flags import Error, FlagValues

from synseg_jax.errors import InputError

CONFIGURATIONS = ('config', 'table')  # flags that name one
HELP = ('h', 'help', 'helpfull', 'helpshort')


@dataclass(frozen=True)
class CommandLine:
    """Flags as (name, value), value None where none was given, and the arguments after the last of them.

    `-x`, `--x=1`, `--x 1`, `--nox` and the lines of `--flagfile=FILE` are the same flags here.
    """

    program: str
    flags: tuple[tuple[str, str | None], ...]
    rest: tuple[str, ...] = ()

    @classmethod
    def read(cls, argv: Sequence[str], known: FlagValues) -> 'CommandLine':
        """What `argv` says, as absl with these known flags takes it; InputError for a flag without its value."""
        left, found = deque(_with_files(argv[1:], known)), []
        while left and left[0].startswith('-') and left[0].strip('-'):
            found.append(_flag(left, known))
        return cls(argv[0], tuple(found), tuple(left))

    def value(self, name: str) -> str | None:
        """The value of a flag, the last one where it is repeated; None if there is none."""
        return next((value for flag, value in reversed(self.flags) if flag == name), None)

    @property
    def asks_for_help(self) -> bool:
        return any(name in HELP for name, _ in self.flags)

    def overrides(self, flag: str) -> dict[str, str | None]:
        """{field: value} of the fields of a configuration that the flags set."""
        return {name.split('.', 1)[1]: value for name, value in self.flags
                if name.partition('.')[0] in (flag, f'no{flag}') and '.' in name}  # fmt: skip

    def argv(self, data: Sequence[str] = ()) -> list[str]:
        """The same command line as `--name=value`, configurations first, of those that are repeated the last one.

        A configuration is given the value of the first flag of `data` that has one, unless it names its own data.
        """
        given = next((value for value in map(self.value, data) if value), '')
        first = []
        for name in CONFIGURATIONS:
            if value := self.value(name):
                first.append((name, f'{value}:{given}' if given and ':' not in value else value))
        others = [flag for flag in self.flags if flag[0] not in dict(first)]
        return [self.program, *(_spelt(*flag) for flag in [*first, *others]), *self.rest]


def _with_files(arguments, known):
    """The arguments with those in files that --flagfile names."""
    try:
        return known.read_flags_from_files(list(arguments), force_gnu=True)  # also after the value of a flag
    except (Error, UnicodeDecodeError) as error:
        raise InputError(f'--flagfile: {str(error).removeprefix("ERROR:: ").splitlines()[0]}') from error


def _flag(left, known):
    """The next flag and its value, taken off the arguments that are left."""
    argument = left.popleft()
    name, equals, value = argument[2 if argument.startswith('--') else 1 :].partition('=')
    if equals:
        return name, value
    if _is_switch(name, known):
        return name, 'true'
    if name not in known and name.startswith('no') and _is_switch(name[2:], known):
        return name[2:], 'false'
    if left and (name in known or _is_field(name)) and not _is_flag(left[0]):
        return name, left.popleft()
    if name in known:
        raise InputError(f'--{name}: its value is missing; write --{name}=VALUE')
    return name, None  # an unknown flag; or a field of a configuration, which may be a switch: its type shows later


def _is_switch(name, known):
    return name in known and known[name].boolean


def _is_field(name):
    """Whether a flag sets a field of a configuration."""
    return name.partition('.')[0] in CONFIGURATIONS and '.' in name


def _is_flag(argument):
    """Whether an argument is a flag, and no negative number."""
    return argument.startswith('-') and not argument[1:2].isdigit() and argument[1:2] != '.'


def _spelt(name, value):
    """A flag as one argument; a field without a value is a switch, or else refused once its type is known."""
    field = name.removeprefix('no')
    if value is None and _is_field(field):
        return f'--{field}={"true" if field == name else "false"}'
    return f'--{name}' if value is None else f'--{name}={value}'
