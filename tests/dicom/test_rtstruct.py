"""Contours are filled as an independent library fills them, on the slices that they were drawn on."""

import re
import warnings

import numpy as np
import pydicom
import pytest
from dicom_files import write_rtstruct, write_series
from skimage.draw import polygon2mask

from synseg_jax.dicom import rtstruct
from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps, scan_file

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])


def _star(centre, radius, corners=17, seed=0):
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    lengths = radius * np.random.default_rng(seed).uniform(0.5, 1, corners)
    return np.stack([centre[0] + lengths * np.cos(angles), centre[1] + lengths * np.sin(angles)], 1)


@pytest.fixture
def drawn(tmp_path):
    """A series, and contours on it: a star, one with a hole, a small one on two slices."""
    array = np.zeros((40, 36, 4))
    files = write_series(tmp_path / 'ct', array, AFFINE)
    hole = _star((20, 18), 5, seed=3)
    contours = {
        'Liver': [(1, _star((20, 18), 15)), (2, _star((20, 18), 16, seed=1)), (2, hole)],
        'GTV 1': [(0, _star((8, 9), 5, seed=4))],
        'GTV 2': [(3, _star((31.3, 28.8), 6, seed=5))],
    }
    return tmp_path / 'ct', write_rtstruct(tmp_path / 'rt.dcm', files, contours), contours


def _masked(contours, shape):
    """Even-odd filling by scikit-image."""
    expected = np.zeros(shape, bool)
    for k, polygon in contours:
        expected[:, :, k] ^= polygon2mask(shape[:2], polygon)
    return expected


@pytest.mark.parametrize('turned', [False, True])
def test_contours_against_scikit_image(tmp_path, drawn, turned):
    folder, path, contours = drawn
    if turned:  # oblique, and stored from above
        c, s = np.cos(0.4), np.sin(0.4)
        affine = AFFINE.copy()
        affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ AFFINE[:3, :3] @ np.diag([1, 1, -1])
        folder = tmp_path / 'turned'
        path = write_rtstruct(tmp_path / 'turned.dcm', write_series(folder, np.zeros((40, 36, 4)), affine), contours)
    scan = scan_file.read(folder)
    names = rtstruct.named(path)
    assert names == {1: 'Liver', 2: 'GTV 1', 3: 'GTV 2'}
    order = range(4)[::-1] if turned else range(4)  # slices are stacked along the normal of their axes
    for number, name in names.items():
        expected = _masked(contours[name], scan.array.shape)[:, :, order]
        np.testing.assert_array_equal(rtstruct.mask(path, number, folder, scan), expected)
    assert not rtstruct.mask(path, 1, folder, scan)[20, 18, order[2]]  # the hole


def test_contours_that_cross_themselves_and_the_border(tmp_path):
    rng, array = np.random.default_rng(0), np.zeros((20, 17, 4))
    files = write_series(tmp_path / 'ct', array, AFFINE)
    contours = {str(i): [(i % 4, rng.uniform(-6, 25, (rng.integers(3, 12), 2)))] for i in range(40)}
    path, scan = write_rtstruct(tmp_path / 'rt.dcm', files, contours), scan_file.read(tmp_path / 'ct')
    for number, name in rtstruct.named(path).items():
        found = rtstruct.mask(path, number, tmp_path / 'ct', scan)
        np.testing.assert_array_equal(found, _masked(contours[name], array.shape))


def test_contours_as_classes(drawn):
    folder, path, contours = drawn
    values = {'background': 0, 'organ': 'liver', 'tumour': 'GTV*'}
    read = label_maps.read(path, folder, values, ('background', 'organ', 'tumour'))
    shape = read.array.shape
    np.testing.assert_array_equal(read.array == 1, _masked(contours['Liver'], shape))
    np.testing.assert_array_equal(read.array == 2, _masked(contours['GTV 1'] + contours['GTV 2'], shape))
    with pytest.raises(InputError, match='no contours are named spleen; it has Liver, GTV 1, GTV 2; name'):
        label_maps.read(path, folder, {'spleen': 'spleen'}, ('background', 'spleen'))


def test_contours_of_classes_that_have_numbers(drawn):
    """They go by the name of the class, as they do where label maps and contours lie side by side."""
    folder, path, contours = drawn
    values = {'background': 0, 'liver': 6, 'tumour': (7, 'gtv 2')}
    read = label_maps.read(path, folder, values, ('background', 'liver', 'tumour'))
    np.testing.assert_array_equal(read.array == 1, _masked(contours['Liver'], read.array.shape))
    np.testing.assert_array_equal(read.array == 2, _masked(contours['GTV 2'], read.array.shape))
    assert label_maps.present_values(path, folder, scan_file.read(folder)) == ['GTV 1', 'GTV 2', 'Liver']


