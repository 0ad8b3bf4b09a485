"""Scans given by --input: files and case names, with warnings if they are not of the network's modality."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from synseg_jax.datasets import bids, dataset_json
from synseg_jax.errors import InputError, warn
from synseg_jax.formats import scan_channels, scan_file
from synseg_jax.formats.names import normalised
from synseg_jax.imaging import modality
from synseg_jax.imaging.volume import Volume


def find(path: str | Path, channels: Sequence[str]) -> dict[str, Path]:
    """{case: file} of --input (see `scan_file.inputs`), of the channel, or the first, that the network was trained on.

    Of a BIDS dataset with scans of several suffixes, `path` names one: FOLDER#T2w.

    Warns if dataset.json or DICOM headers name another modality.
    """
    named, channel = _channels(Path(path)), channels[0]
    number = _number(named, channel) if len(channels) == 1 else 0
    files = bids.scans(Path(path)) or scan_file.inputs(path, number, len(channels))
    for one, wanted in zip(named[number:], channels, strict=False):
        other = modality.differ(modality.of_channel(one), modality.of_channel(wanted))
        if other or len(channels) > 1 and normalised(one) != normalised(wanted):
            warn('--input=%s: %s by its dataset.json, given to a network for %s', path, one, wanted)
    warn_of_headers(files.values(), channel)
    return files


def warn_of_headers(files: Iterable[Path], channel: str) -> None:
    """Warn of DICOM series whose header names another modality than `channel`."""
    by_modality: dict[str, list[Path]] = {}
    for path in files:
        by_modality.setdefault(scan_file.dicom_modality(path), []).append(path)
    for name, (first, *others) in by_modality.items():
        if modality.differ(name, modality.of_channel(channel)):
            more = f' and {len(others)} more scans' if others else ''
            warn('%s%s: %s by DICOM header, given to a network for %s', first, more, name, channel)


def reader(channels: Sequence[str]) -> Callable[[Path], Volume]:
    """`scan_channels.read` that warns once of a scan with values implausible for the first of the channels."""
    warned = []

    def read(path):
        scan = scan_channels.read(path, len(channels))
        if not warned and (warning := modality.hu_warning(channels[0], scan.array)):
            warn('%s: %s (only the first such scan is named)', path, warning)
            warned.append(path)
        return scan

    return read


def _channels(path) -> tuple[str, ...]:
    """The channel names of the nnU-Net dataset that a file or folder is or lies in; none without dataset.json."""
    start = path if path.is_dir() else path.parent
    for folder in (start, start.parent) if start.name.startswith('images') else (start,):
        if (folder / dataset_json.JSON).is_file():
            try:
                return dataset_json.channel_names(folder / dataset_json.JSON)
            except InputError as error:  # the names only serve a warning
                warn('%s', error)
    return ()


def _number(channels, channel) -> int:
    """The index of the channel of that name, else of the only one of its modality, else 0."""
    by_name = [number for number, name in enumerate(channels) if normalised(name) == normalised(channel)]
    wanted = modality.of_channel(channel)
    by_modality = [number for number, name in enumerate(channels) if wanted and modality.of_channel(name) == wanted]
    return by_name[0] if by_name else by_modality[0] if len(by_modality) == 1 else 0
