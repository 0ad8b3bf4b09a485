"""A folder of label maps in nnU-Net's layout; no JAX."""

from collections.abc import Sequence
from pathlib import Path

from synseg_jax.files import write_json


def write_dataset_json(folder: Path, classes: Sequence[str], channel: str, count: int) -> None:
    """Write the dataset.json that names the classes of `count` label maps, and the modality of their scans."""
    description = {
        'channel_names': {'0': channel},
        'labels': {name: value for value, name in enumerate(classes)},
        'file_ending': '.nii.gz',
        'numTraining': count,
    }
    write_json(folder / 'dataset.json', description)
