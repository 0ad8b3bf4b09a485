"""Export the networks of a trained stage: weights under PyTorch's names, optional functions, and card.json."""

from collections.abc import Collection
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import synseg_jax
from synseg_jax.errors import InputError, known, warn
from synseg_jax.exchange import monai_bundle, onnx, stablehlo
from synseg_jax.exchange.card import PUBLISHED, Card, sha256
from synseg_jax.exchange.tensors import write_tensors
from synseg_jax.exchange.torch_evaluator import Evaluator
from synseg_jax.exchange.torch_weights import to_torch
from synseg_jax.files import atomic_folder
from synseg_jax.imaging import intensity
from synseg_jax.inference import trained_model
from synseg_jax.networks import ARCHITECTURES
from synseg_jax.networks.unet import Head, Shared
from synseg_jax.objective import names

BUNDLE = 'monai'
FORMATS = {'safetensors': ('.safetensors',), 'pth': ('.pth',), 'both': ('.safetensors', '.pth')}
FORMATS |= {BUNDLE: ('.safetensors',)}
NOT_EXPORTED = {'parent', 'name', 'dtype', 'param_dtype', 'remat'}  # fields of modules that an evaluator ignores
ADDED = {'max_width': None, 'deep_supervision': 0}  # fields that earlier versions do not know, left out at these values
PACKAGES = ('jax', 'flax', 'numpy', 'safetensors')


def export(
    trained: trained_model.Trained, output: Path, form: str = 'safetensors', functions: Collection[str] = ()
) -> Card:
    """Export to the folder `output`, atomically, and return its card; InputError if the folder is not empty.

    `form` is the file format of the weights, or 'monai' for a bundle of the target's segmentor; `functions` are the
    formats of functions to add: 'stablehlo', 'onnx'.
    """
    suffixes = FORMATS[known('format', form, FORMATS)]
    writers = [FUNCTION_WRITERS[known('function format', name, FUNCTION_WRITERS)] for name in functions]
    if form == BUNDLE and functions:
        raise InputError('--functions: a MONAI bundle holds none; export them to a folder of their own')
    if form == BUNDLE and len(trained.run.named('b')) > 1:
        raise InputError('--format=monai: a bundle reads scans of one channel; use --format=safetensors')
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f'{output}: exists and is not empty; choose another --output')
    with atomic_folder(output) as folder:
        if form == BUNDLE:
            with TemporaryDirectory() as weights:
                monai_bundle.write(folder, _networks(trained, Path(weights), suffixes))
        else:
            card = _networks(trained, folder, suffixes)
            entries = {name: entry for write in writers for name, entry in write(trained, card).items()}
            replace(card, functions=entries).save()
    return Card.load(output / 'configs' if form == BUNDLE else output)


def _networks(trained, folder, suffixes) -> Card:
    """Write a file of each suffix for each network, and the card; returns it."""
    networks = {}
    for name in filter(PUBLISHED.get, trained.networks.system.networks):  # h_ab serves training alone
        tensors = to_torch(trained.networks.system.networks[name], trained.networks.params[name])
        files = [folder / f'latest_net_{PUBLISHED[name]}{suffix}' for suffix in suffixes]
        for file in files:
            write_tensors(file, tensors)
        networks[name] = {**network(trained, name), 'files': {file.name: sha256(file) for file in files}}
    card = Card(folder=folder, networks=networks, **stage_fields(trained))
    card.save()
    return card


def stage_fields(trained: trained_model.Trained) -> dict:
    """The fields of the card other than networks and functions."""
    config, system = trained.config, trained.networks.system
    generators = {domain: names.generator(domain) for domain in names.DOMAINS}
    return {
        'method': system.method.name,
        'loss_weights': {player: dict(weights) for player, weights in system.method.loss_weights.items()},
        'classes': trained.run.classes,
        'size': system.size,
        'spacing_mm': config.data.spacing_mm,
        'cut_about': config.data.cut_about,
        'antialias': config.data.antialias,
        'bias_correction': config.data.bias_correction,
        'slice_axis': config.data.slice_axis,
        'context': dict(vars(config.context)),
        'label_channel': config.label_channel,
        'predict': _prediction(trained),
        'dtype': config.dtype,
        'domains': {domain: _domain(trained.run, domain) for domain in trained.run.channels},
        'segments': {d: _chain(system, d) for d in trained.run.channels if trained.segments(d)},
        'translates': {d: name for d, name in generators.items() if name in system.networks},
        'packages': {'synseg_jax': synseg_jax.__version__} | {package: version(package) for package in PACKAGES},
    }


