"""Segment scans with a trained system, on each scan's own grid.

Usage:
    python -m synseg_jax.predict --workdir=runs/abdomen --input=scans/imagesTs --output=labels --volumes --overlays

--input is a scan, a folder of scans, a DICOM series, or a dataset of nnU-Net or BIDS.  Label maps are on the grid of
their scan; dataset.json names the classes, and what made them.  --names=bids names them as a BIDS derivative.
--domain=a segments scans of the labelled modality.  Scans that cannot be segmented are listed at the end, with exit
code 2; all others are segmented.

--report shows how far each scan can be trusted; --continue goes on where an earlier run was interrupted.

Probabilities are averaged over all folds of a cross-validated system (--folds=1,2: some), over --seeds and
--checkpoints, over several systems (--workdir=runs/a --workdir=runs/b), and over test-time views: --rotate=5,
--zoom=1.1, --gamma=1.3, --flips=lr.  A scan that a fold held out is segmented by that fold alone.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.field_flags import field_flags, given
from synseg_jax.cli.options import Flag, Options
from synseg_jax.datasets import input_scans
from synseg_jax.devices import choice
from synseg_jax.formats import scan_file, straight
from synseg_jax.inference.predict_scans import check_output, check_views, predict
from synseg_jax.inference.scan_outputs import OUTPUTS
from synseg_jax.runs import open_ensemble, open_run

FIELDS = 'flips rotate zoom gamma checkpoints components holes darkest brightest'.split()  # of predict
FLAGS = (
    Flag('workdir', 'Workdir of synseg_jax.main; several form an ensemble.', [], flags.DEFINE_multi_string, True),
    Flag('input', 'A scan, a folder of scans, a DICOM series, or a dataset of nnU-Net or BIDS.', required=True),
    Flag('output', 'Folder to write label maps to.', required=True),
    Flag('system', 'System of the workdir; default: config.default_system.'),
    Flag('folds', 'Folds of a cross-validated system, e.g. 1,3; default: all.', [], flags.DEFINE_list),
    Flag('seeds', 'Number of seeds, as trained by compare --seeds.', 1, partial(flags.DEFINE_integer, lower_bound=1)),
    Flag('domain', 'Modality of the scans: b, the target, or a, the source.', 'b'),
    *field_flags('predict', FIELDS),
    *(Flag(name, output.help, False, flags.DEFINE_bool) for name, output in OUTPUTS.items()),
    Flag('names', 'Names of label maps: case, or bids for those of a BIDS derivative.', 'case'),
    Flag('straighten', 'Write on orthogonal grids where a gantry was tilted.', False, flags.DEFINE_bool),
    Flag('unfinished', open_run.UNFINISHED, False, flags.DEFINE_bool),
    Flag('continue', 'Leave out scans that --output holds complete, made alike.', False, flags.DEFINE_bool),
    Flag('device', choice.FLAG),
)


def main(argv: Sequence[str]) -> int:
    """Segment scans with a trained system; returns the exit code."""
    return command.run(segment, FLAGS, argv)


@choice.on_device
def segment(options: Options) -> None:
    """Segment the scans given by --input, and print their number."""
    scan_file.require_input(options.input)
    chosen = options.workdir, options.system or '', options.folds, options.seeds, options.unfinished
    trained = open_ensemble.find(*chosen, given(options, 'predict', FIELDS))
    check_views(trained)
    channels = trained.run.named(options.domain)
    files, output = input_scans.find(options.input, channels), Path(options.output)
    extras = [name for name in OUTPUTS if getattr(options, name)]
    check_output(output, (options.input, *options.workdir), files.values(), extras)
    how = straight.writer(options.straighten), options.names, getattr(options, 'continue')
    written = predict(trained, files, output, options.domain, input_scans.reader(channels), extras, *how)
    print(f'{len(written)} label maps in {output}')


if __name__ == '__main__':
    command.start(main)
