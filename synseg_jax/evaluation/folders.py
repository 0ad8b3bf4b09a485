"""Evaluation of a folder of predicted label maps against a folder of references, case by case and class by class."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from synseg_jax.datasets import class_names
from synseg_jax.datasets.dataset_json import JSON, channel_names, class_values, content
from synseg_jax.errors import InputError, warn
from synseg_jax.evaluation import metrics, protocols, summary
from synseg_jax.evaluation.protocols import NATIVE, PROTOCOLS, Protocol
from synseg_jax.files.capture_warnings import capture_warnings
from synseg_jax.formats import names, scan_file, slicer
from synseg_jax.formats.grid import TOLERANCE_MM, label_values
from synseg_jax.formats.label_maps import Values, as_tuple
from synseg_jax.imaging import volume
from synseg_jax.imaging.volume import Volume

MOST_LABELS = 255  # in label maps without class names
IGNORE = 255  # voxels that were not annotated, in many datasets
PARTS = ('labelsTs', 'labelsTr')  # folders of reference labels in an nnU-Net dataset, the test set first


def evaluate_folder(
    predictions: str | Path,
    references: str | Path,
    labels: Values | None = None,
    *,
    partial: bool = False,
    protocol: str = NATIVE,
) -> tuple[dict, dict]:
    """Metrics of every case in two folders that the protocol scores, and their summary; see `evaluate_pairs`.

    `labels` gives the label values of the references where no `dataset.json` does.  A reference without prediction is
    an InputError unless `partial`.
    """
    predictions, references = Path(predictions), Path(references)
    references = next((references / part for part in PARTS if (references / part).is_dir()), references)
    rule = protocols.named(protocol)
    channel = _channel([predictions, references, references.parent]) if rule.subjects else ''
    pairs = match(predictions, references, partial=partial, scored=lambda cases: rule.scored(cases, channel))
    predicted, referred = _tables(predictions, references, labels, pairs)
    if not predicted and not referred:
        return _evaluate_nameless(pairs, rule)
    if bool(predicted) != bool(referred):
        nameless, named = (predictions, references) if referred else (references, predictions)
        warn('%s: its labels have no names; those of %s are used', nameless, named)
    return evaluate_pairs(pairs, predicted or referred, referred or predicted, protocol=rule)


def _tables(predictions, references, labels, pairs) -> tuple[Values, Values]:
    """Class names and label values of predictions and references, empty where none are given."""
    ours, theirs = (slicer.common_values(pair[side] for pair in pairs.values()) for side in (0, 1))
    return _named([predictions]) or ours, labels or _named([references, references.parent]) or theirs


def _evaluate_nameless(pairs, protocol) -> tuple[dict, dict]:
    """`evaluate_pairs` with every label value that occurs as a class named by its number; value 1 if none occurs.

    255 among other values, and in references only, is taken for 'ignore': these voxels are excluded.
    """
    with capture_warnings():  # whoever measures the files says it again
        ours, theirs = (_occurring([pair[side] for pair in pairs.values()]) for side in (0, 1))
    ignored = {IGNORE} if IGNORE in theirs.keys() - ours.keys() and len(theirs) > 1 else set()
    if IGNORE in theirs:
        told = 'these voxels are excluded' if ignored else 'evaluated as a class here'
        warn("%s: holds %d, probably 'ignore': %s; --labels names it", theirs[IGNORE], IGNORE, told)
    values = {str(value): value for value in sorted(ours.keys() | theirs.keys() - ignored) or [1]}
    return evaluate_pairs(pairs, values, values, ignored, protocol)


def _occurring(paths: Sequence[Path]) -> dict[int, Path]:
    """{non-zero label value: the first file that has it}; InputError for more than `MOST_LABELS` values."""
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
    protocol: Protocol = PROTOCOLS[NATIVE],
) -> tuple[dict, dict]:
    """Metrics `{case: {class: {metric: value or None}}}` of (prediction, reference) files, and their summary.

    `predicted` and `referred` map class names to label values.  Classes that only one of them has, and those that
    include the value 0, are not evaluated; voxels where the reference has one of the values `ignored` are excluded.
    `protocol` says which slices are compared, and on which grid.
    InputError for label values without a name and for pairs on different grids.
    """
    ours, theirs = _organs(predicted), _organs(referred)
    measured = {ours[key][0]: (ours[key][1], theirs[key][1]) for key in ours if key in theirs}
    if not measured:
        raise InputError(f'no class in common: {_listed(predicted)} against {_listed(referred)}; name them alike')
    if left_out := sorted((ours | theirs)[key][0] for key in ours.keys() ^ theirs.keys()):
        warn('classes of only one side, not evaluated: %s', _listed(left_out))
    tables = predicted, referred
    cases = {case: _measures(paths, tables, measured, ignored, protocol) for case, paths in pairs.items()}
    return cases, summary.summarise(cases)


def _measures(paths, tables, measured, ignored, protocol) -> dict:
    """The metrics of one case, class by class, as the regions of nnU-Net overlap."""
    prediction, reference = maps = _upright(paths)
    _check_grid(paths[0], *maps)
    unknown = np.isin(reference.array, [*ignored]) if ignored else None
    arrays = [one.array if unknown is None else np.where(unknown, 0, one.array) for one in maps]
    for path, array, values in zip(paths, arrays, tables, strict=True):
        _check_values(path, array, values)
    shown = protocols.organs({name: own for name, (_, own) in measured.items()})
    *arrays, spacing_mm = protocol.grid(arrays[0], replace(reference, array=arrays[1]), shown)
    found = {}
    for name, values in measured.items():
        masks = (_mask(array, own) for array, own in zip(arrays, values, strict=True))
        found |= metrics.case_measures(*masks, ['', name], spacing_mm)
    return found


def _upright(paths) -> tuple[Volume, Volume]:
    """Both label maps in canonical orientation, as files may store the axes of one grid in either direction.

    Segmentations of 3D Slicer are cropped to their bounding box: they are padded to the grid of the other map.
    """
    ours, theirs = (volume.canonical(scan_file.read_labels(path)) for path in paths)
    if slicer.is_segmentation(Path(paths[0])):
        ours = slicer.uncrop(ours, theirs)
    if slicer.is_segmentation(Path(paths[1])):
        theirs = slicer.uncrop(theirs, ours)
    return ours, theirs


def match(
    predictions: str | Path,
    references: str | Path,
    *,
    partial: bool = False,
    scored: Callable[[Iterable[str]], Collection[str]] = list,
) -> dict[str, tuple[Path, Path]]:
    """`{case: (prediction, reference)}` of the files of the same case, sorted by name; see `formats.names`.

    `scored` picks the cases of the references that count; others are left out without a word.
    """
    predicted, referred = _label_maps(predictions), _label_maps(references)
    predicted, referred = names.match_cases(predicted, referred), names.match_cases(referred, predicted)
    wanted = {*scored(referred)}
    predicted = {case: path for case, path in predicted.items() if case in wanted or case not in referred}
    referred = {case: path for case, path in referred.items() if case in wanted}
    both = sorted(predicted.keys() & referred.keys())
    missing, extra = sorted(referred.keys() - predicted.keys()), sorted(predicted.keys() - referred.keys())
    if not both:
        ours, theirs = _listed(sorted(predicted)), _listed(sorted(referred))
        raise InputError(f'no case in common: {predictions} has {ours}; {references} has {theirs}')
    if missing and not partial:
        raise InputError(f'no prediction in {predictions} for {_listed(missing)}; predict them or pass --partial')
    for words, cases in (('prediction', missing), ('reference', extra)):
        if cases:
            warn('not evaluated, no %s for: %s', words, _listed(cases))
    return {case: (predicted[case], referred[case]) for case in both}


def _label_maps(folder: str | Path) -> dict[str, Path]:
    if not Path(folder).is_dir():
        raise InputError(f'{folder} is not a folder')
    return scan_file.list_scans(Path(folder))


def _named(folders: Sequence[Path]) -> Values:
    """Class names and label values from the first `dataset.json` in these folders; empty without one."""
    path = next((path for folder in folders if (path := folder / JSON).is_file()), None)
    return class_values(path) if path else {}


def _channel(folders: Sequence[Path]) -> str:
    """The channel that the first `dataset.json` in these folders names; '' where none does."""
    paths = [path for folder in folders if (path := folder / JSON).is_file()]
    naming = (path for path in paths if {'channel_names', 'modality'} & content(path).keys())
    return next((channel_names(path)[0] for path in naming), '')


def _organs(values: Values) -> dict[str, tuple[str, Set[int]]]:
    """{normalised name: (name, label values)} of all classes but the background, by rising value."""
    for name, own in values.items():
        if words := [one for one in as_tuple(own) if not isinstance(one, int)]:
            raise InputError(f'class {name} has {words[0]!r}, which is not a number; give the values of label maps')
    order = sorted(values, key=lambda name: as_tuple(values[name]))
    own = {name: set(as_tuple(values[name])) for name in order}
    return {class_names.normalised(name): (name, own[name]) for name in order if 0 not in own[name]}


def _check_values(path, labels: Integer[np.ndarray, '*space'], values: Values) -> None:
    if unknown := sorted(set(label_values(labels)) - {0, *(one for own in values.values() for one in as_tuple(own))}):
        told = ', '.join(f'{name} {"+".join(map(str, as_tuple(own)))}' for name, own in values.items())
        hint = f"; {IGNORE} is often 'ignore', which background:0+{IGNORE} leaves out" if IGNORE in unknown else ''
        raise InputError(f'{path} has labels {_listed(unknown)} beside {told}; name them in {JSON} or --labels{hint}')


def _mask(labels: Integer[np.ndarray, '*space'], values: Set[int]) -> UInt8[np.ndarray, '*space']:
    """1 where a label has any of the values."""
    lookup = np.zeros(int(labels.max(initial=0)) + 1, np.uint8)
    lookup[[value for value in values if value < len(lookup)]] = 1
    return lookup[labels]


def _check_grid(path, prediction, reference) -> None:
    """InputError if the grids differ in shape, or by more than `TOLERANCE_MM` at a corner."""
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
