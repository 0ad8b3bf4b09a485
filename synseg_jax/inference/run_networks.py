"""Trained networks in JAX, applied to stacks of slices or volumes of any size."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, PyTree

from synseg_jax.errors import InputError
from synseg_jax.inference.whole_scan import in_batches
from synseg_jax.objective import names
from synseg_jax.training.system import System


class Networks:
    """The networks of a system with trained weights; images are in [0, 1].

    Images larger than the networks' input size are processed in overlapping tiles.
    """

    def __init__(self, system: System, params: Mapping[str, PyTree], batch: int = 8):
        self.system, self.params, self.batch = system, params, batch

    def probabilities(self, stack: Float[np.ndarray, 'n *space c'], domain: str) -> Float[np.ndarray, 'n *space k']:
        """Class probabilities of slices or volumes of `domain`; InputError where no segmentor is trained for it."""
        name = self.system.segmentor(domain)
        if name is None:
            raise InputError(f'method {self.system.method.name} trains no segmentor; choose another --system')
        return self._map(self.system.probabilities[names.domain(name)], stack)

    def translate(self, stack: Float[np.ndarray, 'n *space c'], source: str) -> Float[np.ndarray, 'n *space c2']:
        """Slices or volumes of domain `source` translated to the other domain; InputError without such a generator."""
        name = names.generator(source)
        if name not in self.system.networks:
            raise InputError(f'method {self.system.method.name} trains no {name}; choose another --system')
        return self._map(self.system.translations[name], stack)

    def _map(self, function, stack):
        """`function(params, images)` in tiles and batches; the last batch is zero-padded, so that it compiles once."""
        count = 1 if stack.ndim == 5 else self.batch

        def run(rows):
            padded = np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
            return np.asarray(function(self.params, padded))[: len(rows)]

        return in_batches(run, stack, self.system.size, count)
