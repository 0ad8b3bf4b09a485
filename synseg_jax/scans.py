"""Trained networks on whole scans: labels on a scan's own grid, and synthetic scans in the other modality."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped
from ml_collections import ConfigDict

from synseg_jax.data import intensity, slices, volume
from synseg_jax.data.volume import Volume
from synseg_jax.errors import InputError, known
from synseg_jax.training import parallel
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.inference import Networks
from synseg_jax.training.system import System, configure, trained_params

RUN = 'run.json'  # what a workdir says of itself


@dataclass(frozen=True)
class Run:
    """A workdir: its configuration, and what its records were made of."""

    workdir: Path
    config: ConfigDict
    classes: tuple[str, ...]
    channels: Mapping[str, str]  # by domain, e.g. {'a': 'MR', 'b': 'CT'}
    typical: Mapping[str, tuple[float, float]]  # by domain: median low and high of the training scans
    records: str = ''  # the request that the records answer

    def save(self) -> None:
        """Writes run.json, whole or not at all."""
        content = {
            'config': json.loads(self.config.to_json_best_effort()),
            'classes': self.classes,
            'channels': dict(self.channels),
            'typical': dict(self.typical),
            'records': self.records,
        }
        partial = self.workdir / f'{RUN}.partial'
        partial.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        partial.replace(self.workdir / RUN)

    @classmethod
    def load(cls, workdir: str | Path) -> 'Run':
        """The run of a workdir; InputError where there is none."""
        path = Path(workdir) / RUN
        if not path.is_file():
            raise InputError(f'{path}: no such file; --workdir is the folder that synseg_jax.main trained in')
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            return cls(
                Path(workdir),
                ConfigDict(content['config']),
                tuple(content['classes']),
                content['channels'],
                {domain: tuple(pair) for domain, pair in content['typical'].items()},
                content['records'],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'{path} is damaged ({error}); train again') from error


class Trained:
    """One trained system of a run, applied to scans."""

    def __init__(self, run: Run, name: str, params=None):
        """The best checkpoint of the system `name`, unless `params` are given."""
        self.run, self.name = run, name
        self.config = configure(run.config, name)
        system = System(self.config, run.classes)
        if params is None:
            like = system.abstract_state(parallel.mesh(1))
            params = trained_params(Checkpoints(run.workdir / name / 'checkpoints').best(like))
        self.networks = Networks(system, params, self.config.predict.batch)

    def segment(self, scan: Volume, domain: str) -> Integer[np.ndarray, 'x y z']:
        """Class indices on the scan's own grid and axes; the scan is of the modality of `domain`."""
        stack, _, _ = self._slices(scan, domain)
        votes = self.networks.votes(slices.resize_linear(stack, self._size)[..., None], domain)
        size, resample = stack.shape[1:], self.config.predict.resample
        known('predict.resample', resample, ('nearest', 'linear'))
        if resample == 'nearest':
            labels = slices.resize_nearest(votes.argmax(-1).astype(np.uint8), size)
        else:
            labels = np.concatenate([slices.resize_linear(v[None], size).argmax(-1).astype(np.uint8) for v in votes])
        return self._restore(labels, scan)

    def synthesize(self, scan: Volume, domain: str) -> Shaped[np.ndarray, 'x y z']:
        """The scan in the other modality's intensities (HU for CT), int16, on its own grid and axes."""
        stack, _, _ = self._slices(scan, domain)
        other = {'a': 'b', 'b': 'a'}[domain]
        fakes = self.networks.translate(slices.resize_linear(stack, self._size)[..., None], domain)[..., 0]
        own = slices.resize_linear(fakes, stack.shape[1:])
        restored = intensity.Normalisation(*self.run.typical[other]).invert(own)
        return self._restore(np.rint(restored).astype(np.int16), scan)

    @property
    def _size(self):
        return self.networks.system.size

    def _slices(self, scan, domain):
        """The scan as upright slices in [0, 1], its normalisation, and the canonical volume."""
        data = self.config.data
        upright = volume.canonical(scan)
        normalisation = intensity.for_channel(
            self.run.channels[domain], upright.array, tuple(data.window_hu), tuple(data.percentiles)
        )
        return slices.to_stack(normalisation.apply(upright.array), data.slice_axis), normalisation, upright

    def _restore(self, stack, scan):
        return volume.restore(slices.from_stack(stack, self.config.data.slice_axis), scan)


def inputs(path: str | Path) -> dict[str, Path]:
    """{case: file} of a scan or of the scans in a folder (an nnU-Net dataset's imagesTs or imagesTr included)."""
    path = Path(path)
    if not path.exists():
        raise InputError(f'--input={path}: no such file or folder')
    if path.is_file():
        files = [path]
    else:
        folder = next((path / part for part in ('imagesTs', 'imagesTr') if (path / part).is_dir()), path)
        files = sorted(f for f in folder.iterdir() if f.name.endswith(tuple(volume.READERS)) and f.name[0] != '.')
    if not files:
        raise InputError(f'--input={path}: holds no scan; known: {", ".join(sorted(volume.READERS))}')
    return {case_name(file): file for file in files}


def case_name(file: Path) -> str:
    """A scan's name without suffix and without nnU-Net's channel number."""
    suffix = next((s for s in volume.READERS if file.name.lower().endswith(s)), '')
    return file.name[: len(file.name) - len(suffix)].removesuffix('_0000')
