"""Segment scans with a trained system, on each scan's own grid.

Usage:
    python -m synseg_jax.predict --workdir=runs/abdomen --input=scans/imagesTs --output=labels --volumes --overlays

--input is a scan, a folder of scans, a DICOM series, or an nnU-Net dataset.  Labels carry the affine of their scan;
dataset.json beside them names the classes.  --straighten writes those of a tilted gantry on a grid without its shear,
which ITK and 3D Slicer need.  --domain=a segments scans of the labelled modality instead of the target.
Scans that cannot be segmented are named at the end, with exit code 2; all others are segmented.

--flips=lr is for networks that were trained with augment.flip; --components=largest drops an organ's stray pieces.

Beside the labels, if asked for: --volumes, volumes.csv with the millilitres of every organ; --overlays, a picture of
each scan with contours; --probabilities, one float32 scan for each class; --dicom_seg, for DICOM series, a DICOM SEG
object in their study (needs highdicom: pip install -e '.[dicom]').
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from jaxtyping import Integer
from rich.progress import track

from synseg_jax import command, log, outputs, scans
from synseg_jax.batch import Batch, reading
from synseg_jax.data import given, straight, volume
from synseg_jax.data.frames import RESAMPLE
from synseg_jax.data.tiles import WINDOWS
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import organs
from synseg_jax.extras import EXTRAS, Segmented, check_dicom
from synseg_jax.files import write_csv, write_json
from synseg_jax.options import Flag, Options

FLAGS = (
    Flag('workdir', 'Folder that synseg_jax.main trained in.', required=True),
    Flag('input', 'A scan, a folder of scans, a DICOM series, or an nnU-Net dataset.', required=True),
    Flag('output', 'Folder to write label maps to.', required=True),
    Flag('system', 'Which system of the run; default: config.chosen.'),
    Flag('domain', 'Modality of the scans: b, the target, or a, the source.', 'b'),
    Flag('flips', "'lr': mean of the votes on the scan and its left-right mirror image."),
    Flag('components', "'largest': the largest piece of each class but lesions."),
    Flag('probabilities', 'Also write the probability of each class.', False, flags.DEFINE_bool),
    Flag('volumes', 'Also write the volume of every organ in mL.', False, flags.DEFINE_bool),
    Flag('overlays', 'Also draw contours on slices of each scan.', False, flags.DEFINE_bool),
    Flag('straighten', 'Write on grids without shear where a gantry was tilted.', False, flags.DEFINE_bool),
    Flag('dicom_seg', 'Also write a DICOM SEG object for each DICOM series.', False, flags.DEFINE_bool),
    Flag('unfinished', scans.UNFINISHED, False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Segment scans with a trained system; the exit code."""
    return command.run(segment, FLAGS, argv)


def segment(options: Options) -> None:
    """Segment the scans that --input names, and print how many there are."""
    volume.require_input(options.input)
    trained = scans.find(options.workdir, options.system or '', 's', unfinished=options.unfinished)
    channel = trained.run.channels[known('domain', options.domain, trained.run.channels)]
    files, output = given.scans(options.input, channel), Path(options.output)
    extras = [name for name in ('probabilities', 'volumes', 'overlays', 'dicom_seg') if getattr(options, name)]
    _check_output(options, files.values(), extras)
    for field in ('flips', 'components'):
        if (value := getattr(options, field)) is not None:
            trained.config.predict[field] = value
    _check_flips(trained)
    write = straight.writer(options.straighten)
    written = predict(trained, files, output, options.domain, given.reader(channel), extras, write)
    print(f'{len(written)} label maps in {output}')


def _check_output(options, files, extras) -> None:
    """InputError where labels, or what is asked for beside them, would replace scans or mix with them."""
    output, described = Path(options.output), outputs.around(files)
    outputs.check(output, (options.input, options.workdir, *described), [*files, *described])
    for name in extras:
        outputs.check_whole(output / name, files)


