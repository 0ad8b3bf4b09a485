"""Protocols: which scans, slices and grid are compared, by hand on small arrays."""

import numpy as np
import pytest

from synseg_jax.errors import InputError
from synseg_jax.evaluation import metrics, protocols
from synseg_jax.imaging.volume import Volume
from synseg_jax.specification import stage

LPS = np.diag([-2.0, -3.0, 5.0, 1.0])  # canonical: right to left, front to back, up
CSDG, NATIVE = protocols.named('csdg'), protocols.named('native')


def labels(shape=(6, 4, 8)):
    """An organ of 2x2 pixels in slices 3 to 5 of 8."""
    array = np.zeros(shape, np.uint8)
    array[2:4, 1:3, 3:6] = 1
    return array


def dice(protocol, prediction, reference, affine=LPS):
    predicted, true, spacing = protocol.grid(prediction, Volume(reference, affine), {1})
    return metrics.case_measures(predicted, true, ['', 'organ'], spacing)['organ']


def test_a_wrong_label_beyond_the_organs_counts_natively_alone():
    prediction = labels()
    prediction[0, 0, [0, 7]] = 1
    assert dice(NATIVE, prediction, labels())['dice'] == pytest.approx(2 * 12 / (12 + 14))
    assert dice(CSDG, prediction, labels())['dice'] == 1
    prediction[0, 0, [0, 7]], prediction[0, 0, [3, 5]] = 0, 1  # in the first and in the last slice with an organ
    assert dice(CSDG, prediction, labels())['dice'] == pytest.approx(2 * 12 / (12 + 14))


def test_a_slice_without_organ_between_two_with_one_counts():
    reference = labels()
    reference[..., 4] = 0
    assert dice(CSDG, labels(), reference)['dice'] == pytest.approx(2 * 8 / (8 + 12))


def test_the_native_protocol_changes_no_array():
    prediction, reference = labels(), Volume(labels(), LPS)
    predicted, true, spacing = NATIVE.grid(prediction, reference, {1})
    assert predicted is prediction and true is reference.array and spacing == reference.spacing_mm


def test_slices_are_resampled_in_plane():
    predicted, true, spacing = CSDG.grid(labels(), Volume(labels(), LPS), {1})
    assert predicted.shape == true.shape == (3, 192, 192)  # slices, rows (4 of 3 mm), columns (6 of 2 mm)
    assert spacing == pytest.approx((5, 4 * 3 / 192, 6 * 2 / 192))
    expected = np.zeros((192, 192), np.uint8)
    expected[48:144, 64:128] = 1  # of 48 rows and 32 columns for each pixel
    assert all(np.array_equal(one, expected) for one in true) and predicted.dtype == np.uint8


def test_reduction_takes_the_nearest_label():
    """Of 384 pixels every second, so that lines of one pixel vanish or stay whole."""
    reference = np.zeros((384, 384, 1), np.uint8)
    reference[100, :, 0], reference[201, :, 0] = 1, 2
    _, true, _ = CSDG.grid(reference, Volume(reference, LPS), {1, 2})
    assert set(np.unique(true)) <= {0, 1, 2} and np.count_nonzero(true) == 192
    protocol = protocols.named('sifa')
    _, true, spacing = protocol.grid(reference, Volume(reference, LPS), {1, 2})
    assert true.shape == (1, 256, 256) and spacing == pytest.approx((5, 4.5, 3))


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize('flip', [(), (0,), (1, 2), (0, 1, 2)])
def test_axial_is_by_the_affine(order, flip):
    """The same scan with its axes stored in another order and direction."""
    reference, prediction = labels(), labels()
    prediction[0, 0, 7], prediction[2, 1, 3] = 1, 0
    expected = CSDG.grid(prediction, Volume(reference, LPS), {1})
    stored = [np.flip(array.transpose(order), flip) for array in (prediction, reference)]
    affine = LPS[:, [*order, 3]].copy()
    for axis in flip:
        affine[:3, 3] += affine[:3, axis] * (stored[0].shape[axis] - 1)
        affine[:3, axis] *= -1
    found = CSDG.grid(stored[0], Volume(stored[1], affine), {1})
    assert all(np.array_equal(one, other) for one, other in zip(found[:2], expected[:2], strict=True))
    assert found[2] == pytest.approx(expected[2])


