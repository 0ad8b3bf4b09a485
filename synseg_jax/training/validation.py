"""Held-out subjects while training: the score that chooses the best checkpoint, and the picture of both paths.

The score needs no target labels: Dice of s_b(g_ab(a)) against label_a.  A method that only segments is scored on
every labelled domain it trains on.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from synseg_jax.data.slices import fitted, with_mask
from synseg_jax.evaluation import figures
from synseg_jax.evaluation.metrics import dice
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.training import processes
from synseg_jax.training.inference import Networks

UNCHANGED = 0.01  # mean |fake_b - a| below which translation counts as identity


def measure(
    networks: Networks, records: Mapping[str, Sequence], stop: Callable[[], bool] = lambda: False
) -> dict[tuple[str, int], tuple[float, float]]:
    """{(domain, case): (mean Dice over organs, change)} of this process's share of the labelled validation scans.

    The change is the mean absolute one that translation makes, in [0, 1], NaN where there is none.  `stop()` is asked
    between scans and ends the validation early.
    """
    system, scans, found = networks.system, {}, {}
    for domain in _scored(system):
        if domain in records and len(records[domain]) and 'label' in records[domain][0]:
            for record in records[domain]:
                scans.setdefault((domain, int(record['case'])), []).append(record)
    for (domain, case), records_of in processes.share(list(scans.items())):
        if stop():
            break
        images = shown = fitted(np.stack([r['image'] for r in records_of]), system.shown)
        through, change = domain, np.nan
        if domain == 'a' and _translates(system):
            shown, through = networks.translate(images, domain), 'b'
            change = float(np.abs(shown - images).mean())
        predicted = networks.votes(shown, through).argmax(-1)
        reference = fitted(np.stack([r['label'] for r in records_of]), system.shown)
        found[domain, case] = (float(_mean_dice(predicted, reference, system.classes)), change)
    return found


def _translates(system):
    """Whether the source is segmented as what it is translated to."""
    return {'g_ab', 's_b'} <= system.networks.keys()


def _scored(system):
    """The domains whose labels the method reads; the first of them if it is translated to the other."""
    labelled = [d for d in 'ab' if system.segmentor(d) and f'label_{d}' in system.arrays]
    return labelled[:1] if _translates(system) else labelled


def score(shares: Sequence[Mapping[tuple[str, int], tuple[float, float]]]) -> dict[str, float]:
    """The means of what `measure` found in each process: `score`, of Dice, and `change`, as far as there are any."""
    measured = dict(sorted(pair for share in shares for pair in share.items()))
    means = {}
    for name, values in zip(('score', 'change'), zip(*measured.values(), strict=True), strict=False):
        if not np.isnan(values).all():
            means[name] = float(np.nanmean(values))
    return means


def _mean_dice(predicted, reference, classes):
    organs = [i for i, name in enumerate(classes) if name not in NOT_ORGANS]
    return np.nanmean([dice(predicted == i, reference == i) for i in organs])


def both_paths(networks: Networks, examples: Mapping[str, Sequence[Mapping]]) -> list[dict]:
    """Rows of a panel: real, synthetic, reconstructed and segmented images of both paths, as far as there are any.

    `examples[domain]` are records; row i shows the i-th of each domain, of volumes three rows, one a plane.
    """
    nets, size, rows = networks.system.networks, networks.system.shown, []
    count = min(len(records) for records in examples.values())
    images = {d: fitted(np.stack([r['image'] for r in rs[:count]]), size) for d, rs in examples.items()}
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
            labels = fitted(np.stack([r['label'] for r in examples[source][:count]]), size)
            add(f'label of {source}', real, labels)
        shown, title, through = real, f'segmentation of real {source}', source
        if f'g_{source}{other}' in nets:
            fake = networks.translate(with_mask(real, labels) if networks.system.config.masked else real, source)
            add(f'synthetic {other}', fake)
            if f'g_{other}{source}' in nets:
                add(f'reconstructed {source}', networks.translate(fake, other))
            if source == 'a':
                shown, title, through = fake, 'segmentation of synthetic b', 'b'
        if networks.system.segmentor(through):
            add(title, shown, networks.votes(shown, through).argmax(-1))
    for i in range(count):
        rows += figures.in_planes({title: pictures[i] for title, pictures in columns.items()})
    return rows


def _middle(picture):
    """The slice or volume itself, of one that has its neighbours or its mask as channels."""
    return picture[..., (picture.shape[-1] - 1) // 2]
