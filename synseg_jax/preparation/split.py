"""Train, validation and test splits of sets of scans, the classes of their labels, and checks that open no scan."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import ROLES, Case, Dataset, warn_of_unread_channels
from synseg_jax.datasets.cases import split as split_by_subject
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError, known, warn
from synseg_jax.formats.label_maps import Values, as_tuple
from synseg_jax.imaging import intensity, modality, slices
from synseg_jax.preparation.records import MANIFEST, Manifest
from synseg_jax.specification.data import Data, channels_in


@dataclass(frozen=True)
class Scans:
    """A folder of scans to prepare; without a role its cases are split by subject.

    `channel` and `labels` override those of the folder.
    """

    name: str
    folder: Path
    domain: str
    role: str | None = None
    channel: str = ''
    labels: Values | None = None


@dataclass(frozen=True)
class Split:
    """The cases of one set in one role (train, val, test); `classes` of their labels, None if labels are not read.

    `channels`: their number that is read of every scan.
    """

    name: str
    role: str
    domain: str
    dataset: Dataset
    cases: Sequence[Case]
    classes: tuple[str, ...] | None
    channels: int = 1

    @property
    def file(self) -> str:
        return f'{self.name}.{self.role}.array_record'


def plan(sets: Sequence[Scans], settings: Data) -> tuple[list[Split], tuple[str, ...]]:
    """The splits of all sets, and the classes; InputError for invalid folders or settings."""
    splits, classes = assign(sets, settings)
    _check_labelled(splits)
    check_channels((split.name, split.domain, split.dataset.channel) for split in splits)
    _check_subjects([split for split in splits if split.name not in settings.same_patients])
    return splits, classes


def assign(sets: Sequence[Scans], settings: Data) -> tuple[list[Split], tuple[str, ...]]:
    """As `plan`, without the checks between sets."""
    known('slice_axis', settings.slice_axis, slices.VIEWS)
    if len(settings.size) not in (2, 3) or min(settings.size) < 1:
        raise InputError(f'data.size {settings.size}: give rows and columns, e.g. (256, 256), or slices before them')
    if settings.spacing_mm < 0 or len(settings.size) == 3 and not settings.spacing_mm:
        raise InputError(
            f'data.spacing_mm {settings.spacing_mm:g} with data.size {settings.size}: volumes, three numbers, need the '
            'side of their voxels in mm; of slices it may be 0, and they are resized'
        )
    intensity.window(*settings.window_hu)
    datasets = {s.name: read_dataset(s.folder, settings.subject, s.channel, s.labels) for s in sets}
    domains = {scans.name: scans.domain for scans in sets}
    for name, dataset in datasets.items():
        warn_of_unread_channels(dataset, channels_in(settings, domains[name]))
        if not modality.of_channel(dataset.channel):
            warn(
                '%s: channel %s of set %s names no modality that is known (CT, MR, PET, US), so intensities are scaled '
                'by percentiles; if it is CT, --channel=%s=CT', dataset.folder, dataset.channel, name, name,
            )  # fmt: skip
    if len(datasets) < len(sets):
        raise InputError(f'sets {", ".join(scans.name for scans in sets)}: each name may occur once; rename one')
    classes = tuple(settings.classes) or _default_classes(sets, datasets)
    if len(classes) > 256 or len(set(classes)) < len(classes):
        raise InputError(f'data.classes {classes}: at most 256 different names, the background first')
    splits = []
    for scans in sets:
        dataset = _with_class_names(datasets[scans.name], classes)
        for role, cases in _split_cases(scans, dataset, settings).items():
            read = _classes_of_labels(scans, role, cases, dataset, classes, settings)
            count = channels_in(settings, scans.domain)
            splits.append(Split(scans.name, role, scans.domain, dataset, cases, read, count))
    return splits, classes


def check_channels(sets: Iterable[tuple[str, str, str]]) -> None:
    """InputError where CT and other channels share a domain; `sets` are (name, domain, channel).

    CT is clipped to a window in HU, other channels to percentiles: the networks would see two intensity scales, and
    which one applies to a scan at prediction would be undefined.
    """
    first: dict[str, tuple[str, str]] = {}
    for name, domain, channel in sets:
        other, its_channel = first.setdefault(domain, (name, channel))
        if intensity.is_ct(channel) != intensity.is_ct(its_channel):
            raise InputError(
                f'domain {domain}: set {other} is {its_channel}, set {name} is {channel}; CT (in HU) and others cannot '
                f'share a domain: correct --channel={name}=..., or give one of the sets the other domain'
            )


def reassign(manifest: Manifest, settings: Data) -> list[Split]:
    """The splits that a folder of records was made from, to be prepared with other settings."""
    splits = []
    for name, entry in manifest.sets.items():
        for role, content in entry['roles'].items():
            cases = [
                Case(case['id'], case['subject'], Path(case['image']), case['label'] and Path(case['label']))
                for case in content['cases']
            ]
            dataset = _with_class_names(_dataset_of(manifest, entry, cases), manifest.classes)
            scans, own = Scans(name, dataset.folder, entry['domain']), replace(settings, classes=manifest.classes)
            read = _classes_of_labels(scans, role, cases, dataset, manifest.classes, own)
            count = channels_in(settings, entry['domain'])
            splits.append(Split(name, role, entry['domain'], dataset, cases, read, count))
    return splits


def _dataset_of(manifest, entry, cases) -> Dataset:
    """The dataset of a set, as far as the manifest of its records describes it."""
    channels = tuple(entry.get('channels', [entry['channel']]))
    named_in = str(manifest.folder / MANIFEST)
    return Dataset(
        cases[0].image.parent, channels, entry['labels'], tuple(cases), named_in=named_in, phantom=entry.get('phantom')
    )


def _with_class_names(dataset, classes) -> Dataset:
    """`dataset` with its label names spelt as those of the classes."""
    return replace(dataset, labels=class_names.match_names(dataset.labels, classes))


def _default_classes(sets, datasets):
    """Label names of the first set of domain a (b if there is none), ordered by value."""
    chosen = min(sets, key=lambda scans: scans.domain)
    dataset = datasets[chosen.name]
    if not dataset.labels:
        raise InputError(f'{dataset.named_in}: no classes; name them, --labels={chosen.name}=background:0,liver:1')
    return class_names.disjoint(dataset.labels)


def _split_cases(scans, dataset, settings) -> dict[str, list[Case]]:
    """The non-empty roles and their cases; the cases of imagesTs are always test cases."""
    if scans.role:
        roles = {known('role', scans.role, ROLES): [*dataset.cases, *dataset.test_cases]}
    else:
        shares = settings.source_split if scans.domain == 'a' else settings.target_split
        roles = split_by_subject(dataset.cases, shares, settings.seed) if dataset.cases else {}
        if dataset.test_cases:
            roles['test'] = [*roles.get('test', ()), *dataset.test_cases]
    for role, cases in roles.items():
        ids = [case.id for case in cases]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise InputError(f'{dataset.folder}: case {twice} is in imagesTr and imagesTs ({role}); keep one')
    return {role: roles[role] for role in ROLES if roles.get(role)}


def _classes_of_labels(scans, role, cases, dataset, classes, settings) -> tuple[str, ...] | None:
    """The classes of the labels that the records carry, None if they carry none; InputError if some labels are missing.

    Test labels that lack a class are left out of the records; test scans are evaluated on the classes that they have.
    """
    labelled = any(case.label for case in (cases if role == 'test' else dataset.cases))
    if scans.domain == 'b' and not settings.target_labels or not labelled:
        return None
    if any(case.label is None for case in cases):
        raise InputError(_no_labels(scans.name, role, cases))
    if role == 'test' and (absent := [name for name in classes if name not in dataset.labels]):
        warn('%s: no label %s; its test records carry no labels', dataset.named_in, ', '.join(absent))
        return None
    return _checked(classes, dataset, bool(settings.classes))


def _no_labels(name, role, cases) -> str:
    missing = [case for case in cases if case.label is None]
    first, count = missing[0], f'{len(missing)} of {len(cases)} in {role}'
    place = f'expected {first.expected}' if first.expected else 'add them, or leave it out'
    return f'no labels for the {name} scan {first.image} ({count}); {place}'


def _check_labelled(splits) -> None:
    """InputError if domain a has scans to train on, but no labels."""
    read = [split for split in splits if split.domain == 'a' and split.role != 'test']
    if read and all(split.classes is None for split in read):
        raise InputError(_no_labels(read[0].name, read[0].role, read[0].cases))


def _checked(classes, dataset, chosen: bool) -> tuple[str, ...]:
    """The classes, all of which the labels must have; other labels become background only if classes were `chosen`."""
    path = dataset.named_in
    extra = [name for name in dataset.labels if name not in classes]
    absent = [name for name in classes if name not in dataset.labels]
    if absent:
        has, near = ', '.join(dataset.labels) or 'none', class_names.suggestion(absent[0], extra)
        raise InputError(
            f'{path}: no label {", ".join(absent)}; it has {has}{near}; set data.classes to classes that all sets with '
            'labels have (what a set does not label would be learnt as background), or name values with --labels'
        )
    if extra and not chosen:
        raise InputError(f'{path}: labels {", ".join(extra)} are not among the classes; name data.classes explicitly')
    if 0 not in as_tuple(dataset.labels[classes[0]]):
        raise InputError(
            f'data.classes: the first, {classes[0]}, has value {dataset.labels[classes[0]]} in {path}, not 0'
        )
    if extra:
        warn('%s: labels %s become %s', path, ', '.join(extra), classes[0])
    return tuple(classes)


def _check_subjects(splits) -> None:
    """InputError for a subject in two roles of a domain; between domains, where names may coincide, a warning."""
    seen = {}
    for split in splits:
        for case in split.cases:
            seen.setdefault(case.subject, []).append(split)
    for subject, places in seen.items():
        for place in places:
            clash = [p for p in places if p.role != place.role]
            words = f'{subject} is in {place.role} of {place.name}' + ''.join(f', {p.role} of {p.name}' for p in clash)
            if any(p.domain == place.domain for p in clash):
                raise InputError(f'subject {words}; put it in one role, or tell subjects apart with data.subject')
    across = sum(len({p.role for p in places}) > 1 for places in seen.values())
    if across:
        warn('%d subject names occur in different roles of source and target; are they the same people?', across)
