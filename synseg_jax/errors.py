"""User errors, which every command prints as one line and exits with code 2, and warnings."""

import logging
import re
import unicodedata

UNSHOWN = ('Cc', 'Cs', 'Zl', 'Zp')  # categories of characters: controls, lone surrogates, breaks of lines
TURNS = set('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')  # with which text runs the other way
WORD, LINE = 250, 1000  # characters of a word and of a line that are shown


class InputError(ValueError):
    """A file, field or value that a user can correct; the message names it and the remedy in one line.

    Several mistakes found together are several arguments, `InputError(*lines)`: each is printed on a line of its own.
    """

    def __str__(self) -> str:
        return '\n'.join(printable(str(line)) for line in self.args)


def warn(text: str, *values: object) -> None:
    """Logs a warning by absl's logger, `values` put into `text` as % does, so that any terminal can show it."""
    logging.getLogger('absl').warning('%s', printable(text % values), stacklevel=2)


def printable(line: str) -> str:
    """`line` as a terminal may show it whatever file it quotes: control characters escaped, long words cut short."""
    if not line.isprintable():
        line = ''.join(map(_escaped, line))
    line = re.sub(rf'\S{{{WORD},}}', lambda word: shortened(word[0], WORD), line)
    return shortened(line, LINE)


def known(kind: str, name: str, names) -> str:
    """`name`, if it is among `names`; else an InputError that lists them."""
    if name not in names:
        raise InputError(f'unknown {kind} {name!r}; known: {", ".join(sorted(names))}')
    return name


def _escaped(character: str) -> str:
    if unicodedata.category(character) in UNSHOWN or character in TURNS:
        return character.encode('unicode_escape').decode()
    return character


def shortened(text: str, length: int) -> str:
    """`text`, its middle left out where it is longer than `length`."""
    if len(text) <= length:
        return text
    return f'{text[: length * 2 // 3]}...{text[3 + len(text) - length // 3 :]}'
