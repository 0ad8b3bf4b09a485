"""The U-Net of Ronneberger et al. (2015) as EssNet's second stage has it, and the Res-U-Net with short skips."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Key, Shaped

from synseg_jax.errors import InputError
from synseg_jax.networks.layers import Conv, dropout, halve, instance_norm, nearest

he_normal = nn.initializers.he_normal()  # without norms, nothing else carries the signal through so many ReLUs
glorot = nn.initializers.glorot_uniform()


def mirrored(init: Initializer, axis: int) -> Initializer:
    """`init`, but the second half of an axis of the kernel is the first with the other sign (Balduzzi et al., 2017).

    Two such layers with a ReLU between them start as one linear layer.
    """

    def draw(key, shape, dtype):
        half = shape[axis] // 2
        first = jnp.split(init(key, shape, dtype), [shape[axis] - half], axis)[0]
        return jnp.concatenate([first, -jnp.split(first, [half], axis)[0]], axis)

    return draw


class Block(nn.Module):
    """relu(conv(relu(conv(x)))), 3-wide with zero padding; `norm` after each convolution, `residual` adds x at the end.

    Where the number of features changes, a 1-wide convolution brings x to it.
    """

    features: int
    residual: bool = False
    norm: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Shaped[Array, 'b *space c']) -> Shaped[Array, 'b *space d']:
        types = {'init': he_normal, 'dtype': self.dtype, 'param_dtype': self.param_dtype}
        norm = instance_norm if self.norm else lambda y: y
        y = nn.relu(norm(Conv(self.features, 3, padding=1, name='conv1', **types)(x)))
        y = norm(Conv(self.features, 3, padding=1, name='conv2', **types)(y))
        if self.residual:
            y += x if x.shape[-1] == self.features else Conv(self.features, 1, name='short', **types)(x)
        return nn.relu(y)


class UNet(nn.Module):
    """`levels` times a block and a max pool, a block at the bottom, then back up with the blocks' outputs beside.

    `channels` outputs of any range; `width` features at full resolution, doubled by every pool.  Up: nearest
    neighbour, 2-wide convolution with one zero after each axis (Keras's 'same'), ReLU.  Before the 1-wide head comes
    a 3-wide convolution to `extra` features with ReLU (0: none).  Every spatial axis is a multiple of 2^levels.
    Of the outputs of the two deepest blocks a share `dropout` is dropped, if there are `keys`, one per row.
    """

    channels: int
    width: int = 64
    levels: int = 4
    extra: int = 2
    dropout: float = 0.5
    residual: bool = False
    norm: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Shaped[Array, 'b *space c'], keys: Key[Array, 'b'] | None = None
    ) -> Shaped[Array, 'b *space k']:
        size, rank, unit = x.shape[1:-1], x.ndim - 2, 2**self.levels
        if any(length % unit for length in size):
            raise InputError(f'images of {size}: {self.levels} levels need multiples of {unit}; change data.size')
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        kind = {'residual': self.residual, 'norm': self.norm, **types}
        norm = instance_norm if self.norm else lambda y: y

        def down(x, level):
            x = Block(self.width * 2**level, name=f'down{level}', **kind)(x)
            deep = self.dropout and keys is not None and level >= self.levels - 1
            return dropout(x, jax.vmap(lambda key: jax.random.fold_in(key, level))(keys), self.dropout) if deep else x

        def up(x, level):
            conv = Conv(self.width * 2**level, 2, padding=((0, 1),) * rank, init=he_normal, name=f'up{level}', **types)
            return nn.relu(norm(conv(nearest(x))))

        skips = []
        for level in range(self.levels):
            skips.append(down(x, level))
            x = halve(skips[-1])
        x = down(x, self.levels)
        for level in reversed(range(self.levels)):
            x = jnp.concatenate([skips[level], up(x, level)], -1)
            x = Block(self.width * 2**level, name=f'join{level}', **kind)(x)
        if self.extra:  # else two features of He's kernel are soon negative everywhere, for every fourth seed or so
            x = nn.relu(Conv(self.extra, 3, padding=1, init=mirrored(he_normal, -1), name='extra', **types)(x))
        init = mirrored(glorot, -2) if self.extra else glorot
        x = Conv(self.channels, 1, init=init, name='head', **types)(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class ResUNet(UNet):
    """A U-Net of residual blocks with instance norm (Zhang et al., 2018, in its idea; ReLU after the sum)."""

    extra: int = 0
    dropout: float = 0.0
    residual: bool = True
    norm: bool = True
