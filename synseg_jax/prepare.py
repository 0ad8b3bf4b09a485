"""Write scans as records of normalised slices, with a manifest that says what was done.

Usage:
    python -m synseg_jax.prepare --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen

--source is the labelled modality, --target the other; both are split into train, val and test by subject.
--set=name=FOLDER:domain:role (repeatable; domain a or b) adds a whole folder in one role.
Target labels are not opened unless data.target_labels is True.

A folder may be nnU-Net raw, a task of the Medical Segmentation Decathlon, images/ beside labels/ or masks/, or a
download of CHAOS, PROSTATEx, NCI-ISBI 2013, NSCLC-Radiomics, MM-WHS 2017 or BTCV as it unpacks; a wrong one is told
which trees are expected.  Where it holds several sequences, FOLDER#word names one, e.g. Train_Sets/MR#T2SPIR.
Scans are NIfTI, NRRD, MetaImage or folders of DICOM, labels these or RTSTRUCT.

Classes are matched by name, whatever numbers each set gives them.  Where nothing in the folder names them, or
otherwise than wanted (each flag repeatable, for every set):

    --channel=target=CT --labels=source=background:0,liver:6,kidneys:2+3 --labels=target=tumour:GTV-1*
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.table import Table

from synseg_jax import command, outputs
from synseg_jax.data.dataset import ROLES
from synseg_jax.data.layouts import class_values
from synseg_jax.data.preparation import prepare
from synseg_jax.data.records import Manifest
from synseg_jax.data.roles import Scans
from synseg_jax.data.settings import Settings, checked
from synseg_jax.errors import InputError, known
from synseg_jax.options import Flag, Options, config_flag
from synseg_jax.terminal import plain

SETS = (
    Flag('source', 'Folder of the labelled modality.'),
    Flag('target', 'Folder of the other modality.'),
    Flag('set', 'name=FOLDER:domain:role, a further folder in one role.', [], flags.DEFINE_multi_string),
    Flag('channel', 'name=CT, the modality of a set.', [], flags.DEFINE_multi_string),
    Flag('labels', 'name=liver:6,kidneys:2+3, the classes of a set by their values.', [], flags.DEFINE_multi_string),
)
FLAGS = (
    config_flag(required=True, data=('output',)),
    *SETS,
    Flag('output', 'Folder to write.', required=True),
    Flag('overwrite', 'Replace other records in the output folder.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Write the records of sets of scans; the exit code."""
    return command.run(write_records, FLAGS, argv)


def write_records(options: Options) -> None:
    """Prepare the scans that the flags name, and print the table of what was written."""
    sets = given(options)
    outputs.check(Path(options.output), [scans.folder for scans in sets])
    manifest = prepare(sets, options.output, settings_of(options.config), options.overwrite)
    Console().print(table(manifest))


def table(manifest: Manifest) -> Table:
    """Scans, records and dropped slices of every set and role."""
    columns = ('set', 'domain', 'role', 'scans', 'records', 'dropped slices', 'labels')
    title = plain(f'{manifest.folder}: {", ".join(manifest.classes)}', 'table.title')
    result = Table(*columns, title=title)
    for name, entry in manifest.sets.items():
        for role, content in entry['roles'].items():
            dropped = sum(case['dropped'] for case in content['cases'])
            counts = (len(content['cases']), content['records'], dropped)
            labelled = 'yes' if content['labelled'] else 'no'
            result.add_row(*map(plain, (name, entry['domain'], role, *counts, labelled)))
    return result


def parse_set(text: str) -> Scans:
    """The folder that `--set=name=FOLDER:domain:role` means."""
    name, _, rest = text.partition('=')
    parts = rest.rsplit(':', 2)
    if not name.isidentifier() or name in ('source', 'target') or len(parts) != 3 or parts[1] not in ('a', 'b'):
        raise InputError(f'--set={text}: give name=FOLDER:domain:role, domain a or b, name not source or target')
    return Scans(name, Path(parts[0]), parts[1], known('role', parts[2], ROLES))


def described(sets: Sequence[Scans], channels: Sequence[str], labels: Sequence[str]) -> list[Scans]:
    """The sets with what `--channel=name=CT` and `--labels=name=liver:6` say of them."""
    told = {scans.name: {} for scans in sets}
    for flag, texts, read in (('channel', channels, str), ('labels', labels, class_values.parsed)):
        for text in texts:
            name, _, value = text.partition('=')
            if not value or flag in told[known(f'set in --{flag}', name, told)]:
                raise InputError(f'--{flag}={text}: give SET=..., once for every set; --help shows an example')
            told[name][flag] = read(value)
    return [replace(scans, **told[scans.name]) for scans in sets]


def given(options: Options) -> list[Scans]:
    """The folders that the flags name, with what they say of them; InputError for none."""
    named = [('source', options.source, 'a'), ('target', options.target, 'b')]
    sets = [Scans(name, Path(folder), domain) for name, folder, domain in named if folder]
    sets += [parse_set(text) for text in options.set]
    if not sets:
        raise InputError('no scans: give --source=FOLDER and --target=FOLDER; --help shows an example')
    return described(sets, options.channel, options.labels)


def settings_of(config) -> Settings:
    """The settings in a configuration, `config.data`; InputError where a field is missing or of another type."""
    given = config.data
    if missing := [field.name for field in fields(Settings) if field.name not in given]:
        raise InputError(f'config.data.{missing[0]} is missing; add it')
    return checked({f.name: tuple(v) if isinstance(v := given[f.name], list) else v for f in fields(Settings)})


if __name__ == '__main__':
    command.start(main)
