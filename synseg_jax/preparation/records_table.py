"""Table of prepared records."""

from rich.table import Table

from synseg_jax.cli.terminal import plain
from synseg_jax.preparation.records import Manifest


def table(manifest: Manifest) -> Table:
    """Scans, records and dropped slices of every set and role."""
    columns = ('set', 'domain', 'role', 'scans', 'records', 'dropped slices', 'labels')
    title = plain(f'{manifest.folder}: {", ".join(manifest.classes)}', 'table.title')
    result = Table(*columns, title=title)
    for name, entry in manifest.sets.items():
        for role, content in entry['roles'].items():
            dropped = sum(case['dropped'] for case in content['cases'])
            counts = (len(content['cases']), content['records'], dropped)
            labelled = 'yes' if content['labelled'] else 'no'
            result.add_row(*map(plain, (name, entry['domain'], role, *counts, labelled)))
    return result
