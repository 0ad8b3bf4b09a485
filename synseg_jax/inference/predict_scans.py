"""Predict label maps for a list of scans, and write them with a dataset.json."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from rich.progress import track

from synseg_jax.errors import InputError, known, warn
from synseg_jax.files import write_csv
from synseg_jax.files.scan_errors import ScanErrors, reading_scan
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference import model_folder, postprocess, trained_model
from synseg_jax.inference.label_folder import write_dataset_json
from synseg_jax.inference.scan_outputs import OUTPUTS, Segmented


def check_flips(trained) -> None:
    """Warn if the networks were trained without left-right flips; InputError for atlases, which have no mirroring."""
    if not trained.config.predict.flips:
        return
    if not isinstance(trained, trained_model.Trained):
        raise InputError(f'--flips={trained.config.predict.flips}: does not apply to atlases; leave it out')
    data, flipped = trained.config.data, trained.config.augment.flip
    if data.slice_axis != 'sagittal' and 'c' not in flipped:
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
    written, errors = {}, ScanErrors(len(files))
    tables: dict[str, list[dict]] = {name: [] for name in extras}
    for case, file in track(files.items(), 'segmenting', disable=len(files) < 2):
        with errors.collect(file):
            with reading_scan(file):
                scan = read(file)
            one = Segmented(case, file, scan, _labels(trained, scan, domain), trained, domain, write)
            output.mkdir(parents=True, exist_ok=True)  # only now: no folder is left behind if every scan fails
            write(output / f'{case}.nii.gz', one.labels, one.scan, intent='label')
            written[case] = output / f'{case}.nii.gz'
            for name in extras:
                with errors.collect(file, state=f'segmented, but no {name}'):
                    tables[name] += OUTPUTS[name].write(one, output) or []
    for name in (name for name in extras if tables[name]):
        write_csv(output / f'{name}.csv', tables[name])
    if written:
        describe(output, trained.run, domain, len(written))
    errors.finish('segmented')
    return written


def _check(trained, domain) -> None:
    """InputError for settings that would fail on every scan."""
    if not trained.segments(domain):
        raise InputError(f'{trained.run.folder.name} does not segment domain {domain}; choose another --domain')


def _labels(trained, scan, domain) -> Integer[np.ndarray, 'x y z']:
    """The labels of a scan, post-processed as predict.components says."""
    labels = trained.segment(scan, domain)
    if not trained.config.predict.components:
        return labels
    return postprocess.largest_organs(labels, trained.run.classes, trained.config.lesions)


def describe(output: Path, run: model_folder.Run, domain: str, count: int) -> None:
    """Write the dataset.json of `count` label maps of scans of a domain."""
    write_dataset_json(output, run.classes, run.channels[domain], count)
