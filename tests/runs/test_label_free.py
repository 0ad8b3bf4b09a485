"""Scores without target labels: what they see, what they are blind to, and that no target label reaches them."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest
import tiny

from synseg_jax.batches.samples import Sample, spread
from synseg_jax.evaluation import plausibility, summary
from synseg_jax.inference.run_networks import Networks
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import comparison, label_free
from synseg_jax.runs.label_free import LabelFree
from synseg_jax.runs.stages import Stage
from synseg_jax.training import selection
from synseg_jax.training.selection import Validation
from synseg_jax.training.system import System

ORGANS = {'liver': 1, 'spleen': 2}
LABEL = np.zeros((32, 32), np.uint8)
LABEL[8:18, 6:14], LABEL[10:18, 20:26] = 1, 2
IMAGE = np.where(LABEL == 2, 0.9, np.where(LABEL == 1, 0.6, 0.3)).astype(np.float32)
IMAGE[:2] = IMAGE[-2:] = IMAGE[:, :2] = IMAGE[:, -2:] = 0


class Segmentor(Networks):
    """Networks whose segmentor is a function of an image in [0, 1]."""

    def __init__(self, function, **changes):
        super().__init__(System(tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES), {})
        self.function, self.translated = function, []

    def probabilities(self, stack, domain):
        return np.eye(3, dtype=np.float32)[np.stack([self.function(image[..., 0]) for image in stack])]

    def translate(self, stack, source):
        self.translated.append(source)
        return stack


def _good(image):
    return np.digitize(image, (0.45, 0.75))


def _rough(image):
    """Finds both organs, with errors that depend on the image."""
    return _good(image) * (image * 1000 % 7 > 1)


def _eraser(image):
    return np.minimum(_good(image), 1) * (image < 0.75)


def _constant(image):
    halves = np.ones(image.shape, int)
    halves[:, 16:] = 2
    return halves


def _sample(target_labels=None, scan=0, domain='a'):
    rng = np.random.default_rng(scan)
    image = (
        np.clip(IMAGE + rng.normal(0, 0.02, IMAGE.shape), 0, 1).astype(np.float32)[..., None] * (IMAGE > 0)[..., None]
    )
    labels = LABEL if domain == 'a' else target_labels
    record = {'image': image} if labels is None else {'image': image, 'label': labels}
    return Sample([record] * 2, (0, 1), 100.0)


def _scans(target_labels=None):
    source = [_sample(scan=scan) for scan in range(3)]
    target = [_sample(target_labels, scan, 'b') for scan in (3, 4)]
    expected = plausibility.expected([label_free._organs(s, s.labels(()), ORGANS, ()) for s in source])
    return LabelFree(ORGANS, source, target, expected, changed=lambda key, images, labels, classes: images - 0.02)


def _scores(function, scans=None, **changes):
    scans = scans or _scans()
    return scans.combine([scans.measure(Segmentor(function, **changes))])


@pytest.fixture(scope='module')
def scores():
    return {function.__name__[1:]: _scores(function) for function in (_good, _rough, _eraser, _constant)}


def test_a_segmentor_that_erases_an_organ_is_ranked_last_by_plausibility_and_caught(scores):
    assert scores['good']['plausible'] == scores['rough']['plausible'] == 1 and scores['eraser']['plausible'] == 0.5
    assert scores['eraser']['agreement'] > scores['rough']['agreement']  # which does not see it
    assert scores['eraser']['volume/spleen'] == 0
    said = selection.departed([Validation(10, scores['good'])], scores['eraser'], 0)
    assert said.startswith('spleen has 0.00 times its mean volume in the source')


def test_a_constant_segmentor_agrees_with_itself_and_with_nothing_else(scores):
    assert scores['constant']['agreement'] > 0.9
    assert scores['constant']['plausible'] == 0 and scores['constant']['randomised_dice'] < 0.3


def test_a_segmentor_that_finds_nothing_agrees_with_nothing():
    nothing = _scores(lambda image: np.zeros(image.shape, int))
    assert nothing == {'randomised_dice': 0, 'agreement': 0, 'plausible': 0, 'volume/liver': 0, 'volume/spleen': 0}


def test_the_order_of_ranks(scores):
    """None of the three scores alone puts both failures behind."""
    validations = [Validation(i, of) for i, of in enumerate(scores.values(), 1)]
    names = [*scores]
    order = [names[step - 1] for step in selection.order('label_free', validations, dict.fromkeys((1, 2, 3, 4)))]
    assert order[0] == 'good' and order[-1] == 'constant'


@pytest.mark.parametrize('garbage', [np.full((32, 32), 2, np.uint8), LABEL[::-1].copy()])
def test_labels_of_the_target_change_no_bit(scores, garbage):
    assert _scores(_rough, _scans(garbage)) == scores['rough']


def test_shares_of_processes_are_put_together(scores):
    whole = _scans()
    shares = [replace(whole, source=whole.source[:2], target=[]), replace(whole, source=[], target=whole.target)]
    measured = [part.measure(Segmentor(_rough)) for part in shares]
    measured[1]['randomised_dice'] = {2: whole.measure(Segmentor(_rough))['randomised_dice'][2]}
    assert whole.combine(measured) == whole.combine(measured[::-1]) == scores['rough']


@pytest.mark.parametrize(
    'method, calls', [('synseg', ['b', 'a']), ('shape_consistency', ['b']), ('synseg_hc', []), ('supervised', [])]
)
def test_which_translation_is_compared(method, calls):
    """By s_a where it is trained; else there and back, as s_b has seen no scan that looks like the source."""
    networks = Segmentor(_good, method=method)
    replace(_scans(), source=[], target=_scans().target[:1]).measure(networks)
    assert networks.translated == calls


def test_nothing_is_measured_once_training_is_to_stop():
    share = _scans().measure(Segmentor(_good), stop=lambda: True)
    assert share == {'randomised_dice': {}, 'agreement': {}, 'organs': {}} and _scans().combine([share]) == {}


def test_intensities_change_in_the_same_way_each_time():
    images, labels = jnp.asarray(np.stack([IMAGE] * 3)[..., None]), jnp.asarray([LABEL] * 3, jnp.int32)
    change = jax.jit(partial(label_free.randomise, classes=1 + len(ORGANS)))
    made = [[np.asarray(change(jax.random.key(i), images, labels)) for i in range(6)] for _ in range(2)]
    assert all(one.tobytes() == other.tobytes() for one, other in zip(*made, strict=True))
    assert len({image.tobytes() for image in made[0]}) == 6
    assert all(0 <= image.min() and image.max() <= 1 for image in made[0])
    assert all(np.array_equal(image[0], image[2]) for image in made[0])  # all slices alike


@pytest.mark.parametrize('count, most', [(7, 6), (24, 16), (3, 16), (16, 16), (100, 1)])
def test_slices_are_spread_evenly(count, most):
    indices = spread(count, most)
    assert len(indices) == len(set(indices)) == min(count, most) and indices == sorted(indices)
    assert set(np.diff(indices).tolist()) <= {count // most, count // most + 1, 1}


def _stage(records, **changes):
    manifest = Manifest.load(records)
    config = tiny.configure(tiny.config(records, **changes), 'synseg')
    return Stage('train', config, manifest, dict.fromkeys(manifest.sets, manifest))


def test_volumes_on_records_are_those_of_the_scans(tiny_records):
    stage = _stage(tiny_records)
    (case, *_), scans = stage.scans('a')[0].described, LabelFree.of(stage, ())
    labels = np.asarray(nib.load(case['label']).dataobj)
    sample = label_free.samples(stage.scans('a'), 1, 16)[0]
    found = label_free._organs(sample, sample.labels(()), ORGANS, ())
    for name, value in ORGANS.items():
        assert found[name].volume_ml == pytest.approx((labels == value).sum() * 3 * 3 * 5 / 1000, rel=0.05)
    assert scans.expected.keys() == ORGANS.keys() and len(scans.source) == 1 and len(scans.target) == 3


def test_garbage_in_the_target_label_files_changes_no_bit(tiny_records, tmp_path):
    """Even of records that hold target labels, as those of other systems do."""
    tiny.write_dataset(tmp_path / 'Dataset_CT', 'CT', tiny.SUBJECTS['CT'])
    for number, path in enumerate(sorted((tmp_path / 'Dataset_CT' / 'labelsTr').iterdir())):
        garbage = np.random.default_rng(number).integers(0, 3, tiny.SHAPE).astype(np.uint8)
        nib.save(nib.Nifti1Image(garbage, tiny.AFFINE), path)
    spoilt = tiny.write_records(tmp_path, data__target_labels=True)
    found = []
    for records in (tiny_records, spoilt):
        scans = LabelFree.of(_stage(records), ())
        found.append(scans.combine([scans.measure(Segmentor(_rough))]))
    assert found[0] == found[1] and {'randomised_dice', 'agreement', 'plausible', 'volume/liver'} <= found[0].keys()


def _run(records, workdir, **changes):
    fields = {'train__steps': 8, 'train__decay_steps': 0, 'train__save_every': 4, **changes}
    c = tiny.config(records, **fields)
    c.systems, c.default_system = {'alone': {'method': 'supervised'}}, 'alone'
    console = tiny.quiet()
    return tiny.run(c, workdir, console), console.file.getvalue()


def test_the_choices_of_all_rules_are_told_beside_the_oracles(tiny_records, tmp_path):
    _run(tiny_records, tmp_path, selection='label_free', oracle=True)
    (stage,) = (tmp_path / 'stages').iterdir()
    columns = (stage / 'validation.csv').read_text().splitlines()[0].split(',')
    assert columns == ['step', 'score', 'randomised_dice', 'agreement', 'plausible', 'volume/liver', 'volume/spleen']
    results = json.loads((tmp_path / 'alone' / 'results.json').read_text())
    (choices,) = results['choices']['target']
    assert choices.keys() == {*selection.RULES, 'oracle'} and choices['last']['step'] == 8
    assert choices['oracle']['dice'] == max(choice['dice'] for choice in choices.values())
    used = np.mean([*summary.organ_means(results['cases']['target'], 'dice').values()])
    assert used == pytest.approx(choices['label_free']['dice'], abs=1e-6)
    told = f'label_free {used:.3f} (step {choices["label_free"]["step"]})'
    assert told in comparison._note(results, 'target', '')


def test_a_stage_that_the_guard_ended_is_finished(tiny_records, tmp_path, monkeypatch):
    ratios = iter((1.0, 0.1))
    monkeypatch.setattr(LabelFree, 'combine', lambda self, shares: {'agreement': 0.5, 'volume/liver': next(ratios)})
    guarded = {'train__guard': True, 'train__steps': 12}
    results, said = _run(tiny_records, tmp_path, **guarded)
    left = 'liver has 0.10 times its mean volume in the source, which may be 0.4 to 2.5'
    assert f'step 8: {left}; training ends, back to step 4' in said
    assert 'uses the weights of step 4' in said and results['steps'] == 8
    (stage,) = (tmp_path / 'stages').iterdir()
    cost = json.loads((stage / 'cost.json').read_text())
    assert (cost['finished'], cost['trained'], cost['steps']) == (True, 8, 12) and cost['stopped'] == left
    assert 'done: 12 steps' in _run(tiny_records, tmp_path, **guarded)[1]
