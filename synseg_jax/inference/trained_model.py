"""Trained networks on whole scans: labels on a scan's own grid, and synthetic scans in the other modality."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError, known
from synseg_jax.imaging import intensity, slices
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.sliding_window import WINDOWS, about_middle
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.model_folder import CHECKPOINTS, Run
from synseg_jax.inference.run_networks import Networks
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.stage import Stage
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.system import trained_params

FLIPS = ('', 'lr')  # what predict.flips may be


def _with_finite_weights(params, run):
    """`params`, unless one of them is NaN or infinite: such networks find nothing, anywhere."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            name = jax.tree_util.keystr(path, simple=True, separator='.')
            raise InputError(f'{run.folder}: weights {name} are NaN or infinite; train again with lower rates')
    return params


def _finite(found, what) -> np.ndarray:
    """What networks return; InputError where it holds no numbers."""
    if not np.isfinite(found).all():
        raise InputError(f'the networks find {what} that are NaN or infinite; train again, or choose another --system')
    return found


@runtime_checkable
class Segmenter(Protocol):
    """A stage that segments whole scans: trained networks, or atlases."""

    run: Run
    config: Stage
    arrays: Collection[str]  # of a batch, that it learnt from
    translates: bool  # whether it makes scans of domain b out of those of a

    def segments(self, domain: str) -> bool: ...
    def with_fields(self, fields: Mapping[str, object]) -> 'Segmenter': ...
    def uncut(self) -> 'Segmenter': ...
    def segment(self, scan: Volume, domain: str) -> np.ndarray: ...
    def probability(self, scan: Volume, domain: str, label: int) -> np.ndarray: ...


class Trained:
    """A trained stage, applied to scans."""

    def __init__(self, run: Run, params=None, step: int | None = None):
        """The best checkpoint of the stage, unless `params` are given, those of `step`."""
        self.run, self.config, system = run, run.config, run.system
        self.step = step  # of the checkpoint
        if params is None:
            like = system.abstract_state(parallel.own_device())
            with self._checkpoints() as checkpoints:
                best = checkpoints.best(like)
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
        with self._checkpoints() as checkpoints:
            return checkpoints.steps()

    def validated(self) -> list[int]:
        """The steps after which checkpoints were validated, kept or not; not those where training was interrupted."""
        last, every = max(self.kept()), self.config.train.save_every
        return sorted({*range(every, last, every), last})

    def load(self, step: int) -> None:
        """Takes the weights of a checkpoint in place of those in use."""
        like = self.networks.system.abstract_state(parallel.own_device())
        with self._checkpoints() as checkpoints:
            state = checkpoints.at(step, like)
        self.networks.params, self._seen = _with_finite_weights(trained_params(state), self.run), ((), None, None)

    def with_fields(self, fields: Mapping[str, object]) -> 'Trained':
        """The same networks, applied as other values of these fields say; InputError for those that may not be."""
        run = replace(self.run, config=replaced(self.config, fields))
        return type(self)(run, self.networks.params, self.step)

    def _checkpoints(self) -> Checkpoints:
        """The stage's checkpoints, opened for reading."""
        return Checkpoints(self.run.folder / CHECKPOINTS, alone=True)

    def uncut(self) -> 'Trained':
        """The same networks, for scans of the target that show no more than those of the source."""
        return self.with_fields({'data.target_center': 1.0})

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

    def _votes(self, scan, domain) -> tuple[NetworkGrid, np.ndarray]:
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

    def _frame(self, scan, domain) -> NetworkGrid:
        return self.run.frame(scan, domain, self.networks.system.size, self.config.data.spacing_mm)
