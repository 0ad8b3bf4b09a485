"""Folders of predicted label maps against folders of references: matched by case, measured class by class."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from synseg_jax.datasets import class_names
from synseg_jax.datasets.dataset_json import JSON, class_values
from synseg_jax.errors import InputError, warn
from synseg_jax.evaluation import metrics, summary
from synseg_jax.files.capture_warnings import capture_warnings
from synseg_jax.formats import names, scan_file, slicer
from synseg_jax.formats.grid import TOLERANCE_MM, label_values
from synseg_jax.formats.label_maps import Values, as_tuple
from synseg_jax.imaging import volume
from synseg_jax.imaging.volume import Volume

MOST_LABELS = 255  # that label maps without names may have
IGNORE = 255  # what many sets mark voxels with that nobody labelled
PARTS = ('labelsTs', 'labelsTr')  # of an nnU-Net dataset, by which of its images are predicted


def evaluate_folder(
    predictions: str | Path, references: str | Path, labels: Values | None = None, *, partial: bool = False
) -> tuple[dict, dict]:
    """Measures of every case of two folders, and their summary; see `evaluate_pairs`.

    `labels` names the references' values, in place of a `dataset.json`.  A reference without prediction is an
    InputError unless `partial`.
    """
    predictions, references = Path(predictions), Path(references)
    references = next((references / part for part in PARTS if (references / part).is_dir()), references)
    pairs = match(predictions, references, partial=partial)
    predicted, referred = _tables(predictions, references, labels, pairs)
    if not predicted and not referred:
        return _evaluate_nameless(pairs)
    if bool(predicted) != bool(referred):
        nameless, named = (predictions, references) if referred else (references, predictions)
        warn('%s: nothing names its labels, so those of %s are taken for it', nameless, named)
    return evaluate_pairs(pairs, predicted or referred, referred or predicted)


def _tables(predictions, references, labels, pairs) -> tuple[Values, Values]:
    """The values of the classes of either side, empty where nothing names them."""
    ours, theirs = (slicer.common_values(pair[side] for pair in pairs.values()) for side in (0, 1))
    return _named([predictions]) or ours, labels or _named([references, references.parent]) or theirs


def _evaluate_nameless(pairs) -> tuple[dict, dict]:
    """As `evaluate_pairs`, of the values that occur, under their numbers; 1 where there are none.

    255 in references alone, beside other values, is taken for 'ignore': what is predicted there is not measured.
    """
    with capture_warnings():  # whoever measures the files says it again
        ours, theirs = (_occurring([pair[side] for pair in pairs.values()]) for side in (0, 1))
    ignored = {IGNORE} if IGNORE in theirs.keys() - ours.keys() and len(theirs) > 1 else set()
    if IGNORE in theirs:
        told = 'what is predicted there is not measured' if ignored else 'here measured as a class'
        warn("%s: holds %d, probably 'ignore': %s; --labels names it", theirs[IGNORE], IGNORE, told)
    values = {str(value): value for value in sorted(ours.keys() | theirs.keys() - ignored) or [1]}
    return evaluate_pairs(pairs, values, values, ignored)


def _occurring(paths: Sequence[Path]) -> dict[int, Path]:
    """{value: the first file that has it} of label maps but 0; InputError for more values than label maps have."""
    found: dict[int, Path] = {}
    for path in paths:
        found = dict.fromkeys(label_values(scan_file.read_labels(path).array), path) | found
        if len(found) > MOST_LABELS + 1:
            raise InputError(f'{path}: more than {MOST_LABELS} values with those before it; is it a label map?')
    return {value: path for value, path in found.items() if value}


def evaluate_pairs(
    pairs: Mapping[str, tuple[str | Path, str | Path]],
    predicted: Values,
    referred: Values,
    ignored: Set[int] = frozenset(),
) -> tuple[dict, dict]:
    """Measures `{case: {class: {measure: value or None}}}` of (prediction, reference) files, and their summary.

    `predicted` and `referred` are the values of the classes on either side; a class that one side lacks, or whose
    values hold 0, is not measured, nor are voxels where a reference has one of the values `ignored`.  Labels that no
    name covers and pairs on different grids are InputErrors.
    """
    ours, theirs = _organs(predicted), _organs(referred)
    measured = {ours[key][0]: (ours[key][1], theirs[key][1]) for key in ours if key in theirs}
    if not measured:
        raise InputError(f'no class in common: {_listed(predicted)} against {_listed(referred)}; name them alike')
    if left_out := sorted((ours | theirs)[key][0] for key in ours.keys() ^ theirs.keys()):
        warn('named on one side only, not measured: %s', _listed(left_out))
    cases = {case: _measures(paths, (predicted, referred), measured, ignored) for case, paths in pairs.items()}
    return cases, summary.summarise(cases)


def _measures(paths, tables, measured, ignored) -> dict:
    """The measures of one case, each class on its own, for nnU-Net's regions overlap."""
    prediction, reference = maps = _upright(paths)
    _check_grid(paths[0], *maps)
    unknown = np.isin(reference.array, [*ignored]) if ignored else None
    arrays = [one.array if unknown is None else np.where(unknown, 0, one.array) for one in maps]
    for path, array, values in zip(paths, arrays, tables, strict=True):
        _check_values(path, array, values)
    found = {}
    for name, values in measured.items():
        masks = (_mask(array, own) for array, own in zip(arrays, values, strict=True))
        found |= metrics.case_measures(*masks, ['', name], reference.spacing_mm)
    return found


