"""Fields of one stage: its kind, method, losses, networks, optimizers, data, training and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass

from synseg_jax.specification.data import Context, Data, Fold, Sets
from synseg_jax.specification.field import (
    BELOW_ONE,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_COUNT,
    SHARE,
    FrozenMapping,
    Range,
    Rule,
    field,
    group,
)
from synseg_jax.specification.stage_kind import KINDS, Kind

BATCH = Range(1, 2**16, whole=True)


@dataclass(frozen=True)
class Start:
    """Stages whose trained weights a stage is initialised with, instead of random weights."""

    stages: tuple[str, ...] = field(
        (),
        'earlier stages whose weights initialise this one; where several have a network, the last one listed wins',
        affects='records',
    )
    networks: tuple[str, ...] = field((), 'names of the networks to initialise; empty: all', compiled=False)


def _is_weight(value) -> bool:
    """Whether a value is a finite number >= 0, or a schedule of such numbers over a number of steps."""
    if not isinstance(value, tuple | list):
        return NOT_NEGATIVE.holds(value)
    if len(value) != 4:
        return False
    kind, *numbers, steps = value
    return isinstance(kind, str) and all(map(NOT_NEGATIVE.holds, numbers)) and POSITIVE_COUNT.holds(steps)


Weight = float | tuple[str, float, float, int]
WEIGHT = Rule(_is_weight, "a finite number from 0 on, or a schedule ('linear', first, last, steps)")


@dataclass(frozen=True)
class Weights:
    """{term: weight} of each player, for the terms whose weight differs from the method's table.

    Terms are those of synseg_jax/objective/terms.py, schedules those of synseg_jax/objective/weights.py.
    """

    gen: Mapping[str, Weight] = field(
        FrozenMapping(), 'weights of the terms that generators minimise, see synseg_jax/objective/terms.py', WEIGHT
    )
    dis: Mapping[str, Weight] = field(FrozenMapping(), 'weights of the terms that discriminators minimise', WEIGHT)
    seg: Mapping[str, Weight] = field(FrozenMapping(), 'weights of the terms that segmentors minimise', WEIGHT)


@dataclass(frozen=True)
class Losses:
    """Loss functions used by the terms, by their names in synseg_jax/objective/losses.py."""

    adversarial: str = field(
        'lsgan',
        'adversarial loss: lsgan (least squares) or log_likelihood; see ADVERSARIAL in synseg_jax/objective/losses.py',
    )
    cycle: str = field('l1', 'cycle-consistency loss between an image and its reconstruction: l1, l2 or ssim')
    segmentation: str = field(
        'cross_entropy',
        'segmentation loss, one of SEGMENTATION in synseg_jax/objective/losses.py; binary_cross_entropy is for 2 '
        'classes and networks with one logit',
    )
    class_weights: tuple[float, ...] = field(
        (), 'one weight per class of the segmentation loss, in the order of the classes; empty: all 1', NOT_NEGATIVE
    )
    by_weight: bool = field(
        False, 'normalise by the sum of the class weights instead of the number of pixels (dice: number of classes)'
    )


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
    tanh: bool | None = field(None, 'tanh as the last activation')

    def given(self) -> dict[str, object]:
        """The fields that are set, including the architecture."""
        return {name: value for name, value in vars(self).items() if value is not None}


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
    log_every: int = field(50, 'steps between logged metrics', POSITIVE_COUNT, 'display')
    save_every: int = field(
        1000,
        'steps between checkpoints; each is validated before it is saved, and example pictures are drawn',
        Range(1, 2**40, whole=True),
        compiled=False,
    )
    keep: int = field(2, 'number of latest checkpoints to keep, besides the best one', POSITIVE_COUNT, 'display')


@dataclass(frozen=True)
class Atlases:
    """Multi-atlas segmentation."""

    spacing_mm: float = field(
        3.0, 'voxel size in mm at which atlases are registered', Range(0.01, 1000), compiled=False
    )


@dataclass(frozen=True)
class Predict:
    """Prediction on whole scans."""

    batch: int = field(8, 'slices or windows predicted at once', BATCH, 'speed')
    resample: str = field('nearest', "resampling to the scan's grid: 'nearest' for labels, 'linear' for probabilities",
                          ('nearest', 'linear'), 'measures')  # fmt: skip
    flips: str = field(
        '',
        "'lr': average the probabilities of the scan and of its left-right mirror image, for networks trained with "
        "augment.flip 'c'",
        ('', 'lr'),
        'measures',
    )
    window: str = field(
        'tiles',
        "volumes larger than the network input: 'tiles': sliding window; 'middle': then once more in one window "
        'centred on the largest foreground component that the sliding window found',
        ('tiles', 'middle'),
        'measures',
    )
    components: str = field('', "'largest': keep only the largest connected component of each class; classes in "
                            '`lesions` keep all', ('', 'largest'), 'measures')  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Every field of a stage."""

    seed: int = field(
        0,
        'random seed of weights, order of the data and augmentation; `data.seed` splits the subjects',
        Range(high=2**32 - 1, whole=True),
    )
    kind: str = field(
        'train',
        "'train' trains networks; 'synthesize' and 'reconstruct' write a set, named after the stage, of the one set in "
        "`sets` translated to the other domain, or there and back; 'label' writes that set with labels predicted by an "
        "earlier stage; 'atlases' registers labelled scans of domain b to the scan that is segmented",
        (*KINDS,),
        compiled=False,
    )
    generators_from: str = field(
        '', "'synthesize', 'reconstruct': the earlier stage whose generators are used", affects='records'
    )
    segmentor_from: str = field(
        '', "'label': the earlier stage whose segmentor predicts the labels", affects='records', added=True
    )
    label_confidence: float = field(
        0.0,
        "'label': pixels stay unlabelled where the highest class probability is lower; 0: all are labelled",
        BELOW_ONE,
        compiled=False,
        added=True,
    )
    start: Start = group(Start, 'initialisation from earlier stages')
    sets: Sets = group(Sets, 'sets that the stage reads')
    fold: Fold = group(Fold, 'cross-validation')
    transductive: bool = field(
        False,
        'train also on the images (not the labels) of target test scans, and test all labelled target scans, as in '
        "SynSeg-Net's paper; False: test scans are never seen in training",
        affects='records',
    )
    test_sets: tuple[str, ...] = field(
        (), 'sets on which the system is evaluated; empty: those of domain b that have test scans', affects='display'
    )
    evaluate_stage: str = field(
        '', 'stage whose segmentor is evaluated; empty: the last one that trains a segmentor', affects='measures'
    )
    oracle: bool = field(
        False,
        'also report the Dice of the checkpoint selected by the labels of the test scans, as some papers do; keeps all '
        'checkpoints',
        affects='measures',
    )
    lesions: tuple[str, ...] = field(
        (), 'classes for which detection of single lesions is also measured', affects='measures'
    )
    lesion_patch_mm: float = field(
        0.0,
        'also measure lesions in square patches of this side in mm around each, in the slices that show it; 0: off',
        NOT_NEGATIVE,
        'measures',
    )
    context: Context = group(Context, 'neighbouring slices as input channels (2.5-D)')
    label_channel: bool = field(
        False, 'generators see the foreground mask, from labels of both domains, as one more channel (masked CycleGAN)'
    )
    method: str = field('synseg', 'training method, see METHODS in synseg_jax/objective/methods.py')
    loss_weights: Weights = group(Weights, 'weights of the loss terms')
    update_order: str = field(
        'simultaneous',
        "'simultaneous': all players use the networks from before the step; 'alternating': generators, discriminators, "
        'then segmentors, each using the networks already updated in the step',
        ('simultaneous', 'alternating'),
    )
    loss: Losses = group(Losses, 'loss functions')
    generator: Network = group(Network, 'generators', width=64, blocks=9, resize=False, tanh=True)
    segmentor: Network = group(Network, 'segmentors', width=64, blocks=9, resize=False, tanh=False)
    discriminator: Network = group(Network, 'discriminators', architecture='patchgan', width=64, layers=3)
    dtype: str = field('float32', 'floating-point type of the computation', ('bfloat16', 'float32', 'float64'))
    param_dtype: str = field('float32', 'floating-point type of the weights', ('bfloat16', 'float32', 'float64'))
    remat: bool = field(
        False, 'recompute the blocks of generators and segmentors in the backward pass: less memory, slower'
    )
    rate: Rates = group(Rates, 'learning rates')
    optimizer: Optimizer = group(Optimizer, 'optimizers')
    warmup: int = field(0, 'steps of linear learning-rate warm-up', COUNT)
    average: float = field(
        0.0,
        'decay of an exponential moving average of the weights, which validation and evaluation then use; 0: off',
        BELOW_ONE,
    )
    image_pool: int = field(
        50,
        'size of the pool of past synthetic images shown to discriminators, over all rows of the batch; 0: no pool',
        Range(0, 2**16, whole=True),
    )
    data: Data = group(Data, 'preparation of scans')
    augment: Augment = group(Augment, 'augmentation')
    train: Train = group(Train, 'training length, sampling and checkpoints')
    atlases: Atlases = group(Atlases, 'multi-atlas segmentation')
    predict: Predict = group(Predict, 'prediction')

    @property
    def kind_of_stage(self) -> Kind:
        """What its kind reads, trains and makes."""
        return KINDS[self.kind]

    def built_on(self) -> list[str]:
        """Names of the earlier stages whose networks it uses."""
        return [name for name in (self.generators_from, self.segmentor_from, *self.start.stages) if name]

    def depends_on(self) -> list[str]:
        """Names of the stages and sets that it reads or is initialised from, without duplicates."""
        sets = (text.partition(':')[0] for text in (*self.sets.a, *self.sets.b))
        return [*dict.fromkeys((*self.built_on(), *sets))]
