"""User errors, which commands print as one line before they exit with code 2, and warnings."""

import logging
import re
import unicodedata

UNPRINTABLE = ('Cc', 'Cs', 'Zl', 'Zp')  # Unicode categories: control, surrogate, line and paragraph separator
BIDI = set('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')  # controls of the direction of text
WORD, LINE = 250, 1000  # maximum number of characters of a word and of a line


class InputError(ValueError):
    """User error: the message names the file or field and the remedy in one line.

    Several errors can be raised together, `InputError(*lines)`; each is printed on its own line.
    """

    def __str__(self) -> str:
        return '\n'.join(printable(str(line)) for line in self.args)


def warn(text: str, *values: object) -> None:
    """Log the warning `text % values` with absl's logger, unprintable characters escaped."""
    logging.getLogger('absl').warning('%s', printable(text % values), stacklevel=2)


def printable(line: str) -> str:
    """Escape the control characters of a line and shorten long words, so that any terminal can show it."""
    if not line.isprintable():
        line = ''.join(map(_escape, line))
    line = re.sub(rf'\S{{{WORD},}}', lambda word: shortened(word[0], WORD), line)
    return shortened(line, LINE)


def known(kind: str, name: str, names) -> str:
    """Return `name` if it is one of `names`; otherwise raise an InputError that lists them."""
    if name not in names:
        raise InputError(f'unknown {kind} {name!r}; known: {", ".join(sorted(names))}')
    return name


def _escape(character: str) -> str:
    if unicodedata.category(character) in UNPRINTABLE or character in BIDI:
        return character.encode('unicode_escape').decode()
    return character


def shortened(text: str, length: int) -> str:
    """`text`, with its middle replaced by ... if it is longer than `length`."""
    if len(text) <= length:
        return text
    return f'{text[: length * 2 // 3]}...{text[3 + len(text) - length // 3 :]}'
