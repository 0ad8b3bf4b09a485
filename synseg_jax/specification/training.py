"""Fields of training: learning rates, optimizer, augmentation, length and pace."""

from dataclasses import dataclass

from synseg_jax.specification.field import BELOW_ONE, COUNT, NOT_NEGATIVE, POSITIVE, POSITIVE_COUNT, SHARE, Range, field

BATCH = Range(1, 2**16, whole=True)


@dataclass(frozen=True)
class Rates:
    """Learning rates."""

    generator: float = field(1e-4, 'learning rate of generators', NOT_NEGATIVE)
    discriminator: float = field(2e-4, 'learning rate of discriminators', NOT_NEGATIVE)
    segmentor: float = field(1e-4, 'learning rate of segmentors', NOT_NEGATIVE)


@dataclass(frozen=True)
class Optimizer:
    """Settings of the optimizers; every network has its own optimizer."""

    rule: str = field('adam', 'update rule', ('adam', 'sgd'))
    b1: float = field(0.5, "Adam's decay of the first moment, in methods with discriminators", BELOW_ONE)
    b1_alone: float = field(0.9, "Adam's decay of the first moment, in methods without discriminators", BELOW_ONE)
    b2: float = field(0.999, "Adam's decay of the second moment", BELOW_ONE)
    eps: float = field(1e-8, "Adam's epsilon", POSITIVE)
    clip_norm: float = field(0.0, 'gradients are clipped to this global norm; 0: no clipping', NOT_NEGATIVE)
    weight_decay: float = field(
        0.0, 'decoupled weight decay, relative to the learning rate (AdamW); 0: off', NOT_NEGATIVE, added=True
    )


@dataclass(frozen=True)
class Augment:
    """Random augmentation, the same for an image and its label; see synseg_jax/batches/augment.py."""

    window: tuple[int, ...] = field(
        (), 'size in pixels of a random crop that is not rescaled; empty: the whole image', POSITIVE_COUNT
    )
    crop: float = field(1.0, 'smallest side of a random crop that is rescaled, as a share of the image side', SHARE)
    shift: float = field(0.0, 'largest translation, as a share of the image side', NOT_NEGATIVE)
    rotate: float = field(0.0, 'largest rotation in degrees', NOT_NEGATIVE)
    scale: float = field(0.0, 'largest relative change of size: 0.1 means factors from 1/1.1 to 1.1', NOT_NEGATIVE)
    flip: str = field(
        '', "mirror columns 'c', rows 'r' or both 'rc', each with probability 1/2", ('', 'c', 'r', 'rc', 'cr')
    )
    brightness: float = field(0.0, 'largest offset added to intensities in [0, 1]', NOT_NEGATIVE)
    contrast: float = field(0.0, 'largest relative change of contrast', NOT_NEGATIVE)
    gamma: float = field(1.0, 'largest exponent g of intensities; exponents lie between 1/g and g', POSITIVE)
    fourier: float = field(
        0.0,
        'Fourier domain adaptation (FDA): amplitudes of a source image, at frequencies up to this fraction of its '
        'shortest side, are replaced by those of a target image; 0: off',
        Range(high=0.5),
    )
    shear: float = field(0.0, 'largest angle in degrees by which columns of a slice lean', Range(high=60), added=True)
    elastic: float = field(
        0.0,
        'largest smooth random displacement (cubic B-splines) along each axis, as a share of the image side; at most '
        '0.4 of elastic_spacing, beyond which images could fold; 0: off',
        Range(high=0.4),
        added=True,
    )
    elastic_spacing: float = field(
        0.25, 'distance between control points of the elastic displacement, as a share of the image side', SHARE,
        added=True,
    )  # fmt: skip
    noise: float = field(
        0.0, 'largest standard deviation of Gaussian noise, for intensities in [0, 1]; 0: off', NOT_NEGATIVE, added=True
    )
    noise_probability: float = field(0.1, 'probability of noise', Range(high=1), added=True)
    blur: float = field(0.0, 'largest sigma of a Gaussian blur, in pixels; 0: off', NOT_NEGATIVE, added=True)
    blur_probability: float = field(0.2, 'probability of a blur', Range(high=1), added=True)
    low_resolution: float = field(
        1.0,
        'largest factor by which an image is reduced and enlarged again; 1: off',
        Range(1),
        added=True,
    )
    low_resolution_probability: float = field(0.25, 'probability of a lower resolution', Range(high=1), added=True)


@dataclass(frozen=True)
class Train:
    """`epochs` at a constant learning rate, then `decay_epochs` linearly to 0; an epoch is one pass over the larger
    domain."""

    batch: int = field(1, 'global batch size, over all devices', BATCH)
    epochs: int = field(
        100, 'epochs at a constant learning rate; an epoch is one pass over the larger domain', COUNT, 'length'
    )
    decay_epochs: int = field(0, 'epochs after these in which the learning rate decays linearly to 0', COUNT)
    steps: int = field(0, 'length of training in steps, instead of epochs; 0: `epochs` and `decay_epochs`', COUNT,
                       'length')  # fmt: skip
    decay_steps: int = field(
        0, 'number of last steps, of `train.steps`, in which the learning rate decays linearly to 0', COUNT
    )
    mixed: bool = field(
        False,
        'rows of a batch alternate between real scans and those written by earlier stages; `sets` needs both',
        compiled=False,
    )
    patience: int = field(
        0,
        'early stopping: end after this many epochs without a lower segmentation loss on held-out scans; 0: off',
        COUNT,
        compiled=False,
    )
    guard: bool = field(
        False,
        "end training, and use an earlier checkpoint, once an organ's mean volume on target scans, which was plausible "
        'before, leaves 0.4 to 2.5 times that in the source',
        compiled=False,
        added=True,
    )
    balanced: bool = field(
        False, 'sample every scan equally often, regardless of its number of slices; False: every slice', compiled=False
    )
    workers: int = field(0, 'processes that read records; 0: threads of the main process', COUNT, 'speed')
    resident_gib: float = field(
        0.0,
        'keep the records in the memory of every device if they need at most this many GiB; 0: read from disk',
        NOT_NEGATIVE,
        'speed',
    )
    devices: int = field(0, 'number of devices; 0: all visible ones', COUNT, 'speed')
    mlflow: str = field(
        '',
        'tracking server or database of MLflow that metrics go to as well, e.g. sqlite:///mlflow.db; empty: none '
        '(needs the extra mlflow)',
        affects='display',
        added=True,
    )
    log_every: int = field(50, 'steps between logged metrics', POSITIVE_COUNT, 'display')
    save_every: int = field(
        1000,
        'steps between checkpoints; each is validated before it is saved, and example pictures are drawn',
        Range(1, 2**40, whole=True),
        compiled=False,
    )
    keep: int = field(2, 'number of latest checkpoints to keep, besides the best one', POSITIVE_COUNT, 'display')
