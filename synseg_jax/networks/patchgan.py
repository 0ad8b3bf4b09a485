"""The patch discriminator of pix2pix (Isola et al., 2017): 70x70 receptive field with three layers."""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Shaped

from synseg_jax.networks.layers import Conv
from synseg_jax.networks.norm import instance_norm


class PatchGAN(nn.Module):
    """A map of logits, one per overlapping patch: `layers` stride-2 convolutions, one of stride 1, one to a logit.

    4-wide convolutions with zero padding 1; LeakyReLU 0.2; no norm after the first.  256 pixels make 30 patches.
    """

    width: int = 64
    layers: int = 3
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def patches(self, pixels: int) -> int:
        """Logits along an axis of `pixels`; 0 if it is too short for one."""
        return max(0, pixels // 2**self.layers - 2)

    @nn.compact
    def __call__(self, x: Shaped[Array, 'b *space c'], keys=None) -> Shaped[Array, 'b *patches 1']:
        types = {'padding': 1, 'dtype': self.dtype, 'param_dtype': self.param_dtype}
        x = nn.leaky_relu(Conv(self.width, 4, stride=2, name='conv0', **types)(x), 0.2)
        for i in range(1, self.layers + 1):
            stride = 2 if i < self.layers else 1
            x = Conv(self.width * min(2**i, 8), 4, stride=stride, name=f'conv{i}', **types)(x)
            x = nn.leaky_relu(instance_norm(x), 0.2)
        x = Conv(1, 4, name=f'conv{self.layers + 1}', **types)(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
