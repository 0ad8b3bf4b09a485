"""Ensembles: the mean of what their members find, one of them at a time, and only of members that go together."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import trained_model
from synseg_jax.inference.ensemble import Ensemble, ensemble
from synseg_jax.inference.multi_atlas import Atlases
from synseg_jax.inference.predict_scans import check_views, predict
from synseg_jax.training.checkpoint import Checkpoints

ALONE = {'method': 'supervised'}
SCAN = Volume(tiny.scan(7, 'CT')[0].astype(np.float32), tiny.AFFINE)


def _member(folder, seed=0, **changes):
    return untrained.trained(folder / f'member{seed}', **{**ALONE, **changes}, seed=seed)


def _found(segmenter):
    return segmenter.grid_probabilities(SCAN, 'b')[1]


@pytest.mark.parametrize('count', [2, 3])
def test_a_model_with_itself_is_itself_bit_for_bit(tmp_path, count):
    one = _member(tmp_path)
    several = ensemble([one] * count)
    assert isinstance(several, Ensemble) and len(several.members) == count
    np.testing.assert_array_equal(_found(several), _found(one))
    np.testing.assert_array_equal(several.segment(SCAN, 'b'), one.segment(SCAN, 'b'))


def test_of_two_it_is_the_mean(tmp_path):
    one, other = _member(tmp_path), _member(tmp_path, 1)
    before = [_found(one), _found(other)]
    assert np.abs(before[0] - before[1]).max() > 0.05
    several = ensemble([one, other])
    np.testing.assert_allclose(_found(several), np.mean(before, 0), atol=1e-6)
    np.testing.assert_array_equal(before[0], _found(one))  # whose weights and probabilities stay as they are
    assert len({member.networks.system for member in several.members}) == 1  # seeds share what is compiled
    changed = several.with_fields({'predict.rotate': 5.0}).uncut()
    by_hand = np.mean([_found(member.with_fields({'predict.rotate': 5.0})) for member in (one, other)], 0)
    np.testing.assert_allclose(_found(changed), by_hand, atol=1e-6)


def test_fields_of_prediction_are_those_of_the_first(tmp_path):
    one, other = _member(tmp_path, predict__rotate=5.0), _member(tmp_path, 1)
    assert {member.config.predict.rotate for member in ensemble([one, other]).members} == {5.0}


def test_one_member_at_a_time_is_on_the_device(tmp_path, monkeypatch):
    several, seen = ensemble([_member(tmp_path, seed) for seed in range(3)]), []
    compute = trained_model.Trained.compute

    def counting(self, scan, domain):
        trees = [jax.tree.leaves(member.networks.params) for member in several.members]
        seen.append([isinstance(leaves[0], jax.Array) for leaves in trees])
        return compute(self, scan, domain)

    monkeypatch.setattr(trained_model.Trained, 'compute', counting)
    several.progress = lambda: seen.append('done')
    _found(several)
    assert seen[::2] == np.eye(3, dtype=bool).tolist() and seen[1::2] == ['done'] * 3
    assert all(member._last == (None, None, None) for member in several.members)


def test_members_hold_segmentors_alone(tmp_path):
    whole = untrained.trained(tmp_path, method='synseg')
    members = ensemble([whole, whole]).members
    assert set(members[0].networks.params) == {'s_b'} < set(whole.networks.params)


def _other(folder, **changes):
    """A second member that differs in its run."""
    made = _member(folder, 1)
    return type(made)(replace(made.run, **changes), made.networks.params)


@pytest.mark.parametrize(
    'other, said',
    [
        (lambda folder: _other(folder, classes=('background', 'liver', 'kidney')),
         'member1: classes background, liver, kidney, but background, liver, spleen in .*member0; members of an ens'),
        (lambda folder: _other(folder, channels={'a': 'MR', 'b': 'PET'}), "modalities {'a': 'MR', 'b': 'PET'}, but"),
        (lambda folder: _member(folder, 1, data__window_hu=(-100.0, 200.0)), r'data.window_hu \(-100.0, 200.0\), but'),
        (lambda folder: _member(folder, 1, data__size=(16, 16)), r'input size \(16, 16\), but \(32, 32\) in'),
        (lambda folder: _member(folder, 1, data__target_center=0.5), 'data.target_center 0.5, but 1.0 in'),
    ],
    ids=['classes', 'domains', 'window', 'size', 'center'],
)  # fmt: skip
def test_members_that_do_not_go_together_are_refused_in_one_line(tmp_path, other, said):
    with pytest.raises(InputError, match=said) as refused:
        ensemble([_member(tmp_path), other(tmp_path)])
    assert '\n' not in str(refused.value)


def test_slices_and_slices_with_neighbours_go_together(tmp_path):
    several = ensemble([_member(tmp_path), _member(tmp_path, 1, context__slices=1)])
    np.testing.assert_allclose(_found(several).sum(-1), 1, atol=1e-5)


def test_atlases_form_no_ensemble_and_have_no_views(tmp_path):
    (tmp_path / 'atlases.json').write_text(
        json.dumps({'cases': [{'id': 'a', 'image': 'a', 'label': 'a'}], 'labels': {}})
    )
    atlases = Atlases(untrained.run(tmp_path, **ALONE))
    assert ensemble([atlases]) is atlases
    with pytest.raises(InputError, match='atlases form no ensemble; give one workdir'):
        ensemble([atlases, atlases])
    with pytest.raises(InputError, match='--rotate=5.0: does not apply to atlases; leave it out'):
        check_views(atlases.with_fields({'predict.rotate': 5.0}))


def _stage(folder, **changes):
    """A stage with checkpoints of different weights at steps 10, 20 and 30, the first the best, and one between."""
    made = untrained.run(folder, **{**ALONE, 'average': 0.0, **changes})
    made.folder.mkdir(exist_ok=True)
    made.save()
    first = made.system.first_state(parallel.mesh(1))
    with Checkpoints(made.folder / 'checkpoints', keep=4) as checkpoints:
        for step, score in ((10, 0.9), (17, None), (20, 0.3), (30, 0.5)):
            params = jax.tree.map(lambda x, step=step: x * (1 + step / 10), first.params)
            state = first.replace(step=jax.numpy.full_like(first.step, step), params=params)
            checkpoints.save(jax.block_until_ready(state), score)
            checkpoints.wait()
    return trained_model.Trained(made)


def test_the_last_checkpoints_of_a_stage(tmp_path):
    """Those that were validated, not one of an interruption; by default the best alone."""
    stage = _stage(tmp_path)
    assert stage.step == 10 and ensemble([stage]) is stage
    several = ensemble([stage.with_fields({'predict.checkpoints': 2})])
    assert [member.step for member in several.members] == [20, 30]
    by_hand = np.mean([_found(stage.at(step)) for step in (20, 30)], 0)
    np.testing.assert_allclose(_found(several), by_hand, atol=1e-6)
    assert np.abs(by_hand - _found(stage)).max() > 1e-3
    whole = ensemble([stage.with_fields({'predict.checkpoints': 3}), _member(tmp_path, 1)])
    assert [member.step for member in whole.members] == [10, 20, 30, None]
    with pytest.raises(InputError, match=r'^predict.checkpoints=4: .* keeps 3, train.keep=2; give at most 3, or train'):
        ensemble([stage.with_fields({'predict.checkpoints': 4})])


def test_a_scan_that_a_fold_held_out_is_left_to_that_fold(tmp_path):
    members, files = [_member(tmp_path, seed) for seed in range(3)], {}
    for case in 'xyz':
        files[case] = tmp_path / f'{case}.nii.gz'
        scan_file.write(files[case], SCAN.array, SCAN)
    several = ensemble(members, [frozenset({files['x'].resolve()}), frozenset(), frozenset({files['y'].resolve()})])
    written = predict(several, files, tmp_path / 'out')
    found = {case: scan_file.read_labels(path).array for case, path in written.items()}
    read = scan_file.read(files['x'])
    for case, expected in {'x': members[0], 'y': members[2], 'z': ensemble(members)}.items():
        np.testing.assert_array_equal(found[case], expected.segment(read, 'b'))
    told = json.loads((tmp_path / 'out' / 'dataset.json').read_text())['prediction']
    stages = [{'stage': f'member{seed}', 'step': None} for seed in range(3)]
    assert told['members'] == stages and told['cases'] == {'x': [stages[0]], 'y': [stages[2]]}
    assert told['fields']['rotate'] == 0.0 and 'batch' not in told['fields']