def _prediction(trained) -> dict:
    """The options of prediction; without the number of checkpoints, since an export holds one."""
    fields, config = dict(vars(trained.config.predict)), trained.config
    if (count := fields.pop('checkpoints')) > 1:
        warn('predict.checkpoints=%d: an export holds one checkpoint, the best; labels will differ a little', count)
    return {**fields, 'lesions': [name for name in config.lesions if name in trained.run.classes]}


def network(trained: trained_model.Trained, name: str) -> dict:
    """A network's entry in the card, without its files."""
    system = trained.networks.system
    module, takes_features = system.networks[name], names.sees_features(name)
    architectures = {**ARCHITECTURES, 'shared': Shared, 'head': Head}
    fields = {field: getattr(module, field) for field in module.__dataclass_fields__ if field not in NOT_EXPORTED}
    fields = {field: value for field, value in fields.items() if value != ADDED.get(field, ())}
    return {
        'published': PUBLISHED[name],
        'sees': 'features' if takes_features else names.source(name),
        'makes': _output(name, system.method.shared_layer),
        'channels': trained.config.segmentor.width if takes_features else system.channels[names.source(name)],
        'fields': {'architecture': next(a for a in architectures if architectures[a] is type(module)), **fields},
    }


def _stablehlo(trained, card) -> dict:
    """Write the stage's functions as StableHLO; returns their entries in the card."""
    entries = {}
    for name, function in stablehlo.functions(trained.networks).items():
        file, channels = card.folder / f'{name}.stablehlo', trained.networks.system.channels[names.domain(name)]
        file.write_bytes(stablehlo.serialized(function, card.size, channels))
        entries[file.name] = {'takes': ['any', *card.size, channels], 'sha256': sha256(file)}
    return entries


def _onnx(trained, card) -> dict:
    """The same as ONNX, from the weights in the card's folder."""
    entries, evaluator = {}, Evaluator(card.folder)
    for task, domains in (('segment', card.segments), ('translate', card.translates)):
        for domain in domains:
            file, channels = card.folder / f'{task}_{domain}.onnx', trained.networks.system.channels[domain]
            onnx.write(file, evaluator.function(task, domain), channels, card.size)
            entries[file.name] = {'takes': ['any', channels, *card.size], 'sha256': sha256(file)}
    return entries


FUNCTION_WRITERS = {'stablehlo': _stablehlo, 'onnx': _onnx}


def _domain(run, domain) -> dict:
    data, typical = run.config.data, {'typical': run.typical[domain]} if domain in run.typical else {}
    others = [{**_intensities(data, other['channel']), 'typical': other['typical']}
              for other in run.others.get(domain, ())]  # fmt: skip
    return {
        **_intensities(data, run.channels[domain]),
        **typical,
        'center': data.target_center if domain == 'b' else 1.0,
        **({'others': others} if others else {}),
    }


def _intensities(data, channel) -> dict:
    field = 'window_hu' if intensity.is_ct(channel) else 'percentiles'
    return {'channel': channel, field: getattr(data, field)}


def _output(name, shared_layer) -> str:
    if names.is_generator(name):
        return names.domain(name)
    if names.is_discriminator(name):
        return 'whether it is real'
    return 'features' if name == names.SHARED or shared_layer and not names.sees_features(name) else 'logits'


def _chain(system, domain) -> list[str]:
    name = system.segmentor(domain)
    return [name, names.SHARED, names.head(names.domain(name))] if system.method.shared_layer else [name]
