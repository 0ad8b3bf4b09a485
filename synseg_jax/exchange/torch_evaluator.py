"""Segment scans in PyTorch with what synseg_jax.export wrote; JAX is not needed.

Usage:
    python -m synseg_jax.exchange.torch_evaluator --export=weights --input=scans/imagesTs --output=labels

--input is a scan, a folder of scans or an nnU-Net dataset.  Labels carry the affine of their scan; dataset.json
beside them names the classes.  --domain=a segments scans of the labelled modality instead of the target.

NIfTI, NRRD and MetaImage need PyTorch, numpy, nibabel and safetensors, and these files of synseg_jax, which may be
copied:

    __init__ errors dicom/__init__ dicom/series_names
    exchange/__init__ exchange/card exchange/pth exchange/tensors exchange/torch_evaluator
    exchange/torch_networks files/__init__ files/scan_errors files/schema files/stage_schema
    formats/__init__ formats/header_fields formats/lazy formats/metaimage formats/names formats/nifti formats/nrrd
    formats/outputs formats/scan_file formats/text_header
    imaging/__init__ imaging/arrays imaging/intensity imaging/memory_limit imaging/modality imaging/network_grid
    imaging/slices imaging/sliding_window imaging/volume imaging/voxel_bytes
    inference/__init__ inference/postprocess objective/__init__ objective/methods
    objective/names

Exports made with predict.components or predict.window=middle need scipy, and so does --straighten, with
formats/straight; DICOM needs what synseg_jax needs.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError, known, shortened
from synseg_jax.exchange.card import CARD, Card
from synseg_jax.exchange.pth import pytorch
from synseg_jax.exchange.tensors import check_weights, read_tensors
from synseg_jax.files import write_json
from synseg_jax.files.scan_errors import ScanErrors
from synseg_jax.formats import outputs, scan_file
from synseg_jax.formats.lazy import Lazy, require
from synseg_jax.imaging import intensity, slices
from synseg_jax.imaging.arrays import Float, Integer
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.sliding_window import about_middle, tiled
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import postprocess

straight = Lazy('synseg_jax.formats.straight', 'scipy', '--straighten resamples')

BATCH = 8  # slices at a time


class Evaluator:
    """Exported networks, applied to scans."""

    def __init__(self, folder: Path, device: str = 'cpu'):
        """What the card in `folder` describes, computed on a device that PyTorch knows by this name."""
        self.card, self.torch, self.device = Card.load(folder), pytorch('the evaluator cannot run'), device
        self.functions: dict = {}
        predict = self.card.predict
        if predict['components'] or predict.get('window') == 'middle':
            require('scipy', f'{folder} asks for pieces of labels')

    def segment(self, scan: Volume, domain: str) -> Integer[np.ndarray, 'x y z']:
        """Class indices on the scan's own grid and axes; the scan is of the modality of `domain`."""
        frame, context, wanted = self._frame(scan, domain), self.card.context, self.card.predict
        images = frame.images(context['slices'], context['spacing_mm'])

        def votes_of(images):
            votes = self.votes(images, domain)
            return (votes + self._mirrored(images, frame, domain)) / 2 if wanted['flips'] else votes

        votes = votes_of(images)
        if frame.whole and wanted.get('window') == 'middle':
            votes = about_middle(votes_of, images[0], votes[0], self.card.size)[None]
        labels = frame.labels(votes, wanted['resample'])
        spared = [self.card.classes.index(name) for name in wanted['lesions']]
        return postprocess.largest_pieces(labels, spared) if wanted['components'] else labels

    def votes(self, stack: Float[np.ndarray, 'n *space c'], domain: str) -> Float[np.ndarray, 'n *space k']:
        """Class probabilities of slices or volumes of a domain, which hold values in [0, 1]."""
        return self._map(self.function('segment', domain), stack)

    def translate(self, stack: Float[np.ndarray, 'n *space c'], source: str) -> Float[np.ndarray, 'n *space c']:
        """Slices or volumes of domain `source` as the other domain would show them, both in [0, 1]."""
        return self._map(self.function('translate', source), stack)

    def function(self, does: str, domain: str):
        """The module that segments or translates images of a domain, channels first; InputError where there is none."""
        from synseg_jax.exchange import torch_networks  # which needs PyTorch

        kind, names = {
            'segment': (torch_networks.Segment, self.card.segments.get(domain)),
            'translate': (torch_networks.Translate, [self.card.translates.get(domain)]),
        }[does]
        if not names or not names[0]:
            raise InputError(f'{self.card.folder}: holds nothing to {does} domain {domain}; export another stage')
        if (does, domain) not in self.functions:
            module = kind(*(self._network(name, torch_networks.build) for name in names))
            self.functions[does, domain] = module.eval().to(self.device)
        return self.functions[does, domain]

    def _network(self, name, build):
        described, path = self.card.networks[name], self.card.weights(name)
        tensors = read_tensors(path)
        check_weights(tensors, f'{path}: ')
        try:
            with self.torch.device('meta'):  # a network that is not that of the file takes no memory
                network = build(len(self.card.size), described['channels'], described['fields'])
        except InputError as error:
            raise InputError(f'{self.card.folder / CARD}: networks.{name}: {error}; export again') from error
        try:
            network.load_state_dict({name: self.torch.from_numpy(of) for name, of in tensors.items()}, assign=True)
        except RuntimeError as error:
            raise InputError(f'{path}: of another network than card.json says: {_told(error)}') from error
        return network.float()

    def _mirrored(self, images, frame, domain):
        """Votes on the scan with left and right exchanged, exchanged back."""
        across = slices.VIEWS[frame.axis][0].index(0) + frame.whole
        # sagittal slices come in the other order, and with them the neighbours that are their channels
        return np.flip(self.votes(np.flip(images, across if across else (0, -1)), domain), across)

    def _frame(self, scan, domain) -> NetworkGrid:
        card, of = self.card, self.card.domains[known('domain', domain, self.card.domains)]
        window = intensity.for_channel(of['channel'], scan.array, of.get('window_hu', ()), of.get('percentiles', ()))
        return NetworkGrid.from_scan(scan, window, card.slice_axis, card.size, of['center'], card.spacing_mm)

    def _map(self, function, stack) -> np.ndarray:
        """`function` over batches of slices, or over volumes one by one; tile by tile."""
        count = 1 if stack.ndim == 5 else BATCH

        def run(stack):
            return np.concatenate([run_some(stack[first : first + count]) for first in range(0, len(stack), count)])

        def run_some(part):
            images = self.torch.from_numpy(np.ascontiguousarray(np.moveaxis(part, -1, 1)))
            with self.torch.inference_mode():
                return np.moveaxis(function(images.to(self.device)).cpu().numpy(), 1, -1)

        try:
            found = tiled(run, stack, self.card.size)
        except RuntimeError as error:  # sizes that the networks cannot take, or not enough memory
            raise InputError(f'{self.card.folder}: its networks cannot run on {self.device}: {_told(error)}') from error
        if not np.isfinite(found).all():
            raise InputError(f'{self.card.folder}: its networks give NaN or infinity; export another checkpoint')
        return found


