"""Systems that nobody has trained: random weights, as scans are given to them or as a workdir of `main` holds them."""

import time
from pathlib import Path

import jax
import tiny

from synseg_jax.devices import parallel
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.training.checkpoint import Checkpoints

CHANNELS = {'a': 'MR', 'b': 'CT'}
TYPICAL = {'a': (0.0, 700.0), 'b': (-200.0, 300.0)}


def run(folder: Path, **changes) -> model_folder.Run:
    """A stage of the tiny configuration with fields changed, written `predict__flips='lr'`."""
    return model_folder.Run(folder, tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES, CHANNELS, TYPICAL)


def trained(folder: Path, **changes) -> trained_model.Trained:
    """The same, with weights drawn anew."""
    made = run(folder, **changes)
    return trained_model.Trained(made, made.system.first_state(parallel.mesh(1)).params)


def workdir(folder: Path, **changes) -> Path:
    """A workdir with one system of one stage, and its checkpoint."""
    stage = run(folder / 'stage', **changes)
    stage.folder.mkdir(parents=True)
    stage.save()
    _keep(stage.system, stage.folder)
    tiny.write_run_json(folder, systems={'synseg': ['stage']})
    return folder


def fit(self, console, signals) -> tuple[trained_model.Trained, dict]:
    """A stand-in for `StageTraining.run` where training itself is not tested: keeps the first weights."""
    stage = self._describe()
    if not self.done:
        _keep(self.system, stage.folder)
        self._cost(time.monotonic(), self.plan.steps, finished=True)
    return trained_model.Trained(stage), self._cost_so_far()


def _keep(system, folder):
    """Saves the first state of a system as the only checkpoint of its folder."""
    checkpoints = Checkpoints(folder / 'checkpoints')
    checkpoints.save(jax.block_until_ready(system.first_state(parallel.mesh(1))), 0.5)
    checkpoints.close()
