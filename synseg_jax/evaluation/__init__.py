"""Metrics of segmentation and synthesis, their statistics, and the evaluation of folders of label maps."""
