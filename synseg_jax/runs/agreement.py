"""What a configuration says of data, and what its records were made with: one must not contradict the other."""

from collections.abc import Collection, Mapping

from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest
from synseg_jax.specification.data import IMAGE_FIELDS, Data
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed


def settled(config: Experiment, manifest: Manifest, named: Collection[str] = ()) -> tuple[Experiment, str]:
    """The configuration with the data fields of its records where it sets none, and a line that says which.

    A field is set if it differs from the default or is among `named`, as the command line names fields: `data.size`.
    Those that are set and of another value than the records' are an InputError.
    """
    given = dict(vars(config.data))
    if not given['classes']:
        del given['classes']  # those of the source are meant, whichever they are
    other = {field: value for field, value in _made_with(manifest).items() if given.get(field, value) != value}
    default = vars(Data())
    wrong = {f: v for f, v in other.items() if given[f] != default[f] or f'data.{f}' in named}
    if wrong:
        raise InputError(_contradiction(given, wrong, manifest))
    told = ', '.join(f'data.{field}={value!r}' for field, value in other.items())
    return changed(
        config, {f'data.{field}': value for field, value in other.items()}
    ), f'as in the records: {told}' if told else ''


def _made_with(manifest) -> dict[str, object]:
    """The settings of the records; of older ones, those that decide how scans are read, classes and seed."""
    return {**manifest.settings, **{field: getattr(manifest, field) for field in (*IMAGE_FIELDS, 'classes', 'seed')}}


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
