"""Trained networks on stacks of slices: labels, votes and translations, in batches of one shape."""

from collections.abc import Callable, Mapping
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Float, PyTree

from synseg_jax.errors import InputError
from synseg_jax.training.losses import two_classes
from synseg_jax.training.system import System


class Networks:
    """The networks of a system with their trained weights; stacks hold values in [0, 1]."""

    def __init__(self, system: System, params: Mapping[str, PyTree], batch: int = 8):
        self.system, self.params, self.batch = system, params, batch

    def votes(self, stack: Float[np.ndarray, 'n h w c'], domain: str) -> Float[np.ndarray, 'n h w k']:
        """Class probabilities of slices of a domain."""
        name = self.system.segmentor(domain)
        if name is None:
            raise InputError(f'method {self.system.method.name} trains no segmentor; choose another --system')
        return self._map(self._segment[name], stack)

    def translate(self, stack: Float[np.ndarray, 'n h w c'], source: str) -> Float[np.ndarray, 'n h w c']:
        """Slices of domain `source` as the other domain would show them."""
        name = {'a': 'g_ab', 'b': 'g_ba'}[source]
        if name not in self.system.networks:
            raise InputError(f'method {self.system.method.name} trains no {name}; choose another --system')
        return self._map(self._translate[name], stack)

    @cached_property
    def _segment(self):
        return {n: self._compiled(n, _probabilities) for n in self.system.networks if n.startswith('s_')}

    @cached_property
    def _translate(self):
        return {n: self._compiled(n, lambda y: (y + 1) / 2) for n in self.system.networks if n.startswith('g_')}

    def _compiled(self, name, finish) -> Callable:
        run = jax.jit(lambda params, x: finish(self.system.apply[name](params, 2 * x - 1)))
        return lambda x: run(self.params[name], x)

    def _map(self, function, stack):
        """`function` over batches of one size, the last one filled up, so that it compiles once."""
        results = []
        for first in range(0, len(stack), self.batch):
            rows = stack[first : first + self.batch]
            padded = np.concatenate([rows, np.zeros((self.batch - len(rows), *rows.shape[1:]), rows.dtype)])
            results.append(np.asarray(function(padded))[: len(rows)])
        return np.concatenate(results)


def _probabilities(logits):
    """Of every class; one logit a pixel means two classes."""
    return jax.nn.softmax(two_classes(logits) if logits.shape[-1] == 1 else logits)
