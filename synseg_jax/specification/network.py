"""Fields of a network."""

from collections.abc import Mapping
from dataclasses import dataclass

from synseg_jax.specification.field import BELOW_ONE, Range, Rule, field

NetworkFields = Mapping[str, bool | int | float | str | tuple[int, ...]]  # those that are set
SET_BY_JUDGE_FROM = Rule(lambda value: True, 'not to be set: `judge_from` does')


@dataclass(frozen=True)
class Network:
    """An architecture and its arguments; those that are None have the default of the architecture."""

    architecture: str = field('resnet', 'network architecture', ('resnet', 'unet', 'res_unet', 'patchgan'))
    width: int | None = field(None, 'channels at full resolution', Range(1, 2**12, whole=True))
    blocks: int | None = field(None, 'resnet: number of residual blocks', Range(0, 256, whole=True))
    resize: bool | None = field(None, 'resnet: upsample by resizing and convolution instead of transposed convolution')
    layers: int | None = field(None, 'patchgan: number of convolutions with stride 2', Range(1, 8, whole=True))
    levels: int | None = field(None, 'unet: number of downsampling steps', Range(1, 8, whole=True))
    extra: int | None = field(
        None, 'unet: channels of an additional convolution before the last one; 0: none', Range(0, 2**12, whole=True)
    )
    dropout: float | None = field(None, 'unet: dropout rate at the two deepest levels', BELOW_ONE)
    norm: bool | None = field(None, 'unet: instance normalisation after each convolution')
    strided: bool | None = field(None, 'unet: downsample by strided convolution instead of max pooling')
    up_width: int | None = field(
        None, 'unet: kernel size of the convolution after each upsampling', Range(1, 16, whole=True)
    )
    residual: bool | None = field(None, 'unet: residual blocks')
    max_width: int | None = field(
        None,
        'unet: most channels at any level, which double with every downsampling; nnU-Net: 512, in 3-D 320',
        Range(1, 2**16, whole=True),
        added=True,
    )
    deep_supervision: int | None = field(
        None,
        'unet, of segmentors: number of lower resolutions whose logits are trained as well, each weighted half of the '
        'one above',
        Range(0, 7, whole=True),
        added=True,
    )
    tanh: bool | None = field(None, 'tanh as the last activation')

    def given(self) -> dict[str, object]:
        """The fields that are set, including the architecture."""
        return {name: value for name, value in vars(self).items() if value is not None}
