"""The summary of all tables: claims of the papers, measured values, and statistical significance.

    python -m configs.summary           # prints the lines between the two markers in docs/results.md
    python -m configs.summary README    # prints those in README.md, the first claim of some tables

A claim compares two rows of a table; all values are read from the committed tables, configs/tables/NAME.md.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import NamedTuple

from synseg_jax.errors import known
from synseg_jax.evaluation import registry

TABLES = Path(__file__).parent / 'tables'
IN_README = ('synseg_abdomen_laptop', 'synseg_spleen', 'prostate', 'essnet_liver', 'heart', 'tumor')
MARKERS = ('<!-- python -m configs.summary -->\n', '<!-- end of the summary -->')
_BADGES = re.compile(r'(?: \((?:not run|reference|reads target labels|transductive)\))+$')
_BESIDE = ('median', 'over seeds', 'paper')  # columns that belong to the metric column before them


class Claim(NamedTuple):
    """The claim that one row of a table is better than another in a metric."""

    table: str
    source: str  # the system and the table of its paper
    sought: str
    better: str
    worse: str
    measure: str = 'dice'


CLAIMS = (
    Claim('synseg_spleen', 'SynSeg-Net, Table 1', 'SynSeg-Net ahead of CycleGAN+Seg., spleen',
          'SynSeg-Net', 'CycleGAN+Seg.'),
    Claim('synseg_external', 'SynSeg-Net, Table 2', 'SynSeg-Net ahead of CycleGAN+Seg., other cohort, axial',
          'SynSeg-Net, axial', 'CycleGAN+Seg., axial'),
    Claim('synseg_ticv', 'SynSeg-Net, Table 3', 'SynSeg-Net ahead of CycleGAN+Seg., head',
          'SynSeg-Net', 'CycleGAN+Seg.'),
    Claim('synseg_abdomen_laptop', 'SynSeg-Net, real scans', 'SynSeg-Net ahead of CycleGAN+Seg.',
          'SynSeg-Net', 'CycleGAN+Seg.'),
    Claim('prostate', 'prostate, Table 1', 'whole system ahead of plain CycleGAN',
          '+ SSIM loss, real CT', 'SynCT, real CT'),
    Claim('prostate', 'prostate, Table 1', 'SSIM loss helps', '+ SSIM loss, real CT', '+ augmentation, real CT'),
    Claim('prostate_context', 'prostate, section 4', '3 slices ahead of 1', '3 slices, real CT', '1 slice, real CT'),
    Claim('context_seeds', 'prostate, section 4', '3 slices ahead of 1, on MR', '3 slices', '1 slice'),
    Claim('essnet_liver', 'EssNet, Tables 3 and 4', 'synthetic MR help', 'real + 35 % of EssNet', 'real MR only'),
    Claim('essnet_liver', 'EssNet, Tables 3 and 4', 'EssNet ahead of CycleGAN',
          'real + 35 % of EssNet', 'real + 35 % of CycleGAN'),
    Claim('heart_s_score', '3-D heart, Table 1', 'shape consistency keeps shapes, CT',
          'G with shape consistency, synthetic CT', 'G without shape consistency, synthetic CT'),
    Claim('heart', '3-D heart, Table 2', 'joint training helps 2 real CT', 'Ours (R+S), CT', 'Baseline (R), CT'),
    Claim('heart', '3-D heart, Table 2', 'joint training helps 2 real MR', 'Ours (R+S), MR', 'Baseline (R), MR'),
    Claim('heart_share', '3-D heart, Figure 7', 'joint training still helps 10 real CT',
          'Ours (R+S), 85 %, CT', 'Baseline (R), 85 %, CT'),
    Claim('heart_gap', '3-D heart, Figure 8', 'joint training ahead of offline, whose generators failed here',
          'Ours (R+S), 85 %', 'ADA (R+S), 85 %'),
    Claim('heart_more', '3-D heart, Figure 7, right', 'joint training ahead of offline, with 48 further CT',
          'Ours (R+S), 100 % of further CT', 'ADA (R+S), 100 % of further CT'),
    Claim('tumor', 'tumour-aware, Table 1', 'tumour-aware ahead of week-one MR alone, other patients',
          'tumour-aware, semi-supervised, other patients', 'week-one MR alone, other patients', 'patch_dice'),
    Claim('tumor_kept', 'tumour-aware, section 4', 'intensities of tumours nearer to real ones',
          'tumour-aware', 'CycleGAN', 'kl'),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A metric of a row: its mean, and the mark of its test against the reference row."""

    mean: float
    mark: str


@dataclass(frozen=True)
class Row:
    """A row of a table, with its numbers of scans and seeds."""

    cells: Mapping[str, Cell]
    reference: bool
    cases: int
    seeds: int


@dataclass(frozen=True)
class Table:
    """A table parsed from Markdown; `headings` are its metrics, `before` the date of a later change of the code."""

    rows: Mapping[str, Row]
    idle: frozenset[str]  # rows without results
    headings: frozenset[str]
    before: str


