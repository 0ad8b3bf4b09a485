"""Slices at one spacing: records are cut about what is labelled, whole scans are seen in tiles of that size."""

import logging
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.batches.selection import Chosen
from synseg_jax.formats import scan_file
from synseg_jax.inference import validation
from synseg_jax.inference.run_networks import Networks
from synseg_jax.inference.trained_model import Trained
from synseg_jax.preparation import write_records
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.parse import parse_data
from synseg_jax.training.system import System

# Of scans of 72 x 66 mm.
PATCHES = {
    'data__size': (16, 16),
    'data__spacing_mm': 2.0,
    'data__classes': ('background', 'liver'),
}  # of scans of 72 x 66 mm
WHOLE = {  # every slice, every intensity, one scan
    'data__foreground_share': 0.0,
    'data__percentiles': (0.0, 100.0),
    'data__window_hu': (300.0, 1000.0),
    'data__source_split': (1.0, 0.0, 0.0),
    'data__target_split': (1.0, 0.0, 0.0),
}


def _prepared(folder, place, modality='MR', labelled=True, **changes):
    """Records of one scan with a bright square of 4 x 4 voxels, 12 mm wide, whose corner is at `place`."""
    image, labels = tiny.scan(0, modality)
    labels[:] = 0
    labels[place[0] : place[0] + 4, place[1] : place[1] + 4, 2:4] = 1
    image = np.where(labels > 0, 1000, 300).astype(np.int16)
    labels *= labelled
    dataset = tiny.write_dataset(folder / modality, modality, 1)
    (scan,) = (dataset / 'imagesTr').iterdir()
    nib.save(nib.Nifti1Image(image, tiny.AFFINE), scan)
    for path in (dataset / 'labelsTr').iterdir():
        nib.save(nib.Nifti1Image(labels, tiny.AFFINE), path)
    settings = parse_data(tiny.config(**{**PATCHES, **WHOLE, **changes}))
    name, domain = {'MR': ('source', 'a'), 'CT': ('target', 'b')}[modality]
    prepare([Scans(name, dataset, domain)], folder / 'records', settings, progress=False)
    return Manifest.load(folder / 'records').records(name, 'train')


@pytest.mark.parametrize(
    ('place', 'aside'),  # of the patch's middle, where the scan ends near by: rows, columns, in half pixels
    [((6, 5), (0, 0)), ((9, 9), (0, 0)), ((0, 9), (0, -10)), ((9, 0), (10, 0)), ((20, 18), (-10, 10))],
)
def test_records_are_cut_about_what_is_labelled_inside_the_scan(tmp_path, place, aside):
    records = _prepared(tmp_path, place)
    assert len(records) == tiny.SHAPE[2]
    for record in (records[i] for i in range(len(records))):
        image, label = record['image'][..., 0], record['label']
        assert image.shape == label.shape == (16, 16)
        if label.any():
            rows, columns = np.nonzero(label)
            assert 33 <= len(rows) <= 42  # 144 mm2 in pixels of 4
            off = [at.min() + at.max() + 1 - 16 for at in (rows, columns)]
            assert off == [pytest.approx(n, abs=1) for n in aside]
            assert (image[label > 0] > 0.5).mean() > 0.8 and (image[label == 0] < 0.5).mean() > 0.9


def test_without_labels_the_middle_is_that_of_the_scan(tmp_path):
    records = _prepared(tmp_path, (9, 9), 'CT', data__classes=tiny.CLASSES)
    assert 'label' not in records[0]
    bright = np.nonzero(records[2]['image'][..., 0] > 0.5)  # its middle lies 0 and 3 mm before that of the scan
    assert [at.min() + at.max() + 1 - 16 for at in bright] == [pytest.approx(0, abs=1), pytest.approx(-3, abs=1)]


def test_labels_beyond_the_patch_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _prepared(tmp_path, (9, 9), data__size=(4, 16))
    assert 'mr_0_0000.nii.gz: 33' in caplog.text
    assert 'of what is labelled lies outside of 4x16 at 2 mm; raise data.size' in caplog.text


