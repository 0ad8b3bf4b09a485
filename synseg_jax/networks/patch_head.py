"""The heads of PatchNCE: unit vectors out of features of an encoder."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float

glorot = nn.initializers.glorot_normal()


class PatchHead(nn.Module):
    """For each layer two dense layers of `width` with a ReLU between, divided by the norm (Park et al., 2020)."""

    width: int = 256
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Mapping[str, Float[Array, 'b p _']], keys=None) -> dict[str, Float[Array, 'b p d']]:
        types = {'kernel_init': glorot, 'dtype': self.dtype, 'param_dtype': self.param_dtype}

        def vectors(layer, x):
            x = nn.relu(nn.Dense(self.width, name=f'{layer}_in', **types)(x))
            x = nn.Dense(self.width, name=f'{layer}_out', **types)(x)
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)

        return {layer: vectors(layer, x) for layer, x in features.items()}
