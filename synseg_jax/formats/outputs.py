"""Checks of output paths: writable, and not one of the inputs."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from synseg_jax.dicom.series_names import chosen
from synseg_jax.errors import InputError


def check(output: Path, named: Iterable[str | Path], files: Collection[Path] = (), flag: str = 'output') -> None:
    """Raise InputError if `output` is not writable, is an input, or directly contains one.

    `named` are the inputs given by flags, `files` the single scans in them. Links count as their targets.
    """
    inputs = _by_identity(files)
    check_file(output, [*files, *named], flag)
    _check_writable(output, flag)
    for entry in output.iterdir() if output.is_dir() else ():
        if (identity := _identity(entry)) in inputs:
            raise InputError(f'--{flag}={output}: contains the input {inputs[identity]}; choose another --{flag}')


def check_file(output: Path, named: Iterable[str | Path], flag: str = 'output') -> None:
    """Raise InputError if the output file or folder is one of the inputs."""
    inputs = _by_identity(named)
    if (identity := _identity(output)) in inputs:
        raise InputError(f'--{flag}={output}: is the input {inputs[identity]}; choose another --{flag}')


def check_whole(output: Path, files: Iterable[Path], flag: str = 'output') -> None:
    """Raise InputError if an input lies anywhere below `output`, which a command may replace as a whole."""
    identity = _identity(output)
    for path in files if identity else ():
        if identity in map(_identity, _with_parents(chosen(path)[0])):
            raise InputError(f'--{flag}={output}: contains the input {path}; choose another --{flag}')


def _with_parents(path) -> set[Path]:
    """A file and all folders above it, before and after resolving links."""
    return {folder for place in (path.absolute(), path.resolve()) for folder in (place, *place.parents)}


def around(files: Iterable[Path]) -> list[Path]:
    """dataset.json and label folders of the nnU-Net datasets that contain the scans."""
    datasets = {file.parent.parent for file in files if file.parent.name in ('imagesTr', 'imagesTs')}
    return [folder / part for folder in sorted(datasets) for part in ('dataset.json', 'labelsTr', 'labelsTs')]


def _by_identity(paths) -> dict[tuple[int, int], Path]:
    return {identity: path for path in map(Path, paths) if (identity := _identity(path))}


def _identity(path) -> tuple[int, int] | None:
    """Device and inode; None if the path does not exist."""
    path = chosen(path)[0]  # FOLDER of FOLDER#7
    if not path.exists():
        return None
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _check_writable(output, flag) -> None:
    existing = next(folder for folder in (output.absolute(), *output.absolute().parents) if os.path.lexists(folder))
    if not existing.is_dir():
        raise InputError(f'--{flag}={output}: {existing} is not a folder; choose another --{flag}')
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f'--{flag}={output}: {existing} is not writable; choose another --{flag}')
