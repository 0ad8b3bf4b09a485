"""Fields of a configuration as frozen dataclasses, and parsing, checking and documenting them."""
