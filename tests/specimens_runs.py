"""Small inputs beside scans: descriptions of datasets, records, configurations, and tables of a training."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import odd_fields
import tiny
from specimens import AFFINE, Change, Specimen, array, labels

from synseg_jax.batches.selection import Fold, select
from synseg_jax.cli import command
from synseg_jax.cli.options import config_flag
from synseg_jax.datasets import layouts
from synseg_jax.errors import InputError
from synseg_jax.inference import model_folder
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import comparison as compare
from synseg_jax.runs import results, train_stage
from synseg_jax.specification.parse import parse, parse_data
from synseg_jax.training.metrics_log import Table

CONFIG = config_flag(required=True)
JSON = {'.json': odd_fields.json_value}  # what is edited


def _scans(folder: Path, images: str, labelled: str, suffix: str = '') -> None:
    for part in (images, labelled):
        (folder / part).mkdir(parents=True)
    for case in ('p1', 'p2'):
        nib.save(nib.Nifti1Image(array(), AFFINE), folder / images / f'{case}{suffix}.nii')
        nib.save(nib.Nifti1Image(labels(), AFFINE), folder / labelled / f'{case}.nii')


def _described(folder: Path, content: dict) -> Path:
    (folder / 'dataset.json').write_text(json.dumps(content))
    return folder


def _nnunet(root: Path) -> Path:
    _scans(root / 'Dataset1', 'imagesTr', 'labelsTr', '_0000')
    content = {'channel_names': {'0': 'CT'}, 'labels': {'background': 0, 'liver': 1, 'spleen': 2}}
    return _described(root / 'Dataset1', {**content, 'numTraining': 2, 'file_ending': '.nii'})


def _msd(root: Path) -> Path:
    _scans(root / 'Task1', 'imagesTr', 'labelsTr')
    pairs = [{'image': f'./imagesTr/{case}.nii', 'label': f'./labelsTr/{case}.nii'} for case in ('p1', 'p2')]
    content = {'name': 'Liver', 'modality': {'0': 'CT'}, 'labels': {'0': 'background', '1': 'liver', '2': 'spleen'}}
    return _described(root / 'Task1', {**content, 'numTraining': 2, 'training': pairs, 'test': []})


def _read_dataset(folder: Path) -> dict:
    """The records that are made of it; none of its files lies elsewhere."""
    found = layouts.read_dataset(folder)
    for case in (*found.cases, *found.test_cases):
        for path in (case.image, case.label):
            if path is not None and not path.resolve().is_relative_to(folder.resolve()):
                raise AssertionError(f'leaves the folder for {path}')
    output = folder.parent / 'records'
    shutil.rmtree(output, ignore_errors=True)
    manifest = prepare([Scans('source', folder, 'a', 'train')], output, parse_data(tiny.config()), progress=False)
    return {'classes': list(manifest.classes), 'cases': _cases(manifest), 'role': manifest.sets['source']['channel']}


def _cases(manifest) -> list[str]:
    return [
        case['id'] for entry in manifest.sets.values() for role in entry['roles'].values() for case in role['cases']
    ]


def _records(root: Path) -> Path:
    prepare([Scans('source', _nnunet(root), 'a', 'train')], root / 'records', parse_data(tiny.config()), progress=False)
    return root / 'records'


def _read_records(folder: Path) -> dict:
    """All that training reads, and what a stage says of its scans."""
    manifest = Manifest.load(folder)
    sets = dict.fromkeys(manifest.sets, manifest)
    run = model_folder.Run.of(folder, None, manifest.classes, [manifest])
    found = {'classes': list(manifest.classes), 'channels': dict(run.channels), 'typical': str(run.typical)}
    for domain in 'ab':
        for one in select((), domain, sets, 'train', Fold(), manifest, context=1):
            found[domain] = {str(i): record for i, record in enumerate(one.open())}
            one.key()
    return found


def _judge_records(good, found, change: Change) -> str:
    return 'other records' if change.file.suffix == '.array_record' else ''


def _tables(root: Path) -> Path:
    rows = ''.join(f'{step},{step / 6},0.5,0.25\r\n' for step in range(2, 20, 2))
    for name in ('metrics.csv', 'validation.csv'):
        (root / name).write_text('step,epoch,gen,seg\r\n' + rows)
    cost = {'seconds': 3.5, 'steps': 20, 'trained': 20, 'peak_memory_gib': 0.5, 'finished': True}
    (root / 'cost.json').write_text(json.dumps(cost))
    return root


def _read_tables(folder: Path) -> dict:
    """A resumed run goes on with them."""
    for name in ('metrics.csv', 'validation.csv'):
        Table(folder / name, 10).add({'step': 12, 'epoch': 2.0, 'gen': 0.5, 'seg': 0.25})
    fit = SimpleNamespace(folder=folder, plan=SimpleNamespace(steps=20))
    fit._cost_so_far = lambda: train_stage.StageTraining._cost_so_far(fit)
    before = fit._cost_so_far()
    done = before['finished'] and before['steps'] == 20
    cost = before if done else train_stage.StageTraining._cost(fit, 1.5, True, 20)
    rows = [(folder / name).read_text() for name in ('metrics.csv', 'validation.csv')]
    return {'rows': rows, 'cost': {key: cost[key] for key in ('seconds', 'steps', 'finished')}}


def _table_config():
    from configs import variants

    config = tiny.config()
    config.systems = variants.systems(synseg={}, source_only={'seed': 1})
    row = {'system': 'synseg', 'set': 'target', 'name': 'SynSeg-Net', 'reported': {'dice': '.9'}}
    rows = {'a': row, 'b': {**row, 'system': 'source_only', 'name': 'none'}}
    config.table = variants.table(
        'Title', 'Source', rows, runs='tiny', organs=('liver', 'mean'), measures=('dice', 'auc'), reference='SynSeg-Net'
    )
    return parse(config)


def _results(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for number, system in enumerate(('synseg', 'source_only')):
        organ = lambda: {'dice': float(rng.random()), 'iou': 0.5, 'asd_mm': 1.5, 'hd95_mm': None}  # noqa: E731
        cases = {f'p{i}': {'liver': organ(), 'spleen': organ()} for i in range(7)}
        cost = {'stage': 'train-1', 'steps': 20, 'trained': 20, 'seconds': 1.5, 'peak_memory_gib': 0.5}
        roc = {'fpr': [0.0, 0.5, 1.0], 'tpr': [0.0, 0.75, 1.0]}
        part = {'sets': {'target': {'key': 'x', 'cases': cases, 'roc': roc}}, 'costs': [cost], 'seed': number}
        statistics = {'mean': 0.5, 'median': 0.5, 'std': None, 'n': 1}
        part |= {'synthesis': dict.fromkeys(('mae', 'psnr', 'ssim'), statistics), 'reads_target_labels': False}
        (root / system).mkdir()
        (root / system / 'results.json').write_text(json.dumps({**results.pool([part]), 'fields': 'x'}))
        (root / system / 'measures.json').write_text(json.dumps({**part, 'weights': 'x'}))
    return root


def _read_results(workdir: Path) -> dict:
    """The table of a comparison."""
    from synseg_jax.reports import comparison, html_page, report

    config = _table_config()
    for system in config.systems:
        compare.finished(config, workdir, system)
    made, table = compare.rows(config, workdir), config.table
    pictures = compare.pictures(config, made, workdir, workdir / 'report')
    written = report.Report(
        table.title, table.source, tuple(table.organs), compare.measures(config), table.reference, made,
        pictures=pictures, seconds=1.0,
    )  # fmt: skip
    found = comparison.entries(written)
    html_page.render(written, found, {})
    return {'text': report.markdown(written, found)}


def _results_files(workdir: Path) -> list[Path]:
    return sorted(workdir.glob('*/*.json'))


CONFIGURATION = """from configs import base


