"""A configuration's systems from data to results, stage by stage: what `main` runs."""

import dataclasses
import json
import os
import time
from collections import ChainMap
from collections.abc import Collection
from functools import partial
from pathlib import Path

import jax
from rich.console import Console

from synseg_jax.batches.selection import Fold
from synseg_jax.cli.terminal import say
from synseg_jax.devices import environment, parallel, processes
from synseg_jax.devices.signals import Interrupted, Signals
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import by_protocol, summary
from synseg_jax.files import disk, write_json
from synseg_jax.phantom import dataset
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare, prepare_again
from synseg_jax.runs import results, run_file, run_report, stage_kinds, stages, train_stage, unseen
from synseg_jax.runs.agreement import settled
from synseg_jax.runs.check_systems import check
from synseg_jax.runs.stages import Done, Job, Stage
from synseg_jax.specification.check import affects, as_before
from synseg_jax.specification.data import IMAGE_FIELDS
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import replaced
from synseg_jax.specification.resolve import flat
from synseg_jax.training.system import System


def run(config: Experiment, workdir: Path, console: Console | None = None, named: Collection[str] = ()) -> dict:
    """The results of the systems that the configuration runs, also in results.json; docs/workdir.md has its form.

    The fields `named`, such as data.size, are what somebody set beside the configuration: records may contradict
    neither.
    """
    console = Console(quiet=True) if not processes.is_first() else console or Console()
    _compilation_cache()
    began = time.monotonic()
    disk.check_path(workdir)
    wanted = check(config)
    workdir.mkdir(parents=True, exist_ok=True)
    workspace = None
    with Signals(partial(say, console), processes.stop_notice()) as signals:
        try:
            signals.idle = True  # whatever is made before and after training is made anew, or is whole
            workspace = Workspace(config, workdir, console, signals, named)
            say(console, f'{jax.device_count()} {jax.devices()[0].platform} device(s), results in {workdir}')
            found = {name: workspace.system(name) for name in wanted}
            signals.idle = False
        except Interrupted as interrupted:
            say(console, f'stopped by {interrupted}')
            if workspace:
                workspace.report()
            return {}
    told = {
        'systems': {name: of['sets'] for name, of in found.items()},
        'seconds': round(time.monotonic() - began, 1),
        'steps': sum(of['steps'] for of in found.values()),
        'peak_memory_gib': round(environment.peak_memory_gib(), 3),
        'versions': environment.versions(),
    }
    further = by_protocol.by_system(found)
    told |= {'protocols': further} if further else {}
    if processes.is_first():
        write_json(workdir / 'results.json', told)
    print_tables(console, told['systems'], 'test scans')
    for protocol, systems in further.items():
        print_tables(console, systems, f'test scans, protocol {protocol}')
    say(console, f'results: {workdir / "results.json"}, {workdir / run_report.PAGE}')
    return told


def print_tables(console, systems, title) -> None:
    """A table of each set, with all systems that were measured on it."""
    for set_name in sorted({name for sets in systems.values() for name in sets}):
        measured = {name: sets[set_name] for name, sets in systems.items() if set_name in sets}
        console.print(summary.table(measured, f'{set_name}, {title}'))


