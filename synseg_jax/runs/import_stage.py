"""Creates a workdir from weights exported by synseg_jax or by the published PyTorch code."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.exchange import importing
from synseg_jax.exchange.card import CARD, PUBLISHED, Card, sha256
from synseg_jax.exchange.tensors import read_tensors
from synseg_jax.exchange.torch_weights import fields, from_torch
from synseg_jax.files import atomic_folder, write_json
from synseg_jax.inference.model_folder import FORMAT, Run
from synseg_jax.objective import names
from synseg_jax.runs import stages
from synseg_jax.runs.run_file import RUN
from synseg_jax.specification.experiment import Experiment
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import KIND


def import_weights(
    config: Experiment,
    weights: Path,
    workdir: Path,
    system: str = '',
    stage: str = '',
    epoch: str = '',
    channels: tuple[str, ...] = (),
    typical: tuple[float, float] = (0.0, 1000.0),
) -> Run:
    """Import weights as `stage` of `system` of the configuration into a new workdir, written atomically.

    `system` defaults to `default_system`, `stage` to its only one.  For a folder without card.json, `epoch` selects the
    weight files, and `channels` and `typical` are passed to importing.without_card.  InputError if anything does not
    fit.
    """
    if workdir.exists():
        raise InputError(f'{workdir}: exists; choose another --workdir')
    system = system or config.default_system
    stage_config = config.stage(system, stage)
    if not stage_config.kind_of_stage.trains:
        raise InputError(f'stage {stage} of {system} trains no networks; choose another --stage')
    if (weights / CARD).is_file():
        card = Card.load(weights)
        files, run = {name: card.weights(name) for name in card.networks}, importing.with_card(stage_config, card)
    else:
        files = importing.weight_files(weights, epoch)
        run = importing.without_card(stage_config, files, channels, typical)
    params = read(run, files, weights)
    stage = stage or next(iter(config.stages(system)))
    place = f'stages/{stage}-{stages.digest([sha256(files[name]) for name in sorted(files)])}'
    with atomic_folder(workdir) as folder:
        run = replace(run, folder=folder / place)
        run.folder.mkdir(parents=True)
        run.save()
        save(run, params)
        described = {**config.given, 'default_system': system, 'data_dir': ''}
        write_json(folder / RUN, {'format': FORMAT, 'config': described, 'systems': {system: [place]}})
    return replace(run, folder=workdir / place)


def read(run: Run, files: Mapping[str, Path], weights: Path) -> dict[str, PyTree]:
    """The parameters of the stage's networks; InputError for missing, superfluous or mismatching files."""
    like = run.system.abstract_state(parallel.mesh(1)).params
    for networks, problem in (like.keys() - files.keys(), 'missing'), (files.keys() - like.keys(), 'left over'):
        if networks:
            listed = ', '.join(f'{PUBLISHED[name]} ({name})' for name in sorted(networks))
            raise InputError(f'{weights}: {problem} for method {run.config.method}: {listed}')
    params = {}
    for name, file in files.items():
        tensors, network = read_tensors(file), run.system.networks[name]
        try:
            imported = from_torch(network, tensors, like[name])
        except InputError as error:
            raise InputError(f'{file}: {error}{_remedy(name, network, fields(network, tensors))}') from error
        params[name] = jax.tree.map(lambda wanted, x: x.astype(wanted.dtype), like[name], imported)
    return params


def _remedy(name, network, fitting) -> str:
    """The --config flags with which the weights would fit: fields in `fitting` that differ from the network's."""
    kind = KIND[names.player(name)]
    flags = [f'--config.{kind}.{field}={value}' for field, value in fitting.items() if getattr(network, field) != value]
    return f'; it would fit with {" ".join(flags)}' if flags else ''


def save(run: Run, params: Mapping[str, PyTree]) -> None:
    """Write imported parameters as the checkpoint of the stage, at step 0."""
    over = parallel.mesh(1)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), run.system.abstract_state(over))
    state = state.replace(params=dict(params), average=dict(params) if state.average else {})
    with Checkpoints(run.folder / 'checkpoints') as checkpoints:
        checkpoints.save(parallel.place(state, over, LAYOUT), score=0.0)  # orbax warns about a missing score
