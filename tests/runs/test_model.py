"""A trained workdir in Python: images of every kind come back as the same kind, on their grid, with the same labels."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tiny
import untrained

import synseg_jax
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.formats.python_images import opened
from synseg_jax.runs import open_run, train_stage


@pytest.fixture(scope='module')
def model(tiny_records, tmp_path_factory):
    """A run of SynSeg-Net with random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_stage.StageTraining, 'run', untrained.fit)
        return synseg_jax.train(
            tiny.config(tiny_records, train__steps=4, train__decay_steps=2),
            tmp_path_factory.mktemp('model'),
            quiet=True,
        )


@pytest.fixture
def path(tiny_records):
    return next((tiny_records.parent / 'Dataset_CT' / 'imagesTr').iterdir())


def test_every_kind_of_image(model, path):
    """The same labels on the same grid, whatever holds the scan."""
    scan = scan_file.read(path)
    wanted = open_run.find(model.workdir).segment(scan, 'b')
    assert len(np.unique(wanted)) > 1
    of_path, of_nibabel = model.segment(path), model.segment(nib.load(path))
    for found in (of_path, of_nibabel, model.segment(str(path))):
        assert isinstance(found, nib.Nifti1Image) and found.get_data_dtype() == wanted.dtype
        np.testing.assert_array_equal(np.asarray(found.dataobj), wanted)
        np.testing.assert_allclose(found.affine, scan.affine)
    np.testing.assert_array_equal(model.segment((scan.array, scan.affine)), wanted)
    image = sitk.ReadImage(path)
    found = model.segment(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, wanted)
    assert (found.GetOrigin(), found.GetSpacing(), found.GetDirection()) == (
        image.GetOrigin(), image.GetSpacing(), image.GetDirection(),
    )  # fmt: skip


def test_an_oblique_simple_itk_image_has_the_affine_that_nibabel_reads(tmp_path):
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    image = sitk.GetImageFromArray(rng.normal(size=(4, 5, 6)))
    image.SetDirection(turn.ravel())
    image.SetSpacing((1.5, 2.0, 4.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    sitk.WriteImage(image, tmp_path / 'scan.nii.gz')
    read, made = scan_file.read(tmp_path / 'scan.nii.gz'), opened(image)[0]
    np.testing.assert_allclose(made.affine, read.affine, atol=1e-4)
    np.testing.assert_allclose(made.array, read.array)


def test_probabilities_and_translation(model, path):
    probabilities = model.probabilities(nib.load(path))
    assert tuple(probabilities) == model.classes == tiny.CLASSES
    array = np.stack([image.get_fdata() for image in probabilities.values()])
    np.testing.assert_allclose(array.sum(0), 1, atol=1e-3)
    mr = next((path.parents[2] / 'Dataset_MR' / 'imagesTr').iterdir())
    fake = model.translate(sitk.ReadImage(mr))
    assert isinstance(fake, sitk.Image) and fake.GetSize() == tiny.SHAPE
    assert sitk.GetArrayFromImage(fake).std() > 0 and model.modalities == {'a': 'MR', 'b': 'CT'}


def test_fields_of_prediction(model, path):
    turned = synseg_jax.load(model.workdir, rotate=10.0)
    plain, other = (one.probabilities(path)['liver'].get_fdata() for one in (model, turned))
    assert abs(plain - other).max() > 1e-4


@pytest.mark.parametrize(
    'image, told',
    [
        (3, 'a int is no scan; give a path, a nibabel image'),
        ('none.nii.gz', 'none.nii.gz: no such file'),
        ((np.zeros((4, 4)), np.eye(4)), r'array: 4 x 4 voxels .* give a 3-D scan'),
        ((np.zeros((4, 4, 4)), np.eye(3)), r'array: .* affine \(3, 3\); give a 3-D scan and a 4x4 affine'),
        ((np.full((4, 4, 4), np.nan), np.eye(4)), 'array: 64 voxels are NaN or infinite'),
        ((np.zeros((4, 4, 4)), np.zeros((4, 4))), 'array: its affine is singular'),
        ((np.full((4, 4, 4), 'x'), np.eye(4)), 'array: .* of type <U1'),
        (sitk.Image(4, 4, sitk.sitkFloat32), 'SimpleITK image: 4 x 4 voxels'),
    ],
)
def test_what_is_no_scan_is_one_line(model, image, told):
    with pytest.raises(InputError, match=told):
        model.segment(image)


def test_mistakes_are_one_line(model, tmp_path):
    with pytest.raises(InputError, match='no such file'):
        synseg_jax.load(tmp_path)
    with pytest.raises(InputError, match="unknown system 'x'"):
        synseg_jax.load(model.workdir, 'x')
    with pytest.raises(InputError, match='turn'):
        synseg_jax.load(model.workdir, turn=1.0)
    with pytest.raises(InputError, match='a dict is no configuration'):
        synseg_jax.train({}, tmp_path)
    with pytest.raises(AttributeError, match='lod'):
        _ = synseg_jax.lod
