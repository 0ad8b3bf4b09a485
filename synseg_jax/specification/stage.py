"""Fields of one stage: its kind, method, losses, networks, optimizers, data, training and prediction."""

from dataclasses import dataclass

from synseg_jax.specification.data import Context, Data, Fold, Sets
from synseg_jax.specification.field import (
    BELOW_ONE,
    COUNT,
    NOT_NEGATIVE,
    SHARE,
    FrozenMapping,
    Range,
    Rule,
    field,
    group,
)
from synseg_jax.specification.network import SET_BY_JUDGE_FROM, Network, NetworkFields
from synseg_jax.specification.objective import Losses, Weights
from synseg_jax.specification.prediction import Predict
from synseg_jax.specification.stage_kind import KINDS, Kind
from synseg_jax.specification.training import Augment, Optimizer, Rates, Train
from synseg_jax.specification.views import DomainViews

PROTOCOLS = Rule(lambda names: {*names} <= {'native', 'csdg', 'sifa'}, "names, of 'native', 'csdg' and 'sifa'")


@dataclass(frozen=True)
class Start:
    """Stages whose trained weights a stage is initialised with, instead of random weights."""

    stages: tuple[str, ...] = field(
        (),
        'earlier stages whose weights initialise this one; where several have a network, the last one listed wins',
        affects='records',
    )
    networks: tuple[str, ...] = field((), 'names of the networks to initialise; empty: all', compiled=False)


@dataclass(frozen=True)
class Atlases:
    """Multi-atlas segmentation."""

    spacing_mm: float = field(
        3.0, 'voxel size in mm at which atlases are registered', Range(0.01, 1000), compiled=False
    )


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
    judge_from: str = field(
        '',
        "'train': the earlier stage whose segmentor, held fixed, judges translations; terms judge_a and judge_b use it",
        affects='records',
        added=True,
    )
    judge: NetworkFields = field(
        FrozenMapping(),
        'architecture of the judge: that of the segmentor of `judge_from`',
        SET_BY_JUDGE_FROM,
        'records',
        compiled=True,
        added=True,
    )
    label_confidence: float = field(
        0.0,
        "'label': pixels stay unlabelled where the highest class probability is lower; 0: all are labelled",
        BELOW_ONE,
        compiled=False,
        added=True,
    )
    label_share: float = field(
        1.0,
        "'label': of the pixels of each class in a scan, the share of the most certain that is labelled",
        SHARE,
        compiled=False,
        added=True,
    )
    label_views: bool = field(
        False,
        "'label': predict by the mean over views of the scan: rotated by 10 degrees, zoomed by 1.1, with gamma 1.3",
        compiled=False,
        added=True,
    )
    label_components: str = field(
        '',
        "'label': 'largest': pixels outside of the largest connected component of each class become background; "
        'classes in `lesions` keep all',
        ('', 'largest'),
        compiled=False,
        added=True,
    )
    label_darkest: float = field(
        0.0,
        "'label': pixels become background where the image, in [0, 1] and smoothed, is darker; as predict.darkest",
        BELOW_ONE,
        compiled=False,
        added=True,
    )
    label_brightest: float = field(
        1.0,
        "'label': pixels become background where the image, in [0, 1] and smoothed, is brighter; as predict.brightest",
        Range(high=1),
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
    test_all: bool = field(
        False,
        'test all labelled target scans, whatever their split; only for systems that train on no image of their '
        'patients, e.g. on the source alone; False: the test scans',
        affects='measures',
        added=True,
    )
    protocols: tuple[str, ...] = field(
        ('native',),
        "how predictions are compared with the labels of test scans; 'native': on the scan's own grid, always "
        "measured; 'csdg', 'sifa': also as in papers, see docs/results.md",
        PROTOCOLS,
        'measures',
        added=True,
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
    selection: str = field(
        'source_dice',
        "which checkpoint is used: 'source_dice': the highest validation score; 'label_free': the best mean rank, over "
        "all validations, of three scores that see target scans but no target label; 'last'; see docs/adaptation.md",
        ('source_dice', 'label_free', 'last'),
        compiled=False,
        added=True,
    )
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
    views: DomainViews = group(DomainViews, 'random views')
    train: Train = group(Train, 'training length, sampling and checkpoints')
    atlases: Atlases = group(Atlases, 'multi-atlas segmentation')
    predict: Predict = group(Predict, 'prediction')

    @property
    def kind_of_stage(self) -> Kind:
        """What its kind reads, trains and makes."""
        return KINDS[self.kind]

    def built_on(self) -> list[str]:
        """Names of the earlier stages whose networks it uses."""
        return [*filter(None, (self.generators_from, self.segmentor_from, self.judge_from, *self.start.stages))]

    def depends_on(self) -> list[str]:
        """Names of the stages and sets that it reads or is initialised from, without duplicates."""
        sets = (text.partition(':')[0] for text in (*self.sets.a, *self.sets.b))
        return [*dict.fromkeys((*self.built_on(), *sets))]
