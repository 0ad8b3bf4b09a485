"""Write scans as records of normalised slices, with a manifest that says what was done.

Usage:
    python -m synseg_jax.prepare --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen

--source is the labelled modality, --target the other; both are nnU-Net raw folders and are split into train, val
and test by subject.  --set=name=FOLDER:domain:role (repeatable; domain a or b) adds a whole folder in one role.
Target labels are not opened unless data.target_labels is True.
"""

import collections
import hashlib
import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from absl import flags, logging
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import synseg_jax
from synseg_jax import command
from synseg_jax.data import intensity, slices, volume
from synseg_jax.data.dataset import ROLES, Case, Dataset, check_pair, read_dataset, split
from synseg_jax.data.records import FORMAT, MANIFEST, Manifest, RecordWriter, encode
from synseg_jax.errors import InputError, known

VISIBLE = 0.1  # normalised intensity above which a pixel counts as foreground
WORKERS = 2
PIECE = 32  # slices resized at a time, which bounds the memory of a long scan


@dataclass(frozen=True)
class Settings:
    """What `prepare` does to every scan; the fields are those of `config.data`, and the seed."""

    size: tuple[int, int] = (256, 256)
    slice_axis: str = 'axial'
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    percentiles: tuple[float, float] = (2.5, 97.5)
    foreground_share: float = 0.02
    source_margin: int = -1
    classes: tuple[str, ...] = ()
    subject: str = '(.+)'
    source_split: tuple[float, float, float] = (0.8, 0.2, 0.0)
    target_split: tuple[float, float, float] = (0.8, 0.0, 0.2)
    target_labels: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Scans:
    """A folder to prepare; without a role its cases are split by subject."""

    name: str
    folder: Path
    domain: str
    role: str | None = None


@dataclass(frozen=True)
class _Role:
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


def prepare(
    sets: Sequence[Scans], output: str | Path, settings: Settings, overwrite: bool = False, progress: bool = True
) -> Manifest:
    """The manifest of the records in `output`, which are written unless they are there already.

    The same request gives the same bytes.  `output` appears whole or not at all.  Raises InputError for a
    scan, label or setting that will not do, and where `output` holds something else and `overwrite` is False.
    """
    output = Path(output).absolute()
    roles, classes = _plan(sets, settings)
    request = _request(roles, settings)
    existing = _existing(output, request, overwrite)
    if existing:
        if progress:
            print(f'{output} is up to date')
        return existing
    with _whole_folder(output) as folder:
        entries = _write(roles, folder, settings, progress)
        manifest = Manifest(
            folder=folder,
            classes=classes,
            size=tuple(settings.size),
            slice_axis=settings.slice_axis,
            window_hu=tuple(settings.window_hu),
            percentiles=tuple(settings.percentiles),
            seed=settings.seed,
            sets=entries,
            packages={p: importlib.metadata.version(p) for p in ('numpy', 'nibabel', 'array_record', 'safetensors')},
            request=request,
            version=synseg_jax.__version__,
        )
        manifest.save()
    return Manifest.load(output)


def _plan(sets, settings) -> tuple[list[_Role], tuple[str, ...]]:
    """Which case goes where, and the classes; every check that needs no voxels."""
    known('slice_axis', settings.slice_axis, slices.VIEWS)
    if len(settings.size) != 2 or min(settings.size) < 1:
        raise InputError(f'data.size {tuple(settings.size)}: give rows and columns, e.g. (256, 256)')
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
            roles.append(_Role(scans.name, role, scans.domain, dataset, cases, table))
    _check_subjects(roles)
    return roles, classes


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


def _request(roles, settings) -> str:
    """A digest of everything that the records depend on: settings, and names, sizes and times of the files read."""
    entries = []
    for role in roles:
        read = [case.image for case in role.cases]
        read += [case.label for case in role.cases] if role.classes is not None else []
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in read]
        named = [(case.id, case.subject, str(case.label)) for case in role.cases]
        entries.append([role.file, role.domain, role.dataset.channel_names, role.dataset.labels, stats, named])
    content = [FORMAT, synseg_jax.__version__, asdict(settings), entries]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _existing(output, request, overwrite) -> Manifest | None:
    """The manifest in `output` if it answers the request; InputError if something else must not be lost."""
    if not output.exists() or output.is_dir() and not any(output.iterdir()):
        return None
    if not (output / MANIFEST).is_file():
        raise InputError(f'{output}: exists and holds no records; choose another --output')
    try:
        manifest = Manifest.load(output)
        if manifest.request == request and all(
            (output / role['file']).stat().st_size == role['bytes']
            for entry in manifest.sets.values()
            for role in entry['roles'].values()
        ):
            return manifest
    except (InputError, OSError, KeyError):
        pass  # a damaged folder of records is one that does not answer the request
    if not overwrite:
        raise InputError(f'{output}: holds other records; pass --overwrite to replace them, or choose another --output')
    return None


