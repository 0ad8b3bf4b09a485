"""Measures predicted label maps against references: Dice, surface distances in mm, tables and boxplots.

Reads two folders of label maps that are named by case (`case_01.nii.gz` in both), on the same grid, and writes
`cases.csv`, `summary.json` and `boxplots.png`.  Classes are named by nnU-Net's `dataset.json` in the folder of the
predictions, or in that of the references or its parent; where both sides have one, classes match by name and those
that only one side knows are left out.  Without any, classes are the numbers in the files.

Example:
  python -m synseg_jax.evaluate --predictions=runs/ct --references=/data/Dataset001_Abdomen/labelsTs --output=measures
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags, logging
from jaxtyping import Integer
from rich.console import Console

from synseg_jax import command
from synseg_jax.data import volume
from synseg_jax.data.dataset import TOLERANCE_MM, label_values
from synseg_jax.errors import InputError
from synseg_jax.evaluation import metrics, plots, summary

LARGEST_LABEL = 255


def main() -> None:
    cases, summarised = evaluate_folder(_PREDICTIONS.value, _REFERENCES.value, partial=_PARTIAL.value)
    write(_OUTPUT.value, cases, summarised)
    Console().print(summary.table({'prediction': summarised}, title=f'{len(cases)} cases'))


def evaluate_folder(
    predictions: str | Path, references: str | Path, classes: Sequence[str] | None = None, *, partial: bool = False
) -> tuple[dict, dict]:
    """Measures of every case of two folders, and their summary; see `evaluate_pairs`.

    `classes` names the predictions' labels 0, 1, 2, ...; without it they are named by `dataset.json`.  A reference
    without prediction is an InputError unless `partial`.
    """
    pairs = match(predictions, references, partial=partial)
    predicted = dict(zip(classes, range(len(classes)), strict=True)) if classes else _named_labels([predictions])
    referred = _named_labels([references, Path(references).parent])
    predicted, referred = predicted or referred, referred or predicted
    if not predicted:
        return evaluate_pairs(pairs, _numbers(pairs))
    names = sorted(predicted, key=predicted.__getitem__)
    return evaluate_pairs(pairs, names, reference_values=referred, prediction_values=predicted)


def evaluate_pairs(
    pairs: Mapping[str, tuple[str | Path, str | Path]],
    classes: Sequence[str],
    *,
    reference_values: Mapping[str, int] | None = None,
    prediction_values: Mapping[str, int] | None = None,
) -> tuple[dict, dict]:
    """Measures `{case: {class: {measure: value or None}}}` of (prediction, reference) files, and their summary.

    `classes` names label values 0 (background), 1, 2, ...; a side that has other values for these names gives them
    as `{name: value}`.  A class that one side's names lack is background on both and not measured.  Labels that
    no name covers and pairs on different grids are InputErrors.
    """
    own = {name: value for value, name in enumerate(classes)}
    prediction_values, reference_values = prediction_values or own, reference_values or own
    measured = [classes[0], *(n for n in classes[1:] if n in prediction_values and n in reference_values)]
    if len(measured) == 1:
        raise InputError(f'no class in common: {_listed(prediction_values)} against {_listed(reference_values)}')
    named = [{name for name, value in values.items() if value} for values in (prediction_values, reference_values)]
    if left_out := sorted(named[0] ^ named[1]):
        logging.warning('named on one side only, not measured: %s', _listed(left_out))
    cases = {}
    for case, (prediction_path, reference_path) in pairs.items():
        prediction, reference = volume.read_labels(prediction_path), volume.read_labels(reference_path)
        _check_grid(prediction_path, prediction, reference)
        cases[case] = metrics.case_measures(
            _in_order(prediction_path, prediction.array, measured, prediction_values),
            _in_order(reference_path, reference.array, measured, reference_values),
            measured,
            tuple(reference.spacing_mm),
        )
    return cases, summary.summarise(cases)


def write(output: str | Path, cases: Mapping, summarised: Mapping) -> None:
    """Writes `cases.csv`, `boxplots.png` and, when they are there, `summary.json`; each whole or not at all."""
    output = Path(output)
    classes = {name: [case[name]['dice'] for case in cases.values()] for name in summarised['classes']}
    summary.write_csv(output / 'cases.csv', summary.rows(cases))
    plots.boxplots(output / 'boxplots.png', {'prediction': classes})
    summary.write_json(output / 'summary.json', summarised)


def match(predictions: str | Path, references: str | Path, *, partial: bool = False) -> dict[str, tuple[Path, Path]]:
    """Pairs `{case: (prediction, reference)}` of the files with the same name, in the order of their names."""
    predicted, referred = _label_maps(predictions), _label_maps(references)
    both = sorted(predicted.keys() & referred.keys())
    missing, extra = sorted(referred.keys() - predicted.keys()), sorted(predicted.keys() - referred.keys())
    if not both:
        ours, theirs = _listed(sorted(predicted)), _listed(sorted(referred))
        raise InputError(f'no case in common: {predictions} has {ours}; {references} has {theirs}')
    if missing and not partial:
        raise InputError(f'no prediction in {predictions} for {_listed(missing)}; predict them or pass --partial')
    for words, names in (('prediction', missing), ('reference', extra)):
        if names:
            logging.warning('not measured, no %s for: %s', words, _listed(names))
    return {case: (predicted[case], referred[case]) for case in both}


def _label_maps(folder: str | Path) -> dict[str, Path]:
    if not Path(folder).is_dir():
        raise InputError(f'{folder} is not a folder')
    return volume.found(Path(folder))


def _named_labels(folders: Sequence[str | Path]) -> dict[str, int]:
    """`{class name: label value}` of the first `dataset.json` in these folders; empty without one."""
    path = next((p for p in (Path(folder) / 'dataset.json' for folder in folders) if p.is_file()), None)
    if path is None:
        return {}
    try:
        labels = dict(json.loads(path.read_text(encoding='utf-8'))['labels'])
        if all(name.isdigit() for name in labels):  # the older order, {"1": "spleen"}
            labels = {name: int(value) for value, name in labels.items()}
        named = {name: int(value) for name, value in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{path} holds no "labels" of the form {{"spleen": 1}}') from error
    if 'ignore' in named or sorted(named.values())[:1] != [0] or len(set(named.values())) < len(named):
        raise InputError(f'{path}: "labels" need one value each, 0 for the background and no "ignore"')
    return named


def _numbers(pairs: Mapping[str, tuple[Path, Path]]) -> list[str]:
    largest = 0
    for path in (path for pair in pairs.values() for path in pair):
        largest = max(largest, int(volume.read_labels(path).array.max(initial=0)))
        if largest > LARGEST_LABEL:
            raise InputError(f'{path} has label {largest}, more than {LARGEST_LABEL}; is it a label map?')
    return ['background', *map(str, range(1, max(1, largest) + 1))]


def _in_order(path, labels: Integer[np.ndarray, '*space'], classes: Sequence[str], values: Mapping[str, int]):
    """Labels numbered by the order of `classes`; what `values` names besides them becomes background."""
    present = label_values(labels)
    if unknown := sorted(set(present) - {0, *values.values()}):
        raise InputError(
            f'{path} has labels {_listed(unknown)} beside {_listed(f"{n} {v}" for n, v in values.items())}'
        )
    order = {values[name]: index for index, name in enumerate(classes) if index and name in values}
    return np.array([order.get(value, 0) for value in range(max(present) + 1)], np.uint8)[labels]


def _check_grid(path, prediction, reference) -> None:
    """Raises an InputError if the grids differ in shape, or at a corner by more than `TOLERANCE_MM`."""
    if prediction.array.shape != reference.array.shape:
        raise InputError(f'{path} has shape {prediction.array.shape}, its reference {reference.array.shape}')
    last = np.array(reference.array.shape) - 1
    corners = np.array([[*(corner * last), 1] for corner in np.ndindex(*(2,) * last.size)])
    apart_mm = np.linalg.norm(corners @ (prediction.affine - reference.affine).T, axis=1).max()
    if not apart_mm <= TOLERANCE_MM:
        raise InputError(f'{path} lies up to {apart_mm:.3g} mm off its reference (affines differ); resample it')


def _listed(names) -> str:
    names = list(map(str, names))
    return (', '.join(names[:8]) + (f', ... ({len(names)} in all)' if len(names) > 8 else '')) or 'none'


if __name__ == '__main__':
    _PREDICTIONS = flags.DEFINE_string('predictions', None, 'Folder of predicted label maps.')
    _REFERENCES = flags.DEFINE_string('references', None, 'Folder of reference label maps.')
    _OUTPUT = flags.DEFINE_string('output', None, 'Folder for cases.csv, summary.json and boxplots.png.')
    _PARTIAL = flags.DEFINE_bool('partial', False, 'Measure the cases that are predicted; references may be without.')
    command.run(main, required=('predictions', 'references', 'output'))
