"""One scan to records: upright and normalised slices, resized, the empty ones left out; or one volume of it."""

import numpy as np

from synseg_jax.data import intensity, label_maps, slices, tiles, volume
from synseg_jax.data.dataset import Case
from synseg_jax.data.records import encode
from synseg_jax.data.roles import Role
from synseg_jax.data.settings import Settings
from synseg_jax.data.verification import Checked, keep_label, keep_scan

VISIBLE = 0.1  # normalised intensity above which a pixel counts as foreground
PIECE = 32  # slices resized at a time, which bounds the memory of a long scan


def records_of(index: int, case: Case, role: Role, settings: Settings) -> tuple[list[bytes], dict, list[str], Checked]:
    """The records of one case, its description for the manifest, what is odd about it, and what tells it from others.

    Errors name the case.
    """
    seen = Checked(role, case)
    try:
        return (*_sliced(index, seen, settings), seen)
    except Exception as error:
        error.add_note(f'while preparing {case.image}')
        raise


def _sliced(index, seen, settings):
    case, role = seen.case, seen.role
    stored = volume.read(case.image)
    upright = volume.canonical(stored)
    normalisation = intensity.for_channel(
        role.dataset.channel, stored.array, settings.window_hu, settings.percentiles, str(case.image)
    )
    stack = _central(slices.to_stack(upright.array, settings.slice_axis), role, settings)
    keep_scan(seen, upright)
    labels = None if role.classes is None else _label_stack(seen, stored, settings)
    odd = intensity.unused(normalisation, stored.array)
    if len(settings.size) == 3:
        records = [_boxed(index, normalisation.apply(stack), labels, upright, settings)]
        return records, _description(case, stored, upright, stack, normalisation, [0], settings), [odd] if odd else []
    labels = None if labels is None else slices.resize_nearest(labels, settings.size)
    margin = settings.source_margin if role.domain == 'a' else settings.target_margin
    kept = None if labels is None else _near_labels(labels, margin)
    records, numbers = [], []
    for first in range(0, len(stack), PIECE):
        images = slices.resize_linear(normalisation.apply(stack[first : first + PIECE]), settings.size)
        for number, image in enumerate(images, first):
            wanted = kept is None or kept[number]
            if wanted and np.mean(image > VISIBLE) >= settings.foreground_share:
                numbers.append(number)
                records.append(encode(image[..., None], None if labels is None else labels[number], index, number))
    if not records:
        odd = f'{case.image.name}: {_all_dropped(kept, settings)}'
    return records, _description(case, stored, upright, stack, normalisation, numbers, settings), [odd] if odd else []


def _boxed(index, stack, labels, upright, settings) -> bytes:
    """The record of a volume: the box about the middle of what is labelled or, without labels, of the scan."""
    spacing_mm = slices.stack_spacing(upright.spacing_mm, settings.slice_axis)
    shape = tiles.shape_at(stack.shape, spacing_mm, settings.spacing_mm)
    image = slices.resize_linear(stack[None], shape)[0]
    labels = None if labels is None else slices.resize_nearest(labels[None], shape)[0]
    centre = tiles.middle(np.zeros(shape, bool) if labels is None else labels)
    box = tiles.cut(image, centre, settings.size)
    return encode(box[..., None], None if labels is None else tiles.cut(labels, centre, settings.size), index, 0)


def _near_labels(labels, margin) -> np.ndarray | None:
    """Which slices lie within `margin` of one with an organ; None, for all of them, if the margin is negative."""
    if margin < 0:
        return None
    labelled = labels.any((1, 2))
    return np.array([labelled[max(0, i - margin) : i + margin + 1].any() for i in range(len(labels))])


def _all_dropped(kept, settings) -> str:
    if kept is None or kept.any():
        return f'every slice has less than {settings.foreground_share:.0%} foreground and is dropped'
    return 'no slice has a labelled organ, so data.source_margin or target_margin drops all'


def _label_stack(seen, image, settings) -> np.ndarray:
    """Class indices of a case as upright slices."""
    case, role = seen.case, seen.role
    upright = volume.canonical(label_maps.read(case.label, case.image, role.dataset.labels, role.classes, image))
    keep_label(seen, upright)
    return _central(slices.to_stack(upright.array, settings.slice_axis), role, settings)


def _central(stack, role, settings) -> np.ndarray:
    """The part of the pictures that is kept."""
    share = settings.target_center if role.domain == 'b' else 1.0
    return stack[:, *slices.centre(stack.shape[1:3], share)]


def _description(case, stored, upright, stack, normalisation, kept, settings) -> dict:
    return {
        'id': case.id,
        'subject': case.subject,
        'image': str(case.image),
        'label': case.label and str(case.label),
        'shape': list(stored.array.shape),
        'affine': stored.affine.tolist(),
        'spacing_mm': list(stored.spacing_mm),
        'slice_mm': slices.stack_spacing(upright.spacing_mm, settings.slice_axis)[0],
        'low': normalisation.low,
        'high': normalisation.high,
        'scan_size': list(stack.shape[1:3]),
        'slices': len(stack),
        'kept': kept,
        'records': len(kept),
        'dropped': 0 if len(settings.size) == 3 else len(stack) - len(kept),
    }
