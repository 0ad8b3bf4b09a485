"""The smallest data and networks on which everything runs; also a configuration: --config=tests/tiny.py:RECORDS."""

import importlib
import io
import json
import logging
import os
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from unittest import mock

import jax
import nibabel as nib
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from configs import base
from synseg_jax.devices import parallel
from synseg_jax.inference.model_folder import FORMAT
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import experiment
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import parse, parse_data
from synseg_jax.specification.stage import Stage
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ('background', 'liver', 'spleen')
SHAPE = (24, 22, 6)
SUBJECTS = {'MR': 5, 'CT': 4}
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3.0, 0, -30], [0, 0, 5.0, 7], [0, 0, 0, 1]])


def get_config(data: str = '') -> ConfigDict:
    """Width 4, 1 block, 32x32, batch 2 on one device: seconds on one core."""
    c = base.get_config()
    c.data_dir = data
    c.generator.width = c.segmentor.width = c.discriminator.width = 4
    c.generator.blocks = c.segmentor.blocks = c.discriminator.layers = 1
    c.data.size = (32, 32)
    c.data.window_hu = (-200.0, 300.0)
    c.data.target_split = (0.75, 0.0, 0.25)
    c.image_pool = 4
    c.augment.shift = 0.1
    c.train.batch = 2
    c.train.devices = 1
    c.train.steps, c.train.decay_steps = 20, 10
    c.train.log_every, c.train.save_every = 2, 10
    c.phantom.sets.source.subjects = c.phantom.sets.target.subjects = 2
    return c


def config(data: str | Path = '', **changes) -> ConfigDict:
    """`get_config` with fields changed, written `train__steps=3`."""
    c = get_config(str(data))
    c.update_from_flattened_dict({name.replace('__', '.'): value for name, value in changes.items()})
    return c


def parsed(data: str | Path = '', **changes) -> Experiment:
    """`config` as the experiment that it describes."""
    return parse(config(data, **changes))


def stage(**changes) -> Stage:
    """The only stage of `synseg` in `config` with these changes."""
    return parsed(**changes).stage('synseg')


def configure(given: ConfigDict, system: str, name: str = '') -> Stage:
    """A stage of a system of a configuration."""
    return parse(given).stage(system, name)


def run(given: ConfigDict, *arguments, **options) -> dict:
    """`experiment.run` of a configuration that is not parsed yet."""
    return experiment.run(parse(given), *arguments, **options)


