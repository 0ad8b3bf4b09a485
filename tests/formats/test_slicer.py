"""Segmentations of 3D Slicer: cut to a box, put back exactly; segments by their names."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.evaluation import folders
from synseg_jax.formats import label_maps, scan_file, slicer
from synseg_jax.preparation.checks.repair import repair
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.data import Data

SHAPE, SPACING, ORIGIN = (24, 22, 6), (3.0, 3.0, 5.0), (-10.0, 4.0, 7.0)
BOX = (slice(6, 14), slice(5, 12), slice(1, 4))
SETTINGS = Data(size=(22, 24), source_split=(1.0, 0.0, 0.0), target_split=(1.0, 0.0, 0.0), foreground_share=0.0)


def labels():
    found = np.zeros(SHAPE, np.uint8)
    found[BOX] = 1
    found[8:10, 6:9, 2] = 2
    return found


def save(path, array, named=None, turned=False, origin=ORIGIN, **fields):
    """As 3D Slicer writes it; `turned` from the other end of the first axis."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(SPACING)
    image.SetOrigin(origin)
    for number, (name, value) in enumerate((named or {}).items()):
        image.SetMetaData(f'Segment{number}_Name', name)
        image.SetMetaData(f'Segment{number}_LabelValue', str(value))
        image.SetMetaData(f'Segment{number}_Layer', '0')
    for field, value in fields.items():
        image.SetMetaData(field, value)
    sitk.WriteImage(sitk.Flip(image, (True, False, False), False) if turned else image, str(path), useCompression=True)
    return path


def save_box(path, array, **fields):
    origin = tuple(o + s.start * mm for o, s, mm in zip(ORIGIN, BOX, SPACING, strict=True))
    return save(path, array[BOX], origin=origin, **fields)


def image(path, seed=0):
    return save(path, np.random.default_rng(seed).normal(300, 50, SHAPE).astype(np.int16))


VALUES = {'background': 0, 'liver': 1, 'lesion': 2}


@pytest.mark.parametrize('turned', [False, True])
def test_a_box_lies_where_it_was_cut(tmp_path, turned):
    scan = image(tmp_path / 'p1.nrrd')
    drawn = save_box(tmp_path / 'p1.seg.nrrd', labels(), turned=turned)
    assert scan_file.grid(drawn).array.shape == (8, 7, 3)
    found = label_maps.read(drawn, scan, VALUES, tuple(VALUES))
    np.testing.assert_array_equal(found.array, labels())
    np.testing.assert_allclose(found.affine, scan_file.read(scan).affine)


@pytest.mark.parametrize(
    ('shift', 'box'),
    [((1.0, 0, 0), BOX), ((0, 0, 15.0), BOX), ((-21.0, 0, 0), BOX)],
    ids=['between', 'above', 'beside'],
)
def test_a_box_on_no_lattice_of_the_scan_is_refused(tmp_path, shift, box):
    scan = image(tmp_path / 'p1.nrrd')
    origin = tuple(o + s.start * mm + d for o, s, mm, d in zip(ORIGIN, BOX, SPACING, shift, strict=True))
    drawn = save(tmp_path / 'p1.seg.nrrd', labels()[BOX], origin=origin)
    with pytest.raises(InputError, match=r'p1.seg.nrrd: label map has shape \(8, 7, 3\), its image \(24, 22, 6\)'):
        label_maps.read(drawn, scan, VALUES, tuple(VALUES))


def test_other_files_are_not_taken_for_boxes(tmp_path):
    scan, drawn = image(tmp_path / 'p1.nrrd'), save_box(tmp_path / 'labels/p1.nrrd', labels())
    with pytest.raises(InputError, match='label map has shape'):
        label_maps.read(drawn, scan, VALUES, tuple(VALUES))


def dataset(folder, named=({}, {})):
    """Two scans, the segmentation of the first of full size, of the second cut to its box."""
    for number in (1, 2):
        image(folder / f'images/p{number}.nrrd', number)
    one, two = (np.array([0, *(own.values() or (1, 2))], np.uint8)[labels()] for own in named)
    save(folder / 'labels/p1.seg.nrrd', one, named[0])
    save_box(folder / 'labels/p2.seg.nrrd', two, named=named[1])
    return folder


ONE_WAY, OTHER_WAY = {'liver': 1, 'lesion': 2}, {'liver': 2, 'lesion': 1}


