"""The phantom is deterministic, anatomically the right way round, and hard in the way that real modalities are."""

import itertools
import json
from functools import partial

import nibabel as nib
import numpy as np
import pytest

from synseg_jax.data import phantom
from synseg_jax.data.abdomen import CLASSES
from synseg_jax.errors import InputError

ORGANS = CLASSES[1:6]
MODALITIES = ('CT', 'MR')


@pytest.fixture(scope='module')
def scans():
    """Eight people per modality: (image, labels, affine)."""
    return {m: [phantom.scan(m, 0, n) for n in range(8)] for m in MODALITIES}


def every(scans):
    return itertools.chain.from_iterable(scans.values())


def centre_mm(labels, affine, name):
    index = np.argwhere(labels == CLASSES.index(name)).mean(axis=0)
    return affine[:3, :3] @ index + affine[:3, 3]


def volume_ml(labels, affine, name):
    return np.sum(labels == CLASSES.index(name)) * abs(np.linalg.det(affine[:3, :3])) / 1000


def means(image, labels):
    return {name: image[labels == CLASSES.index(name)].mean() for name in ORGANS}


def test_same_seed_same_bits(scans):
    again = phantom.scan('MR', 0, 1)
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(again, scans['MR'][1], strict=True))


def test_different_regions_modalities_and_numbers_are_different_people():
    requests = itertools.product(phantom.REGIONS, MODALITIES, (0, 1), range(8))
    widths = {phantom.subject(*request)[0].half_widths_mm for request in requests}
    assert len(widths) == 32 * len(phantom.REGIONS)


def test_every_class_is_in_every_scan(scans):
    for image, labels, affine in every(scans):
        assert image.shape == labels.shape and labels.dtype == np.uint8
        assert np.unique(labels).tolist() == list(range(7))
        assert all(volume_ml(labels, affine, organ) > 25 for organ in ORGANS)


def test_organs_lie_as_in_people(scans):
    for _, labels, affine in every(scans):
        at = {name: centre_mm(labels, affine, name) for name in ORGANS}
        assert at['liver'][0] > 15 and at['right kidney'][0] > 25  # RAS: x grows to the patient's right
        assert at['spleen'][0] < -25 and at['left kidney'][0] < -25 and at['stomach'][0] < -5
        assert all(at[f'{side} kidney'][1] < at['stomach'][1] for side in ('left', 'right'))
        assert at['liver'][2] > at['right kidney'][2] and at['stomach'][2] > at['left kidney'][2]


def test_spleens_are_normal_to_enormous(scans):
    volumes = [volume_ml(labels, affine, 'spleen') for _, labels, affine in every(scans)]
    assert min(volumes) < 250 and max(volumes) > 800


def test_grids_are_those_of_scans(scans):
    for modality, slices, thickness_mm in (('MR', (20, 26), (6, 8)), ('CT', (30, 40), (4, 5))):
        for image, _, affine in scans[modality]:
            spacing_mm = nib.affines.voxel_sizes(affine)
            assert 300 <= spacing_mm[0] * image.shape[0] + 1e-3 and spacing_mm[0] * image.shape[0] <= 420 + 1e-3
            assert slices[0] <= image.shape[2] <= slices[1] and thickness_mm[0] <= spacing_mm[2] <= thickness_mm[1]


def test_orientation_varies_and_is_sometimes_oblique(scans):
    assert {nib.aff2axcodes(affine) for _, _, affine in every(scans)} == {tuple('LAS'), tuple('RAS'), tuple('LPS')}
    oblique = [nib.affines.obliquity(affine).max() > 0 for _, _, affine in every(scans)]
    assert any(oblique) and not all(oblique)


def test_intensities_have_their_units(scans):
    for image, labels, _ in scans['CT']:
        assert image.dtype == np.int16 and image.min() >= -1000 and image[labels == 0].mean() < -900
        assert 60 < means(image, labels)['liver'] < 130 and image.max() > 300
    for image, _, _ in scans['MR']:
        assert image.dtype == np.int16 and 0 <= image.min() and image.max() < 4000


def test_contrast_orders_differ_between_modalities(scans):
    ct, mr = ([means(image, labels) for image, labels, _ in scans[m]] for m in ('CT', 'MR'))
    bright = ('spleen', 'left kidney', 'right kidney')
    assert all(m[organ] > 1.3 * m['liver'] for m in mr for organ in bright)
    assert all(m['stomach'] < 0.8 * m['liver'] and m['spleen'] < 1.6 * m['liver'] for m in ct)
    assert np.median([m['stomach'] / m['liver'] for m in mr]) > 1.2


