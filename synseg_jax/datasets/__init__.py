"""Reading folders of scans as lists of cases, and writing nnU-Net datasets."""
