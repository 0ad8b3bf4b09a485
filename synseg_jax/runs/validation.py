"""Held-out subjects while training: the score that chooses the best checkpoint, the loss that can end training early,
and the picture of both paths.

A method that trains on source labels alone is scored by Dice of s_b(g_ab(a)) against label_a, so no target label is
needed.  A method that trains on labels of both domains is scored on real scans of both; its translated scans are
measured as well, but do not count.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from synseg_jax.batches.selection import Chosen
from synseg_jax.devices import processes
from synseg_jax.evaluation.metrics import dice
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.imaging.slices import resize, with_mask
from synseg_jax.inference.run_networks import Networks
from synseg_jax.objective.losses import ONE_LOGIT
from synseg_jax.reports import figures
from synseg_jax.training.system import System

UNCHANGED = 0.01  # mean |fake_b - a| below which translation counts as identity
LEAST = 1e-7  # probability, whose logarithm is finite


class Check(NamedTuple):
    """Held-out scans of a domain, real or translated to the other domain, segmented and compared with their labels."""

    domain: str  # of the scans and their labels
    through: str  # the domain whose segmentor is used

    @property
    def name(self) -> str:
        """`a` for real scans of a, `fake_b` for those that are translated to b."""
        return self.domain if self.domain == self.through else f'fake_{self.through}'


class HeldOut(Sequence):
    """The validation records of all sets of a domain, their cases numbered through.

    Where some sets are labelled, those without labels, which no score is computed on, are left out.
    """

    def __init__(self, read: Sequence[Chosen]):
        read = [scans for scans in read if scans.labelled] or read
        self.parts = [scans.open() for scans in read]
        self.first = np.cumsum([0, *map(len, self.parts)])
        self.first_case = np.cumsum([0, *(len(scans.manifest.role(scans.set, scans.role)['cases']) for scans in read)])

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        part = int(np.searchsorted(self.first, index, side='right')) - 1
        record = self.parts[part][int(index - self.first[part])]
        return record | {'case': np.array(record['case'] + self.first_case[part], np.int32)}


def checks(system: System, held_out: Collection[str]) -> tuple[list[Check], list[Check]]:
    """The checks that make up the score, and those that are only reported.

    `held_out` are the domains with labelled validation scans.  In a method that trains on labels of both domains, a
    segmentor without real validation scans is scored on translated ones.
    """
    trained = [d for d in 'ab' if system.segmentor(d) and f'label_{d}' in system.arrays]
    present = [d for d in trained if d in held_out]
    real = [Check(d, d) for d in present]
    ways = [(d, o) for d, o in ('ab', 'ba') if {f'g_{d}{o}', f's_{o}'} <= system.networks.keys()]
    translated = [Check(d, o) for d, o in ways if d in present]
    if len(trained) < 2:
        return translated or real, []
    alone = [check for check in translated if check.through not in held_out]
    return real + alone, [check for check in translated if check.through in held_out]


def labelled(records: Mapping[str, Sequence]) -> set[str]:
    """The domains whose records hold labels."""
    return {domain for domain, of in records.items() if len(of) and 'label' in of[0]}


def measure(
    networks: Networks, records: Mapping[str, Sequence], stop: Callable[[], bool] = lambda: False
) -> dict[tuple[str, int], tuple[float, float]]:
    """{(check, case): (mean Dice over organs, change)} of this process's share of the labelled validation scans.

    The change is the mean absolute one that translation makes, in [0, 1], NaN where there is none.  `stop()` is asked
    between scans and ends the validation early.
    """
    counted, reported = checks(networks.system, labelled(records))
    found = _segmented(networks, records, counted + reported, stop)
    return {
        place: (float(_mean_dice(probabilities.argmax(-1), reference, networks.system.classes)), change)
        for place, probabilities, reference, change in found
    }


def losses(
    networks: Networks, records: Mapping[str, Sequence], stop: Callable[[], bool] = lambda: False
) -> dict[tuple[str, int], float]:
    """{(check, case): segmentation loss} of this process's share of the scans that make up the score."""
    counted, _ = checks(networks.system, labelled(records))
    found = _segmented(networks, records, counted, stop)
    return {place: _loss(probabilities, reference, networks.system) for place, probabilities, reference, _ in found}


