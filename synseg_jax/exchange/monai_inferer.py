"""Whole scans in a MONAI bundle: an inferer that prepares and labels a scan as `predict` does.

A bundle holds a copy of this file, which needs MONAI beside what `torch_evaluator.py` needs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type

from synseg_jax.exchange.torch_evaluator import Evaluator
from synseg_jax.formats import scan_file
from synseg_jax.imaging.arrays import Float, Integer
from synseg_jax.imaging.volume import Volume


class ScanInferer(Inferer):
    """Labels of whole scans on their own grids, as `card.json` describes the preparation of scans of `domain`."""

    def __init__(self, card: str, domain: str = 'b'):
        """`card` is the folder of card.json."""
        super().__init__()
        self.evaluator, self.domain = Evaluator(Path(card)), domain

    def __call__(
        self, inputs: Float[torch.Tensor, 'b 1 x y z'], network: torch.nn.Module, *args: Any, **kwargs: Any
    ) -> Integer[torch.Tensor, 'b 1 x y z']:
        """The class of every voxel of scans with their affines, as MONAI's LoadImage reads them."""
        self.evaluator.functions['segment', self.domain] = network
        self.evaluator.device = inputs.device
        labels = torch.stack([self._labels(scan) for scan in decollate_batch(inputs)])
        return convert_to_dst_type(labels, inputs, dtype=torch.uint8)[0]

    def _labels(self, scan: MetaTensor) -> torch.Tensor:
        array, affine = scan[0].cpu().numpy(), scan.affine.cpu().numpy()
        name = scan.meta.get('filename_or_obj', 'scan')
        labels = self.evaluator.segment(scan_file.checked(name, Volume(array, affine)), self.domain)
        self.evaluator.forget()
        return torch.from_numpy(np.ascontiguousarray(labels))[None]  # PyTorch has no reversed axes
