"""Self-contained HTML pages without scripts, from the templates and style sheets of this folder."""

import base64
from pathlib import Path
from typing import NamedTuple

import jinja2


class Picture(NamedTuple):
    """A PNG in base64, shown with half its pixels, sharp on dense screens and in print."""

    caption: str
    width: int
    data: str

    @classmethod
    def read(cls, caption: str, path: Path) -> 'Picture':
        """ValueError for other files than PNG."""
        data = path.read_bytes()
        if not data.startswith(b'\x89PNG'):
            raise ValueError(f'{path} is no PNG')
        return cls(caption, int.from_bytes(data[16:20]) // 2, base64.b64encode(data).decode())


def render(template: str, **fields: object) -> str:
    """The page that a template makes of its fields."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(fields).lstrip()
