"""A trained stage on disk: its configuration, its classes, and what its records were made of."""

import json
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from synseg_jax.errors import InputError, known
from synseg_jax.files import read_json, schema, write_json
from synseg_jax.files.stage_schema import StageFile
from synseg_jax.imaging import intensity
from synseg_jax.imaging.network_grid import Frame
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import check_channels
from synseg_jax.training.system import System, system_of

STAGE = 'stage.json'  # what a trained stage says of itself
CHECKPOINTS = 'checkpoints'  # a stage's folder of them
DAMAGED = 'copy the workdir again, or train again'  # what to do about such a file
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
        read = content_of(path)
        content = schema.conform(read, StageFile, str(path), DAMAGED)
        try:
            config = ConfigDict(read['config'])  # of lists: it takes no tuple twice
        except ValueError as error:  # of names with dots
            raise InputError(f'{path}: {error}; {DAMAGED}') from error
        config.predict.update({field: value for field, value in LATER.items() if field not in config.predict})
        return cls(Path(folder), config, content['classes'], content['channels'], content['typical'])

    @classmethod
    def of(cls, folder: Path, config: ConfigDict, classes: tuple[str, ...], manifests: Iterable[Manifest]) -> 'Run':
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


def content_of(path):
    if not path.is_file():
        raise InputError(f'{path}: no such file; --workdir is the folder that synseg_jax.main trained in')
    return read_json(path, DAMAGED)