def scan(seed: int, modality: str, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A body with two organs, brighter than it in MR and in CT: int16 intensities and uint8 labels."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    shift = rng.uniform(-0.1, 0.1, 2)
    labels = np.zeros(shape, np.uint8)
    labels[(x + 0.4 - shift[0]) ** 2 + (y - 0.1) ** 2 + (z / 3) ** 2 < 0.12] = 1
    labels[(x - 0.4 - shift[1]) ** 2 + (y + 0.2) ** 2 + (z / 3) ** 2 < 0.08] = 2
    body = x**2 + y**2 < 0.8
    levels = {'MR': (0, 300, 200, 700), 'CT': (-1000, 0, 100, 220)}[modality]
    image = np.where(body, levels[1], levels[0]) + rng.normal(0, 15, shape)
    image[labels == 1] += levels[2] - levels[1]
    image[labels == 2] += levels[3] - levels[1]
    return image.astype(np.int16), labels


def write_run_json(folder: Path, config: dict | None = None, **content) -> None:
    """run.json of a workdir with the system `synseg`."""
    config = config or {'systems': {'synseg': {}}, 'default_system': 'synseg'}
    (folder / 'run.json').write_text(json.dumps({'format': FORMAT, 'config': config, **content}))


def write_dataset(folder: Path, modality: str, subjects: int, seed: int = 0, labelled: bool = True) -> Path:
    """An nnU-Net raw folder of tiny scans."""
    (folder / 'imagesTr').mkdir(parents=True)
    (folder / 'labelsTr').mkdir()
    for number in range(subjects):
        image, labels = scan(1000 * seed + 10 * number + len(modality) + ord(modality[0]), modality)
        case = f'{modality.lower()}_{number}'
        nib.save(nib.Nifti1Image(image, AFFINE), folder / 'imagesTr' / f'{case}_0000.nii.gz')
        if labelled:
            nib.save(nib.Nifti1Image(labels, AFFINE), folder / 'labelsTr' / f'{case}.nii.gz')
    content = {'channel_names': {'0': modality}, 'labels': {name: i for i, name in enumerate(CLASSES)}}
    (folder / 'dataset.json').write_text(json.dumps({**content, 'numTraining': subjects, 'file_ending': '.nii.gz'}))
    return folder


def write_records(folder: Path, **changes) -> Path:
    """Datasets MR and CT in `folder`, and the records that `prepare` makes of them."""
    sets = []
    for name, modality, domain in (('source', 'MR', 'a'), ('target', 'CT', 'b')):
        path = folder / f'Dataset_{modality}'
        sets.append(Scans(name, path, domain))
        if not path.exists():
            write_dataset(path, modality, SUBJECTS[modality])
    prepare(sets, folder / 'records', parse_data(config(**changes)), progress=False)
    return folder / 'records'


@cache
def system(devices: int = 1, batch: int = 2, **changes) -> tuple:
    """(system, mesh, step), compiled once for all tests that ask for the same."""
    own = stage(train__batch=batch, train__devices=devices, **changes)
    made, over = System(own, CLASSES), parallel.mesh(devices)
    return made, over, made.step(6, over)


def batch(number: int, rows: int = 2, nan: bool = False) -> dict[str, np.ndarray]:
    """Global batch `number` of random images; `nan` spoils the source's."""
    rng = np.random.default_rng(number)
    images = {domain: rng.random((rows, 32, 32, 1), np.float32) for domain in 'ab'}
    if nan:
        images['a'][:] = np.nan
    return {**images, 'label_a': rng.integers(0, len(CLASSES), (rows, 32, 32)).astype(np.int32)}


def quiet() -> Console:
    """A console that keeps what it is told: `.file.getvalue()`."""
    return Console(file=io.StringIO(), width=300)


def arrays(tree) -> list[tuple[str, np.ndarray]]:
    """Every array of a state with its place in it."""
    return [(jax.tree_util.keystr(p), np.asarray(x)) for p, x in jax.tree_util.tree_leaves_with_path(tree)]


def same(one, other) -> bool:
    """Whether two states are equal to the bit."""
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(p == q and x.dtype == y.dtype and x.tobytes() == y.tobytes() for (p, x), (q, y) in pairs)


def environment() -> dict[str, str]:
    """The environment of a command's process, which shares compiled programs with the tests."""
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '200'}


def command(name: str, *arguments, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """A command called in this process: its exit code, and its output and warnings as text."""
    line, out, err = [*map(str, arguments)], io.StringIO(), io.StringIO()
    main = importlib.import_module(f'synseg_jax.{name}').main
    warnings = logging.StreamHandler(err)
    warnings.setLevel(logging.WARNING)
    logging.getLogger().addHandler(warnings)  # pytest's keep Python from printing them
    try:
        with chdir(cwd), mock.patch.dict(os.environ, COLUMNS='200'), redirect_stdout(out), redirect_stderr(err):
            code = main(line)
    finally:
        logging.getLogger().removeHandler(warnings)
    return subprocess.CompletedProcess([name, *line], code, out.getvalue(), err.getvalue())


@cache
def _first_arrays(**changes):
    made, over, _ = system(**changes)
    return jax.tree.map(np.asarray, made.first_state(over))


def first_state(**changes):
    """A fresh copy of the first state of `system(**changes)`."""
    return parallel.place(_first_arrays(**changes), parallel.mesh(1), LAYOUT)
