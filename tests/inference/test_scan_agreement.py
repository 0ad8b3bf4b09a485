"""A segmentor that finds the same however a scan is shown agrees with itself; one that does not, does not."""

import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import agreement, trained_model
from synseg_jax.inference.ensemble import Ensemble
from synseg_jax.inference.run_networks import Networks
from synseg_jax.training.system import System

LABELS = np.zeros((2, 48, 48), np.uint8)
LABELS[:, 10:30, 8:20], LABELS[:, 20:34, 28:40] = 1, 2
IMAGES = (LABELS * 0.4 + 0.1).astype(np.float32)[..., None]


class Segmentor(Networks):
    """A function of each image in [0, 1] in place of networks; translations leave scans as they are."""

    def __init__(self, function, **changes):
        super().__init__(System(tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES), {})
        self.function = function

    def probabilities(self, stack, domain):
        return np.eye(3, dtype=np.float32)[np.stack([self.function(image[..., 0]) for image in stack])]

    def translate(self, stack, source):
        return stack


def _by_intensity(image):
    return np.digitize(image, (0.3, 0.65))


def _by_place(image):
    return LABELS[0].astype(int)


def _agreement(function, changes):
    found = agreement.agreement(Segmentor(function), IMAGES, LABELS, (1, 2), changes)
    return {name: min(by_organ.values()) for name, by_organ in found.items()}


def test_labels_are_moved_back_with_the_scan():
    found = _agreement(_by_intensity, ['rotation', 'mirror', 'translation'])
    assert found['mirror'] == found['translation'] == 1 and found['rotation'] > 0.9
    blind = _agreement(_by_place, ['rotation', 'mirror', 'intensities'])
    assert blind['mirror'] < 0.5 and blind['rotation'] < 0.9 and blind['intensities'] == 1


def test_an_organ_that_a_change_makes_vanish():
    found = agreement.agreement(Segmentor(lambda image: np.minimum(_by_intensity(image), image < 0.8)), IMAGES, LABELS,
                                (1, 2), ['intensities'])  # fmt: skip
    assert found['intensities'][2] == 0 < found['intensities'][1]


@pytest.mark.parametrize(
    'method, flipped, expected',
    [
        ('synseg', True, ['rotation', 'intensities', 'translation', 'mirror']),
        ('supervised', False, ['rotation', 'intensities']),
        ('synseg_hc', False, ['rotation', 'intensities']),  # masked generators
    ],
)
def test_changes_are_those_that_the_system_knows(method, flipped, expected):
    assert agreement.changes(Segmentor(None, method=method).system, 'b', flipped) == expected


SCAN = Volume(tiny.scan(7, 'CT', (20, 26, 5))[0].astype(np.float32), tiny.AFFINE)


def test_agreement_of_a_scan_by_the_organs_of_a_system(tmp_path):
    trained = untrained.trained(tmp_path, method='synseg')
    found = agreement.of_scan(trained, SCAN, 'b')
    assert list(found) == list(tiny.CLASSES[1:])
    frame, probabilities = trained.grid_probabilities(SCAN, 'b')
    ways = ['rotation', 'intensities', 'translation']
    by_change = agreement.agreement(trained.networks, frame.images(), probabilities.argmax(-1), (1, 2), ways)
    assert found == {name: agreement.mean([one[i] for one in by_change.values()])
                     for i, name in enumerate(tiny.CLASSES) if i}  # fmt: skip


def test_members_of_an_ensemble_are_compared_with_all_together(tmp_path):
    """They hold no generators in memory; two alike agree as one does without translation."""
    one = untrained.trained(tmp_path, method='synseg')
    both, alone = (agreement.of_scan(s, SCAN, 'b') for s in (Ensemble([one, one]), one.on_host()))
    assert both == pytest.approx(alone) and both != agreement.of_scan(one, SCAN, 'b')


def test_mirror_images_only_where_they_were_trained_on(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(agreement.CHANGES, 'mirror', lambda n, images, d: seen.append(images) or images[..., 0] > 2)
    for fields in ({}, {'augment__flip': 'c'}):
        agreement.of_scan(untrained.trained(tmp_path, method='supervised', **fields), SCAN, 'b')
    assert len(seen) == 1


def test_atlases_have_none(tmp_path):
    class Atlases(trained_model.Trained):
        members = ('no networks',)

    one = untrained.trained(tmp_path, method='supervised')
    assert agreement.of_scan(Atlases(one.run, one.networks.params), SCAN, 'b') == {}
    assert np.isnan(agreement.mean({}.values()))
