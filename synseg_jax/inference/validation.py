"""Validation during training: the score that selects the best checkpoint, the loss for early stopping, and a picture.

A method trained on source labels only is scored by the Dice of s_b(g_ab(a)) against label_a, so that no target labels
are needed.  A method trained on labels of both domains is scored on real scans of both; translated scans are measured
too, but do not enter the score.
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
from synseg_jax.reports.modality_names import LETTERS
from synseg_jax.training.system import System

UNCHANGED = 0.01  # mean |fake_b - a| below which the translation is considered the identity
LEAST = 1e-7  # lower bound of probabilities, for a finite logarithm


class Check(NamedTuple):
    """A validation measurement: labelled scans of a domain, real or translated to the other one, are segmented."""

    domain: str  # domain of the scans and their labels
    through: str  # domain whose segmentor is used; if it is the other one, scans are translated first

    @property
    def name(self) -> str:
        """`a` for real scans of a, `fake_b` for scans translated to b."""
        return self.domain if self.domain == self.through else f'fake_{self.through}'


class HeldOut(Sequence):
    """The validation records of all sets of a domain, with cases numbered consecutively.

    If any set is labelled, unlabelled sets are left out, as they have no score.
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
    """(checks that enter the score, checks that are only reported).

    `held_out` are the domains with labelled validation scans.  In a method trained on labels of both domains, a
    segmentor without real validation scans is scored on translated ones.
    """
    trained = [d for d in 'ab' if system.segmentor(d) and f'label_{d}' in system.arrays]
    present = [d for d in trained if d in held_out]
    real = [Check(d, d) for d in present]
    directions = [(d, o) for d, o in ('ab', 'ba') if {f'g_{d}{o}', f's_{o}'} <= system.networks.keys()]
    translated = [Check(d, o) for d, o in directions if d in present]
    if len(trained) < 2:
        return translated or real, []
    without_real = [check for check in translated if check.through not in held_out]
    return real + without_real, [check for check in translated if check.through in held_out]


def labelled(records: Mapping[str, Sequence]) -> set[str]:
    """The domains whose records have labels."""
    return {domain for domain, own in records.items() if len(own) and 'label' in own[0]}


def measure(
    networks: Networks, records: Mapping[str, Sequence], stop: Callable[[], bool] = lambda: False
) -> dict[tuple[str, int], tuple[float, float]]:
    """{(check, case): (mean Dice over organs, change)} of this process's share of the labelled validation scans.

    The change is the mean absolute difference made by translation, of intensities in [0, 1]; NaN for real scans.
    Validation ends early once `stop()`, called before each scan, is true.
    """
    counted, reported = checks(networks.system, labelled(records))
    segmented = _segmented(networks, records, counted + reported, stop)
    return {
        key: (float(_mean_dice(probabilities.argmax(-1), reference, networks.system.classes)), change)
        for key, probabilities, reference, change in segmented
    }


def losses(
    networks: Networks, records: Mapping[str, Sequence], stop: Callable[[], bool] = lambda: False
) -> dict[tuple[str, int], float]:
    """{(check, case): segmentation loss} of this process's share of the scans that enter the score."""
    counted, _ = checks(networks.system, labelled(records))
    segmented = _segmented(networks, records, counted, stop)
    return {key: _loss(probabilities, reference, networks.system) for key, probabilities, reference, _ in segmented}


def _segmented(networks, records, wanted, stop) -> Iterator[tuple[tuple[str, int], np.ndarray, np.ndarray, float]]:
    """((check, case), probabilities, labels, change) of this process's share of the scans of the checks."""
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
            change = float(np.abs(images - real).mean()) if images.shape == real.shape else np.nan
        reference = resize(np.stack([r['label'] for r in records_of]), size)
        yield (check.name, case), networks.probabilities(images, check.through), reference, change


