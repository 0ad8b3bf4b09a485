"""Runs every system of every table at its paper's folds, sets and splits, on miniature scans, two steps a stage.

    python tests/miniatures.py
    python tests/miniatures.py --config=synseg_spleen --systems=target_labels,multi_atlas --folds=2

The raw datasets hold exactly the papers' counts of scans and lie as the commands in the docstrings say.  Of the
configurations only sizes (images, networks, batches) and lengths are smaller.  Prints a line a system: its stages and
folds, how many scans of each set were tested, seconds, and ok or what failed.  Exit code 1 if any failed.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')] if str(ROOT) not in sys.path else []

# Not with the flags of quick.py, under which gradients of the Res-U-Net are NaN.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')

from miniature_sets import RAW_SETS, written  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402
from rich.console import Console  # noqa: E402

from synseg_jax.files import read_json  # noqa: E402
from synseg_jax.preparation.split import Scans  # noqa: E402
from synseg_jax.preparation.write_records import prepare  # noqa: E402
from synseg_jax.runs import stages  # noqa: E402
from synseg_jax.runs.experiment import run  # noqa: E402
from synseg_jax.specification.data import Data  # noqa: E402
from synseg_jax.specification.experiment import Experiment  # noqa: E402
from synseg_jax.specification.parse import parse, parse_data  # noqa: E402

TABLES = sorted(path.stem for path in (ROOT / 'configs' / 'tables').glob('*.py'))
SHORT = {'.train.steps': 2, '.train.decay_steps': 0, '.train.save_every': 2, '.train.log_every': 1, '.train.devices': 1}
MOST = {'.width': 4, '.blocks': 1, '.levels': 2, '.layers': 1, '.train.batch': 2}
TRANSDUCTIVE = {'synseg_spleen': ('synseg', 'half_cycle', 'cyclegan_seg'), 'synseg_ticv': ('synseg', 'cyclegan_seg')}


@dataclass(frozen=True)
class Job:
    """A system to run, with the fields of a table that shows it or, of none, of its configuration."""

    name: str  # of the configuration
    table: str
    system: str
    config: Experiment
    workdir: Path

    @property
    def shown(self) -> set[str]:
        """The sets of which its table shows what the system achieves."""
        return (
            {row.set for row in self.config.table.rows.values() if row.system == self.system} if self.table else set()
        )

    def outcome(self, folds: int) -> tuple[str, bool]:
        """What became of it in one line, and whether it failed."""
        began, log, parts = time.monotonic(), io.StringIO(), []
        try:
            with mock.patch.object(stages, 'folds', _first(folds)), contextlib.redirect_stdout(log):
                parts += [f'stages {len(self.config.stages(self.system))}']
                parts += [f'folds {len(stages.folds(self.config, self.system))}']
                run(self.config, self.workdir, Console(file=log, width=200))
            cases = read_json(self.workdir / self.system / 'results.json', '')['cases']
            parts += [f'{name} {len(of)}' for name, of in cases.items()]
            end = 'ok' if cases and self.shown <= cases.keys() else 'FAILED: a set that is shown is not tested'
        except Exception as error:  # whatever fails, the others are run
            end = f'FAILED: {type(error).__name__}: {" ".join(str(error).split())[:300]}'
            traceback.print_exc(file=log)
        (self.workdir.parent / f'{self.name}.log').open('a').write(log.getvalue())
        line = f'{self.name:21} {self.table or "-":15} {self.system:23} {", ".join(parts):50}'
        return f'{line} {time.monotonic() - began:6.1f} s  {end}', not end == 'ok'


def _first(most):
    """`stages.folds`, of which only the first few are run; 0: all."""
    whole = stages.folds
    return lambda config, system: whole(config, system)[: most or None]


def shrink(fields: ConfigDict, prefix: str = '') -> None:
    """Makes images, networks, batches and lengths small, also those that systems and stages set.

    A spacing grows as images shrink, so that they show as many millimetres as before.
    """
    if prefix.endswith('.data') and fields.get('spacing_mm') and 'size' in fields:
        fields.spacing_mm *= fields.size[-1] / _fewer(fields.size)[-1]
    for name, value in fields.items():
        path = f'{prefix}.{name}'
        if isinstance(value, ConfigDict):
            shrink(value, path)
        elif path.endswith(('.data.size', '.augment.window')) and value:
            fields[name] = _fewer(value)
        elif path.endswith(tuple(SHORT)):
            fields[name] = next(given for field, given in SHORT.items() if path.endswith(field))
        elif path.endswith(tuple(MOST)) and value is not None:  # None: not of this architecture
            fields[name] = min(value, next(most for field, most in MOST.items() if path.endswith(field)))


def _fewer(size) -> tuple[int, ...]:
    return tuple(round(n / 8) if len(size) == 3 else max(16, round(n / 16)) for n in size)


def tables_of(configuration: ModuleType) -> dict[str, ModuleType]:
    """The tables that show systems of a configuration."""
    modules = {name: importlib.import_module(f'configs.tables.{name}') for name in TABLES}
    return {name: module for name, module in modules.items() if configuration in vars(module).values()}


def jobs(name: str, folder: Path) -> Iterator[Job]:
    """Every system of every table of a configuration, those that no table shows, and SynSeg-Net's transductive ones."""
    configuration, seen = importlib.import_module(f'configs.{name}'), set()
    for table, module in {**tables_of(configuration), '': configuration}.items():
        config = small(module, folder)
        for system in config.run if table else sorted(set(config.systems) - seen):
            seen.add(system)
            yield Job(name, table, system, _alone(config, system), folder / ('run' if table else 'others'))
    for system in TRANSDUCTIVE.get(name, ()):
        config = small(configuration, folder)
        config.transductive = True
        yield Job(name, '', system, _alone(config, system), folder / 'transductive')


def write(name: str, folder: Path, voxels: bool = True) -> tuple[list[Scans], Data]:
    """The raw sets of a configuration below `folder`, and the settings to prepare them with."""
    configuration = importlib.import_module(f'configs.{name}')
    config = small(configuration, folder)
    modules = (configuration, *tables_of(configuration).values())
    return written(folder / 'raw', name, config.data.classes, *modules, voxels=voxels), parse_data(config)


def small(module: ModuleType, folder: Path) -> ConfigDict:
    """A configuration or table on the records in `folder`, everything small."""
    config = module.get_config(str(folder / 'records'))
    shrink(config)
    return config


def _alone(config, system) -> Experiment:
    own = config.copy_and_resolve_references()
    own.run = (system,)
    return parse(own)


def main() -> None:
    """Runs what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=','.join(RAW_SETS), help='configurations, several with commas')
    parser.add_argument('--systems', default='', help='several with commas; all unless given')
    parser.add_argument('--folds', type=int, default=0, help='that are run of each system; 0: all')
    parser.add_argument('--workdir', help='where an interrupted run goes on; a temporary folder unless given')
    flags = parser.parse_args()
    wanted, failed = flags.systems.split(',') if flags.systems else [], 0
    with tempfile.TemporaryDirectory() as temporary:
        for name in flags.config.split(','):
            folder = Path(flags.workdir or temporary) / name
            sets, settings = write(name, folder)
            prepare(sets, folder / 'records', settings, progress=False)
            for job in jobs(name, folder):
                if not wanted or job.system in wanted:
                    line, bad = job.outcome(flags.folds)
                    print(line, flush=True)
                    failed += bad
    sys.exit(bool(failed))


if __name__ == '__main__':
    main()
