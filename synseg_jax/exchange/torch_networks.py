"""The networks in PyTorch for inference, in 2-D and 3-D; module names match the tensors of an export.

A ResNet is a list of layers as in the published code; a U-Net has an attribute for each layer.  Dropout is left out.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from synseg_jax.errors import InputError, known
from synseg_jax.imaging.arrays import Float


def nearest(x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b c *space2']:
    """Nearest-neighbour upsampling by 2."""
    return functional.interpolate(x, scale_factor=2, mode='nearest')


class InstanceNorm(nn.Module):
    """Zero mean and unit (biased) variance per sample and channel; PyTorch's own raises on a single pixel."""

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b c *space']:
        variance, mean = torch.var_mean(x, tuple(range(2, x.ndim)), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-5)


class UpConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a convolution."""

    def forward(self, x: Float[Tensor, 'b c h w']) -> Float[Tensor, 'b d h2 w2']:
        return super().forward(nearest(x))


class UpConv3d(nn.Conv3d):
    """Nearest-neighbour upsampling by 2, then a convolution."""

    def forward(self, x: Float[Tensor, 'b c d h w']) -> Float[Tensor, 'b k d2 h2 w2']:
        return super().forward(nearest(x))


CONV = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
UPSAMPLED = {2: UpConv2d, 3: UpConv3d}
REFLECT = {2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))) with 3-wide convolutions and reflection padding."""

    def __init__(self, rank: int, features: int):
        super().__init__()
        first, second = ((REFLECT[rank](1), CONV[rank](features, features, 3), InstanceNorm()) for _ in range(2))
        self.conv_block = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b c *space']:
        return x + self.conv_block(x)


