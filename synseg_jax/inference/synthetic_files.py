"""Files of synthetic scans: NIfTI on the grid of their source, or a DICOM series in its study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from synseg_jax.dicom import series_writer
from synseg_jax.errors import InputError, known
from synseg_jax.formats import scan_file
from synseg_jax.imaging import modality
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import studies

FORMATS = ('nnunet', 'scans', 'dicom')  # of --format
FLAG = 'format=dicom'


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A synthetic scan, the file and scan that it was made of, its channels, and the name of the stage that made it."""

    case: str
    file: Path
    scan: Volume
    arrays: Sequence[Shaped[np.ndarray, 'x y z']]  # one of each channel
    channels: Sequence[str]
    stage: str


def nifti(one: Synthetic, folder: Path, write: Callable = scan_file.write) -> None:
    """`CASE.nii.gz`, or `CASE_0000.nii.gz` and so on of several channels."""
    for number, array in enumerate(one.arrays):
        channel = f'_{number:04d}' if len(one.arrays) > 1 else ''
        write(folder / f'{one.case}{channel}.nii.gz', array, one.scan)


def dicom(one: Synthetic, folder: Path) -> None:
    """`CASE/0001.dcm` and so on, in the study of the series that it was made of."""
    frames = studies.slices(one.file, FLAG)
    series_writer.write(folder / one.case, one.arrays[0], frames, modality.of_channel(one.channels[0]), one.stage)


def writer(
    form: str, write: Callable, files: Mapping[str, Path], channels: Sequence[str]
) -> Callable[[Synthetic, Path], None]:
    """`nifti` by `write`, or `dicom` if `form` is that; of synthetic scans of `channels`, made of `files`.

    InputError where none of them is a DICOM series, or the channel is neither CT nor MR, or one of several.
    """
    if form != 'dicom':
        return partial(nifti, write=write)
    if len(channels) > 1:
        raise InputError(f'--{FLAG}: a synthetic scan has {len(channels)} channels here; use --format=scans')
    series_writer.check(modality.of_channel(channels[0]), channels[0])
    studies.require_any(files, FLAG)
    return dicom


def check_flags(form: str, real: str | None, straightened: bool) -> None:
    """InputError for an unknown --format, and for flags that it does not have."""
    known('format', form, FORMATS)
    if real and form != 'nnunet':
        raise InputError(f'--real needs --format=nnunet; leave --format={form} out')
    if straightened and form == 'dicom':
        raise InputError('--straighten resamples, --format=dicom keeps the slices of the series; leave one of them out')
