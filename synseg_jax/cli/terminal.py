"""Text on a terminal as it is: rich takes [brackets] in a str for markup, and :words: for emoji."""

from rich.console import Console
from rich.text import Text


def plain(value: object, style: str = '') -> Text:
    """A cell, title or line that rich prints to the letter, whatever names and paths it is made of."""
    return Text(str(value), style=style)


def say(console: Console, text: str, title: str = '') -> None:
    """Prints a line to the letter, after a title in bold; a terminal may break it, we do not."""
    line = Text.assemble((title, 'bold'), '  ', text) if title else plain(text)
    console.print(line, soft_wrap=True)