class ResNet(nn.Module):
    """The generator and segmentor of the published code; arguments as the fields of synseg_jax.networks.resnet."""

    def __init__(
        self, rank: int, inputs: int, channels: int, width: int, blocks: int, tanh: bool = False, resize: bool = False
    ):
        super().__init__()

        def down(features):
            return CONV[rank](features, 2 * features, 3, stride=2, padding=1), InstanceNorm(), nn.ReLU()

        def up(features):
            conv, options = (UPSAMPLED, {}) if resize else (TRANSPOSED, {'stride': 2, 'output_padding': 1})
            return conv[rank](features, features // 2, 3, padding=1, **options), InstanceNorm(), nn.ReLU()

        layers = [REFLECT[rank](3), CONV[rank](inputs, width, 7), InstanceNorm(), nn.ReLU()]
        layers += [*down(width), *down(2 * width)]
        layers += [ResidualBlock(rank, 4 * width) for _ in range(blocks)]
        layers += [*up(4 * width), *up(2 * width)]
        layers += [REFLECT[rank](3), CONV[rank](width, channels, 7)] if channels else []
        self.model = nn.Sequential(*layers, *([nn.Tanh()] if tanh else []))

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b k *space']:
        if any(size % 4 or size < 8 for size in x.shape[2:]):
            raise InputError(f'images of {tuple(x.shape[2:])}: a ResNet needs multiples of 4, at least 8')
        return self.model(x)


class Block(nn.Module):
    """relu(conv(relu(conv(x)))), 3-wide with zero padding; `norm` normalises after both, `residual` adds x."""

    def __init__(self, rank: int, inputs: int, features: int, residual: bool, norm: bool):
        super().__init__()
        self.conv1 = CONV[rank](inputs, features, 3, padding=1)
        self.conv2 = CONV[rank](features, features, 3, padding=1)
        self.norm, self.residual = InstanceNorm() if norm else nn.Identity(), residual
        self.short = CONV[rank](inputs, features, 1) if residual and inputs != features else nn.Identity()

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b d *space']:
        y = self.norm(self.conv2(functional.relu(self.norm(self.conv1(x)))))
        return functional.relu(y + self.short(x) if self.residual else y)


class UNet(nn.Module):
    """U-Nets and Res-U-Nets; arguments as the fields of synseg_jax.networks.unet."""

    def __init__(
        self,
        rank: int,
        inputs: int,
        channels: int,
        width: int,
        levels: int,
        extra: int,
        residual: bool = False,
        norm: bool = False,
        strided: bool = False,
        up_width: int = 2,
        tanh: bool = False,
        dropout: float = 0.0,
        max_width: int | None = None,
        deep_supervision: int = 0,
    ):
        super().__init__()
        del dropout  # only in training
        conv, options = CONV[rank], (residual, norm)
        self.rank, self.levels, self.tanh = rank, levels, tanh
        self.before = (up_width - 1) // 2
        self.after = up_width - 1 - self.before
        self.norm = InstanceNorm() if norm else nn.Identity()
        self.pool = MAX_POOL[rank](2)
        widths = [min(width * 2**level, max_width or width * 2**level) for level in range(levels + 1)]
        for level, features in enumerate(widths):
            self.add_module(f'down{level}', Block(rank, inputs, features, *options))
            if level == levels:
                break
            inputs = widths[level + 1] if strided else features
            if strided:
                self.add_module(f'smaller{level}', conv(features, inputs, 3, stride=2, padding=1))
            self.add_module(f'up{level}', conv(widths[level + 1], features, up_width))
            self.add_module(f'join{level}', Block(rank, 2 * features, features, *options))
            if 0 < level <= deep_supervision:
                self.add_module(f'head{level}', conv(features, channels, 1))  # its weights; only training runs it
        self.strided = strided
        self.extra = conv(width, extra, 3, padding=1) if extra else None
        self.head = conv(extra or width, channels, 1) if channels else None

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b k *space']:
        size, skips = x.shape[2:], []
        x = pad_to_multiple(x, 2**self.levels)
        for level in range(self.levels):
            skips.append(self._layer('down', level)(x))
            x = self._down(skips[-1], level)
        x = self._layer('down', self.levels)(x)
        for level in reversed(range(self.levels)):
            x = self._layer('join', level)(torch.cat([skips[level], self._up(x, level)], 1))
        x = crop_centre(x, size)
        x = x if self.extra is None else functional.relu(self.extra(x))
        x = x if self.head is None else self.head(x)
        return torch.tanh(x) if self.tanh else x

    def _layer(self, name, level):
        return getattr(self, f'{name}{level}')

    def _down(self, x, level):
        if not self.strided:
            return self.pool(x)
        return functional.relu(self.norm(self._layer('smaller', level)(x)))

    def _up(self, x, level):
        padded = functional.pad(nearest(x), (self.before, self.after) * self.rank)
        return functional.relu(self.norm(self._layer('up', level)(padded)))


class Shared(nn.Module):
    """The layer shared by the segmentors of both domains: a 3-wide convolution, as many features, and ReLU."""

    def __init__(self, rank: int, inputs: int):
        super().__init__()
        self.conv = CONV[rank](inputs, inputs, 3, padding=1)

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b c *space']:
        return functional.relu(self.conv(x))


class Head(nn.Module):
    """Logits from features by a 1-wide convolution."""

    def __init__(self, rank: int, inputs: int, channels: int):
        super().__init__()
        self.conv = CONV[rank](inputs, channels, 1)

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b k *space']:
        return self.conv(x)


class Segment(nn.Sequential):
    """Class probabilities of images in [0, 1], by a sequence of networks; a single logit is that of class 1 of two."""

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b k *space']:
        logits = super().forward(2 * x - 1)
        return torch.softmax(torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits, 1)


class Translate(nn.Sequential):
    """A generator with input and output in [0, 1]."""

    def forward(self, x: Float[Tensor, 'b c *space']) -> Float[Tensor, 'b c2 *space']:
        return (super().forward(2 * x - 1) + 1) / 2


def pad_to_multiple(x: Float[Tensor, 'b c *space'], unit: int) -> Float[Tensor, 'b c *space2']:
    """Pad spatial axes to multiples of `unit` at both ends by replicating the border."""
    missing = [-length % unit for length in reversed(x.shape[2:])]  # PyTorch pads the last axis first
    return functional.pad(x, [part for more in missing for part in (more // 2, more - more // 2)], mode='replicate')


def crop_centre(x: Float[Tensor, 'b c *space'], size: torch.Size) -> Float[Tensor, 'b c *size']:
    """The central `size` samples of `x`."""
    first = [(old - new) // 2 for old, new in zip(x.shape[2:], size, strict=True)]
    return x[..., *(slice(start, start + length) for start, length in zip(first, size, strict=True))]


NETWORKS = {'resnet': ResNet, 'unet': UNet, 'res_unet': UNet, 'shared': Shared, 'head': Head}


def build(rank: int, inputs: int, fields: Mapping[str, Any]) -> nn.Module:
    """The network of a card's `fields`, for images of `inputs` channels, with random weights.

    InputError for unknown or missing fields.
    """
    fields = dict(fields)
    architecture = known('architecture', fields.pop('architecture', ''), NETWORKS)
    parameters = dict(list(inspect.signature(NETWORKS[architecture]).parameters.items())[2:])
    for name in fields:
        known(f'field of {architecture}', name, parameters)
    if missing := [name for name, p in parameters.items() if p.default is p.empty and name not in fields]:
        raise InputError(f'{architecture}: field {missing[0]} is missing')
    return NETWORKS[architecture](rank, inputs, **fields)


def segmentor(rank: int, networks: Sequence[Mapping[str, Any]]) -> Segment:
    """The module that segments images by networks in sequence, each with its `channels` and `fields` of a card."""
    return Segment(*(build(rank, network['channels'], network['fields']) for network in networks))
