"""What measures.json and results.json hold."""

from typing import Annotated, NotRequired, TypedDict

from synseg_jax.files import schema

MEASURES = 'measures.json'
RESULTS = 'results.json'  # of a system

Cases = dict[str, dict[str, dict[str, float | None]]]  # case -> class -> metric
Pooled = dict[str, dict[str, float | None]]  # class -> metric over all scans of a set together


class Curve(TypedDict):
    """An ROC curve."""

    fpr: list[float]
    tpr: list[float]


class Choice(TypedDict):
    """A checkpoint, and the mean Dice of its predictions on a test set."""

    step: int
    dice: float


class Measured(TypedDict):
    """Metrics on a test set, and `key`, a digest of everything they depend on.

    `choices` with `oracle`: {rule: what it chooses}, by the rules of `selection` and by the labels of the test scans.
    """

    key: str
    cases: Cases
    protocols: NotRequired[dict[str, Cases]]  # by protocol, but the native one
    pooled: NotRequired[Pooled]
    choices: NotRequired[dict[str, Choice]]
    roc: NotRequired[
        Annotated[Curve, schema.Check('of equal length', lambda curve: len(curve['fpr']) == len(curve['tpr']))] | None
    ]


class Mean(TypedDict):
    """Statistics of an image-similarity metric; other fields are not read again."""

    mean: float | None


class Measures(TypedDict):
    """measures.json: metrics of a system, or of one fold of it."""

    sets: dict[str, Measured]
    weights: str
    synthesis: dict[str, Mean]


class ByProtocol(TypedDict):
    """Metrics by a protocol other than the native one, by set; also `sets`, their statistics."""

    cases: dict[str, Cases]


class Results(TypedDict):
    """results.json of a system: metrics over all folds; `fields` identifies its configuration."""

    cases: dict[str, Cases]
    protocols: NotRequired[dict[str, ByProtocol]]  # absent if only the native protocol was measured
    pooled: NotRequired[dict[str, Pooled]]  # by set; absent in files of earlier versions
    choices: NotRequired[dict[str, list[dict[str, Choice]]]]  # by set, of each fold
    synthesis: dict[str, Mean]
    steps: int
    seconds: float
    peak_memory_gib: float
    seed: int
    reads_target_labels: bool
    reads_pseudo_labels: NotRequired[bool]  # absent in files of earlier versions
    transductive: NotRequired[bool]  # absent in files of earlier versions
    test_all: NotRequired[bool]  # absent in files of earlier versions
    folds: int
    fields: NotRequired[str]
