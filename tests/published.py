"""Training steps of the published SynSeg-Net code, written anew in PyTorch: the numbers that test_parity.py reads.

    python tests/published.py make tests/data/published    # inputs, first weights, what four steps make of them
    python tests/published.py check FOLDER                 # the published code's own numbers, computed anew

Everything is in float64.  `check` is how we know that this file computes what MASILab/SynSeg-Net does: on numbers
recorded from that code it prints the largest difference in losses, outputs and weights, below 1e-9.
"""

import json
import random
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

NETWORKS = ('G_A', 'G_B', 'Seg_A', 'D_A', 'D_B')
OPTIONS = {
    'batchSize': 1, 'fineSize': 32, 'input_nc': 1, 'output_nc': 1, 'input_nc_seg': 1, 'output_nc_seg': 3,
    'seg_norm': 'CrossEntropy', 'ngf': 2, 'ndf': 2, 'which_model_netG': 'resnet_6blocks', 'n_layers_D': 3,
    'norm': 'instance', 'no_dropout': True, 'no_lsgan': False, 'identity': 0.5, 'lambda_A': 10.0, 'lambda_B': 10.0,
    'lr': 2e-4, 'beta1': 0.5, 'pool_size': 2, 'niter': 100, 'niter_decay': 100, 'crossentropy_weight': [1, 1, 10],
}  # fmt: skip
STEPS = 4


class Named(nn.Module):
    """Layers under the names that the published networks give them: `model.0`, `model.1`, ..."""

    def __init__(self, layers):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        first, second = ([nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), norm(width)] for _ in range(2))
        self.conv_block = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x):
        return x + self.conv_block(x)


def norm(width):
    return nn.InstanceNorm2d(width, eps=1e-5)


def resnet(outputs, width, blocks):
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), norm(width), nn.ReLU()]
    for channels in (width, 2 * width):
        layers += [nn.Conv2d(channels, 2 * channels, 3, 2, 1), norm(2 * channels), nn.ReLU()]
    layers += [Residual(4 * width) for _ in range(blocks)]
    for channels in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, 1), norm(channels // 2), nn.ReLU()]
    return Named([*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()])


def patchgan(width, depth):
    layers = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for stride in (*[2] * (depth - 1), 1):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1), norm(2 * width), nn.LeakyReLU(0.2)]
        width *= 2
    return Named([*layers, nn.Conv2d(width, 1, 4, 1, 1)])


def networks(option):
    blocks = int(option['which_model_netG'].removeprefix('resnet_').removesuffix('blocks'))
    made = [resnet(outputs, option['ngf'], blocks) for outputs in (1, 1, option['output_nc_seg'])]
    made += [patchgan(option['ndf'], option['n_layers_D']) for _ in range(2)]
    return {name: network.double() for name, network in zip(NETWORKS, made, strict=True)}


def lsgan(judged, real):
    return functional.mse_loss(judged, torch.full_like(judged, float(real)))


class Game:
    """The five networks, their optimizers, and the image pools with their decisions."""

    def __init__(self, folder):
        settings = json.loads((folder / 'settings.json').read_text())
        self.option, self.steps = settings['opt'], settings['steps']
        assert settings['model'] == 'cycle_seg' and not self.option['no_lsgan'] and self.option['batchSize'] == 1
        assert self.option['seg_norm'] == 'CrossEntropy'
        self.nets = networks(self.option)
        for name, network in self.nets.items():
            network.load_state_dict({k: v.double() for k, v in load_file(folder / f'init_{name}.safetensors').items()})
        adam = {'lr': self.option['lr'], 'betas': (self.option['beta1'], 0.999), 'eps': 1e-8}
        owned = {'G': NETWORKS[:3], 'D_A': ['D_A'], 'D_B': ['D_B']}
        self.adam = {
            player: torch.optim.Adam(chain(*(self.nets[name].parameters() for name in names)), **adam)
            for player, names in owned.items()
        }
        self.inputs = {name: torch.from_numpy(value) for name, value in np.load(folder / 'inputs.npz').items()}
        record = folder / 'pool_decisions.json'
        queries = json.loads(record.read_text())['queries'] if self.option['pool_size'] else []
        self.shown = {(q['pool'], q['step']): q['returned_(step,batch_index)'][0][0] for q in queries}
        self.fakes = {}

    def pool(self, name, step, fake):
        self.fakes[name, step] = fake.detach()
        return self.fakes[name, self.shown.get((name, step), step)]

    def forward(self, step):
        run = self.nets
        a, b = self.inputs[f'A_{step}'].double(), self.inputs[f'B_{step}'].double()
        out = {'fake_B': run['G_A'](a), 'fake_A': run['G_B'](b)}
        out |= {'rec_A': run['G_B'](out['fake_B']), 'rec_B': run['G_A'](out['fake_A'])}
        out |= {'seg_fake_B': run['Seg_A'](out['fake_B'])}
        out |= {'D_A_fake_B': run['D_A'](out['fake_B']), 'D_B_fake_A': run['D_B'](out['fake_A'])}
        out |= {'D_A_real_B': run['D_A'](b), 'D_B_real_A': run['D_B'](a)}
        if self.option['identity']:
            out |= {'idt_A': run['G_A'](b), 'idt_B': run['G_B'](a)}
        return a, b, out

    def step(self, step):
        """The losses of one step, after which the weights have moved; every player looks at the networks before it."""
        option = self.option
        a, b, out = self.forward(step)
        weights = torch.tensor(option['crossentropy_weight'], dtype=torch.float64)
        label = self.inputs[f'label_{step}'][:, 0].long()
        losses = {
            'loss_G_A': lsgan(out['D_A_fake_B'], True),
            'loss_G_B': lsgan(out['D_B_fake_A'], True),
            'loss_cycle_A': (out['rec_A'] - a).abs().mean() * option['lambda_A'],
            'loss_cycle_B': (out['rec_B'] - b).abs().mean() * option['lambda_B'],
            # divided by the number of pixels, not by the sum of their weights
            'loss_seg': functional.cross_entropy(out['seg_fake_B'], label, weights, reduction='none').mean(),
        }
        if option['identity']:
            losses['loss_idt_A'] = (out['idt_A'] - b).abs().mean() * option['lambda_B'] * option['identity']
            losses['loss_idt_B'] = (out['idt_B'] - a).abs().mean() * option['lambda_A'] * option['identity']
        losses['loss_G'] = sum(losses.values())
        self._move('G', losses['loss_G'])
        for judge, fake, real in (('D_A', 'fake_B', b), ('D_B', 'fake_A', a)):
            judged = [self.nets[judge](x) for x in (real, self.pool(f'{fake}_pool', step, out[fake]))]
            losses[f'loss_{judge}'] = 0.5 * (lsgan(judged[0], True) + lsgan(judged[1], False))
            self._move(judge, losses[f'loss_{judge}'])
        return {name: float(value.detach()) for name, value in losses.items()}

    def _move(self, player, loss):
        self.adam[player].zero_grad()
        loss.backward()
        self.adam[player].step()


