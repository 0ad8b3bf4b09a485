"""README and docs as data: their pages, commands, links and the files that they mention.

Blocks fenced as bash are run by launch/docs.sh on small data; blocks fenced as sh, which need somebody's data, a GPU, a
cluster or a download, are only parsed.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.M | re.S)


class Block(NamedTuple):
    """A fenced block: its language, and its text."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its commands, one a line, without comments."""
        lines = (shlex.split(line, comments=True) for line in self.text.replace('\\\n', ' ').splitlines())
        return [shlex.join(words) for words in lines if words]


def pages() -> list[Path]:
    """README, CONTRIBUTING, CHANGELOG and docs."""
    return [*(ROOT / f'{name}.md' for name in ('README', 'CONTRIBUTING', 'CHANGELOG')), *sorted(ROOT.glob('docs/*.md'))]


def with_tables() -> list[Path]:
    """The pages, and the tables of results."""
    return [*pages(), *sorted(ROOT.glob('configs/tables/*.md'))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding='utf-8'))]


def calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, arguments) of every `python -m` of a page, also within its text, and of the scripts that start main."""
    text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
    for module, line in re.findall(r'python -m ([\w.]+)([^`\n>]*)', text):
        yield module, shlex.split(line, comments=True)
    for script, line in re.findall(r'launch/(local\.sh|slurm\.sbatch|tpu\.sh) ([^`\n]*)', text):
        words = shlex.split(line, comments=True)
        yield 'synseg_jax.main', words[{'local.sh': 1, 'slurm.sbatch': 0, 'tpu.sh': 2}[script] :]


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """(file, anchor) of every relative link and picture of a page."""
    for target in re.findall(r'\]\(([^)\s]+)\)', FENCE.sub('', page.read_text(encoding='utf-8'))):
        if not re.match(r'\w+:', target):
            path, _, anchor = target.partition('#')
            yield (page.parent / path if path else page), anchor


def anchors(page: Path) -> set[str]:
    """The names under which GitHub knows the headings of a page."""
    heads = re.findall(r'^#+ (.+)$', FENCE.sub('', page.read_text(encoding='utf-8')), re.M)
    return {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-') for head in heads}


def mentions(page: Path) -> set[str]:
    """The files of the repository that a page names in `code`."""
    spans = re.findall(r'`([^`\n]+)`', FENCE.sub('', page.read_text(encoding='utf-8')))
    return {span for span in spans if re.fullmatch(r'[\w./-]*\w\.(py|sh|sbatch|cfg|toml|cff|yaml)', span)}
