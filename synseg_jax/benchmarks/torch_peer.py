"""SynSeg-Net's or a U-Net's train step, or the segmentor, in PyTorch on random images, to compare the benchmark with.

Usage:
    python -m synseg_jax.benchmarks.torch_peer --size=256 --ngf=64 --batch=1           # settings of the published code
    python -m synseg_jax.benchmarks.torch_peer --size=256 --ngf=64 --batch=16 --best   # fastest settings
    python -m synseg_jax.benchmarks.torch_peer --architecture=unet --size=128 --ngf=16 --batch=4

Two ResNet generators, a ResNet segmentor and two PatchGANs; adversarial (least squares), cycle and segmentation
losses; Adam on all.  The U-Net: instance norm, ReLU, max pooling, a 2-wide convolution after each upsampling; cross
entropy.  --best: bfloat16 by autocast, channels_last, torch.compile, fused Adam.  Prints one JSON line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

CYCLE = 10.0


def resnet(outputs: int, width: int, blocks: int, tanh: bool) -> nn.Sequential:
    """The ResNet of the published code."""

    def normed(*layers, relu=True):
        channels = layers[-1].out_channels
        return [*layers, nn.InstanceNorm2d(channels), *([nn.ReLU()] if relu else [])]

    class Residual(nn.Module):
        def __init__(self, channels):
            super().__init__()
            first, second = ((nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)) for _ in range(2))
            self.layers = nn.Sequential(*normed(*first), *normed(*second, relu=False))

        def forward(self, x):
            return x + self.layers(x)

    layers = normed(nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7))
    for channels in (width, 2 * width):
        layers += normed(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1))
    layers += [Residual(4 * width) for _ in range(blocks)]
    for channels in (4 * width, 2 * width):
        layers += normed(nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1))
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7)]
    return nn.Sequential(*layers, *([nn.Tanh()] if tanh else []))


def patchgan(width: int) -> nn.Sequential:
    """The 70x70 PatchGAN."""
    layers, channels = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)], width
    for stride in (2, 2, 1):
        layers += [nn.Conv2d(channels, 2 * channels, 4, stride, 1), nn.InstanceNorm2d(2 * channels), nn.LeakyReLU(0.2)]
        channels *= 2
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, padding=1))


class UNet(nn.Module):
    """The U-Net with instance norm of `synseg_jax.networks.unet`, of PyTorch's own layers."""

    def __init__(self, outputs: int, width: int, levels: int):
        super().__init__()

        def normed(*layers):
            return [*layers, nn.InstanceNorm2d(layers[-1].out_channels), nn.ReLU()]

        def block(inputs, channels):
            first, second = (nn.Conv2d(given, channels, 3, padding=1) for given in (inputs, channels))
            return nn.Sequential(*normed(first), *normed(second))

        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(map(block, [1, *widths], widths))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), *normed(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(below, own, 2)))
            for own, below in pairwise(widths)
        )
        self.join = nn.ModuleList(block(2 * own, own) for own in widths[:-1])
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *blocks, bottom = self.down
        skips = []
        for block in blocks:
            skips.append(block(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = bottom(x)
        for up, join in reversed([*zip(self.up, self.join, strict=True)]):
            x = join(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


class UNetPeer:
    """The U-Net and its optimizer on random images."""

    def __init__(self, size: int, width: int, levels: int, batch: int, classes: int, best: bool):
        self.device, self.best = 'cuda' if torch.cuda.is_available() else 'cpu', best
        layout = torch.channels_last if best else torch.contiguous_format
        net = UNet(classes, width, levels).to(self.device, memory_format=layout)
        self.optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        self.net = torch.compile(net) if best else net
        self.images = (2 * torch.rand((batch, 1, size, size), device=self.device) - 1).to(memory_format=layout)
        self.labels = torch.randint(0, classes, (batch, size, size), device=self.device)

    def _logits(self):
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.best):
            return self.net(self.images).float()

    def train(self) -> None:
        """One step."""
        self.optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(self._logits(), self.labels).backward()
        self.optimizer.step()

    @torch.inference_mode()
    def segment(self) -> torch.Tensor:
        """Class indices of the batch."""
        return self._logits().argmax(1)


class Peer:
    """The five networks and their optimizers on random images."""

    def __init__(self, size: int, width: int, blocks: int, batch: int, classes: int, best: bool):
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.best = best
        layout = torch.channels_last if best else torch.contiguous_format
        networks = {'g_ab': resnet(1, width, blocks, True), 'g_ba': resnet(1, width, blocks, True)}
        networks |= {'s_b': resnet(classes, width, blocks, False), 'd_a': patchgan(width), 'd_b': patchgan(width)}
        nets = {name: net.to(self.device, memory_format=layout) for name, net in networks.items()}
        parameters = {player: [p for n in names for p in nets[n].parameters()] for player, names in
                 {'gen': ('g_ab', 'g_ba', 's_b'), 'dis': ('d_a', 'd_b')}.items()}  # fmt: skip
        fused = {'fused': True} if best and self.device == 'cuda' else {}
        self.parameters = parameters
        self.optimizers = {
            player: torch.optim.Adam(parameters[player], rate, betas=(0.5, 0.999), **fused)
            for player, rate in (('gen', 1e-4), ('dis', 2e-4))
        }
        self.nets = {name: torch.compile(net) if best else net for name, net in nets.items()}
        shape = (batch, 1, size, size)
        self.a, self.b = ((2 * torch.rand(shape, device=self.device) - 1).to(memory_format=layout) for _ in range(2))
        self.labels = torch.randint(0, classes, (batch, size, size), device=self.device)

    def _autocast(self):
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.best)

    def train(self) -> None:
        """One step: generators and segmentor, then discriminators on the same fakes."""
        run, a, b = self.nets, self.a, self.b
        for parameter in self.parameters['dis']:
            parameter.requires_grad_(False)
        with self._autocast():
            fake_b, fake_a = run['g_ab'](a), run['g_ba'](b)
            rec_a, rec_b = run['g_ba'](fake_b), run['g_ab'](fake_a)
            loss = _gan_loss(run['d_b'](fake_b), 1.0) + _gan_loss(run['d_a'](fake_a), 1.0)
            loss += CYCLE * ((rec_a.float() - a).abs().mean() + (rec_b.float() - b).abs().mean())
            loss += functional.cross_entropy(run['s_b'](fake_b).float(), self.labels)
        self._update('gen', loss)
        for parameter in self.parameters['dis']:
            parameter.requires_grad_(True)
        with self._autocast():
            pairs = {'d_b': (b, fake_b.detach()), 'd_a': (a, fake_a.detach())}
            loss = 0.5 * sum(_gan_loss(run[d](real), 1.0) + _gan_loss(run[d](fake), 0.0)
                             for d, (real, fake) in pairs.items())  # fmt: skip
        self._update('dis', loss)

    def _update(self, player, loss) -> None:
        self.optimizers[player].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[player].step()

    @torch.inference_mode()
    def segment(self) -> torch.Tensor:
        """Class indices of the batch."""
        with self._autocast():
            return self.nets['s_b'](self.b).argmax(1)


def _gan_loss(logits, target) -> torch.Tensor:
    return torch.square(logits.float() - target).mean()


def seconds(function: Callable[[], object], steps: int, warm_up: int = 5) -> float:
    """Median seconds of a call; on a GPU between the ends of back-to-back calls."""
    for _ in range(warm_up):
        function()
    if torch.cuda.is_available():
        ends = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        ends[0].record()
        for end in ends[1:]:
            function()
            end.record()
        torch.cuda.synchronize()
        return statistics.median(end.elapsed_time(following) for end, following in pairwise(ends)) / 1000
    times = [time.perf_counter()]
    for _ in range(steps):
        function()
        times.append(time.perf_counter())
    return statistics.median(end - start for start, end in pairwise(times))


def main() -> None:
    """Time the step or the segmentor, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in {
        'size': 256,
        'ngf': 64,
        'blocks': 9,
        'levels': 4,
        'batch': 1,
        'classes': 7,
        'steps': 20,
        'threads': 0,
    }.items():
        parser.add_argument(f'--{name}', type=int, default=value)
    parser.add_argument('--architecture', choices=('resnet', 'unet'), default='resnet')
    parser.add_argument('--best', action='store_true')
    parser.add_argument('--infer', action='store_true')
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    if options.best:
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    kind, depth = (UNetPeer, options.levels) if options.architecture == 'unet' else (Peer, options.blocks)
    peer = kind(options.size, options.ngf, depth, options.batch, options.classes, options.best)
    seconds_per_step = seconds(peer.segment if options.infer else peer.train, options.steps)
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    mode = 'infer' if options.infer else 'train'
    report = {'peer': f'PyTorch {torch.__version__}', 'mode': mode, 'best': options.best}
    print(json.dumps({**report, 'seconds_per_step': seconds_per_step, 'peak_memory_gib': memory}))


if __name__ == '__main__':
    main()
