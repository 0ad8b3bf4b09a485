"""A MONAI bundle of an export: the segmentor of the target, how MONAI runs it on scans, and what it is.

https://docs.monai.io/en/stable/mb_specification.html describes the folder.  MONAI's own transforms do not prepare scans
as the networks saw them in training, so that a bundle holds a copy of our evaluator's files, which do.
"""

import re
import shutil
from dataclasses import replace
from importlib.metadata import distribution, version
from pathlib import Path

import jinja2
import numpy as np

import synseg_jax
from synseg_jax.errors import InputError
from synseg_jax.exchange import torch_evaluator
from synseg_jax.exchange.card import Card
from synseg_jax.exchange.pth import pytorch
from synseg_jax.files import read_json, write_json
from synseg_jax.imaging import intensity

HERE = Path(__file__).parent
DOMAIN = 'b'  # the target, which synseg_jax is for
SCHEMA = 'https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json'
TESTED = {'monai': '1.5.0', 'pytorch-ignite': '0.5.2'}  # the oldest versions that bundles were run with
PACKAGES = ('nibabel', 'safetensors', 'scipy')
UNKNOWN = 'Not stated; add it before you share the bundle.'


def write(folder: Path, export: Card) -> None:
    """Write the bundle of an export into the empty `folder`; InputError if it has no segmentor of the target."""
    torch = pytorch('a MONAI bundle cannot be written')
    if DOMAIN not in export.segments:
        raise InputError(f'{export.method}: the stage has no segmentor of the target; export another stage')
    for part in ('configs', 'models', 'docs'):
        (folder / part).mkdir()
    with (folder / 'models' / 'model.pt').open('wb') as file:  # a path hides a full disk, see `tensors.py`
        torch.save(torch_evaluator.Evaluator(export.folder).function('segment', DOMAIN).state_dict(), file)
    card = segmentor_card(export, folder / 'configs')
    card.save()
    write_json(folder / 'configs' / 'metadata.json', metadata(card, torch.__version__))
    write_json(folder / 'configs' / 'inference.json', inference(card))
    (folder / 'docs' / 'README.md').write_text(readme(card))
    (folder / 'LICENSE').write_text(_license())
    for name in code_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE.parents[1] / name, folder / name)


def segmentor_card(export: Card, folder: Path) -> Card:
    """The part of a card that is about the segmentor of the target, whose weights lie in models/model.pt."""
    names = export.segments[DOMAIN]
    return replace(
        export,
        folder=folder,
        domains={DOMAIN: export.domains[DOMAIN]},
        networks={name: {**export.networks[name], 'files': {}} for name in names},
        segments={DOMAIN: names},
        translates={},
        functions={},
    )


def metadata(card: Card, torch_version: str) -> dict:
    """The content of metadata.json."""
    modality, organs = card.domains[DOMAIN]['channel'], ', '.join(card.classes[1:])
    return {
        'schema': SCHEMA,
        'version': synseg_jax.__version__,
        'changelog': {synseg_jax.__version__: f'exported by synseg_jax {synseg_jax.__version__}'},
        'monai_version': TESTED['monai'],
        'pytorch_version': torch_version.partition('+')[0],
        'numpy_version': np.__version__,
        'required_packages_version': {
            'pytorch-ignite': TESTED['pytorch-ignite'],
            **{package: version(package) for package in PACKAGES},
        },
        'name': f'{modality} segmentation by unsupervised adaptation',
        'task': f'Segmentation of {organs} in {modality} scans',
        'description': f'A segmentor of {modality} scans, trained with synseg_jax by the method {card.method}. '
        'It labels whole scans on their own grids; docs/README.md says how it prepares them.',
        'authors': UNKNOWN,
        'copyright': UNKNOWN,
        'intended_use': 'Research. Not a medical device, and not for diagnosis.',
        'network_data_format': _data_format(card, modality),
    }


def _data_format(card, modality) -> dict:
    """Input and output of the network itself, and of the scans that the inferer labels with it."""
    classes = {str(label): name for label, name in enumerate(card.classes)}
    tensor = {'type': 'image', 'dtype': 'float32', 'value_range': [0, 1], 'spatial_shape': list(card.size)}
    tensor |= {'modality': modality, 'is_patch_data': bool(card.spacing_mm)}
    channels = card.networks[card.segments[DOMAIN][0]]['channels']
    around = card.context['slices']
    images = {str(i): f'slice {i - around:+d}' if i != around else 'image' for i in range(channels)}
    kind = 'hounsfield' if intensity.is_ct(modality) else 'magnitude'
    scan = {'type': 'image', 'spatial_shape': ['*', '*', '*'], 'dtype': 'uint8', 'value_range': [0, len(classes) - 1]}
    return {
        'inputs': {'image': {**tensor, 'format': kind, 'num_channels': channels, 'channel_def': images}},
        'outputs': {'pred': {**tensor, 'format': 'labels', 'num_channels': len(classes), 'channel_def': classes}},
        'post_processed_outputs': {
            'pred': {**scan, 'format': 'segmentation', 'num_channels': 1, 'channel_def': {'0': 'class'}}
        },
    }


def inference(card: Card) -> dict:
    """The content of inference.json: `monai_inference.json` with the architecture of the card's networks."""
    networks = [{part: card.networks[name][part] for part in ('channels', 'fields')} for name in card.segments[DOMAIN]]
    config = read_json(HERE / 'monai_inference.json')
    config['network_def'] |= {'rank': len(card.size), 'networks': networks}
    return config


def readme(card: Card) -> str:
    """The content of docs/README.md."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template('monai_readme.md.jinja')
    return template.render(card=card, domain=card.domains[DOMAIN], predict=card.predict, packages=PACKAGES) + '\n'


def code_files() -> list[str]:
    """Our files that a bundle holds: the inferer, and those that the evaluator's docstring names."""
    listed = re.search(r'copied:\n\n(.*?)\n\n', torch_evaluator.__doc__, re.DOTALL)[1].split()
    return [f'synseg_jax/{name}.py' for name in (*listed, 'exchange/monai_inferer')]


def _license() -> str:
    """Our licence, of the files in the bundle that are ours: of a checkout, or else of what is installed."""
    checkout = HERE.parents[1] / 'LICENSE'
    if (HERE.parents[1] / 'setup.cfg').is_file():
        return checkout.read_text()
    installed = distribution('synseg_jax')
    return installed.read_text('licenses/LICENSE') or installed.read_text('LICENSE')
