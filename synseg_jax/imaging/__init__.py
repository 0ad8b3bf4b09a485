"""Arrays of one scan: intensities, slices, grids; no files, no JAX."""
