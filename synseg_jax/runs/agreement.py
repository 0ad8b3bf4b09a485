"""What a configuration says of data, and what its records were made with: one must not contradict the other."""

from collections.abc import Collection, Mapping

from ml_collections import ConfigDict

from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.settings import READING, Settings


def settled(config: ConfigDict, manifest: Manifest, named: Collection[str] = ()) -> tuple[ConfigDict, str]:
    """The configuration with the data fields of its records where it sets none, and a line that says which.

    A field is set if it differs from the default or is among `named`, as the command line names fields: `data.size`.
    Those that are set and of another value than the records' are an InputError.
    """
    given = {field: _plain(value) for field, value in config.data.items()}
    if not given['classes']:
        del given['classes']  # those of the source are meant, whichever they are
    other = {field: value for field, value in _made_with(manifest).items() if given.get(field, value) != value}
    default = vars(Settings())
    wrong = {f: v for f, v in other.items() if given[f] != _plain(default[f]) or f'data.{f}' in named}
    if wrong:
        raise InputError(_contradiction(given, wrong, manifest))
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.update(other)
    told = ', '.join(f'data.{field}={value!r}' for field, value in other.items())
    return config, f'as in the records: {told}' if told else ''


def _made_with(manifest) -> dict[str, object]:
    """The settings of the records; of older ones, those that decide how scans are read, classes and seed."""
    return {**manifest.settings, **{field: getattr(manifest, field) for field in (*READING, 'classes', 'seed')}}


def _contradiction(given: Mapping, wrong: Mapping, manifest) -> str:
    listed = '; '.join(f'data.{f} is {given[f]!r}, in the records {value!r}' for f, value in wrong.items())
    as_made = ' '.join(_flag(field, value) for field, value in wrong.items())
    return (
        f'{manifest.folder}: made with other settings than the configuration has: {listed}; prepare the records anew, '
        'python -m synseg_jax.prepare --config=FILE --source=FOLDER --target=FOLDER --output=RECORDS, with the same '
        f'--config.data flags if any, or train on these with {as_made}'
    )


def _flag(field, value):
    return f'--config.data.{field}={value}' if isinstance(value, str) else f'--config.data.{field}="{value!r}"'


def _plain(value):
    return tuple(value) if isinstance(value, list) else value
