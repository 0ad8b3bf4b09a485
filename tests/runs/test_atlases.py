"""Atlases are moved to where the scan is, the more alike count more, and one's own scan is never among them."""

import json

import numpy as np
import pytest
import tiny
from scipy.ndimage import gaussian_filter

from synseg_jax.errors import InputError
from synseg_jax.evaluation.metrics import dice
from synseg_jax.formats import scan_file
from synseg_jax.inference.multi_atlas import Atlas, Atlases, fuse, register, warp
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import open_run

MM = 4.0


def blob(centre, radii=(5.0, 7.0, 6.0), shape=(20, 28, 26)):
    """A smooth body with an organ in it, in [0, 1], and the organ's label."""
    grid = np.indices(shape, dtype=float)
    away = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
    middle = [(n - 1) / 2 + c - of for n, c, of in zip(shape, centre, (9, 12, 13), strict=True)]
    body = sum(((g - m) / (0.42 * n)) ** 2 for g, m, n in zip(grid, middle, shape, strict=True)) < 1
    labels = (away < 1).astype(np.uint8)
    image = gaussian_filter(0.3 * body + 0.5 * labels, 0.8).astype(np.float32)
    return image, labels


@pytest.fixture(scope='module')
def moved():
    """A scan, an atlas elsewhere and of another shape, and the atlas warped to the scan."""
    image, labels = blob((9.0, 12.0, 13.0))
    atlas = Atlas(*blob((10.5, 15.0, 11.0), (4.2, 6.0, 7.2)), MM)
    return image, labels, atlas, warp(atlas, image, register(image, atlas.image, MM))


def test_registration_moves_an_atlas_to_the_scan(moved):
    image, labels, atlas, found = moved
    before, after = (dice(one.labels > 0, labels > 0) for one in (atlas, found))
    assert before < 0.7 and after > 0.9, (before, after)
    assert np.abs(found.image - image).mean() < 0.5 * np.abs(atlas.image - image).mean()
    assert found.labels.dtype == np.uint8 and set(np.unique(found.labels)) == {0, 1}


def test_registration_is_repeatable(moved):
    image, _, atlas, found = moved
    again = warp(atlas, image, register(image, atlas.image, MM))
    np.testing.assert_array_equal(again.image, found.image)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_a_scan_that_is_too_thin_to_be_registered(moved):
    image, _, atlas, _ = moved
    with pytest.raises(InputError, match=r'cannot be registered to an atlas \(.*\); leave the scan out'):
        register(image[:1], atlas.image, MM)


def test_the_more_alike_count_more():
    scan = np.zeros((4, 5, 30), np.float32)
    scan[..., 15:] = 1.0
    ones, twos = np.ones(scan.shape, np.uint8), np.full(scan.shape, 2, np.uint8)
    alike = Atlas(scan.copy(), ones, 2.0)
    dark = Atlas(np.zeros_like(scan), twos, 2.0)  # alike on the left alone
    votes = fuse(scan, [alike, dark, dark], 3)
    assert votes.shape == (*scan.shape, 3)
    np.testing.assert_allclose(votes.sum(-1), 1, rtol=1e-5)
    assert (votes[..., 0] == 0).all()
    np.testing.assert_allclose(votes[..., 0, 2], 2 / 3, rtol=1e-3)
    assert (votes[..., 25:, 1] > 0.99).all()


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('atlases')
    records = tiny.write_records(folder, data__target_split=(0.5, 0.0, 0.5))
    config = tiny.config(records, data__target_split=(0.5, 0.0, 0.5))
    own = {'kind': 'atlases', 'sets': {'b': ('target',)}, 'data': {'target_labels': True}}
    config.systems, config.default_system = {'atlases': {**own, 'fold': {'set': 'target', 'of': 2}}}, 'atlases'
    workdir = folder / 'run'
    return workdir, tiny.run(config, workdir, tiny.quiet()), records


def test_results(finished):
    workdir, results, records = finished
    assert results['systems']['atlases']['target']['mean']['dice']['mean'] > 0.7
    found = json.loads((workdir / 'atlases' / 'results.json').read_text())
    assert found['reads_target_labels'] and found['folds'] == 2 and found['steps'] == 0
    roles = Manifest.load(records).sets['target']['roles'].values()
    labelled = {case['id'] for role in roles for case in role['cases']}
    assert set(found['cases']['target']) == labelled and len(labelled) == 4  # whatever their split
    for fold in (1, 2):
        place = (workdir / 'atlases' / f'fold{fold}' / 'train').resolve()
        used = {case['id'] for case in json.loads((place / 'atlases.json').read_text())['cases']}
        tested = {path.name[:-7] for path in (workdir / f'atlases/fold{fold}/predictions/target').glob('*.nii.gz')}
        assert len(used) == len(tested) == 2 and not used & tested


def test_predict_finds_them(finished):
    workdir, _, records = finished
    atlases = open_run.find(workdir)
    assert isinstance(atlases, Atlases) and atlases.segments('b') and not atlases.segments('a')
    scan = scan_file.read(Manifest.load(records).role('target', 'test')['cases'][0]['image'])
    labels, share = atlases.segment(scan, 'b'), atlases.probability(scan, 'b', 1)
    assert labels.shape == share.shape == scan.array.shape and share.max() <= 1 + 1e-6
    assert np.mean((share > 0.5) == (labels == 1)) > 0.98
    with pytest.raises(InputError, match="unknown domain of atlases 'a'; known: b"):
        atlases.segment(scan, 'a')


def test_unlabelled_scans_are_no_atlases(finished, tmp_path):
    config = tiny.config(finished[2], data__target_split=(0.5, 0.0, 0.5))
    config.systems, config.default_system = {'atlases': {'kind': 'atlases', 'sets': {'b': ('target',)}}}, 'atlases'
    with pytest.raises(InputError, match='stage train: atlases must be labelled scans; name labelled sets in sets.b'):
        tiny.run(config, tmp_path / 'run', tiny.quiet())
