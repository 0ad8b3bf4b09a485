"""The trained stage that a workdir offers for a task."""

from pathlib import Path

from synseg_jax.errors import InputError, known, warn
from synseg_jax.files import schema
from synseg_jax.files.stage_schema import RunFile
from synseg_jax.inference.model_folder import CHECKPOINTS, DAMAGED, STAGE, Run, check_format, read_workdir_json
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.runs import stage_kinds
from synseg_jax.runs.run_file import RUN
from synseg_jax.training.checkpoint import Checkpoints

UNFINISHED = 'Use the best checkpoint so far of a system that is not trained to its end.'  # the flag --unfinished


def find(
    workdir: str | Path, system: str = '', network: str = 's', stage: str = '', unfinished: bool = False, fold: int = 0
) -> 'Segmenter':
    """The last stage of a system of the workdir, its chosen one unless named, that trained a network of this kind.

    `network` is the first letter of its name, '' for any; `stage` a stage by name, not the last one.  Of a system that
    is still in training, the best checkpoint so far if `unfinished`, else InputError.  `fold`: one of `folds`, by its
    number from 1; 0: the first.
    """
    workdir = Path(workdir)
    content, system = _described(workdir, system)
    begun = [folder for folder in content.get('begun', {}).get(system, ()) if _saved(workdir / folder)]
    of_fold = content['folds'][system][fold - 1]['stages'] if fold else ()
    folders = of_fold or begun or content['systems'].get(system)
    if not folders:
        raise InputError(f'{workdir}: {system} is not trained yet; run synseg_jax.main')
    if begun and not unfinished:
        place = workdir / begun[-1]
        raise InputError(
            f'{workdir}: {system} is unfinished, at step {_saved(place)[-1]} of {place.name}; --unfinished uses its '
            'best checkpoint so far, synseg_jax.main trains on'
        )
    by_name = {Path(folder).name.rpartition('-')[0]: folder for folder in folders}
    named = [by_name[known(f'trained stage of {system}', stage, by_name)]] if stage else folders
    found = _last([workdir / folder for folder in named], system, network, bool(begun))
    if begun and isinstance(found, Trained):
        warn('%s is unfinished: uses step %d of %s, its best so far', system, found.step, found.run.folder)
    return found


def folds(workdir: str | Path, system: str = '') -> dict[int, frozenset[Path]]:
    """{number: scans that it did not train on} of the trained folds of a system; empty without cross-validation."""
    content, system = _described(Path(workdir), system)
    found = content.get('folds', {}).get(system, [])
    return {n: frozenset(Path(file).resolve() for file in fold['held_out']) for n, fold in enumerate(found, 1)}


def seed(workdir: str | Path) -> int:
    """The seed of the configuration of a workdir."""
    return _described(Path(workdir), '')[0]['config'].get('seed', 0)


def _described(workdir, system) -> tuple[dict, str]:
    """The content of run.json, and the name of a system, its chosen one unless named."""
    content = read_workdir_json(workdir / RUN)
    check_format(content, str(workdir / RUN))
    content = schema.conform(content, RunFile, str(workdir / RUN), DAMAGED)
    return content, known('system', system or content['config']['default_system'], content['config']['systems'])


def _last(folders, system, network, begun) -> 'Segmenter':
    """The last of a system's stages with a network of this kind."""
    for run in map(Run.load, reversed(folders)):
        if segmenter := stage_kinds.load(run, network):
            return segmenter
    kind = {'s': 'segmentor', 'g': 'generator', '': 'network'}[network]
    remedy = ' yet; let synseg_jax.main train on' if begun else '; choose another --system'
    raise InputError(f'system {system} trains no {kind}{remedy}')


def _saved(folder: Path) -> list[int]:
    """The steps of a stage's checkpoints; 0 of one that trains nothing, such as atlases."""
    if not (folder / STAGE).is_file():
        return []
    if not (folder / CHECKPOINTS).is_dir():
        return [] if Run.load(folder).config.kind_of_stage.trains else [0]
    with Checkpoints(folder / CHECKPOINTS, alone=True) as checkpoints:
        return checkpoints.steps()
