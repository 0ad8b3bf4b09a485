"""Which scans train, validate and test, and how their labels become classes; every check that needs no voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from synseg_jax.data import intensity, slices
from synseg_jax.data.dataset import ROLES, Case, Dataset, read_dataset, split
from synseg_jax.data.records import Manifest
from synseg_jax.data.settings import Settings
from synseg_jax.errors import InputError, known


@dataclass(frozen=True)
class Scans:
    """A folder to prepare; without a role its cases are split by subject."""

    name: str
    folder: Path
    domain: str
    role: str | None = None


@dataclass(frozen=True)
class Role:
    """The cases of one set and role, and how their labels become classes (None: labels stay unopened)."""

    name: str
    role: str
    domain: str
    dataset: Dataset
    cases: Sequence[Case]
    classes: np.ndarray | None

    @property
    def file(self) -> str:
        return f'{self.name}.{self.role}.array_record'


def plan(sets: Sequence[Scans], settings: Settings) -> tuple[list[Role], tuple[str, ...]]:
    """Which case goes where, and the classes; InputError for folders or settings that will not do."""
    known('slice_axis', settings.slice_axis, slices.VIEWS)
    if len(settings.size) not in (2, 3) or min(settings.size) < 1:
        raise InputError(f'data.size {settings.size}: give rows and columns, e.g. (256, 256), or slices before them')
    if (len(settings.size) == 3) != (settings.spacing_mm > 0):
        raise InputError(
            f'data.spacing_mm {settings.spacing_mm:g} with data.size {settings.size}: volumes, three numbers, need the '
            'side of their voxels in mm, and slices have none'
        )
    intensity.window(*settings.window_hu)
    datasets = {scans.name: read_dataset(scans.folder, settings.subject) for scans in sets}
    if len(datasets) < len(sets):
        raise InputError(f'sets {", ".join(scans.name for scans in sets)}: each name may occur once; rename one')
    classes = tuple(settings.classes) or _classes_of(sets, datasets)
    if len(classes) > 256 or len(set(classes)) < len(classes):
        raise InputError(f'data.classes {classes}: at most 256 different names, the background first')
    roles = []
    for scans in sets:
        dataset = datasets[scans.name]
        for role, cases in _cast(scans, dataset, settings).items():
            opened = _labels_opened(scans, role, cases, settings)
            table = _class_table(dataset, classes, bool(settings.classes)) if opened else None
            roles.append(Role(scans.name, role, scans.domain, dataset, cases, table))
    _check_subjects([role for role in roles if role.name not in settings.same_patients])
    return roles, classes


def recast(manifest: Manifest, settings: Settings) -> list[Role]:
    """The roles that a folder of records was made of, to be prepared anew as other settings say."""
    roles = []
    for name, entry in manifest.sets.items():
        for role, content in entry['roles'].items():
            cases = [
                Case(case['id'], case['subject'], Path(case['image']), case['label'] and Path(case['label']))
                for case in content['cases']
            ]
            dataset = Dataset(cases[0].image.parents[1], (entry['channel'],), entry['labels'], tuple(cases))
            opened = _labels_opened(Scans(name, dataset.folder, entry['domain']), role, cases, settings)
            table = _class_table(dataset, manifest.classes, chosen=True) if opened else None
            roles.append(Role(name, role, entry['domain'], dataset, cases, table))
    return roles


def _classes_of(sets, datasets):
    """Label names of the source, or of the first folder of domain a, ordered by their values."""
    chosen = min(sets, key=lambda scans: (scans.name != 'source', scans.domain))
    labels = datasets[chosen.name].labels
    if not labels:
        raise InputError(f'{datasets[chosen.name].folder / "dataset.json"}: "labels" names no classes; name them')
    return tuple(sorted(labels, key=labels.get))


def _cast(scans, dataset, settings) -> dict[str, list[Case]]:
    """The cases of each role that has any; those of imagesTs are always test cases of a split folder."""
    if scans.role:
        roles = {known('role', scans.role, ROLES): [*dataset.cases, *dataset.test_cases]}
    else:
        shares = settings.source_split if scans.domain == 'a' else settings.target_split
        roles = split(dataset.cases, shares, settings.seed) if dataset.cases else {}
        if dataset.test_cases:
            roles['test'] = [*roles.get('test', ()), *dataset.test_cases]
    for role, cases in roles.items():
        ids = [case.id for case in cases]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise InputError(f'{dataset.folder}: case {twice} is in imagesTr and imagesTs ({role}); keep one')
    return {role: roles[role] for role in ROLES if roles.get(role)}


def _labels_opened(scans, role, cases, settings) -> bool:
    """Whether the records of these cases carry labels; InputError where some of the needed ones are missing."""
    if scans.domain == 'b' and not settings.target_labels:
        return False
    missing = [case for case in cases if case.label is None]
    needed = scans.name == 'source' and role != 'test'
    if missing and (needed or len(missing) < len(cases)):
        raise InputError(
            f'no labels for the {scans.name} scan {missing[0].image} ({len(missing)} of {len(cases)} in {role}); '
            f'expected {missing[0].image.parents[1] / "labelsTr"}/{missing[0].id}.nii.gz'
        )
    return not missing


def _class_table(dataset, classes, chosen: bool) -> np.ndarray:
    """Index into `classes` by label value; labels outside `classes` become background only if it was `chosen`."""
    path = dataset.folder / 'dataset.json'
    extra = [name for name in dataset.labels if name not in classes]
    absent = [name for name in classes if name not in dataset.labels]
    if absent:
        raise InputError(f'{path}: no label {", ".join(absent)}; it has {", ".join(dataset.labels)}; set data.classes')
    if extra and not chosen:
        raise InputError(f'{path}: labels {", ".join(extra)} are not among the classes; name data.classes explicitly')
    if dataset.labels[classes[0]] != 0:
        raise InputError(
            f'data.classes: the first, {classes[0]}, has value {dataset.labels[classes[0]]} in {path}, not 0'
        )
    if extra:
        logging.warning('%s: labels %s become %s', path, ', '.join(extra), classes[0])
    table = np.zeros(max(dataset.labels.values()) + 1, np.uint8)
    for index, name in enumerate(classes):
        table[dataset.labels[name]] = index
    return table


def _check_subjects(roles) -> None:
    """InputError for a subject in two roles of a domain; between domains the name may be chance, so only a warning."""
    seen = {}
    for role in roles:
        for case in role.cases:
            seen.setdefault(case.subject, []).append(role)
    for subject, places in seen.items():
        for place in places:
            clash = [p for p in places if p.role != place.role]
            words = f'{subject} is in {place.role} of {place.name}' + ''.join(f', {p.role} of {p.name}' for p in clash)
            if any(p.domain == place.domain for p in clash):
                raise InputError(f'subject {words}; put it in one role, or tell subjects apart with data.subject')
    across = sum(len({p.role for p in places}) > 1 for places in seen.values())
    if across:
        logging.warning(
            '%d subject names occur in different roles of source and target; are they the same people?', across
        )
