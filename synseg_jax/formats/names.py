"""Names of cases: the one rule by which every command tells from a file's name which case, and channel, it belongs to.

p1.nii.gz, p1_0000.nii.gz, p1_image.nrrd, p1-label.nii.gz, p1.seg.nrrd    case p1
p1_0001.nii.gz beside p1_0000.nii.gz                                      its second channel, as nnU-Net counts them
Jäger, composed (NFC) or decomposed (NFD, as macOS unzips)                the same case
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from synseg_jax.errors import InputError, warn

OF_LABELS = ('labels?', 'masks?', 'seg', 'segmentation')
ENDING = re.compile(rf'(?<=.)([._-](image|img|scan|{"|".join(OF_LABELS)}))+(?=(_\d{{4}})?$)', re.IGNORECASE)
NUMBERED = re.compile(r'(.+)_(\d{4})')  # a case, and the number of its channel
MOST = 10  # channels of a case; with more numbers than that, they count cases


def nfc(text: str) -> str:
    """Text with composed characters, in which names are compared."""
    return unicodedata.normalize('NFC', text)


def plain(name: str) -> str:
    """The name of a class or channel without what makes no difference between names."""
    return re.sub(r'[\s_-]+', ' ', nfc(name)).strip().lower()


def case_of(name: str) -> str:
    """The case that a file's name without suffix means, with the number of its channel if it has one."""
    return ENDING.sub('', nfc(name))


def of_labels(name: str) -> bool:
    """Whether a file's name without suffix says that it holds labels."""
    found = ENDING.search(nfc(name))
    return bool(found and re.fullmatch('|'.join(OF_LABELS), found[2], re.IGNORECASE))


def by_case(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Paths by the cases that their names mean, sorted; InputError for two that mean the same, and names not UTF-8."""
    found: dict[str, Path] = {}
    for name, path in named:
        require_text(path, name)
        key = case_of(name)
        if key in found:
            raise InputError(f'{path}: the same case as {found[key].name}; keep one of the two')
        found[key] = path
    return dict(sorted(found.items()))


def of_channel(scans: Mapping[str, Path], number: int = 0) -> dict[str, Path]:
    """The scans of one channel by case, as `split_channels` finds them; warns of those that are left out."""
    kept, others = split_channels(scans, number)
    if others:
        warn(
            '%s: another channel; of the channels of a case only %04d is read (%d files are left out)',
            *(others[0], number, len(others)),
        )
    return kept


def split_channels(scans: Mapping[str, Path], number: int = 0) -> tuple[dict[str, Path], list[Path]]:
    """The scans of one channel by case, and the files of the others.

    Numbers count channels where a case has a `_0000`.  Scans without a number are cases of one channel.
    InputError for a case that lacks the channel, or has more of them than there can be.
    """
    channels: dict[str, dict[int, Path]] = {}
    numbered = any(key.endswith('_0000') for key in scans)
    for key, path in scans.items():
        parts = NUMBERED.fullmatch(key) if numbered else None
        if parts and int(parts[2]) and f'{parts[1]}_0000' not in scans and int(parts[2]) >= MOST:
            parts = None  # a year, say
        case, channel = (parts[1], int(parts[2])) if parts else (key, None)
        channels.setdefault(case, {})[channel] = path
    kept = {case: _of_case(case, own, number) for case, own in channels.items()}
    others = [path for case, own in channels.items() for path in own.values() if path != kept[case]]
    return dict(sorted(kept.items())), others


def _of_case(case, channels, number) -> Path:
    """One channel's file of a case's {number or None: file}."""
    first = next(iter(channels.values()))
    if None in channels:
        if len(channels) > 1:
            other = next(path for channel, path in channels.items() if channel is not None)
            raise InputError(f'{other}: the same case as {channels[None].name}; keep one of the two')
        return channels[None]
    if len(channels) > MOST:
        raise InputError(
            f'{first}: {len(channels)} files are numbered as channels of one case, {case}; if the numbers count cases, '
            f'name them {case}_0000_0000 and so on'
        )
    if number not in channels:
        raise InputError(f'{first}: no channel {number:04d} for it; did you mean {case}_{number:04d}?')
    return channels[number]


def as_known(named: Mapping[str, Path], known: Collection[str]) -> dict[str, Path]:
    """The same by the names that are `known`: `p1_0000`, which a label map may be called, is p1 unless it is known."""
    return by_case((key if key in known else key.removesuffix('_0000'), path) for key, path in named.items())


def checked_id(case: str) -> str:
    """`case`, if it may become part of a file name; else InputError."""
    if not case or case[0] in '.-' or not case.isprintable() or re.search(r'[/\\]', case):
        raise InputError(f'case id {case!r} may not become a file name; rename the case')
    return case


def require_text(path: Path, name: str = '') -> None:
    """InputError for a path, or a name of it alone, that is not UTF-8: no record of what was read could name it."""
    try:
        (name or str(path)).encode()
    except UnicodeEncodeError as error:
        raise InputError(f'{str(path)!r}: its name is not UTF-8; rename it') from error


def below(folder: Path, relative: str) -> Path:
    """The path that a file in `folder` gives, found whatever the form of its characters; it need not exist.

    InputError for a path that leaves the folder.
    """
    parts = PurePosixPath(relative).parts
    if not parts or PurePosixPath(relative).is_absolute() or '..' in parts or '\0' in relative:
        raise InputError(f'{folder}: {relative!r} is no path below this folder; bring the file there')
    place = folder
    for part in parts:
        here = place / part
        alike = [] if here.exists() or not place.is_dir() else place.iterdir()
        place = next((path for path in alike if nfc(path.name) == nfc(part)), here)
    return place
