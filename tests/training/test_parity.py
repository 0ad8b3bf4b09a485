"""Four training steps of the published SynSeg-Net code, to the last digits: losses and weights in float64.

A small variant, which tests/published.py made and explains, lies in tests/data; larger ones, recorded from that code,
in `parity/` of the shared folder, or in the folder that PARITY_DIR names.
"""

import json
import os
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synseg_jax.devices import parallel
from synseg_jax.exchange import torch_weights
from synseg_jax.networks import build
from synseg_jax.objective.methods import method
from synseg_jax.objective.terms import TERMS
from synseg_jax.objective.view import View
from synseg_jax.specification.objective import Losses
from synseg_jax.training import optimizers, state
from synseg_jax.training.image_pool import Past
from synseg_jax.training.step import make_step

FOLDER = Path(os.environ.get('PARITY_DIR') or Path(__file__).resolve().parents[3] / 'shared' / 'parity')
SMALL = Path(__file__).parents[1] / 'data' / 'published'
VARIANTS = [SMALL, *sorted(path.parent for path in FOLDER.glob('*/settings.json'))]
PUBLISHED = {'g_ab': 'G_A', 'g_ba': 'G_B', 's_b': 'Seg_A', 'd_b': 'D_A', 'd_a': 'D_B'}  # D_A judges B images

if len(VARIANTS) == 1 and os.environ.get('PARITY_DIR'):
    raise FileNotFoundError(f'PARITY_DIR holds no variant: {FOLDER}')

variants = pytest.mark.parametrize('variant', VARIANTS, ids=lambda path: path.name)


class Recorded:
    """The published image pool, one for the whole batch, with its random decisions read from a record, if any.

    Stands in for history.PerRow.  Its images are the fakes seen so far, rows by steps; `filled` holds for every row how
    many steps those are, then which fake is shown at each step: without a record, the row's own.
    """

    @staticmethod
    def empty(domain, images, steps, folder):
        rows = images.shape[0]
        returned = np.arange(steps * rows).reshape(steps, rows)
        if folder:
            queries = json.loads((folder / 'pool_decisions.json').read_text())['queries']
            for query in (q for q in queries if q['pool'] == f'fake_{domain.upper()}_pool'):
                shown = query['returned_(step,batch_index)']
                returned[query['step'] - 1] = [(step - 1) * rows + row for step, row in shown]
        memory = jnp.zeros((rows, steps, *images.shape[1:]), images.dtype)
        return Past(memory, jnp.asarray(np.concatenate([np.zeros((rows, 1), int), returned.T], 1), jnp.int32))

    @staticmethod
    def exchange(past, fakes, keys):
        del keys
        step = past.filled[0, 0]
        images = past.images.at[:, step].set(fakes)
        seen = images.swapaxes(0, 1).reshape(-1, *fakes.shape[1:])
        return seen[past.filled[:, 1 + step]], Past(images, past.filled.at[:, 0].add(1))


class Rules:
    """Networks, losses and step as settings describe them, but for the pool."""

    def __init__(self, settings, kind):
        option = settings['opt']
        assert option['norm'] == 'instance' and option['no_dropout'] and settings['model'] in ('cycle_seg', 'cycle_gan')
        segments = settings['model'] == 'cycle_seg'
        identity, lambda_a, lambda_b = option['identity'], option['lambda_A'], option['lambda_B']
        gen = {'cyc_a': lambda_a, 'cyc_b': lambda_b, 'idt_a': lambda_a * identity, 'idt_b': lambda_b * identity}
        self.method = method('synseg' if segments else 'cyclegan').pay({'gen': gen})
        self.dice = segments and option['seg_norm'] == 'DiceNorm'
        self.choices = Losses(
            adversarial='log_likelihood' if option['no_lsgan'] else 'lsgan',
            segmentation='dice' if self.dice else 'cross_entropy',
            class_weights=tuple(option.get('crossentropy_weight') or ()),
        )
        types = {'dtype': kind, 'param_dtype': kind}
        blocks = int(option['which_model_netG'].removeprefix('resnet_').removesuffix('blocks'))
        resnet = {'width': option['ngf'], 'blocks': blocks, 'tanh': True, **types}
        generator = build('resnet', channels=option['output_nc'], **resnet)
        judge = build('patchgan', width=option['ndf'], layers=option['n_layers_D'], **types)
        self.networks = {'g_ab': generator, 'g_ba': generator, 'd_a': judge, 'd_b': judge}
        if segments:
            self.networks['s_b'] = build('resnet', channels=option['output_nc_seg'], **resnet)
        alike = {net: jax.jit(lambda p, x, net=net: net.apply({'params': p}, x)) for net in self.networks.values()}
        self.apply = {name: lambda p, x, keys=None, n=net: alike[n](p, x) for name, net in self.networks.items()}
        rate = optimizers.constant_then_linear(option['lr'], option['niter'], option['niter_decay'], unit=10**6)
        adam = optimizers.optimizer('adam', b1=option['beta1'], b2=0.999, eps=1e-8)
        self.optimizers = dict.fromkeys(self.networks, adam)
        self.mesh = parallel.mesh(1)
        rates = dict.fromkeys(self.networks, rate)
        self.step = make_step(self.method, self.view, self.optimizers, rates, Recorded.exchange, self.mesh)
        # Not compiled as a whole: such a program would hold every network as often as it is run.
        self.outputs, self.losses = self._outputs, self._losses

    def view(self, params, batch, **more):
        return View(self.apply, params, batch, self.choices, **more)

    def _outputs(self, params, batch):
        view = self.view(params, batch)
        named = {
            'fake_B': view.fake_b, 'fake_A': view.fake_a, 'rec_A': view.rec_a, 'rec_B': view.rec_b,
            'D_A_fake_B': view.d_b(view.fake_b), 'D_B_fake_A': view.d_a(view.fake_a),
            'D_A_real_B': view.d_b(view.b), 'D_B_real_A': view.d_a(view.a),
            'D_A_fake_B_gstep': view.d_b(view.fake_b), 'D_B_fake_A_gstep': view.d_a(view.fake_a),
            'idt_A': view.g_ab(view.b), 'idt_B': view.g_ba(view.a),
        }  # fmt: skip
        return named | ({'seg_fake_B': view.s_b(view.fake_b)} if 's_b' in self.networks else {})

    def _losses(self, params, batch):
        view = self.view(params, batch)
        return {name: TERMS[name].value(view) for name in self.method.terms()}


