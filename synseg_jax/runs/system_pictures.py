"""The pictures that a system leaves, of its first fold: its test cases, and its stages."""

from collections.abc import Mapping
from pathlib import Path


def first_fold(folder: Path) -> Path:
    """The folder of a system's first fold, or the system's own where there are no folds."""
    return folder / 'fold1' if (folder / 'fold1').is_dir() else folder


def pictures(folder: Path, set_name: str, stages: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """({caption: picture}, {caption: training curves}) of a system's folder; `stages` are the folders of its stages."""
    shown = {'Worst, median and best case': first_fold(folder) / f'{set_name}_cases.png'}
    shown |= {f'Stage {name}': stage / 'panel.png' for name, stage in stages.items()}
    curves = {f'Stage {name}': stage / 'curves.png' for name, stage in stages.items()}
    return _existing(shown), _existing(curves)


def _existing(paths: Mapping[str, Path]) -> dict[str, Path]:
    return {caption: path for caption, path in paths.items() if path.is_file() and _is_png(path)}


def _is_png(path) -> bool:
    """False for what a power cut may leave, an empty file or one of zeros."""
    with path.open('rb') as file:
        return file.read(4) == b'\x89PNG'
