"""Segment a modality that nobody has labelled, by learning to translate scans into it."""

__version__ = '0.1.0'
