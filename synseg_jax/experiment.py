"""A configuration's systems from data to results: what `main` runs."""

import fcntl
import json
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

import synseg_jax
from synseg_jax.data import phantom, pipeline, slices, volume
from synseg_jax.data.intensity import Normalisation
from synseg_jax.data.preparation import prepare
from synseg_jax.data.records import Manifest, Records
from synseg_jax.data.roles import Scans
from synseg_jax.errors import InputError, known
from synseg_jax.evaluate import evaluate_pairs
from synseg_jax.evaluation import figures, plots, summary
from synseg_jax.predict import predict
from synseg_jax.prepare import settings_of
from synseg_jax.scans import RUN, Run, Trained
from synseg_jax.training import loop, parallel, validation
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.inference import Networks
from synseg_jax.training.journal import Journal
from synseg_jax.training.signals import Interrupted, Signals
from synseg_jax.training.system import System, configure, trained_params

# What may change while a run goes on.
EXTENDABLE = ('train.steps', 'train.epochs', 'train.workers', 'train.log_every', 'train.devices', 'train.keep')
EXTENDABLE += ('predict.', 'chosen', 'data_dir')
SHOWN = 4  # examples in a picture


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
                system, _, per_epoch = _parts(described, name, manifest)
                system.step(per_epoch, parallel.mesh(system.config.train.devices))
            described.save()
            console.print(f'{jax.device_count()} {jax.devices()[0].platform} device(s), results in {workdir}')
            systems, steps = {}, {}
            for name in config.systems:
                trained, steps[name] = _train(described, name, manifest, console, signals)
                systems[name] = _evaluate(trained, manifest, workdir / name)
        except Interrupted as interrupted:
            console.print(f'stopped by {interrupted}')
            return {}
        results = {
            'systems': systems,
            'seconds': round(time.monotonic() - began, 1),
            'steps': sum(steps.values()),
            'peak_memory_gib': round(_peak_memory_gib(), 3),
            'versions': _versions(),
        }
        summary.write_json(workdir / 'results.json', results)
    for set_name in sorted({set_name for found in systems.values() for set_name in found}):
        measured = {name: found[set_name] for name, found in systems.items() if set_name in found}
        console.print(summary.table(measured, f'{set_name}, test scans'))
    console.print(f'results: {workdir / "results.json"}')
    return results


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


def _parts(described: Run, name: str, manifest: Manifest) -> tuple[System, dict[str, pipeline.Pool], int]:
    """A system, the records it trains on, and the steps of an epoch of them."""
    system = System(configure(described.config, name), described.classes)
    pools = {domain: _pool(manifest, domain, system) for domain in system.domains}
    return system, pools, pipeline.epoch_steps(pools, system.config.train.batch)


def _train(described: Run, name: str, manifest: Manifest, console, signals) -> tuple[Trained, int]:
    """The best weights of one system, trained to its last step."""
    folder = described.workdir / name
    folder.mkdir(exist_ok=True)
    system, pools, per_epoch = _parts(described, name, manifest)
    config, train = system.config, system.config.train
    over = parallel.mesh(train.devices)
    plan = loop.Plan(system.steps(per_epoch), per_epoch, train.batch, train.log_every, train.save_every)
    journal = Journal(folder, name, 'pairs' if len(pools) > 1 else 'images', console)
    journal.say(
        f'{system.method.name}: {", ".join(system.networks)}; batch {train.batch} = '
        f'{over.size} x {parallel.rows_per_device(train.batch, over)}'
    )
    state = system.first_state(over)
    checkpoints = Checkpoints(folder / 'checkpoints', train.keep, journal.say)
    held_out = {d: records for d in 'ab' if (records := _records(manifest, d, 'val'))}
    pictured = {d: _examples(_records(manifest, d, 'val', 'train')) for d in system.domains}
    networks = Networks(system, {}, config.predict.batch)

    def validate(now):
        networks.params = trained_params(now)
        if not signals.asked:
            rows = validation.both_paths(networks, pictured)
            figures.panel(folder / 'panel.png', rows, described.classes)
            journal.picture(int(now.step), 'both paths', folder / 'panel.png')
        scores = validation.score(networks, held_out, lambda: bool(signals.asked))
        if scores.get('change', 1.0) < validation.UNCHANGED:
            journal.say('translation changes next to nothing: it has collapsed to identity; raise adv or lower cyc')
        return scores

    def batches(first):
        return pipeline.batches(
            pools, train.batch, config.seed, first, plan.steps, train.workers, system.arrays,
            jax.process_index(), jax.process_count(),
        )  # fmt: skip

    step = system.step(per_epoch, over)
    try:
        state = loop.train(state, step, batches, plan, over, checkpoints, journal, signals, validate)
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise InputError(
            'out of memory: lower train.batch, data.size, or the width of generator and segmentor'
        ) from error
    finally:
        journal.end()
    best = checkpoints.best(state)
    checkpoints.close()
    if (folder / 'metrics.csv').is_file():
        plots.curves(folder / 'curves.png', folder / 'metrics.csv')
    journal.say(f'uses the weights of step {int(best.step)}')
    return Trained(described, name, trained_params(best)), plan.steps