@cache
def rules(settings: str, kind) -> Rules:
    """The rules of settings as JSON, made and compiled once."""
    return Rules(json.loads(settings), kind)


class Game:
    """One variant: its rules, its first weights and what it is shown."""

    def __init__(self, folder: Path, kind=jnp.float64):
        self.folder, self.kind = folder, kind
        settings = json.loads((folder / 'settings.json').read_text())
        self.steps = settings['steps']
        self.record = folder if settings['opt'].pop('pool_size') else None
        self.rules = rules(json.dumps({'model': settings['model'], 'opt': settings['opt']}), kind)
        self.networks = self.rules.networks

    def params(self, prefix='init'):
        return {
            name: jax.tree.map(
                lambda x: jnp.asarray(x, self.kind),
                torch_weights.from_torch(
                    network, torch_weights.read_tensors(self.folder / f'{prefix}_{PUBLISHED[name]}.safetensors')
                ),
            )
            for name, network in self.networks.items()
        }

    def batches(self):
        with np.load(self.folder / 'inputs.npz') as inputs:
            for s in range(1, self.steps + 1):
                a, b = (np.moveaxis(inputs[f'{d}_{s}'], 1, -1).astype(self.kind) for d in 'AB')
                yield jax.tree.map(
                    jnp.asarray, {'a': a, 'b': b, 'label_a': inputs[f'label_{s}'][:, 0].astype(np.int32)}
                )

    def run(self):
        batches = list(self.batches())
        history = {domain: Recorded.empty(domain, batches[0][domain], self.steps, self.record) for domain in 'ab'}
        # on the mesh, or the second step, whose state is there, compiles again
        first = state.create(self.params(), self.rules.optimizers, history)
        now, losses = parallel.place(first, self.rules.mesh, state.LAYOUT), []
        for batch in batches:
            now, metrics = self.rules.step(now, batch)
            losses.append({name: float(value) for name, value in metrics.items()})
        return now, losses


def published_losses(game, step):
    """The published losses of one step under the names of our terms, with their published weights taken out."""
    weights = game.rules.method.loss_weights['gen']
    published = {
        'adv_b': step['loss_G_A'], 'adv_a': step['loss_G_B'],
        'cyc_a': step['loss_cycle_A'] / weights['cyc_a'], 'cyc_b': step['loss_cycle_B'] / weights['cyc_b'],
        'dis_b': step['loss_D_A'], 'dis_a': step['loss_D_B'],
    }  # fmt: skip
    if 'idt_a' in weights:
        published['idt_b'] = step['loss_idt_A'] / weights['idt_b']
        published['idt_a'] = step['loss_idt_B'] / weights['idt_a']
    if 'seg_fake_b' in weights:
        published['seg_fake_b'] = step['loss_seg'] + (1 if game.rules.dice else 0)  # ours is 1 - Dice, theirs -Dice
    return published


@variants
def test_parity_of_four_steps(variant, x64):
    game = Game(variant)
    now, losses = game.run()
    expected = json.loads((variant / 'f64' / 'losses.json').read_text())['steps']
    assert len(expected) == len(losses) == game.steps
    for ours, theirs in zip(losses, expected, strict=True):
        published = published_losses(game, theirs)
        assert set(published) == set(game.rules.method.terms())
        for name, value in published.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-9, err_msg=name)
        total = sum(weight * ours[name] for name, weight in game.rules.method.loss_weights['gen'].items())
        np.testing.assert_allclose(total - (1 if game.rules.dice else 0), theirs['loss_G'], rtol=1e-9)
    after = game.params(f'f64/step{game.steps}')
    for name in game.networks:
        ours, theirs = (torch_weights.to_torch(game.networks[name], p[name]) for p in (now.params, after))
        for tensor in theirs:
            np.testing.assert_allclose(ours[tensor], theirs[tensor], rtol=0, atol=1e-8, err_msg=f'{name} {tensor}')


@variants
def test_parity_of_first_outputs(variant, x64):
    game = Game(variant)
    ours = game.rules.outputs(game.params(), next(iter(game.batches())))
    with np.load(variant / 'f64' / 'outputs_step1.npz') as expected:
        assert set(expected) <= set(ours)
        for name in expected:
            value = np.moveaxis(np.asarray(ours[name]), -1, 1)
            if name.startswith('D_') and game.rules.choices.adversarial == 'log_likelihood':
                value = jax.nn.sigmoid(value)  # the published network ends in a sigmoid, ours in logits
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


@variants
def test_parity_in_float32_of_the_first_step(variant):
    alone = variant / 'losses_f32.json'
    expected = json.loads((alone if alone.exists() else variant / 'f64' / 'losses.json').read_text())['steps'][0]
    game = Game(variant, jnp.float32)
    found = game.rules.losses(game.params(), next(iter(game.batches())))
    for name, value in published_losses(game, expected).items():
        np.testing.assert_allclose(float(found[name]), value, rtol=1e-5, err_msg=name)
