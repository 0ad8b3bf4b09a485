"""The floating-point operations of a compiled program."""

import math
import re

RESULT = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = \(?\w+\[([\d,]*)\]', re.MULTILINE)  # a tuple's first
CONVOLUTION = re.compile(
    r'%?([\w.-]+) = \(?\w+\[[^\n]*? custom-call\(%?([\w.-]+), %?([\w.-]+)[^\n]*?dim_labels=\w+_(\w+)->\w+, '
    r'custom_call_target="__cudnn\$conv(Forward|BiasActivationForward|BackwardInput|BackwardFilter)"'
)


def flops(compiled) -> float:
    """What XLA counts in a compiled function, and the convolutions that it leaves to cuDNN, which it does not count."""
    return (compiled.cost_analysis() or {}).get('flops', 0.0) + library_flops(compiled.as_text())


def library_flops(text: str) -> float:
    """The operations of cuDNN's convolutions in a program as XLA prints it: two for every output and tap and input."""
    shapes = {name: [int(size) for size in sizes.split(',') if size] for name, sizes in RESULT.findall(text)}
    total = 0
    for made, first, second, labels, kind in CONVOLUTION.findall(text):
        output, kernel = {
            'BackwardInput': (first, second),  # the output's slope, as it was computed forward
            'BackwardFilter': (second, made),
        }.get(kind, (made, second))
        taps = math.prod(shapes[kernel]) // shapes[kernel][labels.index('o')]
        total += 2 * math.prod(shapes[output]) * taps
    return float(total)
