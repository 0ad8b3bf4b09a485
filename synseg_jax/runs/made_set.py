"""Sets that stages make: every scan of one set, its records changed."""

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

SHOWN = 6  # scans in the picture
RECORDS = 'records'


class Maker(ABC):
    """Changes the records of one set, scan by scan."""

    source: Manifest
    domain: str  # of what it sees
    size: tuple[int, ...]  # of its records
    context: tuple[int, float] = (0, 0.0)  # neighbouring slices that it sees on each side, and their distance
    labels_all: bool = False  # also scans that had no labels

    @abstractmethod
    def entry(self, name: str) -> dict:
        """What a manifest says of the set that is made of the set `name`."""

    @abstractmethod
    def case(self, case: Mapping) -> dict:
        """What a manifest says of a scan, by what it says of the scan as it was."""

    @abstractmethod
    def make(
        self, records: Sequence[Mapping]
    ) -> tuple[Float[np.ndarray, 'n *space 1'], Integer[np.ndarray, 'n *space'] | None, dict]:
        """Images in [0, 1] and labels of one scan's records; pictures of its middle slice, or of the volume."""


def scans_to_change(stage: Stage, domain: str) -> list[Chosen]:
    """The scans of the one set that a stage reads in a domain, role by role; InputError for none, several or a part."""
    read = [scans for role in stage.config.kind_of_stage.roles for scans in stage.scans(domain, role)]
    if not read:
        raise InputError(f'stage {stage.name}: sets.{domain} names no scans to {stage.config.kind}')
    if any(scans.part for scans in read):
        raise InputError(f'stage {stage.name}: sets.{domain} names a part; make the whole set, and take a part of that')
    if len({scans.set for scans in read}) > 1:
        raise InputError(f'stage {stage.name}: sets.{domain} names several sets; make one stage of each')
    return read


def write_set(job: Job, read: Sequence[Chosen], maker: Maker) -> Manifest:
    """The records that `maker` makes of scans, as one set named by the stage: whole, or absent; made once."""
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
        figures.panel(folder / 'panel.png', rows, maker.source.classes)  # before the records: they are not made twice


def _write_role(path, scans, maker, pictures, stop) -> list[dict]:
    """Writes the records of the scans of one role, and adds their pictures; the manifest's entries of the scans."""
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