def test_an_oblique_scan_has_the_slices_nearest_to_axial():
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    prediction = labels()
    prediction[0, 0, 0] = 1
    assert dice(CSDG, prediction, labels(), turn @ LPS)['dice'] == 1


def test_a_reference_without_any_organ_is_left_out():
    """There is no slice that could be compared; natively a wrong label scores 0."""
    empty = np.zeros_like(labels())
    assert dice(CSDG, labels(), empty) == dict.fromkeys(metrics.MEASURES)
    assert dice(NATIVE, labels(), empty)['dice'] == 0
    assert dice(CSDG, empty, labels())['dice'] == 0


def test_an_organ_that_one_scan_lacks_follows_the_rule_of_empty_masks():
    """Of two organs the reference shows one: the other is left out where the prediction lacks it too, else 0."""
    predicted, true, spacing = CSDG.grid(labels(), Volume(labels(), LPS), {1, 2})
    measured = metrics.case_measures(predicted, true, ['', 'one', 'other'], spacing)
    assert measured['one']['dice'] == 1 and measured['other']['dice'] is None
    wrong = labels()
    wrong[5, 3, 4] = 2
    predicted, true, spacing = CSDG.grid(wrong, Volume(labels(), LPS), {1, 2})
    assert metrics.case_measures(predicted, true, ['', 'one', 'other'], spacing)['other']['dice'] == 0


def test_the_body_is_no_organ():
    assert protocols.organs({'body': {3}, 'liver': {1, 2}}) == {1, 2}
    assert protocols.organs({'body': {3}}) == {3}


@pytest.mark.parametrize(
    ('case', 'number'),
    [('chaos_013', 13), ('btcv_008', 8), ('img0001', 0), ('label0009', 8), ('img0030', 19), ('img0039', 28),
     ('img0022', 11), ('2_btcv_19', 19), ('chaos_032_0000', 32), ('liver', None)],
)  # fmt: skip
def test_the_number_of_a_subject(case, number):
    assert protocols.subject_number(case) == number


def test_subjects_of_a_protocol(caplog):
    sifa = protocols.named('sifa')
    assert sifa.scored([f'chaos_{i:03d}' for i in range(40)], 'T2-SPIR MR') == [
        'chaos_001', 'chaos_013', 'chaos_032', 'chaos_038']  # fmt: skip
    assert not caplog.text and CSDG.scored(['a', 'b'], '') == ['a', 'b']
    downloaded = [f'label{i:04d}' for i in (*range(1, 11), *range(21, 41))]
    assert [int(case[-2:]) for case in sifa.scored(downloaded, 'CT')] == [1, 9, 30, 32, 33, 39]
    assert not caplog.text
    assert sifa.scored(['btcv_021', 'btcv_008', 'btcv_009'], 'CT') == ['btcv_021', 'btcv_008']
    assert 'protocol sifa: test subjects CT 0, 19, 22, 28 are missing; 2 of 6 are scored' in caplog.text
    with pytest.raises(InputError, match='protocol sifa: none of its test subjects MR 1, 13, 32, 38 is here; choose'):
        sifa.scored(['chaos_002'], 'MR')
    with pytest.raises(InputError, match="sifa: has test subjects of MR and CT, not of channel 'PET'; name CT"):
        sifa.scored(['chaos_001'], 'PET')
    with pytest.raises(InputError, match="unknown protocol 'cdsg'; known: csdg, native, sifa"):
        protocols.named('cdsg')


def test_configurations_may_name_all_of_them():
    assert stage.PROTOCOLS.holds((*protocols.PROTOCOLS,)) and not stage.PROTOCOLS.holds(('csdg', 'cdsg'))
    assert all(repr(name) in str(stage.PROTOCOLS) for name in protocols.PROTOCOLS)
