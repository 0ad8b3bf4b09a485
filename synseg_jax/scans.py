"""Trained networks on whole scans: labels on a scan's own grid, and synthetic scans in the other modality."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped
from ml_collections import ConfigDict

from synseg_jax import log, schema
from synseg_jax.data import intensity, slices
from synseg_jax.data.frames import Frame
from synseg_jax.data.tiles import WINDOWS, about_middle
from synseg_jax.data.volume import Volume
from synseg_jax.errors import InputError, known
from synseg_jax.files import read_json, write_json
from synseg_jax.run_file import RUN
from synseg_jax.stage_schema import RunFile, StageFile
from synseg_jax.stages import Stage
from synseg_jax.training import parallel
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.inference import Networks
from synseg_jax.training.system import System, system_of, trained_params

STAGE = 'stage.json'  # what a trained stage says of itself
CHECKPOINTS = 'checkpoints'  # a stage's folder of them
UNFINISHED = 'Use the best checkpoint so far of a system that is not trained to its end.'  # the flag --unfinished
DAMAGED = 'copy the workdir again, or train again'  # what to do about such a file
FLIPS = ('', 'lr')  # what predict.flips may be
LATER = {'flips': '', 'components': '', 'window': 'tiles'}  # fields of predict that the stages of earlier versions lack


@dataclass(frozen=True)
class Run:
    """A trained stage: its folder, its configuration, and what its records were made of."""

    folder: Path
    config: ConfigDict
    classes: tuple[str, ...]
    channels: Mapping[str, str]  # by domain, e.g. {'a': 'MR', 'b': 'CT'}
    typical: Mapping[str, tuple[float, float]]  # by domain: median low and high of the scans

    def save(self) -> None:
        """Writes stage.json, whole or not at all."""
        content = {
            'config': json.loads(self.config.to_json_best_effort()),
            'classes': self.classes,
            'channels': dict(self.channels),
            'typical': dict(self.typical),
        }
        write_json(self.folder / STAGE, content)

    @classmethod
    def load(cls, folder: str | Path) -> 'Run':
        """What a stage's folder says; InputError where it says nothing."""
        path = Path(folder) / STAGE
        read = _content(path)
        content = schema.conform(read, StageFile, str(path), DAMAGED)
        try:
            config = ConfigDict(read['config'])  # of lists: it takes no tuple twice
        except ValueError as error:  # of names with dots
            raise InputError(f'{path}: {error}; {DAMAGED}') from error
        config.predict.update({field: value for field, value in LATER.items() if field not in config.predict})
        return cls(Path(folder), config, content['classes'], content['channels'], content['typical'])

    @classmethod
    def of(cls, stage: Stage, folder: Path) -> 'Run':
        """What a stage says of itself."""
        channels, typical = {}, {}
        for manifest in {id(m): m for m in stage.sets.values()}.values():
            for entry in manifest.sets.values():
                cases = [case for role in entry['roles'].values() for case in role['cases']]
                channels.setdefault(entry['domain'], entry['channel'])
                middle = tuple(float(np.median([case[bound] for case in cases])) for bound in ('low', 'high'))
                typical.setdefault(entry['domain'], middle)
        return cls(folder, stage.config, stage.manifest.classes, channels, typical)

    def frame(self, scan: Volume, domain: str, size: tuple[int, ...], spacing_mm: float) -> Frame:
        """The scan in [0, 1], as far as it is looked at."""
        data = self.config.data
        channel = self.channels[known('domain', domain, self.channels)]
        share = data.target_center if domain == 'b' else 1.0
        window = intensity.for_channel(channel, scan.array, tuple(data.window_hu), tuple(data.percentiles))
        return Frame.of(scan, window, data.slice_axis, size, share, spacing_mm)

    @property
    def system(self) -> System:
        """The networks that were trained; InputError where stage.json describes none."""
        try:
            found = system_of(self.config, self.classes)
            _ = found.networks, found.optimizers, found.choices  # made here, where errors are expected
        except InputError as error:
            raise InputError(f'{self.folder / STAGE}: {error}; {DAMAGED}') from error
        return found


def _content(path):
    if not path.is_file():
        raise InputError(f'{path}: no such file; --workdir is the folder that synseg_jax.main trained in')
    return read_json(path, DAMAGED)


