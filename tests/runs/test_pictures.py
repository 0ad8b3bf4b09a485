"""Pictures of test scans: the patient's sides are where the letters say, whatever the axes of the file."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from nibabel.orientations import aff2axcodes, apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from synseg_jax.imaging import slices
from synseg_jax.imaging.volume import Volume
from synseg_jax.reports import figures
from synseg_jax.runs import test_set

LABELS = np.zeros((12, 14, 16), np.uint8)  # voxels run to the right, to the front and up
LABELS[8:11, 9:12, 6:10] = 1  # on the patient's right, in front


def _stored(orientation):
    """The labels in a file with these axes."""
    order = ornt_transform(axcodes2ornt('RAS'), axcodes2ornt(orientation))
    affine = np.diag([2.0, 1.5, 3.0, 1.0]) @ inv_ornt_aff(order, LABELS.shape)
    assert aff2axcodes(affine) == tuple(orientation)
    return Volume(apply_orientation(LABELS, order), affine)


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they were saved."""
    kept = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **_: kept.append(figure) or path.write_bytes(b''))
    return kept


@pytest.mark.parametrize('axis, beside', [('axial', 'R'), ('coronal', 'R'), ('sagittal', 'A')])
@pytest.mark.parametrize('orientation', ['LPS', 'RAS', 'LAS', 'RSA', 'PIR'])
def test_an_organ_on_the_right_is_beside_the_r(axis, beside, orientation, drawn, tmp_path):
    stored = _stored(orientation)
    scan = Volume(stored.array.astype(np.float32), stored.affine)
    upright = test_set.Upright.of(scan, stored.array, stored.array, axis)
    config = SimpleNamespace(data=SimpleNamespace(slice_axis=axis))
    tested = SimpleNamespace(segmenter=SimpleNamespace(config=config))
    case = {'id': 'phantom', 'low': 0.0, 'high': 1.0}
    _, panel = test_set._panel(tested, case, upright, {'organ': {'dice': 0.5}})
    figures.overlays(tmp_path / 'o.png', [panel], ['background', 'organ'])
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    assert axes.get_title() == 'phantom\nDice 0.50'
    outline = axes.transData.transform(axes.collections[0].get_paths()[0].vertices)[:, 0].mean()
    places = {text.get_text(): abs(text.get_window_extent().x0 - outline) for text in axes.texts}
    assert {*places} == {*slices.SIDES[axis]} and min(places, key=places.get) == beside


def test_the_worst_case_comes_first(drawn, tmp_path):
    shown = [(dice, figures.Panel(name, LABELS[..., 7] * 1.0, LABELS[..., 7], LABELS[..., 7], note=f'Dice {dice}'))
             for name, dice in {'a': 0.8, 'b': 0.2, 'c': 0.5, 'd': None}.items()]  # fmt: skip
    measured = {panel.title: {'organ': {'dice': dice}} for dice, panel in shown}
    test_set._draw(tmp_path, SimpleNamespace(name='t', classes=['background', 'organ']), measured, shown)
    every, three = ([axes.get_title() for axes in figure.axes if axes.get_title()] for figure in drawn)
    assert every == ['b\nDice 0.2', 'c\nDice 0.5', 'a\nDice 0.8']
    assert three == ['b\nworst, Dice 0.2', 'c\nmedian, Dice 0.5', 'a\nbest, Dice 0.8']
