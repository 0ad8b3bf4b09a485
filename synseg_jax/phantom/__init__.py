"""Random people, scanned as CT or MR: data with known truth."""
