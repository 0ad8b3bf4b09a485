"""Label maps of many scans, written beside their dataset.json."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from rich.progress import track

from synseg_jax.errors import InputError, known, warn
from synseg_jax.files import write_csv, write_json
from synseg_jax.files.scan_errors import ScanErrors, reading_scan
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference import model_folder, postprocess, trained_model
from synseg_jax.inference.scan_outputs import OUTPUTS, Segmented


def check_flips(trained) -> None:
    """Says where mirror images do no good."""
    if not trained.config.predict.flips:
        return
    if not isinstance(trained, trained_model.Trained):
        raise InputError(f'--flips={trained.config.predict.flips}: atlases are not mirrored; leave it out')
    data, flipped = trained.config.data, trained.config.augment.flip
    if data.slice_axis != 'sagittal' and 'c' not in flipped:
        warn(
            'networks that never saw mirror images (augment.flip %r) take left for right: --flips is likely to harm',
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
    """{case: label map} of {case: scan}, written to `output` with a dataset.json that names the classes.

    `extras` names the `OUTPUTS` to write beside them.  Scans that cannot be segmented are left out, and an InputError
    names them once all others are.
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
            output.mkdir(parents=True, exist_ok=True)  # only now: scans that are all refused leave nothing behind
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
    """InputError for what would be wrong with every scan."""
    if not trained.segments(domain):
        raise InputError(f'{trained.run.folder.name} segments no scans of domain {domain}; choose another --domain')


def _labels(trained, scan, domain) -> Integer[np.ndarray, 'x y z']:
    """The labels of a scan; with the largest piece of each class but lesions alone, if the configuration says so."""
    found, classes = trained.segment(scan, domain), trained.run.classes
    if not trained.config.predict.components:
        return found
    return postprocess.largest_pieces(
        found, {classes.index(name) for name in trained.config.lesions if name in classes}
    )


def describe(output: Path, run: model_folder.Run, domain: str, count: int) -> None:
    """Writes dataset.json beside `count` label maps of scans of a domain: it names the classes."""
    labels = {name: value for value, name in enumerate(run.classes)}
    description = {'channel_names': {'0': run.channels[domain]}, 'labels': labels, 'file_ending': '.nii.gz'}
    write_json(output / 'dataset.json', {**description, 'numTraining': count})
