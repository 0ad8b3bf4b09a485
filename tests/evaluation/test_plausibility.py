"""Organs are judged by volume and place alone, as labelled scans of others show them."""

import numpy as np
import pytest

from synseg_jax.evaluation import plausibility
from synseg_jax.evaluation.plausibility import Organ

NAMES = {'liver': 1, 'spleen': 2}
IMAGE = np.zeros((3, 20, 20))
IMAGE[:, 2:18, 2:18] = 0.5  # the body


def _labels(shift=0, side=4):
    labels = np.zeros(IMAGE.shape, np.uint8)
    labels[:, 6:12, 3 + shift : 9 + shift] = 1
    labels[:, 6 : 6 + side, 13 : 13 + side] = 2
    return labels


def _organs(labels, image=IMAGE):
    return plausibility.organs(labels, image, NAMES, pixel_ml=0.5)


@pytest.fixture(scope='module')
def expected():
    return plausibility.expected([_organs(_labels(shift)) for shift in (-1, 0, 1)])


def test_volume_and_place_within_the_body():
    organs = _organs(_labels())
    assert organs['spleen'].volume_ml == 3 * 16 * 0.5
    low, high = 2, 17
    assert organs['spleen'].centre == pytest.approx(((7.5 - low) / (high - low), (14.5 - low) / (high - low)))
    moved = np.roll(IMAGE, 1, (1, 2)), np.roll(_labels(), 1, (1, 2))
    assert _organs(moved[1], moved[0])['spleen'].centre == pytest.approx(organs['spleen'].centre)


def test_an_organ_that_is_erased_or_elsewhere_or_too_large_is_not_plausible(expected):
    cases = {
        'as it is': _labels(),
        'erased': _labels(side=0),
        'too large': _labels(side=7),
        'elsewhere': _labels()[..., ::-1],
    }
    shares = {name: plausibility.plausible_share([_organs(labels)], expected) for name, labels in cases.items()}
    assert shares == {'as it is': 1.0, 'erased': 0.5, 'too large': 0.5, 'elsewhere': 0.0}


def test_ratios_of_volumes(expected):
    ratios = plausibility.volume_ratios([_organs(_labels(side=side)) for side in (0, 4)], expected)
    assert ratios == {'liver': 1.0, 'spleen': 0.5}


def test_an_organ_that_few_labelled_scans_show_is_not_expected():
    shown, none = Organ(3.0, (0.5, 0.5)), Organ(0.0)
    scans = [{'liver': shown, 'spleen': one} for one in (shown, none, none)]
    assert plausibility.expected(scans).keys() == {'liver'}
    assert np.isnan(plausibility.plausible_share(scans, {}))


def test_a_scan_without_body_has_the_edges_of_its_image():
    assert _organs(_labels(), np.zeros_like(IMAGE))['spleen'].centre == pytest.approx((7.5 / 19, 14.5 / 19))
