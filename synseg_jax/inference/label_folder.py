"""A folder of label maps in nnU-Net's layout; no JAX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from synseg_jax.files import write_json

DATASET = 'dataset.json'


def described(classes: Sequence[str], channel: str, count: int, prediction: Mapping | None = None) -> dict:
    """The dataset.json that names the classes of `count` label maps, and the modality of their scans.

    `prediction`: what made them, see docs/workdir.md.
    """
    description = {
        'channel_names': {'0': channel},
        'labels': {name: value for value, name in enumerate(classes)},
        'file_ending': '.nii.gz',
        'numTraining': count,
    }
    return description | ({'prediction': prediction} if prediction else {})


def write_dataset_json(
    folder: Path, classes: Sequence[str], channel: str, count: int, prediction: Mapping | None = None
) -> None:
    """Write `described` to a folder."""
    write_json(folder / DATASET, described(classes, channel, count, prediction))
