"""Literal text for rich, which interprets [brackets] in a str as markup and :words: as emoji."""

from rich.console import Console
from rich.text import Text


def plain(value: object, style: str = '') -> Text:
    """A cell, title or line without markup, e.g. of names and paths."""
    return Text(str(value), style=style)


def say(console: Console, text: str, title: str = '') -> None:
    """Print a line without markup and without wrapping, after a title in bold."""
    line = Text.assemble((title, 'bold'), '  ', text) if title else plain(text)
    console.print(line, soft_wrap=True)
