"""Flags that set fields of a configuration, described and typed by the declarations of the fields."""

from collections.abc import Sequence

from absl import flags

from synseg_jax.cli.options import Flag, Options
from synseg_jax.specification.check import declared

DEFINE = {str: flags.DEFINE_string, float: flags.DEFINE_float, int: flags.DEFINE_integer}


def field_flags(group: str, names: Sequence[str]) -> list[Flag]:
    """The flags --NAME for the fields `group.NAME`."""
    fields = {name: declared()[f'{group}.{name}'] for name in names}
    return [Flag(name, f'{field.text}.', None, DEFINE[field.kind]) for name, field in fields.items()]


def given(options: Options, group: str, names: Sequence[str]) -> dict[str, object]:
    """{group.NAME: value} of the flags that were given."""
    values = {f'{group}.{name}': getattr(options, name) for name in names}
    return {field: value for field, value in values.items() if value is not None}