def get_config(data=''):
    c = base.get_config()
    c.data_dir = data
    c.train.batch = 2
    c.data.size = (64, 64)
    c.data.classes = ('background', 'liver')
    c.systems.other = {'method': 'supervised'}
    return c
"""


def _configuration(root: Path) -> Path:
    (root / 'mine.py').write_text(CONFIGURATION)
    return root / 'mine.py'


def _read_configuration(path: Path) -> dict:
    """What a command makes of it."""
    found, said = {}, io.StringIO()
    with contextlib.redirect_stderr(said):
        command.run(lambda options: found.update(config=options.config.to_json()), [CONFIG], [f'--config={path}'])
    if not found:
        raise InputError(said.getvalue().removeprefix('error: ').removesuffix('\n'))
    return found


RUNS = {
    'dataset nnU-Net': Specimen(
        _nnunet, _read_dataset, fields=JSON, files=lambda p: [p / 'dataset.json'], several_lines=True
    ),
    'dataset MSD': Specimen(_msd, _read_dataset, fields=JSON, files=lambda p: [p / 'dataset.json'], several_lines=True),
    'records': Specimen(_records, _read_records, _judge_records, JSON),
    'results': Specimen(_results, _read_results, fields=JSON, files=_results_files, share=2),
    'tables of a run': Specimen(_tables, _read_tables, fields=JSON),
    'configuration': Specimen(_configuration, _read_configuration, share=2),
}
