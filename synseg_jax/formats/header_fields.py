"""Fields of a text header (NRRD, MetaImage), parsed with errors that name the file and the field."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.imaging.arrays import Float

INTEGER = re.compile(r'[+-]?\d{1,18}')
NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?')
T = TypeVar('T')


class HeaderFields(dict[str, str]):
    """{name: text} of a header; all methods raise InputError for missing or malformed fields."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def required(self, name: str) -> str:
        """The text of a field that must be there."""
        if name not in self:
            raise InputError(f'{self.path}: its header has no {name!r}; replace the file')
        return self[name]

    def choice(self, name: str, values: Mapping[str, T], default: str | None = None) -> T:
        """The value that `values` has for the text of a field, in lower case."""
        text = (self.required(name) if default is None else self.get(name, default)).lower()
        if text not in values:
            raise InputError(f'{self.path}: unknown {name} {text[:60]!r} in its header; save the scan again')
        return values[text]

    def integer(self, name: str, default: str | None = None) -> int:
        """A field of one integer."""
        return self.integers(name, 1, default)[0]

    def integers(self, name: str, count: int, default: str | None = None) -> tuple[int, ...]:
        """A field of `count` integers."""
        text = self.required(name) if default is None else self.get(name, default)
        return tuple(int(word) for word in self._words(name, text, count, INTEGER))

    def floats(self, name: str, count: int, default: str) -> Float[np.ndarray, ' count']:
        """A field of `count` finite numbers."""
        return self.parse_floats(name, self.get(name, default), count)

    def parse_floats(self, name: str, text: str, count: int) -> Float[np.ndarray, ' count']:
        """`count` finite numbers of `text`, a part of a field."""
        values = np.array([float(word) for word in self._words(name, text, count, NUMBER)])
        if not np.isfinite(values).all():  # 1e999
            raise self._malformed(name, text, count)
        return values

    def axis_count(self, name: str, limit: int) -> int:
        """The number of axes, from 1 to `limit`."""
        if not 1 <= (count := self.integer(name)) <= limit:
            raise InputError(f'{self.path}: its {name} is {count}; repair the header')
        return count

    def data_file(self, name: str, suffix: str) -> Path:
        """The file of the voxels, one file in the folder of the header; `suffix` is that of the remedy in errors."""
        text = self[name]
        if text.upper().split()[:1] == ['LIST'] or '%' in text:
            raise InputError(f'{self.path}: its voxels are in several files; save it as one {suffix} file')
        file = self.path.parent / text
        if text in ('', '.', '..') or '/' in text or '\\' in text or not file.is_file():
            raise InputError(f'{self.path}: its voxels are in {text[:60]!r}, which is no file beside it; move it there')
        return file

    def _words(self, name, text, count, pattern) -> list[str]:
        words = text.split()
        if len(words) != count or not all(pattern.fullmatch(word) for word in words):
            raise self._malformed(name, text, count)
        return words

    def _malformed(self, name, text, count) -> InputError:
        expected = f'{count} numbers' if count > 1 else 'a number'
        return InputError(f'{self.path}: its {name} is {text[:60]!r}, not {expected}; repair the header')
