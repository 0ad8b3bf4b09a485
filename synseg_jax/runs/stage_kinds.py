"""Runs a stage, and opens what it leaves, by its entry in the table of kinds in synseg_jax/specification/stage_kind.py.

Modules are imported when needed, so that predicting does not wait for what only training uses.
"""

from collections.abc import Callable
from importlib import import_module

from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.trained_model import Segmenter
from synseg_jax.runs.stages import Job, Outcome


def run(job: Job) -> Outcome:
    """Runs a stage in its folder, or opens it where it has run: of a training, that is train_stage.run."""
    return function(job.stage.config.kind_of_stage.run, 'run')(job)


def load(run: Run, network: str) -> 'Segmenter | None':
    """What a stage leaves, if it has networks whose names begin with `network`: s for segmentors, '' for any."""
    module = run.config.kind_of_stage.load
    return function(module, 'load')(run, network) if module else None


def function(module: str, name: str) -> Callable:
    """A function of one of our modules."""
    return getattr(import_module(f'synseg_jax.{module}'), name)
