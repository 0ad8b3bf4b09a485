"""Whole volumes go the way of slices: records, every method's stages, predictions on the scan's own grid, results."""

import json
from functools import partial

import jax
import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.batches.selection import Fold, select
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging.sliding_window import about_middle
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import open_run, train_stage
from synseg_jax.specification.parse import parse_data

SIZE, SPACING = (8, 16, 16), 4.5
UNET = {'architecture': 'unet', 'width': 2, 'levels': 1, 'extra': 0, 'dropout': 0.0, 'up_width': 3}
VOLUMES = {'data__size': SIZE, 'data__spacing_mm': SPACING}
REAL = {'sets': {'a': ('source',), 'b': ('target',)}}
STAGES = {
    'translate': {'method': 'cyclegan', **REAL},
    'made_b': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': ('source',), 'b': ()}},
    'back_b': {'kind': 'reconstruct', 'generators_from': 'translate', 'sets': {'a': (), 'b': ('target',)}},
    'made_a': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': (), 'b': ('target',)}},
    'segment': {
        'method': 'supervised',
        'loss_weights': {'seg': {'seg_a': 1.0, 'seg_b': 1.0}},
        'sets': {'a': ('source', 'made_a'), 'b': ('target', 'made_b', 'back_b')},
        'train': {'mixed': True},
    },
    'joint': {'method': 'shape_consistency', 'start': {'stages': ('segment', 'translate')}, **REAL},
}


def config(data, **changes):
    c = tiny.config(data, **{**VOLUMES, **changes}, train__steps=2, train__decay_steps=0, train__save_every=2)
    c.image_pool, c.augment.shift = 0, 0.0
    c.generator = {**UNET, 'norm': True, 'strided': True, 'tanh': True}
    c.segmentor = dict(UNET)
    c.systems, c.default_system = {'joint': {'stages': STAGES}}, 'joint'
    c.test_sets = ('target', 'source')
    c.data.target_labels, c.data.source_split = True, (0.6, 0.2, 0.2)
    return c


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('volumes')
    return tiny.write_records(folder, **VOLUMES, data__target_labels=True, data__source_split=(0.6, 0.2, 0.2))


def test_records(records):
    manifest = Manifest.load(records)
    assert (manifest.size, manifest.spacing_mm) == (SIZE, SPACING)
    cases = manifest.role('source', 'train')['cases']
    assert [case['records'] for case in cases] == [1] * len(cases) and cases[0]['dropped'] == 0
    record = manifest.records('source', 'train')[0]
    assert record['image'].shape == (*SIZE, 1) and record['label'].shape == SIZE
    scan, labels = scan_file.read(cases[0]['image']), scan_file.read_labels(cases[0]['label'])
    marked = np.nonzero(record['label'])
    for axis, length in enumerate(SIZE):  # the box is about the middle of what is labelled
        assert abs(marked[axis].min() + marked[axis].max() + 1 - length) <= 1
    for value in (1, 2):
        mm3 = [float((a == value).sum() * v) for a, v in
               ((labels.array, np.prod(scan.spacing_mm)), (record['label'], SPACING**3))]  # fmt: skip
        assert mm3[1] == pytest.approx(mm3[0], rel=0.45)
    liver, spleen = (record['image'][..., 0][record['label'] == value].mean() for value in (1, 2))
    assert spleen > liver + 0.5  # MR 700 against 200


def test_wrong_sizes():
    with pytest.raises(InputError, match=r'data.spacing_mm .* with data.size .*: volumes, three numbers, need'):
        tiny.prepare([], '/nowhere', parse_data(tiny.config(data__size=(8, 16, 16), data__spacing_mm=0.0)))
    with pytest.raises(InputError, match='data.spacing_mm=-1.5: give a number of mm from 0.01 to 1000, or 0'):
        parse_data(tiny.config(data__size=(16, 16), data__spacing_mm=-1.5))


@pytest.fixture(scope='module')
def finished(records, tmp_path_factory):
    """A workdir and its results; of the stages the last, which has all terms, is trained."""
    workdir, training = tmp_path_factory.mktemp('volumes_run'), train_stage.StageTraining
    train = training.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train_stage.StageTraining, 'run', lambda fit, *told: (train if fit.begin else untrained.fit)(fit, *told)
        )
        return workdir, tiny.run(config(records), workdir, tiny.quiet())


