"""What is looked at while training: whose segmentor sees which images, and what the score is of."""

import numpy as np
import pytest
import tiny

from synseg_jax.training import validation
from synseg_jax.training.inference import Networks
from synseg_jax.training.system import System, configure

LABEL = np.zeros((32, 32), np.uint8)
LABEL[8:16, 8:16], LABEL[20:24, 4:8] = 1, 2
RECORD = {'image': np.full((32, 32, 1), 0.25, np.float32), 'label': LABEL}
SHIFT = 0.125  # what translation adds


class Known(Networks):
    """Networks that know the labels in one domain and see organ 1 everywhere in the other."""

    def __init__(self, knows, **changes):
        super().__init__(System(configure(tiny.config(**changes), 'synseg'), tiny.CLASSES), {})
        self.knows, self.asked = knows, []

    def votes(self, stack, domain):
        self.asked.append((domain, float(stack.min())))
        seen = LABEL if domain == self.knows else np.ones_like(LABEL)
        return np.eye(3, dtype=np.float32)[np.stack([seen] * len(stack))]

    def translate(self, stack, source):
        return stack + SHIFT


def _both(knows):
    return Known(knows, method='supervised', pays__seg__seg_a=1.0, pays__seg__seg_b=1.0)


def _records(**cases):
    return {domain: [RECORD | {'case': case} for case in of] for domain, of in cases.items()}


@pytest.mark.parametrize('knows', ['a', 'b'])
def test_a_method_that_only_segments_is_scored_on_all_that_it_segments(knows):
    found = validation.measure(_both(knows), _records(a=[0, 0, 3], b=[0]))
    assert found.keys() == {('a', 0), ('a', 3), ('b', 0)}
    assert all((score == 1) == (domain == knows) for (domain, _), (score, _) in found.items())
    wrong = next(score for (domain, _), (score, _) in found.items() if domain != knows)
    right = [domain for domain, _ in found].count(knows)
    assert validation.score([found]) == {'score': pytest.approx((right + (3 - right) * wrong) / 3)}


def test_a_translated_source_is_scored_as_what_it_was_translated_to():
    networks = Known('b')
    found = validation.measure(networks, _records(a=[0, 1], b=[0]))
    assert found == {('a', 0): (1.0, SHIFT), ('a', 1): (1.0, SHIFT)}
    assert networks.asked == [('b', 0.25 + SHIFT)] * 2


def test_scans_without_labels_have_no_score():
    unlabelled = {d: [{k: v for k, v in r.items() if k != 'label'} for r in rs] for d, rs in _records(a=[0]).items()}
    assert validation.measure(_both('a'), unlabelled) == {} and validation.score([{}]) == {}


@pytest.mark.parametrize('knows', ['a', 'b'])
def test_the_picture_shows_each_domain_by_its_own_segmentor(knows):
    (row,) = validation.both_paths(_both(knows), _records(a=[0], b=[0]))
    for domain in 'ab':
        _, shown = row[f'segmentation of real {domain}']
        assert np.array_equal(shown, LABEL) == (domain == knows)


def test_the_picture_shows_the_synthetic_scan_by_the_segmentor_of_the_target():
    (row,) = validation.both_paths(Known('b'), _records(a=[0], b=[0]))
    image, shown = row['segmentation of synthetic b']
    assert image.min() == 0.25 + SHIFT and np.array_equal(shown, LABEL)
    assert np.array_equal(row['segmentation of real b'][1], LABEL) and 'segmentation of real a' not in row