@pytest.mark.parametrize('region', phantom.REGIONS)
@pytest.mark.parametrize('modality, other', (MODALITIES, MODALITIES[::-1]))
def test_pairs_are_one_person_at_the_same_voxels(region, modality, other):
    image, truth, labels, affine = phantom.paired(modality, other, 0, 2, region)
    for a, b in zip(phantom.scan(modality, 0, 2, region), (image, labels, affine), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert truth.shape == image.shape and truth.dtype == np.int16
    ct, mr = (image, truth) if modality == 'CT' else (truth, image)
    edges = [np.hypot(*np.gradient(np.clip(scan, -150, 300).astype(float), axis=(0, 1))) for scan in (ct, mr)]
    assert np.corrcoef(*(edge.ravel() for edge in edges))[0, 1] > 0.3
    assert (phantom.paired(modality, other, 0, 2, region)[1] == truth).all()
    assert (phantom.paired(modality, modality, 0, 2, region)[1] != image).any()  # noise of its own


def test_dataset_is_an_ordinary_raw_folder(tmp_path):
    calls = []
    phantom.write_dataset(tmp_path / 'set', 'MR', 2, seed=0, first=1, progress=lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]
    files = sorted(str(p.relative_to(tmp_path / 'set')) for p in (tmp_path / 'set').rglob('*') if p.is_file())
    cases = ['phantom_mr_001', 'phantom_mr_002']
    images, labels = [f'imagesTr/{c}_0000.nii.gz' for c in cases], [f'labelsTr/{c}.nii.gz' for c in cases]
    assert files == sorted(['dataset.json', *images, *labels])
    description = json.loads((tmp_path / 'set' / 'dataset.json').read_text())
    assert description['channel_names'] == {'0': 'MR'} and description['numTraining'] == 2
    assert description['labels'] == {name: value for value, name in enumerate(CLASSES)}
    assert description['file_ending'] == '.nii.gz'
    scan, truth = (nib.load(tmp_path / 'set' / name) for name in (images[0], labels[0]))
    assert scan.get_data_dtype() == np.int16 and truth.get_data_dtype() == np.uint8
    assert scan.header.get_xyzt_units()[0] == 'mm' and np.array_equal(scan.affine, truth.affine)
    image, expected, affine = phantom.scan('MR', 0, 1)
    assert np.array_equal(scan.dataobj, image) and np.array_equal(truth.dataobj, expected)
    assert np.allclose(scan.affine, affine, atol=1e-3)


def test_complete_dataset_is_left_alone_and_another_refused(tmp_path):
    folder = tmp_path / 'set'
    phantom.write_dataset(folder, 'MR', 1, seed=0)
    scan = folder / 'imagesTr' / 'phantom_mr_000_0000.nii.gz'
    before = scan.stat().st_mtime_ns, scan.read_bytes()
    phantom.write_dataset(folder, 'MR', 1, seed=0)
    assert (scan.stat().st_mtime_ns, scan.read_bytes()) == before
    with pytest.raises(InputError, match='remove it'):
        phantom.write_dataset(folder, 'MR', 1, seed=1)


def test_interrupted_dataset_leaves_nothing(tmp_path):
    def interrupt(done, subjects):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom.write_dataset(tmp_path / 'set', 'MR', 1, seed=0, progress=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('region', phantom.REGIONS)
def test_dataset_of_a_region_with_and_without_labels(tmp_path, region):
    for labelled in (True, False):
        folder = tmp_path / f'labelled {labelled}'
        phantom.write_dataset(folder, 'CT', 1, seed=0, first=3, region=region, labelled=labelled)
        description = json.loads((folder / 'dataset.json').read_text())
        assert description['phantom']['region'] == region and description['phantom']['labelled'] is labelled
        assert tuple(description['labels']) == phantom.REGIONS[region].classes
        case = f'{"phantom" if region == "abdomen" else region}_ct_003'
        assert [path.name for path in (folder / 'imagesTr').iterdir()] == [f'{case}_0000.nii.gz']
        assert (folder / 'labelsTr').exists() == (folder / 'labelsTr' / f'{case}.nii.gz').exists() == labelled
        with pytest.raises(InputError, match='remove it'):
            phantom.write_dataset(folder, 'CT', 1, seed=0, first=3, region=region, labelled=not labelled)


@pytest.mark.parametrize('region', phantom.REGIONS)
def test_unknown_modality_lists_the_known(tmp_path, region):
    for call in (phantom.scan, partial(phantom.write_dataset, tmp_path / 'set')):
        with pytest.raises(InputError, match='known: CT, MR'):
            call('PET', 1, 0, region=region)
    with pytest.raises(InputError, match='known: CT, MR'):
        phantom.paired('CT', 'PET', 0, 0, region)


def test_unknown_region_lists_the_known(tmp_path):
    with pytest.raises(InputError, match='known: abdomen'):
        phantom.write_dataset(tmp_path / 'set', 'CT', 1, 0, region='knee')
