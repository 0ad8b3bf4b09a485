"""Predict label maps for a list of scans, and write them with a dataset.json."""

import types
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from synseg_jax.cli.progress import over_scans
from synseg_jax.errors import InputError, known, warn
from synseg_jax.files.scan_errors import ScanErrors, reading_scan
from synseg_jax.formats import outputs, scan_channels, scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference import label_folder, postprocess, trained_model
from synseg_jax.inference.continued import Record
from synseg_jax.inference.label_names import LABEL_NAMES
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


def check_output(output: Path, named: Iterable[str], files: Collection[Path], extras: Collection[str]) -> None:
    """InputError if an output would replace scans or what flags name, or be written among them."""
    described = outputs.around(files)
    outputs.check(output, (*named, *described), [*files, *described])
    for name in extras:
        outputs.check_whole(output / name, files)


def predict(
    trained: trained_model.Segmenter,
    files: dict[str, Path],
    output: Path,
    domain: str = 'b',
    read: Callable[[Path], volume.Volume] = scan_file.read,
    extras: Collection[str] = (),
    write: Callable = scan_file.write,
    names: str = 'case',
    go_on: bool = False,
) -> dict[str, Path]:
    """Segment {case: scan}, write label maps and dataset.json to `output`, and return {case: label map}.

    `extras` names the `OUTPUTS` to write beside them, `names` the `LABEL_NAMES` of the label maps.  A scan that fails
    does not stop the others; InputError at the end lists those that failed.  `go_on`: leaves out scans that an earlier
    run has segmented in the same way.
    """
    known('domain', domain, ('a', 'b'))
    _check(trained, domain)
    kind = LABEL_NAMES[known('names', names, LABEL_NAMES)]
    places = kind.places(files)
    for name in extras:
        OUTPUTS[known('output', name, OUTPUTS)].check(files)
    more = {'straightened': True} if write is not scan_file.write else {}
    more |= {'names': names} if names != 'case' else {}
    record = _record(trained, files, output, domain, extras, places, more)
    if go_on:
        record.go_on(files)
    waiting = {case: file for case, file in files.items() if case not in record.scans}
    written, errors = {case: output / places[case] for case in record.scans}, ScanErrors(len(files))
    with over_scans('segmenting', len(waiting), len(trained.members)) as progress:
        trained.progress = progress.step
        for case, file in waiting.items():
            with errors.collect(file):
                with reading_scan(file):
                    scan = read(file)
                    digest = '-'.join(map(scan_file.digest, scan_channels.present(file, len(scan.channels))))
                segmenter = trained.for_scan(file)
                one = Segmented(case, file, scan, _labels(segmenter, scan, domain), segmenter, domain, write)
                record.begin()  # only now: no folder is left behind if every scan fails
                written[case] = output / places[case]
                write(written[case], one.labels, one.scan, intent='label')
                record.add(case, digest, _extras(one, output, extras, errors))
            progress.advance()
    if written:
        for name in extras:
            OUTPUTS[name].finish(output, trained)
        kind.describe(output, trained.run.classes, trained.run.channels[domain])
    errors.finish('segmented')
    return {case: written[case] for case in files if case in written}


def _check(trained, domain) -> None:
    """InputError for settings that would fail on every scan."""
    if not trained.segments(domain):
        raise InputError(f'{trained.run.folder.name} does not segment domain {domain}; choose another --domain')


def _record(trained, files, output, domain, extras, places, more) -> Record:
    """The record of the output folder; of folds, `trained.for_scan` tells which of them segment a scan."""
    everyone = _members(trained)
    members_of = cache(lambda case: _members(trained.for_scan(files[case])))

    def describe(done):
        parts = {case: members_of(case) for case in done if members_of(case) != everyone}
        return described(trained, domain, len(done), parts, {**more, 'scans': dict(done)})

    return Record(output, places, [*extras], trained.run.classes, describe)


def _extras(one: Segmented, output, extras, errors) -> dict[str, list[dict]]:
    """Write the outputs beside the labels of a scan; {name: rows of its table}."""
    rows = {}
    for name in extras:
        with errors.collect(one.file, state=f'segmented, but no {name}'):
            rows[name] = OUTPUTS[name].write(one, output) or []
    return rows


def _labels(trained, scan, domain) -> Integer[np.ndarray, 'x y z']:
    """The labels of a scan, post-processed as predict.components and predict.holes say."""
    labels, config = trained.segment(scan, domain), trained.config
    fields = config.predict.components, config.predict.holes
    return postprocess.processed(labels, scan.affine, trained.run.classes, config.lesions, *fields)


def described(
    trained: trained_model.Segmenter,
    domain: str,
    count: int,
    parts: Mapping[str, list[dict]] = types.MappingProxyType({}),
    more: Mapping[str, object] = types.MappingProxyType({}),
) -> dict:
    """The dataset.json of `count` label maps of scans of a domain; `parts`: members that made those of single cases.

    `more` is what else is to be known of the prediction.
    """
    run, fields = trained.run, vars(trained.config.predict)
    prediction = {'members': _members(trained), 'fields': {n: v for n, v in fields.items() if n != 'batch'}}
    prediction |= {'cases': dict(parts)} if parts else {}
    return label_folder.described(run.classes, run.channels[domain], count, {**prediction, **more})


def _members(trained) -> list[dict]:
    """Folder and checkpoint of each stage that the probabilities are the mean of."""
    return [{'stage': member.run.folder.name, 'step': member.step} for member in trained.members]
