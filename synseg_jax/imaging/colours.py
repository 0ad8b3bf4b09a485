"""Colour-blind-safe colours of classes (Okabe-Ito, then Tol's muted scheme)."""

_OKABE_ITO = ('#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7')
_TOL_MUTED = ('#882255', '#44AA99', '#999933', '#AA4499', '#DDCC77', '#CC6677', '#88CCEE', '#117733')
COLOURS = _OKABE_ITO + _TOL_MUTED


def colour(label: int) -> str:
    """The colour of a class by its index from 1; the palette repeats."""
    return COLOURS[(label - 1) % len(COLOURS)]