def score(
    shares: Sequence[Mapping[tuple[str, int], tuple[float, float]]], counted: Sequence[Check]
) -> dict[str, float]:
    """Combine the results of `measure` from all processes into validation metrics; absent ones are left out.

    `score` is the mean over the checks that count of their mean Dice, equally weighted whatever the number of scans;
    `dice_CHECK` is the mean Dice of each check, if there are several; `change` is the smaller one of both directions.
    """
    measured = _merged(shares)
    dices = _means({key: value for key, (value, _) in measured.items()})
    changes = _means({key: change for key, (_, change) in measured.items()})
    scored = [dices[check.name] for check in counted if check.name in dices]
    metrics = {'score': float(np.mean(scored))} if scored else {}
    metrics |= {f'dice_{name}': value for name, value in dices.items()} if len(dices) > 1 else {}
    return metrics | ({'change': min(changes.values())} if changes else {})


def mean_loss(shares: Sequence[Mapping[tuple[str, int], float]]) -> float:
    """Mean over the checks of the mean loss from all processes, equally weighted; NaN without any scan."""
    return float(np.mean([*_means(_merged(shares)).values()] or [np.nan]))


def _merged(shares) -> dict:
    return dict(sorted(pair for share in shares for pair in share.items()))


def _means(measured) -> dict[str, float]:
    """{check: mean over its cases} of {(check, case): value}, ignoring NaN."""
    values: dict[str, list] = {}
    for (name, _), value in measured.items():
        values.setdefault(name, []).append(value)
    return {name: float(np.nanmean(own)) for name, own in values.items() if not np.isnan(own).all()}


def _mean_dice(predicted, reference, classes):
    organs = [i for i, name in enumerate(classes) if name not in NOT_ORGANS]
    return np.nanmean([dice(predicted == i, reference == i) for i in organs])


def _loss(probabilities, labels, system) -> float:
    """The system's segmentation loss, computed from class probabilities."""
    logits = jnp.log(jnp.maximum(probabilities, LEAST))
    if system.losses.segmentation in ONE_LOGIT:
        logits = logits[..., 1:] - logits[..., :1]
    return float(system.view({}).segmentation(logits, jnp.asarray(labels, jnp.int32)))


def both_paths(
    networks: Networks, examples: Mapping[str, Sequence[Mapping]], modality: Mapping[str, str] = LETTERS
) -> list[dict]:
    """Rows of a picture with real, synthetic, reconstructed and segmented images of both directions, as available.

    `examples[domain]` are records; row i shows the i-th record of each domain; a volume has one row per plane.  Titles
    call a domain by its modality.
    """
    nets, size, rows = networks.system.networks, networks.system.shown, []
    count = min(len(records) for records in examples.values())
    images = {d: resize(np.stack([r['image'] for r in rs[:count]]), size) for d, rs in examples.items()}
    columns: dict[str, list] = {}

    def add(title, domain, pictures, labels=None):
        first = networks.system.own_channels(domain).start
        shown = pictures[..., first]
        columns[title] = [*shown] if labels is None else [*zip(shown, labels, strict=True)]

    for source, other in (('a', 'b'), ('b', 'a')):
        if source not in images:
            continue
        real, called = images[source], modality[source]
        add(f'real {called}', source, real)
        if 'label' in examples[source][0]:
            labels = resize(np.stack([r['label'] for r in examples[source][:count]]), size)
            add(f'{called} labels', source, real, labels)
        shown, title, through = real, f'segmented real {called}', source
        if f'g_{source}{other}' in nets:
            fake = networks.translate(with_mask(real, labels) if networks.system.config.label_channel else real, source)
            add(f'synthetic {modality[other]}', other, fake)
            if f'g_{other}{source}' in nets:
                add(f'{called} again', source, networks.translate(fake, other))
            if source == 'a':
                shown, title, through = fake, f'segmented synthetic {modality["b"]}', 'b'
        if networks.system.segmentor(through):
            add(title, through, shown, networks.probabilities(shown, through).argmax(-1))
    for i in range(count):
        rows += figures.in_planes({title: pictures[i] for title, pictures in columns.items()})
    return rows
