"""How long a planned configuration takes on this machine: a few steps of each kind are timed."""

from synseg_jax.benchmarks.training_speed import Timing
from synseg_jax.planning.choices import ROUNDS
from synseg_jax.planning.facts import Facts
from synseg_jax.specification.experiment import Experiment
from synseg_jax.training.system import System

SYSTEM, FIRST, LATER = 'adapt', 'generalise', 'adapt1'
STEPS = 8  # timed
INFERENCE = 0.35  # of the time of a step that its images take to be segmented


def seconds(config: Experiment, sets: tuple[Facts, Facts], classes: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds of a step of the first training, of one of self-training, and of all else.

    All else: compiling, pseudo labels for every slice of the target, and validation and tests.
    """
    timings = [Timing(System(config.stage(SYSTEM, name), classes)) for name in (FIRST, LATER)]
    first, later = (timing.seconds_per_step(STEPS) for timing in timings)
    target = sets[1].scans * sets[1].shape[0]  # slices
    labelled = INFERENCE * first / config.train.batch * (ROUNDS + 1) * target
    return first, later, sum(timing.compile_seconds for timing in timings) + labelled
