"""What a segmenter achieves on the scans of one set: measures of every case, predictions and pictures."""

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
from synseg_jax.files import write_csv
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging import slices, volume
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.predict_scans import describe, predict
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.preparation.records import Manifest
from synseg_jax.reports import figures
from synseg_jax.runs import preserved

ROC_POINTS = 200  # of the curve over all scans of a set


@dataclass(frozen=True, eq=False)
class TestSet:
    """The labelled scans of a set and what segments them."""

    segmenter: Segmenter
    name: str
    sets: Mapping[str, Manifest]
    cases: Sequence[Mapping]  # as the manifest describes them
    pause: Callable[[], None] = lambda: None  # called before each scan: where it raises, measuring ends

    @property
    def entry(self) -> Mapping:
        return self.sets[self.name].sets[self.name]

    @property
    def classes(self) -> list[str]:
        """Those of the segmenter that the set's labels name, the background first."""
        own = self.segmenter.run.classes
        return [own[0], *(name for name in own[1:] if name in self.entry['labels'])]

    @property
    def lesions(self) -> list[str]:
        """The classes that are also counted lesion by lesion."""
        return [name for name in self.classes[1:] if name in self.segmenter.config.lesions]

    def predicted(self, path: Path) -> UInt8[np.ndarray, 'x y z']:
        """The classes of a label map that the segmenter wrote, as indices into `classes`."""
        own = self.segmenter.run.classes
        table = np.array([self.classes.index(name) if name in self.classes else 0 for name in own], np.uint8)
        return table[scan_file.read_labels(path).array]

    @property
    def paths(self) -> dict[str, Path]:
        return {case['id']: Path(case['image']) for case in self.cases}

    def scan(self, path: Path) -> Volume:
        """A scan of the set: from disk, or made from one on disk by the stage that made the set."""
        self.pause()
        return scan_file.read(path) if 'by' not in self.entry else self._made(path)

    def reference(self, case: Mapping) -> Volume:
        """The true class of every voxel, as an index into `classes`."""
        return label_maps.read(case['label'], case['image'], self.entry['labels'], self.classes)

    @cached_property
    def maker(self) -> Trained:
        """The generators that made the set."""
        return Trained(Run.load(self.segmenter.run.folder.parent / self.entry['by']))

    @cached_property
    def real(self) -> preserved.Histograms:
        """The intensities, by class, of the labelled real scans that the generators were trained on."""
        return preserved.real_histograms(
            self.sets, self.entry['domain'], self.classes, [text.partition(':')[0] for text in self.maker.config.sets.b]
        )

    @cached_property
    def _made(self):
        """Makes scans of the set, and remembers the last few."""
        maker = self.maker
        case_of = {Path(case['image']): case for case in self.cases}

        @lru_cache(maxsize=4)
        def made(path):
            mask = self.reference(case_of[path]).array > 0 if maker.config.label_channel else None
            scan = scan_file.read(path)
            return replace(scan, array=maker.synthesize(scan, self.entry['from'], mask).astype(np.float32))

        return made


def measure(tested: TestSet, folder: Path) -> dict:
    """{'cases': {case: {organ: {measure: value}}}} of a set; predictions, CSV and pictures in `folder`.

    Of two classes the AUC is measured too, and the ROC curve over all scans; of lesions, whether each is found, the
    Dice in patches about them and, of synthetic ones, how far their intensities lie from those of real ones: of every
    scan and, as 'pooled' {organ: {'kl_pooled': value}}, of all together.
    """
    segmenter, entry = tested.segmenter, tested.entry
    if 'by' in entry:
        tested = replace(tested, segmenter=segmenter.uncut())
    share = replace(tested, cases=processes.share(tested.cases))
    predictions = folder / 'predictions' / tested.name
    written = predict(tested.segmenter, share.paths, predictions, entry['domain'], share.scan)
    found = dict(ChainMap(*processes.all_gather(dict(_cases(share, written)), tested.name)))
    found = {case['id']: Case.of(*found[case['id']]) for case in tested.cases}
    measured = {name: of.measures for name, of in found.items()}
    if processes.is_first():
        describe(predictions, segmenter.run, entry['domain'], len(found))
        write_csv(folder / f'{tested.name}.csv', summary.rows(measured), summary.COLUMNS)
        _draw(folder, tested, measured, [of.shown for of in found.values()])
    ranked = [of.ranked for of in found.values() if of.ranked]
    told = {'roc': _curve(ranked)} if ranked else {}
    if shades := [of.shades for of in found.values() if of.shades]:
        synthetic = preserved.pooled(shades, tested.classes)
        divergences = preserved.divergences(synthetic, share.real, tested.lesions)
        told['pooled'] = {name: {lesions.KL_POOLED.name: value} for name, value in divergences.items()}
    return {'cases': measured, **told}


