"""docs/workdir.md is what the schemas say, and knows the fields that files hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import tiny

from synseg_jax.files.schema import Check
from synseg_jax.inference.scan_outputs import OUTPUTS
from synseg_jax.runs import workdir_files, workdir_page


def test_the_committed_page_is_current():
    committed = (tiny.ROOT / 'docs/workdir.md').read_text(encoding='utf-8')
    assert committed == workdir_page.page(), f'python -m {workdir_page.__name__} > docs/workdir.md'


def test_every_output_of_predict_is_listed():
    listed = ' '.join(workdir_files.OTHERS['`predict --output`'].values())
    assert [name for name in OUTPUTS if f'`--{name}`' not in listed] == []


class Inner(TypedDict):
    """An object within."""

    sizes: Annotated[tuple[int, ...], Check('of 2', bool)]
    side: NotRequired[Literal['a', 'b'] | None]


@dataclass
class Outer:
    """A file."""

    folder: Path
    pair: tuple[float, str]
    parts: dict[str, list[Inner]]
    more: Any = None


def test_types_are_told_in_words(monkeypatch):
    monkeypatch.setattr(workdir_page, 'SCHEMAS', {'x.json': Outer})
    monkeypatch.setattr(workdir_page, 'MORE', {'x.json': {'pair': 'two things', 'later': 'not read'}})
    told = '\n'.join(workdir_page._schemas())
    for row in ('`pair` | [a number, a text]: two things', '`parts` | {name: [**Inner**, ...]}',
                '`more` | any JSON; may be absent', '`later` | not read', '`sizes` | [a whole number, ...] (of 2)',
                "`side` | 'a' or 'b' or null; may be absent"):  # fmt: skip
        assert f'| {row} |' in told, told
    assert '`folder`' not in told and '**Inner** An object within.' in told
