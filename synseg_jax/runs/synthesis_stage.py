"""Stages that write a set: all records of another set translated to the other domain, or there and back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import synseg_jax
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_folder
from synseg_jax.imaging.slices import resize, with_mask
from synseg_jax.inference.trained_model import Trained
from synseg_jax.preparation.records import Manifest, RecordWriter, encode
from synseg_jax.preparation.write_records import packages, role_entry
from synseg_jax.reports import figures
from synseg_jax.runs.stages import Stage
from synseg_jax.specification.data import IMAGE_FIELDS

SHOWN = 6  # number of example pairs in the picture
RECORDS = 'records'


def synthesize(stage: Stage, trained: Trained, folder: Path, stop: Callable[[], None] = lambda: None) -> Manifest:
    """Translate the set that a stage reads and write the records as a set named after the stage.

    A synthesized set is of the other domain, a reconstructed one of the same domain.  Cases keep their names, subjects,
    labels and splits.  The folder of records is written atomically; `stop()` is called before each case and may raise.
    """
    if (folder / RECORDS).exists():
        return Manifest.load(folder / RECORDS)
    domain = 'a' if stage.config.sets.a or not stage.config.sets.b else 'b'
    read = [scans for role in ('train', 'val', 'test') for scans in stage.scans(domain, role)]
    if not read:
        raise InputError(f'stage {stage.name}: sets.{domain} has no scans to {stage.does}')
    if any(scans.part for scans in read):
        raise InputError(
            f'stage {stage.name}: sets.{domain} names a part of a set; {stage.does} the whole set and train on a '
            'part of the result'
        )
    if len({scans.set for scans in read}) > 1:
        raise InputError(f'stage {stage.name}: sets.{domain} names several sets; use one stage for each')
    maker = Maker(trained, domain, stage.does == 'reconstruct', read[0].manifest)
    made = maker.entry(read[0].set, stage.before(stage.config.generators_from))
    pictures = []
    with atomic_folder(folder / RECORDS) as partial:
        for scans in read:
            path, cases = partial / f'{stage.name}.{scans.role}.array_record', []
            records = maker.source.records(scans.set, scans.role)
            counts = [case['records'] for case in maker.source.role(scans.set, scans.role)['cases']]
            first = np.cumsum([0, *counts])
            with RecordWriter(path) as writer:
                for number, (index, case) in enumerate(zip(scans.cases, scans.described, strict=True)):
                    stop()
                    cases.append({**case, **maker.window()})
                    if case['records']:
                        rows = [records[i] for i in range(first[index], first[index + 1])]
                        pictures.append(maker.write(writer, rows, number))
            made['roles'][scans.role] = role_entry(path, scans.labelled, cases)
        fields = {field: getattr(maker.source, field) for field in IMAGE_FIELDS} | {'size': maker.size}
        manifest = Manifest(
            folder=partial, classes=maker.source.classes, seed=maker.source.seed, sets={stage.name: made},
            packages=packages(), request=folder.name, version=synseg_jax.__version__, **fields,
        )  # fmt: skip
        manifest.save()
        picked = np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures))).astype(int)
        rows = [row for i in picked for row in figures.in_planes(pictures[i])]
        figures.panel(folder / 'panel.png', rows, maker.source.classes)  # before the records, which mark completion
    return Manifest.load(folder / RECORDS)


@dataclass(frozen=True)
class Maker:
    """Translates the records of one domain."""

    trained: Trained
    domain: str  # domain of the input
    back: bool  # whether to translate there and back
    source: Manifest

    @property
    def other(self) -> str:
        return {'a': 'b', 'b': 'a'}[self.domain]

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the records."""
        return self.trained.networks.system.shown or self.source.size

    def entry(self, name: str, by: str) -> dict:
        """Manifest entry of the set made from set `name` by the generators of the stage in folder `by`."""
        domain = self.domain if self.back else self.other
        source = self.source.sets[name]
        made = {'domain': domain, 'channel': self.trained.run.channels[domain], 'labels': source['labels']}
        made |= {'phantom': source['phantom']} if 'phantom' in source else {}
        return made | {'of': name, 'by': by, 'from': self.domain, 'roles': {}}

    def window(self) -> dict:
        """The intensities that [0, 1] stands for in a synthetic scan; {} if they do not change."""
        if self.back:
            return {}
        normalisation = self.trained.normalisation(self.other)
        return {'low': normalisation.low, 'high': normalisation.high}

    def write(self, writer: RecordWriter, real: Sequence[Mapping], case: int) -> dict:
        """Translate and write the records of one scan; returns images of its middle slice before and after."""
        images = resize(np.stack([record['image'] for record in real]), self.trained.networks.system.shown)
        labels = None
        if 'label' in real[0]:
            labels = resize(np.stack([record['label'] for record in real]), self.trained.networks.system.shown)
        seen = images if not self.trained.config.label_channel else with_mask(images, labels)
        made = self.trained.networks.translate(seen, self.domain)
        if self.back:
            made = self.trained.networks.translate(made, self.other)
        made = np.clip(made[..., :1], 0, 1)
        for i, (record, image) in enumerate(zip(real, made, strict=True)):
            writer.write(encode(image, None if labels is None else labels[i], case, int(record['slice'])))
        middle, name = len(real) // 2, f'reconstructed {self.domain}' if self.back else f'synthetic {self.other}'
        row = {f'real {self.domain}': images[middle, ..., 0], name: made[middle, ..., 0]}
        if labels is not None:
            row[f'label of {self.domain}'] = (made[middle, ..., 0], labels[middle])
        return row
