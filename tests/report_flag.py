"""Rank correlation between the agreement that `predict --report` tells and the true Dice, as docs/prediction.md has it.

    python tests/report_flag.py --workdir=runs/quickstart --output=flag --phantom=24
    python tests/report_flag.py --workdir=runs/adapt --output=flag --input=ct --stages=generalise,adapt1,adapt2,adapt3

--phantom makes so many CT scans of other people than the quickstart's, of varying quality; --input is an nnU-Net
dataset with labels of the same names.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from synseg_jax.evaluation.metrics import dice
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.files import read_csv, write_csv
from synseg_jax.formats import scan_file
from synseg_jax.inference import trust
from synseg_jax.inference.predict_scans import predict
from synseg_jax.phantom import dataset
from synseg_jax.runs import open_run

SEED = 1234  # of the phantom; the quickstart's is 0
AIR_HU = -1000


def noisy(rng, image, labels, affine):
    return image + rng.normal(0, rng.uniform(40, 150), image.shape), labels, affine


def partial(rng, image, labels, affine):
    """Few slices."""
    count = int(rng.integers(6, 14))
    first = int(rng.integers(0, image.shape[2] - count))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 2] * first
    return image[..., first : first + count], labels[..., first : first + count], moved


def shifted(rng, image, labels, affine):
    """Other Hounsfield units, as of a scanner that is not calibrated."""
    return image * rng.uniform(0.6, 1.4) + rng.uniform(-60, 60), labels, affine


def blurred(rng, image, labels, affine):
    sigma = rng.uniform(1, 3)
    return ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)), labels, affine


def turned(rng, image, labels, affine):
    """The patient lies turned about the long axis."""
    degrees = rng.uniform(-25, 25)
    image = ndimage.rotate(image.astype(np.float32), degrees, (0, 1), reshape=False, order=1, cval=AIR_HU)
    return image, ndimage.rotate(labels, degrees, (0, 1), reshape=False, order=0), affine


QUALITIES: dict[str, Callable] = {
    'plain': lambda rng, *scan: scan,
    'noisy': noisy,
    'partial': partial,
    'shifted': shifted,
    'blurred': blurred,
    'turned': turned,
}


def write_phantom(folder: Path, count: int) -> None:
    """A labelled dataset of phantom CT scans of all qualities in turn."""
    for part in ('imagesTr', 'labelsTr'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name, change = [*QUALITIES.items()][number % len(QUALITIES)]
        image, labels, affine = change(np.random.default_rng(number), *dataset.generate('CT', SEED, number))
        dataset.save(np.rint(image).astype(np.int16), affine, folder / 'imagesTr' / f'{name}{number}_0000.nii.gz')
        dataset.save(labels, affine, folder / 'labelsTr' / f'{name}{number}.nii.gz')


def measured(trained, scans: Path, output: Path) -> Iterator[dict]:
    """The agreement, the flag and the true Dice of each scan of a dataset, its mean and by organ."""
    written = predict(trained, scan_file.inputs(scans), output, extras=['report'])
    for row in read_csv(output / 'report.csv'):
        found = scan_file.read_labels(written[row['case']]).array
        truth = scan_file.read_labels(scans / 'labelsTr' / f'{row["case"]}.nii.gz').array
        organs = {name: dice(found == i, truth == i) for i, name in enumerate(trained.run.classes)
                  if name not in NOT_ORGANS}  # fmt: skip
        yield row | {'dice': float(np.nanmean([*organs.values()])), **{f'{n} dice': d for n, d in organs.items()}}


def told(title: str, rows: list[dict]) -> None:
    """Print the rank correlation, and the Dice of the scans of each flag."""
    agreed, true = ([float(row[name]) for row in rows] for name in ('agreement', 'dice'))
    found = stats.spearmanr(agreed, true)
    print(f'{title}: {len(rows)} scans, Dice {min(true):.2f} to {max(true):.2f}, Spearman {found.statistic:.2f}, '
          f'p {found.pvalue:.1g}')  # fmt: skip
    for word in (trust.TRUST, trust.LOOK, trust.LEAVE):
        if own := [row['dice'] for row in rows if row['flag'] == word]:
            print(f'  {word}: {len(own)} scans, Dice {np.mean(own):.2f} ({min(own):.2f} to {max(own):.2f})')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workdir', required=True)
    parser.add_argument('--system', default='')
    parser.add_argument('--output', type=Path, required=True)
    parser.add_argument('--phantom', type=int, default=0)
    parser.add_argument('--input', type=Path)
    parser.add_argument('--stages', default='', help='of the system, separated by commas; default: its last')
    options = parser.parse_args()
    scans = options.input or options.output / 'scans'
    if options.phantom:
        write_phantom(scans, options.phantom)
    rows = []
    for stage in options.stages.split(','):
        trained = open_run.find(options.workdir, options.system, stage=stage)
        own = [*measured(trained, scans, options.output / (stage or 'labels'))]
        told(stage or 'all', own)
        rows += own
    told('together', rows)
    write_csv(options.output / 'flag.csv', rows)


if __name__ == '__main__':
    main()
