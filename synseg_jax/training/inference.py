"""Trained networks on stacks of slices or on volumes: votes and translations, in batches of one shape."""

from collections.abc import Callable, Mapping
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Float, PyTree

from synseg_jax.data.tiles import tiled
from synseg_jax.errors import InputError
from synseg_jax.training.losses import two_classes
from synseg_jax.training.system import System
from synseg_jax.training.terms import View


class Networks:
    """The networks of a system with their trained weights; stacks hold values in [0, 1].

    They may have any size: what is larger than the networks were trained on is seen in overlapping tiles.
    """

    def __init__(self, system: System, params: Mapping[str, PyTree], batch: int = 8):
        self.system, self.params, self.batch = system, params, batch

    def votes(self, stack: Float[np.ndarray, 'n *space c'], domain: str) -> Float[np.ndarray, 'n *space k']:
        """Class probabilities of slices or volumes of a domain."""
        name = self.system.segmentor(domain)
        if name is None:
            raise InputError(f'method {self.system.method.name} trains no segmentor; choose another --system')
        return self._map(self._segment[name[-1]], stack)

    def translate(self, stack: Float[np.ndarray, 'n *space c'], source: str) -> Float[np.ndarray, 'n *space c']:
        """Slices or volumes of domain `source` as the other domain would show them."""
        name = {'a': 'g_ab', 'b': 'g_ba'}[source]
        if name not in self.system.networks:
            raise InputError(f'method {self.system.method.name} trains no {name}; choose another --system')
        return self._map(self._translate[name], stack)

    @cached_property
    def _segment(self):
        """By the domain of the segmentor."""
        return {d: self._compiled(lambda view, x, d=d: _probabilities(view.segment(d, x))) for d in 'ab'}

    @cached_property
    def _translate(self):
        """By the generator's name."""
        names = [name for name in self.system.networks if name.startswith('g_')]
        return {name: self._compiled(lambda view, x, name=name: (getattr(view, name)(x) + 1) / 2) for name in names}

    def _compiled(self, function) -> Callable:
        """`function(view, images in [-1, 1])` of images in [0, 1], with the weights of the moment."""
        run = jax.jit(lambda params, x: function(View(self.system.apply, params, {}), 2 * x - 1))
        return lambda x: run(self.params, x)

    def _map(self, function, stack):
        """`function` over batches of one size, the last one filled up, so that it compiles once; tile by tile."""
        count = 1 if stack.ndim == 5 else self.batch

        def run(stack):
            results = []
            for first in range(0, len(stack), count):
                rows = stack[first : first + count]
                padded = np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
                results.append(np.asarray(function(padded))[: len(rows)])
            return np.concatenate(results)

        return tiled(run, stack, self.system.size)


def _probabilities(logits):
    """Of every class; one logit a pixel means two classes."""
    return jax.nn.softmax(two_classes(logits) if logits.shape[-1] == 1 else logits)
