"""Schemas of run.json (of a workdir), stage.json (of a trained stage) and parts of card.json (of an export).

Of a stage's configuration they cover the fields from which its networks are built and applied.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from synseg_jax.files.schema import Check, between, inside

Count = Annotated[int, between(0, 2**16)]
Some = Annotated[int, between(1, 2**16)]
Share = Annotated[float, between(1e-3, 1)]
Range = Annotated[tuple[float, float], Check('that rise', lambda pair: pair[0] < pair[1])]
Percentiles = Annotated[Range, Check('from 0 to 100', lambda pair: 0 <= pair[0] and pair[1] <= 100)]
Length = Annotated[float, Check('(mm), 0 or from 0.01 to 1000', lambda mm: mm == 0 or 0.01 <= mm <= 1000)]
Size = Annotated[tuple[Annotated[int, between(1, 2**14)], ...], Check('of 2 or 3', lambda size: len(size) in (2, 3))]
Classes = Annotated[tuple[str, ...], Check('of 1 to 256', lambda names: 1 <= len(names) <= 256)]
Axis = Literal['axial', 'coronal', 'sagittal']
Inside = Annotated[str, Check('that may not leave this folder', inside)]


class Fields(TypedDict):
    """A network: its architecture and that architecture's fields."""

    architecture: Literal['resnet', 'patchgan', 'unet', 'res_unet', 'shared', 'head']
    channels: NotRequired[Count]
    width: NotRequired[Annotated[int, between(1, 2**12)]]
    blocks: NotRequired[Annotated[int, between(0, 256)]]
    layers: NotRequired[Annotated[int, between(1, 8)]]
    levels: NotRequired[Annotated[int, between(0, 8)]]
    extra: NotRequired[Annotated[int, between(0, 2**12)]]
    up_width: NotRequired[Annotated[int, between(1, 16)]]
    dropout: NotRequired[Annotated[float, between(0, 0.999)]]
    residual: NotRequired[bool]
    norm: NotRequired[bool]
    strided: NotRequired[bool]
    tanh: NotRequired[bool]
    resize: NotRequired[bool]


class Context(TypedDict):
    """2.5-D input: number of neighbour slices on each side, and their distance in mm."""

    slices: Annotated[int, between(0, 64)]
    spacing_mm: Length


class Predict(TypedDict):
    """Prediction: from probabilities to labels. NotRequired fields are absent from files of earlier versions."""

    batch: Some
    resample: Literal['nearest', 'linear']
    flips: NotRequired[Literal['', 'lr']]
    components: NotRequired[Literal['', 'largest']]
    window: NotRequired[Literal['tiles', 'middle']]


class Data(TypedDict):
    """The input grid and intensities of the networks."""

    size: Size
    spacing_mm: Length
    slice_axis: Axis
    window_hu: Range
    percentiles: Percentiles
    target_center: Share
    classes: NotRequired[list[str]]
    same_patients: NotRequired[list[str]]
    source_split: NotRequired[list[float]]
    target_split: NotRequired[list[float]]


class Loss(TypedDict):
    """Names of the losses, and class weights."""

    adversarial: str
    cycle: str
    segmentation: str
    class_weights: list[float]
    by_weight: bool


class Augment(TypedDict):
    """Augmentation; `window`, unless empty, is the size of the training crops."""

    window: Size | Annotated[tuple[int, ...], Check('of none', lambda size: not size)]
    crop: float
    shift: float
    rotate: float
    scale: float
    flip: str
    brightness: float
    contrast: float
    gamma: float


class Train(TypedDict):
    """The fields of the training schedule that checkpoints depend on."""

    batch: Some
    save_every: Annotated[int, between(1, 2**40)]


class Atlases(TypedDict):
    """Voxel spacing in which atlases are registered."""

    spacing_mm: Annotated[float, Check('(mm), from 0.01 to 1000', lambda mm: 0.01 <= mm <= 1000)]


class Optimizer(TypedDict):
    """Update rule and its hyperparameters."""

    rule: str
    b1: float
    b2: float
    eps: float
    clip_norm: float


class Config(TypedDict):
    """The configuration of a stage."""

    do: str
    method: str
    pays: dict[str, dict[str, float | None]]
    masked: bool
    seed: int
    dtype: str
    param_dtype: str
    remat: bool
    history: Count
    average: float
    lesions: list[str]
    generator: Fields
    segmentor: Fields
    discriminator: Fields
    optimizer: Optimizer
    context: Context
    predict: Predict
    data: Data
    loss: Loss
    augment: Augment
    train: Train
    atlases: Atlases


class Channels(TypedDict):
    """The modality of each training domain."""

    a: NotRequired[str]
    b: NotRequired[str]


class Typical(TypedDict):
    """The intensities that 0 and 1 stand for in synthetic scans of each domain."""

    a: NotRequired[Range]
    b: NotRequired[Range]


class StageFile(TypedDict):
    """stage.json."""

    config: Config
    classes: Classes
    channels: Channels
    typical: Typical


class Systems(TypedDict):
    """A workdir's configuration: its systems by name, and the default one (`chosen`)."""

    chosen: str
    systems: dict[str, dict[str, Any]]


class RunFile(TypedDict):
    """run.json: the configuration, the digest of its records, and the folders of each system's stages."""

    config: Systems
    records: NotRequired[str]
    systems: dict[str, list[Inside]]
    begun: NotRequired[dict[str, list[Inside]]]
