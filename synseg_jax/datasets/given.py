"""The scans that networks are given: which files, by which names, and whether they are of the modality they know."""

from collections.abc import Callable, Iterable
from pathlib import Path

from synseg_jax.datasets import dataset_json
from synseg_jax.errors import InputError, warn
from synseg_jax.formats import scan_file
from synseg_jax.formats.names import normalised
from synseg_jax.imaging import modality
from synseg_jax.imaging.volume import Volume


def scans(path: str | Path, channel: str) -> dict[str, Path]:
    """{case: file} of --input, as `volume.inputs` finds them, of the channel that a network knows.

    Where dataset.json or DICOM headers say that they are of another modality, a warning names both.
    """
    said = _channels(Path(path))
    number = _number(said, channel)
    files = scan_file.inputs(path, number)
    if said and modality.differ(modality.of_channel(said[number]), modality.of_channel(channel)):
        warn('--input=%s: %s by its dataset.json, given to a network for %s', path, said[number], channel)
    warn_of_headers(files.values(), channel)
    return files


def warn_of_headers(files: Iterable[Path], channel: str) -> None:
    """Warns of DICOM series that are of another modality than a network knows."""
    tagged: dict[str, list[Path]] = {}
    for path in files:
        tagged.setdefault(scan_file.dicom_modality(path), []).append(path)
    for tag, (first, *others) in tagged.items():
        if modality.differ(tag, modality.of_channel(channel)):
            more = f' and {len(others)} more scans' if others else ''
            warn('%s%s: %s by DICOM header, given to a network for %s', first, more, tag, channel)


def reader(channel: str) -> Callable[[Path], Volume]:
    """Reads scans as `volume.read`; of those whose values are unlike a modality, the first is warned of."""
    told = []

    def read(path):
        scan = scan_file.read(path)
        if not told and (odd := modality.hu_warning(channel, scan.array)):
            warn('%s: %s (said of the first such scan alone)', path, odd)
            told.append(path)
        return scan

    return read


def _channels(path) -> tuple[str, ...]:
    """The channels that the dataset.json of an nnU-Net folder, or of one that a file or folder lies in, names."""
    place = path if path.is_dir() else path.parent
    for folder in (place, place.parent) if place.name.startswith('images') else (place,):
        if (folder / dataset_json.JSON).is_file():
            try:
                return dataset_json.channel_names(folder / dataset_json.JSON)
            except InputError as error:  # needed for a warning alone
                warn('%s', error)
    return ()


def _number(said, channel) -> int:
    """The number of the channel of that name, or else of the only one of its modality, or else 0."""
    by_name = [number for number, name in enumerate(said) if normalised(name) == normalised(channel)]
    known = modality.of_channel(channel)
    alike = [number for number, name in enumerate(said) if known and modality.of_channel(name) == known]
    return by_name[0] if by_name else alike[0] if len(alike) == 1 else 0
