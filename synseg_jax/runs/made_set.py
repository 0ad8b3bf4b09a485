"""Writing the set of a stage: the records of all scans of another set, changed by a Maker."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Integer

import synseg_jax
from synseg_jax.batches.selection import Chosen
from synseg_jax.devices import processes
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_folder
from synseg_jax.preparation.records import Manifest, RecordWriter, encode
from synseg_jax.preparation.write_records import packages, role_entry
from synseg_jax.reports import figures
from synseg_jax.runs.stages import Job, Stage
from synseg_jax.specification.data import IMAGE_FIELDS

SHOWN = 6  # number of scans in the picture
RECORDS = 'records'


class Maker(ABC):
    """Converts the records of one set, scan by scan."""

    source: Manifest
    domain: str  # domain of the input
    size: tuple[int, ...]  # size of the records
    context: tuple[int, float] = (0, 0.0)  # neighbouring slices of the input on each side, and their distance in mm
    labels_all: bool = False  # whether unlabelled scans get labels

    @abstractmethod
    def entry(self, name: str) -> dict:
        """Manifest entry of the set made from the set `name`."""

    @abstractmethod
    def case(self, case: Mapping) -> dict:
        """Manifest entry of a scan, from the entry of the original scan."""

    @abstractmethod
    def make(
        self, records: Sequence[Mapping]
    ) -> tuple[Float[np.ndarray, 'n *space c'], Integer[np.ndarray, 'n *space'] | None, dict]:
        """(images in [0, 1], labels, {title: picture of the middle slice or volume}) from the records of one scan."""


def scans_to_change(stage: Stage, domain: str) -> list[Chosen]:
    """The scans of the one set that a stage reads in a domain, by role; InputError for none, several sets or a part."""
    read = [scans for role in stage.config.kind_of_stage.roles for scans in stage.scans(domain, role)]
    if not read:
        raise InputError(f'stage {stage.name}: sets.{domain} has no scans to {stage.config.kind}')
    if any(scans.part for scans in read):
        raise InputError(
            f'stage {stage.name}: sets.{domain} names a part of a set; {stage.config.kind} the whole set and train '
            'on a part of the result'
        )
    if len({scans.set for scans in read}) > 1:
        raise InputError(f'stage {stage.name}: sets.{domain} names several sets; use one stage for each')
    return read


def write_set(job: Job, read: Sequence[Chosen], maker: Maker) -> Manifest:
    """Write the records that `maker` makes of scans as a set named after the stage, atomically, unless it exists."""
    with processes.first_then_others(job.folder.name):
        if not (job.folder / RECORDS).exists():
            _write(job, read, maker)
        return Manifest.load(job.folder / RECORDS)


def _write(job, read, maker) -> None:
    stage, folder = job.stage, job.folder
    made, pictures = maker.entry(read[0].set), []
    with atomic_folder(folder / RECORDS) as partial:
        for scans in read:
            path = partial / f'{stage.name}.{scans.role}.array_record'
            cases = _write_role(path, scans, maker, pictures, job.signals.raise_if_asked)
            made['roles'][scans.role] = role_entry(path, scans.labelled or maker.labels_all, cases)
        fields = {field: getattr(maker.source, field) for field in IMAGE_FIELDS} | {'size': maker.size}
        manifest = Manifest(
            folder=partial, classes=maker.source.classes, seed=maker.source.seed, sets={stage.name: made},
            packages=packages(), request=folder.name, version=synseg_jax.__version__, **fields,
        )  # fmt: skip
        manifest.save()
        picked = np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures))).astype(int)
        rows = [row for i in picked for row in figures.in_planes(pictures[i])]
        figures.panel(folder / 'panel.png', rows, maker.source.classes)  # before the records, which mark completion


def _write_role(path, scans, maker, pictures, stop) -> list[dict]:
    """Write the records of the scans of one role and append their pictures; returns the manifest entries."""
    slices, spacing_mm = maker.context
    excerpt, cases, first = replace(scans, context=slices, spacing_mm=spacing_mm).open(), [], 0
    with RecordWriter(path) as writer:
        for number, (count, case) in enumerate(zip(excerpt.scans, scans.described, strict=True)):
            stop()
            cases.append(maker.case(case))
            if count:
                records = [excerpt[i] for i in range(first, first + count)]
                images, labels, picture = maker.make(records)
                for i, record in enumerate(records):
                    label = None if labels is None else labels[i]
                    writer.write(encode(images[i], label, number, int(record['slice'])))
                pictures.append(picture)
            first += count
    return cases
