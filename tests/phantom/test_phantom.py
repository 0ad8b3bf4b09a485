"""The phantom is deterministic, anatomically the right way round, and hard in the way that real modalities are."""

import functools
import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from synseg_jax.errors import InputError
from synseg_jax.phantom import dataset
from synseg_jax.phantom.abdomen import CLASSES

ORGANS = CLASSES[1:6]
SCAN = functools.cache(dataset.generate)
MODALITIES = ('CT', 'MR')


@pytest.fixture(scope='module')
def scans():
    """Eight people per modality: (image, labels, affine)."""
    return {m: [dataset.generate(m, 0, n) for n in range(8)] for m in MODALITIES}


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
    again = dataset.generate('MR', 0, 1)
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(again, scans['MR'][1], strict=True))


def test_different_regions_modalities_and_numbers_are_different_people():
    requests = itertools.product(dataset.REGIONS, MODALITIES, (0, 1), range(8))
    widths = {dataset.subject(*request)[0].half_widths_mm for request in requests}
    assert len(widths) == 32 * len(dataset.REGIONS)


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


def test_another_cohort_has_normal_spleens(tmp_path):
    """Of 100 to 320 mL; whoever is drawn without it stays as he was, and so do his other organs with it."""
    dataset.write_dataset(tmp_path / 'set', 'CT', 1, 0, 201, cohort='normal spleen')
    labels = nib.load(tmp_path / 'set' / 'labelsTr' / 'phantom_ct_201.nii.gz')
    assert 100 < volume_ml(np.asarray(labels.dataobj), labels.affine, 'spleen') < 320
    assert json.loads((tmp_path / 'set' / 'dataset.json').read_text())['phantom']['cohort'] == 'normal spleen'
    with pytest.raises(InputError, match='remove it'):
        dataset.write_dataset(tmp_path / 'set', 'CT', 1, 0, 201)
    for number in range(200, 224):
        usual, other = (dataset.subject('abdomen', 'CT', 0, number, 0, name)[0] for name in ('', 'normal spleen'))
        assert np.array_equal(usual.organs['right lobe'].axes, other.organs['right lobe'].axes)
        assert not np.array_equal(usual.organs['spleen'].axes, other.organs['spleen'].axes)
    with pytest.raises(InputError, match="unknown cohort 'tall'; known: normal spleen"):
        dataset.generate('CT', 0, 200, cohort='tall')


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


@functools.cache
def pair(region, modality='CT', number=2):
    """Images by modality, labels and affine, all on the grid of one modality."""
    other = MODALITIES[modality == 'CT']
    image, truth, labels, affine = dataset.generate_pair(modality, other, 0, number, region)
    return {modality: image, other: truth}, labels, affine


def shared_information(a, b):
    """Mutual information of two images in nats."""
    ranks = [np.digitize(image, np.quantile(image, np.linspace(0, 1, 17)[1:-1])).ravel() for image in (a, b)]
    joint = np.histogram2d(*ranks, bins=16)[0] / a.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return np.sum(joint[joint > 0] * np.log(joint[joint > 0] / independent[joint > 0]))


def alone(region, modality, number):
    """(image, labels, affine)"""
    return SCAN(modality, 0, number, region, 'axial', 0)


