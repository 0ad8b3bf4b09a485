"""Test-time views: their mean is what each of them finds, brought back to where it was found."""

import itertools

import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.errors import InputError
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.views import View, mean_over, views

ALL = {'predict.rotate': 8.0, 'predict.zoom': 1.15, 'predict.gamma': 1.2}
VOLUMES = {'data__size': (8, 32, 32), 'data__spacing_mm': 3.0}


def _blobs(*space):
    """Smooth slices or volumes in [0, 1], 0 near the border."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in space), indexing='ij')
    centres = np.stack([np.zeros(len(space)), np.full(len(space), 0.3)])
    blobs = [np.exp(-sum((x - c) ** 2 for x, c in zip(grid, centre, strict=True)) / 0.08) for centre in centres]
    return np.stack([0.9 * blobs[0], 0.8 * blobs[1]])[..., None].astype(np.float32)


def _pixelwise(images):
    """A network that sees one pixel at a time, so that it turns and grows with its images."""
    return np.concatenate([1 - images, images], -1)


@pytest.mark.parametrize('space', [(64, 56), (40, 64, 56)])
def test_an_equivariant_network_finds_the_same_in_all_views(space):
    images = _blobs(*space)
    found = mean_over(views(8.0, 1.15, 1.0), _pixelwise, images)
    np.testing.assert_allclose(found, _pixelwise(images), atol=0.015)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_the_mean_is_over_all_views():
    images = _blobs(16, 16)
    by_hand = np.mean([images, images**1.25, images**0.8], 0)
    found = mean_over(views(0.0, 1.0, 1.25), _pixelwise, images)[..., 1:]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    assert views(5.0, 1.1, 1.25) == (
        View(degrees=-5.0), View(degrees=5.0), View(zoom=1 / 1.1), View(zoom=1.1), View(gamma=0.8), View(gamma=1.25)
    )  # fmt: skip


def test_none_changes_nothing():
    images = _blobs(16, 16)
    expected = _pixelwise(images)
    assert views(0.0, 1.0, 1.0) == () and mean_over((), lambda _: expected, images) is expected


def test_a_view_counts_where_it_shows():
    """What it does not show it has no say in, least of all that there is background."""
    calls = itertools.count()

    def network(images):
        share = np.full((*images.shape[:-1], 1), 0.2 if next(calls) else 0.8, np.float32)
        return np.concatenate([1 - share, share], -1)

    found = mean_over((View(zoom=2.0),), network, _blobs(16, 16))
    assert np.allclose(found[:, 5:-5, 5:-5, 1], 0.5, atol=1e-6) and np.allclose(found[:, :3, :, 1], 0.8, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def _bright(stack, domain):
    """Probabilities of three classes by brightness alone: the left organ is the brighter one."""
    centres = np.array([0.0, 0.5, 1.0], np.float32)
    closeness = np.exp(-40 * np.square(stack[..., :1] - centres))
    return closeness / closeness.sum(-1, keepdims=True)


@pytest.mark.parametrize('fields', [{}, VOLUMES], ids=['slices', 'volumes'])
def test_organs_of_both_sides_stay_on_their_side(tmp_path, fields):
    trained = untrained.trained(tmp_path, method='supervised', **fields)
    array = np.full((30, 28, 6), -200, np.float32)  # the bottom of the window
    array[4:11, 8:20], array[19:26, 8:20] = 300, 50
    scan = Volume(array, tiny.AFFINE)
    for changes in ({}, ALL, {**ALL, 'predict.flips': 'lr'}):
        one = trained.with_fields(changes)
        one.networks.probabilities = _bright
        labels = one.segment(scan, 'b')
        assert (labels[5:10, 9:19] == 2).all() and (labels[20:25, 9:19] == 1).all()
        assert not labels[:3].any() and not labels[13:17].any() and not labels[-3:].any()


@pytest.mark.parametrize('fields', [{}, VOLUMES], ids=['slices', 'volumes'])
def test_each_view_has_its_say(tmp_path, fields):
    """In prediction of scans: the mean over the views by hand, and not the plain probabilities."""
    trained = untrained.trained(tmp_path, method='supervised', **fields)
    scan = Volume(tiny.scan(7, 'CT')[0].astype(np.float32), tiny.AFFINE)
    frame, plain = trained.grid_probabilities(scan, 'b')
    images = frame.images()
    found = trained.with_fields(ALL).grid_probabilities(scan, 'b')[1]
    total, weight = plain.copy(), 1.0
    for view in views(*ALL.values()):
        total += view.back(trained.networks.probabilities(view.of(images), 'b'))
        weight = weight + view.back(np.ones_like(images))
    np.testing.assert_allclose(found, total / weight, atol=1e-5)
    assert np.abs(found - plain).max() > 0.01
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize('field, wrong', [('rotate', -1.0), ('rotate', 91.0), ('zoom', 0.9), ('gamma', 0.0)])
def test_views_that_cannot_be(tmp_path, field, wrong):
    with pytest.raises(InputError, match=f'^config.predict.{field}={wrong}: give a finite number from'):
        untrained.trained(tmp_path, method='supervised').with_fields({f'predict.{field}': wrong})
