"""Masked CycleGAN: labels of both domains are translated beside the image; and what is still found afterwards."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.evaluation import lesions, metrics
from synseg_jax.formats import scan_file
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.slices import resize, with_mask
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import train_stage

LABELS = {'data': {'target_labels': True}}
STAGES = {
    'translate': {'method': 'cyclegan', 'label_channel': True, 'sets': {'a': ('source',), 'b': ('target',)}, **LABELS},
    'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': ('source',), 'b': ()}},
    'segment': {
        'method': 'supervised',
        'loss_weights': {'seg': {'seg_a': 0.0, 'seg_b': 1.0}},
        'sets': {'a': (), 'b': ('synthesis',)},
    },
}
ON_TARGET = {
    'method': 'supervised',
    'loss_weights': STAGES['segment']['loss_weights'],
    'sets': {'a': (), 'b': ('target',)},
    **LABELS,
}
# a stage before those that it judges, by name and in order
KEPT = {'a_judge': ON_TARGET, 'translate': STAGES['translate'], 'synthesis': STAGES['synthesis']}


@pytest.fixture(scope='module')
def finished(tiny_records, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('masked')
    config = tiny.config(tiny_records, train__steps=2, train__decay_steps=0, train__save_every=2)
    kept = {'stages': KEPT, 'evaluate_stage': 'a_judge', 'test_sets': ('synthesis', 'target'), 'lesions': ('spleen',)}
    kept['lesion_patch_mm'] = 40.0
    config.systems, config.default_system = {'masked': {'stages': STAGES}, 'kept': kept}, 'masked'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_stage.StageTraining, 'run', untrained.fit)
        tiny.run(config, workdir, tiny.quiet())
    return workdir, trained_model.Trained(model_folder.Run.load((workdir / 'masked' / 'translate').resolve()))


def test_networks_see_images_and_labels(finished):
    _, trained = finished
    system = trained.networks.system
    assert system.channels == {'a': 2, 'b': 2} and {'label_a', 'label_b'} <= system.arrays
    over, batch = parallel.mesh(1), {k: np.zeros((2, 32, 32, 1) if len(k) == 1 else (2, 32, 32)) for k in system.arrays}
    batch = {k: v.astype(np.int32 if k.startswith('label') else np.float32) for k, v in batch.items()}
    state, metrics = jax.eval_shape(system.step(6, over), system.abstract_state(over), batch)
    assert {*system.method.terms()} <= {*metrics} and state.image_pool['b'].images.shape[-1] == 2
    assert trained.networks.params['d_b']['conv0']['kernel'].shape[-2] == 2
    assert trained.networks.params['g_ab']['head']['kernel'].shape[-1] == 2


def test_what_a_stage_makes_depends_on_the_labels(finished, tiny_records):
    workdir, trained = finished
    made = Manifest.load(workdir / 'masked' / 'synthesis' / 'records')
    real = Manifest.load(tiny_records).records('source', 'train')[2]
    image, label = resize(real['image'][None], (32, 32)), resize(real['label'][None], (32, 32))
    seen = with_mask(image, label)
    assert seen.shape == (1, 32, 32, 2) and set(np.unique(seen[..., 1])) == {0, 1}
    np.testing.assert_array_equal(seen[..., 1] == 1, label > 0)
    expected = np.clip(trained.networks.translate(seen, 'a')[..., :1], 0, 1)
    found = made.records('synthesis', 'train')[2]
    np.testing.assert_allclose(found['image'], expected[0], atol=2e-5)
    np.testing.assert_array_equal(found['label'], label[0])
    assert not np.allclose(trained.networks.translate(with_mask(image, 0 * label), 'a')[..., :1], expected, atol=1e-4)


def test_it_reads_target_labels_and_says_so(finished):
    workdir, trained = finished
    found = json.loads((workdir / 'masked' / 'results.json').read_text())
    assert found['reads_target_labels'] and found['synthesis'] == {} and found['cases']['target']
    scan = scan_file.read(
        Manifest.load(workdir / 'masked' / 'synthesis' / 'records').role('synthesis', 'train')['cases'][0]['image']
    )
    with pytest.raises(InputError, match='masked generators need labels'):
        trained.synthesize(scan, 'a')


def test_a_scan_is_made_whole_as_its_records_are(finished, tiny_records):
    workdir, trained = finished
    made = Manifest.load(workdir / 'masked' / 'synthesis' / 'records')
    case = made.role('synthesis', 'train')['cases'][0]
    scan, mask = scan_file.read(case['image']), scan_file.read_labels(case['label']).array > 0
    frame = trained.run.frame(scan, 'a', (32, 32), 0.0)
    label = made.records('synthesis', 'train')[0]['label']
    np.testing.assert_array_equal(frame.nearest(mask)[case['kept'][0]], label > 0)
    with_labels = trained.synthesize(scan, 'a', mask)
    assert with_labels.shape == scan.array.shape and np.ptp(with_labels) > 0
    assert (with_labels != trained.synthesize(scan, 'a', np.zeros_like(mask))).any()


def test_what_survives_translation_is_measured_by_the_stage_that_is_named(finished, tiny_records):
    workdir, trained = finished
    found = json.loads((workdir / 'kept' / 'results.json').read_text())
    made = Manifest.load(workdir / 'kept' / 'synthesis' / 'records')
    cases = {case['id']: case for role in made.sets['synthesis']['roles'].values() for case in role['cases']}
    assert found['cases']['synthesis'].keys() == cases.keys() and found['cases']['target']
    judge = trained_model.Trained(model_folder.Run.load((workdir / 'kept' / 'a_judge').resolve()))
    case = next(iter(cases))
    scan, label = scan_file.read(cases[case]['image']), scan_file.read_labels(cases[case]['label']).array
    fake = replace(scan, array=trained.synthesize(scan, 'a', label > 0).astype(np.float32))
    measured = found['cases']['synthesis'][case]['spleen']
    expected = metrics.case_measures(judge.segment(fake, 'b'), label, tiny.CLASSES, scan.spacing_mm)['spleen']
    assert expected == {name: measured[name] for name in expected}
    seen = lesions.lesions(judge.segment(fake, 'b') == 2, label == 2)
    assert (measured['lesions'], measured['false_lesions']) == (seen.found / seen.total, seen.false)
    real = []
    for one in Manifest.load(tiny_records).role('target', 'train')['cases']:
        window = Normalisation(one['low'], one['high'])
        inside = scan_file.read_labels(one['label']).array == 2
        real.append(window.apply(scan_file.read(one['image']).array)[inside])
    real = lesions.histogram(np.concatenate(real))
    inside = {}
    for name, one in cases.items():
        scan, label = scan_file.read(one['image']), scan_file.read_labels(one['label']).array
        made = trained.normalisation('b').apply(trained.synthesize(scan, 'a', label > 0).astype(np.float32))
        inside[name] = lesions.histogram(made[label == 2])
    assert measured['kl'] == pytest.approx(lesions.divergence(inside[case], real))
    together = found['pooled']['synthesis']['spleen']['kl_pooled']
    assert together == pytest.approx(lesions.divergence(sum(inside.values()), real))
    assert measured['kl'] != pytest.approx(together)
    assert found['sets']['synthesis']['classes']['spleen']['patch_dice']['n'] == len(cases)
    on_real = next(iter(found['cases']['target'].values()))
    assert 'kl' not in on_real['spleen'] and 'lesions' in on_real['spleen'] and 'lesions' not in on_real['liver']
    head = (workdir / 'kept' / 'synthesis.csv').read_text().splitlines()[0]
    assert head == 'case,organ,dice,iou,asd_mm,hd95_mm,nsd_2mm,lesions,false_lesions,kl,patch_dice,patch_hd95_mm'


def test_a_tested_stage_that_is_not_there(tiny_records, tmp_path):
    config = tiny.config(tiny_records)
    config.systems, config.default_system = {'kept': {'stages': KEPT, 'evaluate_stage': 'judge'}}, 'kept'
    with pytest.raises(InputError, match='stage.*judge'):
        tiny.run(config, tmp_path, tiny.quiet())
    assert not (tmp_path / 'stages').exists()
