"""Masked CycleGAN: labels of both domains are translated beside the image, and only a stage can do so."""

import json

import numpy as np
import pytest
import tiny

from synseg_jax import experiment, scans
from synseg_jax.data import volume
from synseg_jax.data.records import Manifest
from synseg_jax.data.slices import fitted, with_mask
from synseg_jax.errors import InputError

LABELS = {'data': {'target_labels': True}}
STAGES = {
    'translate': {'method': 'cyclegan', 'masked': True, 'sets': {'a': ('source',), 'b': ('target',)}, **LABELS},
    'synthesis': {'do': 'synthesize', 'by': 'translate', 'sets': {'a': ('source',), 'b': ()}},
    'segment': {
        'method': 'supervised',
        'pays': {'seg': {'seg_a': 0.0, 'seg_b': 1.0}},
        'sets': {'a': (), 'b': ('synthesis',)},
    },
}


@pytest.fixture(scope='module')
def finished(tiny_records, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('masked')
    config = tiny.config(tiny_records, train__steps=2, train__decay_steps=0, train__save_every=2)
    config.systems, config.chosen = {'masked': {'stages': STAGES}}, 'masked'
    experiment.run(config, workdir, tiny.quiet())
    return workdir, scans.Trained(scans.Run.load((workdir / 'masked' / 'translate').resolve()))


def test_networks_see_images_and_labels(finished):
    _, trained = finished
    system = trained.networks.system
    assert system.channels == 2 and {'label_a', 'label_b'} <= system.arrays
    assert trained.networks.params['d_b']['conv0']['kernel'].shape[-2] == 2
    assert trained.networks.params['g_ab']['head']['kernel'].shape[-1] == 2


def test_what_a_stage_makes_depends_on_the_labels(finished, tiny_records):
    workdir, trained = finished
    made = Manifest.load(workdir / 'masked' / 'synthesis' / 'records')
    real = Manifest.load(tiny_records).records('source', 'train')[2]
    image, label = fitted(real['image'][None], (32, 32)), fitted(real['label'][None], (32, 32))
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
    scan = volume.read(
        Manifest.load(workdir / 'masked' / 'synthesis' / 'records').role('synthesis', 'train')['cases'][0]['image']
    )
    with pytest.raises(InputError, match='masked generators see labels beside the image'):
        trained.synthesize(scan, 'a')
