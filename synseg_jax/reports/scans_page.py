"""A folder of segmented scans as one self-contained HTML page: the data of `scans.html.jinja`, worst scan first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synseg_jax.imaging.colours import colour
from synseg_jax.reports import templates

BEYOND = 1.3  # length of a bar over the larger of the volume and its range


@dataclass(frozen=True)
class Organ:
    """A class in a scan: its volume, the least and largest of the training labels, and its agreement, if known."""

    name: str
    label: int
    ml: float
    usual_ml: tuple[float, float] | None = None
    agreement: float | None = None

    @property
    def colour(self) -> str:
        """Of its contours."""
        return colour(self.label)

    @property
    def unusual(self) -> bool:
        """Whether the volume is outside the range."""
        return bool(self.usual_ml) and not self.usual_ml[0] <= self.ml <= self.usual_ml[1]

    @property
    def bar(self) -> dict[str, float]:
        """Percentages of the length of a bar: where the range begins, its length, and where the volume is."""
        low, high = self.usual_ml or (0.0, 0.0)
        share = 100 / (BEYOND * max(high, self.ml) or 1)
        return {'low': low * share, 'length': (high - low) * share, 'at': self.ml * share}


@dataclass(frozen=True)
class Scan:
    """A scan of the page: the word that it got, its agreement (None: unknown), remarks, organs and picture."""

    case: str
    word: str
    agreement: float | None
    remarks: Mapping[str, str]  # {kind: organs}
    organs: Sequence[Organ]
    picture: Path


@dataclass(frozen=True)
class Overview:
    """What the page says of all scans; `words` from the best to the worst, each with what it means."""

    title: str
    source: str
    words: Mapping[str, str]
    notes: Sequence[str]
    warning: str = ''


def render(overview: Overview, scans: Iterable[Scan]) -> str:
    """The whole page."""
    severity = {word: -place for place, word in enumerate(overview.words)}
    ranked = sorted(scans, key=lambda scan: (severity[scan.word], scan.agreement or 0.0, scan.case))
    kinds = dict(zip(overview.words, ('good', 'fair', 'poor'), strict=True))
    shown = [(scan, templates.Picture.read(_caption(scan), scan.picture)) for scan in ranked]
    counts = {word: sum(scan.word == word for scan in ranked) for word in reversed(overview.words)}
    organs = ranked[0].organs if ranked else ()
    return templates.render(
        'scans.html.jinja',
        overview=overview,
        scans=shown,
        kinds=kinds,
        counts=counts,
        organs=organs,
        ranged=any(organ.usual_ml for organ in organs),
    )


def _caption(scan) -> str:
    return f'{scan.case} in three planes with the contours of {", ".join(organ.name for organ in scan.organs)}'
