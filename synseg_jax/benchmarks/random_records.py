"""Records of random images, in pools as large as real ones, to time the input pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synseg_jax.batches.pipeline import Pool
from synseg_jax.preparation.records import Records, RecordWriter, encode

RECORDS = 64  # written per domain
REPEATS = 32  # of the records in a pool; in a small pool, grain spends most of its time on shuffling


def pools(folder: Path, data: Mapping[str, np.ndarray], domains: Sequence[str], context: int) -> dict[str, Pool]:
    """Write the images and labels of `data`, {a, label_a, ...}, as records to `folder`; returns {domain: pool}.

    Each image is read with `context` neighbours on each side as channels.
    """
    pool_of = {}
    for domain in domains:
        path = folder / f'{domain}.array_record'
        images, labels = data[domain], data.get(f'label_{domain}')
        channels = images.shape[-1] // (1 + 2 * context)
        with RecordWriter(path) as writer:
            for i in range(RECORDS):
                label = None if labels is None else labels[i % len(labels)].astype(np.uint8)
                writer.write(encode(images[i % len(images)][..., :channels], label, 0, i))
        pool = pool_of[domain] = Pool([_WithNeighbours(Records(path), context)], [RECORDS])
        pool.order = np.tile(pool.order, REPEATS)
    return pool_of


class _WithNeighbours(Sequence):
    """Records with the adjacent ones as channels of the image."""

    def __init__(self, records: Records, context: int):
        self.records, self.context = records, context

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        indices = [(index + step) % len(self) for step in range(-self.context, self.context + 1)]
        images = [record['image'] if i == index else self.records[i]['image'] for i in indices]
        return record | {'image': np.concatenate(images, -1)}
