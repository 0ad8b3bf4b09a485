"""Table of checked cases."""

from collections.abc import Sequence

from rich.table import Table

from synseg_jax.cli.terminal import plain
from synseg_jax.formats.grid import TOLERANCE_MM
from synseg_jax.preparation.checks.case import Checked, Problem


def table(checked: Sequence[Checked], problems: Sequence[Problem]) -> Table:
    """Numbers of scans, labels, snapped labels, warnings and errors of every set and role."""
    explained = f'snapped: labels less than {TOLERANCE_MM:g} mm off the grid of their scan, read as lying on it'
    caption = explained if any(one.snapped for one in checked) else None
    columns = ('set', 'role', 'scans', 'labelled', 'snapped', 'warnings', 'errors')
    result = Table(*columns, caption=caption, caption_justify='left')
    places = dict.fromkeys(
        [*((one.split.name, one.split.role) for one in checked), *((p.name, p.role) for p in problems)]
    )
    for place in places:
        cases = [one for one in checked if (one.split.name, one.split.role) == place]
        found = [problem.error for problem in problems if (problem.name, problem.role) == place]
        labelled, snapped = sum(one.case.label is not None for one in cases), sum(one.snapped for one in cases)
        counts = (len(cases), labelled, snapped) if cases else ('', '', '')
        cells = (place[0] or 'all', place[1] or 'all', *counts, found.count(False), found.count(True))
        result.add_row(*map(plain, cells))
    return result
