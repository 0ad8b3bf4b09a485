"""A trained stage on disk: its configuration, classes, and the modalities and intensities of its records."""

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import synseg_jax
from synseg_jax.errors import InputError, known
from synseg_jax.files import read_json, schema, write_json
from synseg_jax.files.stage_schema import Other, StageFile
from synseg_jax.imaging import bias_field, intensity
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import check_channels
from synseg_jax.specification.data import channels_in
from synseg_jax.specification.parse import mapping, stage_of
from synseg_jax.specification.stage import Stage
from synseg_jax.training.system import System, system_of

STAGE = 'stage.json'  # describes a trained stage
CHECKPOINTS = 'checkpoints'  # folder of a stage
FORMAT = 2  # of run.json and stage.json
TRAINED = ('train', 'val')  # roles whose labels were seen
DAMAGED = 'copy the workdir again, or train again'  # remedy for an invalid stage.json


@dataclass(frozen=True)
class Run:
    """A trained stage: its folder, configuration, classes, and the modality and intensity range of each domain."""

    folder: Path
    config: Stage
    classes: tuple[str, ...]
    channels: Mapping[str, str]  # by domain, e.g. {'a': 'MR', 'b': 'CT'}
    typical: Mapping[str, tuple[float, float]]  # by domain: median intensities of 0 and 1 over the scans
    volumes_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # by class: least and largest label
    others: Mapping[str, list[Other]] = field(default_factory=dict)  # by domain: its further channels

    def save(self) -> None:
        """Write stage.json atomically."""
        content = {
            'format': FORMAT,
            'config': mapping(self.config),
            'classes': self.classes,
            'channels': dict(self.channels),
            'typical': dict(self.typical),
        }
        content |= {'volumes_ml': dict(self.volumes_ml)} if self.volumes_ml else {}
        content |= {'others': dict(self.others)} if self.others else {}
        write_json(self.folder / STAGE, content)

    @classmethod
    def load(cls, folder: str | Path) -> 'Run':
        """Read stage.json of a folder; InputError if it is missing or invalid."""
        path = Path(folder) / STAGE
        parsed = read_workdir_json(path)
        check_format(parsed, str(path))
        content = schema.conform(parsed, StageFile, str(path), DAMAGED)
        config = stage_of(content['config'], str(path), DAMAGED)
        domains = content['channels'], content['typical']
        more = content.get('volumes_ml', {}), content.get('others', {})
        run = cls(Path(folder), config, content['classes'], *domains, *more)
        for domain in run.channels:
            if len(run.named(domain)) != (count := channels_in(config.data, domain)):
                raise InputError(f'{path}: others.{domain} is not of data.channels, {count} of each scan; {DAMAGED}')
        return run

    @classmethod
    def of(cls, folder: Path, config: Stage, classes: tuple[str, ...], manifests: Iterable[Manifest]) -> 'Run':
        """A stage trained on these records; a domain's channel and intensities are those of its first set."""
        channels, typical, others, manifests = {}, {}, {}, list(manifests)
        sets = ChainMap(*(manifest.sets for manifest in manifests))
        check_channels((name, entry['domain'], entry['channel']) for name, entry in sets.items())
        for manifest in manifests:
            for entry in manifest.sets.values():
                cases = [case for role in entry['roles'].values() for case in role['cases']]
                channels.setdefault(entry['domain'], entry['channel'])
                medians = tuple(float(np.median([case[bound] for case in cases])) for bound in ('low', 'high'))
                typical.setdefault(entry['domain'], medians)
                others.setdefault(entry['domain'], _others(entry, cases))
        others = {domain: more for domain, more in others.items() if more}
        return cls(folder, config, classes, channels, typical, _label_volumes(sets, classes), others)

    def named(self, domain: str) -> tuple[str, ...]:
        """The names of the channels of a domain's scans."""
        first = self.channels[known('domain', domain, self.channels)]
        return first, *(other['channel'] for other in self.others.get(domain, ()))

    def ranges(self, domain: str) -> list[intensity.Normalisation]:
        """The intensities that 0 and 1 stand for in synthetic scans of a domain, of each channel."""
        first = self.typical[known('domain', domain, self.typical)]
        more = (other['typical'] for other in self.others.get(domain, ()))
        return [intensity.Normalisation(*bounds) for bounds in (first, *more)]

    def frame(
        self, scan: Volume, domain: str, size: tuple[int, ...], spacing_mm: float, body: bool = False
    ) -> NetworkGrid:
        """The scan in [0, 1] on the networks' grid, cropped to data.target_center in domain b, and about the body."""
        data = self.config.data
        named = self.named(domain)
        if len(scan.channels) != len(named):
            raise InputError(
                f'the networks see {len(named)} channels ({", ".join(named)}), the scan has {len(scan.channels)}; '
                'give all of them'
            )
        share = data.target_center if domain == 'b' else 1.0
        scan = bias_field.corrected(scan, named) if data.bias_correction else scan
        windows = [
            intensity.for_channel(name, one.array, data.window_hu, data.percentiles)
            for name, one in zip(named, scan.channels, strict=True)
        ]
        body_of = named[0] if body else ''
        return NetworkGrid.from_scan(scan, windows, data.slice_axis, size, share, spacing_mm, body_of, data.antialias)

    @property
    def system(self) -> System:
        """The stage's networks, without weights; InputError if stage.json is inconsistent."""
        try:
            system = system_of(self.config, self.classes)
            _ = system.networks, system.optimizers, system.losses  # cached properties, evaluated to raise here
        except InputError as error:
            raise InputError(f'{self.folder / STAGE}: {error}; {DAMAGED}') from error
        return system


def _others(entry, cases) -> list[Other]:
    """The further channels of a set: their names, and median intensities of 0 and 1."""
    bounds = np.array([case['others'] for case in cases]) if entry.get('channels') else np.zeros((1, 0, 2))
    medians = np.median(bounds, axis=0).tolist()
    return [{'channel': name, 'typical': own} for name, own in zip(entry.get('channels', [])[1:], medians, strict=True)]


def _label_volumes(sets, classes) -> dict[str, tuple[float, float]]:
    """{class: least and largest volume in mL} of the training labels that show it: the source's, else the target's."""
    for domain in 'ab':
        roles = [entry['roles'] for entry in sets.values() if entry['domain'] == domain and not entry.get('pseudo')]
        cases = [case for of in roles for role in TRAINED if role in of for case in of[role]['cases']]
        volumes = [case['volumes_ml'] for case in cases if 'volumes_ml' in case]
        if volumes:
            shown = {name: [ml for one in volumes if (ml := one.get(name, 0.0))] for name in classes[1:]}
            return {name: (min(found), max(found)) for name, found in shown.items() if found}
    return {}


def read_workdir_json(path):
    """The parsed content of a JSON file of a workdir, not yet validated; InputError if missing or not JSON."""
    if not path.is_file():
        raise InputError(f'{path}: no such file; give the folder that synseg_jax.main wrote as --workdir')
    return read_json(path, DAMAGED)


def check_format(content: object, path: str) -> None:
    """InputError for a file that another version of synseg_jax wrote in another format."""
    found = content.get('format', 1) if isinstance(content, dict) else FORMAT
    if found != FORMAT:
        raise InputError(
            f'{path}: written by another version of synseg_jax, in format {found!r}; this version, '
            f'{synseg_jax.__version__}, reads format {FORMAT}: use the version that wrote it, or train again'
        )
