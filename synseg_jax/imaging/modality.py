"""The modality of a scan by the name of its channel, and whether its values are plausible for it."""

import re

import numpy as np

from synseg_jax.imaging.arrays import Float

PATTERNS = {  # of words in the name of a channel
    'CT': r'ct|cta|ctpa|ctac|ctscan|(ce|nce?|ne|ld|hr|md|cb|s)ct',
    'MR': r'mr|mri|mra|cmr|t[12]\w*|flair|adc|dwi|dce|swi|tof|spir|b?ssfp|pdw',
    'PET': r'pet|fdg|suv',
    'US': r'us|ultrasound',
}
LOWEST_HU = -50.0  # fat and the surrounding air lie below it in every CT


def of_channel(channel: str) -> str:
    """'CT', 'MR', 'PET' or 'US' by a word of the channel's name, as in 'CT_portal', 'CTA' or 'T2-SPIR MR'; else ''.

    Also '' if the name is ambiguous, as 'PET/CT' and 'MR registered to CT' are.
    """
    words = re.findall(r'[^\W_]+', re.sub(r'([a-z])([A-Z])', r'\1 \2', channel).lower())  # pseudoCT is two words
    matches = {name for name, regex in PATTERNS.items() for word in words if re.fullmatch(rf'({regex})\d*', word)}
    return matches.pop() if len(matches) == 1 else ''


def differ(first: str, second: str) -> bool:
    """Whether two modalities are known and differ."""
    return bool(first and second and first != second)


def hu_warning(channel: str, array: Float[np.ndarray, '*space']) -> str:
    """A warning if the values of a CT cannot be Hounsfield units; '' otherwise and for other modalities."""
    if of_channel(channel) != 'CT' or (lowest := float(array.min())) < LOWEST_HU:
        return ''
    return f'no value below {lowest:g}, unlike a CT in Hounsfield units; is it of another modality, or not rescaled?'
