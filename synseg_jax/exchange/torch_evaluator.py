"""Segment scans in PyTorch with networks exported by synseg_jax.export, without JAX.

Usage:
    python -m synseg_jax.exchange.torch_evaluator --export=weights --input=scans/imagesTs --output=labels

--input is a scan, a folder of scans or an nnU-Net dataset.  Label maps have the affine of their scan; dataset.json in
the same folder names the classes.  --domain=a segments scans of the source modality instead of the target.

NIfTI, NRRD and MetaImage require PyTorch, numpy, nibabel and safetensors, and these files of synseg_jax, which may be
copied:

    __init__ errors dicom/__init__ dicom/series_names
    exchange/__init__ exchange/card exchange/pth exchange/tensors exchange/torch_evaluator
    exchange/torch_networks files/__init__ files/scan_errors files/schema files/stage_schema
    formats/__init__ formats/grid formats/header_fields formats/lazy formats/metaimage formats/names formats/nifti
    formats/nrrd formats/outputs formats/scan_channels formats/scan_file formats/text_header
    imaging/__init__ imaging/arrays imaging/bias_field imaging/body imaging/intensity imaging/memory_limit
    imaging/modality imaging/network_grid imaging/slices imaging/sliding_window imaging/tissue imaging/volume
    imaging/voxel_bytes imaging/warp
    inference/__init__ inference/label_folder inference/postprocess inference/views inference/whole_scan
    objective/__init__ objective/methods objective/names

Exports with predict.components, predict.holes, predict.window=middle, cut_about=body or antialias also require scipy,
with bias_correction SimpleITK; --straighten requires scipy and formats/straight; DICOM requires the full installation
of synseg_jax.
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
from synseg_jax.files.scan_errors import ScanErrors
from synseg_jax.formats import outputs, scan_channels, scan_file
from synseg_jax.formats.lazy import Lazy, require
from synseg_jax.imaging import bias_field, intensity
from synseg_jax.imaging.arrays import Float, Integer
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import postprocess
from synseg_jax.inference.label_folder import write_dataset_json
from synseg_jax.inference.views import views
from synseg_jax.inference.whole_scan import ScanOptions, ScanSegmenter, in_batches, scan_probabilities

straight = Lazy('synseg_jax.formats.straight', 'scipy', '--straighten resamples')

BATCH = 8  # slices at a time


class Evaluator(ScanSegmenter):
    """Exported networks in PyTorch, applied to scans."""

    def __init__(self, folder: Path, device: str = 'cpu'):
        """Read the card in `folder`; weights are read when first needed.  `device` is PyTorch's name, e.g. 'cuda'."""
        self.card, self.torch, self.device = Card.load(folder), pytorch('the evaluator cannot run'), device
        self.functions: dict = {}
        predict, context = self.card.predict, self.card.context
        window = predict.get('window', 'tiles')
        self.resample = predict['resample']
        self.organs = predict.get('darkest', 0.0), predict.get('brightest', 1.0)
        seen = views(predict.get('rotate', 0.0), predict.get('zoom', 1.0), predict.get('gamma', 1.0))
        spacing_mm = context['spacing_mm']
        self.options = ScanOptions(self.card.size, context['slices'], spacing_mm, predict['flips'], window, seen)
        about_body = self.card.cut_about == 'body'
        if predict['components'] or predict.get('holes') or window == 'middle' or about_body:
            require('scipy', f'{folder} needs connected components')
        if self.card.antialias:
            require('scipy', f'{folder} needs smoothed images')
        if self.card.bias_correction:
            require('SimpleITK', f'{folder} needs scans without their bias field')

    def segment(self, scan: Volume, domain: str) -> Integer[np.ndarray, 'x y z']:
        """Class indices on the scan's own grid and axes, post-processed as the card says."""
        labels, predict = super().segment(scan, domain), self.card.predict
        fields = predict['lesions'], predict['components'], predict.get('holes', '')
        return postprocess.processed(labels, scan.affine, self.card.classes, *fields)

    def compute(self, scan: Volume, domain: str) -> tuple[NetworkGrid, Float[np.ndarray, 'n *space k']]:
        """The networks' grid for a scan, and the class probabilities on it."""
        frame = self._frame(scan, domain)
        return frame, scan_probabilities(lambda images: self.probabilities(images, domain), frame, self.options)

    def probabilities(self, stack: Float[np.ndarray, 'n *space c'], domain: str) -> Float[np.ndarray, 'n *space k']:
        """Class probabilities of slices or volumes of `domain`, in [0, 1]."""
        return self._map(self.function('segment', domain), stack)

    def translate(self, stack: Float[np.ndarray, 'n *space c'], source: str) -> Float[np.ndarray, 'n *space c2']:
        """Slices or volumes of domain `source` translated to the other domain, both in [0, 1]."""
        return self._map(self.function('translate', source), stack)

    def function(self, task: str, domain: str):
        """The module for `task`, 'segment' or 'translate', channels first; InputError if the export has none."""
        from synseg_jax.exchange import torch_networks  # imports PyTorch

        module_class, names = {
            'segment': (torch_networks.Segment, self.card.segments.get(domain)),
            'translate': (torch_networks.Translate, [self.card.translates.get(domain)]),
        }[task]
        if not names or not names[0]:
            raise InputError(f'{self.card.folder}: has no network to {task} domain {domain}; export another stage')
        if (task, domain) not in self.functions:
            module = module_class(*(self._network(name, torch_networks.build) for name in names))
            self.functions[task, domain] = module.eval().to(self.device)
        return self.functions[task, domain]

    def _network(self, name, build):
        entry, path = self.card.networks[name], self.card.weights(name)
        tensors = read_tensors(path)
        check_weights(tensors, f'{path}: ')
        try:
            with self.torch.device('meta'):  # no memory is allocated before the sizes are compared with the file's
                network = build(len(self.card.size), entry['channels'], entry['fields'])
        except InputError as error:
            raise InputError(f'{self.card.folder / CARD}: networks.{name}: {error}; export again') from error
        try:
            state = {name: self.torch.from_numpy(tensor) for name, tensor in tensors.items()}
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise InputError(
                f'{path}: does not match networks.{name} of card.json: {_one_line(error)}; export again'
            ) from error
        return network.float()

    def _frame(self, scan, domain) -> NetworkGrid:
        card, entry = self.card, self.card.domains[known('domain', domain, self.card.domains)]
        channels = card.channels(domain)
        if len(scan.channels) != len(channels):
            raise InputError(f'the networks see {len(channels)} channels, not {len(scan.channels)}; give all of them')
        scan = bias_field.corrected(scan, [one['channel'] for one in channels]) if card.bias_correction else scan
        windows = [
            intensity.for_channel(of['channel'], one.array, of.get('window_hu', ()), of.get('percentiles', ()))
            for of, one in zip(channels, scan.channels, strict=True)
        ]
        body_of = entry['channel'] if card.cut_about == 'body' else ''
        return NetworkGrid.from_scan(
            scan, windows, card.slice_axis, card.size, entry['center'], card.spacing_mm, body_of, card.antialias
        )

    def _map(self, function, stack) -> np.ndarray:
        def run(rows):
            images = self.torch.from_numpy(np.ascontiguousarray(np.moveaxis(rows, -1, 1)))
            with self.torch.inference_mode():
                return np.moveaxis(function(images.to(self.device)).cpu().numpy(), 1, -1)

        try:
            output = in_batches(run, stack, self.card.size, BATCH)
        except RuntimeError as error:  # a size that the networks do not support, or out of memory
            reason = _one_line(error)
            raise InputError(f'{self.card.folder}: its networks cannot run on {self.device}: {reason}') from error
        if not np.isfinite(output).all():
            raise InputError(f'{self.card.folder}: its networks return NaN or infinity; export another checkpoint')
        return output


