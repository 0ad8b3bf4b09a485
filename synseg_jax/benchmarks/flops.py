"""Count the floating-point operations of a compiled program."""

import math
import re

RESULT = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = \(?\w+\[([\d,]*)\]', re.MULTILINE)  # of a tuple, its first element
CONVOLUTION = re.compile(
    r'%?([\w.-]+) = \(?\w+\[[^\n]*? custom-call\(%?([\w.-]+), %?([\w.-]+)[^\n]*?dim_labels=\w+_(\w+)->\w+, '
    r'custom_call_target="__cudnn\$conv(Forward|BiasActivationForward|BackwardInput|BackwardFilter)"'
)


def flops(compiled) -> float:
    """XLA's count for a compiled function, plus cuDNN convolutions, which XLA does not count."""
    return (compiled.cost_analysis() or {}).get('flops', 0.0) + library_flops(compiled.as_text())


def library_flops(text: str) -> float:
    """FLOPs of the cuDNN convolutions in the HLO text of a program: 2 x outputs x kernel taps x input channels."""
    shapes = {name: [int(size) for size in sizes.split(',') if size] for name, sizes in RESULT.findall(text)}
    total = 0
    for result, first, second, labels, direction in CONVOLUTION.findall(text):
        output, kernel = {
            'BackwardInput': (first, second),  # first: gradient of the forward output
            'BackwardFilter': (second, result),
        }.get(direction, (result, second))
        taps = math.prod(shapes[kernel]) // shapes[kernel][labels.index('o')]
        total += 2 * math.prod(shapes[output]) * taps
    return float(total)