@contextmanager
def _whole_folder(output) -> Iterator[Path]:
    """A folder to write into, which becomes `output` if all goes well and disappears otherwise."""
    partial, old = (output.with_name(f'{output.name}.{word}') for word in ('partial', 'old'))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
            output.rename(old)
        partial.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(roles, folder, settings, progress) -> dict:
    """Writes every role's record file; the manifest's `sets`."""
    entries, notes = {}, {}
    with _progress(sum(len(role.cases) for role in roles), progress) as advance:
        for role in roles:
            described = []
            with RecordWriter(folder / role.file) as writer:
                for records, description, note in _in_order(role, settings):
                    for record in records:
                        writer.write(record)
                    described.append(description)
                    notes.setdefault(role.name, []).extend(note)
                    advance(len(records) + description['dropped'])
            if not writer.count:
                raise InputError(f'{role.name}: no slice of {role.role} is left; lower data.foreground_share')
            entry = entries.setdefault(
                role.name,
                {'domain': role.domain, 'channel': role.dataset.channel, 'labels': role.dataset.labels, 'roles': {}},
            )
            entry['roles'][role.role] = _entry(role, folder / role.file, writer.count, described)
    for name, lines in notes.items():
        if lines:
            more = f' (and {len(lines) - 1} more scans)' if len(lines) > 1 else ''
            logging.warning('%s: %s%s', name, lines[0], more)
    return entries


def _entry(role, path, count, described) -> dict:
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return {
        'file': role.file,
        'records': count,
        'bytes': path.stat().st_size,
        'sha256': digest,
        'labelled': role.classes is not None,
        'cases': described,
    }


def _in_order(role, settings) -> Iterable:
    """Results of the role's cases in their order, a few of them under way at the same time."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = collections.deque()
        try:
            for index, case in enumerate(role.cases):
                waiting.append(pool.submit(_slices_of, index, case, role, settings))
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _slices_of(index, case, role, settings) -> tuple[list[bytes], dict, list[str]]:
    """The records of one case, its description for the manifest, and what is odd about it; errors name the case."""
    try:
        return _sliced(index, case, role, settings)
    except Exception as error:
        error.add_note(f'while preparing {case.image}')
        raise


def _sliced(index, case, role, settings):
    stored = volume.read(case.image)
    upright = volume.canonical(stored)
    normalisation = intensity.for_channel(
        role.dataset.channel, upright.array, settings.window_hu, settings.percentiles, str(case.image)
    )
    stack = slices.to_stack(upright.array, settings.slice_axis)
    labels = None if role.classes is None else _label_stack(case, stored, role, settings)
    kept = _near_labels(labels, settings.source_margin) if role.domain == 'a' and labels is not None else None
    records = []
    for first in range(0, len(stack), PIECE):
        images = slices.resize_linear(normalisation.apply(stack[first : first + PIECE]), settings.size)
        for number, image in enumerate(images, first):
            wanted = kept is None or kept[number]
            if wanted and np.mean(image > VISIBLE) >= settings.foreground_share:
                records.append(encode(image[..., None], None if labels is None else labels[number], index, number))
    odd = intensity.unused(normalisation, upright.array)
    if not records:
        odd = f'{case.image.name}: every slice has less than {settings.foreground_share:.0%} foreground and is dropped'
    return records, _description(case, stored, stack, normalisation, len(records)), [odd] if odd else []


def _near_labels(labels, margin) -> np.ndarray | None:
    """Which slices lie within `margin` of one with an organ; None, for all of them, if the margin is negative."""
    if margin < 0:
        return None
    labelled = labels.any((1, 2))
    return np.array([labelled[max(0, i - margin) : i + margin + 1].any() for i in range(len(labels))])


def _label_stack(case, image, role, settings) -> np.ndarray:
    """Class indices of a case as pictures of the records' size."""
    label = volume.read_labels(case.label)
    check_pair(image, label, role.dataset.labels.values(), str(case.label))
    # the image's own affine: the two agree, and both must be turned the same way
    upright = volume.canonical(volume.Volume(role.classes[label.array], image.affine))
    return slices.resize_nearest(slices.to_stack(upright.array, settings.slice_axis), settings.size)


