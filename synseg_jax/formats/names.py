"""Case and channel of a file by its name: the rule that every command uses.

p1.nii.gz, p1_0000.nii.gz, p1_image.nrrd, p1-label.nii.gz, p1.seg.nrrd    case p1
p1_0001.nii.gz beside p1_0000.nii.gz                                      its second channel, as in nnU-Net
Jäger, composed (NFC) or decomposed (NFD, as macOS unzips)                the same case
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from synseg_jax.errors import InputError, warn

LABEL_ENDINGS = ('labels?', 'masks?', 'seg', 'segmentation')
ENDING = re.compile(rf'(?<=.)([._-](image|img|scan|{"|".join(LABEL_ENDINGS)}))+(?=(_\d{{4}})?$)', re.IGNORECASE)
NUMBERED = re.compile(r'(.+)_(\d{4})')  # case and channel
MAX_CHANNELS = 10  # of a case; with more numbers than that, the numbers count cases


def nfc(text: str) -> str:
    """Unicode NFC (composed characters), in which names are compared."""
    return unicodedata.normalize('NFC', text)


def normalised(name: str) -> str:
    """The name of a class or channel for comparison: NFC, lower case, with spaces for hyphens and underscores."""
    return re.sub(r'[\s_-]+', ' ', nfc(name)).strip().lower()


def case_of(name: str) -> str:
    """The case of a file's name without suffix, with its channel number if it has one."""
    return ENDING.sub('', nfc(name))


def is_label_name(name: str) -> bool:
    """Whether a file's name without suffix ends like that of a label map."""
    ending = ENDING.search(nfc(name))
    return bool(ending and re.fullmatch('|'.join(LABEL_ENDINGS), ending[2], re.IGNORECASE))


def by_case(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """{case: path} of (name, path), sorted; raises InputError for duplicate cases and for names that are not UTF-8."""
    paths: dict[str, Path] = {}
    for name, path in files:
        require_text(path, name)
        case = case_of(name)
        if case in paths:
            raise InputError(f'{path}: the same case as {paths[case].name}; keep one of the two')
        paths[case] = path
    return dict(sorted(paths.items()))


def select_channel(files: Mapping[str, Path], number: int = 0, count: int = 1) -> dict[str, Path]:
    """{case: scan} of one channel, see `split_channels`; warns of files of others, if only `count` = 1 is read."""
    kept, others = split_channels(files, number)
    if others and count == 1:
        warn(
            '%s: another channel; of the channels of a case only %04d is read (%d files are left out)',
            *(others[0], number, len(others)),
        )
    return kept


def split_channels(files: Mapping[str, Path], number: int = 0) -> tuple[dict[str, Path], list[Path]]:
    """{case: scan} of one channel, and the files of the other channels.

    Numbers are channels if some case has a `_0000`; scans without a number are cases of one channel.  Raises InputError
    for a case that lacks the channel or has more than MAX_CHANNELS.
    """
    channels: dict[str, dict[int, Path]] = {}
    numbered = any(key.endswith('_0000') for key in files)
    for key, path in files.items():
        parts = NUMBERED.fullmatch(key) if numbered else None
        if parts and int(parts[2]) and f'{parts[1]}_0000' not in files and int(parts[2]) >= MAX_CHANNELS:
            parts = None  # e.g. a year
        case, channel = (parts[1], int(parts[2])) if parts else (key, None)
        channels.setdefault(case, {})[channel] = path
    kept = {case: _channel(case, own, number) for case, own in channels.items()}
    others = [path for case, own in channels.items() for path in own.values() if path != kept[case]]
    return dict(sorted(kept.items())), others


def _channel(case, channels, number) -> Path:
    """The file of one channel, of the {number or None: file} of a case."""
    first = next(iter(channels.values()))
    if None in channels:
        if len(channels) > 1:
            other = next(path for channel, path in channels.items() if channel is not None)
            raise InputError(f'{other}: the same case as {channels[None].name}; keep one of the two')
        return channels[None]
    if len(channels) > MAX_CHANNELS:
        raise InputError(
            f'{first}: {len(channels)} files are numbered as channels of one case, {case}; if the numbers count cases, '
            f'name them {case}_0000_0000 and so on'
        )
    if number not in channels:
        raise InputError(f'{first}: no channel {number:04d} for it; did you mean {case}_{number:04d}?')
    return channels[number]


def match_cases(labels: Mapping[str, Path], cases: Collection[str]) -> dict[str, Path]:
    """Label maps by the names of `cases`: a label map named `p1_0000` belongs to p1 unless there is a case p1_0000."""
    return by_case((key if key in cases else key.removesuffix('_0000'), path) for key, path in labels.items())


def checked_id(case: str) -> str:
    """Return `case` if it is safe as part of a file name; otherwise raise InputError."""
    if not case or case[0] in '.-' or not case.isprintable() or re.search(r'[/\\]', case):
        raise InputError(f'case id {case!r} may not become a file name; rename the case')
    return case


def require_text(path: Path, name: str = '') -> None:
    """Raise InputError for a path (or `name` of it) that is not UTF-8, since JSON files could not name it."""
    try:
        (name or str(path)).encode()
    except UnicodeEncodeError as error:
        raise InputError(f'{str(path)!r}: its name is not UTF-8; rename it') from error


def resolve_below(folder: Path, relative: str) -> Path:
    """Resolve a relative path below `folder`, matching names in NFC or NFD; it need not exist.

    Raises InputError for a path that leaves the folder.
    """
    parts = PurePosixPath(relative).parts
    if not parts or PurePosixPath(relative).is_absolute() or '..' in parts or '\0' in relative:
        raise InputError(f'{folder}: {relative!r} is not a path below this folder; move the file there')
    parent = folder
    for part in parts:
        child = parent / part
        siblings = [] if child.exists() or not parent.is_dir() else parent.iterdir()
        parent = next((path for path in siblings if nfc(path.name) == nfc(part)), child)
    return parent