class Case(NamedTuple):
    """What is found of one scan."""

    measures: dict  # {organ: {measure: value}}
    shown: tuple[float | None, figures.Scan]  # its mean Dice, and the slice of it that tells most
    ranked: tuple[np.ndarray, np.ndarray] | None  # of two classes: the organ's probability, and whether it is there
    shades: preserved.Histograms  # of synthetic scans with lesions: the intensities of every class

    @classmethod
    def of(cls, measures: dict, shown: tuple, ranked: tuple | None, shades: dict) -> 'Case':
        """From the plain tuples that another process gave."""
        dice, scan = shown
        return cls(measures, (dice, figures.Scan(*scan)), ranked, shades)


def _cases(tested, written) -> Iterator[tuple[str, Case]]:
    """Every case's name and what is found of it."""
    made = 'by' in tested.entry and tested.lesions  # only then are labels of real scans opened
    for case in tested.cases:
        reference, prediction = tested.reference(case), tested.predicted(written[case['id']])
        scan = tested.scan(Path(case['image']))
        found = metrics.case_measures(prediction, reference.array, tested.classes, reference.spacing_mm)
        preserved.count(found, prediction, reference.array, tested.classes, tested.lesions)
        shades = preserved.histograms(scan, reference, case, tested.classes) if made else {}
        if made:
            preserved.compare(found, shades, tested.real, tested.lesions)
        ranked = _ranked(tested, scan, reference, found) if len(tested.segmenter.run.classes) == 2 else None
        upright = Upright.of(scan, reference.array, prediction, tested.segmenter.config.data.slice_axis)
        _in_patches(tested, upright, found)
        yield case['id'], Case(found, _outlined(tested, case, upright, found), ranked, shades)


class Upright(NamedTuple):
    """A scan as upright slices [n, rows, columns], with the true and the predicted class of every voxel."""

    image: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, scan: Volume, true: np.ndarray, predicted: np.ndarray, axis: str) -> 'Upright':
        volumes = [volume.canonical(replace(scan, array=array)) for array in (scan.array, true, predicted)]
        stacks = (slices.to_stack(one.array, axis) for one in volumes)
        return cls(*stacks, slices.stack_spacing(volumes[0].spacing_mm, axis))


def _in_patches(tested, upright, found) -> None:
    """Adds what is measured in patches about lesions, where the configuration asks for it."""
    side_mm = tested.segmenter.config.lesion_patch_mm
    for name in tested.lesions if side_mm else ():
        value = tested.classes.index(name)
        masks = upright.predicted == value, upright.true == value
        found[name] |= patches.patch_measures(*masks, upright.spacing_mm, side_mm)


def _ranked(tested, scan, reference, found) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the organ and whether it is there, voxel by voxel; adds the scan's AUC to what is found."""
    probability = tested.segmenter.probability(scan, tested.entry['domain'], 1).ravel()
    there = (reference.array == 1).ravel()
    found[tested.classes[1]] |= metric.measure(roc.METRICS, probability, there)
    return probability, there


def _curve(ranked) -> dict[str, list[float]]:
    """The ROC curve over the voxels of all scans."""
    fpr, tpr, _ = roc.roc_curve(*(np.concatenate(parts) for parts in zip(*ranked, strict=True)))
    at = np.concatenate([[0], np.geomspace(1e-5, 1, ROC_POINTS)])
    return {'fpr': at.tolist(), 'tpr': np.interp(at, fpr, tpr).tolist()}


def _outlined(tested, case, upright, found) -> tuple[float | None, figures.Scan]:
    """The mean Dice of a scan, and the slice of it that tells most."""
    at = figures.telling_slice(upright.true, 0)
    seen = Normalisation(case['low'], case['high']).apply(upright.image[at])
    dice = summary.organ_means({'': found}, 'dice').get('')
    title = f'{case["id"]}, Dice {dice:.2f}' if dice is not None else case['id']
    return dice, figures.Scan(title, seen, upright.true[at], upright.predicted[at], upright.spacing_mm[1:])


def _draw(folder, tested, measured, shown) -> None:
    """The scans from best to worst, and the best, median and worst of them."""
    scans = [scan for _, scan in sorted((pair for pair in shown if pair[0] is not None), key=lambda pair: -pair[0])]
    figures.overlays(folder / f'{tested.name}.png', scans, tested.classes)
    telling = figures.telling_cases(measured)
    best = [scan._replace(title=f'{words}: {scan.title}') for words, case in telling.items()
            for scan in scans if scan.title.startswith(f'{case}, ')]  # fmt: skip
    figures.overlays(folder / f'{tested.name}_cases.png', best, tested.classes)
