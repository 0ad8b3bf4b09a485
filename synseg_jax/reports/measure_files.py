"""Files of an evaluation: metrics of every case, their summary, boxplots."""

from collections.abc import Mapping
from pathlib import Path

from synseg_jax.evaluation import summary
from synseg_jax.evaluation.protocols import NATIVE
from synseg_jax.files import write_csv, write_json
from synseg_jax.reports import training_curves


def write(output: str | Path, cases: Mapping, summarised: Mapping, protocol: str = NATIVE) -> None:
    """Writes `cases.csv`, `boxplots.png` and, last, `summary.json`, each atomically and with the protocol's name."""
    output = Path(output)
    classes = {name: [case[name]['dice'] for case in cases.values()] for name in summarised['classes']}
    rows = [{**row, 'protocol': protocol} for row in summary.rows(cases)]
    write_csv(output / 'cases.csv', rows, (*summary.COLUMNS, 'protocol'))
    training_curves.boxplots(output / 'boxplots.png', {'prediction': classes})
    write_json(output / 'summary.json', {**summarised, 'protocol': protocol})
