"""Records to batches: selection, shuffling, augmentation."""
