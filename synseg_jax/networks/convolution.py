"""Convolution in the form that is fastest on the device: the same sums in another order."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from synseg_jax.networks import backend

FEW = 8  # a GPU's matrix unit takes channels by eights


def convolve(
    x: Float[Array, 'b *space c'], kernel: Float[Array, '*kernel c d'], stride: int = 1, padding=0
) -> Float[Array, 'b *space2 d']:
    """`x` correlated with `kernel`; zero padding: one width for both ends of every axis, or (low, high) per axis."""
    rank = x.ndim - 2
    pads = [(padding, padding)] * rank if isinstance(padding, int) else list(padding)
    return _form(backend.kind(), rank, stride, kernel.shape)(x, kernel, stride, pads)


def _form(kind, rank, stride, shape) -> Callable:
    """The fastest form for a kind of device: its library, unless that is slow."""
    width, given, made = shape[0], *shape[-2:]
    if width == stride == 1:
        return by_product
    if kind == 'cpu' and rank == 3:
        return by_depth
    if kind == 'cpu' and stride == 1 and width > 3 and given >= 32 and made <= FEW:
        return by_tap
    if kind == 'gpu' and stride == 1 and width > 3 and made <= FEW < given:
        return by_column
    if kind == 'gpu' and given <= FEW < made:
        return of_columns
    return by_library


def by_library(x, kernel, stride, pads):
    """XLA's own convolution."""
    rank = x.ndim - 2
    strides = (stride,) * rank if isinstance(stride, int) else stride
    layout = ('NHWC', 'HWIO', 'NHWC') if rank == 2 else ('NDHWC', 'DHWIO', 'NDHWC')
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=layout)


def by_product(x, kernel, stride, pads):
    """1-wide convolution as a matrix product over the channels.

    64 channels to 5, sixteen images of 256x256, with gradients: .21 ms on an H200 by XLA's convolution, .10 this way.
    """
    return jnp.dot(jnp.pad(x, [(0, 0), *pads, (0, 0)]), kernel.reshape(kernel.shape[-2:]))


def by_depth(x, kernel, stride, pads):
    """A sum of 2-D convolutions over depth slices: on CPU 3 to 6 times as fast as XLA's 3-D convolution."""
    batch, depth = x.shape[0], x.shape[1] + sum(pads[0])
    x = jnp.pad(x, [(0, 0), pads[0], (0, 0), (0, 0), (0, 0)])
    slices = (depth - kernel.shape[0]) // stride + 1

    def tap(i):
        taken = x[:, i : i + stride * (slices - 1) + 1 : stride]
        return convolve(taken.reshape(-1, *x.shape[2:]), kernel[i], stride, pads[1:])

    out = sum(tap(i) for i in range(kernel.shape[0]))
    return out.reshape(batch, slices, *out.shape[1:])


def by_tap(x, kernel, stride, pads):
    """To few channels on a CPU: a matrix product over the channels for each tap, then the sum of the shifted taps.

    XLA gathers all channels of all taps first (im2col): a 7-wide kernel from 32 channels to 1, 128x128, takes 58 ms
    forward and 76 with gradients; this way 1 and 6.
    """
    form = _by_tap if kernel.shape[-1] <= 2 else _by_tap_forward
    return form(jnp.pad(x, [(0, 0), *pads, (0, 0)]), kernel)


def _by_tap(x, kernel):
    rows, columns, _, few = kernel.shape
    shape = (x.shape[1] - rows + 1, x.shape[2] - columns + 1)
    given = jnp.einsum('rcio,bhwi->rcobhw', kernel, x).reshape(rows * columns * few, *x.shape[:-1])
    taps = lax.split(given, [few] * (rows * columns))
    out = sum(
        taps[r * columns + c][:, :, r : r + shape[0], c : c + shape[1]] for r in range(rows) for c in range(columns)
    )
    return jnp.moveaxis(out, 0, -1)


# To more than 2 channels XLA's own gradients are the faster ones: 32 to 7, 128x128, 115 ms, 156 by tap, 49 so mixed.
_by_tap_forward = jax.custom_vjp(_by_tap)
_by_tap_forward.defvjp(
    lambda x, kernel: (_by_tap(x, kernel), (x, kernel)),
    lambda seen, slope: jax.vjp(lambda x, kernel: by_library(x, kernel, 1, [(0, 0)] * 2), *seen)[1](slope),
)


def by_column(x, kernel, stride, pads):
    """To few channels on a GPU: each column of the kernel is an output channel, which are shifted and summed.

    The matrix units take output channels by eights and are nearly idle with one: a 7-wide kernel from 64 channels to 1,
    sixteen images of 256x256, bfloat16, with gradients: 1.90 ms on an H200 by XLA's convolution, .33 this way.
    """
    *rows, columns, given, few = kernel.shape
    x = _along_columns(x, pads)
    width = x.shape[-2] - columns + 1
    spread = _by_eights(jnp.moveaxis(kernel, -3, -2).reshape(*rows, 1, given, columns * few), -1)
    parts = by_library(x, spread, 1, [*pads[:-1], (0, 0)]).astype(jnp.promote_types(x.dtype, jnp.float32))
    out = sum(parts[..., c : c + width, c * few : (c + 1) * few] for c in range(columns))
    return out.astype(x.dtype)


def of_columns(x, kernel, stride, pads):
    """1-D im2col along the last axis, for convolutions with few input channels on a GPU.

    Timed as in `by_column`, from 1 channel to 64: 1.39 ms by XLA's convolution, .28 this way; with a 3-wide kernel .40
    and .20; a volume of 86x112x112 to 32 channels .63 and .32.
    """
    *rows, columns, few, made = kernel.shape
    x = _along_columns(x, pads)
    last = x.shape[-2] - columns
    under = jnp.concatenate([x[..., c : c + last + 1 : stride, :] for c in range(columns)], -1)
    gathered = _by_eights(kernel.reshape(*rows, 1, columns * few, made), -2)
    return by_library(_by_eights(under, -1), gathered, (*[stride] * len(rows), 1), [*pads[:-1], (0, 0)])


def _along_columns(x, pads):
    """`x` padded along its last spatial axis."""
    return jnp.pad(x, [*[(0, 0)] * (x.ndim - 2), pads[-1], (0, 0)])


def _by_eights(x, axis):
    """`x` padded with zeros at the end of an axis to a multiple of `FEW`."""
    ends = [(0, 0)] * x.ndim
    ends[axis] = (0, -x.shape[axis] % FEW)
    return jnp.pad(x, ends)
