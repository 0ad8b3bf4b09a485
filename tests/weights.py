"""Tiny stages with random weights in all that has any, in a workdir as after training."""

from pathlib import Path

import jax
import numpy as np
import tiny

from synseg_jax.devices import parallel
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.runs import open_run
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.state import LAYOUT

UNET = {'architecture': 'unet', 'width': 3, 'levels': 2, 'extra': 2, 'dropout': 0.5, 'norm': True, 'up_width': 2}
STRIDED = {**UNET, 'extra': 0, 'strided': True, 'norm': False, 'up_width': 3, 'dropout': 0.0}
ON_TARGET = {'method': 'supervised', 'loss_weights__seg__seg_a': 0.0, 'loss_weights__seg__seg_b': 1.0}
VOLUMES = {'data__size': (8, 16, 16), 'data__spacing_mm': 4.5}
# What a stage is, by what it shows: (fields, networks of the configuration).
STAGES = {
    'published': ({}, {}),
    'resize': ({'generator__resize': True, 'segmentor__resize': True}, {}),
    'context': ({**ON_TARGET, 'context__slices': 1, 'predict__resample': 'linear', 'predict__flips': 'lr',
                 'data__slice_axis': 'sagittal', 'data__spacing_mm': 2.0},
                {'segmentor': {**UNET, 'max_width': 5, 'deep_supervision': 1}}),
    'volumes': ({**ON_TARGET, **VOLUMES, 'predict__rotate': 6.0, 'predict__zoom': 1.1, 'predict__holes': 'fill'},
                {'segmentor': STRIDED}),
    'resnet_of_volumes': ({**ON_TARGET, **VOLUMES, 'data__cut_about': 'body', 'data__antialias': True,
                           'data__bias_correction': True, 'segmentor__tanh': True, 'predict__window': 'middle'}, {}),
    'residual': ({**ON_TARGET, 'loss__segmentation': 'binary_cross_entropy', 'predict__flips': 'lr',
                  'predict__components': 'largest', 'predict__holes': 'slices', 'data__target_center': 0.8,
                  'predict__darkest': 0.2, 'predict__brightest': 0.9,
                  'data__slice_axis': 'coronal', 'predict__gamma': 1.3},
                 {'segmentor': {'architecture': 'res_unet', 'width': 3, 'levels': 1, 'strided': True}}),
    'twins': ({'method': 'tumor_aware'}, {'segmentor': {**UNET, 'extra': 0}}),
    'generators': ({'method': 'cyclegan'}, {'generator': {**UNET, 'strided': True, 'tanh': True}}),
}  # fmt: skip


def workdir(folder: Path, *kinds: str, seed: int = 6) -> trained_model.Trained:
    """A workdir with a stage for each kind, and the last of them as it is read there."""
    folders = []
    for kind in kinds:
        config = configured(kind)
        folders.append(f'stages/{kind}-0123456789')
        own = tiny.configure(config, 'synseg')
        classes = tiny.CLASSES[:2] if own.loss.segmentation == 'binary_cross_entropy' else tiny.CLASSES
        typical = {'a': (0.0, 700.0), 'b': (-200.0, 300.0)}
        run = model_folder.Run(folder / folders[-1], own, classes, {'a': 'MR', 'b': 'CT'}, typical)
        run.folder.mkdir(parents=True)
        run.save()
        save(run, seed)
    tiny.write_run_json(folder, config.to_dict(), systems={'synseg': folders})
    return open_run.find(folder, network='')


def configured(kind: str):
    """The configuration whose only stage is of that kind."""
    fields, networks = STAGES[kind]
    config = tiny.config(**fields)
    for name, of in networks.items():
        config[name] = of
    return config


def save(run: model_folder.Run, seed: int) -> None:
    """Two checkpoints: random weights with the higher score, then zeros."""
    over, random = parallel.mesh(1), np.random.default_rng(seed)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), run.system.abstract_state(over))
    params = jax.tree.map(lambda x: _drawn(random, x), zeros.params)
    drawn = zeros.replace(params=params, average=params if zeros.average else {})
    checkpoints = Checkpoints(run.folder / 'checkpoints')
    checkpoints.save(parallel.place(drawn, over, LAYOUT), score=0.9)
    checkpoints.save(parallel.place(zeros.replace(step=np.ones_like(zeros.step)), over, LAYOUT), score=0.1)
    checkpoints.close()


def _drawn(random, like):
    """Weights that neither drown nor blow up what passes through them, biases that shift it."""
    scale = 1.5 / np.sqrt(like[..., 0].size) if like.ndim > 1 else 0.2
    return random.normal(0, scale, like.shape).astype(like.dtype)