def read(text: str) -> Table:
    """Parse the table of a report in Markdown (`synseg_jax/reports/report.py`).

    Other tables in the file are ignored: that of a report begins with `| system |`.
    """
    below = dropwhile(lambda line: not line.startswith('| system |'), text.splitlines())
    heads, _, *lines = [_cells(line) for line in takewhile(lambda line: line.startswith('|'), below)]
    measures = {at: head for at, head in enumerate(heads) if at and head not in _BESIDE}
    facts = dict(re.findall(r'^- (.+?): (\d+ cases · .*)$', _unescaped(text), re.M))
    rows, idle = {}, set()
    for cells in lines:
        title = _BADGES.sub('', cells[0])
        if title not in facts:
            idle.add(title)
        else:
            own = {head[:-2]: _cell(cells[at]) for at, head in measures.items()}
            rows[title] = Row(own, '(reference)' in cells[0], *_counts(facts[title]))
    change = re.search(r'\*\*Before the change of ([\d-]+)\*\*', text)
    headings = frozenset(head[:-2] for head in measures.values())
    return Table(rows, frozenset(idle), headings, change[1] if change else '')


def _cells(line) -> list[str]:
    return [_unescaped(cell).strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]


def _unescaped(text) -> str:
    return re.sub(r'\\(.)', r'\1', text)


def _cell(text) -> Cell | None:
    """Parse `0.837 ± 0.054 **`; None for a dash."""
    found = re.match(r'(-?[\d.]+)(?: ± [\d.]+)?(?: (\*+))?$', text)
    return Cell(float(found[1]), found[2] or '') if found else None


def _counts(facts) -> tuple[int, int]:
    """Cases and seeds of `8 cases · 500 steps · seed 0 · 80 s`."""
    several = re.search(r'(\d+) seeds from', facts)
    return int(facts.split()[0]), int(several[1]) if several else 1


def line(claim: Claim, table: Table) -> str:
    """The claim, measured values and significance; InputError for a row or metric that is not in the table."""
    names = [known(f'row of {claim.table}.md', name, {*table.rows, *table.idle}) for name in claim[3:5]]
    if table.idle.intersection(names):
        return f'{claim.sought} | – | not run yet'
    better, worse = (table.rows[name] for name in names)
    metric = registry.metric(claim.measure)
    known(f'measure of {claim.table}.md', metric.heading, table.headings)
    ahead, behind = better.cells[metric.heading], worse.cells[metric.heading]
    rises = ahead.mean < behind.mean if metric.lower_is_better else ahead.mean > behind.mean
    mark = (behind if better.reference else ahead).mark if better.reference or worse.reference else None
    cases, seeds = min(better.cases, worse.cases), min(better.seeds, worse.seeds)
    return (
        f'{claim.sought} | {metric.heading} {_short(ahead.mean)}, {_short(behind.mean)} | '
        f'{_verdict(rises, mark)}; {cases} scans, {f"{seeds} seeds" if seeds > 1 else "one seed"}'
    )


def _verdict(rises: bool, mark: str | None) -> str:
    """The result of the test in words; `mark` is None if the two rows were not tested against each other."""
    way = 'yes' if rises else 'the reverse'
    if mark is None:
        return f'{way}, but not tested'
    return {'**': f'{way}, p < .05 corrected', '*': f'{way}, p < .05 uncorrected', '': 'not significant'}[mark]


def _short(value: float) -> str:
    return f'{value:.3f}'.removeprefix('0')


def lines(folder: str = '../configs/tables') -> Iterator[str]:
    """The whole summary in Markdown; `folder` is the path of the tables in links."""
    found = _read(CLAIMS)
    yield '| table | looked for | seen | how sure |'
    yield '|---|---|---|---|'
    before = ''
    for claim in CLAIMS:
        place = f'{_link(claim, folder)}: {claim.source}'
        yield f'| {place if claim.table != before else ""} | {line(claim, found[claim.table])} |'
        before = claim.table
    yield from _changes(found)


def short_lines(folder: str = 'configs/tables') -> Iterator[str]:
    """The first claim of the tables that README shows."""
    first = {claim.table: claim for claim in reversed(CLAIMS)}
    chosen = [first[name] for name in IN_README]
    found = _read(chosen)
    yield '| paper | looked for | seen | how sure |'
    yield '|---|---|---|---|'
    for claim in chosen:
        yield f'| [{claim.source}]({folder}/{claim.table}.md) | {line(claim, found[claim.table])} |'
    yield from _changes(found)


def _changes(found: Mapping[str, Table]) -> Iterator[str]:
    """Note on tables that are older than a change that alters results."""
    for day in sorted({table.before for table in found.values()} - {''}):
        later = ', '.join(f'`{name}`' for name, table in found.items() if table.rows and table.before != day)
        yield ''
        yield f'{f"All but {later}" if later else "All"} were trained before the change of {day} that they tell of.'


def _read(claims: Iterable[Claim]) -> dict[str, Table]:
    return {claim.table: read((TABLES / f'{claim.table}.md').read_text(encoding='utf-8')) for claim in claims}


def _link(claim: Claim, folder: str) -> str:
    return f'[`{claim.table}`]({folder}/{claim.table}.md)'


if __name__ == '__main__':
    print(*(short_lines() if sys.argv[1:] == ['README'] else lines()), sep='\n')
