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

Networks see images in [-1, 1], 2 x - 1 of what is in [0, 1]; generators make such images.  `exchange/torch_weights.py`
says which tensors a file holds.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from synseg_jax.errors import InputError
from synseg_jax.exchange.tensors import SUFFIXES
from synseg_jax.files import read_json, schema, write_json
from synseg_jax.files.stage_schema import Axis, Classes, Context, Fields, Length, Percentiles, Range, Share, Size, Some
from synseg_jax.imaging import intensity
from synseg_jax.objective.methods import METHODS

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


class Format(TypedDict):
    """The version of this file."""

    format: int


class Prediction(TypedDict):
    """How labels come out of probabilities; exports of earlier versions know tiles alone."""

    batch: NotRequired[Some]
    resample: Literal['nearest', 'linear']
    flips: Literal['', 'lr']
    components: Literal['', 'largest']
    window: NotRequired[Literal['tiles', 'middle']]
    lesions: list[str]


class Domain(TypedDict):
    """A modality, and what of its scans is looked at."""

    channel: str
    center: Share
    window_hu: NotRequired[Range]
    percentiles: NotRequired[Percentiles]
    typical: NotRequired[Range]


class Network(TypedDict):
    """A network, and the files of its tensors with their checksums."""

    channels: Some
    fields: Fields
    files: dict[str, str]


@dataclass(frozen=True)
class Card:
    """What an exported stage says of itself, and the folder that it lies in."""

    folder: Path
    method: str
    pays: Mapping[str, Mapping[str, float | list[str | float]]]
    classes: Classes
    size: Size
    spacing_mm: Length
    slice_axis: Axis
    context: Context
    masked: bool
    predict: Prediction
    dtype: str
    domains: Mapping[str, Domain]
    networks: Mapping[str, Network]
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
        path, again = folder / CARD, 'export again with this version'
        if not path.is_file():
            raise InputError(f'{path}: no such file; give the folder that synseg_jax.export wrote')
        content = read_json(path, again)
        if (form := schema.conform(content, Format, str(path), again)['format']) != FORMAT:
            raise InputError(f'{path}: format {form}, not {FORMAT}; {again}')
        card = cls(folder=folder, **schema.conform(content, cls, str(path), again))
        if wrong := next(card.contradictions(), ''):
            raise InputError(f'{path}: {wrong}; {again}')
        return card

    def contradictions(self) -> Iterator[str]:
        """What fields say against one another, so that networks could not be applied, with the fields' names."""
        if self.method not in METHODS:
            yield f'method: {self.method!r} is none, known: {", ".join(sorted(METHODS))}'
        for name in self.networks.keys() - PUBLISHED:
            yield f'networks.{name}: no such network, known: {", ".join(PUBLISHED)}'
        for name in self.predict['lesions']:
            if name not in self.classes:
                yield f'predict.lesions: {name} is not among the classes'
        for name, domain in self.domains.items():
            if name not in ('a', 'b'):
                yield f'domains.{name}: no such domain, known: a, b'
            window = 'window_hu' if intensity.is_ct(domain['channel']) else 'percentiles'
            if window not in domain:
                yield f'domains.{name}.{window} is missing'
        images = 1 + 2 * self.context['slices'] + self.masked
        logits = {2: (1, 2)}.get(len(self.classes), (len(self.classes),))  # one tells two classes apart
        for domain, names in self.segments.items():
            yield from self._mismatches(f'segments.{domain}', names, images, logits)
        for domain, name in self.translates.items():
            yield from self._mismatches(f'translates.{domain}', [name], images, (images,))

    def _mismatches(self, field, names, channels, wanted) -> Iterator[str]:
        """Why networks one after another do not take `channels`, or make other numbers than `wanted`."""
        if field.partition('.')[2] not in self.domains or not names:
            yield f'{field}: no such domain, or no network for it'
        for name in names:
            if name not in self.networks:
                yield f'{field}: no network {name}'
                return
            network = self.networks[name]
            if network['channels'] != channels:
                yield f'networks.{name}.channels: {channels} is wanted, found {network["channels"]}'
            channels = _made(network)
        if channels not in wanted:
            yield f'{field}: {channels} channels, not {wanted[-1]}, come out of its networks'

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


def _made(network) -> int:
    """The channels that a network makes: its features, where it has no head."""
    if network['fields']['architecture'] == 'shared':
        return network['channels']
    return network['fields'].get('channels') or network['fields'].get('width', 0)


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
