"""card.json, the description of exported weights: all that an evaluator needs, and no names of people or folders.

    format        version of this file
    method, loss_weights  how it was trained: {player: {term: weight}}
    classes       class names in the order of the labels 0, 1, 2, ...
    size          input size of the networks: (rows, columns) of slices, or (slices, rows, columns) of volumes
    spacing_mm    pixels or voxels are resampled to this spacing, and larger images processed in overlapping tiles;
                  0: slices are resized to size
    cut_about     where training images were cropped; body: at a spacing_mm, networks are given the window of size about
                  the body (`imaging/body.py`), enlarged as far as the body reaches
    antialias     whether images are smoothed before they are made smaller (`imaging/slices.py`)
    bias_correction  whether scans, but CT, are divided by their bias field (`imaging/bias_field.py`, N4)
    slice_axis    axial, coronal or sagittal
    context       number of neighbouring slices on each side, as channels, and their distance (0: adjacent slices)
    label_channel  whether generators have a further input channel: 1 in labelled pixels, else 0
    predict       resample (to the scan's grid: nearest labels, or linear probabilities), flips (lr: mean probability of
                  the scan and its mirror image), rotate, zoom, gamma (mean probability of these test-time views, see
                  inference/views.py), components (largest: only the largest component of each class except lesions),
                  holes (fill: background enclosed by a class becomes that class; slices: in axial slices too), darkest
                  and brightest (background where a target scan, in [0, 1] and smoothed, is darker or brighter), window
                  (of larger volumes: tiles; middle: tiles, then only the window about the middle of the largest
                  component)
    dtype         compute type in training
    domains       a, b -> channel (the modality), window_hu or percentiles (intensities that become 0 and 1; clipped
                  outside), typical (intensities of 0 and 1 in synthetic scans), center (central share of rows and
                  columns given to the networks), others (the same of further channels on the same grid; all channels
                  of one slice come before those of the next)
    networks      name -> published (its name in PyTorch), sees and makes (input and output), channels (of the input),
                  fields (architecture and its options), files {name: sha256}
    segments      domain -> the networks that segment its scans, applied in sequence; a single logit is that of class 1
    translates    domain -> the generator that takes its images
    functions     file -> takes (input shape; images in [0, 1]), sha256; segment_* returns class probabilities,
                  translate_* images of the other domain in [0, 1]
    packages      versions used in the export

The input of the networks is in [-1, 1], 2 x - 1 of images in [0, 1], and so is the output of generators.  The tensors
in the files are described in `exchange/torch_weights.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from synseg_jax.errors import InputError
from synseg_jax.exchange.tensors import SUFFIXES
from synseg_jax.files import read_json, schema, write_json
from synseg_jax.files.schema import between
from synseg_jax.files.stage_schema import Axis, Classes, Context, Fields, Length, Percentiles, Range, Share, Size, Some
from synseg_jax.imaging import intensity
from synseg_jax.objective.methods import METHODS

CARD = 'card.json'
FORMAT = 2
RENAMED = {'pays': 'loss_weights', 'masked': 'label_channel'}  # fields of format 1, by their name since
# Our network names -> those of the published code where it has the network.  Its A is our a; its D_A discriminates
# b-images, and its Seg_A segments the synthetic b-images of G_A.
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
    """The version field, checked before all others."""

    format: int


class Prediction(TypedDict):
    """Prediction options; exports of earlier versions have no batch, window, views, holes, darkest or brightest."""

    batch: NotRequired[Some]
    resample: Literal['nearest', 'linear']
    flips: Literal['', 'lr']
    components: Literal['', 'largest']
    window: NotRequired[Literal['tiles', 'middle']]
    holes: NotRequired[Literal['', 'fill', 'slices']]
    darkest: NotRequired[Annotated[float, between(0, 1)]]
    brightest: NotRequired[Annotated[float, between(0, 1)]]
    rotate: NotRequired[Annotated[float, between(0, 90)]]
    zoom: NotRequired[Annotated[float, between(1, 2)]]
    gamma: NotRequired[Annotated[float, between(1, 4)]]
    lesions: list[str]


class Channel(TypedDict):
    """A channel of a modality, and its intensity normalisation."""

    channel: str
    window_hu: NotRequired[Range]
    percentiles: NotRequired[Percentiles]
    typical: NotRequired[Range]


class OtherChannel(Channel):
    """A further channel, with its intensities of 0 and 1 in synthetic scans."""

    typical: Range


class Domain(Channel):
    """A modality: its (first) channel, the central share given to the networks, and its other channels."""

    center: Share
    others: NotRequired[list[OtherChannel]]


class Network(TypedDict):
    """A network, and the files of its weights with their checksums."""

    channels: Some
    fields: Fields
    files: dict[str, str]


@dataclass(frozen=True)
class Card:
    """The content of card.json, described above, and its folder."""

    folder: Path
    method: str
    loss_weights: Mapping[str, Mapping[str, float | list[str | int | float]]]
    classes: Classes
    size: Size
    spacing_mm: Length
    slice_axis: Axis
    context: Context
    label_channel: bool
    predict: Prediction
    dtype: str
    domains: Mapping[str, Domain]
    networks: Mapping[str, Network]
    segments: Mapping[str, list[str]]
    translates: Mapping[str, str]
    functions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    cut_about: Literal['labels', 'lesion', 'body'] = 'labels'
    antialias: bool = False
    bias_correction: bool = False
    format: int = FORMAT

    def save(self) -> None:
        """Write card.json atomically."""
        content = asdict(self)
        del content['folder']
        write_json(self.folder / CARD, content)

    @classmethod
    def load(cls, folder: Path) -> 'Card':
        """Read the card of an exported folder; InputError names the invalid field."""
        path, remedy = folder / CARD, 'export again with this version'
        if not path.is_file():
            raise InputError(f'{path}: no such file; give the folder that synseg_jax.export wrote')
        content = read_json(path, remedy)
        version = schema.conform(content, Format, str(path), remedy)['format']
        if version not in (1, FORMAT):
            raise InputError(f'{path}: format {version}, not {FORMAT}; {remedy}')
        if version == 1:
            content = {RENAMED.get(name, name): value for name, value in content.items()}
        card = cls(folder=folder, **schema.conform(content, cls, str(path), remedy))
        if error := next(card.inconsistencies(), ''):
            raise InputError(f'{path}: {error}; {remedy}')
        return card

    def inconsistencies(self) -> Iterator[str]:
        """Fields that are unknown or inconsistent, so that the networks could not be applied; one line each."""
        if self.method not in METHODS:
            yield f'method: unknown {self.method!r}, known: {", ".join(sorted(METHODS))}'
        for name in self.networks.keys() - PUBLISHED:
            yield f'networks.{name}: unknown network, known: {", ".join(PUBLISHED)}'
        for name in self.predict['lesions']:
            if name not in self.classes:
                yield f'predict.lesions: {name} is not one of the classes'
        for name, domain in self.domains.items():
            if name not in ('a', 'b'):
                yield f'domains.{name}: unknown domain, known: a, b'
            for channel in (domain, *domain.get('others', ())):
                window = 'window_hu' if intensity.is_ct(channel['channel']) else 'percentiles'
                if window not in channel:
                    yield f'domains.{name}.{window} is missing'
        slices, mask = 1 + 2 * self.context['slices'], self.label_channel
        images = {domain: len(self.channels(domain)) * slices + mask for domain in self.domains}
        logits = {2: (1, 2)}.get(len(self.classes), (len(self.classes),))  # one logit is enough for two classes
        for domain, names in self.segments.items():
            yield from self._mismatches(f'segments.{domain}', names, images.get(domain, 0), logits)
        for domain, name in self.translates.items():
            made = images.get({'a': 'b', 'b': 'a'}.get(domain), 0)
            yield from self._mismatches(f'translates.{domain}', [name], images.get(domain, 0), (made,))

    def channels(self, domain: str) -> list[Channel]:
        """The channels of a domain's scans."""
        first = self.domains[domain]
        return [first, *first.get('others', ())]

    def _mismatches(self, field, names, channels, outputs) -> Iterator[str]:
        """Errors of a sequence of networks that should map `channels` to one of the numbers `outputs`."""
        if field.partition('.')[2] not in self.domains or not names:
            yield f'{field}: unknown domain, or no network for it'
        for name in names:
            if name not in self.networks:
                yield f'{field}: unknown network {name}'
                return
            network = self.networks[name]
            if network['channels'] != channels:
                yield f'networks.{name}.channels: expected {channels}, found {network["channels"]}'
            channels = _output_channels(network)
        if channels not in outputs:
            yield f'{field}: its networks output {channels} channels, expected {outputs[-1]}'

    def weights(self, network: str) -> Path:
        """The file of a network's weights, verified by its checksum; InputError if it is missing or changed."""
        files = self.networks[network]['files']
        name = next((name for suffix in SUFFIXES for name in sorted(files) if name.endswith(suffix)), None)
        if name is None or Path(name).name != name:
            raise InputError(f'{self.folder / CARD}: networks.{network}.files: no readable file; export again')
        path = self.folder / name
        if not path.is_file():
            raise InputError(f'{path}: missing, although listed in {CARD}; copy the whole folder')
        if sha256(path) != files[name]:
            raise InputError(f'{path}: sha256 differs from {CARD}: the file is damaged or was changed; copy it again')
        return path


def _output_channels(network) -> int:
    """Output channels of a network; without a head, its features."""
    if network['fields']['architecture'] == 'shared':
        return network['channels']
    return network['fields'].get('channels') or network['fields'].get('width', 0)


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
