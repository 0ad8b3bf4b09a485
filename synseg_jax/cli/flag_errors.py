"""One-line messages for exceptions of absl, ml_collections and the configuration file while flags are parsed."""

import ast
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from synseg_jax.cli.command_line import CONFIGURATIONS, CommandLine
from synseg_jax.specification import check

TYPES = {'int': 'a whole number', 'float': 'a number', 'bool': 'true or false'}


def explain(error: Exception, line: CommandLine, known: flags.FlagValues) -> str:
    """The message for an exception, naming the flag, the field, or the line of the configuration file."""
    for flag in CONFIGURATIONS:
        file = Path((line.value(flag) or '').partition(':')[0])
        if location := _location(error, file):
            return f'{location}: {_renamed(error) or _first_line(error)}'
        if isinstance(error, SyntaxError):
            return f'--{flag}={file}: {_first_line(error)}'
        if isinstance(error, AttributeError) and f"module '{flag}_config' has no attribute" in str(error):
            return f'--{flag}={file}: it has no get_config(data); see configs/quickstart.py'
    text = _first_line(error).removeprefix('flag ')
    name, equals, value = text.removeprefix('--').split(': ')[0].partition('=')
    if isinstance(error, flags.IllegalFlagValueError) and equals and name in known:
        return _wrong_type(name, value, text, line, known)
    return text if isinstance(error, flags.Error) else _unknown_field(text, line, error)


def tuple_syntax(field: str, text: str) -> str:
    """The message for a tuple written without parentheses or quotes."""
    elements = [repr(_element(part)) for part in text.strip('()[], ').split(',')]
    return f'--{field}={text}: a tuple is written --{field}="({",".join(elements)}{"," * (len(elements) == 1)})"'


def _wrong_type(name, value, text, line, known):
    """The message for a value of another type than the flag's."""
    flag, _, field = name.partition('.')
    if field and line.overrides(flag).get(field, value) is None:
        return f'--{name}: its value is missing; write --{name}=VALUE'
    flag_type = known[name].flag_type()
    if flag_type.endswith('tuple'):  # also 'multi tuple', of repeatable flags
        return tuple_syntax(name, value)
    if 'ConfigDict' in text:
        return f'--{name}={value}: a group of fields; set them one by one, --{name}.FIELD=VALUE'
    return f'--{name}={value}: give {TYPES[flag_type]}' if flag_type in TYPES else text


def _unknown_field(text, line, error):
    """The message for an unknown field, the one that the error mentions or the only one set, and the nearest field."""
    alike = re.search(r'Did you mean "(\w+)" instead', str(error))
    fields = [(flag, field) for flag in CONFIGURATIONS for field in line.overrides(flag)]
    for flag, field in fields:
        if len(fields) == 1 or any(part in text for part in field.split('.')):
            return f'--{flag}.{field}: no such field; {_remedy(field, alike and alike[1])}'
    return text


def _remedy(field, alike):
    """What to do about an unknown field; `alike` is the nearest that the configuration has, or None."""
    if renamed := check.new_name(field):
        return renamed
    if check.declared_name(field) in check.declared():
        return 'the configuration leaves it out; set it in its file'
    return f'is {alike} meant? {check.LISTED}' if alike else check.LISTED


def _renamed(error) -> str:
    """The remedy where a configuration reads a field by its former name; '' for any other error."""
    return check.new_name(_first_line(error).strip('\'"')) if isinstance(error, AttributeError | KeyError) else ''


def _first_line(error) -> str:
    """The first line of an error's text; the last line where ml_collections quotes an error of the configuration."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # str(KeyError) is quoted
    lines = [part.strip() for part in text.splitlines() if part.strip()] or [type(error).__name__]
    return lines[-1] if 'Error whilst parsing config file' in lines[0] else lines[0]


def _location(error, file: Path) -> str:
    """File and line of the configuration that raised the error; '' if another file did."""
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
    """The value of a literal, or the text of an unquoted name."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip(' \'"')
