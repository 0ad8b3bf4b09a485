"""A configuration's systems from data to results: what `main` runs."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from synseg_jax import fitting, results
from synseg_jax.data import phantom
from synseg_jax.data.preparation import prepare
from synseg_jax.data.records import Manifest
from synseg_jax.data.roles import Scans
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import summary
from synseg_jax.prepare import settings_of
from synseg_jax.scans import RUN, Run
from synseg_jax.training import parallel
from synseg_jax.training.signals import Interrupted, Signals
from synseg_jax.training.system import System, configure

# What may change while a run goes on.
EXTENDABLE = ('train.steps', 'train.epochs', 'train.workers', 'train.log_every', 'train.devices', 'train.keep')
EXTENDABLE += ('predict.', 'chosen', 'data_dir')


def run(config: ConfigDict, workdir: Path, console: Console | None = None) -> dict:
    """The results of every system of the configuration, also written to results.json; see the README for its form."""
    console = console or Console()
    _compilation_cache()
    began = time.monotonic()
    _check(config)
    workdir.mkdir(parents=True, exist_ok=True)
    with _locked(workdir), Signals() as signals:
        try:
            _check_unchanged(config, workdir)
            manifest = _data(config, workdir, console)
            described = _describe(config, workdir, manifest)
            for name in config.systems:  # what is wrong with a later one is said before the first is trained
                system, _, per_epoch = fitting.parts(described, name, manifest)
                system.step(per_epoch, parallel.mesh(system.config.train.devices))
            described.save()
            console.print(f'{jax.device_count()} {jax.devices()[0].platform} device(s), results in {workdir}')
            systems, steps = {}, {}
            for name in config.systems:
                trained, steps[name] = fitting.fit(described, name, manifest, console, signals)
                systems[name] = results.evaluate(trained, manifest, workdir / name)
        except Interrupted as interrupted:
            console.print(f'stopped by {interrupted}')
            return {}
        found = {
            'systems': systems,
            'seconds': round(time.monotonic() - began, 1),
            'steps': sum(steps.values()),
            'peak_memory_gib': round(results.peak_memory_gib(), 3),
            'versions': results.versions(),
        }
        summary.write_json(workdir / 'results.json', found)
    for set_name in sorted({name for measured in systems.values() for name in measured}):
        measured = {name: sets[set_name] for name, sets in systems.items() if set_name in sets}
        console.print(summary.table(measured, f'{set_name}, test scans'))
    console.print(f'results: {workdir / "results.json"}')
    return found


def _check(config) -> None:
    """InputError for what can be known to be wrong before anything is read or written."""
    settings_of(config)
    known('system (config.chosen)', config.chosen, config.systems)
    for name in config.systems:
        system = System(configure(config, name), ('background', 'organ'))
        parallel.rows_per_device(system.config.train.batch, parallel.mesh(system.config.train.devices))
        _ = system.networks, system.optimizers, system.augmentation, system.choices
        if system.config.train.decay_steps > system.config.train.steps > 0:
            raise InputError('train.decay_steps is larger than train.steps; lower it')


def _compilation_cache() -> None:
    """Keeps compiled programs between runs, where JAX_COMPILATION_CACHE_DIR or the user's cache folder says."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    if jax.config.jax_compilation_cache_dir is None and os.path.isabs(home):
        jax.config.update('jax_compilation_cache_dir', str(Path(home) / 'synseg_jax'))


@contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Holds the workdir against a second run; the kernel lets go when the process ends, however it ends."""
    with (workdir / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f'{workdir}: another run is at work there; use another --workdir or wait') from None
        yield


def _data(config, workdir, console) -> Manifest:
    """The records to train on: the folder that was given, or those of the phantom, made now."""
    if config.data_dir:
        return Manifest.load(config.data_dir)
    sets = []
    for number, (name, modality, domain) in enumerate((('source', 'MR', 'a'), ('target', 'CT', 'b'))):
        folder = workdir / 'phantom' / f'Dataset{number + 1:03d}_Phantom{modality}'
        subjects = config.phantom[f'{name}_subjects']
        console.print(f'phantom: {subjects} {modality} scans in {folder}')
        phantom.write_dataset(folder, modality, subjects, config.phantom.seed)
        sets.append(Scans(name, folder, domain))
    return prepare(sets, workdir / 'records', settings_of(config), progress=console.is_terminal)


def _describe(config, workdir, manifest) -> Run:
    """The run of the workdir; InputError if it was begun with other records."""
    channels, typical = {}, {}
    for entry in manifest.sets.values():
        cases = [case for role in entry['roles'].values() for case in role['cases']]
        channels.setdefault(entry['domain'], entry['channel'])
        middle = tuple(float(np.median([case[bound] for case in cases])) for bound in ('low', 'high'))
        typical.setdefault(entry['domain'], middle)
    with config.unlocked():
        # What the records were made with decides how scans are read, whatever the configuration says.
        for field in ('size', 'slice_axis', 'window_hu', 'percentiles'):
            config.data[field] = getattr(manifest, field)
    described = Run(workdir, config, manifest.classes, channels, typical, manifest.request)
    if (workdir / RUN).is_file() and Run.load(workdir).records != manifest.request:
        raise InputError(f'{workdir} was begun with other records than {manifest.folder}; use another --workdir')
    return described


def _check_unchanged(config: ConfigDict, workdir: Path) -> None:
    """InputError if the workdir was begun with a configuration that trains something else."""
    if not (workdir / RUN).is_file():
        return
    old, new = (_flat(json.loads(c.to_json_best_effort())) for c in (Run.load(workdir).config, config))
    free = [f'{prefix}{f}' for f in EXTENDABLE for prefix in ('', *(f'systems.{name}.' for name in config.systems))]
    if config.data_dir:
        free.append('data.')  # what its records were made with counts, not what the configuration says
    for field in sorted(old | new):
        if old.get(field) != new.get(field) and not field.startswith(tuple(free)):
            raise InputError(
                f'{workdir} was begun with {field}={old.get(field)!r}, now {new.get(field)!r}; '
                'use another --workdir, or remove this one to start again'
            )


def _flat(tree, prefix=''):
    """{'train.batch': 4, ...} of a nested configuration."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {k: v for name, value in tree.items() for k, v in _flat(value, f'{prefix}.{name}'.lstrip('.')).items()}
