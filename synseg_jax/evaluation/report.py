"""One self-contained report of a comparison: HTML, Markdown, CSV and boxplots."""

from pathlib import Path

from synseg_jax.evaluation.comparison import Report, Row

__all__ = ['Report', 'Row', 'write']


def write(report: Report, folder: str | Path) -> None:
    """Writes `report.html`, `report.md`, `table.csv`, `cases.csv` and `boxplots.png`, each whole or not at all."""
    raise NotImplementedError