def _segmented(networks, records, wanted, stop) -> Iterator[tuple[tuple[str, int], np.ndarray, np.ndarray, float]]:
    """((check, case), probabilities, labels, change) of this process's share of the checks' scans."""
    size, scans = networks.system.shown, {}
    for check in wanted:
        for record in records[check.domain]:
            scans.setdefault((check, int(record['case'])), []).append(record)
    for (check, case), records_of in processes.share(list(scans.items())):
        if stop():
            return
        images, change = resize(np.stack([r['image'] for r in records_of]), size), np.nan
        if check.domain != check.through:
            real, images = images, networks.translate(images, check.domain)
            change = float(np.abs(images - real).mean())
        reference = resize(np.stack([r['label'] for r in records_of]), size)
        yield (check.name, case), networks.probabilities(images, check.through), reference, change


def score(
    shares: Sequence[Mapping[tuple[str, int], tuple[float, float]]], counted: Sequence[Check]
) -> dict[str, float]:
    """The means of what `measure` found in each process, as far as there are any.

    `score` is the mean Dice of the checks that count, each weighted the same however many scans it has; `dice_CHECK`
    is that of each, where there are several; `change` the smaller one where both domains are translated.
    """
    measured = _together(shares)
    dices = _means({place: value for place, (value, _) in measured.items()})
    changes = _means({place: change for place, (_, change) in measured.items()})
    scored = [dices[check.name] for check in counted if check.name in dices]
    found = {'score': float(np.mean(scored))} if scored else {}
    found |= {f'dice_{name}': value for name, value in dices.items()} if len(dices) > 1 else {}
    return found | ({'change': min(changes.values())} if changes else {})


def mean_loss(shares: Sequence[Mapping[tuple[str, int], float]]) -> float:
    """The mean of what `losses` found in each process, every check weighted the same; NaN if there is nothing."""
    return float(np.mean([*_means(_together(shares)).values()] or [np.nan]))


def _together(shares) -> dict:
    return dict(sorted(pair for share in shares for pair in share.items()))


def _means(measured) -> dict[str, float]:
    """{check: mean over its cases} of {(check, case): value}, without NaN."""
    values: dict[str, list] = {}
    for (name, _), value in measured.items():
        values.setdefault(name, []).append(value)
    return {name: float(np.nanmean(of)) for name, of in values.items() if not np.isnan(of).all()}


def _mean_dice(predicted, reference, classes):
    organs = [i for i, name in enumerate(classes) if name not in NOT_ORGANS]
    return np.nanmean([dice(predicted == i, reference == i) for i in organs])


def _loss(probabilities, labels, system) -> float:
    """The segmentation loss that the system trains on, of class probabilities."""
    logits = jnp.log(jnp.maximum(probabilities, LEAST))
    if system.losses.segmentation in ONE_LOGIT:
        logits = logits[..., 1:] - logits[..., :1]
    return float(system.view({}).segmentation(logits, jnp.asarray(labels, jnp.int32)))


def both_paths(networks: Networks, examples: Mapping[str, Sequence[Mapping]]) -> list[dict]:
    """Rows of a panel: real, synthetic, reconstructed and segmented images of both paths, as far as there are any.

    `examples[domain]` are records; row i shows the i-th of each domain, of volumes three rows, one a plane.
    """
    nets, size, rows = networks.system.networks, networks.system.shown, []
    count = min(len(records) for records in examples.values())
    images = {d: resize(np.stack([r['image'] for r in rs[:count]]), size) for d, rs in examples.items()}
    columns: dict[str, list] = {}

    def add(title, pictures, labels=None):
        columns[title] = [
            _middle(picture) if labels is None else (_middle(picture), labels[i]) for i, picture in enumerate(pictures)
        ]

    for source, other in (('a', 'b'), ('b', 'a')):
        if source not in images:
            continue
        real = images[source]
        add(f'real {source}', real)
        if 'label' in examples[source][0]:
            labels = resize(np.stack([r['label'] for r in examples[source][:count]]), size)
            add(f'label of {source}', real, labels)
        shown, title, through = real, f'segmentation of real {source}', source
        if f'g_{source}{other}' in nets:
            fake = networks.translate(with_mask(real, labels) if networks.system.config.label_channel else real, source)
            add(f'synthetic {other}', fake)
            if f'g_{other}{source}' in nets:
                add(f'reconstructed {source}', networks.translate(fake, other))
            if source == 'a':
                shown, title, through = fake, 'segmentation of synthetic b', 'b'
        if networks.system.segmentor(through):
            add(title, shown, networks.probabilities(shown, through).argmax(-1))
    for i in range(count):
        rows += figures.in_planes({title: pictures[i] for title, pictures in columns.items()})
    return rows


def _middle(picture):
    """The slice or volume itself, of one that has its neighbours or its mask as channels."""
    return picture[..., (picture.shape[-1] - 1) // 2]