def test_results(finished):
    workdir, results = finished
    assert results['systems']['joint'].keys() == {'target', 'source'}
    found = json.loads((workdir / 'joint' / 'results.json').read_text())
    assert found['reads_target_labels'] and all(found['cases'][name] for name in ('target', 'source'))
    assert results['systems']['joint']['target']['mean']['dice']['n'] == 1 and found['steps'] == 3 * 2


def test_a_stage_begins_with_the_weights_of_several(finished, records):
    """Each network's from the stage that trained it; two steps have moved them a little."""
    workdir, _ = finished
    params = {
        name: trained_model.Trained(model_folder.Run.load((workdir / 'joint' / name).resolve())).networks.params
        for name in ('segment', 'translate', 'joint')
    }
    assert params['joint'].keys() == params['segment'].keys() | params['translate'].keys()
    for stage in ('segment', 'translate'):
        for name in params[stage]:
            pairs = zip(jax.tree.leaves(params['joint'][name]), jax.tree.leaves(params[stage][name]), strict=True)
            moved = [float(np.abs(x - y).max()) for x, y in pairs]
            assert 0 < max(moved) < 0.01, (stage, name)


def test_made_sets(finished, records):
    workdir, _ = finished
    sets = {name: Manifest.load(workdir / 'joint' / name / 'records') for name in ('made_b', 'back_b', 'made_a')}
    found = {name: [m.sets[name][field] for field in ('domain', 'of', 'from', 'channel')] for name, m in sets.items()}
    assert found['made_b'] == ['b', 'source', 'a', 'CT']
    assert found['back_b'] == ['b', 'target', 'b', 'CT']
    assert found['made_a'] == ['a', 'target', 'b', 'MR']
    trained = trained_model.Trained(model_folder.Run.load((workdir / 'joint' / 'translate').resolve()))
    for name, manifest in sets.items():
        record = manifest.records(name, 'train')[0]
        assert record['image'].shape == (*SIZE, 1) and 'label' in record
    real = Manifest.load(records).records('target', 'train')[0]['image'][None]
    there = trained.networks.translate(real, 'b')
    expected = there, trained.networks.translate(there, 'a')
    for name, image in zip(('made_a', 'back_b'), expected, strict=True):
        made = sets[name].records(name, 'train')[0]['image']
        np.testing.assert_allclose(made, np.clip(image[0], 0, 1), atol=2e-5)


def test_a_part_of_a_set_is_the_same_scans_in_what_is_made_of_it(finished, records):
    sets = {'target': Manifest.load(records)}
    sets['back_b'] = Manifest.load(finished[0] / 'joint' / 'back_b' / 'records')
    chosen = [select([f'{name}:34%'], 'b', sets, 'train', Fold(), sets['target'])[0].open() for name in sets]
    assert len(chosen[0]) == 1 < len(chosen[0].records)
    np.testing.assert_array_equal(chosen[0].rows, chosen[1].rows)
    np.testing.assert_array_equal(chosen[0][0]['label'], chosen[1][0]['label'])


def test_predictions_lie_on_the_scans_own_grid(finished, records):
    workdir, _ = finished
    trained = open_run.find(workdir, 'joint')
    case = Manifest.load(records).role('target', 'test')['cases'][0]
    scan = scan_file.read(case['image'])
    labels, fake = trained.segment(scan, 'b'), trained.synthesize(scan, 'b')
    assert labels.shape == fake.shape == scan.array.shape and fake.dtype == np.int16
    assert labels.max() < len(tiny.CLASSES)
    written = scan_file.read_labels(workdir / 'joint' / 'predictions' / 'target' / f'{case["id"]}.nii.gz')
    np.testing.assert_array_equal(written.array, labels)
    probability = trained.probability(scan, 'b', 1)
    assert probability.shape == scan.array.shape and 0 <= probability.min() <= probability.max() <= 1


def test_the_window_about_what_was_found_is_looked_at_anew(finished, records):
    trained = open_run.find(finished[0], 'joint')
    case = Manifest.load(records).role('target', 'test')['cases'][0]
    frame, probabilities = trained.grid_probabilities(scan_file.read(case['image']), 'b')
    images = frame.images()
    assert images.shape[1:4] != SIZE
    trained = trained.with_fields({'predict.window': 'middle'})
    scan = scan_file.read(case['image'])
    network = partial(trained.networks.probabilities, domain='b')
    expected = about_middle(network, images[0], probabilities[0], SIZE)[None]
    found = trained.probability(scan, 'b', 1)
    np.testing.assert_array_equal(found, frame.place(frame.values(expected[..., 1])))
    assert np.abs(found - frame.place(frame.values(probabilities[..., 1]))).max() > 0.01