def compute(folder):
    """Losses of all steps, outputs before the first, weights after the last."""
    game = Game(folder)
    with torch.no_grad():
        outputs = {name: value.numpy() for name, value in game.forward(1)[2].items()}
    losses = [game.step(step) for step in range(1, game.steps + 1)]
    return losses, outputs, {name: network.state_dict() for name, network in game.nets.items()}


def decisions(size, steps):
    """What two pools of `size` images show at each step: once they are full, an old one every second time."""
    rng, held, queries = random.Random(3), {}, []
    for step in range(1, steps + 1):
        for pool in ('fake_B_pool', 'fake_A_pool'):
            images, shown = held.setdefault(pool, []), step
            if len(images) < size:
                images.append(step)
            elif rng.uniform(0, 1) > 0.5:
                slot = rng.randint(0, size - 1)
                images[slot], shown = step, images[slot]
            queries.append({'step': step, 'pool': pool, 'returned_(step,batch_index)': [[shown, 0]]})
    return {'pool_size': size, 'queries': queries}


def make(folder):
    """A small variant in `folder`: images of blobs, networks of random weights, and what the steps make of them."""
    (folder / 'f64').mkdir(parents=True, exist_ok=True)
    (folder / 'settings.json').write_text(json.dumps({'model': 'cycle_seg', 'opt': OPTIONS, 'steps': STEPS}, indent=1))
    (folder / 'pool_decisions.json').write_text(json.dumps(decisions(OPTIONS['pool_size'], STEPS), indent=1))
    rng, size = np.random.default_rng(0), OPTIONS['fineSize']
    inputs = {}
    for step in range(1, STEPS + 1):
        rows, columns = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing='ij')
        for domain, sign in (('A', 1), ('B', -1)):
            row, column, radius = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.4)
            label = (rows**2 + columns**2 < 0.8).astype(np.int32)
            label[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 2
            image = np.clip(sign * (label - 1) * 0.6 + rng.normal(0, 0.1, label.shape), -1, 1)
            inputs[f'{domain}_{step}'] = image[None, None].astype(np.float32)
            if domain == 'A':
                inputs[f'label_{step}'] = label[None, None]
    np.savez_compressed(folder / 'inputs.npz', **inputs)
    torch.manual_seed(0)
    for name, network in networks(OPTIONS).items():
        tensors = {k: torch.zeros_like(v) if k.endswith('bias') else 0.2 * torch.randn_like(v)
                   for k, v in network.state_dict().items()}  # fmt: skip
        save_file({k: v.float() for k, v in tensors.items()}, folder / f'init_{name}.safetensors')
    losses, outputs, weights = compute(folder)
    (folder / 'f64' / 'losses.json').write_text(json.dumps({'steps': losses}, indent=1))
    np.savez_compressed(folder / 'f64' / 'outputs_step1.npz', **outputs)
    for name, tensors in weights.items():
        save_file(tensors, folder / 'f64' / f'step{STEPS}_{name}.safetensors')


def check(folder):
    """Prints how far the numbers of a variant are from those computed here."""
    losses, outputs, weights = compute(folder)
    expected = json.loads((folder / 'f64' / 'losses.json').read_text())['steps']
    off = [abs(ours[k] - theirs[k]) for ours, theirs in zip(losses, expected, strict=True) for k in ours]
    with np.load(folder / 'f64' / 'outputs_step1.npz') as stored:
        wrong = [np.abs(outputs[k] - stored[k]).max() for k in stored if k in outputs]
    steps = len(losses)
    moved = [
        (tensors[k] - theirs[k]).abs().max()
        for name, tensors in weights.items()
        for theirs in [load_file(folder / 'f64' / f'step{steps}_{name}.safetensors')]
        for k in tensors
    ]
    print(f'{folder.name}: losses {max(off):.1e}, outputs {max(wrong):.1e}, weights {max(moved):.1e}')


if __name__ == '__main__':
    {'make': make, 'check': check}[sys.argv[1]](Path(sys.argv[2]))