class Workspace:
    """The systems of one configuration in one workdir."""

    def __init__(
        self, config: Experiment, workdir: Path, console: Console, signals: Signals, named: Collection[str] = ()
    ):
        self.given = self.config = config
        self.workdir, self.console, self.signals = workdir, console, signals
        self.lengths: dict = {}
        with stages.exclusive_lock(workdir, self._say, signals):
            _check_unchanged(config, workdir)
            self.manifest = self._data()
            if config.data_dir:
                self.config, told = settled(config, self.manifest, named)
                if told:
                    self._say(told)
            self._check_records()
            for name in config.run or config.systems:
                self._check_system(name)  # what is wrong with a later one is said before the first is trained
            self._remember()

    def system(self, name: str) -> dict:
        """What a system achieves over all its folds: every case's measures, their summary, and what it took."""
        pooled = results.pool([self._fold(name, fold) for fold in stages.folds(self.config, name)])
        pooled['fields'] = stages.fields(self.given, name)
        if processes.is_first():
            write_json(self.workdir / name / 'results.json', pooled)
        self.report()
        return pooled

    def report(self) -> None:
        """Writes report.html of the systems that have begun."""
        if processes.is_first():
            run_report.write(self.given, self.workdir, self.manifest)

    def _fold(self, name, fold) -> dict:
        """Every stage of one fold of a system, then what the last of them achieves."""
        title = f'{name} {fold.index + 1}/{fold.of}' if fold.of else name
        folder = self.workdir / name / (f'fold{fold.index + 1}' if fold.of else '')
        made, earlier, costs, fitted = {}, {}, [], []

        def begin(steps, done):
            stages.check_lengths(self.lengths, place.name, steps, name)
            if not (fold.index or done):
                self._remember(begun={name: [*_folders(costs), f'stages/{place.name}']})

        for one in self.config.stages(name):
            stage = self._stage(name, one, fold, made, earlier)
            place = self._place(stage.key())
            own_title = title if one == 'train' else f'{title}, {one}'
            with stages.exclusive_lock(place, self._say, self.signals):
                # of train: train_stage.run
                outcome = stage_kinds.run(Job(stage, place, own_title, self.console, self.signals, begin))
            earlier[one] = Done(place.name, outcome.steps)
            if outcome.made:
                made[one] = outcome.made
            if outcome.segmenter:
                fitted.append((stage, outcome.segmenter))
                costs.append({'stage': place.name, **outcome.cost})
            if processes.is_first():
                _point(folder / one, place)
        if not fold.index:
            self._remember({name: _folders(costs)})
        if fold.of and processes.is_first():
            trained = {'stages': _folders(costs), 'held_out': fold.held_out_scans(self.manifest)}
            run_file.add_fold(self.workdir, name, fold.index, trained)
        sets = ChainMap(made, fitted[-1][0].sets)
        return results.evaluate(fitted, sets, costs, fold, folder, self._pause)

    def _say(self, text: str) -> None:
        say(self.console, text)

    def _pause(self) -> None:
        """Interrupted if a signal came; several processes, which measure together, go on to the end of a set."""
        if jax.process_count() == 1:
            self.signals.raise_if_asked()

    def _place(self, key) -> Path:
        return self.workdir / 'stages' / key

    def _stage(self, system, name, fold, made, earlier) -> Stage:
        config = self.config.stage(system, name)
        manifest = self._records(config)
        sets = ChainMap(dict(made), dict.fromkeys(manifest.sets, manifest))
        stage = Stage(name, config, manifest, sets, Fold() if config.kind_of_stage.makes_set else fold, dict(earlier))
        read = [scans.manifest for domain in 'ab' for scans in stage.scans(domain)]
        if len({(of.size, of.spacing_mm) for of in read}) > 1:
            raise InputError(f'stage {name} of {system} reads sets of different sizes or spacings; make one anew')
        seen = {field: getattr(read[-1] if read else manifest, field) for field in IMAGE_FIELDS}
        return dataclasses.replace(stage, config=replaced(config, {f'data.{field}': v for field, v in seen.items()}))

    def _records(self, config) -> Manifest:
        """The records that were given or, if a system's data fields differ, others of the same scans."""
        changed = {f: v for f, v in vars(config.data).items() if v != getattr(self.config.data, f)}
        if not changed:
            return self.manifest
        output = self.workdir / f'records-{stages.digest(changed, self.manifest.request)}'
        with stages.exclusive_lock(self.workdir / 'stages', self._say, self.signals):
            with processes.first_then_others(output.name):
                return prepare_again(self.manifest, output, config.data, progress=self.console.is_terminal)

    def _data(self) -> Manifest:
        """The records to train on: the folder that was given, or those of the phantom, made now."""
        config = self.config
        if config.data_dir:
            return Manifest.load(config.data_dir)
        with processes.first_then_others('the phantom'):
            return self._phantom()

    def _phantom(self) -> Manifest:
        """The records of the phantom, made unless they are there."""
        config, sets = self.config, []
        for number, (name, wanted) in enumerate(config.phantom.sets.items(), 1):
            fields = dict(vars(wanted))
            modality, domain, role = (fields.pop(key) for key in ('modality', 'domain', 'role'))
            folder = self.workdir / 'phantom' / f'Dataset{number:03d}_{name.capitalize()}{modality}'
            self._say(f'phantom: {wanted.subjects} {modality} scans in {folder}')
            dataset.write_dataset(folder, modality, seed=config.phantom.seed, region=config.phantom.region, **fields)
            sets.append(Scans(name, folder, domain, role or None))
        return prepare(sets, self.workdir / 'records', config.data, progress=self.console.is_terminal)

    def _check_system(self, name) -> None:
        """InputError for what is wrong with the first stage of a system, or with the fields of a later one."""
        unseen.check(name, self.config.stages(name), self.manifest, stages.folds(self.config, name))
        known_sets, tests, first = set(self.manifest.sets), set(), None
        for one, config in self.config.stages(name).items():
            tests.update(config.test_sets)
            for text in (*config.sets.a, *config.sets.b):
                known(f'set ({name}, {one})', text.partition(':')[0], known_sets)
            if config.kind_of_stage.makes_set:
                known_sets.add(one)
            if not config.kind_of_stage.trains:
                continue
            System(config, self.manifest.classes).step(1, parallel.mesh(config.train.devices))
            if first is None:
                first = train_stage.StageTraining(
                    self._stage(name, one, stages.folds(self.config, name)[0], {}, {}), self.workdir
                )
        for tested in sorted(tests):
            known('set (test_sets)', tested, known_sets)

    def _check_records(self) -> None:
        """InputError if the workdir was begun with other records."""
        described = run_file.read(self.workdir)
        if described.get('records', self.manifest.request) != self.manifest.request:
            raise InputError(
                f'{self.workdir} was begun with other records than {self.manifest.folder}; use another --workdir'
            )

    def _remember(self, finished=None, begun=None) -> None:
        """Writes run.json: configuration, records, the stages of systems finished so far and of those in training."""
        if processes.is_first():
            content = {'config': self.given.given, 'records': self.manifest.request}
            run_file.update(self.workdir, content, finished or {}, begun or {})


