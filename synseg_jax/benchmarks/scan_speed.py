"""How fast scans become records, and how fast they get their labels: random ones, from file to file."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, PyTree

from synseg_jax.formats import scan_file
from synseg_jax.imaging import slices
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.predict_scans import predict
from synseg_jax.inference.trained_model import Trained
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.training.system import System

AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])
BLOBS = 8  # bright and dark places along each axis
NOISE = 0.006  # of the range between dark and bright
ALL = (1.0, 0.0, 0.0)  # train, val, test


def preparing(system: System, shape: Sequence[int]) -> Iterator[dict[str, float]]:
    """Without end: slices a second, and a CPU second, of an MR scan with labels and a CT scan without, of `shape`."""
    settings = replace(system.config.data, classes=system.classes, subject='(.+)', same_patients=())
    settings = replace(settings, source_split=ALL, target_split=ALL, target_labels=False)
    values = {name: value for value, name in enumerate(system.classes)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sets = [
            Scans('source', _write(folder / 'source', 'mr', shape, len(values)), 'a', None, 'MR', values),
            Scans('target', _write(folder / 'target', 'ct', shape), 'b', None, 'CT', values),
        ]
        while True:
            with tempfile.TemporaryDirectory(dir=folder) as output, clocked() as spent:
                manifest = prepare(sets, Path(output) / 'records', settings, progress=False)
            count = sum(manifest.role(scans.name, 'train')['cases'][0]['slices'] for scans in sets)
            yield {f'prepare_slices_per_{unit}': count / seconds for unit, seconds in spent.items()}


def predicting(system: System, params: PyTree, shape: Sequence[int]) -> Iterator[dict[str, float]]:
    """Without end: seconds in which a CT scan of `shape` gets its labels, and those that the network takes of them.

    The network is compiled before.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scan = _write(folder, 'ct', shape) / 'images/ct.nii.gz'
        trained = Trained(Run(folder, system.config, system.classes, {'b': 'CT'}, {}), params)
        votes, network = trained.networks.votes, []
        votes(np.zeros((1, *system.size, 1 + 2 * system.config.context.slices), np.float32), 'b')

        def counted(*seen):
            with clocked() as spent:
                found = votes(*seen)
            network.append(spent['s'])
            return found

        trained.networks.votes = counted
        while True:
            network.clear()
            with clocked() as spent:
                predict(trained, {'ct': scan}, folder / 'labels')
            yield {'predict_s': spent['s'], 'predict_cpu_s': spent['cpu_s'], 'predict_network_s': sum(network)}


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """Seconds that pass until the block ends, `s`, and those that this process keeps the cores busy, `cpu_s`."""
    spent, began, busy = {}, time.perf_counter(), time.process_time()
    yield spent
    spent |= {'s': time.perf_counter() - began, 'cpu_s': time.process_time() - busy}


def smooth(rng: np.random.Generator, shape: Sequence[int]) -> Float[np.ndarray, '*space']:
    """Blobs in [0, 1] with faint noise, float32, which take about as long to unpack as a scan."""
    blobs = slices.resize_linear(rng.random((1, *(BLOBS,) * len(shape)), np.float32), tuple(shape))[0]
    blobs += NOISE * rng.standard_normal(blobs.shape, np.float32)
    return np.clip(blobs, 0, 1, out=blobs)


def _write(folder, name, shape, classes=0) -> Path:
    """A folder of one scan with a range of 2000, with labels of so many classes if any."""
    image = smooth(np.random.default_rng(0), shape)
    arrays = {'images': np.rint(2000 * image - 1000).astype(np.int16)}
    if classes:
        arrays['labels'] = np.minimum(image * classes, classes - 1).astype(np.uint8)
    for part, array in arrays.items():
        (folder / part).mkdir(parents=True)
        scan_file.write(folder / part / f'{name}.nii.gz', array, Volume(array, AFFINE))
    return folder