@pytest.mark.parametrize('spacing_mm', [0.0, 2.0])
def test_where_nothing_is_labelled_nothing_lies_outside(tmp_path, caplog, monkeypatch, spacing_mm):
    monkeypatch.setattr(write_records, 'refuse', lambda problems: None)  # labels without any class
    with caplog.at_level(logging.WARNING):
        _prepared(tmp_path, (9, 9), data__spacing_mm=spacing_mm, data__classes=tiny.CLASSES, labelled=False)
    assert 'lies outside' not in caplog.text


def test_a_scan_comes_back_from_its_tiles(tmp_path, monkeypatch):
    whole_range = {'method': 'cyclegan', **PATCHES, 'data__percentiles': (0.0, 100.0)}
    trained = untrained.trained(tmp_path, **whole_range)
    trained.run = replace(trained.run, typical={'a': (0.0, 700.0), 'b': (0.0, 700.0)})
    array = tiny.scan(0, 'MR')[0].clip(0, 700)
    nib.save(nib.Nifti1Image(array, tiny.AFFINE), tmp_path / 'scan.nii.gz')
    seen = []

    def same(params, images):
        seen.append(images.shape)
        return images

    monkeypatch.setitem(trained.networks.system.translations, 'g_ab', same)
    scan = scan_file.read(tmp_path / 'scan.nii.gz')
    found = trained.synthesize(scan, 'a')
    assert set(seen) == {(8, 16, 16, 1)} and found.shape == array.shape
    assert np.abs(found - array).mean() < 40  # what is lost by going to 2 mm and back, of 700


def test_whole_scans_are_not_resized_for_networks_that_saw_pieces():
    """The window of an augmentation is as many pixels of the spacing, so that records of any size are seen in tiles."""
    changes = {'method': 'supervised', 'augment__window': (16, 16)}
    system = System(tiny.configure(tiny.config(**changes, data__spacing_mm=2.0), 'synseg'), tiny.CLASSES)
    assert system.size == (16, 16) and system.shown == ()
    assert System(tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES).shown == (16, 16)
    label = np.zeros((32, 32), np.uint8)
    label[:9, 20:] = 1
    networks = Networks(system, {})
    system.probabilities['a'] = lambda params, x: np.concatenate([1 - x, x, 0 * x], -1)
    record = {'image': label[..., None].astype(np.float32), 'label': label, 'case': 0}
    assert validation.measure(networks, {'a': [record]}) == {('a', 0): (1.0, pytest.approx(np.nan, nan_ok=True))}


def _cut_about_lesions(folder, labels, image, **changes):
    """Records of a scan of 72 x 66 mm, cut about lesions, and its labels, if any."""
    dataset = tiny.write_dataset(folder / 'MR', 'MR', 2, labelled=labels is not None)
    for path in (dataset / 'imagesTr').iterdir():
        nib.save(nib.Nifti1Image(image, tiny.AFFINE), path)
    for path in (dataset / 'labelsTr').iterdir():
        nib.save(nib.Nifti1Image(labels, tiny.AFFINE), path)
    about = {'data__cut_about': 'lesion', 'data__target_labels': True}
    settings = parse_data(tiny.config(**{**PATCHES, **WHOLE, **about, **changes}))
    prepare([Scans('scans', dataset, 'b', 'train')], folder / 'records', settings, progress=False)
    return Manifest.load(folder / 'records').records('scans', 'train')


def test_records_are_cut_about_the_largest_lesion_alone(tmp_path):
    labels = np.zeros(tiny.SHAPE, np.uint8)
    labels[2:4, 2:4, 1:3], labels[14:18, 12:16, 2:4] = 1, 1
    records = _cut_about_lesions(tmp_path, labels, np.where(labels, 1000, 300).astype(np.int16))
    rows, columns = np.nonzero(records[2]['label'])
    assert [at.min() + at.max() + 1 - 16 for at in (rows, columns)] == [pytest.approx(0, abs=1)] * 2
    assert not records[1]['label'].any()


def test_scans_without_labels_are_cut_about_one_half_of_the_body_and_then_the_other(tmp_path):
    image = np.zeros(tiny.SHAPE, np.int16)
    image[3:20, 4:12] = 1000  # 51 mm wide and 24 mm high
    image[0, 20] = 1000  # and a couch
    window = {'data__window_hu': (0.0, 1000.0)}
    records = _cut_about_lesions(tmp_path, None, image, **window)
    seen = [records[i]['image'][..., 0] > 0.5 for i in (0, tiny.SHAPE[2])]
    assert all(np.nonzero(part.any(1))[0].tolist() == list(range(2, 14)) for part in seen)
    assert [np.nonzero(part.any(0))[0].tolist() for part in seen] == [list(range(2, 16)), list(range(0, 15))]


