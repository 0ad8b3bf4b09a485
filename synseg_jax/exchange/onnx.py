"""Export networks to ONNX through PyTorch, with the weights inside.

Inputs and outputs are [batch, channels, *size] float32 in [0, 1] for any batch size; card.json describes them.
"""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

from synseg_jax.errors import InputError
from synseg_jax.exchange.pth import pytorch


def write(path: Path, module, channels: int, space: tuple[int, ...]) -> None:
    """Write the module with input `images` and output `made`; InputError if a package is missing."""
    torch = pytorch('ONNX cannot be written')
    if missing := [name for name in ('onnx', 'onnxscript') if find_spec(name) is None]:
        raise InputError(f"ONNX cannot be written without {missing[0]}: pip install 'synseg_jax[onnx]'")
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)  # its warnings are about optional packages
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # deprecation warnings of torch.onnx itself
        program = torch.onnx.export(
            module, (torch.zeros(2, channels, *space),), dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim('number')},), input_names=['images'], output_names=['made'],
        )  # fmt: skip
    program.save(str(path))
