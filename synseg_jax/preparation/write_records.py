"""Writes scans as a folder of records with a manifest: deterministic, and atomic."""

import collections
import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import synseg_jax
from synseg_jax.errors import InputError, warn
from synseg_jax.files import atomic_folder, exclusive_lock
from synseg_jax.formats import outputs, scan_channels, scan_file
from synseg_jax.preparation.checks import across
from synseg_jax.preparation.checks.case import by_headers, refuse
from synseg_jax.preparation.extraction import records_of
from synseg_jax.preparation.records import FORMAT, MANIFEST, Manifest, RecordWriter
from synseg_jax.preparation.split import Scans, plan, reassign
from synseg_jax.specification.check import as_before
from synseg_jax.specification.data import IMAGE_FIELDS, Data

WORKERS = min(4, os.cpu_count() or 1)  # scans in parallel, a quarter of a GiB each for 100 slices of 512x512


def prepare(
    sets: Sequence[Scans], output: str | Path, settings: Data, overwrite: bool = False, progress: bool = True
) -> Manifest:
    """Write the records of `sets` to `output`, unless they are up to date; their manifest.

    Deterministic, and atomic: nothing is written if anything is refused.  Raises InputError for invalid scans, labels
    or settings (all errors that headers show at once, then all that voxels show), and if `output` holds something else
    and `overwrite` is False.
    """
    splits, classes = plan(sets, settings)
    return _prepare(splits, classes, output, settings, overwrite, progress)


def prepare_again(
    manifest: Manifest, output: str | Path, settings: Data, sets: Sequence[str] = (), progress: bool = True
) -> Manifest:
    """Write records of the same scans in the same roles with other settings; only of `sets`, if any are named."""
    splits = [split for split in reassign(manifest, settings) if not sets or split.name in sets]
    return _prepare(splits, manifest.classes, output, settings, True, progress)


def _prepare(splits, classes, output, settings, overwrite, progress) -> Manifest:
    output = Path(output).absolute()
    outputs.check_whole(
        output, [path for split in splits for case in split.cases for path in (case.image, case.label) if path]
    )
    say = cache(lambda: print(f'another process is preparing {output}; waiting for it', flush=True))  # once
    with exclusive_lock(output.with_name(f'.{output.name}.lock'), say):  # after waiting, the records are up to date
        return _prepare_alone(splits, classes, output, settings, overwrite, progress)


def _prepare_alone(splits, classes, output, settings, overwrite, progress) -> Manifest:
    request = _request(splits, settings)
    existing = _existing(output, request, overwrite)
    if existing:
        if progress:
            print(f'{output} is up to date')
        return existing
    checked = by_headers(splits)
    refuse([*(problem for one in checked for problem in one.problems), *across.by_headers(checked)])
    with atomic_folder(output, replace=True) as folder:
        manifest = Manifest(
            folder=folder,
            classes=classes,
            **{field: getattr(settings, field) for field in IMAGE_FIELDS},
            seed=settings.seed,
            sets=_write(splits, folder, settings, progress),
            packages=packages(),
            request=request,
            version=synseg_jax.__version__,
            settings=asdict(settings),
        )
        manifest.save()
    return Manifest.load(output)


def packages() -> dict[str, str]:
    """Versions of the packages that records are written with."""
    return {p: importlib.metadata.version(p) for p in ('numpy', 'nibabel', 'array_record', 'safetensors')}


def _request(splits, settings) -> str:
    """Digest of everything that the records depend on: settings, and paths, sizes and times of the files read."""
    entries = []
    for split in splits:
        read = [path for case in split.cases for path in scan_channels.present(case.image, split.channels)]
        read += [case.label for case in split.cases] if split.classes is not None else []
        stats = [(str(path), *scan_file.stamp(path)) for path in read]
        named = [(case.id, case.subject, str(case.label)) for case in split.cases]
        entries.append([split.file, split.domain, split.dataset.channel_names, split.dataset.labels, stats, named])
    own = {name: value for name, value in asdict(settings).items() if not as_before(f'data.{name}', value)}
    content = [FORMAT, synseg_jax.__version__, own, entries]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _existing(output, request, overwrite) -> Manifest | None:
    """The manifest in `output` if it is up to date; InputError if something else would be overwritten."""
    if not output.exists() or output.is_dir() and not any(output.iterdir()):
        return None
    if not (output / MANIFEST).is_file():
        raise InputError(f'{output}: exists and holds no records; choose another --output')
    try:
        manifest = Manifest.load(output)
        if manifest.request == request and all(
            (output / split['file']).stat().st_size == split['bytes']
            for entry in manifest.sets.values()
            for split in entry['roles'].values()
        ):
            return manifest
    except (InputError, FileNotFoundError, KeyError):
        pass  # a damaged folder of records is not up to date
    if foreign := sorted(path.name for path in output.iterdir() if not _is_record(path)):
        raise InputError(f'{output}: holds {foreign[0]}, which is no record; move it, or choose another --output')
    if not overwrite:
        raise InputError(f'{output}: holds other records; pass --overwrite to replace them, or choose another --output')
    return None


def _is_record(path) -> bool:
    return path.name == MANIFEST or path.suffix == '.array_record'


def _write(splits, folder, settings, progress) -> dict:
    """Write the record file of every split; the manifest's `sets`.  InputError with all errors that voxels show."""
    entries, seen = {}, []
    with _progress(sum(len(split.cases) for split in splits), progress) as advance:
        for split in splits:
            described = []
            with RecordWriter(folder / split.file) as writer:
                for records, description, checked in _in_order(split, settings):
                    seen.append(checked)
                    for record in records:
                        writer.write(record)
                    described += [description] if description else []
                    advance(len(records) + (description['dropped'] if description else 0))
            if not writer.count and len(described) == len(split.cases):
                remedy = 'lower data.foreground_share or widen data.source_margin'
                raise InputError(f'{split.name}: no slice of {split.role} is left; {remedy}')
            entry = entries.setdefault(split.name, _entry(split))
            entry['roles'][split.role] = role_entry(folder / split.file, split.classes is not None, described)
    problems = [problem for one in seen for problem in one.problems]
    problems += across.by_voxels(seen, settings.same_patients)
    refuse(problems)
    for problem in problems:
        warn('%s', problem.text)
    return entries


def _entry(split) -> dict:
    """Manifest entry of a set, without its record files."""
    dataset = split.dataset
    entry = {'domain': split.domain, 'channel': dataset.channel, 'labels': dataset.labels, 'roles': {}}
    entry |= {'channels': list(dataset.channels(split.channels))} if split.channels > 1 else {}
    return entry | ({'phantom': dict(dataset.phantom)} if dataset.phantom else {})


def role_entry(path: Path, labelled: bool, cases: list[dict]) -> dict:
    """Manifest entry of the record file of one set in one role."""
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    count = sum(case['records'] for case in cases)
    size = path.stat().st_size
    return {'file': path.name, 'records': count, 'bytes': size, 'sha256': digest, 'labelled': labelled, 'cases': cases}


def _in_order(split, settings) -> Iterable:
    """The results of the split's cases, in order, computed by a few threads."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = collections.deque()
        try:
            for index, case in enumerate(split.cases):
                waiting.append(pool.submit(records_of, index, case, split, settings))
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _progress(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A callback that takes each scan's number of slices: progress bar on a terminal, else a line every 10 s."""
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
