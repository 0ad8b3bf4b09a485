"""The segmenter that one or several workdirs offer: the mean over their folds, seeds and checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from synseg_jax.errors import InputError, warn
from synseg_jax.inference.ensemble import HeldOut, ensemble
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.runs import open_run
from synseg_jax.runs.run_file import RUN


def find(
    workdirs: Sequence[str | Path],
    system: str = '',
    chosen: Sequence[int | str] = (),
    seeds: int = 1,
    unfinished: bool = False,
    fields: Mapping[str, object] | None = None,
) -> Segmenter:
    """A system of each workdir, of all folds or those with the numbers `chosen`, of so many seeds, as one segmenter.

    `fields` are values of configuration fields that replace those of the workdirs.
    """
    folders = [folder for workdir in workdirs for folder in _seeds(Path(workdir), seeds)]
    pairs = [pair for folder in folders for pair in _folds(folder, system, chosen, unfinished)]
    return ensemble([stage.with_fields(fields or {}) for stage, _ in pairs], [files for _, files in pairs])


def _seeds(workdir, count) -> list[Path]:
    """The workdir, and those of the next seeds, which synseg_jax.compare writes into it; InputError without them."""
    first = open_run.seed(workdir) if count > 1 else 0
    others = [workdir / f'seed{first + n}' for n in range(1, count)]
    for folder in others:
        if not (folder / RUN).is_file():
            raise InputError(f'--seeds={count}: {folder} is not trained; synseg_jax.compare --seeds={count} trains it')
    return [workdir, *others]


def _folds(workdir, system, chosen, unfinished) -> Iterator[tuple[Segmenter, HeldOut]]:
    """The trained stage of every fold, and the scans that the fold held out; without folds the stage alone."""
    found = open_run.folds(workdir, system)
    numbers = [_number(one, found, workdir) for one in chosen] or list(found) or [0]
    for number in numbers:
        stage = open_run.find(workdir, system, unfinished=unfinished, fold=number)
        yield stage, found.get(number, frozenset())
        if not isinstance(stage, Trained) and not chosen:
            return  # every fold of atlases registers nearly the same scans
    if not chosen and (count := len(numbers)) < (of := stage.config.fold.of):
        warn('%s: %d of %d folds are used; synseg_jax.main trains or adds the others', workdir, count, of)


def _number(text, found, workdir) -> int:
    """The number of a fold; InputError unless it is trained."""
    if str(text) not in map(str, found):
        listed = f'has folds {", ".join(map(str, found))}' if found else 'has no folds'
        raise InputError(f'--folds: {workdir} {listed}, not {text}')
    return int(text)
