"""One stage, whole: what it does, its method, losses, networks, optimizers, data, training and prediction."""

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
    """The weights that a stage begins with, in place of random ones."""

    stages: tuple[str, ...] = field(
        (), "earlier stages whose weights are taken; a later one's come first", affects='records'
    )
    networks: tuple[str, ...] = field((), 'the networks that are taken; empty: all', compiled=False)


def _is_weight(value) -> bool:
    """Whether a value is a finite number from 0 on, or a schedule of such numbers over a number of steps."""
    if not isinstance(value, tuple | list):
        return NOT_NEGATIVE.holds(value)
    if len(value) != 4:
        return False
    kind, *numbers, steps = value
    return isinstance(kind, str) and all(map(NOT_NEGATIVE.holds, numbers)) and POSITIVE_COUNT.holds(steps)


WEIGHT = Rule(_is_weight, "a finite number from 0 on, or a schedule ('linear', first, last, steps)")


@dataclass(frozen=True)
class Weights:
    """{term: weight} of each player, where it differs from the method's table.

    Terms are those of synseg_jax/objective/terms.py, schedules those of synseg_jax/objective/weights.py.
    """

    gen: Mapping[str, object] = field(FrozenMapping(), 'generators: terms of synseg_jax/objective/terms.py', WEIGHT)
    dis: Mapping[str, object] = field(FrozenMapping(), 'discriminators', WEIGHT)
    seg: Mapping[str, object] = field(FrozenMapping(), 'segmentors', WEIGHT)


@dataclass(frozen=True)
class Losses:
    """The loss functions that terms are made of, by their names in synseg_jax/objective/losses.py."""

    adversarial: str = field('lsgan', 'of generators and discriminators: ADVERSARIAL in synseg_jax/objective/losses.py')
    cycle: str = field('l1', 'between an image and its reconstruction: CYCLE there')
    segmentation: str = field('cross_entropy', 'SEGMENTATION there; binary_cross_entropy: 2 classes, one logit')
    class_weights: tuple[float, ...] = field((), 'one weight a class, in their order; empty: all 1', NOT_NEGATIVE)
    by_weight: bool = field(False, 'divide by the sum of the weights, not by the number of pixels (of classes in dice)')


