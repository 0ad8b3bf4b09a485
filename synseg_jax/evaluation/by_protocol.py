"""Measures by further protocols, from the predictions that a workdir stores: nothing is predicted again."""

import math
from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from synseg_jax.datasets.dataset_json import JSON, class_values
from synseg_jax.devices import processes
from synseg_jax.errors import InputError, warn
from synseg_jax.evaluation import metrics, protocols
from synseg_jax.evaluation.protocols import NATIVE, Protocol
from synseg_jax.evaluation.summary import Case
from synseg_jax.files.scan_errors import reading_scan
from synseg_jax.formats import label_maps, scan_file

Cases = dict[str, Case]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The stored predictions of a test set, and the set's entry in its manifest."""

    folder: Path  # label maps and dataset.json
    entry: Mapping
    cases: Sequence[Mapping]  # entries of the scans that were tested

    def scored(self, protocol: Protocol) -> list[Mapping]:
        """The cases that the protocol scores; InputError if there are none."""
        scored = {*protocol.scored([case['id'] for case in self.cases], self.entry['channel'])}
        return [case for case in self.cases if case['id'] in scored]

    def measure(self, protocol: Protocol, cases: Sequence[Mapping], native: Cases) -> Cases | None:
        """Metrics of the cases; None if these are not the predictions that `native` is of."""
        found = {case['id']: self._measure(protocol, case, native[case['id']]) for case in processes.share(cases)}
        gathered = ChainMap(*processes.all_gather(found, f'{self.folder.name}.{protocol.name}'))
        measured = {case['id']: gathered[case['id']] for case in cases}
        return measured if all(measured.values()) else None

    def _measure(self, protocol, case, native) -> Case:
        """Metrics of a case; {} where its prediction is missing or another one."""
        path = self.folder / f'{case["id"]}.nii.gz'
        if not (path.is_file() and (self.folder / JSON).is_file()):
            return {}
        with reading_scan(Path(case['label'])):
            reference = label_maps.read(case['label'], case['image'], self.entry['labels'], self.classes)
        stored = scan_file.read_labels(path).array
        if stored.shape != reference.array.shape or stored.max(initial=0) >= len(self._index):
            return {}
        prediction = self._index[stored]
        if _dice(prediction, reference.array, self.classes) != {name: of['dice'] for name, of in native.items()}:
            return {}
        shown = protocols.organs({name: {value} for value, name in enumerate(self.classes) if value})
        predicted, true, spacing_mm = protocol.grid(prediction, reference, shown)
        return metrics.case_measures(predicted, true, self.classes, spacing_mm)

    @cached_property
    def _named(self) -> list[str]:
        """The classes of the predictions, background first."""
        return [*class_values(self.folder / JSON)]

    @cached_property
    def classes(self) -> list[str]:
        """Those of them that the set has labels of, background first."""
        return [self._named[0], *(name for name in self._named[1:] if name in self.entry['labels'])]

    @cached_property
    def _index(self) -> np.ndarray:
        return np.array([self.classes.index(name) if name in self.classes else 0 for name in self._named], np.uint8)


def measure(
    names: Collection[str], predictions: Predictions, native: Cases, known: Mapping[str, Cases] | None = None
) -> dict[str, dict[str, Cases]] | None:
    """The field `protocols` of measures.json, {protocol: cases}, without the native one; {} if there are none.

    `known` are cases that are not measured again.  None if the predictions are not those of `native`.  A protocol that
    scores none of the cases is left out, with a warning.
    """
    found = {name: cases for name, cases in (known or {}).items() if name in names}
    for protocol in (protocols.named(name) for name in names if name != NATIVE and name not in found):
        try:
            cases = predictions.scored(protocol)
        except InputError as error:
            warn('%s: %s', predictions.folder.name, error)
            continue
        if (measured := predictions.measure(protocol, cases, native)) is None:
            return None
        found[protocol.name] = measured
    return {'protocols': found} if found else {}


def resume(before: Mapping, key: str, predictions: Predictions, names: Collection[str]) -> dict:
    """The earlier measures of a set, with those by the protocols `names`; {} if it must be predicted first.

    `before` are its fields in measures.json, of which `key` must be that of now.
    """
    if before.get('key') != key:
        return {}
    native = {name: value for name, value in before.items() if name != 'protocols'}
    further = measure(names, predictions, native['cases'], before.get('protocols'))
    return {} if further is None else native | further


def by_system(results: Mapping[str, Mapping]) -> dict[str, dict]:
    """{protocol: {system: {set: summary}}} of the results of several systems."""
    found: dict[str, dict] = {}
    for system, of in results.items():
        for protocol, measured in of.get('protocols', {}).items():
            found.setdefault(protocol, {})[system] = measured['sets']
    return found


def _dice(prediction, reference, classes) -> dict[str, float | None]:
    values = {name: metrics.dice(prediction == i, reference == i) for i, name in enumerate(classes) if i}
    return {name: None if math.isnan(value) else float(value) for name, value in values.items()}
