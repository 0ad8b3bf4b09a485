"""Outputs of `predict` beside the labels, each in a folder or table named as its flag; `OUTPUTS` lists them all."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from synseg_jax.dicom import rtstruct_writer
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging import intensity, slices, volume
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import agreement, folder_report, studies, trust
from synseg_jax.inference.trained_model import Segmenter
from synseg_jax.reports import figures, planes

SHOWN = 8  # slices per figure
STEPS = 2**16  # of quantised probabilities; finer ones are noise that makes files five times as large


@dataclass(frozen=True, eq=False)
class Segmented:
    """A segmented scan: the class index of every voxel, and the file and segmenter they come from."""

    case: str
    file: Path
    scan: Volume
    labels: Integer[np.ndarray, 'x y z']
    trained: Segmenter
    domain: str
    write: Callable = scan_file.write

    @property
    def classes(self) -> tuple[str, ...]:
        return self.trained.run.classes


@dataclass(frozen=True)
class Output:
    """Files that `predict` writes beside the labels of a scan where a flag asks for them."""

    help: str  # of the flag
    write: Callable[[Segmented, Path], list[dict] | None]  # files of one scan, or its rows of the table NAME.csv
    check: Callable[[Mapping[str, Path]], None] = lambda files: None  # InputError where it suits none of the scans
    files: Callable[[str, Sequence[str]], list[str]] = lambda case, classes: []  # of a case, below the folder
    tabled: bool = False  # whether every case has rows
    finish: Callable[[Path, Segmenter], None] = lambda output, trained: None  # after the last scan


def volumes(one: Segmented, output: Path) -> list[dict]:
    """Rows of `volumes.csv`: the volume of every organ in mL."""
    found = volume.volumes_ml(one.labels, one.scan.affine, one.classes)
    return [{'case': one.case, 'organ': name, 'mL': round(ml, 3)} for name, ml in found.items()]


def probabilities(one: Segmented, output: Path) -> None:
    """`probabilities/CLASS/CASE.nii.gz`, float32: interpolated, with sum 1 over the classes, 0 outside the window."""
    for label, name in enumerate(one.classes):
        path = output / _probability_file(one.case, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = one.trained.probability(one.scan, one.domain, label)
        one.write(path, np.rint(found * STEPS) / np.float32(STEPS), one.scan)


def _probability_file(case, name) -> str:
    folder = re.sub(r'[^\w .+-]', '_', name)
    return f'probabilities/{folder}/{case}.nii.gz'


def overlays(one: Segmented, output: Path) -> None:
    """`overlays/CASE.png`: contours on slices spread over the labelled ones, cropped to the window of the networks."""
    frame = one.trained.run.frame(one.scan, one.domain, (), 0.0)
    upright = volume.canonical(replace(one.scan, array=one.labels))
    labels = slices.to_stack(upright.array, frame.axis)[:, *frame.seen]
    spacing = slices.stack_spacing(upright.spacing_mm, frame.axis)[1:]
    sides = slices.SIDES[frame.axis]
    shown = [
        figures.Panel(f'slice {i + 1} of {len(labels)}', frame.stack[i], None, labels[i], spacing, sides=sides)
        for i in spread(labels.any((1, 2)), SHOWN)
    ]
    figures.overlays(output / 'overlays' / f'{one.case}.png', shown, one.classes, title=one.case)


def dicom_seg(one: Segmented, output: Path) -> None:
    """`dicom_seg/CASE.dcm`: one segment per class, in the study of the series."""
    from synseg_jax.dicom import dicom_seg  # needs an optional package

    files = list(dict.fromkeys(frame.file for frame in studies.slices(one.file, 'dicom_seg')))
    path, labels = output / 'dicom_seg' / f'{one.case}.dcm', replace(one.scan, array=one.labels)
    dicom_seg.write(path, labels, files, one.classes, one.trained.run.folder.resolve().name)


def rtstruct(one: Segmented, output: Path) -> None:
    """`rtstruct/CASE.dcm`: the contours of each class as an RT Structure Set, in the study of the series."""
    frames = studies.slices(one.file, 'rtstruct')
    path, labels = output / 'rtstruct' / f'{one.case}.dcm', replace(one.scan, array=one.labels)
    rtstruct_writer.write(path, labels, frames, one.classes, one.trained.run.folder.resolve().name)


def report(one: Segmented, output: Path) -> list[dict]:
    """`report/CASE.png`, three planes, and a row of `report.csv`: agreement, flag, remarks, and volumes in mL."""
    run = one.trained.run
    data, channel = one.trained.config.data, run.channels[one.domain]
    agreed = agreement.of_scan(one.trained, one.scan, one.domain)
    lesions = one.trained.config.lesions
    found = trust.Found(one.scan, one.labels, run.classes, channel, lesions, run.volumes_ml, agreed)
    upright = volume.canonical(one.scan)
    image = intensity.for_channel(channel, one.scan.array, data.window_hu, data.percentiles).apply(upright.array)
    labels = volume.canonical(replace(one.scan, array=one.labels)).array
    planes.draw(output / folder_report.picture(one.case), image, labels, upright.spacing_mm)
    return [folder_report.row(one.case, trust.judged(found), volumes(one, output), agreed)]


def check_dicom_seg(files: Mapping[str, Path]) -> None:
    """InputError without highdicom, or where no scan is a DICOM series."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError("--dicom_seg needs highdicom; pip install -e '.[dicom]' brings it") from error
    studies.require_any(files, 'dicom_seg')


OUTPUTS = {  # by the name of the flag, and of the folder or table
    'volumes': Output('Also write the volume of every organ in mL, volumes.csv.', volumes, tabled=True),
    'overlays': Output(
        'Also draw contours on slices of each scan, overlays/CASE.png.',
        overlays,
        files=lambda case, classes: [f'overlays/{case}.png'],
    ),
    'probabilities': Output(
        'Also write the probability of each class, probabilities/CLASS/CASE.nii.gz, float32.',
        probabilities,
        files=lambda case, classes: [_probability_file(case, name) for name in classes],
    ),
    'report': Output(
        'Also write a page of all scans, report.html: each in three planes, volumes beside those of the training '
        'labels, and a flag without labels, how far it can be trusted; report.csv.',
        report,
        files=lambda case, classes: [folder_report.picture(case)],
        tabled=True,
        finish=folder_report.write,
    ),
    'dicom_seg': Output(
        'Also write a DICOM SEG object in the study of each DICOM series, dicom_seg/CASE.dcm; '
        "needs highdicom, pip install -e '.[dicom]'.",
        dicom_seg,
        check_dicom_seg,
        lambda case, classes: [f'dicom_seg/{case}.dcm'],
    ),
    'rtstruct': Output(
        'Also write contours as an RT Structure Set in the study of each DICOM series, rtstruct/CASE.dcm.',
        rtstruct,
        partial(studies.require_any, flag='rtstruct'),
        lambda case, classes: [f'rtstruct/{case}.dcm'],
    ),
}


def spread(marked: Bool[np.ndarray, ' n'], count: int) -> list[int]:
    """At most `count` evenly spaced indices among the marked ones, or among all if none is marked."""
    indices = np.flatnonzero(marked) if marked.any() else np.arange(len(marked))
    wanted = min(count, len(indices))
    return [int(indices[int((i + 0.5) * len(indices) / wanted)]) for i in range(wanted)]
