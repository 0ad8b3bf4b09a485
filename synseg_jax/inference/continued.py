"""The record of a folder of label maps: dataset.json and tables, rewritten after every scan, so that a run can go on.

dataset.json is written last: a scan that it lists is complete.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from synseg_jax.errors import InputError, warn
from synseg_jax.files import read_csv, read_json, write_csv, write_json
from synseg_jax.formats import scan_file
from synseg_jax.inference.label_folder import DATASET
from synseg_jax.inference.scan_outputs import OUTPUTS

REMEDY = 'leave --continue out, or choose another --output'
Rows = list[dict]


@dataclass
class Record:
    """What of a folder is done: the digest of each scan and its rows of each table, in the order of `places`."""

    output: Path
    places: Mapping[str, str]  # {case: its label map below `output`}
    outputs: Sequence[str]  # names in `OUTPUTS`
    classes: Sequence[str]
    describe: Callable[[Mapping[str, str]], Mapping]  # the content of dataset.json for {case: digest of its scan}
    scans: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Rows]] = field(default_factory=dict)  # by table and case
    _begun: bool = False

    def begin(self) -> None:
        """Before the first scan of a run: what is about to be replaced is not listed any more."""
        if not self._begun and (self.output / DATASET).exists():
            self.save()
        self._begun = True

    def add(self, case: str, scan: str, rows: Mapping[str, Rows]) -> None:
        """A scan is done."""
        self.scans[case] = scan
        for name, own in rows.items():
            self.rows.setdefault(name, {})[case] = own
        self.save()

    def save(self) -> None:
        """Write the tables, then dataset.json."""
        done = {case: self.scans[case] for case in self.places if case in self.scans}
        for name in self.outputs:
            if rows := [row for case in done for row in self.rows.get(name, {}).get(case, ())]:
                write_csv(self.output / f'{name}.csv', rows)
        write_json(self.output / DATASET, self.describe(done))

    def go_on(self, files: Mapping[str, Path]) -> None:
        """Take over the scans of an earlier run that are complete; InputError if other networks or fields made them."""
        path = self.output / DATASET
        if not path.is_file():
            return
        found = read_json(path, REMEDY)
        _check_alike(self.output, found, self.describe({}))
        rows = {name: self._rows(name) for name in self.outputs}
        for case, scan in found['prediction'].get('scans', {}).items():
            if case in files and self._complete(case, rows):
                if _digest(files[case]) == scan:
                    self.scans[case] = scan
                    self.rows = {name: self.rows.get(name, {}) | {case: of.get(case, [])} for name, of in rows.items()}
                else:
                    warn('%s: has changed since it was segmented; it is segmented again', files[case])

    def _rows(self, name) -> dict[str, Rows]:
        """The rows of a table by case."""
        path, found = self.output / f'{name}.csv', {}
        for row in read_csv(path) if path.is_file() else ():
            found.setdefault(row['case'], []).append(row)
        return found

    def _complete(self, case, rows) -> bool:
        """Whether all files and rows of a case are there."""
        extras = (file for name in self.outputs for file in OUTPUTS[name].files(case, self.classes))
        files = [self.places[case], *extras]
        tabled = [name for name in self.outputs if OUTPUTS[name].tabled]
        there = all((self.output / file).is_file() and (self.output / file).stat().st_size for file in files)
        return there and all(case in rows[name] for name in tabled)


def _digest(file) -> str:
    """'' of a scan that cannot be read, as segmenting it will tell."""
    with suppress(OSError):
        return scan_file.digest(file)
    return ''


def _check_alike(output, found, wanted) -> None:
    """InputError that says what differs between two contents of dataset.json, unless the same networks made both."""
    made = found.get('prediction') if isinstance(found, dict) else None
    if not isinstance(made, dict) or 'scans' not in made:
        raise InputError(f'--continue: {output / DATASET} does not say which scans are done; {REMEDY}')
    pairs = [(name, found.get(name), wanted[name]) for name in ('channel_names', 'labels')]
    pairs += [(name, made.get(name), wanted['prediction'].get(name)) for name in ('members', 'straightened', 'names')]
    before, now = made.get('fields', {}), wanted['prediction']['fields']
    pairs += [(f'predict.{name}', before.get(name), now.get(name)) for name in dict.fromkeys((*before, *now))]
    for name, before, now in pairs:
        if before != now:
            raise InputError(f'--continue: {output} was made with {name} {_told(before)}, not {_told(now)}; {REMEDY}')


def _told(value) -> str:
    """A value of dataset.json in a line."""
    if isinstance(value, list):
        return ', '.join(f'{member["stage"]} (step {member["step"]})' for member in value)
    if isinstance(value, dict):
        return ', '.join(f'{name} {one}' for name, one in value.items())
    return repr(value)
