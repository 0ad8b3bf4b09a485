"""The ResNet generator and segmentor of Johnson et al. (2016), as CycleGAN and SynSeg-Net use it."""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Shaped

from synseg_jax.errors import InputError
from synseg_jax.networks.layers import Conv, Upsample
from synseg_jax.networks.norm import instance_norm


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), 3-wide convolutions padded by reflection."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Shaped[Array, 'b *space c']) -> Shaped[Array, 'b *space c']:
        conv = {'mirror': 1, 'dtype': self.dtype, 'param_dtype': self.param_dtype}
        y = nn.relu(instance_norm(Conv(x.shape[-1], 3, name='conv1', **conv)(x)))
        return x + instance_norm(Conv(x.shape[-1], 3, name='conv2', **conv)(y))


class ResNet(nn.Module):
    """7-wide convolution, two stride-2 convolutions, residual blocks, two upsamplings, 7-wide convolution.

    `channels` outputs, 0: the last features alone; `width` features at full resolution, 4 `width` in the blocks;
    `tanh` ends a generator and the published segmentor.  Every spatial axis is a multiple of 4 and at least 8 long.
    `remat` recomputes the blocks for the gradient (rematerialisation) instead of keeping their activations.
    """

    channels: int
    width: int = 64
    blocks: int = 9
    tanh: bool = False
    resize: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @property
    def encoder(self) -> tuple[str, ...]:
        """Layers at growing depth: both stride-2 convolutions, the first and the middle residual block."""
        blocks = (f'block{i}' for i in (0, self.blocks // 2)) if self.blocks else ()
        return tuple(dict.fromkeys(('down1', 'down2', *blocks)))

    @nn.compact
    def __call__(self, x: Shaped[Array, 'b *space c'], keys=None) -> Shaped[Array, 'b *space k']:
        if any(size % 4 for size in x.shape[1:-1]):
            raise InputError(f'images of {x.shape[1:-1]}: a ResNet needs multiples of 4; change data.size')
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        up = {'resize': self.resize, **types}
        x = nn.relu(instance_norm(Conv(self.width, 7, mirror=3, name='stem', **types)(x)))
        x = nn.relu(instance_norm(Conv(2 * self.width, 3, stride=2, padding=1, name='down1', **types)(x)))
        x = nn.relu(instance_norm(Conv(4 * self.width, 3, stride=2, padding=1, name='down2', **types)(x)))
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        for i in range(self.blocks):
            x = block(name=f'block{i}', **types)(x)
        x = nn.relu(instance_norm(Upsample(2 * self.width, name='up1', **up)(x)))
        x = nn.relu(instance_norm(Upsample(self.width, name='up2', **up)(x)))
        if self.channels:
            x = Conv(self.channels, 7, mirror=3, name='head', **types)(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return jnp.tanh(x) if self.tanh else x
