"""Similarity of images against scikit-image, and inside masks against known answers."""

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from synseg_jax.evaluation import similarity


def pairs():
    for seed, shape in enumerate([(17, 30), (11, 11), (14, 12, 13)]):
        rng = np.random.default_rng(seed)
        reference = rng.uniform(-1, 1, shape).astype(np.float32)
        yield (reference + 0.3 * rng.normal(size=shape)).astype(np.float32), reference


def theirs(image, reference, data_range):
    return structural_similarity(
        image.astype(float),
        reference.astype(float),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


@pytest.mark.parametrize('data_range', [1.0, 2.0, 2000.0])
def test_ssim_and_psnr_are_those_of_scikit_image(data_range):
    for image, reference in pairs():
        image, reference = image * data_range, reference * data_range
        ours = similarity.ssim(image, reference, data_range=data_range)
        assert ours == pytest.approx(theirs(image, reference, data_range), rel=1e-6)
        assert similarity.psnr(image, reference, data_range=data_range) == pytest.approx(
            peak_signal_noise_ratio(reference.astype(float), image.astype(float), data_range=data_range)
        )


def test_ssim_of_slices_is_their_mean():
    image, reference = list(pairs())[2]
    for axis in (0, 1, -1):
        slices = zip(np.moveaxis(image, axis, 0), np.moveaxis(reference, axis, 0), strict=True)
        mean = np.mean([theirs(*pair, 2.0) for pair in slices])
        assert similarity.ssim(image, reference, data_range=2.0, slice_axis=axis) == pytest.approx(mean, rel=1e-6)


def test_mean_absolute_error():
    for image, reference in pairs():
        np.testing.assert_allclose(
            similarity.mean_absolute_error(image, reference), np.abs(image - reference).mean(), rtol=1e-6
        )


def test_only_the_mask_counts():
    image, reference = list(pairs())[0]
    mask = np.zeros(image.shape, bool)
    mask[3:9, 4:20] = True
    error = mean_squared_error(image[mask].astype(float), reference[mask].astype(float))
    assert similarity.psnr(image, reference, data_range=2.0, mask=mask) == pytest.approx(10 * np.log10(4 / error))
    expected = np.abs(image[mask].astype(float) - reference[mask]).mean()
    assert similarity.mean_absolute_error(image, reference, mask) == pytest.approx(expected)
    _, full = structural_similarity(
        image.astype(float),
        reference.astype(float),
        data_range=2.0,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    inside = full[5:-5, 5:-5][mask[5:-5, 5:-5]]
    assert similarity.ssim(image, reference, data_range=2.0, mask=mask) == pytest.approx(inside.mean(), rel=1e-6)


def test_equal_images_and_empty_masks():
    image, _ = next(pairs())
    assert similarity.ssim(image, image, data_range=2.0) == pytest.approx(1)
    assert similarity.psnr(image, image, data_range=2.0) == np.inf
    assert similarity.mean_absolute_error(image, image) == 0
    empty = np.zeros(image.shape, bool)
    assert np.isnan(similarity.ssim(image, image, data_range=2.0, mask=empty))
    assert np.isnan(similarity.psnr(image, image, data_range=2.0, mask=empty))
    assert np.isnan(similarity.mean_absolute_error(image, image, empty))


def test_images_narrower_than_the_window_are_refused():
    narrow = np.zeros((10, 20), np.float32)
    with pytest.raises(ValueError, match='narrower than the window of 11'):
        similarity.ssim(narrow, narrow, data_range=1.0)
    with pytest.raises(ValueError, match='narrower'):
        similarity.ssim(narrow, narrow, data_range=1.0, slice_axis=1)
