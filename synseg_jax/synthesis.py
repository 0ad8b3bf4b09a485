"""The stage that makes a set: every labelled or unlabelled record of domain a as domain b would show it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import synseg_jax
from synseg_jax.data.preparation import packages, role_entry, whole_folder
from synseg_jax.data.records import Manifest, Records, RecordWriter, encode
from synseg_jax.data.settings import READING
from synseg_jax.data.slices import resize_linear, resize_nearest
from synseg_jax.errors import InputError
from synseg_jax.evaluation import figures
from synseg_jax.scans import Trained
from synseg_jax.stages import Stage

SHOWN = 6  # pairs in the picture
RECORDS = 'records'


def synthesize(stage: Stage, trained: Trained, folder: Path, stop: Callable[[], None] = lambda: None) -> Manifest:
    """The records that the generator makes of the scans that the stage reads, as one set named by the stage.

    Cases keep their names, subjects, labels and roles.  The folder of records is whole or absent; `stop()` may raise.
    """
    if (folder / RECORDS).exists():
        return Manifest.load(folder / RECORDS)
    read = [scans for role in ('train', 'val', 'test') for scans in stage.scans('a', role)]
    if not read:
        raise InputError(f'stage {stage.name}: sets.a names no scans to synthesize from')
    if len({scans.set for scans in read}) > 1:
        raise InputError(f'stage {stage.name}: sets.a names several sets; make one stage of each')
    source, entry = read[0].manifest, read[0].manifest.sets[read[0].set]
    target = trained.normalisation('b')
    made = {'domain': 'b', 'channel': trained.run.channels['b'], 'labels': entry['labels'], 'of': read[0].set}
    made |= {'by': stage.before(stage.config.by), 'roles': {}}
    size, pictures = trained.networks.system.size, []
    with whole_folder(folder / RECORDS) as partial:
        for scans in read:
            path, cases = partial / f'{stage.name}.{scans.role}.array_record', []
            records = source.records(scans.set, scans.role)
            first = np.cumsum([0, *(case['records'] for case in source.role(scans.set, scans.role)['cases'])])
            with RecordWriter(path) as writer:
                for number, (index, case) in enumerate(zip(scans.cases, scans.described, strict=True)):
                    stop()
                    cases.append({**case, 'low': target.low, 'high': target.high})
                    if case['records']:
                        pictures += _write(
                            writer, records, range(first[index], first[index + 1]), number, trained, size
                        )
            made['roles'][scans.role] = role_entry(path, scans.labelled, cases)
        manifest = Manifest(
            folder=partial, classes=source.classes, seed=source.seed, sets={stage.name: made}, packages=packages(),
            request=folder.name, version=synseg_jax.__version__,
            **{**{field: getattr(source, field) for field in READING}, 'size': tuple(size)},
        )  # fmt: skip
        manifest.save()
    picked = [pictures[i] for i in np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures))).astype(int)]
    figures.panel(folder / 'panel.png', picked, source.classes)
    return Manifest.load(folder / RECORDS)


def _write(writer: RecordWriter, records: Records, rows, case: int, trained: Trained, size) -> list[dict]:
    """Writes one scan's synthetic records; its middle slice beside the real one as a row of the picture."""
    real = [records[i] for i in rows]
    images = resize_linear(np.stack([record['image'] for record in real]), size)
    fakes = np.clip(trained.networks.translate(images, 'a'), 0, 1)
    labels = None
    if 'label' in real[0]:
        labels = resize_nearest(np.stack([record['label'] for record in real]), size)
    for i, (record, fake) in enumerate(zip(real, fakes, strict=True)):
        writer.write(encode(fake, None if labels is None else labels[i], case, int(record['slice'])))
    middle = len(real) // 2
    row = {'real a': images[middle, ..., 0], 'synthetic b': fakes[middle, ..., 0]}
    if labels is not None:
        row['label of a'] = (fakes[middle, ..., 0], labels[middle])
    return [row]