@pytest.mark.parametrize('named', [({}, {}), (ONE_WAY, OTHER_WAY), (OTHER_WAY, ONE_WAY)])
def test_a_folder_of_them(tmp_path, named):
    """Checked, prepared and repaired, with values that --labels names, or those that each file's segments have."""
    folder = dataset(tmp_path / 'mine', named)
    scans = Scans('source', folder, 'a', channel='MR', labels=None if named[0] else VALUES)
    assert [case.id for case in read_dataset(folder, channel='MR').cases] == ['p1', 'p2']
    checked, problems = survey([scans], SETTINGS)
    assert [problem.text for problem in problems] == []
    manifest = prepare([scans], tmp_path / 'records', SETTINGS, progress=False)
    assert manifest.classes == ('background', 'liver', 'lesion')
    counts = sum(np.bincount(record['label'].ravel(), minlength=3) for record in manifest.records('source', 'train'))
    np.testing.assert_array_equal(counts, 2 * np.bincount(labels().ravel()))
    repair(checked, tmp_path / 'copy')
    for case in read_dataset(tmp_path / 'copy/source').cases:
        values = read_dataset(tmp_path / 'copy/source').labels
        found = label_maps.read(case.label, case.image, values, ('background', 'liver', 'lesion'))
        np.testing.assert_array_equal(found.array, labels())


def test_values_that_segments_contradict(tmp_path):
    folder = dataset(tmp_path / 'mine', ({'Liver': 1, 'lesion': 2}, {'Liver': 2, 'lesion': 1}))
    scans = Scans('source', folder, 'a', channel='MR', labels=VALUES)
    with pytest.raises(InputError, match='p2.seg.nrrd: its segment Liver has value 2, not 1 as liver elsewhere; name'):
        prepare([scans], tmp_path / 'records', SETTINGS, progress=False)


def test_segments_that_nobody_names(tmp_path, caplog):
    scan = image(tmp_path / 'p1.nrrd')
    drawn = save(tmp_path / 'p1.seg.nrrd', labels(), {'Liver, right lobe': 1, 'lesion': 2})
    assert label_maps.present_values(drawn, scan, scan_file.grid(scan)) == ['Liver, right lobe', 'lesion']
    found = label_maps.read(drawn, scan, {'background': 0, 'liver': 'LIVER*'}, ('background', 'liver'))
    np.testing.assert_array_equal(found.array, labels() == 1)  # the others are left out, as contours are
    assert not caplog.messages
    label_maps.read(drawn, scan, {'background': 0, 'lesion': 'lesion', 'x': 'x'}, ('background', 'lesion', 'x'))
    assert caplog.messages == [f'{drawn}: no segment of x; that class is empty here']
    with pytest.raises(InputError, match='p1.seg.nrrd: no segment is named spleen; it has Liver, right lobe, lesion'):
        label_maps.read(drawn, scan, {'background': 0, 'spleen': 'spleen'}, ('background', 'spleen'))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'Segment1_Layer': '1'}, 'overlapping segments in several layers; export it from 3D Slicer as a label map'),
        ({'Segment1_LabelValue': '-1'}, "'-1' is not a label value"),
        ({'Segment1_Name': 'liver'}, 'need distinct printable names; rename them'),
    ],
)
def test_segments_that_cannot_be_read(tmp_path, fields, message):
    scan = image(tmp_path / 'p1.nrrd')
    drawn = save(tmp_path / 'p1.seg.nrrd', labels(), {'liver': 1, 'lesion': 2}, **fields)
    for read in (lambda: label_maps.grid(drawn, scan_file.grid(scan)), lambda: slicer.common_values([drawn])):
        with pytest.raises(InputError, match=f'p1.seg.nrrd: .*{message}'):
            read()


def test_they_are_measured(tmp_path):
    """Against predictions of the whole grid, and by name where both sides name their classes."""
    save(tmp_path / 'p/x.nrrd', np.array([0, 2, 1], np.uint8)[labels()])
    (tmp_path / 'p/dataset.json').write_text(json.dumps({'labels': {'background': 0, 'liver': 2, 'lesion': 1}}))
    save_box(tmp_path / 'r/x.seg.nrrd', labels(), named={'liver': 1, 'lesion': 2})
    cases, _ = folders.evaluate_folder(tmp_path / 'p', tmp_path / 'r')
    assert {name: found['dice'] for name, found in cases['x'].items()} == {'lesion': 1, 'liver': 1}
    save(tmp_path / 'p/y.nrrd', labels())
    save_box(tmp_path / 'r/y.seg.nrrd', labels(), named={'liver': 2, 'lesion': 1})
    with pytest.raises(InputError, match='y.seg.nrrd: segment liver has value 2, in .*x.seg.nrrd 1; give it one value'):
        folders.evaluate_folder(tmp_path / 'p', tmp_path / 'r')


def test_a_pipe_is_no_segmentation(tmp_path):
    """It would be waited for."""
    os.mkfifo(tmp_path / 'p1.seg.nrrd')
    assert slicer.segments(tmp_path / 'p1.seg.nrrd') == {}
    with pytest.raises(InputError, match='p1.seg.nrrd: no such file'):
        scan_file.read_labels(tmp_path / 'p1.seg.nrrd')
