"""Files of synthetic scans: NIfTI on the grid of their source, or a DICOM series in its study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from synseg_jax.dicom import series_writer
from synseg_jax.formats import scan_file
from synseg_jax.imaging import modality
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import studies

FLAG = 'format=dicom'


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A synthetic scan of a channel, the file and scan that it was made of, and the name of the stage that made it."""

    case: str
    file: Path
    scan: Volume
    array: Shaped[np.ndarray, 'x y z']
    channel: str
    stage: str


def nifti(one: Synthetic, folder: Path, write: Callable = scan_file.write) -> None:
    """`CASE.nii.gz`."""
    write(folder / f'{one.case}.nii.gz', one.array, one.scan)


def dicom(one: Synthetic, folder: Path) -> None:
    """`CASE/0001.dcm` and so on, in the study of the series that it was made of."""
    frames = studies.slices(one.file, FLAG)
    series_writer.write(folder / one.case, one.array, frames, modality.of_channel(one.channel), one.stage)


def check_dicom(files: Mapping[str, Path], channel: str) -> None:
    """InputError where no scan is a DICOM series, or `channel`, that of the synthetic scans, is neither CT nor MR."""
    series_writer.check(modality.of_channel(channel), channel)
    studies.require_any(files, FLAG)
