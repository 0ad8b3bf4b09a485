"""The modality of scans: by the name of their channel, by their DICOM header, by their values."""

import re

import numpy as np

from synseg_jax.imaging.arrays import Float

WORDS = {  # by which the name of a channel tells its modality
    'CT': r'ct|cta|ctpa|ctac|ctscan|(ce|nce?|ne|ld|hr|md|cb|s)ct',
    'MR': r'mr|mri|mra|cmr|t[12]\w*|flair|adc|dwi|dce|swi|tof|spir|b?ssfp|pdw',
    'PET': r'pet|fdg|suv',
    'US': r'us|ultrasound',
}
LOWEST_HU = -50.0  # below it every body has fat, and air about it


def named(channel: str) -> str:
    """CT, MR, PET or US, if a word of the channel's name means it, as in 'CT_portal', 'CTA' or 'T2-SPIR MR'; else ''.

    '' too where words mean several, as in 'PET/CT' and 'MR registered to CT'.
    """
    words = re.findall(r'[^\W_]+', re.sub(r'([a-z])([A-Z])', r'\1 \2', channel).lower())  # pseudoCT is two
    found = {name for name, known in WORDS.items() for word in words if re.fullmatch(rf'({known})\d*', word)}
    return found.pop() if len(found) == 1 else ''


def differ(one: str, other: str) -> bool:
    """Whether two modalities are known and not the same."""
    return bool(one and other and one != other)


def unlike(channel: str, array: Float[np.ndarray, '*space']) -> str:
    """What is odd about the values of a scan that is called a CT; '' if nothing is."""
    if named(channel) != 'CT' or (lowest := float(array.min())) < LOWEST_HU:
        return ''
    return f'no value below {lowest:g}, as a CT has in Hounsfield units; is it of another modality, or not rescaled?'
