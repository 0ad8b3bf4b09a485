"""Consistency of a configuration with the settings that its records were prepared with."""

from collections.abc import Collection, Mapping

from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest
from synseg_jax.specification.data import IMAGE_FIELDS, Data
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed


def settled(config: Experiment, manifest: Manifest, named: Collection[str] = ()) -> tuple[Experiment, str]:
    """(configuration with unset `data` fields taken from the records, a line listing them).

    A field is set if it differs from its default or is in `named`, the names given on the command line (`data.size`).
    InputError for fields that are set to another value than in the records.
    """
    given = dict(vars(config.data))
    if not given['classes']:
        del given['classes']  # empty: the classes of the source
    other = {field: value for field, value in _settings(manifest).items() if given.get(field, value) != value}
    default = vars(Data())
    wrong = {f: v for f, v in other.items() if given[f] != default[f] or f'data.{f}' in named}
    if wrong:
        raise InputError(_contradiction(given, wrong, manifest))
    listed = ', '.join(f'data.{field}={value!r}' for field, value in other.items())
    settled_config = changed(config, {f'data.{field}': value for field, value in other.items()})
    return settled_config, f'as in the records: {listed}' if listed else ''


def _settings(manifest) -> dict[str, object]:
    """The `data` fields of the records; records of earlier versions have only image fields, classes and seed."""
    return {**manifest.settings, **{field: getattr(manifest, field) for field in (*IMAGE_FIELDS, 'classes', 'seed')}}


def _contradiction(given: Mapping, wrong: Mapping, manifest) -> str:
    listed = '; '.join(f'data.{f} is {given[f]!r}, in the records {value!r}' for f, value in wrong.items())
    flags = ' '.join(_flag(field, value) for field, value in wrong.items())
    return (
        f'{manifest.folder}: prepared with other settings than in the configuration: {listed}; prepare the records '
        'again, python -m synseg_jax.prepare --config=FILE --source=FOLDER --target=FOLDER --output=RECORDS, with the '
        f'same --config.data flags if any, or train on these records with {flags}'
    )


def _flag(field, value):
    return f'--config.data.{field}={value}' if isinstance(value, str) else f'--config.data.{field}="{value!r}"'
