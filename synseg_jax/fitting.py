"""Training one system of a run: its records, validation and pictures around the loop."""

import jax
import numpy as np
from rich.console import Console

from synseg_jax.data import pipeline
from synseg_jax.data.records import Manifest, Records
from synseg_jax.errors import InputError
from synseg_jax.evaluation import figures, plots
from synseg_jax.scans import Run, Trained
from synseg_jax.training import loop, parallel, validation
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.inference import Networks
from synseg_jax.training.journal import Journal
from synseg_jax.training.signals import Signals
from synseg_jax.training.system import System, configure, trained_params

SHOWN = 4  # examples in a picture


def parts(described: Run, name: str, manifest: Manifest) -> tuple[System, dict[str, pipeline.Pool], int]:
    """A system, the records it trains on, and the steps of an epoch of them."""
    system = System(configure(described.config, name), described.classes)
    pools = {domain: _pool(manifest, domain, system) for domain in system.domains}
    return system, pools, pipeline.epoch_steps(pools, system.config.train.batch)


def fit(described: Run, name: str, manifest: Manifest, console: Console, signals: Signals) -> tuple[Trained, int]:
    """The best weights of one system, trained to its last step."""
    folder = described.workdir / name
    folder.mkdir(exist_ok=True)
    system, pools, per_epoch = parts(described, name, manifest)
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
            second = 'real b' if system.domains == ('a', 'b') else None
            figures.panel(folder / 'panel.png', rows, described.classes, gap_before=second)
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