def _check_flips(trained) -> None:
    """Says where mirror images do no good."""
    if not trained.config.predict.flips:
        return
    if not isinstance(trained, scans.Trained):
        raise InputError(f'--flips={trained.config.predict.flips}: atlases are not mirrored; leave it out')
    data, flipped = trained.config.data, trained.config.augment.flip
    if data.slice_axis != 'sagittal' and 'c' not in flipped:
        log.warning(
            'networks that never saw mirror images (augment.flip %r) take left for right: --flips is likely to harm',
            flipped,
        )


def predict(
    trained: scans.Segmenter,
    files: dict[str, Path],
    output: Path,
    domain: str = 'b',
    read: Callable[[Path], volume.Volume] = volume.read,
    extras: Collection[str] = (),
    write: Callable = volume.write,
) -> dict[str, Path]:
    """{case: label map} of {case: scan}, written to `output` with a dataset.json that names the classes.

    `extras` are written beside them: 'volumes', 'overlays', 'probabilities', 'dicom_seg'.  Scans that cannot be
    segmented are left out, and an InputError names them once all others are.
    """
    known('domain', domain, ('a', 'b'))
    _check(trained, domain)
    if 'dicom_seg' in extras:
        check_dicom(files)
    written, rows, batch = {}, [], Batch(len(files))
    for case, file in track(files.items(), 'segmenting', disable=len(files) < 2):
        with batch.scan(file):
            with reading(file):
                scan = read(file)
            one = Segmented(case, file, scan, _labels(trained, scan, domain), trained, domain, write)
            output.mkdir(parents=True, exist_ok=True)  # only now: scans that are all refused leave nothing behind
            write(output / f'{case}.nii.gz', one.labels, one.scan, intent='label')
            written[case] = output / f'{case}.nii.gz'
            rows += _volumes(one) if 'volumes' in extras else []
            for name in (name for name in extras if name in EXTRAS):
                with batch.scan(file, still=f'segmented, but no {name}'):
                    EXTRAS[name](one, output)
    if written and 'volumes' in extras:
        write_csv(output / 'volumes.csv', rows)
    if written:
        describe(output, trained.run, domain, len(written))
    batch.finish('segmented')
    return written


def _check(trained, domain) -> None:
    """InputError for what would be wrong with every scan."""
    config = trained.config.predict
    if config.components not in ('', 'largest'):
        raise InputError(f"predict.components {config.components!r}: give '' or 'largest'")
    if config.flips not in scans.FLIPS:
        raise InputError(f"predict.flips {config.flips!r}: give '' or 'lr'")
    known('predict.window', config.window, WINDOWS)
    known('predict.resample', config.resample, RESAMPLE)
    if not trained.segments(domain):
        raise InputError(f'{trained.run.folder.name} segments no scans of domain {domain}; choose another --domain')


def _labels(trained, scan, domain) -> Integer[np.ndarray, 'x y z']:
    """The labels of a scan; with the largest piece of each class but lesions alone, if the configuration says so."""
    found, classes = trained.segment(scan, domain), trained.run.classes
    if not trained.config.predict.components:
        return found
    return organs.largest_pieces(found, {classes.index(name) for name in trained.config.lesions if name in classes})


def _volumes(one) -> list[dict]:
    """A row of volumes.csv for every organ of a scan."""
    volumes = organs.volumes_ml(one.labels, one.scan.affine, one.classes)
    return [{'case': one.case, 'organ': name, 'mL': round(ml, 3)} for name, ml in volumes.items()]


def describe(output: Path, run: scans.Run, domain: str, count: int) -> None:
    """Writes dataset.json beside `count` label maps of scans of a domain: it names the classes."""
    labels = {name: value for value, name in enumerate(run.classes)}
    description = {'channel_names': {'0': run.channels[domain]}, 'labels': labels, 'file_ending': '.nii.gz'}
    write_json(output / 'dataset.json', {**description, 'numTraining': count})


if __name__ == '__main__':
    command.start(main)