def _upright(paths) -> tuple[Volume, Volume]:
    """Both label maps in canonical axes, for the same grid may be stored from its other end.

    A segmentation of 3D Slicer, cut to its smallest box, lies on the other's grid.
    """
    ours, theirs = (volume.canonical(scan_file.read_labels(path)) for path in paths)
    if slicer.is_segmentation(Path(paths[0])):
        ours = slicer.uncrop(ours, theirs)
    if slicer.is_segmentation(Path(paths[1])):
        theirs = slicer.uncrop(theirs, ours)
    return ours, theirs


def match(predictions: str | Path, references: str | Path, *, partial: bool = False) -> dict[str, tuple[Path, Path]]:
    """Pairs `{case: (prediction, reference)}` of the files of the same case, by name in its order; see `data.names`."""
    predicted, referred = _label_maps(predictions), _label_maps(references)
    predicted, referred = names.match_cases(predicted, referred), names.match_cases(referred, predicted)
    both = sorted(predicted.keys() & referred.keys())
    missing, extra = sorted(referred.keys() - predicted.keys()), sorted(predicted.keys() - referred.keys())
    if not both:
        ours, theirs = _listed(sorted(predicted)), _listed(sorted(referred))
        raise InputError(f'no case in common: {predictions} has {ours}; {references} has {theirs}')
    if missing and not partial:
        raise InputError(f'no prediction in {predictions} for {_listed(missing)}; predict them or pass --partial')
    for words, cases in (('prediction', missing), ('reference', extra)):
        if cases:
            warn('not measured, no %s for: %s', words, _listed(cases))
    return {case: (predicted[case], referred[case]) for case in both}


def _label_maps(folder: str | Path) -> dict[str, Path]:
    if not Path(folder).is_dir():
        raise InputError(f'{folder} is not a folder')
    return scan_file.list_scans(Path(folder))


def _named(folders: Sequence[Path]) -> Values:
    """The values of the classes by the first `dataset.json` in these folders; empty without one."""
    path = next((path for folder in folders if (path := folder / JSON).is_file()), None)
    return class_values(path) if path else {}


def _organs(values: Values) -> dict[str, tuple[str, Set[int]]]:
    """{name as it is compared: (name, values)} of the classes but the background, in the order of their values."""
    for name, own in values.items():
        if words := [one for one in as_tuple(own) if not isinstance(one, int)]:
            raise InputError(f'class {name} has {words[0]!r}, which is no number, as label maps hold; give numbers')
    order = sorted(values, key=lambda name: as_tuple(values[name]))
    own = {name: set(as_tuple(values[name])) for name in order}
    return {class_names.normalised(name): (name, own[name]) for name in order if 0 not in own[name]}


def _check_values(path, labels: Integer[np.ndarray, '*space'], values: Values) -> None:
    if unknown := sorted(set(label_values(labels)) - {0, *(one for own in values.values() for one in as_tuple(own))}):
        told = ', '.join(f'{name} {"+".join(map(str, as_tuple(own)))}' for name, own in values.items())
        hint = f"; {IGNORE} is often 'ignore', which background:0+{IGNORE} leaves out" if IGNORE in unknown else ''
        raise InputError(f'{path} has labels {_listed(unknown)} beside {told}; name them in {JSON} or --labels{hint}')


def _mask(labels: Integer[np.ndarray, '*space'], values: Set[int]) -> UInt8[np.ndarray, '*space']:
    """1 where any of the values is."""
    lookup = np.zeros(int(labels.max(initial=0)) + 1, np.uint8)
    lookup[[value for value in values if value < len(lookup)]] = 1
    return lookup[labels]


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
