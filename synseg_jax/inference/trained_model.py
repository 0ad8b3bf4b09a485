"""Trained networks on whole scans: labels on the scan's own grid, and synthetic scans in the other modality."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.imaging import intensity, slices
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.model_folder import CHECKPOINTS, Run
from synseg_jax.inference.run_networks import Networks
from synseg_jax.inference.views import views
from synseg_jax.inference.whole_scan import ScanOptions, ScanSegmenter, scan_probabilities
from synseg_jax.objective import names
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.stage import Stage
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.selection import RULES
from synseg_jax.training.system import trained_params


@runtime_checkable
class Segmenter(Protocol):
    """A stage that segments whole scans: trained networks, or atlases."""

    run: Run
    config: Stage
    arrays: Collection[str]  # of a batch, used in training
    translates: bool  # whether it synthesises scans of domain b from those of a
    members: Sequence['Segmenter']  # of an ensemble; else itself

    def for_scan(self, file: Path) -> 'Segmenter': ...
    def segments(self, domain: str) -> bool: ...
    def with_fields(self, fields: Mapping[str, object]) -> 'Segmenter': ...
    def uncut(self) -> 'Segmenter': ...
    def segment(self, scan: Volume, domain: str) -> np.ndarray: ...
    def probability(self, scan: Volume, domain: str, label: int) -> np.ndarray: ...


class Trained(ScanSegmenter):
    """The networks of a trained stage, applied to scans."""

    def __init__(self, run: Run, params=None, step: int | None = None):
        """Load the best checkpoint of the stage, unless `params`, those of `step`, are given."""
        self.run, self.config, system = run, run.config, run.system
        self.step = step  # of the checkpoint
        if params is None:
            like = system.abstract_state(parallel.local_mesh())
            with self._checkpoints() as checkpoints:
                best = checkpoints.best(like)
            params, self.step = _with_finite_weights(trained_params(best), run), int(best.step)
        self.networks = Networks(system, params, self.config.predict.batch)

    @property
    def arrays(self) -> set[str]:
        """The arrays of a batch used in training."""
        return self.networks.system.arrays

    @property
    def translates(self) -> bool:
        """Whether it synthesises scans of domain b from those of a."""
        return 'g_ab' in self.networks.system.networks

    @property
    def resample(self) -> str:
        return self.config.predict.resample

    @property
    def organs(self) -> tuple[float, float]:
        return self.config.predict.darkest, self.config.predict.brightest

    def segments(self, domain: str) -> bool:
        """Whether it segments scans of a domain."""
        return self.networks.system.segmentor(domain) is not None

    def kept(self) -> list[int]:
        """The steps of the checkpoints on disk."""
        with self._checkpoints() as checkpoints:
            return checkpoints.steps()

    def validated(self) -> list[int]:
        """The steps whose checkpoints were validated, kept or not; without those of interruptions."""
        last, every = max(self.kept()), self.config.train.save_every
        return sorted({*range(every, last, every), last})

    def choices(self) -> dict[str, int]:
        """{rule: step of the checkpoint that it chooses} of those on disk, by every rule of `selection.RULES`."""
        with self._checkpoints() as checkpoints:
            return {rule: checkpoints.order(rule)[0] for rule in RULES}

    def load(self, step: int) -> None:
        """Replace the weights by those of the checkpoint of `step`."""
        self.networks.params, self.step = self._weights(step), step
        self.forget()

    def at(self, step: int) -> 'Trained':
        """The same stage with the weights of the checkpoint of `step`."""
        return type(self)(self.run, self._weights(step), step)

    def _weights(self, step):
        like = self.networks.system.abstract_state(parallel.local_mesh())
        with self._checkpoints() as checkpoints:
            state = checkpoints.at(step, like)
        return _with_finite_weights(trained_params(state), self.run)

    def on_host(self) -> 'Trained':
        """The same with the weights of its segmentors alone, as numpy arrays: those of a member of an ensemble."""
        own = {name: tree for name, tree in self.networks.params.items() if names.player(name) == 'seg'}
        return type(self)(self.run, jax.device_get(own), self.step)

    @contextmanager
    def on_device(self) -> Iterator['Trained']:
        """Itself with its weights on the device meanwhile."""
        host = self.networks.params
        self.networks.params = jax.device_put(host)
        try:
            yield self
        finally:
            self.networks.params = host

    def with_fields(self, fields: Mapping[str, object]) -> 'Trained':
        """The same networks with other values of configuration fields; InputError for invalid ones."""
        run = replace(self.run, config=replaced(self.config, fields))
        return type(self)(run, self.networks.params, self.step)

    def _checkpoints(self) -> Checkpoints:
        """The stage's checkpoints, opened for reading."""
        return Checkpoints(self.run.folder / CHECKPOINTS, alone=True, rule=self.config.selection)

    def uncut(self) -> 'Trained':
        """The same networks, for target scans with the field of view of the source (data.target_center = 1)."""
        return self.with_fields({'data.target_center': 1.0})

    def compute(self, scan: Volume, domain: str) -> tuple[NetworkGrid, Float[np.ndarray, 'n *space k']]:
        """The networks' grid and the class probabilities on it."""
        frame = self._frame(scan, domain)
        return frame, scan_probabilities(self._network(domain), frame, self._options())

    def synthesize(
        self, scan: Volume, domain: str, mask: Bool[np.ndarray, 'x y z'] | None = None
    ) -> Shaped[np.ndarray, 'x y z']:
        """The first channel of `synthesize_channels`."""
        return self.synthesize_channels(scan, domain, mask)[0]

    def synthesize_channels(
        self, scan: Volume, domain: str, mask: Bool[np.ndarray, 'x y z'] | None = None
    ) -> list[Shaped[np.ndarray, 'x y z']]:
        """The scan in the other modality's intensities (HU for CT), as `intensity.stored`, on its own grid and axes.

        One array for each channel of the other modality.  `mask`, True in labelled voxels, is the last channel of
        masked generators; InputError without it.
        """
        other = names.other(domain)
        frame, context = self._frame(scan, domain), self.config.context
        images = frame.images(context.slices, context.spacing_mm)
        if self.config.label_channel:
            if mask is None:
                raise InputError('masked generators need labels beside the image; give a labelled dataset')
            images = slices.with_mask(images, frame.nearest(mask))
        fakes, found = _finite(self.networks.translate(images, domain), 'intensities'), []
        first = self.networks.system.own_channels(other).start
        for number, (name, window) in enumerate(zip(self.run.named(other), self.run.ranges(other), strict=True), first):
            synthetic = intensity.stored(window.invert(frame.values(fakes[..., number])), window, name)
            found.append(frame.place(synthetic, window.low if synthetic.dtype.kind == 'f' else round(window.low)))
        return found

    def normalisation(self, domain: str) -> intensity.Normalisation:
        """The intensities that 0 and 1 stand for in synthetic scans of a domain, of their first channel."""
        return self.run.ranges(domain)[0]

    def _options(self) -> ScanOptions:
        predict, context = self.config.predict, self.config.context
        size = self.networks.system.size
        seen = views(predict.rotate, predict.zoom, predict.gamma)
        return ScanOptions(size, context.slices, context.spacing_mm, predict.flips, predict.window, seen)

    def _network(self, domain):
        return lambda images: _finite(self.networks.probabilities(images, domain), 'probabilities')

    def _frame(self, scan, domain) -> NetworkGrid:
        data = self.config.data
        return self.run.frame(scan, domain, self.networks.system.size, data.spacing_mm, data.cut_about == 'body')


def load(run: Run, network: str) -> 'Segmenter | None':
    """The best weights of a trained stage, if it has a network whose name begins with `network`."""
    return Trained(run) if any(name.startswith(network) for name in run.system.networks) else None


def _with_finite_weights(params, run):
    """`params`; InputError if any weight is NaN or infinite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            name = jax.tree_util.keystr(path, simple=True, separator='.')
            raise InputError(f'{run.folder}: weights {name} are NaN or infinite; train again with lower rates')
    return params


def _finite(output, what) -> np.ndarray:
    """The output of networks; InputError if any of it is NaN or infinite."""
    if not np.isfinite(output).all():
        raise InputError(f'the networks return NaN or infinite {what}; train again, or choose another --system')
    return output
