"""What is looked at while training: whose segmentor sees which images, and what the score is of."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from synseg_jax.batches.selection import Chosen
from synseg_jax.devices.signals import Signals
from synseg_jax.inference import validation
from synseg_jax.inference.run_networks import Networks
from synseg_jax.objective import losses
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import train_stage
from synseg_jax.training.metrics_log import Journal
from synseg_jax.training.system import System

LABEL = np.zeros((32, 32), np.uint8)
LABEL[8:16, 8:16], LABEL[20:24, 4:8] = 1, 2
RECORD = {'image': np.full((32, 32, 1), 0.25, np.float32), 'label': LABEL}
SHIFT = 0.125  # what translation adds


class Known(Networks):
    """Networks that know the labels in one domain and see organ 1 everywhere in the other."""

    def __init__(self, knows, classes=tiny.CLASSES, **changes):
        super().__init__(System(tiny.configure(tiny.config(**changes), 'synseg'), classes), {})
        self.knows, self.asked = knows, []

    def probabilities(self, stack, domain):
        self.asked.append((domain, float(stack.min())))
        seen = LABEL if domain == self.knows else np.ones_like(LABEL)
        return np.eye(3, dtype=np.float32)[np.stack([seen] * len(stack))]

    def translate(self, stack, source):
        return stack + SHIFT


def _both(knows):
    return Known(knows, method='supervised', loss_weights__seg__seg_a=1.0, loss_weights__seg__seg_b=1.0)


def _records(**cases):
    return {domain: [RECORD | {'case': case} for case in of] for domain, of in cases.items()}


def _measured(networks, records):
    """What is found, and what the score is made of."""
    counted, _ = validation.checks(networks.system, validation.labelled(records))
    found = validation.measure(networks, records)
    return found, validation.score([found], counted)


@pytest.mark.parametrize(
    'method, held_out, counted, reported',
    [
        ('synseg', 'ab', ['fake_b'], []),
        ('synseg_hc', 'a', ['fake_b'], []),
        ('tumor_aware', 'ab', ['fake_b'], []),
        ('supervised', 'ab', ['a'], []),
        ('cyclegan', 'ab', [], []),
        ('shape_consistency', 'ab', ['a', 'b'], ['fake_b', 'fake_a']),
        ('shape_consistency', 'a', ['a', 'fake_b'], []),
        ('shape_consistency', '', [], []),
    ],
)
def test_what_makes_up_the_score(method, held_out, counted, reported):
    """Target labels only in methods that train on them."""
    found = validation.checks(Known('a', method=method).system, set(held_out))
    assert [[check.name for check in part] for part in found] == [counted, reported]


@pytest.mark.parametrize('knows', ['a', 'b'])
def test_a_method_that_only_segments_is_scored_on_all_that_it_segments(knows):
    """Both domains weigh the same, however many scans they have."""
    found, scores = _measured(_both(knows), _records(a=[0, 0, 3], b=[0]))
    assert found.keys() == {('a', 0), ('a', 3), ('b', 0)}
    assert all((value == 1) == (domain == knows) for (domain, _), (value, _) in found.items())
    wrong = next(value for (domain, _), (value, _) in found.items() if domain != knows)
    each = {f'dice_{domain}': pytest.approx(1 if domain == knows else wrong) for domain in 'ab'}
    assert wrong < 0.5 and scores == {'score': pytest.approx((1 + wrong) / 2), **each}


@pytest.mark.parametrize('knows', ['a', 'b'])
def test_joint_training_is_scored_on_real_scans_of_both_domains(knows):
    """Each through its own segmentor; translated scans are told."""
    networks = Known(knows, method='shape_consistency')
    found, scores = _measured(networks, _records(a=[0, 1], b=[0]))
    assert found.keys() == {('a', 0), ('a', 1), ('b', 0), ('fake_a', 0), ('fake_b', 0), ('fake_b', 1)}
    wrong = scores[f'dice_{"b" if knows == "a" else "a"}']
    assert wrong < 0.5 and scores['score'] == pytest.approx((1 + wrong) / 2)
    assert scores == {
        'score': scores['score'],
        **{f'dice_{name}': pytest.approx(1 if name[-1] == knows else wrong) for name in ('a', 'b', 'fake_a', 'fake_b')},
        'change': SHIFT,
    }
    assert set(networks.asked) == {(d, 0.25 + shift) for d in 'ab' for shift in (0, SHIFT)}


def test_a_translated_source_is_scored_as_what_it_was_translated_to():
    networks = Known('b')
    found, scores = _measured(networks, _records(a=[0, 1], b=[0]))
    assert found == {('fake_b', 0): (1.0, SHIFT), ('fake_b', 1): (1.0, SHIFT)}
    assert scores == {'score': 1.0, 'change': SHIFT}
    assert networks.asked == [('b', 0.25 + SHIFT)] * 2


LOGITS = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))


@pytest.mark.parametrize('name', losses.SEGMENTATION)
def test_the_held_out_loss_is_the_loss_that_is_trained(name):
    """Of one scan of each domain."""
    count = 2 if name == 'binary_cross_entropy' else 3
    label, logits = np.minimum(LABEL, count - 1), LOGITS[..., : 1 if count == 2 else 3]

    class Unsure(Known):
        def probabilities(self, stack, domain):
            return np.asarray(jax.nn.softmax(losses.two_classes(logits) if count == 2 else logits))

    changes = {'loss__segmentation': name, 'loss__class_weights': (1.0, 4.0, 2.0)[:count], 'loss__by_weight': True}
    networks = Unsure('a', tiny.CLASSES[:count], method='shape_consistency', **changes)
    records = {d: [{'image': RECORD['image'], 'label': label, 'case': 0}] for d in 'ab'}
    found = validation.losses(networks, records)
    expected = float(networks.system.view({}).segmentation(jnp.asarray(logits), jnp.asarray(label[None], jnp.int32)))
    assert found == {('a', 0): pytest.approx(expected, rel=1e-5), ('b', 0): pytest.approx(expected, rel=1e-5)}


def test_the_held_out_loss_of_processes_is_that_of_one():
    parts = [{('a', 0): 1.0, ('b', 0): 5.0}, {('a', 1): 2.0}]
    assert validation.mean_loss(parts) == validation.mean_loss([{**parts[1], **parts[0]}]) == (1.5 + 5.0) / 2
    assert np.isnan(validation.mean_loss([{}, {}]))


def test_all_validation_sets_of_a_domain_count(tiny_records):
    """Their cases are told apart, and a set without labels is passed over."""
    manifest = Manifest.load(tiny_records)
    of = [('source', 'val'), ('target', 'train'), ('source', 'train')]
    read = [Chosen(manifest, *place, tuple(range(len(manifest.role(*place)['cases'])))) for place in of]
    fit, journal, signals = (object.__new__(kind) for kind in (train_stage.StageTraining, Journal, Signals))
    fit.stage = SimpleNamespace(scans=lambda domain, role: read if domain == 'a' else [])
    fit.system, fit.config = Known('a', method='supervised').system, tiny.config()
    fit.plan = SimpleNamespace(patience=0)
    held_out = train_stage.Validation(fit, journal, signals).held_out['a']
    assert sorted({int(record['case']) for record in held_out}) == [0, 1, 2, 3, 4]
    assert len(held_out) == len(read[0].open()) + len(read[2].open())
    np.testing.assert_array_equal(held_out[len(held_out) - 1]['image'], read[2].open()[23]['image'])
    assert len(validation.HeldOut(read[1:2])) == len(read[1].open())  # for the picture


def test_scans_without_labels_have_no_score():
    unlabelled = {d: [{k: v for k, v in r.items() if k != 'label'} for r in rs] for d, rs in _records(a=[0]).items()}
    assert _measured(_both('a'), unlabelled) == ({}, {})


@pytest.mark.parametrize('knows', ['a', 'b'])
def test_the_picture_shows_each_domain_by_its_own_segmentor(knows):
    (row,) = validation.both_paths(_both(knows), _records(a=[0], b=[0]))
    for domain in 'ab':
        _, shown = row[f'segmented real {domain}']
        assert np.array_equal(shown, LABEL) == (domain == knows)


def test_the_picture_shows_the_synthetic_scan_by_the_segmentor_of_the_target():
    (row,) = validation.both_paths(Known('b'), _records(a=[0], b=[0]))
    image, shown = row['segmented synthetic b']
    assert image.min() == 0.25 + SHIFT and np.array_equal(shown, LABEL)
    assert np.array_equal(row['segmented real b'][1], LABEL) and 'segmented real a' not in row
