"""Agreement of a segmentor with itself: Dice between its labels of a scan and of changes of the scan; no reference.

It is blind to errors that are the same in all changes, such as an organ that is always missed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Integer
from scipy import ndimage

from synseg_jax.batches.samples import spread
from synseg_jax.evaluation.metrics import dice
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.run_networks import Networks
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.objective import names
from synseg_jax.training.system import System

ROTATION, GAMMA, NOISE = 8.0, 1.25, 0.03  # degrees, exponent, standard deviation in [0, 1]
SEED = 0
ALWAYS = ('rotation', 'intensities')  # changes that every system undergoes
COMPARED = 32  # slices of a scan

Images = Float[np.ndarray, 'n *space c']  # in [0, 1]
Labels = Integer[np.ndarray, 'n *space']


def agreement(
    networks: Networks,
    images: Images,
    labels: Labels,
    organs: Collection[int],
    changes: Sequence[str],
    domain: str = 'b',
) -> dict[str, dict[int, float]]:
    """{change: {organ: Dice between `labels` and those of the images changed so}}, ways in `CHANGES`; NaN if absent."""
    found = {name: CHANGES[name](networks, images, domain) for name in changes}
    return {name: {i: dice(labels == i, other == i) for i in organs} for name, other in found.items()}


def changes(system: System, domain: str = 'b', mirrored: bool = False) -> list[str]:
    """The changes that a system's scans can undergo: masked generators need labels; `mirrored` if trained so."""
    back = names.generator(names.other(domain)) in system.networks or system.segmentor(names.other(domain))
    translated = names.generator(domain) in system.networks and back and not system.config.label_channel
    return [*ALWAYS, *(['translation'] if translated else []), *(['mirror'] if mirrored else [])]


def of_scan(segmenter: Segmenter, scan: Volume, domain: str) -> dict[str, float]:
    """{organ: mean agreement of its labels in a scan with those of all changes}; NaN of absent ones, empty of atlases.

    Of ensembles each member sees the changes, and is compared with the labels of all together.
    """
    members = [member for member in segmenter.members if isinstance(member, Trained)]
    if not members:
        return {}
    frame, probabilities = segmenter.grid_probabilities(scan, domain)
    context = segmenter.config.context
    images, labels = frame.images(context.slices, context.spacing_mm), probabilities.argmax(-1)
    some = spread(len(images), COMPARED)
    organs = {i: name for i, name in enumerate(segmenter.run.classes) if i and name not in NOT_ORGANS}
    found = []
    for member in members:
        with member.on_device():
            ways = _changes(member, domain)
            found += agreement(member.networks, images[some], labels[some], organs, ways, domain).values()
    return {name: mean([one[i] for one in found]) for i, name in organs.items()}


def _changes(member, domain) -> list[str]:
    """Of members of an ensemble there are no generators in memory."""
    config = member.config
    mirrored = 'c' in config.augment.flip and config.data.slice_axis != 'sagittal'
    found = changes(member.networks.system, domain, mirrored)
    return [name for name in found if name != 'translation' or names.generator(domain) in member.networks.params]


def mean(values: Collection[float]) -> float:
    """Mean of the values that are numbers; NaN without any."""
    numbers = [value for value in values if not np.isnan(value)]
    return float(np.mean(numbers)) if numbers else float('nan')


def segmented(networks: Networks, images: Images, domain: str) -> Labels:
    """The class of every pixel."""
    return networks.probabilities(images, domain).argmax(-1)


def _rotated(networks, images, domain):
    turned = networks.probabilities(_turn(images, ROTATION), domain)
    return _turn(turned, -ROTATION).argmax(-1)


def _turn(stack, degrees):
    """Slices or volumes rotated within the slice; 0 from outside."""
    return ndimage.rotate(stack, degrees, (-3, -2), reshape=False, order=1)


def _darkened(networks, images, domain):
    noise = np.random.default_rng(SEED).normal(0, NOISE, images.shape)
    return segmented(networks, np.clip(images**GAMMA + noise, 0, 1).astype(images.dtype), domain)


def _translated(networks, images, domain):
    """By the other domain's segmentor if it is trained, else translated back as well, if there is a generator."""
    other = names.other(domain)
    translated = networks.translate(images, domain)
    if names.segmentor(other) in networks.system.networks or names.generator(other) not in networks.system.networks:
        return segmented(networks, translated, other)
    return segmented(networks, networks.translate(translated, other), domain)


def _mirrored(networks, images, domain):
    return np.flip(segmented(networks, np.flip(images, -2), domain), -1)


CHANGES: Mapping[str, Callable[[Networks, Images, str], Labels]] = {  # labels of changed images, moved back
    'rotation': _rotated,
    'intensities': _darkened,
    'translation': _translated,
    'mirror': _mirrored,
}
