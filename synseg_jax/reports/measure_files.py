"""Files of an evaluation: metrics of every case, their summary, boxplots."""

from collections.abc import Mapping
from pathlib import Path

from synseg_jax.evaluation import summary
from synseg_jax.files import write_csv, write_json
from synseg_jax.reports import training_curves


def write(output: str | Path, cases: Mapping, summarised: Mapping) -> None:
    """Writes `cases.csv`, `boxplots.png` and, last, `summary.json`, each atomically."""
    output = Path(output)
    classes = {name: [case[name]['dice'] for case in cases.values()] for name in summarised['classes']}
    write_csv(output / 'cases.csv', summary.rows(cases), summary.COLUMNS)
    training_curves.boxplots(output / 'boxplots.png', {'prediction': classes})
    write_json(output / 'summary.json', summarised)
