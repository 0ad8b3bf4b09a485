"""The text of a configuration file that a plan writes: Python that a person reads and changes."""

from collections.abc import Sequence
from textwrap import wrap

from synseg_jax.planning.choices import ROUNDS, Choice
from synseg_jax.planning.facts import Facts

WIDTH = 100  # of lines of reasons
TEMPLATE = '''"""Segment {target_modality} by the labels of {source_modality}: planned by synseg_jax.plan{hours}.

    python -m synseg_jax.prepare --config={file} --source={source} --target={target} --output={records}
    python -m synseg_jax.main --config={file}:{records} --workdir={workdir}

Training and testing take about {duration} on {machine}.

source  {source_facts}
target  {target_facts}
"""

from configs import adapt


def get_config(data=''):
    c = adapt.get_config(data)
    if not data:  # the phantom, small
        return c
{recipe}
    # {dimensions}
{choices}
    return c
'''


def text(
    sets: tuple[Facts, Facts],
    choices: Sequence[Choice],
    counts: tuple[int, int],
    told: dict[str, object],
) -> str:
    """The file; `counts`: steps of both trainings; `told`: the other parts of TEMPLATE."""
    source, target = sets
    organs, why_organs = told.pop('organs')
    recipe = f'    adapt.recipe(c, steps={counts[0]}, more={counts[1]}, rounds={ROUNDS}, organs={organs})'
    return TEMPLATE.format(
        source=source.dataset.folder,
        target=target.dataset.folder,
        source_modality=source.modality,
        target_modality=target.modality,
        source_facts=described(source),
        target_facts=described(target),
        recipe='\n'.join([*_comment(told.pop('why')), *_comment(why_organs), recipe]),
        choices='\n'.join('\n'.join([*_comment(c.reason), f'    c.{c.field} = {c.value!r}']) for c in choices),
        **told,
    )


def described(facts: Facts) -> str:
    """A set in one line."""
    slices, rows, columns = facts.shape
    apart, row, column = facts.spacing_mm
    return (
        f'{facts.modality}, {facts.scans} scans of {facts.subjects} patients, {facts.labelled} labelled; median '
        f'{slices} slices of {rows}x{columns}, {apart:g} mm apart, pixels of {row:g}x{column:g} mm'
    )


def _comment(words) -> list[str]:
    return [f'    # {line}' for line in wrap(words, WIDTH)]
