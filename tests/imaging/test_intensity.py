"""Intensities reach [0, 1] by the right rule and come back in their own units."""

import numpy as np
import pytest

from synseg_jax.errors import InputError
from synseg_jax.imaging import intensity

RAMP = np.linspace(-1100, 1100, 2201, dtype=np.float32)


def test_window_maps_clips_and_inverts():
    chosen = intensity.window(-1000, 1000)
    np.testing.assert_allclose(chosen.apply(np.float32([-2000, -1000, 0, 500, 1000, 3000])), [0, 0, 0.5, 0.75, 1, 1])
    inside = RAMP[100:-100]
    np.testing.assert_allclose(chosen.invert(chosen.apply(inside)), inside, atol=1e-3)
    assert chosen.apply(RAMP).dtype == np.float32 and RAMP[0] == -1100  # not in place


def test_percentiles_by_hand():
    chosen = intensity.percentiles(np.arange(201, dtype=np.float32), (2.5, 97.5))
    assert (chosen.low, chosen.high) == (5, 195)


@pytest.mark.parametrize('channel, low', [('CT', -1000), ('ct ', -1000), ('MRI', -1045), ('T2', -1045)])
def test_channel_chooses_the_rule(channel, low):
    assert intensity.for_channel(channel, RAMP, (-1000, 1000), (2.5, 97.5)).low == pytest.approx(low)


@pytest.mark.parametrize('channel, value', [('MR', 7.0), ('CT', 7.0), ('CT', 4000.0)])
def test_constant_scans_are_refused_by_name(channel, value):
    with pytest.raises(InputError, match='case_3.nii'):
        intensity.for_channel(channel, np.full((3, 3), value, np.float32), (-1000, 1000), (2.5, 97.5), 'case_3.nii')


def test_mostly_empty_scan_is_refused():
    array = np.zeros(1000, np.float32)
    array[:10] = 5
    with pytest.raises(InputError, match='widen data.percentiles'):
        intensity.percentiles(array)


def test_without_a_name_there_is_no_prefix():
    for channel in ('MR', 'CT'):
        with pytest.raises(InputError, match='^(percentiles 2.5 and 97.5 are both 7|values 7 to 7 have no contrast)'):
            intensity.for_channel(channel, np.full((3, 3), 7, np.float32), (-1000, 1000), (2.5, 97.5))


@pytest.mark.parametrize('limits', [(1000, -1000), (5, 5)])
def test_bad_windows(limits):
    with pytest.raises(InputError, match='window_hu'):
        intensity.window(*limits)


def test_unused_range_is_said():
    narrow = np.float32([-125, 275])
    assert '20% of the window -1000 to 1000' in intensity.window_warning(intensity.window(-1000, 1000), narrow)
    assert intensity.window_warning(intensity.window(-125, 275), narrow) is None
    assert intensity.window_warning(intensity.window(-125, 275), RAMP) is None
