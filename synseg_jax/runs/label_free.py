"""Scores of a checkpoint on scans that nobody labelled, and on labelled source scans whose intensities are changed.

`randomised_dice`: Dice on held-out source scans under fixed random intensity changes.  `agreement`: Dice between the
labels of a target scan and of changes of it.  `plausible`: share of organs in target scans whose volume and place are
as in the source.  `volume/ORGAN`: mean volume on target scans over that in the source.  No target label is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from synseg_jax.batches.samples import Sample, samples, spread
from synseg_jax.batches.views import view
from synseg_jax.devices import processes
from synseg_jax.evaluation import plausibility
from synseg_jax.evaluation.metrics import dice
from synseg_jax.evaluation.plausibility import Expected, Organ
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.inference import agreement
from synseg_jax.inference.agreement import mean, segmented
from synseg_jax.inference.run_networks import Networks
from synseg_jax.runs.stages import Stage
from synseg_jax.specification.views import Views
from synseg_jax.training.selection import VOLUME

SCANS, SLICES = 6, 16  # of each domain that are looked at, and of each target scan for volumes
COMPARED = 8  # slices of a scan in the other scores
DESCRIBED, DESCRIBED_SLICES = 32, 32  # labelled source scans and slices that say where organs are
SEED = 0
STRONG = Views(class_maps=0.5, gin=0.8, blend=0.5, brightness=0.1, contrast=0.25, gamma=1.65)

Share = dict[str, dict]  # {score: {index of the scan: value}}


def randomise(
    key: Key[Array, ''], images: Float[Array, 'n *space c'], labels: Integer[Array, 'n *space'], classes: int
) -> Float[Array, 'n *space c']:
    """A strong random view of a scan, the same change in all of its slices."""
    return jax.vmap(lambda image, label: view(key, image, label, STRONG, classes))(images, labels)


@dataclass(frozen=True)
class LabelFree:
    """The scans that a stage's checkpoints are scored on, and what its labelled scans say of each organ."""

    organs: Mapping[str, int]  # {name: value of its label}
    source: Sequence[Sample] = ()
    target: Sequence[Sample] = ()
    expected: Mapping[str, Expected] = field(default_factory=dict)
    changed: Callable = randomise
    classes: int = 2

    @classmethod
    def of(cls, stage: Stage, size: tuple[int, ...]) -> 'LabelFree':
        """Of a stage whose networks see images of `size`."""
        classes = stage.manifest.classes
        organs = {name: i for i, name in enumerate(classes) if i and name not in NOT_ORGANS}
        alike = len({*stage.config.data.channels}) == 1  # else the target's segmentor cannot see source scans
        held_out = [scans for scans in stage.scans('a', 'val') if scans.labelled]
        source = samples(held_out, SCANS, COMPARED) if alike else ()
        labelled = [scans for scans in stage.scans('a') if scans.labelled]
        described = samples([*labelled, *held_out], DESCRIBED, DESCRIBED_SLICES)
        steady = {name: i for name, i in organs.items() if name not in stage.config.lesions}
        expected = plausibility.expected([_organs(s, s.labels(size), steady, size) for s in described])
        target = samples(stage.target_scans(), SCANS, SLICES)
        return cls(organs, source, target, expected, classes=len(classes))

    def measure(self, networks: Networks, stop: Callable[[], bool] = lambda: False) -> Share:
        """This process's share of the scores of single scans; ends early once `stop()` is true."""
        share: Share = {'randomised_dice': {}, 'agreement': {}, 'organs': {}}
        size = networks.system.shown
        for i, sample in processes.share([*enumerate(self.source)]):
            if not stop():
                share['randomised_dice'][i] = self._randomised(networks, i, sample)
        for i, sample in processes.share([*enumerate(self.target)]):
            if not stop():
                images = sample.images(size)
                labels = segmented(networks, images, 'b')
                some = spread(len(images), COMPARED)
                organs, ways = self.organs.values(), agreement.changes(networks.system)
                agrees = agreement.agreement(networks, images[some], labels[some], organs, ways)
                share['agreement'][i] = mean([mean(one.values()) for one in agrees.values()])
                expected = {name: self.organs[name] for name in self.expected}
                share['organs'][i] = _organs(sample, labels, expected, size)
        return share

    def _randomised(self, networks, i, sample) -> float:
        size = networks.system.shown
        images, labels = sample.images(size), sample.labels(size)
        key = jax.random.fold_in(jax.random.key(SEED), i)
        change = jax.jit(partial(self.changed, classes=self.classes))
        changed = change(key, jnp.asarray(images), jnp.asarray(labels, jnp.int32))
        return self._dice(segmented(networks, np.asarray(changed), 'b'), labels)

    def _dice(self, labels, reference) -> float:
        return mean([dice(labels == i, reference == i) for i in self.organs.values()])

    def combine(self, shares: Sequence[Share]) -> dict[str, float]:
        """The scores of a checkpoint from the shares of all processes; those without scans are left out."""
        merged = {name: dict(sorted(pair for share in shares for pair in share[name].items())) for name in shares[0]}
        compared = {name: merged[name].values() for name in ('randomised_dice', 'agreement') if merged[name]}
        scores = {name: float(np.nan_to_num(mean(values))) for name, values in compared.items()}  # 0 if none is found
        found = [{name: Organ(*own) for name, own in scan.items()} for scan in merged['organs'].values()]
        if not (found and self.expected):
            return scores
        ratios = plausibility.volume_ratios(found, self.expected)
        scores['plausible'] = plausibility.plausible_share(found, self.expected)
        return scores | {VOLUME + name.replace(',', ' '): ratio for name, ratio in ratios.items()}


def _organs(sample: Sample, labels, organs, size) -> dict[str, Organ]:
    own = sample.images(size)[..., sample.own]
    return plausibility.organs(labels, own, organs, sample.pixel_ml(labels.shape[1:]))
