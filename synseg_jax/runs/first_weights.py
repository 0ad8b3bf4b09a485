"""The weights that a training begins with: random ones, those of earlier stages, and its judge's."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError, known
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.trained_model import Trained
from synseg_jax.objective import names
from synseg_jax.runs import judge
from synseg_jax.specification.stage import Stage
from synseg_jax.training.state import State
from synseg_jax.training.system import System


def first_state(
    system: System, stage: Stage, over: Mesh, begin: Sequence[Path] = (), judged_by: Path | None = None
) -> State:
    """The first state of a stage's training, with weights of the stages in `begin`, later ones first, and its judge's.

    InputError if these are of another size or kind, or no such judge is possible.
    """
    state = system.first_state(over)
    given = _of_earlier(stage, begin, state.params) if begin else {}
    if judged_by:
        given |= judge.weights(system, stage, judged_by, state.params[names.JUDGE])
    if not given:
        return state
    params = parallel.place({**state.params, **given}, over, parallel.REPLICATED)
    averaged = jax.tree.map(np.copy, {name: params[name] for name in state.average})
    return state.replace(params=params, average=parallel.place(averaged, over, parallel.REPLICATED))


def _of_earlier(stage, begin, params) -> dict[str, PyTree]:
    """{network: weights of earlier stages} of the networks that the stage names, or of all that it has."""
    given: Mapping = ChainMap(*(Trained(Run.load(folder)).networks.params for folder in reversed(begin)))
    networks = stage.start.networks or sorted(given.keys() & params.keys())
    chosen = {name: given[known('network of start.networks', name, given)] for name in networks}
    sizes = (jax.tree.map(np.shape, tree) for tree in (chosen, {name: params.get(name) for name in chosen}))
    if next(sizes) != next(sizes):
        raise InputError(
            f'start.stages {", ".join(stage.start.stages)}: {", ".join(networks)} are of another size or kind'
        )
    return chosen
