"""What is wrong with scans, labels and sets, before anything is trained."""
