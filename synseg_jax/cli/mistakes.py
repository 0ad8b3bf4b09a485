"""What absl, ml_collections and a user's configuration raise while flags are parsed, in one line."""

import ast
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from synseg_jax.cli.spelling import CONFIGURATIONS, CommandLine

WANTED = {'int': 'a whole number', 'float': 'a number', 'bool': 'true or false'}


def explained(error: Exception, line: CommandLine, known: flags.FlagValues) -> str:
    """One line that names the flag, the field of the configuration, or the line of its file."""
    for flag in CONFIGURATIONS:
        file = Path((line.value(flag) or '').partition(':')[0])
        if place := _place(error, file):
            return f'{place}: {_first(error)}'
        if isinstance(error, SyntaxError):
            return f'--{flag}={file}: {_first(error)}'
        if isinstance(error, AttributeError) and f"module '{flag}_config' has no attribute" in str(error):
            return f'--{flag}={file}: it has no get_config(data); configs/quickstart.py is an example'
    text = _first(error).removeprefix('flag ')
    name, equals, value = text.removeprefix('--').split(': ')[0].partition('=')
    if isinstance(error, flags.IllegalFlagValueError) and equals and name in known:
        return _illegal(name, value, text, line, known)
    return text if isinstance(error, flags.Error) else _no_field(text, line, error)


def unquoted(field: str, text: str) -> str:
    """The line for a tuple whose elements are written without quotes."""
    elements = [repr(_element(part)) for part in text.strip('()[], ').split(',')]
    return f'--{field}={text}: a tuple is written --{field}="({",".join(elements)}{"," * (len(elements) == 1)})"'


def _illegal(name, value, text, line, known):
    """What a flag that takes another type of value asks for."""
    flag, _, field = name.partition('.')
    if field and line.overrides(flag).get(field, value) is None:
        return f'--{name}: its value is missing; write --{name}=VALUE'
    kind = known[name].flag_type()
    if kind.endswith('tuple'):  # 'multi tuple': it may be repeated
        return unquoted(name, value)
    if 'ConfigDict' in text:
        return f'--{name}={value}: a group of fields; set them one by one, --{name}.FIELD=VALUE'
    return f'--{name}={value}: give {WANTED[kind]}' if kind in WANTED else text


def _no_field(text, line, error):
    """The field that the error speaks of, or the only one that is set, and the nearest field there is."""
    alike = re.search(r'Did you mean "(\w+)" instead', str(error))
    remedy = (f'is {alike[1]} meant? ' if alike else '') + 'configs/base.py lists them'
    fields = [(flag, field) for flag in CONFIGURATIONS for field in line.overrides(flag)]
    for flag, field in fields:
        if len(fields) == 1 or any(part in text for part in field.split('.')):
            return f'--{flag}.{field}: no such field; {remedy}'
    return text


def _first(error) -> str:
    """The first line of an error's text; the last of what ml_collections quotes of a configuration's own error."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # str of a KeyError is a repr
    lines = [part.strip() for part in text.splitlines() if part.strip()] or [type(error).__name__]
    return lines[-1] if 'Error whilst parsing config file' in lines[0] else lines[0]


def _place(error, file: Path) -> str:
    """Where in a configuration an error arose; empty if elsewhere."""
    for cause in _chain(error):
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if Path(frame.filename).resolve() == file.resolve():
                return f'{file}, line {frame.lineno}'
    return ''


def _chain(error) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _element(text):
    """A number, or a name that somebody has not quoted."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip(' \'"')