def _with_finite_weights(params, run):
    """`params`, unless one of them is NaN or infinite: such networks find nothing, anywhere."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            name = jax.tree_util.keystr(path, simple=True, separator='.')
            raise InputError(f'{run.folder}: weights {name} are NaN or infinite; train again with lower rates')
    return params


def find(
    workdir: str | Path, system: str = '', network: str = 's', stage: str = '', unfinished: bool = False
) -> 'Segmenter':
    """The last stage of a system of the workdir, its chosen one unless named, that trained a network of this kind.

    `network` is the first letter of its name, '' for any; `stage` a stage by name, not the last one.  Of a system that
    is still in training, the best checkpoint so far if `unfinished`, else InputError.
    """
    workdir = Path(workdir)
    content = schema.conform(_content(workdir / RUN), RunFile, str(workdir / RUN), DAMAGED)
    system = known('system', system or content['config']['chosen'], content['config']['systems'])
    begun = [folder for folder in content.get('begun', {}).get(system, ()) if _saved(workdir / folder)]
    folders = begun or content['systems'].get(system)
    if not folders:
        raise InputError(f'{workdir}: {system} is not trained yet; run synseg_jax.main')
    if begun and not unfinished:
        place = workdir / begun[-1]
        raise InputError(
            f'{workdir}: {system} is unfinished, at step {_saved(place)[-1]} of {place.name}; --unfinished uses its '
            'best checkpoint so far, synseg_jax.main trains on'
        )
    by_name = {Path(folder).name.rpartition('-')[0]: folder for folder in folders}
    named = [by_name[known(f'trained stage of {system}', stage, by_name)]] if stage else folders
    found = _last([workdir / folder for folder in named], system, network, bool(begun))
    if begun and isinstance(found, Trained):
        log.warning('%s is unfinished: uses step %d of %s, its best so far', system, found.step, found.run.folder)
    return found


def _last(folders, system, network, begun) -> 'Segmenter':
    """The last of a system's stages with a network of this kind."""
    for run in map(Run.load, reversed(folders)):
        if run.config.do == 'atlases':
            if network == 's':
                from synseg_jax.atlases import Atlases  # which is built on this file

                return Atlases(run)
        elif any(name.startswith(network) for name in run.system.networks):
            return Trained(run)
    kind = {'s': 'segmentor', 'g': 'generator', '': 'network'}[network]
    remedy = ' yet; let synseg_jax.main train on' if begun else '; choose another --system'
    raise InputError(f'system {system} trains no {kind}{remedy}')


def _saved(folder: Path) -> list[int]:
    """The steps of a stage's checkpoints; 0 of atlases, which have none."""
    if not (folder / STAGE).is_file():
        return []
    if not (folder / CHECKPOINTS).is_dir():
        return [0] if Run.load(folder).config.do == 'atlases' else []
    return Checkpoints(folder / CHECKPOINTS, alone=True).steps()


def _finite(found, what) -> np.ndarray:
    """What networks return; InputError where it holds no numbers."""
    if not np.isfinite(found).all():
        raise InputError(f'the networks find {what} that are NaN or infinite; train again, or choose another --system')
    return found


@runtime_checkable
class Segmenter(Protocol):
    """A stage that segments whole scans: trained networks, or atlases."""

    run: Run
    config: ConfigDict
    arrays: Collection[str]  # of a batch, that it learnt from
    translates: bool  # whether it makes scans of domain b out of those of a

    def segments(self, domain: str) -> bool: ...
    def uncut(self) -> 'Segmenter': ...
    def segment(self, scan: Volume, domain: str) -> np.ndarray: ...
    def probability(self, scan: Volume, domain: str, label: int) -> np.ndarray: ...


