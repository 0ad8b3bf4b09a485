"""Remarks on organs that are missing, torn, on the wrong side or unlike the training labels, and the word of a scan."""

from dataclasses import replace

import numpy as np
import pytest

from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import trust

CLASSES = ('background', 'liver', 'right kidney', 'left kidney', 'lesion')
AFFINE = np.diag([-5.0, -5.0, 5.0, 1.0])  # LPS
SHAPE = (60, 40, 12)


def _found(**changes):
    """Organs at their places in a body, a box of soft tissue in air; the first axis runs to the patient's left."""
    scan = np.full(SHAPE, -1000.0, np.float32)
    scan[6:54, 6:34] = 40.0
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:26, 10:20, 6:] = 1
    labels[14:20, 24:30, 2:8] = 2
    labels[40:46, 24:30, 2:8] = 3
    found = trust.Found(Volume(scan, AFFINE), labels, CLASSES, 'CT', ('lesion',))
    return replace(found, **changes)


def _moved(labels, value, change):
    moved = np.where(labels == value, 0, labels)
    moved[change(labels == value)] = value
    return moved


def _kinds(found):
    return {kind: [*remark(found)] for kind, remark in trust.REMARKS.items() if [*remark(found)]}


def test_a_good_segmentation_has_no_remarks():
    assert _kinds(_found()) == {}


def test_missing_organs_but_not_lesions():
    labels = _found().labels
    assert _kinds(_found(labels=np.where(labels == 2, 0, labels))) == {'missing': ['right kidney']}


@pytest.mark.parametrize('flips', [(1, 1), (-1, 1), (-1, -1)])
def test_organs_on_the_wrong_side_whatever_the_axes(flips):
    """Between its middle and 20 mm beyond, an organ may lie on either side."""
    found = _found()
    mirrored = _moved(found.labels, 2, lambda mask: mask[::-1])
    near = _moved(found.labels, 2, lambda mask: np.roll(mask, 15, 0))
    stored, affine = (slice(None, None, flips[0]), slice(None, None, flips[1])), AFFINE @ np.diag([*flips, 1, 1])
    for labels, told in ((mirrored, ['right kidney (65 mm left of the middle)']), (near, [])):
        turned = replace(found, scan=Volume(found.scan.array[stored], affine), labels=labels[stored])
        assert _kinds(turned).get('wrong side', []) == told


@pytest.mark.parametrize(
    'name, side',
    [('Kidney_L', 0), ('left lung', -1), ('right kidneys', 1), ('liver', 1), ('spleen', -1), ('left ventricle', 0),
     ('right lobe of the liver', 0), ('bladder', 0), ('kidneys', 0)],
)  # fmt: skip
def test_sides_by_names(name, side):
    assert trust.side(name) == side


def test_torn_organs():
    labels = _found().labels.copy()
    labels[30, 12, 0] = 1
    assert _kinds(_found(labels=labels)) == {}  # a voxel beside it
    labels[28:34, 8:20, :5] = 1
    assert _kinds(_found(labels=labels))['torn'] == ['liver (largest of 2 parts: 73%)']


def test_volumes_beyond_those_of_the_training_labels():
    volume = 16 * 10 * 6 * 0.125
    for low, high, told in (
        (100, 130, []),
        (140, 150, []),
        (151, 200, ['liver (120 mL, training labels 151 to 200 mL)']),
    ):
        assert volume == 120
        assert _kinds(_found(volumes_ml={'liver': (low, high)})).get('volume', []) == told


def test_organs_that_disagree_with_themselves_are_named():
    found = _found(agreement={'liver': 0.99, 'right kidney': 0.6, 'left kidney': 0.99})
    assert _kinds(found) == {'unsteady': ['right kidney (agreement 0.60)']}
    judged = trust.judged(found)
    assert (judged.agreement, judged.word) == (pytest.approx(0.86), trust.LOOK)


@pytest.mark.parametrize(
    'agreement, remarks, word',
    [
        (trust.GOOD, {}, trust.TRUST),
        (trust.GOOD, {'torn': ['liver']}, trust.LOOK),
        (trust.GOOD - 0.01, {}, trust.LOOK),
        (trust.POOR - 0.01, {}, trust.LEAVE),
        (float('nan'), {}, trust.LOOK),
        (0.99, {'missing': ['liver']}, trust.LOOK),
        (0.99, {'missing': ['liver'], 'wrong side': ['left kidney']}, trust.LEAVE),
    ],
)
def test_words(agreement, remarks, word):
    assert trust.word(agreement, remarks, 4) == word
