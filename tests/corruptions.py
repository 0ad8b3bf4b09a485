"""Corrupts small inputs of every format, one thing at a time, and counts what becomes of them.

Usage:
    python tests/corruptions.py --count=10000 --seed=0
    python tests/corruptions.py --count=500 --seed=3 --format=nrrd --show

What is read is refused in one line that names the file, or as good as whole, or told of in a warning.  Different and
silent is harmless where nothing could know: voxels without a checksum.  All else is WRONG: tracebacks, crashes, hangs
over 10 s, memory over 4 GiB, lost slices, differences that a checksum shows.  Every attempt follows from the seed, the
format and its number.  Exit code 1 if any is WRONG.
"""

import argparse
import collections
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')] if str(ROOT) not in sys.path else []
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import workers  # noqa: E402
from bench import OUTCOMES  # noqa: E402
from specimens import Specimen  # noqa: E402
from workers import Outcome, Worker  # noqa: E402

ATTEMPTS = 100  # of one process


def run(specimens: Mapping[str, Specimen], counts: Mapping[str, int], seed: int) -> Iterator[Outcome]:
    """The outcomes of so many attempts of each format."""
    for name, specimen in specimens.items():
        begin = 0
        while begin < counts[name]:
            numbers = range(begin, min(begin + ATTEMPTS, counts[name]))
            for outcome in Worker(name, specimen, numbers, seed).outcomes():
                begin = outcome.number + 1
                yield outcome


def table(outcomes: list[Outcome]) -> str:
    """Counts by format and outcome."""
    by_format = collections.defaultdict(collections.Counter)
    for one in outcomes:
        by_format[one.format][one.outcome] += 1
    total = sum(by_format.values(), collections.Counter())
    lines = [f'{"format":28}{"tried":>8}' + ''.join(f'{outcome:>10}' for outcome in OUTCOMES)]
    for name, counts in [*by_format.items(), ('all', total)]:
        lines.append(f'{name:28}{counts.total():8}' + ''.join(f'{counts[outcome]:10}' for outcome in OUTCOMES))
    return '\n'.join(lines)


def all_specimens() -> dict[str, Specimen]:
    """Every format by name."""
    from specimens import SCANS
    from specimens_dicom import DICOM
    from specimens_runs import RUNS
    from specimens_weights import WEIGHTS

    return {**SCANS, **DICOM, **RUNS, **WEIGHTS}


def main() -> None:
    """Runs what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=1000, help='attempts over all formats')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--format', default='', help='only formats whose names begin so; several with commas')
    parser.add_argument('--seconds', type=float, default=workers.SECONDS, help='that an attempt may take')
    parser.add_argument('--show', action='store_true', help='a line for every attempt')
    flags = parser.parse_args()
    workers.SECONDS, formats = flags.seconds, tuple(flags.format.split(','))
    specimens = {name: one for name, one in all_specimens().items() if name.startswith(formats)}
    shares = sum(one.share for one in specimens.values())
    counts = {name: -(-flags.count * one.share // shares) for name, one in specimens.items()}
    outcomes = []
    for outcome in run(specimens, counts, flags.seed):
        outcomes.append(outcome)
        if flags.show or outcome.outcome == 'WRONG':
            print(f'{outcome.format} {outcome.number}: {outcome.change}: {outcome.outcome} {outcome.why}', flush=True)
    print(table(outcomes))
    sys.exit(any(outcome.outcome == 'WRONG' for outcome in outcomes))


if __name__ == '__main__':
    main()
