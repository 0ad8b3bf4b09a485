"""The choices of a plan, each with its reason, from the facts of both sets and of the machine."""

import math
import re
from dataclasses import dataclass

from synseg_jax.datasets import class_names
from synseg_jax.errors import InputError
from synseg_jax.formats.names import normalised
from synseg_jax.planning.facts import Facts
from synseg_jax.planning.machine import Machine

SOFT_TISSUE, WIDE = (-125.0, 275.0), (-1000.0, 400.0)  # HU
MARGIN = 0.95  # of the picture that the body may take
MULTIPLE = 16  # of pixels, which a U-Net with 4 levels halves so often
ROUNDS, SHARE = 3, 0.15  # of self-training, each so much of the first training
STEPS = {'cpu': 4000, 'gpu': 20000, 'tpu': 20000}
FEWEST, USEFUL = 500, 2000  # steps of the first training: too few to learn anything, and enough for a first result
# The heart is not among them: its chambers, full of contrast medium, are brighter than ORGANS_HU.
SOLID = re.compile(r'liver|kidney|renal|spleen|pancreas|prostate|muscle')
ORGANS_HU, ORGANS = (-5.0, 255.0), (0.05, 1.0)  # that solid organs lie in: in CT, and in [0, 1] of other modalities
FEWEST_SUBJECTS = 3  # of either set
WIDTHS = ((60, 64), (20, 32), (0, 16))  # from so many GiB of a GPU on, channels at full resolution


@dataclass(frozen=True)
class Choice:
    """A field of the configuration, its value, and why."""

    field: str
    value: object
    reason: str


def of_data(source: Facts, target: Facts, machine: Machine) -> list[Choice]:
    """How scans become images; InputError for sets that cannot be adapted to one another."""
    _check(source, target)
    most = 128 if machine.platform == 'cpu' else 256
    body = max(source.body_mm, target.body_mm)
    shown = (body or min(source.field_mm, target.field_mm)) / MARGIN
    finest = min(*source.spacing_mm[1:], *target.spacing_mm[1:])
    spacing = math.ceil(10 * max(shown / most, finest)) / 10
    side = min(most, MULTIPLE * math.ceil(shown / spacing / MULTIPLE))
    what = f'the largest body is {body:.0f} mm wide' if body else f'no body was found, the field is {shown:.0f} mm wide'
    chosen = [
        Choice('data.classes', _classes(source), _shared(source, target)),
        Choice('data.size', (side, side), f'pixels; {_machine(machine)} trains up to {most}x{most} in reasonable time'),
        Choice('data.spacing_mm', spacing, f'one scale in both sets: {what}, in {side} pixels; the finest scan has '
                                           f'{finest:g} mm'),
    ]  # fmt: skip
    chosen += _channels(source, target)
    if 'CT' in (source.modality, target.modality):
        chosen.append(_window(source, target))
    if {source.modality, target.modality} != {'CT'}:
        chosen.append(Choice('data.percentiles', (0.5, 99.5), 'of each scan; narrower ones saturate bright organs'))
    return chosen


def of_training(machine: Machine) -> list[Choice]:
    """Sizes of network and batch."""
    if machine.platform == 'cpu':
        width, batch, dtype = 12, machine.devices * math.ceil(4 / machine.devices), 'float32'
        why = 'a third of a second a step on one CPU core'
    else:
        width = next(width for least, width in WIDTHS if machine.memory_gib >= least)
        batch, dtype = 16 * machine.devices, 'bfloat16'
        why = f'{machine.memory_gib:.0f} GiB of GPU memory'
    return [
        Choice(
            'run',
            ('adapt',),
            'randomised views of the source, then self-training on the target; add '
            "'source_only' for what none of it gives",
        ),
        Choice('segmentor.width', width, f'channels at full resolution; {why}'),
        Choice('train.batch', batch, f'slices of each set; {why}'),
        Choice('dtype', dtype, 'faster on GPUs' if dtype == 'bfloat16' else 'CPUs gain nothing by less'),
    ]


def organs(target: Facts, chosen: list[Choice]) -> tuple[tuple[float, float], str]:
    """The range of intensities in [0, 1] of the target that all organs lie in, and why; all if one may hold air."""
    values = {choice.field: choice.value for choice in chosen}
    if other := [name for name in values['data.classes'][1:] if not SOLID.search(name.lower())]:
        return (0.0, 1.0), f'organs: {other[0]} may be as dark as air or fat'
    if target.modality != 'CT':
        return ORGANS, 'organs: air, which none of these holds, is background in pseudo labels and predictions'
    low, high = values['data.window_hu']
    darkest, brightest = (min(1.0, max(0.0, round((hu - low) / (high - low), 2))) for hu in ORGANS_HU)
    told = 'organs: air, fat, bone and contrast medium, below -5 and above 255 HU, are background in pseudo labels and '
    return (darkest, brightest), told + 'predictions'


