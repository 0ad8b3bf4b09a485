"""Folders of scans as people have them, read as lists of cases: one small adapter for each way of laying them out."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import Dataset
from synseg_jax.datasets.challenges import DOWNLOADS
from synseg_jax.datasets.dataset_json import JSON
from synseg_jax.datasets.described import Decathlon, NnUNet
from synseg_jax.datasets.layout import Layout, hint
from synseg_jax.datasets.plain import IMAGES, LABELS, Alone, Plain
from synseg_jax.datasets.tcia import COLLECTIONS
from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.formats import names
from synseg_jax.formats.label_maps import Values

LAYOUTS: tuple[Layout, ...] = (NnUNet(), Decathlon(), Plain(), *DOWNLOADS, *COLLECTIONS)
ALONE = Alone()  # what scans that fit nothing else are
PARTS = (IMAGES, *LABELS, 'imagesTr', 'imagesTs', 'labelsTr', 'labelsTs', 'img', 'label')  # of what is to be named
DEPTH, BREADTH = 3, 200  # levels and folders below a wrong one that are looked at for what was meant


def read_dataset(
    folder: str | Path, subject: str = '(.+)', channel: str = '', labels: Values | None = None, unsaid: str = ''
) -> Dataset:
    """The dataset in `folder`; `FOLDER#word` where it can be read in several ways.

    Group 1 of the expression `subject`, searched in a case id, names the person; the public downloads know theirs.
    `channel` and `labels` take the place of what the folder says; `unsaid` is the channel where it says none.  Raises
    InputError naming the first path that is not as the layout has it.
    """
    if not channel.isprintable():
        raise InputError(f'--channel: {channel!r} is no name; give e.g. CT')
    folder, word = series.chosen(Path(folder).absolute())
    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder{_meant(folder) or f"; {_expected()}"}')
    layout = _layout(folder, word)
    dataset = layout.read(folder, subject)
    for cases in (dataset.cases, dataset.test_cases):
        _check_names(cases)
    if channel:
        dataset = replace(_asked(dataset, channel), channel_names=(channel,), own_channels=dataset.channel_names)
    if labels is not None:
        dataset = replace(dataset, labels=dict(labels), named_in='--labels')
    if unsaid and not dataset.channel_names:
        dataset = replace(dataset, channel_names=(unsaid,))
    if not dataset.channel_names:
        raise InputError(
            f'{folder / JSON}: no such file; expected: {layout.tree}; --channel=SET=CT, and --labels, take its place'
        )
    return dataset


def _check_names(cases) -> None:
    """InputError for two cases of one name, and for paths that are not UTF-8."""
    seen = {}
    for case in cases:
        for path in filter(None, (case.image, case.label)):
            names.require_text(path)
        if case.id in seen:
            raise InputError(f'{case.image}: the same case as {seen[case.id]}; keep one of the two')
        seen[case.id] = case.image


def _asked(dataset, channel) -> Dataset:
    """The dataset, unless what is asked for is another of its channels than the first, which is read."""
    if class_names.normalised(channel) in map(class_names.normalised, dataset.channel_names[1:]):
        raise InputError(
            f'{dataset.named_in}: of its channels, {", ".join(dataset.channel_names)}, only the first is read; '
            f'copy the files of {channel} into a dataset of their own'
        )
    return dataset


def _layout(folder, word) -> Layout:
    """The one that fits, and has the word if one is given."""
    fitting = [layout for layout in LAYOUTS if layout.fits(folder)]
    meant = [layout for layout in fitting if word in ('', layout.word)]
    if len(meant) == 1:
        return meant[0]
    if fitting:
        raise InputError(
            f'{folder}{"#" if word else ""}{word}: holds {" and ".join(layout.word for layout in fitting)}; '
            f'name one: {", ".join(_named(folder, layout, folder.parent) for layout in fitting)}'
        )
    if folder.name in PARTS and any(layout.fits(folder.parent) for layout in LAYOUTS):
        raise InputError(f'{folder}: lies in what is meant; name {folder.parent}')
    if below := _below(folder):
        raise InputError(f'{folder}: lies above what is meant; name one: {", ".join(below)}')
    if ALONE.fits(folder):
        return ALONE
    raise InputError(f'{_wrong(folder)}; {_expected()}')


def _meant(folder) -> str:
    """What may have been meant by a folder that is not there."""
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return hint(folder.name, [path.name for path in beside if path.is_dir()])


def _below(folder) -> list[str]:
    """Folders below one that fit a layout, with its word where they fit several."""
    named, level = [], [folder]
    for _ in range(DEPTH):
        level = list(islice((path for above in level for path in sorted(above.iterdir()) if path.is_dir()), BREADTH))
        for path in level:
            fitting = [layout for layout in LAYOUTS if layout.fits(path)]
            named += [_named(path, layout, folder, alone=len(fitting) == 1) for layout in fitting]
        if named:
            break
    return named[:10]


def _named(path, layout, above, alone=False) -> str:
    """How a flag names a folder, from the one `above` it."""
    return f'{path.relative_to(above)}{"" if alone else f"#{layout.word}"}'


def _wrong(folder) -> str:
    """The first path that begins no layout, and the word of a tree that it may have been meant to be."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
    if not inside:
        return f'{folder}: empty'
    near = hint(inside[0].name, set(re.findall(r'\w+', _expected())))
    return f'{inside[0]}: begins no known layout{near}'


def _expected() -> str:
    """All trees in one line."""
    trees = {layout.word: layout.tree for layout in (*LAYOUTS, ALONE)}
    return f'expected: {"; ".join(f"{tree} ({word})" for word, tree in trees.items())}'
