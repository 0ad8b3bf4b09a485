"""docs/configuration.md, every field of a configuration: what `python -m synseg_jax.specification.page` prints."""

from collections.abc import Iterator

from synseg_jax.specification.check import Declared, declared, told
from synseg_jax.specification.field import AFFECTS

INTRODUCTION = """# Every field of a configuration

A configuration is a Python file with `get_config(data)`, which begins with `configs.base.get_config(data)` and sets
fields; `--config.train.batch=8` on the command line sets one.  A system changes fields for itself in `systems.NAME`, a
stage of it in `systems.NAME.stages.NAME`.  Unknown fields and values that will not do are refused, all at once.

This page is printed by `python -m synseg_jax.specification.page` from the declarations in
`synseg_jax/specification/`; the defaults are those of `configs/base.py` with data.  What a field affects:
"""


def page() -> str:
    """The page, as Markdown."""
    return '\n'.join([INTRODUCTION, *(f'- **{name}**: {text}' for name, text in AFFECTS.items()), *_tables(), ''])


def _tables() -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for name, one in declared().items():
        groups.setdefault(name.rpartition('.')[0], []).append(_row(name, one))
    for group, rows in groups.items():
        yield from ('', f'## {f"`{group}`" if group else "On their own"}', '')
        yield from ('| field | default | meaning | may be | affects |', '|---|---|---|---|---|', *rows)


def _row(name: str, one: Declared) -> str:
    default = 'its own' if one.default is None else f'`{one.default!r}`'
    return f'| `{name}` | {default} | {one.text} | {told(one).replace("|", "or")} | {one.affects} |'


if __name__ == '__main__':
    print(page(), end='')