@pytest.mark.parametrize(
    'region, modality',
    [('abdomen', 'CT'), ('pelvis', 'MR'), ('liver', 'CT'), ('head', 'CT'), ('heart', 'MR'), ('thorax', 'MR')],
)
def test_pairs_are_one_person_at_the_same_voxels(region, modality):
    images, labels, affine = pair(region, modality)
    for a, b in zip(alone(region, modality, 2), (images[modality], labels, affine), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    ct, mr = images['CT'], images['MR']
    assert ct.shape == mr.shape and ct.dtype == mr.dtype == np.int16 and ct.min() < -900 and mr.min() >= 0
    assert all(shared_information(ct, mr) > 1.15 * shared_information(ct, np.roll(mr, 4, axis)) for axis in (0, 1))


@pytest.mark.parametrize(
    'region, modality, field_mm, slice_mm, volume_ml',
    [
        ('pelvis', 'CT', (390, 460), (2.6, 3.0), (15, 130)),
        ('pelvis', 'MR', (180, 220), (3.3, 3.9), (15, 130)),
        ('head', 'CT', (210, 260), (4.0, 5.0), (1050, 1900)),
        ('head', 'MR', (210, 260), (4.0, 5.5), (1050, 1900)),
        ('liver', 'CT', (290, 400), (4.5, 5.0), (600, 2600)),
        ('liver', 'MR', (290, 400), (6.6, 8.0), (600, 2600)),
        ('heart', 'CT', (190, 240), (2.0, 2.6), (150, 560)),
        ('heart', 'MR', (200, 250), (2.2, 2.8), (150, 560)),
        ('thorax', 'CT', (330, 420), (4.0, 5.0), (1, 160)),
        ('thorax', 'MR', (330, 420), (4.5, 6.0), (1, 160)),
    ],
)
def test_regions_have_their_fields_of_view_and_sizes(region, modality, field_mm, slice_mm, volume_ml):
    found = []
    for number in (2, 3):
        _, labels, affine = alone(region, modality, number)
        spacing_mm = nib.affines.voxel_sizes(affine)
        assert np.unique(labels).tolist() == list(range(len(dataset.REGIONS[region].classes)))
        assert field_mm[0] - 1e-3 < labels.shape[0] * spacing_mm[0] < field_mm[1] + 1e-3
        assert slice_mm[0] <= spacing_mm[2] + 1e-6 and spacing_mm[2] <= slice_mm[1] + 1e-6
        found.append((labels > 0).sum() * spacing_mm.prod() / 1000)
    assert volume_ml[0] < min(found) and max(found) < volume_ml[1] and np.ptp(found) > 0.01 * max(found)


def fat(ct):
    return binary_erosion((gaussian_filter(ct.astype(float), 1) > -130) & (gaussian_filter(ct.astype(float), 1) < -70))


def test_fat_is_dark_and_spleen_bright_in_spir():
    ratios = {}
    for region, liver in (('abdomen', CLASSES.index('liver')), ('liver', 1)):
        images, labels, _ = pair(region)
        mr = images['MR'] / np.median(images['MR'][labels == liver])
        ratios[region] = mr[fat(images['CT'])].mean()
        assert np.quantile(mr, 0.99) > 2
    assert ratios['liver'] < 0.6 and ratios['abdomen'] > 0.8


@pytest.mark.parametrize('number', (2, 3))
def test_skull_is_bright_in_ct_and_dark_in_mr_and_holds_the_brain(number):
    images, labels, _ = pair('head', number=number)
    ct, mr = images['CT'], images['MR'] / images['MR'][labels == 1].mean()
    assert 20 < np.median(ct[labels == 1]) < 45 and np.mean(labels[ct > 700]) < 0.01
    upper = np.argwhere(labels)[:, 2].mean()  # above the base the skull is closed
    around = binary_dilation(labels, iterations=2) & (labels == 0) & (np.arange(labels.shape[2]) > upper)
    assert np.mean(ct[around] > 400) > 0.8
    assert mr[ct > 700].mean() < 0.6 and mr[fat(ct) & (labels == 0)].mean() > 1.3


@pytest.mark.parametrize('number', (2, 3))
def test_prostate_shows_its_zones_in_mr_and_hardly_itself_in_ct(number):
    images, labels, affine = pair('pelvis', 'MR', number)
    ct, mr = images['CT'].astype(float), images['MR']
    assert 25 < ct[labels == 1].mean() < 50
    assert ct[labels == 1].mean() < np.median(ct[(ct > 20) & (ct < 120) & (labels == 0)]) + 10  # as muscle is
    shell = binary_dilation(labels, iterations=4) & ~binary_dilation(labels, iterations=1)
    assert ct[shell].mean() < ct[labels == 1].mean() - 25  # fat about it
    index = np.argwhere(labels)
    behind = (index @ affine[1, :3]).argsort()
    values = mr[tuple(index[behind].T)]
    fifth = len(values) // 5
    assert values[fifth // 2 : fifth].mean() > 1.15 * values[2 * fifth : 4 * fifth].mean()


@pytest.mark.parametrize('modality', MODALITIES)
def test_a_heart_is_built_and_shown_as_hearts_are(modality):
    images, labels, affine = pair('heart', modality)
    names = dataset.REGIONS['heart'].classes
    value, middle = {}, {}
    for index, name in enumerate(names[1:], 1):
        inside = binary_erosion(labels == index, iterations=2 if name != 'myocardium' else 1)
        value[name] = {m: np.median(images[m][inside]) for m in MODALITIES}
        middle[name] = affine[:3, :3] @ np.argwhere(labels == index).mean(0) + affine[:3, 3]
    x, y, z = range(3)
    assert middle['right atrium'][x] > middle['left ventricle'][x] + 30  # RAS: x grows to the right
    assert middle['left atrium'][y] < middle['right ventricle'][y] - 20  # behind
    assert middle['left ventricle'][z] < middle['left atrium'][z]
    shell = binary_dilation(labels == 1, iterations=2) & (labels != 1)
    assert np.mean(labels[shell] == names.index('myocardium')) > 0.6  # the wall is around the left ventricle
    for m in MODALITIES:
        assert value['left ventricle'][m] > 1.8 * value['myocardium'][m]
        assert value['left atrium'][m] == pytest.approx(value['left ventricle'][m], rel=0.15)
    assert value['left ventricle']['CT'] > value['right ventricle']['CT'] + 20  # the contrast medium has passed


def test_tumours_shrink_from_week_to_week():
    volumes, people = [], []
    for week in (0, 2, 6):
        image, labels, affine = dataset.generate('MR', 0, 3, 'thorax', week=week)
        volumes.append((labels == 1).sum() * abs(np.linalg.det(affine[:3, :3])))
        people.append(dataset.subject('thorax', 'MR', 0, 3, week)[0])
        lung = np.median(
            image[binary_dilation(labels == 1, iterations=6) & ~binary_dilation(labels == 1, iterations=2)]
        )
        assert np.median(image[labels == 1]) > 3 * lung
    assert volumes[0] > 1.1 * volumes[1] > 1.2 * volumes[2] > 0
    assert len({person.half_widths_mm for person in people}) == 1 and len({person.breath for person in people}) == 3
    ct, truth, labels, _ = dataset.generate_pair('CT', 'MR', 0, 3, 'thorax', week=2)
    muscle = np.median(ct[(truth > 60) & (truth < 250) & (ct > 20) & (ct < 90)])
    assert abs(np.median(ct[labels == 1]) - muscle) < 40  # soft tissue, as all around it but lung


def test_planes_are_views_of_one_person():
    volumes = []
    for plane, across in (('axial', 2), ('coronal', 1), ('sagittal', 0)):
        _, labels, affine = dataset.generate('CT', 0, 0, plane=plane)
        spacing_mm = nib.affines.voxel_sizes(affine)
        assert spacing_mm.argmax() == across and spacing_mm[across] > 4
        volumes.append(volume_ml(labels, affine, 'liver'))
    assert np.ptp(volumes) < 0.05 * max(volumes)


def test_dataset_is_an_ordinary_raw_folder(tmp_path):
    calls = []
    dataset.write_dataset(tmp_path / 'set', 'MR', 2, seed=0, first=1, progress=lambda *call: calls.append(call))
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
    image, expected, affine = dataset.generate('MR', 0, 1)
    assert np.array_equal(scan.dataobj, image) and np.array_equal(truth.dataobj, expected)
    assert np.allclose(scan.affine, affine, atol=1e-3)


def test_complete_dataset_is_left_alone_and_another_refused(tmp_path):
    folder = tmp_path / 'set'
    dataset.write_dataset(folder, 'MR', 1, seed=0)
    scan = folder / 'imagesTr' / 'phantom_mr_000_0000.nii.gz'
    before = scan.stat().st_mtime_ns, scan.read_bytes()
    dataset.write_dataset(folder, 'MR', 1, seed=0)
    assert (scan.stat().st_mtime_ns, scan.read_bytes()) == before
    with pytest.raises(InputError, match='remove it'):
        dataset.write_dataset(folder, 'MR', 1, seed=1)


def test_interrupted_dataset_leaves_nothing(tmp_path):
    def interrupt(done, subjects):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.write_dataset(tmp_path / 'set', 'MR', 1, seed=0, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_dataset_over_weeks(tmp_path):
    counted = []
    dataset.write_dataset(
        tmp_path / 'set', 'MR', 2, 0, first=4, region='thorax', weeks=(0, 3), progress=lambda *n: counted.append(n)
    )
    names = [f'thorax_mr_{number:03d}_w{week}' for number in (4, 5) for week in (0, 3)]
    assert sorted(path.name for path in (tmp_path / 'set' / 'labelsTr').iterdir()) == [f'{n}.nii.gz' for n in names]
    assert counted == [(1, 4), (2, 4), (3, 4), (4, 4)]
    labels = nib.load(tmp_path / 'set' / 'labelsTr' / f'{names[3]}.nii.gz')
    np.testing.assert_array_equal(labels.get_fdata(), dataset.generate('MR', 0, 5, 'thorax', week=3)[1])


@pytest.mark.parametrize('region', dataset.REGIONS)
def test_dataset_of_a_region_with_and_without_labels(tmp_path, region, monkeypatch):
    monkeypatch.setattr(dataset, 'generate', SCAN)
    for labelled in (True, False):
        folder = tmp_path / f'labelled {labelled}'
        dataset.write_dataset(folder, 'CT', 1, seed=0, first=3, region=region, labelled=labelled)
        description = json.loads((folder / 'dataset.json').read_text())
        assert description['phantom']['region'] == region and description['phantom']['labelled'] is labelled
        assert tuple(description['labels']) == dataset.REGIONS[region].classes
        case = f'{"phantom" if region == "abdomen" else region}_ct_003'
        assert [path.name for path in (folder / 'imagesTr').iterdir()] == [f'{case}_0000.nii.gz']
        assert (folder / 'labelsTr').exists() == (folder / 'labelsTr' / f'{case}.nii.gz').exists() == labelled
        with pytest.raises(InputError, match='remove it'):
            dataset.write_dataset(folder, 'CT', 1, seed=0, first=3, region=region, labelled=not labelled)


@pytest.mark.parametrize('region', dataset.REGIONS)
def test_unknown_modality_lists_the_known(tmp_path, region):
    for call in (dataset.generate, functools.partial(dataset.write_dataset, tmp_path / 'set')):
        with pytest.raises(InputError, match='known: CT, MR'):
            call('PET', 1, 0, region=region)
    with pytest.raises(InputError, match='known: CT, MR'):
        dataset.generate_pair('CT', 'PET', 0, 0, region)


def test_unknown_region_lists_the_known(tmp_path):
    with pytest.raises(InputError, match='known: abdomen'):
        dataset.write_dataset(tmp_path / 'set', 'CT', 1, 0, region='knee')
