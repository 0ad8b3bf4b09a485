"""report.html of a workdir: results, pictures, costs and configuration of its systems, finished or not."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from synseg_jax.devices.environment import versions
from synseg_jax.errors import InputError
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.imaging.modality import of_channel
from synseg_jax.preparation.records import Manifest
from synseg_jax.reports import report, run_page
from synseg_jax.reports.comparison import MEAN, Row, entries
from synseg_jax.reports.report import Report
from synseg_jax.runs import run_file, stages, system_pictures
from synseg_jax.runs.comparison import stored
from synseg_jax.runs.result_files import RESULTS, Results
from synseg_jax.specification.check import declaration, own_name
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.resolve import flat

PAGE = 'report.html'
MEASURES = ('dice', 'asd_mm')
APART = ('data_dir', 'run', 'default_system', 'table.')  # fields that change no result of a workdir
NOTES = (
    'Mean ± sample standard deviation over the test scans; in the column "mean" and in the first table each scan '
    'counts with the mean over its organs.',
    'Empty masks: an organ in neither prediction nor reference leaves the scan out; in only one of them it has Dice 0 '
    'and no distance.',
)


def write(config: Experiment, workdir: Path, manifest: Manifest) -> None:
    """Writes report.html and its boxplots, once any system has begun."""
    rows = list(_rows(config, workdir))
    if not rows:
        return
    organs = dict.fromkeys(o for row in rows for of in (row.cases or {}).values() for o in of if o not in NOT_ORGANS)
    told = Report(
        workdir.resolve().name, _source(manifest), (MEAN, *organs), MEASURES, '', rows, NOTES, versions(),
    )  # fmt: skip
    found = entries(told)
    plots = report.boxplots(told, found, workdir)
    report.write_text(workdir / PAGE, run_page.render(told, found, plots, list(_changes(config))))


def _source(manifest: Manifest) -> str:
    """The sets by domain: '32 MR scans (source) to 32 CT scans (target)'."""
    told: dict[str, list[str]] = {'a': [], 'b': []}
    for name, entry in manifest.sets.items():
        scans = sum(len(role['cases']) for role in entry['roles'].values())
        told[entry['domain']].append(f'{scans} {of_channel(entry["channel"]) or entry["channel"]} scans ({name})')
    return ' to '.join(' and '.join(sets) for sets in told.values() if sets)


def _rows(config: Experiment, workdir: Path) -> Iterator[Row]:
    """A row per system and test set of those that have begun; a stage that several share is shown with the first."""
    shown: set[Path] = set()
    described = run_file.read(workdir)
    begun = {**described.get('systems', {}), **described.get('begun', {})}
    for name in config.systems:
        results = _results(config, workdir, name)
        if results or name in begun:
            own = _stages(config, workdir, name, begun.get(name, ()))
            new = {one: folder for one, folder in own.items() if folder.resolve() not in shown}
            shown.update(folder.resolve() for folder in own.values())
            yield from _of_system(name, results, new, workdir / name)


def _results(config, workdir, system) -> Mapping:
    """The results of a system with these very fields; {} if it has none, or none that can be read."""
    try:
        results = stored(workdir / system / RESULTS, Results)
    except InputError:
        return {}
    return results if results.get('fields') == stages.fields(config, system) else {}


def _stages(config, workdir, system, begun) -> dict[str, Path]:
    """The folders of a system's stages; those that it shares with others or has only begun have no link yet."""
    first = system_pictures.first_fold(workdir / system)
    folders = {Path(folder).name.rpartition('-')[0]: workdir / folder for folder in begun}
    return {name: first / name if (first / name).is_dir() else folders.get(name, first / name)
            for name in config.stages(system)}  # fmt: skip


def _of_system(name, results: Mapping, stage_folders, folder) -> Iterator[Row]:
    costs = {'seconds': 'seconds', 'memory_gib': 'peak_memory_gib', 'seed': 'seed', 'steps': 'steps'}
    told = {field: results.get(key) for field, key in costs.items()}
    told |= {field: results.get(field, False) for field in ('reads_target_labels', 'transductive')}
    measured = results.get('cases') or {'': None}
    for number, (set_name, cases) in enumerate(measured.items()):
        pictures, curves = system_pictures.pictures(folder, set_name, {} if number else stage_folders)
        yield Row(name, set_name if len(measured) > 1 else '', cases, pictures=pictures, curves=curves, **told)


def _changes(config: Experiment) -> Iterator[tuple[str, str, str]]:
    """(field, value, default) of what the configuration says otherwise than the defaults, its systems last."""
    given = flat(config.given)
    for name in sorted(given, key=lambda name: name.startswith('systems.')):
        found = declaration(own_name(name))
        if found is None or given[name] in (None, found.default) or name.startswith(APART):
            continue
        if not (config.data_dir and name.startswith('phantom.')):
            default = given.get(own_name(name), found.default) if name.startswith('systems.') else found.default
            yield name, _text(given[name]), _text(default)


def _text(value) -> str:
    several = ', '.join(map(str, value)) if isinstance(value, tuple) else value
    return '–' if isinstance(value, Mapping) or several in (None, '') else f'{several}'