def dimensions(source: Facts, target: Facts) -> str:
    """Why slices are segmented one by one."""
    thick = [facts.spacing_mm[0] / max(facts.spacing_mm[1:]) for facts in (source, target)]
    apart = f'{source.spacing_mm[0]:g} mm apart in the source, {target.spacing_mm[0]:g} in the target'
    if max(thick) > 2:
        return f'2-D: slices are {apart}, {max(thick):.1f} pixels at the most, too far to be one volume'
    return f'2-D: adaptation is built on slices ({apart}); whole volumes with labels of both: configs/heart3d.py'


def steps(machine: Machine, seconds: tuple[float, float, float], hours: float) -> tuple[int, int, str]:
    """Steps of the first training and of each round of self-training, and why, from the seconds of a step of each.

    `seconds`: of a step of the first training, of one of self-training, and of all else together.  `hours` 0: as many
    as the recipe wants.
    """
    first, later, rest = seconds
    of_one = first + ROUNDS * SHARE * later
    if not hours:
        count = STEPS[machine.platform]
        return count, _round(count * SHARE), 'as many as the recipe was measured with; --hours fits them into a time'
    count = _round((hours * 3600 - rest) / of_one)
    if count < FEWEST:
        least = (FEWEST * of_one + rest) / 3600
        raise InputError(f'--hours={hours:g} is too short here; give --hours={math.ceil(10 * least) / 10:g} or more')
    few = f'; below {USEFUL} expect a first look, no more' if count < USEFUL else ''
    return count, _round(count * SHARE), f'what fits into {hours:g} hours{few}'


def total(counts: tuple[int, int], seconds: tuple[float, float, float]) -> float:
    """Seconds of the whole run."""
    return counts[0] * seconds[0] + ROUNDS * counts[1] * seconds[1] + seconds[2]


def _round(count) -> int:
    """Rounded down to 50, in which losses are logged."""
    return max(50, int(count) // 50 * 50)


def _check(source, target) -> None:
    if not source.labelled:
        raise InputError(f'{source.dataset.folder}: no labels; --source is the set that has them')
    if not source.dataset.labels:
        raise InputError(
            f'{source.dataset.folder}: its classes have no names; give --labels=source=background:0,liver:1'
        )
    for facts in (source, target):
        if facts.subjects < FEWEST_SUBJECTS:
            raise InputError(
                f'{facts.dataset.folder}: {facts.subjects} patients; at least {FEWEST_SUBJECTS} are needed'
            )


def _classes(source) -> tuple[str, ...]:
    return tuple(class_names.disjoint(source.dataset.labels))


def _shared(source, target) -> str:
    if not target.dataset.labels:
        return 'the source names them; the target names none'
    both = [name for name in _classes(source)[1:] if name in target.dataset.labels]
    return f'the source names them; the target names {", ".join(both) or "none of them"} as well'


def _channels(source, target) -> list[Choice]:
    """How many channels are read; nothing to choose where no scan has several."""
    named = [facts.dataset.channel_names for facts in (source, target)]
    if max(map(len, named)) == 1:
        return []
    words = ' and '.join(', '.join(own) for own in named)
    if [*map(normalised, named[0])] == [*map(normalised, named[1])]:
        return [Choice('data.channels', (len(named[0]),) * 2, f'both sets have {", ".join(named[0])}')]
    why = f'one network is to see the scans of both sets, whose channels differ ({words}): the first of each'
    return [Choice('data.channels', (1, 1), why)]


def _window(source, target) -> Choice:
    if source.modality == 'CT' and source.organs:
        low, high = (5 * round(value / 5) for value in source.organs)
        low, high = (low - 25.0, high + 25.0)
        return Choice('data.window_hu', (low, high), 'HU; that of the labelled organs in CT, and 25 HU more')
    if any('lung' in name.lower() for name in source.dataset.labels):
        return Choice('data.window_hu', WIDE, 'HU; lungs, vessels and bone')
    return Choice('data.window_hu', SOFT_TISSUE, 'HU; soft tissue; (-1000.0, 400.0) shows lungs and bone as well')


def _machine(machine) -> str:
    return 'a CPU' if machine.platform == 'cpu' else f'a {machine.name}'
