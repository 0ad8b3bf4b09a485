"""What is written of a segmented scan beside its labels, every kind in a folder of its own."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.files.scan_errors import reading_scan
from synseg_jax.formats import scan_file
from synseg_jax.imaging import slices, volume
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.trained_model import Segmenter
from synseg_jax.reports import figures

SHOWN = 8  # slices in a picture
STEPS = 2**16  # of probabilities; what lies between them is noise that makes the files five times as large


@dataclass(frozen=True, eq=False)
class Segmented:
    """A scan, the class of every voxel as an index, and where both come from."""

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


def probabilities(one: Segmented, output: Path) -> None:
    """`probabilities/CLASS/CASE.nii.gz`, float32: votes interpolated, with sum 1, and 0 where nobody looked."""
    for label, name in enumerate(one.classes):
        folder = output / 'probabilities' / re.sub(r'[^\w .+-]', '_', name)
        folder.mkdir(parents=True, exist_ok=True)
        found = one.trained.probability(one.scan, one.domain, label)
        one.write(folder / f'{one.case}.nii.gz', np.rint(found * STEPS) / np.float32(STEPS), one.scan)


def overlays(one: Segmented, output: Path) -> None:
    """`overlays/CASE.png`: slices spread over what is labelled, as far as anybody looked, with their contours."""
    frame = one.trained.run.frame(one.scan, one.domain, (), 0.0)
    upright = volume.canonical(replace(one.scan, array=one.labels))
    labels = slices.to_stack(upright.array, frame.axis)[:, *frame.seen]
    spacing = slices.stack_spacing(upright.spacing_mm, frame.axis)[1:]
    shown = [
        figures.Scan(f'slice {i + 1} of {len(labels)}', frame.stack[i], None, labels[i], spacing)
        for i in spread(labels.any((1, 2)), SHOWN)
    ]
    figures.overlays(output / 'overlays' / f'{one.case}.png', shown, one.classes)


def dicom_seg(one: Segmented, output: Path) -> None:
    """`dicom_seg/CASE.dcm`: one segment a class, in the study of the series."""
    from synseg_jax.dicom import dicom_seg  # needs an optional package

    _check_series(one.file)
    with reading_scan(one.file):
        files = series.files(one.file)
    path, labels = output / 'dicom_seg' / f'{one.case}.dcm', replace(one.scan, array=one.labels)
    dicom_seg.write(path, labels, files, one.classes, one.trained.run.folder.resolve().name)


EXTRAS: dict[str, Callable[[Segmented, Path], None]] = {
    'probabilities': probabilities,
    'overlays': overlays,
    'dicom_seg': dicom_seg,
}


def check_dicom(files: Mapping[str, Path]) -> None:
    """InputError if DICOM SEG cannot be written for any of the scans."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError("--dicom_seg needs highdicom; pip install -e '.[dicom]' brings it") from error
    if files and not any(map(_is_dicom, files.values())):
        _check_series(next(iter(files.values())))


def _is_dicom(file) -> bool:
    return scan_file.suffix(file) in ('/', '.dcm')


def _check_series(file) -> None:
    if not _is_dicom(file):
        raise InputError(f'--dicom_seg: {file} is no DICOM series, to whose study labels could be added')


def spread(marked: Bool[np.ndarray, ' n'], count: int) -> list[int]:
    """At most `count` of the places that are marked, evenly among them; of all places where none is."""
    places = np.flatnonzero(marked) if marked.any() else np.arange(len(marked))
    wanted = min(count, len(places))
    return [int(places[int((i + 0.5) * len(places) / wanted)]) for i in range(wanted)]
