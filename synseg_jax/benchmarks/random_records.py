"""Records of given images, in pools as large as real ones are: what reading is timed on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synseg_jax.batches.pipeline import Pool
from synseg_jax.preparation.records import Records, RecordWriter, encode

RECORDED = 64  # records of a domain, read over and over
TURNS = 32  # in a small pool, grain spends most of its time on the shuffle


def pools(folder: Path, data: Mapping[str, np.ndarray], domains: Sequence[str], context: int) -> dict[str, Pool]:
    """Pools of records in `folder` with the images and labels of `data`, {a, label_a, ...}, each in turn.

    Every image is read with `context` neighbours on each side as channels.
    """
    found = {}
    for domain in domains:
        path = folder / f'{domain}.array_record'
        images, labels = data[domain], data.get(f'label_{domain}')
        with RecordWriter(path) as writer:
            for i in range(RECORDED):
                label = None if labels is None else labels[i % len(labels)].astype(np.uint8)
                writer.write(encode(images[i % len(images)][..., :1], label, 0, i))
        found[domain] = Pool([_Around(Records(path), context)], [RECORDED])
        found[domain].order = np.tile(found[domain].order, TURNS)
    return found


class _Around(Sequence):
    """Records with those before and after them as channels."""

    def __init__(self, records: Records, context: int):
        self.records, self.context = records, context

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        near = [(index + step) % len(self) for step in range(-self.context, self.context + 1)]
        images = [record['image'] if i == index else self.records[i]['image'] for i in near]
        return record | {'image': np.concatenate(images, -1)}
