"""Scans whose study an output can be added to: DICOM series alone."""

from collections.abc import Mapping
from pathlib import Path

from synseg_jax.dicom import series
from synseg_jax.dicom.frames import Slice
from synseg_jax.errors import InputError
from synseg_jax.files.scan_errors import reading_scan
from synseg_jax.formats import scan_file


def slices(file: Path, flag: str) -> list[Slice]:
    """The frames of the series `file`, to whose study --`flag` adds; InputError for other scans."""
    _require_series(file, flag)
    with reading_scan(file):
        return series.slices(file)


def require_any(files: Mapping[str, Path], flag: str) -> None:
    """InputError where there are scans, none of them a series."""
    if files and not any(map(_is_series, files.values())):
        _require_series(next(iter(files.values())), flag)


def _require_series(file, flag) -> None:
    if not _is_series(file):
        raise InputError(f'--{flag}: {file} is no DICOM series, to whose study anything could be added')


def _is_series(file) -> bool:
    return scan_file.suffix(file) in ('/', '.dcm')