def _pool(manifest, domain, system) -> pipeline.Pool:
    """The training records of a domain, with labels if the system's terms read them."""
    sources, scans = [], []
    for name, entry in manifest.sets.items():
        role = entry['roles'].get('train')
        if entry['domain'] != domain or role is None:
            continue
        if f'label_{domain}' in system.arrays and not role['labelled']:
            paid = [t for t in system.method.terms() if t.startswith('seg')]
            remedy = 'data.target_labels=True lets them in' if domain == 'b' else 'give a labelled folder'
            raise InputError(f'{manifest.folder}: set {name} has no labels, and {", ".join(paid)} reads them; {remedy}')
        sources.append(manifest.records(name, 'train'))
        scans += [case['records'] for case in role['cases']]
    if not sources:
        raise InputError(f'{manifest.folder}: no set of domain {domain} to train on, and {system.method.name} reads it')
    return pipeline.Pool(sources, scans, system.config.train.balanced)


def _records(manifest, domain, *roles) -> Records | None:
    """The records of the first set of a domain that has one of the roles."""
    found = ((name, role) for role in roles for name, entry in manifest.sets.items()
             if entry['domain'] == domain and role in entry['roles'])  # fmt: skip
    return next((manifest.records(name, role) for name, role in found), None)


def _examples(records):
    """A few records spread over all."""
    return [records[int(i)] for i in np.linspace(0, len(records) - 1, SHOWN + 2)[1:-1]]


def _evaluate(trained: Trained, manifest: Manifest, folder: Path) -> dict:
    """{set: measures} on the target's test scans that have labels; predictions and pictures in `folder`."""
    results = {}
    if trained.networks.system.segmentor('b') is None:
        return results
    for name, entry in manifest.sets.items():
        cases = entry['roles'].get('test', {'cases': []})['cases']
        if entry['domain'] != 'b' or not cases:
            continue
        written = predict(trained, {c['id']: Path(c['image']) for c in cases}, folder / 'predictions' / name)
        pairs = {c['id']: (written[c['id']], Path(c['label'])) for c in cases if c['label']}
        if not pairs:
            continue
        measured, results[name] = evaluate_pairs(pairs, trained.run.classes, reference_values=entry['labels'])
        summary.write_csv(folder / f'{name}.csv', summary.rows(measured))
        figures.overlays(folder / f'{name}.png', _outlined(trained, cases, pairs, measured, entry), trained.run.classes)
    return results


def _outlined(trained, cases, pairs, measured, entry):
    """The telling slices of the test scans, from best to worst."""
    axis, known_classes = trained.config.data.slice_axis, trained.run.classes
    index = np.zeros(1 + max(entry['labels'].values()), np.uint8)  # the set's label values -> classes
    for name, value in entry['labels'].items():
        index[value] = known_classes.index(name) if name in known_classes else 0
    organ = summary.organ_means(measured, 'dice')
    paths = {case['id']: case for case in cases}
    shown = []
    for case in sorted(organ, key=organ.get, reverse=True):
        scan = volume.canonical(volume.read(paths[case]['image']))
        prediction, reference = (
            slices.to_stack(volume.canonical(volume.read_labels(path)).array, axis) for path in pairs[case]
        )
        reference = index[reference]
        at = figures.telling_slice(reference, 0)
        image = Normalisation(paths[case]['low'], paths[case]['high']).apply(slices.to_stack(scan.array, axis)[at])
        spacing = slices.stack_spacing(scan.spacing_mm, axis)[1:]
        title = f'{case}, Dice {organ[case]:.2f}'
        shown.append(figures.Scan(title, image, reference[at], prediction[at], spacing))
    return shown


def _peak_memory_gib() -> float:
    """Of the devices where they tell, else of this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    on_device = max(s.get('peak_bytes_in_use', 0) for s in stats)
    return (on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**30


def _versions() -> dict[str, str]:
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')
    return {
        'synseg_jax': synseg_jax.__version__,
        'python': platform.python_version(),
        **{p: version(p) for p in packages},
    }
