"""`synseg_jax.main`, which also appends a digest of every row of every batch it reads to the file that READ names."""

import hashlib
import os
from pathlib import Path

import numpy as np

from synseg_jax import main
from synseg_jax.batches import pipeline
from synseg_jax.cli import command


def digest(image) -> str:
    """Stands for an image."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def told(batches, read):
    """`pipeline.batches`; every batch becomes a line of the file: its number, its rows of domain a, those of b."""

    def noted(pools, batch, seed, start, *rest, **how):
        for number, rows in enumerate(batches(pools, batch, seed, start, *rest, **how), start):
            own = {domain: rows[domain].addressable_data(0) for domain in rows if domain in 'ab'}  # of its only device
            images = [image for domain in own for image in np.asarray(own[domain])]
            with read.open('a') as file:
                print(number, *map(digest, images), file=file)
            yield rows

    return noted


if __name__ == '__main__':
    pipeline.batches = told(pipeline.batches, Path(os.environ['READ']))
    command.start(main.main)
