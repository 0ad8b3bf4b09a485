"""Files of scans and labels: NIfTI, NRRD, MetaImage, and DICOM by its room."""
