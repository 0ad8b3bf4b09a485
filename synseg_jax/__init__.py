"""Segmentation of an unlabelled imaging modality by unpaired translation from a labelled one, in JAX."""

__version__ = '0.1.0'
