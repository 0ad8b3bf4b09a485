"""Evaluation of a segmenter on one test set: metrics of every case, predictions and pictures."""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from synseg_jax.devices import processes
from synseg_jax.evaluation import lesions, metric, metrics, patches, roc, summary
from synseg_jax.files import write_csv, write_json
from synseg_jax.formats import label_maps, scan_channels, scan_file
from synseg_jax.imaging import slices, volume
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.label_folder import DATASET
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.predict_scans import described, predict
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.preparation.records import Manifest
from synseg_jax.reports import figures
from synseg_jax.runs import preserved
from synseg_jax.specification.data import channels_in

ROC_POINTS = 200  # points of the ROC curve over all scans of a set


@dataclass(frozen=True, eq=False)
class TestSet:
    """The labelled test scans of a set, and the segmenter that is evaluated on them."""

    segmenter: Segmenter
    name: str
    sets: Mapping[str, Manifest]
    cases: Sequence[Mapping]  # entries of the manifest
    pause: Callable[[], None] = lambda: None  # called before each scan; may raise to end the evaluation

    @property
    def entry(self) -> Mapping:
        return self.sets[self.name].sets[self.name]

    @property
    def classes(self) -> list[str]:
        """The classes of the segmenter that the set has labels of, background first."""
        background, *organs = self.segmenter.run.classes
        return [background, *(name for name in organs if name in self.entry['labels'])]

    @property
    def lesions(self) -> list[str]:
        """The classes with lesion-wise metrics."""
        return [name for name in self.classes[1:] if name in self.segmenter.config.lesions]

    def predicted(self, path: Path) -> UInt8[np.ndarray, 'x y z']:
        """A predicted label map, converted to indices into `classes`."""
        names = self.segmenter.run.classes
        table = np.array([self.classes.index(name) if name in self.classes else 0 for name in names], np.uint8)
        return table[scan_file.read_labels(path).array]

    @property
    def paths(self) -> dict[str, Path]:
        return {case['id']: Path(case['image']) for case in self.cases}

    def scan(self, path: Path) -> Volume:
        """A scan of the set: read from disk or, in a set written by a stage, synthesized from the scan on disk."""
        self.pause()
        return self._read(path, self.entry['domain']) if 'by' not in self.entry else self._synthesized(path)

    def _read(self, path, domain) -> Volume:
        return scan_channels.read(path, channels_in(self.sets[self.name], domain))

    def reference(self, case: Mapping) -> Volume:
        """The reference label map, as indices into `classes`."""
        return label_maps.read(case['label'], case['image'], self.entry['labels'], self.classes)

    @cached_property
    def maker(self) -> Trained:
        """The generators of a set written by a stage."""
        return Trained(Run.load(self.segmenter.run.folder.parent / self.entry['by']))

    @cached_property
    def real(self) -> preserved.Histograms:
        """Intensity histograms, by class, of the labelled real scans that the generators were trained on."""
        return preserved.real_histograms(
            self.sets, self.entry['domain'], self.classes, [text.partition(':')[0] for text in self.maker.config.sets.b]
        )

    @cached_property
    def _synthesized(self):
        """Function from the path of a real scan to the synthetic one, caching the last few."""
        maker = self.maker
        case_of = {Path(case['image']): case for case in self.cases}

        @lru_cache(maxsize=4)
        def synthesized(path):
            mask = self.reference(case_of[path]).array > 0 if maker.config.label_channel else None
            scan = self._read(path, self.entry['from'])
            made = maker.synthesize_channels(scan, self.entry['from'], mask)
            first, *others = (replace(scan, array=array.astype(np.float32), others=()) for array in made)
            return replace(first, others=tuple(others))

        return synthesized


def measure(tested: TestSet, folder: Path) -> dict:
    """{'cases': {case: {organ: {metric: value}}}} of a set; writes predictions, CSV and pictures to `folder`.

    With two classes also the AUC, and as 'roc' the ROC curve over all scans.  For lesions also lesion-wise detection
    and the Dice in patches; for lesions in synthetic scans the KL divergence of their intensities from those in real
    scans, for each scan and, as 'pooled' {organ: {'kl_pooled': value}}, for all scans together.
    """
    segmenter, entry = tested.segmenter, tested.entry
    if 'by' in entry:
        tested = replace(tested, segmenter=segmenter.uncut())
    share = replace(tested, cases=processes.share(tested.cases))
    predictions = folder / 'predictions' / tested.name
    written = predict(tested.segmenter, share.paths, predictions, entry['domain'], share.scan)
    gathered = dict(ChainMap(*processes.all_gather(dict(_cases(share, written)), tested.name)))
    results = {case['id']: CaseResult.from_tuples(*gathered[case['id']]) for case in tested.cases}
    measured = {name: result.measures for name, result in results.items()}
    if processes.is_first():
        write_json(predictions / DATASET, described(tested.segmenter, entry['domain'], len(results)))
        write_csv(folder / f'{tested.name}.csv', summary.rows(measured), summary.COLUMNS)
        _draw(folder, tested, measured, [result.shown for result in results.values()])
    ranked = [result.ranked for result in results.values() if result.ranked]
    more = {'roc': _curve(ranked)} if ranked else {}
    if histograms := [result.histograms for result in results.values() if result.histograms]:
        synthetic = preserved.pooled(histograms, tested.classes)
        divergences = preserved.divergences(synthetic, share.real, tested.lesions)
        more['pooled'] = {name: {lesions.KL_POOLED.name: value} for name, value in divergences.items()}
    return {'cases': measured, **more}


