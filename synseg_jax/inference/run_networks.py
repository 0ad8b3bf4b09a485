"""Trained networks on stacks of slices or on volumes: votes and translations, in batches of one shape."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, PyTree

from synseg_jax.errors import InputError
from synseg_jax.imaging.sliding_window import tiled
from synseg_jax.objective import names
from synseg_jax.training.system import System


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
        return self._map(self.system.votes[names.domain(name)], stack)

    def translate(self, stack: Float[np.ndarray, 'n *space c'], source: str) -> Float[np.ndarray, 'n *space c']:
        """Slices or volumes of domain `source` as the other domain would show them."""
        name = names.generator(source)
        if name not in self.system.networks:
            raise InputError(f'method {self.system.method.name} trains no {name}; choose another --system')
        return self._map(self.system.translations[name], stack)

    def _map(self, function, stack):
        """`function(params, images)` tile by tile, in batches of one size, the last filled up: it compiles once."""
        count = 1 if stack.ndim == 5 else self.batch

        def run(stack):
            results = []
            for first in range(0, len(stack), count):
                rows = stack[first : first + count]
                padded = np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
                results.append(np.asarray(function(self.params, padded))[: len(rows)])
            return np.concatenate(results)

        return tiled(run, stack, self.system.size)
