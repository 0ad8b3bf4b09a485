"""The card beside exported weights: all that an evaluator needs, and nothing that names people or places.

    format        of this file
    method, pays  how it was trained: {player: {term: weight}}
    classes       names in the order of the labels 0, 1, 2, ...
    size          what networks look at: (rows, columns) of slices, or (slices, rows, columns) of volumes
    spacing_mm    to which pixels or voxels are brought, what is larger than size being seen in overlapping tiles; 0:
                  slices are resized to size
    slice_axis    axial, coronal or sagittal
    context       slices on each side that are channels beside the middle one, and their distance (0: the next ones)
    masked        whether generators see one more channel: 1 where anything is labelled, else 0
    predict       resample (labels to the scan's grid: nearest, or linear, by interpolated votes), flips (lr: the mean
                  vote on the scan and its mirror image), components (largest: the largest piece of each class but
                  those in lesions), window (of larger volumes: tiles, or middle, then anew the one window about the
                  middle of what tiles find, and nothing beyond)
    dtype         in which the networks were trained
    domains       a, b -> channel (the modality), window_hu or percentiles (what becomes 0 and 1; the rest is clipped),
                  typical (what 0 and 1 stand for in synthetic scans), center (share of rows and columns looked at)
    networks      name -> published (its name in PyTorch), sees and makes, channels (that it sees), fields (with its
                  architecture), files {name: sha256}
    segments      domain -> the networks that segment its scans, one after another; one logit a pixel is that of class 1
    translates    domain -> the generator that sees it
    functions     file -> takes (the shape of images in [0, 1]), sha256; segment_* gives class probabilities,
                  translate_* images of the other domain in [0, 1]
    packages      versions that made all this

Networks see images in [-1, 1], 2 x - 1 of what is in [0, 1]; generators make such images.  `interop/torch_weights.py`
says which tensors a file holds.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from synseg_jax.errors import InputError
from synseg_jax.files import write_json
from synseg_jax.interop.tensors import SUFFIXES

CARD = 'card.json'
FORMAT = 1
# Our names of networks -> those of the published code, as far as it has them: its A is our a, its D_A judges b-images,
# and its Seg_A segments the b-like images that G_A makes.
PUBLISHED = {
    'g_ab': 'G_A',
    'g_ba': 'G_B',
    'd_b': 'D_A',
    'd_a': 'D_B',
    's_b': 'Seg_A',
    's_a': 'Seg_B',
    's_shared': 'Seg_shared',
    's_head_b': 'Seg_head_A',
    's_head_a': 'Seg_head_B',
}


@dataclass(frozen=True)
class Card:
    """What an exported stage says of itself, and the folder that it lies in."""

    folder: Path
    method: str
    pays: Mapping[str, Mapping[str, float]]
    classes: tuple[str, ...]
    size: tuple[int, ...]
    spacing_mm: float
    slice_axis: str
    context: Mapping[str, Any]
    masked: bool
    predict: Mapping[str, Any]
    dtype: str
    domains: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Mapping[str, Any]]
    segments: Mapping[str, list[str]]
    translates: Mapping[str, str]
    functions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def save(self) -> None:
        """Writes card.json into the folder, whole or not at all."""
        content = asdict(self)
        del content['folder']
        write_json(self.folder / CARD, content)

    @classmethod
    def load(cls, folder: Path) -> 'Card':
        """The card of an exported folder; InputError naming the field that is wrong."""
        path = folder / CARD
        content = _content(path)
        if content.get('format') != FORMAT:
            raise InputError(f'{path}: format {content.get("format")!r}, not {FORMAT}; export again with this version')
        for name, kind in _FIELDS.items():
            if not isinstance(content.get(name), kind):
                raise InputError(f'{path}: field {name!r} is missing or wrong; export again')
        for part, fields in _PARTS.items():
            for name, entry in content[part].items():
                _check(path, f'{part}.{name}', entry, fields)
        content = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name in _FIELDS}
        return cls(folder=folder, **content)

    def weights(self, network: str) -> Path:
        """The file of a network's tensors, once its checksum is verified; InputError where it is another."""
        files = self.networks[network]['files']
        name = next((name for suffix in SUFFIXES for name in sorted(files) if name.endswith(suffix)), None)
        if name is None or Path(name).name != name:
            raise InputError(f'{self.folder / CARD}: {network} has no file that can be read; export again')
        path = self.folder / name
        if not path.is_file():
            raise InputError(f'{path}: no such file, and {CARD} promises it; copy the whole folder')
        if sha256(path) != files[name]:
            raise InputError(f'{path}: damaged or changed, its sha256 is not that of {CARD}; copy it again')
        return path


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


_FIELDS = dict.fromkeys(
    ('pays', 'context', 'predict', 'domains', 'networks', 'segments', 'translates', 'functions'), dict
)
_FIELDS |= dict.fromkeys(('method', 'slice_axis', 'dtype'), str)
_FIELDS |= {'classes': list, 'size': list, 'spacing_mm': (int, float), 'masked': bool, 'format': int}
_PARTS = {
    'domains': {'channel': str, 'center': (int, float)},
    'networks': {'fields': dict, 'channels': int, 'files': dict},
}


def _content(path):
    if not path.is_file():
        raise InputError(f'{path}: no such file; give the folder that synseg_jax.export wrote')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise InputError(f'{path}: not readable as JSON ({error}); export again') from error
    if not isinstance(content, dict):
        raise InputError(f'{path}: not a card; export again')
    return content


def _check(path, where, entry, fields):
    for name, kind in fields.items():
        if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
            raise InputError(f'{path}: field {where}.{name} is missing or wrong; export again')
