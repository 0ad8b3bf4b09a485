"""The stage kind `atlases`, which trains nothing and lists labelled scans of domain b as atlases."""

from pathlib import Path

from synseg_jax.devices import processes
from synseg_jax.errors import InputError
from synseg_jax.files import write_json
from synseg_jax.inference.multi_atlas import LISTED, Atlases
from synseg_jax.runs.stages import Job, Outcome, Stage


def run(job: Job) -> Outcome:
    """Write the list of atlases of a stage."""
    with processes.first_then_others(job.folder.name):
        return Outcome(_gather(job.stage, job.folder), {'steps': 0, 'seconds': 0.0, 'peak_memory_gib': 0.0})


def _gather(stage: Stage, folder: Path) -> Atlases:
    """Write the list of labelled scans of domain b that a stage reads; InputError if there are none."""
    read = [scans for role in ('train', 'val') for scans in stage.scans('b', role)]
    if not read or not all(scans.labelled for scans in read):
        raise InputError(f'stage {stage.name}: atlases must be labelled scans; name labelled sets in sets.b')
    cases = [{name: case[name] for name in ('id', 'image', 'label')} for scans in read for case in scans.described]
    folder.mkdir(parents=True, exist_ok=True)
    run = stage.described(folder)
    run.save()
    labels = stage.manifest.sets[read[0].set]['labels']
    write_json(folder / LISTED, {'cases': cases, 'labels': labels})
    return Atlases(run)
