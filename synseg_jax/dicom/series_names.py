"""Recognising DICOM files, and names of series: FOLDER, or FOLDER#7 if it holds several."""

from pathlib import Path

HEAD = 512  # bytes to recognise a file by
MAGIC = b'DICM'


def chosen(path: Path) -> tuple[Path, str]:
    """The folder or file of a path, and the series number of `FOLDER#7`, else ''."""
    if '#' in path.name and not path.exists():
        name, _, number = path.name.rpartition('#')
        return path.with_name(name), number
    return path, ''


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix or its first bytes."""
    if path.suffix.lower() == '.dcm':
        return True
    first = head(path)
    return first[128:132] == MAGIC or _without_preamble(first)


def head(path: Path) -> bytes:
    """The first `HEAD` bytes of a file."""
    with path.open('rb') as file:
        return file.read(HEAD)


def _without_preamble(first: bytes) -> bool:
    """Whether bytes start with two ordered elements of group 2 or 8, as a little-endian data set without preamble."""
    explicit = first[4:6].isalpha() and first[4:6].isupper()
    end = 8 + int.from_bytes(first[6:8] if explicit else first[4:8], 'little')
    second = first[end : end + 4]
    ordered = int.from_bytes(first[2:4], 'little') < int.from_bytes(second[2:], 'little')
    return first[:2] in (b'\x02\0', b'\x08\0') and second[:2] == first[:2] and ordered
