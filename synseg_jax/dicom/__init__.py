"""DICOM: image series, RT Structure Sets, segmentation objects."""
