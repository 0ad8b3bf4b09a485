"""Reading a folder in any known layout as a list of cases."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

from synseg_jax.datasets import bids, class_names
from synseg_jax.datasets.cases import Dataset
from synseg_jax.datasets.challenges import DOWNLOADS
from synseg_jax.datasets.dataset_json import JSON
from synseg_jax.datasets.layout import Layout, hint
from synseg_jax.datasets.nnunet_msd import Decathlon, NnUNet
from synseg_jax.datasets.plain import IMAGES, LABELS, Plain, ScansOnly
from synseg_jax.datasets.tcia import COLLECTIONS
from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.formats import names
from synseg_jax.formats.label_maps import Values

LAYOUTS: tuple[Layout, ...] = (NnUNet(), Decathlon(), Plain(), *DOWNLOADS, *COLLECTIONS)
FALLBACK = ScansOnly()
PARTS = (IMAGES, *LABELS, 'imagesTr', 'imagesTs', 'labelsTr', 'labelsTs', 'img', 'label')  # subfolders of datasets
DEPTH, BREADTH = 3, 200  # levels, and folders per level, searched for datasets below a folder that is none


def read_dataset(
    folder: str | Path, subject: str = '(.+)', channel: str = '', labels: Values | None = None, unsaid: str = ''
) -> Dataset:
    """Read the dataset in `folder`, given as FOLDER#name if several layouts fit.

    Group 1 of the regular expression `subject` names the subject in a case id; the public downloads have their own
    rule. `channel` and `labels` override those of the folder; `unsaid` is the channel if the folder names none. Raises
    InputError naming the first path that violates the layout.
    """
    if not channel.isprintable():
        raise InputError(f'--channel: {channel!r} has unprintable characters; give e.g. CT')
    folder, name = series.chosen(Path(folder).absolute())
    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder{_similar(folder) or f"; {_expected()}"}')
    layout = _layout(folder, name)
    dataset = layout.read(folder, subject)
    for cases in (dataset.cases, dataset.test_cases):
        _check_names(cases)
    if channel:
        _check_channel(dataset, channel)
        named = (channel, *dataset.channel_names[1:])
        dataset = replace(dataset, channel_names=named, own_channels=dataset.channel_names)
    if labels is not None:
        dataset = replace(dataset, labels=dict(labels), named_in='--labels')
    if unsaid and not dataset.channel_names:
        dataset = replace(dataset, channel_names=(unsaid,))
    if not dataset.channel_names:
        raise InputError(
            f'{folder / JSON}: no such file; expected: {layout.structure}; or give --channel=SET=CT and --labels'
        )
    return dataset


def _check_names(cases) -> None:
    """Raise InputError for duplicate case ids and for paths that are not UTF-8."""
    seen = {}
    for case in cases:
        for path in filter(None, (case.image, case.label)):
            names.require_text(path)
        if case.id in seen:
            raise InputError(f'{case.image}: the same case as {seen[case.id]}; keep one of the two')
        seen[case.id] = case.image


def _check_channel(dataset, channel) -> None:
    """Raise InputError if `channel` is one of the dataset's channels but the first, which it would replace."""
    if class_names.normalised(channel) in map(class_names.normalised, dataset.channel_names[1:]):
        raise InputError(
            f'{dataset.named_in}: of its channels, {", ".join(dataset.channel_names)}, the first is renamed; '
            f'copy the files of {channel} into a dataset of their own'
        )


def _layout(folder, name) -> Layout:
    """The layout that fits, and has the name if one is given."""
    fitting = _fitting(folder)
    selected = [layout for layout in fitting if name in ('', layout.name)]
    if len(selected) == 1:
        return selected[0]
    if fitting:
        raise InputError(
            f'{folder}{"#" if name else ""}{name}: could be {" or ".join(layout.name for layout in fitting)}; '
            f'name one: {", ".join(_flag_value(folder, layout, folder.parent) for layout in fitting)}'
        )
    if (folder.name in PARTS or folder.name.startswith('sub-')) and _fitting(folder.parent):
        raise InputError(f'{folder}: a subfolder of a dataset; give {folder.parent}')
    if below := _datasets_below(folder):
        raise InputError(f'{folder}: not a dataset itself; give one of those in it: {", ".join(below)}')
    if FALLBACK.fits(folder):
        return FALLBACK
    raise InputError(f'{_first_unknown(folder)}; {_expected()}')


def _fitting(folder) -> list[Layout]:
    return [layout for layout in (*LAYOUTS, *bids.layouts(folder)) if layout.fits(folder)]


def _similar(folder) -> str:
    """A hint at a similar folder name."""
    siblings = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return hint(folder.name, [path.name for path in siblings if path.is_dir()])


def _datasets_below(folder) -> list[str]:
    """Datasets below a folder, with the layout's name where several fit."""
    datasets, level = [], [folder]
    for _ in range(DEPTH):
        level = list(islice((path for above in level for path in sorted(above.iterdir()) if path.is_dir()), BREADTH))
        for path in level:
            fitting = _fitting(path)
            datasets += [_flag_value(path, layout, folder, unique=len(fitting) == 1) for layout in fitting]
        if datasets:
            break
    return datasets[:10]


def _flag_value(path, layout, base, unique=False) -> str:
    """A dataset as a flag names it, relative to the folder `base`."""
    return f'{path.relative_to(base)}{"" if unique else f"#{layout.name}"}'


def _first_unknown(folder) -> str:
    """The first path of a folder without known layout, with a hint at a similar name of a layout."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
    if not entries:
        return f'{folder}: empty'
    similar = hint(entries[0].name, set(re.findall(r'\w+', _expected())) - {entries[0].name})
    return f'{entries[0]}: part of no known layout{similar}'


def _expected() -> str:
    """The structures of all layouts in one line."""
    structures = [f'{layout.structure} ({layout.name})' for layout in (*LAYOUTS, FALLBACK)]
    return f'expected: {"; ".join([*structures, f"{bids.STRUCTURE} (BIDS)"])}'
