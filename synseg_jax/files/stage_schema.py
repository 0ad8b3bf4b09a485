"""Schemas of run.json of a workdir and stage.json of a stage, and of fields that card.json shares with them.

The configuration in them is checked by synseg_jax.specification.
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
    """A network's architecture, and the fields that it has of these."""

    architecture: Literal['resnet', 'patchgan', 'unet', 'res_unet', 'shared', 'head']
    channels: NotRequired[Count]
    width: NotRequired[Annotated[int, between(1, 2**12)]]
    blocks: NotRequired[Annotated[int, between(0, 256)]]
    layers: NotRequired[Annotated[int, between(1, 8)]]
    levels: NotRequired[Annotated[int, between(0, 8)]]
    extra: NotRequired[Annotated[int, between(0, 2**12)]]
    max_width: NotRequired[Annotated[int, between(1, 2**16)]]
    deep_supervision: NotRequired[Annotated[int, between(0, 7)]]
    up_width: NotRequired[Annotated[int, between(1, 16)]]
    dropout: NotRequired[Annotated[float, between(0, 0.999)]]
    residual: NotRequired[bool]
    norm: NotRequired[bool]
    strided: NotRequired[bool]
    tanh: NotRequired[bool]
    resize: NotRequired[bool]


class Context(TypedDict):
    """The slices on each side of the middle one, and their distance."""

    slices: Annotated[int, between(0, 64)]
    spacing_mm: Length


class Channels(TypedDict):
    """The modality of each domain that was trained on."""

    a: NotRequired[str]
    b: NotRequired[str]


class Typical(TypedDict):
    """What 0 and 1 stand for in the synthetic scans of each domain."""

    a: NotRequired[Range]
    b: NotRequired[Range]


class Other(TypedDict):
    """A further channel of a domain: its name, and what 0 and 1 stand for in synthetic scans."""

    channel: str
    typical: Range


class Others(TypedDict):
    """The further channels of each domain."""

    a: NotRequired[list[Other]]
    b: NotRequired[list[Other]]


class StageFile(TypedDict):
    """stage.json."""

    format: int
    config: dict[str, Any]
    classes: Classes
    channels: Channels
    typical: Typical
    volumes_ml: NotRequired[dict[str, tuple[float, float]]]
    others: NotRequired[Others]


class Systems(TypedDict):
    """Of the configuration of a workdir: the systems by name, and the one that is used unless another is named."""

    default_system: str
    systems: dict[str, dict[str, Any]]


class FoldFile(TypedDict):
    """A trained fold: the folders of its stages, and the scans that it did not train on."""

    stages: list[Inside]
    held_out: list[str]


class RunFile(TypedDict):
    """run.json: the configuration, the records' request, and the folders of each system's stages, trained or begun.

    With folds, `systems` names the stages of the first.
    """

    format: int
    config: Systems
    records: NotRequired[str]
    systems: dict[str, list[Inside]]
    begun: NotRequired[dict[str, list[Inside]]]
    folds: NotRequired[dict[str, list[FoldFile]]]
