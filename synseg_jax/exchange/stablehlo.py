"""Trained networks as functions that need no code of ours: StableHLO with the weights inside.

    function = jax.export.deserialize(bytearray(open('segment_b.stablehlo', 'rb').read()))
    probabilities = function.call(images)

needs JAX alone, of the version that wrote it or of one that is up to half a year younger, on any of PLATFORMS.  Images
are [any number, *size, channels] float32 in [0, 1]; card.json says how scans become such images.
"""

from collections.abc import Callable
from importlib.util import find_spec

import jax
import jax.numpy as jnp
from jax import export

from synseg_jax.errors import InputError
from synseg_jax.inference.run_networks import Networks
from synseg_jax.objective import names
from synseg_jax.objective.losses import two_classes

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')


def functions(networks: Networks) -> dict[str, Callable]:
    """`segment_a`, `segment_b`, `translate_a` and `translate_b`, by the domain of their images, as far as trained."""
    system = networks.system
    view = system.view(networks.params)
    generators = {d: names.generator(d) for d in names.DOMAINS}
    segmentors = {d: name for d in names.DOMAINS if (name := system.segmentor(d))}
    segment = {f'segment_{d}': _segment(view, names.domain(name)) for d, name in segmentors.items()}
    return segment | {f'translate_{d}': _translate(view, g) for d, g in generators.items() if g in system.networks}


def _segment(view, domain):
    def probabilities(images):
        logits = view.segment(domain, 2 * images - 1)
        return jax.nn.softmax(two_classes(logits) if logits.shape[-1] == 1 else logits)

    return probabilities


def _translate(view, generator):
    return lambda images: (getattr(view, generator)(2 * images - 1) + 1) / 2


def serialized(function: Callable, space: tuple[int, ...], channels: int) -> bytes:
    """The function of images [b, *space, channels], for any b, as an artefact of jax.export."""
    if find_spec('flatbuffers') is None:
        raise InputError("StableHLO cannot be written: pip install 'synseg_jax[stablehlo]', which is flatbuffers")
    (rows,) = export.symbolic_shape('b')
    images = jax.ShapeDtypeStruct((rows, *space, channels), jnp.float32)
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(images).serialize())
