"""Predict label maps for a list of scans, and write them with a dataset.json."""

import itertools
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from rich.progress import Progress

from synseg_jax.errors import InputError, known, warn
from synseg_jax.files import write_csv
from synseg_jax.files.scan_errors import ScanErrors, reading_scan
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference import postprocess, trained_model
from synseg_jax.inference.label_folder import write_dataset_json
from synseg_jax.inference.scan_outputs import OUTPUTS, Segmented
from synseg_jax.specification.prediction import Predict

VIEWS = ('flips', 'rotate', 'zoom', 'gamma', 'checkpoints')  # fields of predict that atlases do not have


def check_views(trained: trained_model.Segmenter) -> None:
    """Warn if the networks were trained without left-right flips; InputError for atlases, which have no views."""
    fields = trained.config.predict
    if not any(isinstance(member, trained_model.Trained) for member in trained.members):
        for name in VIEWS:
            if getattr(fields, name) != getattr(Predict(), name):
                raise InputError(f'--{name}={getattr(fields, name)}: does not apply to atlases; leave it out')
        return
    data, flipped = trained.config.data, trained.config.augment.flip
    if fields.flips and data.slice_axis != 'sagittal' and 'c' not in flipped:
        warn(
            '--flips: the networks were trained without left-right flips (augment.flip %r); accuracy is likely to drop',
            flipped,
        )


def predict(
    trained: trained_model.Segmenter,
    files: dict[str, Path],
    output: Path,
    domain: str = 'b',
    read: Callable[[Path], volume.Volume] = scan_file.read,
    extras: Collection[str] = (),
    write: Callable = scan_file.write,
) -> dict[str, Path]:
    """Segment {case: scan}, write label maps and dataset.json to `output`, and return {case: label map}.

    `extras` names the `OUTPUTS` to write beside them.  A scan that fails does not stop the others; InputError at the
    end lists those that failed.
    """
    known('domain', domain, ('a', 'b'))
    _check(trained, domain)
    for name in extras:
        OUTPUTS[known('output', name, OUTPUTS)].check(files)
    written, errors, parts = {}, ScanErrors(len(files)), {}
    tables: dict[str, list[dict]] = {name: [] for name in extras}
    with _progress(trained, len(files)) as done:
        for case, file in files.items():
            with errors.collect(file):
                with reading_scan(file):
                    scan = read(file)
                segmenter = trained.for_scan(file)
                one = Segmented(case, file, scan, _labels(segmenter, scan, domain), segmenter, domain, write)
                output.mkdir(parents=True, exist_ok=True)  # only now: no folder is left behind if every scan fails
                write(output / f'{case}.nii.gz', one.labels, one.scan, intent='label')
                written[case] = output / f'{case}.nii.gz'
                if segmenter is not trained:
                    parts[case] = segmenter
                for name in extras:
                    with errors.collect(file, state=f'segmented, but no {name}'):
                        tables[name] += OUTPUTS[name].write(one, output) or []
            done()
    for name in (name for name in extras if tables[name]):
        write_csv(output / f'{name}.csv', tables[name])
    if written:
        describe(output, trained, domain, len(written), parts)
    errors.finish('segmented')
    return written


def _check(trained, domain) -> None:
    """InputError for settings that would fail on every scan."""
    if not trained.segments(domain):
        raise InputError(f'{trained.run.folder.name} does not segment domain {domain}; choose another --domain')


@contextmanager
def _progress(trained, scans) -> Iterator[Callable[[], None]]:
    """A bar over scans and, within each, members of an ensemble; its function is to be called after each scan."""
    members, counts = len(trained.members), itertools.count(1)
    bar = Progress(disable=scans * members < 2)
    task = bar.add_task('segmenting', total=scans * members)
    trained.progress = lambda: bar.advance(task)
    with bar:
        yield lambda: bar.update(task, completed=members * next(counts))


def _labels(trained, scan, domain) -> Integer[np.ndarray, 'x y z']:
    """The labels of a scan, post-processed as predict.components and predict.holes say."""
    labels, config = trained.segment(scan, domain), trained.config
    fields = config.predict.components, config.predict.holes
    return postprocess.processed(labels, scan.affine, trained.run.classes, config.lesions, *fields)


def describe(
    output: Path,
    trained: trained_model.Segmenter,
    domain: str,
    count: int,
    parts: Mapping[str, trained_model.Segmenter] = types.MappingProxyType({}),
) -> None:
    """Write the dataset.json of `count` label maps of scans of a domain; `parts` made those of the cases named."""
    run, fields = trained.run, vars(trained.config.predict)
    prediction = {'members': _members(trained), 'fields': {n: v for n, v in fields.items() if n != 'batch'}}
    prediction |= {'cases': {case: _members(part) for case, part in parts.items()}} if parts else {}
    write_dataset_json(output, run.classes, run.channels[domain], count, prediction)


def _members(trained) -> list[dict]:
    """Folder and checkpoint of each stage that the probabilities are the mean of."""
    return [{'stage': member.run.folder.name, 'step': member.step} for member in trained.members]
