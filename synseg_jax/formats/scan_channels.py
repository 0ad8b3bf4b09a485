"""Scans of several channels, such as T1 and T2: files CASE_0000, CASE_0001 and so on, on one grid."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synseg_jax.errors import InputError
from synseg_jax.formats import names, scan_file
from synseg_jax.formats.grid import check_grid
from synseg_jax.imaging.volume import Volume, canonical


def files(first: Path, count: int) -> list[Path]:
    """The files of the first `count` channels of a scan, by that of the first; InputError where one is missing."""
    if count == 1:
        return [first]
    stem = scan_file.stem(first)
    numbered = names.NUMBERED.fullmatch(stem)
    if not numbered or int(numbered[2]):
        raise InputError(
            f'{first}: {count} channels of it are wanted (data.channels); name their files {stem}_0000, {stem}_0001 '
            'and so on'
        )
    ending = first.name[len(stem) :]
    found = [first.with_name(f'{numbered[1]}_{number:04d}{ending}') for number in range(count)]
    for path in found:
        if not scan_file.exists(path):
            raise InputError(f'{path}: no such file, though {count} channels are wanted (data.channels); add it')
    return found


def read(first: Path, count: int = 1) -> Volume:
    """Read a scan with the first `count` channels; InputError unless all lie on one grid."""
    paths = files(first, count)
    return together([scan_file.read(path) for path in paths], list(map(str, paths)))


def grid(first: Path, count: int = 1) -> Volume:
    """The grid of a scan from its headers; InputError unless those of all channels agree."""
    paths = files(first, count)
    return together([scan_file.grid(path) for path in paths], list(map(str, paths)))


def together(channels: Sequence[Volume], named: Sequence[str]) -> Volume:
    """One scan of its channels, called `named` in errors; InputError unless they lie on one grid."""
    first, *others = channels
    for name, other in zip(named[1:], others, strict=True):
        check_grid(canonical(first), canonical(other), name, 'channel')
    return replace(first, others=tuple(others)) if others else first


def present(first: Path, count: int = 1) -> list[Path]:
    """`files`, but the first alone where one is missing, as of a scan whose channels are synthetic."""
    try:
        return files(first, count)
    except InputError:
        return [first]