def test_a_contour_with_points_left_out(drawn):
    folder, path, _ = drawn
    read = pydicom.dcmread(path)
    contour = read.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = contour.ContourData[:-3]
    read.save_as(path)
    with pytest.raises(InputError, match="rt.dcm: a contour of ROI 'Liver' has 16 points, not NumberOf"):
        rtstruct.mask(path, 1, folder, scan_file.read(folder))


def test_contours_of_another_series(tmp_path, drawn):
    folder, path, _ = drawn
    write_series(tmp_path / 'other', np.zeros((40, 36, 4)), AFFINE)
    with pytest.raises(InputError, match="rt.dcm: contours of ROI 'Liver' refer to 2 images that .*other lacks"):
        rtstruct.mask(path, 1, tmp_path / 'other', scan_file.read(tmp_path / 'other'))
    between = pydicom.dcmread(path)
    contour = between.ROIContourSequence[0].ContourSequence[0]
    points = np.reshape(np.array(contour.ContourData, float), (-1, 3)) + [0, 0, 2]
    contour.ContourData = [f'{v:.6g}' for v in points.ravel()]
    between.save_as(path)
    with pytest.raises(InputError, match="rt.dcm: contours of ROI 'Liver' lie beside the slices"):
        rtstruct.mask(path, 1, folder, scan_file.read(folder))


def _edited(path, change):
    """The file after a change of its ROIs' contours, by number from 0; another time for its cache."""
    read = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of numbers that are none
        change(read)
        read.save_as(path)


def _read(path, folder):
    return label_maps.read(path, folder, VALUES, tuple(VALUES)).array


def _set(roi, **values):
    def change(read):
        for contour in read.ROIContourSequence[roi].ContourSequence:
            for name, value in values.items():
                setattr(contour, name, value)

    return change


def _shift(roi, by):
    def change(read):
        for contour in read.ROIContourSequence[roi].ContourSequence:
            moved = np.reshape(np.array(contour.ContourData, float), (-1, 3)) + by
            contour.ContourData = [f'{number:.6g}' for number in moved.ravel()]

    return change


def _empty(read):
    read.ROIContourSequence[0].ContourSequence = []


def _forget(read):
    del read.ROIContourSequence[0]


def _dangling(read):
    read.ROIContourSequence[0].ReferencedROINumber = 9


def _two_points(read):
    contour = read.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData, contour.NumberOfContourPoints = contour.ContourData[:6], 2


VALUES = {'background': 0, 'organ': 'liver', 'tumour': 'GTV*'}
NOTHING = {  # of 'Liver': what is warned of, and how many of its three contours are read
    'no contours': (_empty, ["ROI 'Liver' has no contours; nothing", 'no contours of organ; that class is empty'], 0),
    'none at all': (_forget, ["ROI 'Liver' has no contours; nothing", 'no contours of organ; that class is empty'], 0),
    'a dangling number': (
        _dangling,
        ["ROI 'Liver' has no", 'contours of ROI number 9, which has no name', 'no contours of organ; that class is'],
        0,
    ),
    'open': (
        _set(0, ContourGeometricType='OPEN_PLANAR'),
        ["contours of ROI 'Liver' some enclose nothing and are passed over: 3 OPEN_PLANAR", 'no contours of organ'],
        0,
    ),
    'points': (_set(0, ContourGeometricType='POINT'), ["ROI 'Liver' some .* over: 3 POINT", 'no contours of organ'], 0),
    'outside': (_shift(0, [500, 0, 0]), ["3 of 3 contours of ROI 'Liver' hold no voxel of .*ct; they lie outside"], 0),
    'two points': (_two_points, ["ROI 'Liver' some .* over: 1 CLOSED_PLANAR"], 2),
    'xor': (_set(0, ContourGeometricType='CLOSEDPLANAR_XOR'), [], 3),
}


@pytest.mark.parametrize('kind', NOTHING)
def test_contours_that_label_nothing_are_told(drawn, caplog, kind):
    """By the name of their ROI; the other classes are read."""
    folder, path, contours = drawn
    change, told, kept = NOTHING[kind]
    _edited(path, change)
    with caplog.at_level('WARNING', logger='absl'):
        found = _read(path, folder)
    np.testing.assert_array_equal(found == 1, _masked(contours['Liver'][3 - kept :], found.shape))
    np.testing.assert_array_equal(found == 2, _masked(contours['GTV 1'] + contours['GTV 2'], found.shape))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(told)
    assert all(re.search(f'^{path}: .*{text}', message) for text, message in zip(told, messages, strict=True))


