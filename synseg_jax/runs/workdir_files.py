"""Descriptions of the files that commands write, and of fields without a schema, for `workdir_page`."""

from synseg_jax.evaluation import metrics

WORKDIR = {  # pattern: content
    'results.json': 'results of all systems that `main` ran, by test set',
    'report.html': 'one page without other files: the systems beside each other, organs, pictures, worst cases first, '
    'training curves, what the configuration changes, time, memory and versions; also when a run is interrupted',
    'boxplots.png': 'Dice of every test scan, by organ and system',
    'boxplots_asd_mm.png': 'likewise the average surface distance',
    'run.json': 'the configuration, and the stage folders of each system',
    'records/*': 'records of the phantom, if no data was given; see below',
    'records-*/*': 'records of the same scans with other `data` fields, for systems that change them',
    'phantom/*': 'scans of the phantom, as nnU-Net raw datasets',
    'SYSTEM/results.json': 'results of one system: metrics of every case, over all folds',
    'SYSTEM/measures.json': 'metrics of a system, or of a fold in `SYSTEM/foldN`; not computed again on resuming',
    'SYSTEM/SET.csv': 'metrics of the test scans of a set, one row per case and class; with folds in `foldN`',
    'SYSTEM/SET.png': 'contours of prediction and reference on test scans, the worst first; R and L, or A '
    "and P, are the patient's sides",
    'SYSTEM/SET_cases.png': 'the worst, the median and the best case',
    'SYSTEM/predictions/SET/*': 'label maps of the test scans, with `dataset.json`',
    'SYSTEM/STAGE': 'link to the folder of the stage',
    'stages/STAGE-DIGEST/stage.json': 'configuration, classes and modalities of the stage',
    'stages/STAGE-DIGEST/cost.json': 'seconds, steps and peak memory over all sessions',
    'stages/STAGE-DIGEST/checkpoints/*': 'orbax checkpoints by step, with checksums, score and all validations so far',
    'stages/STAGE-DIGEST/metrics.csv': 'every `train.log_every` steps: step, epoch, terms, gradient norms, learning '
    'rates',
    'stages/STAGE-DIGEST/validation.csv': 'at each checkpoint: step, score, Dice of each check, mean change by '
    'translation, and scores that need no target label: `randomised_dice`, `agreement`, `plausible`, `volume/ORGAN`',
    'stages/STAGE-DIGEST/panel.png': 'translated and segmented slices at the last validation; for a synthesis stage '
    'pairs of real and synthetic slices',
    'stages/STAGE-DIGEST/curves.png': 'plots of the columns of `metrics.csv` and `validation.csv`, drawn at every '
    'validation; legends name the modality of a domain',
    'stages/STAGE-DIGEST/tensorboard/*': 'the same for TensorBoard',
    'stages/STAGE-DIGEST/mlflow.json': 'with `train.mlflow`: its address, and the id of the run',
    'stages/STAGE-DIGEST/records/*': 'records of a stage that makes a set',
    'stages/STAGE-DIGEST/atlases.json': 'labelled scans of an `atlases` stage',
}
OTHERS = {
    '`prepare --output`': {
        'manifest.json': 'classes, settings, and how each scan was processed',
        'SET.ROLE.array_record': 'records, each the safetensors bytes of one slice or volume: `image` uint16 (0 to '
        '65535 for [0, 1]), `label` uint8 where labelled (int16 of pseudo labels, -1 where there is none), `case` '
        'and `slice` int32',
    },
    '`predict --output`': {
        'CASE.nii.gz': 'label map on the grid of the scan',
        'dataset.json': "channel, label values by name, file ending and number of scans, in nnU-Net's format; as "
        '`prediction` the `members` (stage and step of the checkpoint) that the probabilities are the mean of, the '
        '`fields` of `predict`, under `cases` the members of cases that some folds held out, and the `scans` that are '
        'done with a digest of each, by which `--continue` knows them; rewritten after every scan',
        'sub-*/anat/*_dseg.nii.gz, dseg.tsv, dataset_description.json': '`--names=bids`: label maps and their classes',
        'volumes.csv': '`--volumes`: columns case, organ, mL',
        'overlays/CASE.png': "`--overlays`: contours on slices, with the patient's sides",
        'probabilities/CLASS/CASE.nii.gz': '`--probabilities`: float32',
        'report.html': '`--report`: a page of all scans, which needs no other file',
        'report.csv': 'columns case, flag, agreement, one for each kind of remark, and of each organ mL and agreement',
        'report/CASE.png': 'the scan in three planes',
        'dicom_seg/CASE.dcm': '`--dicom_seg`',
        'rtstruct/CASE.dcm': '`--rtstruct`',
    },
    '`synthesize --output`': {
        'imagesTr, labelsTr, dataset.json': 'an nnU-Net raw dataset; with `--format=scans` only `CASE.nii.gz`',
        'CASE/0001.dcm, ...': '`--format=dicom`: a series of CT or MR images',
    },
    '`evaluate --output`': {
        'cases.csv': f'columns case, organ, {", ".join(metric.name for metric in metrics.METRICS)}, protocol',
        'summary.json': '`classes` and `mean`, as for a set in `results.json`, and `protocol`',
        'boxplots.png': 'Dice of each class',
    },
    '`compare --workdir`': {
        'report_TABLE/report.html, report.md': 'the report; by another protocol in `report_TABLE_PROTOCOL`',
        'report_TABLE/table.csv': 'n, median, mean, std, interval, p, paper for each row, class and metric',
        'report_TABLE/cases.csv': 'metrics of every case of every row',
        'report_TABLE/*.png': 'boxplots and curves',
        'seedN/*': 'workdirs of additional seeds',
    },
    '`export --output`': {
        'card.json': 'everything needed to run the networks elsewhere',
        'latest_net_NAME.safetensors, .pth': 'the tensors of each network',
        'configs, models, docs, LICENSE, synseg_jax': 'a MONAI bundle, with `--format=monai`',
        'segment_b.stablehlo, .onnx': '`--functions`; likewise `segment_a`, `translate_a` and `translate_b`',
    },
    '`benchmark --output`': {'FILE': '{stage: {measurement: value}}, as printed'},
}
MORE = {  # descriptions of fields, including fields that no command reads again
    'results.json': {
        'systems': '{system: {set: {`classes`: {class: {metric: statistics, `both_empty`, `one_empty`}}, `mean`: '
        '{metric: statistics}}}}; statistics are `mean`, `median`, `std` (of the sample) and `n`; `mean` is the mean '
        'over the organs of each case. For classes in `lesions` also `lesions` (share detected), `false_lesions`, '
        '`patch_dice` and `patch_hd95_mm`',
        'protocols': '{protocol: {system: {set: as in `systems`}}} of the protocols in `protocols` but the native one, '
        'of which all other figures are; absent without',
        'seconds': 'wall-clock time of this run of `main`',
        'steps': 'training steps of all systems',
        'peak_memory_gib': 'peak memory of the process',
        'versions': 'versions of Python, of this package and of its dependencies',
    },
    'SYSTEM/results.json': {
        'sets': 'statistics of each set, as in `results.json`; in `protocols` by the protocol',
        'stages': 'folders of its stages',
    },
    'measures.json': {
        'costs': 'list of the stages with the fields of their `cost.json`',
        'seed': 'seed of the configuration',
        'reads_target_labels': 'whether any stage trained on target labels',
        'reads_pseudo_labels': 'whether any stage trained on labels predicted by an earlier one',
        'transductive': 'whether any stage trained on images of test scans',
        'test_all': 'whether all labelled target scans were tested, whatever their split',
    },
    'stage.json': {
        'volumes_ml': 'least and largest volume in mL of each class in the training labels; absent where records of an '
        'earlier version were trained on',
        'others': 'further channels of a domain whose scans have several',
    },
    'manifest.json': {
        'classes': 'in the order of the labels in records, background first',
        'size': 'size of a record',
        'spacing_mm': '0: slices are resized',
        'antialias': 'whether images are smoothed before they are made smaller',
        'bias_correction': 'whether scans, but CT, are divided by their bias field',
        'channels': 'number of channels of every scan in the source and in the target domain',
        'seed': 'seed of the split',
        'packages': 'versions of dependencies',
        'request': 'digest of the sets and settings given to `prepare`',
        'version': 'version of this package',
        'settings': 'all `data` fields',
    },
    'card.json': {
        'loss_weights': '{player: {term: weight}}',
        'classes': 'in the order of the labels',
        'size': 'input size of the networks',
        'spacing_mm': 'pixel or voxel size of the input; 0: slices are resized',
        'cut_about': 'body: at a spacing, networks are given the window about the body; else whole slices or volumes',
        'antialias': 'whether images are smoothed before they are made smaller',
        'bias_correction': 'whether scans, but CT, are divided by their bias field',
        'context': 'number of neighbouring slices on each side that are input channels',
        'label_channel': 'whether generators have one more input channel, the foreground mask',
        'dtype': 'floating-point type used in training',
        'domains': 'a and b',
        'segments': '{domain: networks that segment its scans, applied in this order}',
        'translates': '{domain: generator that translates its scans}',
        'functions': '{file: `takes`, the shape of the input images in [0, 1], and `sha256`}',
        'packages': 'versions of dependencies',
    },
    'cost.json': {
        'seconds': 'training time over all sessions',
        'steps': 'planned number of steps',
        'trained': 'steps trained so far',
        'peak_memory_gib': 'peak memory of the process, or of the device',
        'finished': 'whether training has finished',
        'stopped': 'why `train.guard` ended training, if it did',
    },
}
