"""Segment scans with a trained system, on each scan's own grid.

Usage:
    python -m synseg_jax.predict --workdir=runs/abdomen --input=scans/imagesTs --output=labels

--input is a scan, a folder of scans or an nnU-Net dataset.  Labels carry the affine of their scan; dataset.json
beside them names the classes.  --domain=a segments scans of the labelled modality instead of the target.
"""

import json
from collections.abc import Callable
from pathlib import Path

from absl import flags
from rich.progress import track

from synseg_jax import command, scans
from synseg_jax.data import volume
from synseg_jax.errors import known


def predict(
    trained: scans.Segmenter,
    files: dict[str, Path],
    output: Path,
    domain: str = 'b',
    read: Callable[[Path], volume.Volume] = volume.read,
) -> dict[str, Path]:
    """{case: label map} of {case: scan}, written to `output` with a dataset.json that names the classes."""
    known('domain', domain, ('a', 'b'))
    output.mkdir(parents=True, exist_ok=True)
    written = {}
    for case, file in track(files.items(), 'segmenting', disable=len(files) < 2):
        scan = read(file)
        written[case] = output / f'{case}.nii.gz'
        volume.write(written[case], trained.segment(scan, domain), scan, intent='label')
    labels = {name: value for value, name in enumerate(trained.run.classes)}
    description = {'channel_names': {'0': trained.run.channels[domain]}, 'labels': labels, 'file_ending': '.nii.gz'}
    partial = output / '.dataset.json.partial'
    partial.write_text(json.dumps({**description, 'numTraining': len(written)}, indent=1) + '\n', encoding='utf-8')
    partial.replace(output / 'dataset.json')
    return written


def main() -> None:
    """Segments what --input names."""
    files = scans.inputs(INPUT.value)
    trained = scans.find(WORKDIR.value, SYSTEM.value or '', 's')
    written = predict(trained, files, Path(OUTPUT.value), DOMAIN.value)
    print(f'{len(written)} label maps in {OUTPUT.value}')


if __name__ == '__main__':
    WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that synseg_jax.main trained in.')
    INPUT = flags.DEFINE_string('input', None, 'A scan, a folder of scans, or an nnU-Net dataset.')
    OUTPUT = flags.DEFINE_string('output', None, 'Folder to write label maps to.')
    SYSTEM = flags.DEFINE_string('system', None, 'Which system of the run; default: config.chosen.')
    DOMAIN = flags.DEFINE_string('domain', 'b', 'Modality of the scans: b, the target, or a, the source.')
    command.run(main, required=('workdir', 'input', 'output'))
