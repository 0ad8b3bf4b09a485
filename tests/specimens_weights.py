"""Small weights in every form: files of tensors, exports, checkpoints, and the run that they belong to."""

import importlib.util
import logging
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import tiny
import weights
from specimens import Change, Specimen, judge_all
from specimens_runs import JSON

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.exchange import importing
from synseg_jax.exchange.card import Card
from synseg_jax.exchange.exporting import export
from synseg_jax.exchange.tensors import read_tensors, write_tensors
from synseg_jax.exchange.torch_weights import fields, from_torch, to_torch
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import model_folder
from synseg_jax.runs import open_run
from synseg_jax.runs.import_stage import read
from synseg_jax.training.checkpoint import Checkpoints


def _workdir(root: Path) -> Path:
    weights.workdir(root / 'run', 'context')
    return root / 'run'


@cache
def _system():
    run = model_folder.Run(Path(), tiny.configure(weights.configured('context'), 'synseg'), tiny.CLASSES, {}, {})
    return run.system, run.system.abstract_state(parallel.mesh(1))


def _checkpoints(root: Path) -> Path:
    """One checkpoint alone: zeros, as the last one holds, are not even stored."""
    folder = _workdir(root) / 'stages/context-0123456789/checkpoints'
    shutil.rmtree(folder / '1')
    return folder


def _read_checkpoints(folder: Path) -> dict:
    checkpoints = Checkpoints(folder, say=logging.getLogger('absl').warning, alone=True)
    try:
        found = checkpoints.latest(_system()[1])
    finally:
        checkpoints.close()
    if found is None:
        raise InputError(f'{folder}: nothing in it')
    return dict(tiny.arrays(found))


def _lose(folder: Path, rng: np.random.Generator) -> str:
    """A file or a folder is missing, empty or doubled."""
    paths = sorted(folder.rglob('*'))
    path = paths[rng.integers(len(paths))]
    how = str(rng.choice(['missing', 'emptied', 'zeroed']))
    if how == 'missing':
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif path.is_file():
        path.write_bytes(bytes(path.stat().st_size) if how == 'zeroed' else b'')
    return f'{how} {path.relative_to(folder)}'


def _read_run(workdir: Path) -> dict:
    found = open_run.find(workdir)
    return {'config': found.config.to_json(), 'classes': list(found.run.classes), 'channels': dict(found.run.channels)}


def _exported(root: Path) -> Path:
    export(open_run.find(_workdir(root)), root / 'out')
    return root / 'out'


def _read_export(folder: Path) -> dict:
    """The weights as import_weights takes them."""
    card = Card.load(folder)
    files, run = {name: card.weights(name) for name in card.networks}, importing.with_card(tiny.config(), card)
    return {'params': {name: dict(tiny.arrays(of)) for name, of in read(run, files, folder).items()}, 'card': str(card)}


def _read_by_torch(folder: Path) -> dict:
    """Labels by PyTorch."""
    from synseg_jax.exchange.torch_evaluator import Evaluator  # which needs PyTorch

    image = tiny.scan(3, 'CT')[0].astype(np.float32)
    return {'labels': Evaluator(folder).segment(Volume(image, tiny.AFFINE), 'b')}


def _judge_export(good, found, change: Change) -> str:
    return 'other weights' if change.file.suffix == '.safetensors' else ''


def _tensors(suffix: str):
    def write(root):
        system, state = _system()
        rng = np.random.default_rng(0)
        tensors = to_torch(system.networks['s_b'], _drawn(rng, state.params['s_b']))
        write_tensors(root / f'latest_net_Seg_A{suffix}', tensors)
        return root

    return write


def _drawn(rng, like):
    if hasattr(like, 'shape'):
        return rng.normal(size=like.shape).astype(np.float32)
    return {name: _drawn(rng, of) for name, of in like.items()}


def _read_tensors(folder: Path) -> dict:
    system, state = _system()
    (path,) = importing.found(folder).values()
    try:
        tensors = read_tensors(path)
        fields(system.networks['s_b'], tensors)
        return dict(tiny.arrays(from_torch(system.networks['s_b'], tensors, state.params['s_b'])))
    except InputError as error:  # import_weights puts the file's name before
        raise error if path.name in str(error) else InputError(f'{path}: {error}') from error


def _judge_tensors(good, found, change: Change) -> str:
    if change.file.suffix == '.pth':
        return 'other weights'
    arrays = [np.asarray(of) for of in found.values()]
    return '' if all(of.dtype.kind == 'f' and np.isfinite(of).all() for of in arrays) else 'no finite numbers'


WEIGHTS = {
    'weights .safetensors': Specimen(_tensors('.safetensors'), _read_tensors, _judge_tensors),
    'checkpoints': Specimen(_checkpoints, _read_checkpoints, judge_all, folder=_lose, share=2, misplaced=False),
    'run and stage': Specimen(
        _workdir, _read_run, fields=JSON, files=lambda path: [*path.glob('*.json'), *path.glob('*/*/*.json')], share=2
    ),
    'export': Specimen(_exported, _read_export, _judge_export, JSON, share=2),
}
if importlib.util.find_spec('torch'):
    WEIGHTS |= {
        'weights .pth': Specimen(_tensors('.pth'), _read_tensors, _judge_tensors),
        'export, by PyTorch': Specimen(_exported, _read_by_torch, _judge_export, JSON, share=2),
    }