def _told(error) -> str:
    """PyTorch's message as one line."""
    return shortened(' '.join(str(error).split()), 300)


def predict(
    evaluator: Evaluator, files: dict[str, Path], output: Path, domain: str = 'b', write: Callable = scan_file.write
) -> None:
    """A label map for each scan, and the dataset.json that names the classes, in `output`.

    Scans that cannot be segmented are left out, and an InputError names them once all others are done.
    """
    errors, count = ScanErrors(len(files)), 0
    for case, file in files.items():
        with errors.collect(file):
            scan = scan_file.read(file)
            labels = evaluator.segment(scan, domain)
            write(output / f'{case}.nii.gz', labels, scan, intent='label')
            count += 1
    if count:
        labels = {name: value for value, name in enumerate(evaluator.card.classes)}
        description = {'channel_names': {'0': evaluator.card.domains[domain]['channel']}, 'labels': labels}
        write_json(output / 'dataset.json', {**description, 'file_ending': '.nii.gz', 'numTraining': count})
    errors.finish('segmented')


class Parser(argparse.ArgumentParser):
    """Flags, whose mistakes are InputErrors."""

    def error(self, message: str):
        raise InputError(message)


def flags(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line says; InputError where it cannot be."""
    parser = Parser(
        'python -m synseg_jax.exchange.torch_evaluator',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--export', required=True, help='Folder that synseg_jax.export wrote.')
    parser.add_argument('--input', required=True, help='A scan, a folder of scans, or an nnU-Net dataset.')
    parser.add_argument('--output', required=True, help='Folder to write label maps to.')
    parser.add_argument('--domain', default='b', help='Modality of the scans: b, the target, or a, the source.')
    straighten = 'Write on grids without shear where a gantry was tilted.'
    parser.add_argument('--straighten', action='store_true', help=straighten)
    parser.add_argument('--device', default='cpu', help="PyTorch's name of the device, e.g. cuda.")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Segments what --input names; the exit code, 2 for what a user can mend."""
    try:
        given = flags(argv)
        files = scan_file.inputs(given.input)
        output, write = Path(given.output), straight.write if given.straighten else scan_file.write
        outputs.check(output, [given.input, given.export], files.values())
        predict(Evaluator(Path(given.export), given.device), files, output, given.domain, write)
        print(f'{len(files)} label maps in {given.output}')
        return 0
    except (InputError, OSError) as error:
        print('error: ' + str(error).replace('\n', '\n  '), file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
