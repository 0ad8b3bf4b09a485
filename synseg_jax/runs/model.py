"""A trained workdir in Python: `synseg_jax.load('runs/mine').segment(image)`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from synseg_jax.errors import InputError
from synseg_jax.formats.python_images import opened
from synseg_jax.inference.trained_model import Segmenter
from synseg_jax.runs import experiment, open_ensemble, open_run
from synseg_jax.specification.parse import parse


class Model:
    """The networks of a trained system, applied to scans of any kind that Python holds.

    A scan is a path, a nibabel image, a SimpleITK image, or (array, affine), of several channels a list of these or the
    path of the first; what comes back is an image of the same kind on the same grid, of a path a nibabel image.
    `domain` says what the scan is: 'a' of the labelled modality that was trained on, 'b' of the other.
    """

    def __init__(self, workdir: str | Path, system: str = '', fields: Mapping[str, object] | None = None):
        """Open a system of a workdir, its chosen one unless named; `fields` as {'predict.rotate': 10.0} change it.

        Of a cross-validated system all folds segment together.  InputError where nothing is trained.
        """
        self.workdir, self.system = Path(workdir), system
        self._segmenter: Segmenter = open_ensemble.find([self.workdir], system, fields=fields)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, .., the background first."""
        return self._segmenter.run.classes

    @property
    def modalities(self) -> Mapping[str, str]:
        """The modality of each domain, {'a': 'MRI', 'b': 'CT'}."""
        return self._segmenter.run.channels

    def segment(self, image: object, domain: str = 'b') -> Any:
        """The class of every voxel, as an image like the one given."""
        scan, back = self._opened(image, domain)
        return back(self._segmenter.segment(scan, domain))

    def probabilities(self, image: object, domain: str = 'b') -> dict[str, Any]:
        """{class: its probability in every voxel}, images like the one given."""
        scan, back = self._opened(image, domain)
        found = {name: back(self._segmenter.probability(scan, domain, k)) for k, name in enumerate(self.classes)}
        self._segmenter.forget()
        return found

    def translate(self, image: object, domain: str = 'a') -> Any:
        """The scan in the other modality's intensities (HU for CT), of several channels a list.

        InputError of systems without generators.
        """
        scan, back = self._opened(image, domain)
        made = open_run.find(self.workdir, self.system, network='g').synthesize_channels(scan, domain)
        return back(made[0]) if len(made) == 1 else [*map(back, made)]

    def _opened(self, image, domain):
        return opened(image, len(self._segmenter.run.named(domain)))


def load(workdir: str | Path, system: str = '', **fields: object) -> Model:
    """Open a trained workdir; fields of `predict` by keyword, as in load('runs/mine', rotate=10.0, zoom=1.1)."""
    return Model(workdir, system, {f'predict.{name}': value for name, value in fields.items()})


def train(config: object, workdir: str | Path, quiet: bool = False) -> Model:
    """Train and evaluate the systems of a configuration, a ConfigDict, as `synseg_jax.main` does, and open the result.

    A training that was interrupted goes on.  The measures are in results.json of the workdir.  InputError as in `main`.
    """
    if not hasattr(config, 'copy_and_resolve_references'):  # those of a ConfigDict
        raise InputError(f'a {type(config).__name__} is no configuration; call get_config of a file in configs/')
    experiment.run(parse(config), Path(workdir), Console(quiet=quiet))
    return load(workdir)
