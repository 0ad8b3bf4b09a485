"""Boxes and tiles of volumes: nothing is lost, and what is the same everywhere stays the same."""

import numpy as np
import pytest

from synseg_jax.imaging import sliding_window


def test_shape_at():
    assert sliding_window.shape_at((40, 100, 100), (5.0, 0.8, 0.8), 1.5) == (133, 53, 53)
    assert sliding_window.shape_at((1, 1, 1), (0.1, 0.1, 0.1), 5.0) == (1, 1, 1)


def test_middle():
    labels = np.zeros((9, 10, 11), np.uint8)
    assert sliding_window.box_centre(labels) == (4, 5, 5)
    labels[1, 2:5, 7] = 2
    labels[2, 9, 10] = 1
    assert sliding_window.box_centre(labels) == (2, 6, 9)


@pytest.mark.parametrize('centre', [(3, 4, 5), (0, 0, 0), (5, 7, 9), (-9, 40, 3)])
@pytest.mark.parametrize('size', [(2, 3, 4), (9, 8, 13)])
def test_cut(centre, size):
    volume = 1 + np.arange(6 * 8 * 10).reshape(6, 8, 10)
    box = sliding_window.crop(volume, centre, size)
    assert box.shape == size
    for place in np.ndindex(*size):
        at = tuple(c - n // 2 + p for c, n, p in zip(centre, size, place, strict=True))
        inside = all(0 <= a < n for a, n in zip(at, volume.shape, strict=True))
        assert box[place] == (volume[at] if inside else 0)


@pytest.mark.parametrize('length, window', [(8, 8), (9, 8), (12, 8), (13, 8), (40, 7), (5, 1)])
def test_starts(length, window):
    found = sliding_window.tile_starts(length, window)
    assert found[0] == 0 and found[-1] == length - window and found == sorted(found)
    assert max(np.diff(found), default=0) <= max(1, window // 2)


def test_weights():
    found = sliding_window.tile_weights((4, 5, 8))
    assert found.shape == (4, 5, 8) and found.dtype == np.float32 and found.min() > 0
    np.testing.assert_array_equal(found, found[::-1, ::-1, ::-1])
    assert found[:, 2].max() == 1 and found[1, 2, 3] / found[1, 0, 3] == pytest.approx(np.exp((2 / 0.625) ** 2 / 2))


@pytest.mark.parametrize('size', [(4, 6, 6), (7, 13, 6), (2, 9, 5), (6, 6), (13, 6), (9, 5)])
def test_tiled(size):
    """What a function does to each voxel alone is the same in tiles; what it does to borders counts little."""
    stack = np.random.default_rng(0).random((3, *size, 2)).astype(np.float32)
    window, seen = (4, 6, 6)[-len(size) :], []

    def double(parts):
        seen.append(parts.shape)
        return np.concatenate([2 * parts, parts[..., :1]], -1)

    found = sliding_window.tiled(double, stack, window)
    assert set(seen) == {(3, *window, 2)} and found.shape == (3, *size, 3)
    np.testing.assert_allclose(found, np.concatenate([2 * stack, stack[..., :1]], -1), rtol=1e-5)


@pytest.mark.parametrize('slices', [(), (2,)])
def test_tiles_are_seen_at_their_place(slices):
    places = []

    def first(parts):
        places.append(parts.reshape(-1)[0])
        border = np.zeros(parts.shape, np.float32)
        border[..., 0, :, :] = 1.0  # a mistake at the border of every tile
        return border

    rows = np.arange(8 * 4, dtype=np.float32).reshape(8, 4, 1)
    found = sliding_window.tiled(first, np.broadcast_to(rows, (1, *slices, 8, 4, 1)), (*slices, 4, 4))[0]
    assert places == [0.0, 8.0, 16.0]
    assert (found[..., 0, :, :] == 1).all() and found[..., [2, 4], :, :].max() < 0.1


def test_the_window_about_the_middle_is_looked_at_anew():
    """Networks that know windows by place alone: what they find moves to the middle of the largest piece."""
    volume, votes, window = np.zeros((12, 20, 16, 1), np.float32), np.zeros((12, 20, 16, 2), np.float32), (4, 6, 6)
    volume[:] = np.arange(volume.size).reshape(volume.shape)
    votes[..., 0] = 0.6
    votes[5:8, 10:14, 2:7, 1] = 1  # the organ, its middle at 6, 12, 4
    votes[10:12, 18:20, 13:16, 1] = 1  # smaller pieces elsewhere
    votes[0, 0, 0, 1] = 1
    asked = []

    def votes_of(box):
        asked.append(box[0, ..., 0])
        found = np.zeros((1, *window, 2), np.float32)
        found[..., 0] = 1
        found[:, 1:, 2:5, 2:5] = 0, 1  # its middle at 2, 3, 3 of the window: half its size
        return found

    found = sliding_window.about_middle(votes_of, volume, votes, window)
    assert len(asked) == sliding_window.PASSES
    np.testing.assert_array_equal(asked[0], volume[4:8, 9:15, 1:7, 0])
    inside = np.argwhere(found[..., 1] == 1)
    np.testing.assert_array_equal(inside.min(0), [5, 11, 3])
    np.testing.assert_array_equal(inside.max(0), [7, 13, 5])
    np.testing.assert_array_equal(found.sum(-1), 1)

    at_the_rim = np.zeros_like(votes)
    at_the_rim[0, 0, 0, 1] = 1
    asked.clear()
    sliding_window.about_middle(votes_of, volume, at_the_rim, window)
    np.testing.assert_array_equal(asked[0][2:, 3:, 3:], volume[:2, :3, :3, 0])
    assert not asked[0][:2].any() and not asked[0][:, :3].any()  # 0 outside of the scan, as in records

    nothing = np.zeros_like(votes)
    nothing[..., 0] = 1
    assert sliding_window.about_middle(votes_of, volume, nothing, window) is nothing
