"""Sets of scans, parsed from command line flags."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from absl import flags

from synseg_jax.cli.options import Flag, Options
from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import ROLES
from synseg_jax.errors import InputError, known
from synseg_jax.preparation.split import Scans

SETS = (
    Flag('source', 'Folder of the labelled modality.'),
    Flag('target', 'Folder of the other modality.'),
    Flag('set', 'name=FOLDER:domain:role, a further folder in one role.', [], flags.DEFINE_multi_string),
    Flag('channel', 'name=CT, the modality of a set.', [], flags.DEFINE_multi_string),
    Flag('labels', 'name=liver:6,kidneys:2+3, the classes of a set by their values.', [], flags.DEFINE_multi_string),
)


def parse_set(text: str) -> Scans:
    """Parse `--set=name=FOLDER:domain:role`."""
    name, _, rest = text.partition('=')
    parts = rest.rsplit(':', 2)
    if not name.isidentifier() or name in ('source', 'target') or len(parts) != 3 or parts[1] not in ('a', 'b'):
        raise InputError(f'--set={text}: give name=FOLDER:domain:role, domain a or b, name not source or target')
    return Scans(name, Path(parts[0]), parts[1], known('role', parts[2], ROLES))


def described(sets: Sequence[Scans], channels: Sequence[str], labels: Sequence[str]) -> list[Scans]:
    """The sets with the channels and labels of `--channel=name=CT` and `--labels=name=liver:6`."""
    told = {scans.name: {} for scans in sets}
    for flag, texts, read in (('channel', channels, str), ('labels', labels, class_names.parse)):
        for text in texts:
            name, _, value = text.partition('=')
            if not value or flag in told[known(f'set in --{flag}', name, told)]:
                raise InputError(f'--{flag}={text}: give SET=..., once for every set; --help shows an example')
            told[name][flag] = read(value)
    return [replace(scans, **told[scans.name]) for scans in sets]


def given(options: Options) -> list[Scans]:
    """All sets given by the flags; InputError if there are none."""
    named = [('source', options.source, 'a'), ('target', options.target, 'b')]
    sets = [Scans(name, Path(folder), domain) for name, folder, domain in named if folder]
    sets += [parse_set(text) for text in options.set]
    if not sets:
        raise InputError('no scans: give --source=FOLDER and --target=FOLDER; --help shows an example')
    return described(sets, options.channel, options.labels)


def exchanged(sets: Sequence[Scans]) -> list[Scans]:
    """The sets after source and target have changed places; further sets as they are."""
    places = {'source': ('target', 'b'), 'target': ('source', 'a')}
    moved = {scans.name: places.get(scans.name, (scans.name, scans.domain)) for scans in sets}
    return [replace(scans, name=moved[scans.name][0], domain=moved[scans.name][1]) for scans in sets]