@dataclass(frozen=True)
class Network:
    """An architecture and the fields that it is given; those that are None are its own defaults."""

    architecture: str = field('resnet', 'the kind of network', ('resnet', 'unet', 'res_unet', 'patchgan'))
    width: int | None = field(None, 'features at full resolution', Range(1, 2**12, whole=True))
    blocks: int | None = field(None, 'resnet: residual blocks', Range(0, 256, whole=True))
    resize: bool | None = field(None, 'resnet: upsample by resizing, not by transposed convolution')
    layers: int | None = field(None, 'patchgan: convolutions of stride 2', Range(1, 8, whole=True))
    levels: int | None = field(None, 'unet: steps down', Range(1, 8, whole=True))
    extra: int | None = field(
        None, 'unet: features of a further convolution before the head; 0: none', Range(0, 2**12, whole=True)
    )
    dropout: float | None = field(None, 'unet: share dropped at the two deepest levels', BELOW_ONE)
    norm: bool | None = field(None, 'unet: instance norm after each convolution')
    strided: bool | None = field(None, 'unet: step down by strided convolution, not by max pool')
    up_width: int | None = field(None, 'unet: width of the convolution after each step up', Range(1, 16, whole=True))
    residual: bool | None = field(None, 'unet: residual blocks')
    tanh: bool | None = field(None, 'end in tanh')

    def given(self) -> dict[str, object]:
        """The fields that are set, the architecture included."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Rates:
    """Learning rates."""

    generator: float = field(1e-4, 'of generators', NOT_NEGATIVE)
    discriminator: float = field(2e-4, 'of discriminators', NOT_NEGATIVE)
    segmentor: float = field(1e-4, 'of segmentors', NOT_NEGATIVE)


@dataclass(frozen=True)
class Optimizer:
    """The optimizer of every network."""

    rule: str = field('adam', 'the update rule', ('adam', 'sgd'))
    b1: float = field(0.5, "Adam's first moment, beside discriminators", BELOW_ONE)
    b1_alone: float = field(0.9, 'the same in methods without discriminators', BELOW_ONE)
    b2: float = field(0.999, "Adam's second moment", BELOW_ONE)
    eps: float = field(1e-8, "Adam's epsilon", POSITIVE)
    clip_norm: float = field(0.0, 'largest global norm of a gradient; 0: not clipped', NOT_NEGATIVE)


@dataclass(frozen=True)
class Augment:
    """Random changes of an image and its label together."""

    window: tuple[int, ...] = field(
        (), 'size of a random piece, pixel for pixel; empty: the whole image', POSITIVE_COUNT
    )
    crop: float = field(1.0, 'smallest share of the sides that a random crop keeps', SHARE)
    shift: float = field(0.0, 'largest shift, as a share of the side', NOT_NEGATIVE)
    rotate: float = field(0.0, 'largest angle in degrees', NOT_NEGATIVE)
    scale: float = field(0.0, 'largest change of size; .1: from 1/1.1 to 1.1', NOT_NEGATIVE)
    flip: str = field('', "mirror columns 'c', rows 'r' or both 'rc', with probability 1/2", ('', 'c', 'r', 'rc', 'cr'))
    brightness: float = field(0.0, 'largest additive change of intensities', NOT_NEGATIVE)
    contrast: float = field(0.0, 'largest relative change of contrast', NOT_NEGATIVE)
    gamma: float = field(1.0, 'largest exponent, g or 1/g', POSITIVE)
    fourier: float = field(
        0.0, 'share of the frequencies whose amplitudes the source takes from a target image (FDA)', Range(high=0.5)
    )


@dataclass(frozen=True)
class Train:
    """`epochs` at constant rate, then `decay_epochs` linearly to 0; an epoch is the larger domain once."""

    batch: int = field(1, 'rows of a global batch, over all devices', BATCH)
    epochs: int = field(100, 'at constant rate', COUNT, 'length')
    decay_epochs: int = field(0, 'then linearly to 0', COUNT)
    steps: int = field(0, 'if not 0: this many steps in place of the epochs', COUNT, 'length')
    decay_steps: int = field(0, 'the last so many of these steps decay linearly to 0', COUNT)
    mixed: bool = field(False, 'rows of a batch are real, and made by earlier stages, in turn', compiled=False)
    patience: int = field(
        0, 'stop after so many epochs without a fall of the held-out segmentation loss; 0: never', COUNT, compiled=False
    )
    balanced: bool = field(False, 'draw every scan equally often, however many slices it has', compiled=False)
    workers: int = field(0, 'reading processes; 0: threads', COUNT, 'speed')
    resident_gib: float = field(
        0.0, 'hold records of up to so many GiB in device memory; 0: read from disk', NOT_NEGATIVE, 'speed'
    )
    devices: int = field(0, '0: all that are visible', COUNT, 'speed')
    log_every: int = field(50, 'steps', POSITIVE_COUNT, 'display')
    save_every: int = field(
        1000, 'steps between checkpoints, each of which is validated', Range(1, 2**40, whole=True), compiled=False
    )
    keep: int = field(2, 'latest checkpoints kept beside the best', POSITIVE_COUNT, 'display')


@dataclass(frozen=True)
class Atlases:
    """Multi-atlas segmentation."""

    spacing_mm: float = field(3.0, 'voxels in which atlases are registered', Range(0.01, 1000), compiled=False)


@dataclass(frozen=True)
class Predict:
    """Segmenting whole scans."""

    batch: int = field(8, 'slices or windows at once', BATCH, 'speed')
    resample: str = field('nearest', "resampling to the scan's grid: nearest labels, or linear probabilities",
                          ('nearest', 'linear'), 'measures')  # fmt: skip
    flips: str = field('', "'lr': mean probability of the scan and its mirror image", ('', 'lr'), 'measures')
    window: str = field('tiles', "of larger volumes; 'middle': then the one about the middle of what tiles find",
                        ('tiles', 'middle'), 'measures')  # fmt: skip
    components: str = field('', "'largest': the largest piece of each class alone, but all of lesions",
                            ('', 'largest'), 'measures')  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Every field of a stage."""

    seed: int = field(0, 'of weights, order of the data and augmentation', Range(high=2**32 - 1, whole=True))
    kind: str = field(
        'train',
        'train a method, make a set of one (synthesize, reconstruct, label), or register atlases',
        (*KINDS,),
        compiled=False,
    )
    generators_from: str = field(
        '', 'synthesize, reconstruct: the earlier stage whose generators do it', affects='records'
    )
    segmentor_from: str = field('', 'label: the earlier stage whose segmentor does it', affects='records', added=True)
    label_confidence: float = field(
        0.0, 'label: pixels whose highest class probability is lower stay unlabelled; 0: none', BELOW_ONE,
        compiled=False, added=True,
    )  # fmt: skip
    start: Start = group(Start, 'begin with earlier weights')
    sets: Sets = group(Sets, 'what is read')
    fold: Fold = group(Fold, 'cross validation')
    transductive: bool = field(
        False, 'train on the images, not the labels, of target test scans too', affects='records'
    )
    test_sets: tuple[str, ...] = field(
        (), 'the sets that are measured; empty: those of domain b with test scans', affects='display'
    )
    evaluate_stage: str = field(
        '', 'the stage whose segmentor is measured; empty: the last that trains one', affects='measures'
    )
    oracle: bool = field(
        False, 'also measure the checkpoint that is best by the labels of the test scans', affects='measures'
    )
    lesions: tuple[str, ...] = field((), 'classes that are also counted lesion by lesion', affects='measures')
    lesion_patch_mm: float = field(
        0.0, 'also measure lesions in squares of this side about each, in its slices; 0: no', NOT_NEGATIVE, 'measures'
    )
    context: Context = group(Context, '2.5-D')
    label_channel: bool = field(False, 'translate images with the labels of both domains as one more channel')
    method: str = field('synseg', 'one of synseg_jax/objective/methods.py')
    loss_weights: Weights = group(Weights, 'weights of terms')
    update_order: str = field(
        'simultaneous',
        'all players see the networks before the step, or each as updated by those before it',
        ('simultaneous', 'alternating'),
    )
    loss: Losses = group(Losses, 'loss functions')
    generator: Network = group(Network, 'generators', width=64, blocks=9, resize=False, tanh=True)
    segmentor: Network = group(Network, 'segmentors', width=64, blocks=9, resize=False, tanh=False)
    discriminator: Network = group(Network, 'discriminators', architecture='patchgan', width=64, layers=3)
    dtype: str = field('float32', 'of computation', ('bfloat16', 'float32', 'float64'))
    param_dtype: str = field('float32', 'of weights', ('bfloat16', 'float32', 'float64'))
    remat: bool = field(False, 'compute blocks anew for the gradient: less memory, more time')
    rate: Rates = group(Rates, 'learning rates')
    optimizer: Optimizer = group(Optimizer, 'optimizers')
    warmup: int = field(0, 'steps over which the learning rates rise', COUNT)
    average: float = field(0.0, 'decay of a moving average of the weights, used for results; 0: none', BELOW_ONE)
    image_pool: int = field(50, 'past fakes that discriminators are shown; 0: none', Range(0, 2**16, whole=True))
    data: Data = group(Data, 'scans to records')
    augment: Augment = group(Augment, 'augmentation')
    train: Train = group(Train, 'length and pace of training')
    atlases: Atlases = group(Atlases, 'atlases')
    predict: Predict = group(Predict, 'prediction')

    @property
    def kind_of_stage(self) -> Kind:
        """What its kind reads, trains and makes."""
        return KINDS[self.kind]

    def built_on(self) -> list[str]:
        """Names of the earlier stages whose networks it uses."""
        return [name for name in (self.generators_from, self.segmentor_from, *self.start.stages) if name]

    def depends_on(self) -> list[str]:
        """Names of the stages and sets that it reads or begins with, each once."""
        sets = (text.partition(':')[0] for text in (*self.sets.a, *self.sets.b))
        return [*dict.fromkeys((*self.built_on(), *sets))]
