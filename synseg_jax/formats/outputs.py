"""Where commands write: a folder that can be written to and is none of what they read."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from synseg_jax.dicom.series_names import chosen
from synseg_jax.errors import InputError


def check(output: Path, named: Iterable[str | Path], files: Collection[Path] = (), flag: str = 'output') -> None:
    """InputError if `output` cannot be written to, is an input, or directly holds one.

    `named` are the inputs that flags name, `files` the single ones found there.  Symbolic and hard links are the same
    as what they link to.
    """
    inputs = _by_identity(files)
    check_file(output, [*files, *named], flag)
    _check_writable(output, flag)
    for entry in output.iterdir() if output.is_dir() else ():
        if (held := _identity(entry)) in inputs:
            raise InputError(f'--{flag}={output}: holds the input {inputs[held]}; choose another --{flag}')


def check_file(output: Path, named: Iterable[str | Path], flag: str = 'output') -> None:
    """InputError if a file or folder to be written is one of the inputs."""
    inputs = _by_identity(named)
    if (own := _identity(output)) in inputs:
        raise InputError(f'--{flag}={output}: is the input {inputs[own]}; choose another --{flag}')


def check_whole(output: Path, files: Iterable[Path], flag: str = 'output') -> None:
    """InputError if an input lies anywhere in the folder `output`, all of which a command may replace."""
    own = _identity(output)
    for path in files if own else ():
        if own in map(_identity, _way(chosen(path)[0])):
            raise InputError(f'--{flag}={output}: holds the input {path}; choose another --{flag}')


def _way(path) -> set[Path]:
    """A file and the folders above it, where it is named and where it lies."""
    return {folder for place in (path.absolute(), path.resolve()) for folder in (place, *place.parents)}


def around(files: Iterable[Path]) -> list[Path]:
    """What describes and labels scans that lie in an nnU-Net dataset."""
    datasets = {file.parent.parent for file in files if file.parent.name in ('imagesTr', 'imagesTs')}
    return [folder / part for folder in sorted(datasets) for part in ('dataset.json', 'labelsTr', 'labelsTs')]


def _by_identity(paths) -> dict[tuple[int, int], Path]:
    return {identity: path for path in map(Path, paths) if (identity := _identity(path))}


def _identity(path) -> tuple[int, int] | None:
    """The same for all names of one file or folder; None where there is none."""
    place = chosen(path)[0]  # the folder of FOLDER#7
    if not place.exists():
        return None
    found = place.stat()
    return found.st_dev, found.st_ino


def _check_writable(output, flag) -> None:
    place = next(folder for folder in (output.absolute(), *output.absolute().parents) if os.path.lexists(folder))
    if not place.is_dir():
        raise InputError(f'--{flag}={output}: {place} is no folder; choose another --{flag}')
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f'--{flag}={output}: {place} may not be written to; choose another --{flag}')