class CaseResult(NamedTuple):
    """Metrics of one scan, and what pictures and curves over all scans need of it."""

    measures: dict  # {organ: {metric: value}}
    shown: tuple[float | None, figures.Panel]  # mean Dice, and the most informative slice
    ranked: tuple[np.ndarray, np.ndarray] | None  # with two classes: the organ's probability and presence per voxel
    histograms: preserved.Histograms  # intensities by class, of synthetic scans with lesions

    @classmethod
    def from_tuples(cls, measures: dict, shown: tuple, ranked: tuple | None, histograms: dict) -> 'CaseResult':
        """From plain tuples, as received from another process."""
        dice, panel = shown
        return cls(measures, (dice, figures.Panel(*panel)), ranked, histograms)


def _cases(tested, written) -> Iterator[tuple[str, CaseResult]]:
    """(case, result) of every case."""
    compares = 'by' in tested.entry and tested.lesions  # only then are labels of real scans read
    for case in tested.cases:
        reference, prediction = tested.reference(case), tested.predicted(written[case['id']])
        scan = tested.scan(Path(case['image']))
        measures = metrics.case_measures(prediction, reference.array, tested.classes, reference.spacing_mm)
        preserved.count(measures, prediction, reference.array, tested.classes, tested.lesions)
        histograms = preserved.histograms(scan, reference, case, tested.classes) if compares else {}
        if compares:
            preserved.compare(measures, histograms, tested.real, tested.lesions)
        ranked = _ranked(tested, scan, reference, measures) if len(tested.segmenter.run.classes) == 2 else None
        upright = Upright.of(scan, reference.array, prediction, tested.segmenter.config.data.slice_axis)
        _in_patches(tested, upright, measures)
        yield case['id'], CaseResult(measures, _panel(tested, case, upright, measures), ranked, histograms)


class Upright(NamedTuple):
    """A scan with reference and predicted labels, as slices [n, rows, columns] in display orientation."""

    image: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, scan: Volume, true: np.ndarray, predicted: np.ndarray, axis: str) -> 'Upright':
        volumes = [volume.canonical(replace(scan, array=array, others=())) for array in (scan.array, true, predicted)]
        stacks = (slices.to_stack(oriented.array, axis) for oriented in volumes)
        return cls(*stacks, slices.stack_spacing(volumes[0].spacing_mm, axis))


def _in_patches(tested, upright, measures) -> None:
    """Add metrics in patches around lesions, if `lesion_patch_mm` is set."""
    side_mm = tested.segmenter.config.lesion_patch_mm
    for name in tested.lesions if side_mm else ():
        value = tested.classes.index(name)
        masks = upright.predicted == value, upright.true == value
        measures[name] |= patches.patch_measures(*masks, upright.spacing_mm, side_mm)


def _ranked(tested, scan, reference, measures) -> tuple[np.ndarray, np.ndarray]:
    """(probability of the organ, whether it is present) for every voxel; adds the scan's AUC to `measures`."""
    probability = tested.segmenter.probability(scan, tested.entry['domain'], 1).ravel()
    present = (reference.array == 1).ravel()
    measures[tested.classes[1]] |= metric.measure(roc.METRICS, probability, present)
    return probability, present


def _curve(ranked) -> dict[str, list[float]]:
    """The ROC curve over the voxels of all scans."""
    fpr, tpr, _ = roc.roc_curve(*(np.concatenate(parts) for parts in zip(*ranked, strict=True)))
    sampled = np.concatenate([[0], np.geomspace(1e-5, 1, ROC_POINTS)])
    return {'fpr': sampled.tolist(), 'tpr': np.interp(sampled, fpr, tpr).tolist()}


def _panel(tested, case, upright, measures) -> tuple[float | None, figures.Panel]:
    """(mean Dice, panel of the most informative slice) of a scan."""
    index = figures.telling_slice(upright.true, 0)
    image = Normalisation(case['low'], case['high']).apply(upright.image[index])
    dice = summary.organ_means({'': measures}, 'dice').get('')
    note = f'Dice {dice:.2f}' if dice is not None else ''
    labels, sides = (
        (upright.true[index], upright.predicted[index]),
        slices.SIDES[tested.segmenter.config.data.slice_axis],
    )
    return dice, figures.Panel(case['id'], image, *labels, upright.spacing_mm[1:], note, sides)


def _draw(folder, tested, measured, shown) -> None:
    """Draw all scans in order of their Dice, the worst first, and the worst, median and best ones."""
    panels = [panel for _, panel in sorted((pair for pair in shown if pair[0] is not None), key=lambda pair: pair[0])]
    figures.overlays(folder / f'{tested.name}.png', panels, tested.classes)
    selected = [panel._replace(note=f'{words}, {panel.note}')
                for words, case in figures.telling_cases(measured).items()
                for panel in panels if panel.title == case]  # fmt: skip
    figures.overlays(folder / f'{tested.name}_cases.png', selected, tested.classes)
