"""Time preparation and prediction of random scans, from file to file."""

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
BLOBS = 8  # bright and dark regions along each axis
NOISE = 0.006  # standard deviation, in [0, 1]
TRAIN_ONLY = (1.0, 0.0, 0.0)  # shares of train, val, test


def time_preparation(system: System, shape: Sequence[int]) -> Iterator[dict[str, float]]:
    """Endless: slices prepared per second and CPU second, from a labelled MR and an unlabelled CT scan."""
    settings = replace(system.config.data, classes=system.classes, subject='(.+)', same_patients=())
    settings = replace(settings, source_split=TRAIN_ONLY, target_split=TRAIN_ONLY, target_labels=False)
    values = {name: value for value, name in enumerate(system.classes)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sets = [
            Scans('source', _write(folder / 'source', 'mr', shape, len(values)), 'a', None, 'MR', values),
            Scans('target', _write(folder / 'target', 'ct', shape), 'b', None, 'CT', values),
        ]
        while True:
            with tempfile.TemporaryDirectory(dir=folder) as output, timer() as times:
                manifest = prepare(sets, Path(output) / 'records', settings, progress=False)
            count = sum(manifest.role(scans.name, 'train')['cases'][0]['slices'] for scans in sets)
            yield {f'prepare_slices_per_{unit}': count / seconds for unit, seconds in times.items()}


def time_prediction(system: System, params: PyTree, shape: Sequence[int]) -> Iterator[dict[str, float]]:
    """Endless: seconds to segment a CT scan of `shape`, and those spent in the network, compiled beforehand."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scan = _write(folder, 'ct', shape) / 'images/ct.nii.gz'
        trained = Trained(Run(folder, system.config, system.classes, {'b': 'CT'}, {}), params)
        run_network, network_s = trained.networks.probabilities, []
        run_network(np.zeros((1, *system.size, 1 + 2 * system.config.context.slices), np.float32), 'b')

        def timed(*arguments):
            with timer() as times:
                probabilities = run_network(*arguments)
            network_s.append(times['s'])
            return probabilities

        trained.networks.probabilities = timed
        while True:
            network_s.clear()
            with timer() as times:
                predict(trained, {'ct': scan}, folder / 'labels')
            yield {'predict_s': times['s'], 'predict_cpu_s': times['cpu_s'], 'predict_network_s': sum(network_s)}


@contextmanager
def timer() -> Iterator[dict[str, float]]:
    """Time the block: the dict gets its wall-clock seconds `s`, and the CPU seconds of this process `cpu_s`."""
    times, start, cpu_start = {}, time.perf_counter(), time.process_time()
    yield times
    times |= {'s': time.perf_counter() - start, 'cpu_s': time.process_time() - cpu_start}


def smooth(rng: np.random.Generator, shape: Sequence[int]) -> Float[np.ndarray, '*space']:
    """Smooth blobs in [0, 1] with faint noise, float32, about as compressible as a real scan."""
    blobs = slices.resize_linear(rng.random((1, *(BLOBS,) * len(shape)), np.float32), tuple(shape))[0]
    blobs += NOISE * rng.standard_normal(blobs.shape, np.float32)
    return np.clip(blobs, 0, 1, out=blobs)


def _write(folder, name, shape, classes=0) -> Path:
    """Write a dataset of one scan with intensities from -1000 to 1000, and labels if `classes` is not 0."""
    seed = int.from_bytes(name.encode())  # scans of different names differ: prepare refuses the same voxels twice
    image = smooth(np.random.default_rng(seed), shape)
    arrays = {'images': np.rint(2000 * image - 1000).astype(np.int16)}
    if classes:
        arrays['labels'] = np.minimum(image * classes, classes - 1).astype(np.uint8)
    for part, array in arrays.items():
        (folder / part).mkdir(parents=True)
        scan_file.write(folder / part / f'{name}.nii.gz', array, Volume(array, AFFINE))
    return folder
