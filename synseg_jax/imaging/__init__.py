"""Arrays of one scan: intensities, slices, grids. No file formats, no JAX."""