def _off_centre(folder, modality='MR', **changes):
    """A dataset of one scan of 120 x 110 mm whose body, 60 x 51 mm, lies in a corner; its folder."""
    image = np.zeros((40, 37, 6), np.int16)
    image[3:23, 2:19], image[8:14, 6:12, 2:4] = 900, 700
    dataset = tiny.write_dataset(folder / modality, modality, 1)
    image = image - 1000 if modality == 'CT' else image
    nib.save(nib.Nifti1Image(image, tiny.AFFINE), next((dataset / 'imagesTr').iterdir()))
    labels = np.zeros(image.shape, np.uint8)
    labels[36:, 30:, 2] = 1  # far from the body
    nib.save(nib.Nifti1Image(labels, tiny.AFFINE), next((dataset / 'labelsTr').iterdir()))
    return dataset


BODY = {**PATCHES, **WHOLE, 'data__cut_about': 'body', 'data__window_hu': (-1000.0, 0.0)}
COARSE = {'data__spacing_mm': 8.0, 'data__antialias': True}


@pytest.mark.parametrize('modality', ['MR', 'CT'])
@pytest.mark.parametrize(
    'size, changes, body',  # in pixels, and in volumes in all slices
    [((40, 40), {}, (26, 31)), ((4, 6), COARSE, (8, 8)), ((12, 40, 40), {'data__bias_correction': True}, (15, 26, 31))],
)
def test_training_and_prediction_see_the_same_window_about_the_body(tmp_path, modality, size, changes, body):
    """With neighbouring slices by their distance; labels are not looked at."""
    dataset = _off_centre(tmp_path, modality)
    domain = {'MR': 'a', 'CT': 'b'}[modality]
    changes = {**BODY, **changes, 'data__size': size, 'method': 'supervised'}
    manifest = prepare(
        [Scans('set', dataset, domain)], tmp_path / 'records', parse_data(tiny.config(**changes)), progress=False
    )
    context = 0 if len(size) == 3 else 1
    records = Chosen(manifest, 'set', 'train', (0,), context=context, spacing_mm=7.5).open()
    trained = Trained(untrained.run(tmp_path, **{**changes, 'data__classes': tiny.CLASSES}), params={})
    scan = scan_file.read(next((dataset / 'imagesTr').iterdir()))
    images = trained._frame(scan, domain).images(context, 7.5)  # of slices 5 mm apart
    assert images.shape == (len(records), *np.maximum(body, size), 1 + 2 * context)
    middle = tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(images.shape[1:-1], size, strict=True))
    stored = np.stack([record['image'] for record in records])
    assert (stored > 0.5).mean() > 0.2
    np.testing.assert_allclose(images[:, *middle], stored, atol=1e-4)


def test_a_scan_without_a_body_is_cropped_about_its_middle_and_told(tmp_path, caplog):
    array = np.zeros((40, 37, 6), np.int16)
    array[::4, ::4] = 500  # noise
    dataset = tiny.write_dataset(tmp_path / 'CT', 'CT', 1, labelled=False)
    nib.save(nib.Nifti1Image(array - 1000, tiny.AFFINE), next((dataset / 'imagesTr').iterdir()))
    settings = parse_data(tiny.config(**{**BODY, 'data__size': (24, 24)}))
    with caplog.at_level(logging.WARNING):
        manifest = prepare([Scans('target', dataset, 'b')], tmp_path / 'records', settings, progress=False)
    told = 'ct_0_0000.nii.gz: no body is found, so it is cropped about the middle of the scan'
    assert caplog.text.count(told) == 1
    assert [told in problem.text for problem in survey([Scans('target', dataset, 'b')], settings)[1]].count(True) == 1
    about_labels = replace(settings, cut_about='labels')
    other = prepare([Scans('target', dataset, 'b')], tmp_path / 'others', about_labels, progress=False)
    ours, theirs = (one.records('target', 'train')[0]['image'] for one in (manifest, other))
    np.testing.assert_array_equal(ours, theirs)
