"""run.json of a workdir: its configuration, its records, and the stage folders of its systems."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from synseg_jax.files import exclusive_lock, read_json, schema, write_json
from synseg_jax.files.stage_schema import FoldFile, RunFile
from synseg_jax.inference.model_folder import FORMAT, check_format

RUN = 'run.json'
Stages = Mapping[str, Sequence[str]]  # system -> folders of its stages in the workdir


def read(workdir: Path) -> dict:
    """The content of run.json, {} if absent; InputError if it is damaged."""
    path = workdir / RUN
    if not path.is_file():
        return {}
    remedy = 'remove it, or use another --workdir'
    content = read_json(path, remedy)
    check_format(content, str(path))
    return schema.conform(content, RunFile, str(path), remedy)


def update(workdir: Path, content: Mapping, finished: Stages, begun: Stages) -> None:
    """Write `content`, and update the stage folders of finished and begun systems, keeping those of other systems."""
    with exclusive_lock(workdir / f'.{RUN}.lock'):  # other processes may train other systems in this workdir
        before, systems = read(workdir), {}
        for field, new, others in (('systems', finished, begun), ('begun', begun, finished)):
            kept = {name: folders for name, folders in before.get(field, {}).items() if name not in others}
            systems[field] = {**kept, **new}
        kept = {'folds': before['folds']} if 'folds' in before else {}
        write_json(workdir / RUN, {'format': FORMAT, **content, **systems, **kept})


def add_fold(workdir: Path, system: str, index: int, fold: FoldFile) -> None:
    """Write a trained fold of a system, which replaces what was written of it before; folds are added in order."""
    with exclusive_lock(workdir / f'.{RUN}.lock'):
        content = read(workdir)
        folds = content.setdefault('folds', {}).setdefault(system, [])
        folds[index : index + 1] = [fold]
        write_json(workdir / RUN, content)
