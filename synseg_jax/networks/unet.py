"""The U-Net of Ronneberger et al. (2015): EssNet's, those of the 3-D system, the Res-U-Net, and shared last layers.

With the fields as they are it is EssNet's second stage.  Zhang et al. (CVPR 2018) have 3 levels, no dropout, extra 0
and up_width 3: as a segmentor without norm, as a generator with norm, strided and tanh.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Key, Shaped

from synseg_jax.errors import InputError
from synseg_jax.networks.layers import Conv, central, dropout, extended, halve, nearest
from synseg_jax.networks.norm import instance_norm

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
    """`levels` times a block and a step down, a block at the bottom, then up again with skip connections.

    `channels` outputs of any range, or in [-1, 1] by `tanh`; 0: the features of the last block alone.  `width`
    features at full resolution, doubled by every step down: a max pool or, `strided`, a 3-wide convolution of stride 2.
    Up: nearest neighbour, `up_width`-wide convolution, zero padded as Keras's 'same', ReLU.  Before the 1-wide head
    comes a 3-wide convolution to `extra` features with ReLU (0: none).  Axes that are no multiple of 2^levels are
    padded at both ends by their border and cropped in the end.  Of the outputs of the two deepest blocks a share
    `dropout` is dropped, if there are `keys`, one per row.  `remat` recomputes the blocks for the
    gradient (rematerialisation) instead of keeping their activations.  At no level are there more than `max_width`
    features; None: no limit.  `deep_supervision` lower resolutions have a head as well, for training.
    """

    channels: int
    width: int = 64
    levels: int = 4
    extra: int = 2
    dropout: float = 0.5
    residual: bool = False
    norm: bool = False
    strided: bool = False
    up_width: int = 2
    tanh: bool = False
    remat: bool = False
    max_width: int | None = None
    deep_supervision: int = 0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @property
    def encoder(self) -> tuple[str, ...]:
        """Layers at growing depth: the blocks on the way down."""
        return tuple(f'down{level}' for level in range(self.levels + 1))

    def __call__(
        self, x: Shaped[Array, 'b *space c'], keys: Key[Array, 'b'] | None = None
    ) -> Shaped[Array, 'b *space k']:
        return self.resolutions(x, keys)[0]  # a compiler leaves out the other heads

    @nn.compact
    def resolutions(
        self, x: Shaped[Array, 'b *space c'], keys: Key[Array, 'b'] | None = None
    ) -> list[Shaped[Array, 'b ... k']]:
        """The outputs at full and at the next `deep_supervision` resolutions, each half of the one before.

        The lower ones are of the padded image.
        """
        self._check()
        size, rank = x.shape[1:-1], x.ndim - 2
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        kind = {'residual': self.residual, 'norm': self.norm, **types}
        norm = instance_norm if self.norm else lambda y: y
        block = nn.remat(Block) if self.remat else Block

        def down(x, level):
            x = block(self._features(level), name=f'down{level}', **kind)(x)
            deep = self.dropout and keys is not None and level >= self.levels - 1
            return dropout(x, jax.vmap(lambda key: jax.random.fold_in(key, level))(keys), self.dropout) if deep else x

        def smaller(x, level):
            if not self.strided:
                return halve(x)
            conv = Conv(self._features(level + 1), 3, 2, 1, init=he_normal, name=f'smaller{level}', **types)
            return nn.relu(norm(conv(x)))

        def up(x, level):
            before = (self.up_width - 1) // 2
            pads = ((before, self.up_width - 1 - before),) * rank
            conv = Conv(self._features(level), self.up_width, padding=pads, init=he_normal, name=f'up{level}', **types)
            if self.up_width == 1:  # each pixel on its own: the same numbers, from a quarter of the pixels in 2-D
                return nearest(nn.relu(norm(conv(x))))
            return nn.relu(norm(conv(nearest(x))))

        x, skips, lower = extended(x, 2**self.levels), [], []
        for level in range(self.levels):
            skips.append(down(x, level))
            x = smaller(skips[-1], level)
        x = down(x, self.levels)
        for level in reversed(range(self.levels)):
            x = jnp.concatenate([skips[level], up(x, level)], -1)
            x = block(self._features(level), name=f'join{level}', **kind)(x)
            if 0 < level <= self.deep_supervision:
                lower.append(Conv(self.channels, 1, init=glorot, name=f'head{level}', **types)(x))
        x = central(x, size)
        if self.extra:  # else two features of He's kernel are soon negative everywhere, for every fourth seed or so
            x = nn.relu(Conv(self.extra, 3, padding=1, init=mirrored(he_normal, -1), name='extra', **types)(x))
        if self.channels:
            init = mirrored(glorot, -2) if self.extra else glorot
            x = Conv(self.channels, 1, init=init, name='head', **types)(x)
        outputs = [y.astype(jnp.promote_types(y.dtype, jnp.float32)) for y in (x, *reversed(lower))]
        return [jnp.tanh(y) for y in outputs] if self.tanh else outputs

    def _features(self, level):
        return min(self.width * 2**level, self.max_width or math.inf)

    def _check(self):
        if self.max_width is not None and self.max_width < self.width:
            raise InputError(f'max_width {self.max_width} is below width {self.width}; raise it')
        if self.deep_supervision >= self.levels:
            raise InputError(f'deep_supervision {self.deep_supervision}: give at most levels - 1 = {self.levels - 1}')
        if self.deep_supervision and (self.tanh or not self.channels):
            raise InputError('deep_supervision needs logits: a segmentor without tanh and without a shared layer')


class ResUNet(UNet):
    """A U-Net of residual blocks with instance norm (Zhang et al., 2018, in its idea; ReLU after the sum)."""

    extra: int = 0
    dropout: float = 0.0
    residual: bool = True
    norm: bool = True


class Shared(nn.Module):
    """The layer that two segmentors share: a 3-wide convolution to as many features, with ReLU."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Shaped[Array, 'b *space c'], keys=None) -> Shaped[Array, 'b *space c']:
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        return nn.relu(Conv(x.shape[-1], 3, padding=1, init=he_normal, name='conv', **types)(x))


class Head(nn.Module):
    """Logits from features: a 1-wide convolution."""

    channels: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Shaped[Array, 'b *space c'], keys=None) -> Shaped[Array, 'b *space k']:
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        x = Conv(self.channels, 1, init=glorot, name='conv', **types)(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