class Trained:
    """A trained stage, applied to scans."""

    def __init__(self, run: Run, params=None):
        """The best checkpoint of the stage, unless `params` are given."""
        self.run, self.config, system = run, run.config, run.system
        self.step: int | None = None  # of the checkpoint
        if params is None:
            like = system.abstract_state(parallel.own_device())
            best = Checkpoints(run.folder / CHECKPOINTS, alone=True).best(like)
            params, self.step = _with_finite_weights(trained_params(best), run), int(best.step)
        self.networks = Networks(system, params, self.config.predict.batch)
        self._seen: tuple = ((), None, None)  # what was asked for last, the frame and the votes there

    @property
    def arrays(self) -> set[str]:
        """The arrays of a batch that it was trained on."""
        return self.networks.system.arrays

    @property
    def translates(self) -> bool:
        """Whether it makes scans of domain b out of those of a."""
        return 'g_ab' in self.networks.system.networks

    def segments(self, domain: str) -> bool:
        """Whether it segments scans of a domain."""
        return self.networks.system.segmentor(domain) is not None

    def kept(self) -> list[int]:
        """The steps of the checkpoints that were kept."""
        return Checkpoints(self.run.folder / CHECKPOINTS, alone=True).steps()

    def validated(self) -> list[int]:
        """The steps after which checkpoints were validated, kept or not; not those where training was interrupted."""
        last, every = max(self.kept()), self.config.train.save_every
        return sorted({*range(every, last, every), last})

    def load(self, step: int) -> None:
        """Takes the weights of a checkpoint in place of those in use."""
        like = self.networks.system.abstract_state(parallel.own_device())
        state = Checkpoints(self.run.folder / CHECKPOINTS, alone=True).at(step, like)
        self.networks.params, self._seen = _with_finite_weights(trained_params(state), self.run), ((), None, None)

    def uncut(self) -> 'Trained':
        """The same networks, for scans of the target that show no more than those of the source."""
        config = self.config.copy_and_resolve_references()
        config.data.target_center = 1.0
        return Trained(replace(self.run, config=config), self.networks.params)

    def segment(self, scan: Volume, domain: str) -> Integer[np.ndarray, 'x y z']:
        """Class indices on the scan's own grid and axes; the scan is of the modality of `domain`."""
        frame, votes = self._votes(scan, domain)
        return frame.labels(votes, self.config.predict.resample)

    def probability(self, scan: Volume, domain: str, label: int) -> Float[np.ndarray, 'x y z']:
        """The probability of one class on the scan's own grid and axes, 0 where the networks do not look."""
        frame, votes = self._votes(scan, domain)
        return frame.place(frame.values(votes[..., label]))

    def synthesize(
        self, scan: Volume, domain: str, mask: Bool[np.ndarray, 'x y z'] | None = None
    ) -> Shaped[np.ndarray, 'x y z']:
        """The scan in the other modality's intensities (HU for CT), as `intensity.stored`, on its own grid and axes.

        `mask`, where anything is labelled, is what masked generators see beside the image; InputError without it.
        """
        other = {'a': 'b', 'b': 'a'}[domain]
        frame, window = self._frame(scan, domain), self.normalisation(other)
        images = frame.images()
        if self.config.masked:
            if mask is None:
                raise InputError('masked generators see labels beside the image; give scans that have some')
            images = slices.with_mask(images, frame.nearest(mask))
        fakes = _finite(self.networks.translate(images, domain)[..., 0], 'intensities')
        found = intensity.stored(window.invert(frame.values(fakes)), window, self.run.channels[other])
        return frame.place(found, window.low if found.dtype.kind == 'f' else round(window.low))

    def normalisation(self, domain: str) -> intensity.Normalisation:
        """What [0, 1] stands for in the synthetic scans of a domain."""
        return intensity.Normalisation(*self.run.typical[known('domain', domain, self.run.typical)])

    def _votes(self, scan, domain) -> tuple[Frame, np.ndarray]:
        """A scan as it is seen, and the votes there; of one scan, labels and probabilities are asked for in turn."""
        predict, context = self.config.predict, self.config.context
        if predict.flips not in FLIPS:
            raise InputError(f"predict.flips {predict.flips!r}: give '' or 'lr'")
        known('predict.window', predict.window, WINDOWS)
        if self._seen[0] != (asked := (scan, domain, predict.flips, predict.window)):
            self._seen = ((), None, None)  # makes room
            frame = self._frame(scan, domain)
            images = frame.images(context.slices, context.spacing_mm)

            def votes_of(images):
                votes = _finite(self.networks.votes(images, domain), 'probabilities')
                return (votes + self._mirrored(images, frame, domain)) / 2 if predict.flips else votes

            votes = votes_of(images)
            if frame.whole and predict.window == 'middle':
                votes = about_middle(votes_of, images[0], votes[0], self.networks.system.size)[None]
            self._seen = (asked, frame, votes)
        return self._seen[1:]

    def _mirrored(self, images, frame, domain):
        """Votes on the scan with left and right exchanged, exchanged back."""
        across = slices.VIEWS[frame.axis][0].index(0) + frame.whole
        # sagittal slices come in the other order, and with them the neighbours that are their channels
        mirrored = np.flip(images, across if across else (0, -1))
        return np.flip(self.networks.votes(mirrored, domain), across)

    def _frame(self, scan, domain) -> Frame:
        return self.run.frame(scan, domain, self.networks.system.size, self.config.data.spacing_mm)
