"""Exported networks as ONNX, by PyTorch: functions for any runtime that knows ONNX, with the weights inside.

Images are [any number, channels, *size] float32 in [0, 1], and so is what comes out; card.json says the rest.
"""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

from synseg_jax.errors import InputError
from synseg_jax.exchange.pth import pytorch


def write(path: Path, module, channels: int, space: tuple[int, ...]) -> None:
    """The module as a function of `images` that gives `made`; InputError where a package is missing."""
    torch = pytorch('ONNX cannot be written')
    if missing := [name for name in ('onnx', 'onnxscript') if find_spec(name) is None]:
        raise InputError(f"ONNX cannot be written without {missing[0]}: pip install 'synseg_jax[onnx]'")
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)  # it tells of packages that nobody needs here
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # which its own code raises about itself
        program = torch.onnx.export(
            module, (torch.zeros(2, channels, *space),), dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim('number')},), input_names=['images'], output_names=['made'],
        )  # fmt: skip
    program.save(str(path))