def _folders(costs) -> list[str]:
    """The folders, in the workdir, of the stages that have run."""
    return [f'stages/{cost["stage"]}' for cost in costs]


def _point(link: Path, folder: Path) -> None:
    """A link to a stage's folder from that of a system, for people."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    if not link.exists():  # a copied workdir has folders in place of links
        link.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)


def _compilation_cache() -> None:
    """Keeps compiled programs between runs, where JAX_COMPILATION_CACHE_DIR or the user's cache folder says."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    if jax.config.jax_compilation_cache_dir is None and os.path.isabs(home):
        jax.config.update('jax_compilation_cache_dir', str(Path(home) / 'synseg_jax'))


def _check_unchanged(config: Experiment, workdir: Path) -> None:
    """InputError if the workdir was begun with a configuration that trains something else."""
    described = run_file.read(workdir)
    if not described:
        return
    old, new = flat(described['config']), flat(json.loads(json.dumps(config.given)))
    for field in sorted(old | new):
        if field not in old and as_before(field, new[field]):
            continue
        if old.get(field) != new.get(field) and not _free(field, config, described['config']):
            raise InputError(
                f'{workdir} was begun with {field}={old.get(field)!r}, now {new.get(field)!r}; '
                'use another --workdir, or remove this one to start again'
            )


def _free(field, config, old) -> bool:
    """Whether a field may change: of all systems, of one of them, or of one stage of one; or its system is new."""
    if config.data_dir and field.startswith('data.'):
        return True  # what its records were made with counts, not what the configuration says
    if field.startswith('systems.'):
        _, system, *rest = field.split('.')
        if system not in old['systems'] or system not in config.systems:
            return True
        field = '.'.join(rest[2:] if rest[:1] == ['stages'] else rest)
    return affects(field) in ('length', 'speed', 'measures', 'display')