def _description(case, stored, stack, normalisation, count) -> dict:
    return {
        'id': case.id,
        'subject': case.subject,
        'image': str(case.image),
        'label': case.label and str(case.label),
        'shape': list(stored.array.shape),
        'affine': stored.affine.tolist(),
        'spacing_mm': list(stored.spacing_mm),
        'low': normalisation.low,
        'high': normalisation.high,
        'scan_size': list(stack.shape[1:3]),
        'slices': len(stack),
        'records': count,
        'dropped': len(stack) - count,
    }


@contextmanager
def _progress(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A function to call with each scan's number of slices: a bar on a terminal, else a line now and then."""
    start = last = time.monotonic()
    scans = count = 0
    columns = (TextColumn('prepare'), BarColumn(), MofNCompleteColumn(), TextColumn('scans'), TimeRemainingColumn())
    with Progress(*columns, disable=not (wanted and sys.stdout.isatty()), transient=True) as bar:
        task = bar.add_task('prepare', total=total)

        def advance(number: int) -> None:
            nonlocal scans, count, last
            scans, count, now = scans + 1, count + number, time.monotonic()
            bar.advance(task)
            if wanted and (scans == total or bar.disable and now - last > 10):
                print(f'{scans} of {total} scans, {count} slices, {count / (now - start):.0f} slices/s', flush=True)
                last = now

        yield advance


def table(manifest: Manifest) -> Table:
    """Scans, records and dropped slices of every set and role."""
    columns = ('set', 'domain', 'role', 'scans', 'records', 'dropped slices', 'labels')
    result = Table(*columns, title=f'{manifest.folder}: {", ".join(manifest.classes)}')
    for name, entry in manifest.sets.items():
        for role, content in entry['roles'].items():
            dropped = sum(case['dropped'] for case in content['cases'])
            counts = (len(content['cases']), content['records'], dropped)
            labelled = 'yes' if content['labelled'] else 'no'
            result.add_row(name, entry['domain'], role, *map(str, counts), labelled)
    return result


def parse_set(text: str) -> Scans:
    """The folder that `--set=name=FOLDER:domain:role` means."""
    name, _, rest = text.partition('=')
    parts = rest.rsplit(':', 2)
    if not name.isidentifier() or name in ('source', 'target') or len(parts) != 3 or parts[1] not in ('a', 'b'):
        raise InputError(f'--set={text}: give name=FOLDER:domain:role, domain a or b, name not source or target')
    return Scans(name, Path(parts[0]), parts[1], known('role', parts[2], ROLES))


def settings_of(config) -> Settings:
    """The settings in a configuration's fields `data` and `seed`."""
    values = {}
    for field in fields(Settings):
        holder, name = (config, 'seed') if field.name == 'seed' else (config.get('data', {}), f'data.{field.name}')
        if field.name not in holder:
            raise InputError(f'config.{name} is missing; add it')
        value = holder[field.name]
        values[field.name] = tuple(value) if isinstance(value, list | tuple) else value
    return Settings(**values)


if __name__ == '__main__':
    CONFIG = command.config_flag()
    SOURCE = flags.DEFINE_string('source', None, 'nnU-Net raw folder of the labelled modality.')
    TARGET = flags.DEFINE_string('target', None, 'nnU-Net raw folder of the other modality.')
    OUTPUT = flags.DEFINE_string('output', None, 'Folder to write.')
    SETS = flags.DEFINE_multi_string('set', [], 'name=FOLDER:domain:role, a further folder in one role.')
    OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace other records in the output folder.')


def main() -> None:
    """Prepares what the flags name and prints the table."""
    named = [('source', SOURCE.value, 'a'), ('target', TARGET.value, 'b')]
    sets = [Scans(name, Path(folder), domain) for name, folder, domain in named if folder]
    sets += [parse_set(text) for text in SETS.value]
    if not sets:
        raise InputError('no scans: give --source=FOLDER and --target=FOLDER; --help shows an example')
    manifest = prepare(sets, OUTPUT.value, settings_of(CONFIG.value), OVERWRITE.value)
    Console().print(table(manifest))


if __name__ == '__main__':
    command.run(main, required=('config', 'output'))
