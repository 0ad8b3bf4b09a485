"""Turn scans into the other modality: synthetic target scans that carry the source's labels.

Usage:
    python -m synseg_jax.synthesize --workdir=runs/abdomen --input=Dataset101_AbdomenMR --output=synthetic_ct

--input is a scan, a folder of scans or an nnU-Net dataset of the source modality; its labels come along.  Synthetic
scans lie on the grid of their source, in Hounsfield units where the target is CT; the output is an nnU-Net raw folder.
"""

import json
import shutil
from pathlib import Path

from absl import flags
from rich.progress import track

from synseg_jax import command, scans
from synseg_jax.data import volume
from synseg_jax.errors import known


def synthesize(trained: scans.Trained, files: dict[str, Path], output: Path, domain: str = 'a') -> None:
    """An nnU-Net raw folder of the scans' translations, with the labels of those that have any."""
    known('domain', domain, ('a', 'b'))
    other = {'a': 'b', 'b': 'a'}[domain]
    (output / 'imagesTr').mkdir(parents=True, exist_ok=True)
    description = None
    for case, file in track(files.items(), 'synthesizing', disable=len(files) < 2):
        scan = volume.read(file)
        volume.write(output / 'imagesTr' / f'{case}_0000.nii.gz', trained.synthesize(scan, domain), scan)
        label = file.parent.parent / file.parent.name.replace('images', 'labels') / f'{case}.nii.gz'
        if label.is_file():
            (output / 'labelsTr').mkdir(exist_ok=True)
            shutil.copyfile(label, output / 'labelsTr' / label.name)
            own = label.parent.parent / 'dataset.json'
            description = json.loads(own.read_text(encoding='utf-8')) if own.is_file() else description
    labels = (description or {}).get('labels', {name: i for i, name in enumerate(trained.run.classes)})
    content = {'channel_names': {'0': trained.run.channels[other]}, 'labels': labels, 'numTraining': len(files)}
    partial = output / '.dataset.json.partial'
    partial.write_text(json.dumps({**content, 'file_ending': '.nii.gz'}, indent=1) + '\n', encoding='utf-8')
    partial.replace(output / 'dataset.json')


def main() -> None:
    """Translates what --input names."""
    files = scans.inputs(INPUT.value)
    trained = scans.find(WORKDIR.value, SYSTEM.value or '', 'g')
    synthesize(trained, files, Path(OUTPUT.value), DOMAIN.value)
    print(f'{len(files)} synthetic scans in {OUTPUT.value}')


if __name__ == '__main__':
    WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that synseg_jax.main trained in.')
    INPUT = flags.DEFINE_string('input', None, 'A scan, a folder of scans, or an nnU-Net dataset.')
    OUTPUT = flags.DEFINE_string('output', None, 'Folder to write the synthetic dataset to.')
    SYSTEM = flags.DEFINE_string('system', None, 'Which system of the run; default: config.chosen.')
    DOMAIN = flags.DEFINE_string('domain', 'a', 'Modality of the scans: a, the source, or b, the target.')
    command.run(main, required=('workdir', 'input', 'output'))