def _one_line(error) -> str:
    """PyTorch's message as one line of at most 300 characters."""
    return shortened(' '.join(str(error).split()), 300)


def predict(
    evaluator: Evaluator, files: dict[str, Path], output: Path, domain: str = 'b', write: Callable = scan_file.write
) -> None:
    """Segment {case: scan}, and write label maps and dataset.json to `output`.

    A scan that fails does not stop the others; InputError at the end lists those that failed.
    """
    errors, count = ScanErrors(len(files)), 0
    for case, file in files.items():
        with errors.collect(file):
            scan = scan_channels.read(file, len(evaluator.card.channels(domain)))
            labels = evaluator.segment(scan, domain)
            write(output / f'{case}.nii.gz', labels, scan, intent='label')
            count += 1
    if count:
        card = evaluator.card
        fields = {name: value for name, value in card.predict.items() if name not in ('batch', 'lesions')}
        prediction = {'members': [{'export': card.folder.name}], 'fields': fields}
        write_dataset_json(output, card.classes, card.domains[domain]['channel'], count, prediction)
    errors.finish('segmented')


class Parser(argparse.ArgumentParser):
    """Command-line flags; errors are raised as InputError."""

    def error(self, message: str):
        raise InputError(message)


def flags(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; InputError for invalid flags."""
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
    straighten = 'Resample label maps of tilted-gantry scans to a grid without shear.'
    parser.add_argument('--straighten', action='store_true', help=straighten)
    parser.add_argument('--device', default='cpu', help="PyTorch's name of the device, e.g. cuda.")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Segment the scans of --input; return the exit code, 2 after a user error."""
    try:
        options = flags(argv)
        scan_file.require_input(options.input)
        evaluator = Evaluator(Path(options.export), options.device)
        domain = known('domain', options.domain, evaluator.card.domains)
        files = scan_file.inputs(options.input, channels=len(evaluator.card.channels(domain)))
        output, write = Path(options.output), straight.write if options.straighten else scan_file.write
        outputs.check(output, [options.input, options.export], files.values())
        predict(evaluator, files, output, domain, write)
        print(f'{len(files)} label maps in {options.output}')
        return 0
    except (InputError, OSError) as error:
        print('error: ' + str(error).replace('\n', '\n  '), file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
