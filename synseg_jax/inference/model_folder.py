"""A trained stage on disk: its configuration, its classes, and what its records were made of."""

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import synseg_jax
from synseg_jax.errors import InputError, known
from synseg_jax.files import read_json, schema, write_json
from synseg_jax.files.stage_schema import StageFile
from synseg_jax.imaging import intensity
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import check_channels
from synseg_jax.specification.parse import mapping, stage_of
from synseg_jax.specification.stage import Stage
from synseg_jax.training.system import System, system_of

STAGE = 'stage.json'  # what a trained stage says of itself
CHECKPOINTS = 'checkpoints'  # a stage's folder of them
FORMAT = 2  # of run.json and stage.json
DAMAGED = 'copy the workdir again, or train again'  # what to do about such a file


@dataclass(frozen=True)
class Run:
    """A trained stage: its folder, its configuration, and what its records were made of."""

    folder: Path
    config: Stage
    classes: tuple[str, ...]
    channels: Mapping[str, str]  # by domain, e.g. {'a': 'MR', 'b': 'CT'}
    typical: Mapping[str, tuple[float, float]]  # by domain: median low and high of the scans

    def save(self) -> None:
        """Writes stage.json, whole or not at all."""
        content = {
            'format': FORMAT,
            'config': mapping(self.config),
            'classes': self.classes,
            'channels': dict(self.channels),
            'typical': dict(self.typical),
        }
        write_json(self.folder / STAGE, content)

    @classmethod
    def load(cls, folder: str | Path) -> 'Run':
        """What a stage's folder says; InputError where it says nothing."""
        path = Path(folder) / STAGE
        read = content_of(path)
        check_format(read, str(path))
        content = schema.conform(read, StageFile, str(path), DAMAGED)
        config = stage_of(content['config'], str(path), DAMAGED)
        return cls(Path(folder), config, content['classes'], content['channels'], content['typical'])

    @classmethod
    def of(cls, folder: Path, config: Stage, classes: tuple[str, ...], manifests: Iterable[Manifest]) -> 'Run':
        """A stage that reads these records: of each domain, the channel and the bounds of the first that show it."""
        channels, typical, manifests = {}, {}, list(manifests)
        sets = ChainMap(*(manifest.sets for manifest in manifests))
        check_channels((name, entry['domain'], entry['channel']) for name, entry in sets.items())
        for manifest in manifests:
            for entry in manifest.sets.values():
                cases = [case for role in entry['roles'].values() for case in role['cases']]
                channels.setdefault(entry['domain'], entry['channel'])
                middle = tuple(float(np.median([case[bound] for case in cases])) for bound in ('low', 'high'))
                typical.setdefault(entry['domain'], middle)
        return cls(folder, config, classes, channels, typical)

    def frame(self, scan: Volume, domain: str, size: tuple[int, ...], spacing_mm: float) -> NetworkGrid:
        """The scan in [0, 1], as far as it is looked at."""
        data = self.config.data
        channel = self.channels[known('domain', domain, self.channels)]
        share = data.target_center if domain == 'b' else 1.0
        window = intensity.for_channel(channel, scan.array, data.window_hu, data.percentiles)
        return NetworkGrid.from_scan(scan, window, data.slice_axis, size, share, spacing_mm)

    @property
    def system(self) -> System:
        """The networks that were trained; InputError where stage.json describes none."""
        try:
            found = system_of(self.config, self.classes)
            _ = found.networks, found.optimizers, found.losses  # made here, where errors are expected
        except InputError as error:
            raise InputError(f'{self.folder / STAGE}: {error}; {DAMAGED}') from error
        return found


def content_of(path):
    if not path.is_file():
        raise InputError(f'{path}: no such file; --workdir is the folder that synseg_jax.main trained in')
    return read_json(path, DAMAGED)


def check_format(content: object, path: str) -> None:
    """InputError for a file that another version of synseg_jax wrote in another format."""
    found = content.get('format', 1) if isinstance(content, dict) else FORMAT
    if found != FORMAT:
        raise InputError(
            f'{path}: written by another version of synseg_jax, in format {found!r}; this version, '
            f'{synseg_jax.__version__}, reads format {FORMAT}: use the version that wrote it, or train again'
        )