@pytest.mark.parametrize('kind', ['no contours', 'open', 'points'])
def test_a_file_without_any_class_that_is_asked_for(drawn, kind):
    folder, path, _ = drawn
    _edited(path, NOTHING[kind][0])
    for read in (label_maps.read, label_maps.check):
        with pytest.raises(InputError, match='no closed contours named liver; it has Liver, GTV 1, GTV 2; name'):
            read(path, folder, {'liver': 'liver'}, ('background', 'liver'), scan_file.read(folder))


@pytest.mark.parametrize('number', ['nan', 'inf', '-inf', '1e300', '2e6'])
def test_points_that_are_no_numbers(drawn, number):
    folder, path, _ = drawn

    def change(read):
        read.ROIContourSequence[0].ContourSequence[1].ContourData[4] = number

    _edited(path, change)
    for read in (label_maps.read, label_maps.check):
        with pytest.raises(InputError, match="rt.dcm: a contour of ROI 'Liver' has points that are not finite"):
            read(path, folder, VALUES, tuple(VALUES), scan_file.read(folder))


def test_a_file_without_rois(drawn):
    folder, path, _ = drawn

    def change(read):
        read.StructureSetROISequence, read.ROIContourSequence = [], []

    _edited(path, change)
    assert label_maps.present_values(path, folder, scan_file.read(folder)) == []
    with pytest.raises(InputError, match=r'rt.dcm: no contours are named liver, gtv\*; it has none; name them'):
        _read(path, folder)


def test_what_reading_refuses_is_found_before(tmp_path, drawn):
    """Contours of other images, or beside the slices, without being drawn."""
    folder, path, _ = drawn
    _edited(path, _shift(1, [0, 0, 2]))
    with pytest.raises(InputError, match="rt.dcm: contours of ROI 'GTV 1' lie beside the slices of"):
        label_maps.check(path, folder, VALUES, tuple(VALUES), scan_file.grid(folder))
    write_series(tmp_path / 'other', np.zeros((40, 36, 4)), AFFINE)
    with pytest.raises(InputError, match="contours of ROI 'Liver' refer to 2 images that .*other lacks"):
        label_maps.check(path, tmp_path / 'other', VALUES, tuple(VALUES), scan_file.grid(folder))


def test_rtstruct_files_as_users_have_them(shared):
    folder = shared / 'data/formats/rtstruct/two_slices'
    scan = scan_file.read(folder)
    mask = rtstruct.mask(folder / 'rt.dcm', 1, folder, scan)
    outer, inner = pydicom.dcmread(folder / 'rt.dcm').ROIContourSequence[0].ContourSequence
    inverse, expected = np.linalg.inv(LPS @ scan.affine), np.zeros(scan.array.shape[:2], bool)
    for contour in (outer, inner):
        points = np.c_[
            np.reshape(np.array(contour.ContourData, float), (-1, 3)), np.ones(len(contour.ContourData) // 3)
        ]
        expected ^= polygon2mask(expected.shape, (points @ inverse.T)[:, :2])
    np.testing.assert_array_equal(mask[:, :, 0], expected)
    assert not mask[:, :, 1].any() and mask.sum() == 1443
    for name in ('invalid_reference_rt', 'non_existent_reference_rt'):
        with pytest.raises(InputError, match=f"{name}.dcm: contours of ROI 'ROI-1' refer to 1 images"):
            rtstruct.mask(folder / f'{name}.dcm', 1, folder, scan)
    whole = shared / 'data/formats/rtstruct/full_rtss'
    assert rtstruct.named(whole)[6] == 'Lt Lung'
    with pytest.raises(
        InputError, match="contours of ROI 'Lt Lung' refer to 80 images that .* lacks; bring the whole series"
    ):
        rtstruct.mask(whole, 6, whole, scan_file.read(whole))


def test_copies_of_contours_are_no_holes(drawn, caplog):
    """A contour that comes twice would else leave nothing of itself."""
    image, path, _ = drawn
    scan = scan_file.read(image)
    expected = rtstruct.mask(path, 1, image, scan)
    read = pydicom.dcmread(path)
    read.ROIContourSequence = [*read.ROIContourSequence] * 2
    read.save_as(path)
    with caplog.at_level('WARNING', logger='absl'):
        np.testing.assert_array_equal(rtstruct.mask(path, 1, image, scan), expected)
    assert f"{path}: 3 contours of ROI 'Liver' are copies of others; each counts once" in caplog.text
