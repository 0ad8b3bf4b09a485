"""A plan from end to end: facts, choices, the time they take, and the file."""

from pathlib import Path

from configs import adapt
from synseg_jax.planning import choices, config_file, cost, facts
from synseg_jax.planning.choices import Choice
from synseg_jax.planning.machine import Machine
from synseg_jax.preparation.split import Scans
from synseg_jax.specification.data import Data
from synseg_jax.specification.parse import parse


def plan(source: Scans, target: Scans, file: Path, hours: float) -> tuple[str, list[str]]:
    """The text of the configuration `file`, and lines that tell of it; InputError for data that cannot be used."""
    machine, settings = Machine.here(), Data()
    sets = facts.read(source, settings), facts.read(target, settings)
    chosen = [*choices.of_data(*sets, machine), *choices.of_training(machine)]
    classes = next(choice.value for choice in chosen if choice.field == 'data.classes')
    seconds = cost.seconds(parse(_configuration(chosen)), sets, classes)
    first, more, why = choices.steps(machine, seconds, hours)
    duration = _time(choices.total((first, more), seconds))
    dimensions, organs = choices.dimensions(*sets), choices.organs(sets[1], chosen)
    told = {
        'hours': f' --hours={hours:g}' if hours else '', 'file': file, 'records': f'records/{file.stem}',
        'workdir': f'runs/{file.stem}', 'duration': duration, 'machine': machine,
        'organs': organs, 'dimensions': dimensions, 'why': why,
    }  # fmt: skip
    lines = [
        f'source: {config_file.described(sets[0])}',
        f'target: {config_file.described(sets[1])}',
        f'machine: {machine}; {seconds[0]:.2f} s a step, {seconds[1]:.2f} s in self-training',
        *(f'{choice.field} = {choice.value!r}: {choice.reason}' for choice in chosen),
        f'organs = {organs[0]}; {organs[1]}',
        f'{first} steps, then {choices.ROUNDS} times {more}: {why}',
        f'{file}: about {duration}; its first lines have the commands',
    ]
    return config_file.text(sets, chosen, (first, more), told), lines


def _configuration(chosen: list[Choice]):
    """The recipe with the choices, as the file makes it."""
    c = adapt.get_config('records')
    for choice in chosen:
        c.update_from_flattened_dict({choice.field: choice.value})
    return c


def _time(seconds) -> str:
    minutes = max(1, round(seconds / 60))
    return f'{minutes} minutes' if minutes < 90 else f'{seconds / 3600:.1f} hours'
