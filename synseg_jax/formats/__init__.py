"""Reading and writing scans and label maps: NIfTI, NRRD, MetaImage; DICOM by `synseg_jax.dicom`."""
