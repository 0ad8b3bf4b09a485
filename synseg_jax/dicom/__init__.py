"""DICOM: series, contours, segmentations."""
