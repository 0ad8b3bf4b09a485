"""Records of one scan: normalised, resized or cropped slices in canonical orientation, or one volume."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Integer, Shaped
from scipy import ndimage

from synseg_jax.datasets.cases import Case
from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps, scan_channels
from synseg_jax.imaging import bias_field, body, intensity, modality, slices, sliding_window, volume
from synseg_jax.preparation.checks.case import NO_BODY, Checked, keep_label, keep_scan
from synseg_jax.preparation.records import encode
from synseg_jax.preparation.split import Split
from synseg_jax.specification.data import Data

VISIBLE = 0.1  # normalised intensity above which a pixel is foreground
PIECE = 32  # slices resized at a time, to bound memory


def records_of(index: int, case: Case, split: Split, settings: Data) -> tuple[list[bytes], dict | None, Checked]:
    """The records of one case, its manifest entry, and its checks.

    If the scan or its label is refused, there are no records and no entry, and the error is among the checks' problems.
    """
    seen = Checked(split, case)
    try:
        return (*_sliced(index, seen, settings), seen)
    except InputError as error:
        seen.add(str(error))
        return [], None, seen
    except Exception as error:
        error.add_note(f'while preparing {case.image}')
        raise


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan as slices on its own grid, before they are resampled."""

    index: int  # among the cases of its split
    stacks: tuple[Shaped[np.ndarray, 'n r c'], ...]  # intensities of each channel as stored
    labels: Integer[np.ndarray, 'n r c'] | None
    normalisations: tuple[intensity.Normalisation, ...]
    spacing_mm: tuple[float, float, float]
    split: Split
    settings: Data

    @property
    def stack(self) -> Shaped[np.ndarray, 'n r c']:
        """The first channel, by which the body and what is empty are found."""
        return self.stacks[0]

    def images(self, first: int, shape: tuple[int, ...]) -> list[Float[np.ndarray, 'n *space']]:
        """PIECE slices from `first` on, or the volume, of each channel in [0, 1], resized to `shape`."""
        rows = slice(first, first + PIECE) if len(shape) == 2 else None  # None: one volume
        channels = zip(self.normalisations, self.stacks, strict=True)
        seen = (normalisation.apply(stack[rows]) for normalisation, stack in channels)
        return [slices.resize_linear(stack, shape, self.settings.antialias) for stack in seen]

    @property
    def about_body(self) -> bool:
        """Whether it is cropped about the body."""
        return bool(self.settings.spacing_mm) and self.settings.cut_about == 'body'

    @cached_property
    def body(self) -> body.Bounds | None:
        """The box about the body; None if none is found."""
        return body.bounds(self.stack, self.spacing_mm, self.split.dataset.channel)

    def resampled(self, axes: int) -> tuple[int, ...]:
        """The shape of its last axes at data.spacing_mm."""
        return sliding_window.shape_at(self.stack.shape[-axes:], self.spacing_mm[-axes:], self.settings.spacing_mm)

    def body_centre(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The middle of the body, else of the scan, in an array of its last axes resampled to `shape`."""
        return body.window(self.body and self.body[-len(shape) :], self.settings.size, shape)[0]


def _sliced(index, seen, settings) -> tuple[list[bytes], dict]:
    case, split = seen.case, seen.split
    stored, named = scan_channels.read(case.image, split.channels), split.dataset.channels(split.channels)
    even = bias_field.corrected(stored, named) if settings.bias_correction else stored
    upright = volume.canonical(even)
    windows = tuple(
        intensity.for_channel(channel, one.array, settings.window_hu, settings.percentiles, str(path))
        for channel, one, path in zip(
            named, even.channels, scan_channels.files(case.image, split.channels), strict=True
        )
    )
    stacks = tuple(_stack(one, split, settings) for one in even.channels)
    keep_scan(seen, volume.canonical(stored))
    labelled = None if split.classes is None else _labels(seen, stored)
    labels = None if labelled is None else _stack(labelled, split, settings)
    spacing_mm = slices.stack_spacing(upright.spacing_mm, settings.slice_axis)
    scan = _Scan(index, stacks, labels, windows, spacing_mm, split, settings)
    records, kept, odd = _boxed(scan) if len(settings.size) == 3 else _pictures(scan)
    seen.unlike = modality.hu_warning(split.dataset.channel, stored.array)
    seen.unused = intensity.window_warning(windows[0], even.array) or ''
    seen.cut = '; '.join(filter(None, [NO_BODY if scan.about_body and scan.body is None else '', odd]))
    described = _description(case, stored, upright, stacks[0], windows, kept, settings)
    return records, described | _volumes(labelled, split)


def _boxed(scan: _Scan) -> tuple[list[bytes], list[int], str]:
    """The record of a volume: a box centred on the labels or the body or, without, on the scan."""
    settings, shape = scan.settings, scan.resampled(3)
    images = [channel[0] for channel in scan.images(0, shape)]
    whole = None if scan.labels is None else slices.resize_nearest(scan.labels[None], shape)[0]
    if scan.about_body:
        centre = scan.body_centre(shape)
    else:
        centre = sliding_window.box_centre(np.zeros(shape, bool) if whole is None else whole)
    labels = None if whole is None else sliding_window.crop(whole, centre, settings.size)
    boxes = [sliding_window.crop(image, centre, settings.size) for image in images]
    return [encode(np.stack(boxes, -1), labels, scan.index, 0)], [0], _beyond(whole, labels, settings)


def _pictures(scan: _Scan) -> tuple[list[bytes], list[int], str]:
    """The records of slices, resized or, at data.spacing_mm, cropped; their indices, and a warning or ''."""
    settings = scan.settings
    shape = scan.resampled(2) if settings.spacing_mm else settings.size
    whole = None if scan.labels is None else slices.resize_nearest(scan.labels, shape)
    cut = _cutter(_centre(scan, whole, shape), settings.size) if settings.spacing_mm else np.asarray
    labels = None if whole is None else cut(whole)
    margin = settings.source_margin if scan.split.domain == 'a' else settings.target_margin
    near = None if labels is None else _near_labels(labels, margin)
    records, kept = [], []
    for first in range(0, len(scan.stack), PIECE):
        for number, image in enumerate(np.stack([cut(piece) for piece in scan.images(first, shape)], -1), first):
            if (near is None or near[number]) and np.mean(image[..., 0] > VISIBLE) >= settings.foreground_share:
                kept.append(number)
                label = None if labels is None else labels[number]
                records.append(encode(image, label, scan.index, number))
    return records, kept, _beyond(whole, labels, settings) if records else _all_dropped(near, settings)


def _centre(scan: _Scan, labels, shape) -> tuple[int, ...]:
    """Centre of the crop of slices of `shape` pixels at data.spacing_mm, by data.cut_about.

    About labels, the crop lies inside the slices, as the tiles of prediction do; about the body, in both alike.
    """
    if scan.about_body:
        return scan.body_centre(shape)
    return sliding_window.clamp_centre(_middle(scan, labels, shape), scan.settings.size, shape)


def _middle(scan: _Scan, labels, shape) -> tuple[int, ...]:
    """The middle of the labels or of the largest lesion, else of the scan or of one half of the body."""
    about = scan.settings.cut_about
    if labels is not None and labels.any():
        return sliding_window.box_centre((_largest(labels) if about == 'lesion' else labels).any(0))
    if about == 'labels':
        return tuple(length // 2 for length in shape)
    stack, apply = scan.stack, scan.normalisations[0].apply
    seen = sum((apply(stack[first : first + PIECE]) > VISIBLE).sum(0) for first in range(0, len(stack), PIECE))
    middle = _half_body(seen > len(stack) / 2, right=scan.index % 2 == 0)
    return tuple(int(at * new / old) for at, new, old in zip(middle, shape, seen.shape, strict=True))


def _largest(mask) -> np.ndarray:
    """The largest connected component (full connectivity) of a non-empty mask."""
    pieces, _ = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def _half_body(visible, right: bool) -> tuple[float, float]:
    """Centre of the patient's right or left half, by the largest component of what most slices show.

    Not of a lung: no threshold segments lungs in every modality.
    """
    body = _largest(visible) if visible.any() else np.ones_like(visible)
    columns = np.flatnonzero(body.any(0))
    share = 0.25 if right else 0.75  # columns run from the patient's right to the left
    return sliding_window.box_centre(body)[0], columns[0] + share * (columns[-1] + 1 - columns[0])


def _cutter(centre, size):
    """A function that crops all slices of a scan at one place."""
    return lambda pictures: np.stack([sliding_window.crop(picture, centre, size) for picture in pictures])


def _beyond(whole, labels, settings) -> str:
    """A warning if labels lie outside the crop, else ''."""
    there = 0 if whole is None else np.count_nonzero(whole)
    lost = there - np.count_nonzero(labels) if there else 0
    if not lost:
        return ''
    share = f'{lost / there:.1%}' if lost >= 0.001 * there else 'less than 0.1%'
    size = 'x'.join(map(str, settings.size))
    return f'{share} of what is labelled lies outside of {size} at {settings.spacing_mm:g} mm; raise data.size'


def _near_labels(labels, margin) -> np.ndarray | None:
    """Mask of slices within `margin` slices of a labelled one; None (all slices) if the margin is negative."""
    if margin < 0:
        return None
    labelled = labels.any((1, 2))
    return np.array([labelled[max(0, i - margin) : i + margin + 1].any() for i in range(len(labels))])


def _all_dropped(kept, settings) -> str:
    if kept is None or kept.any():
        return f'every slice has less than {settings.foreground_share:.0%} foreground and is dropped'
    return 'no slice has a labelled organ, so data.source_margin or target_margin drops all'


def _labels(seen, image) -> volume.Volume:
    """Class indices of a case in canonical orientation."""
    case, split = seen.case, seen.split
    upright = volume.canonical(label_maps.read(case.label, case.image, split.dataset.labels, split.classes, image))
    keep_label(seen, upright)
    return upright


def _stack(scan, split, settings) -> np.ndarray:
    """The central part of the slices of a scan or label map, by data.target_center."""
    stack = slices.to_stack(volume.canonical(scan).array, settings.slice_axis)
    share = settings.target_center if split.domain == 'b' else 1.0
    return stack[:, *slices.central_crop(stack.shape[1:3], share)]


def _volumes(labelled, split) -> dict:
    """The volumes of the classes of a labelled scan, for its entry in the manifest."""
    if labelled is None:
        return {}
    found = volume.volumes_ml(labelled.array, labelled.affine, split.classes)
    return {'volumes_ml': {name: round(ml, 3) for name, ml in found.items()}}


def _description(case, stored, upright, stack, windows, kept, settings) -> dict:
    first, *others = windows
    return {
        'id': case.id,
        'subject': case.subject,
        'image': str(case.image),
        'label': case.label and str(case.label),
        'shape': list(stored.array.shape),
        'affine': stored.affine.tolist(),
        'spacing_mm': list(stored.spacing_mm),
        'slice_mm': slices.stack_spacing(upright.spacing_mm, settings.slice_axis)[0],
        'low': first.low,
        'high': first.high,
        **({'others': [[window.low, window.high] for window in others]} if others else {}),
        'scan_size': list(stack.shape[1:3]),
        'slices': len(stack),
        'kept': kept,
        'records': len(kept),
        'dropped': 0 if len(settings.size) == 3 else len(stack) - len(kept),
    }
