"""docs/workdir.md, the files that commands write: what `python -m synseg_jax.runs.workdir_page` prints.

Tables of fields come from the schemas by which files are read; fields that nobody reads again are described here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from synseg_jax.exchange.card import Card
from synseg_jax.files import schema
from synseg_jax.files.stage_schema import RunFile, StageFile
from synseg_jax.inference.multi_atlas import AtlasList
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs.results import Measures, Results
from synseg_jax.runs.workdir_files import MORE, OTHERS, WORKDIR

INTRODUCTION = """# Files that commands write

Every file appears complete or not at all, but for the tables of a training, which grow. Fields that a file of another
version has beside these are ignored, but for those of the configuration in `stage.json`; a field that is missing or has
another type is an error in one line that names the file, the field and the remedy. `run.json` and `stage.json` of
another format are refused. Cases are named as their files are; manifests and lists of atlases hold the paths of
scans. Of DICOM headers no name of a patient is kept, but in DICOM SEG objects, which are filed with their study.

This page is printed by `python -m synseg_jax.runs.workdir_page`. The tables of fields are those of the schemas by which
files are read.
"""
SCHEMAS = {
    'run.json': RunFile,
    'stage.json': StageFile,
    'manifest.json': Manifest,
    'measures.json': Measures,
    'SYSTEM/results.json': Results,
    'atlases.json': AtlasList,
    'card.json': Card,
}


def page() -> str:
    """The page, as Markdown."""
    return '\n'.join([INTRODUCTION, *_files(), *_plain(), *_schemas(), ''])


def _files() -> Iterator[str]:
    yield from ('## The workdir of `main`', '', *_table(('file', 'content'), WORKDIR.items()))
    yield from ('', 'A `.lock` file is there while a process holds the folder.')
    for command, written in OTHERS.items():
        yield from ('', f'## {command}', '', *_table(('file', 'content'), written.items()))


def _plain() -> Iterator[str]:
    """The files that no schema describes."""
    for name in (name for name in MORE if name not in SCHEMAS):
        yield from ('', f'## Fields of `{name}`', '', *_table(('field', 'content'), MORE[name].items()))


def _schemas() -> Iterator[str]:
    """The fields of each file, and below them those of the objects within."""
    seen: set[str] = set()
    for name, kind in SCHEMAS.items():
        yield from ('', f'## Fields of `{name}`')
        waiting = [kind]
        while waiting:
            kind = waiting.pop(0)
            if kind.__name__ in seen:
                continue
            seen.add(kind.__name__)
            yield from ('', f'**{kind.__name__}** {_first_line(kind)}', '')
            hints = fields_of(kind)
            more = MORE.get(name, {}) if kind is SCHEMAS[name] else {}
            told = {field: _told(hint) for field, hint in hints.items()}
            told |= {field: f'{told[field]}: {text}' if field in told else text for field, text in more.items()}
            yield from _table(('field', 'content'), told.items())
            waiting += [inner for hint in hints.values() for inner in _objects(hint)]


def fields_of(kind: type) -> dict[str, Any]:
    """{field: type} of a TypedDict, or of a dataclass without its folder; fields with a default are NotRequired."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        return hints
    own = [field for field in fields(kind) if hints[field.name] is not Path]
    optional = {field.name for field in own if not field.default is field.default_factory is MISSING}
    return {f.name: NotRequired[hints[f.name]] if f.name in optional else hints[f.name] for f in own}


def _told(kind) -> str:
    """A type in words; of an object, its name."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        return f'{_told(inner[0])}; may be absent'
    if origin is Annotated:
        return ' '.join([_told(inner[0]), f'({", ".join(check.words for check in inner[1:])})'])
    if kind is Any:
        return 'any JSON'
    if is_typeddict(kind) or is_dataclass(kind):
        return f'**{kind.__name__}**'
    if origin in (dict, Mapping):
        return f'{{name: {_told(inner[1])}}}'
    if origin is list or origin is tuple and inner[-1] is Ellipsis:
        return f'[{_told(inner[0])}, ...]'
    if origin is tuple:
        return f'[{", ".join(map(_told, inner))}]'
    if inner and origin is not schema.Literal:
        return ' or '.join(map(_told, inner))
    return schema.words(kind)


def _objects(kind) -> Iterator[type]:
    """The TypedDicts and dataclasses within a type."""
    if is_typeddict(kind) or is_dataclass(kind):
        yield kind
    for inner in get_args(kind) if get_origin(kind) is not schema.Literal else ():
        yield from _objects(inner)


def _first_line(kind) -> str:
    return ' '.join((kind.__doc__ or '').split('\n\n')[0].split())


def _table(heads, rows) -> Iterator[str]:
    yield f'| {" | ".join(heads)} |'
    yield '|---|---|'
    yield from (f'| `{name}` | {text.replace("|", "or")} |' for name, text in rows)


if __name__ == '__main__':
    print(page(), end='')
