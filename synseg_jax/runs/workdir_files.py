"""The files that commands write, and the meaning of fields that their schemas do not tell; see `workdir_page`."""

WORKDIR = {  # pattern: content
    'results.json': 'the results of all systems that `main` ran, by set',
    'run.json': 'the configuration, and the folders of the stages of each system',
    'records/*': 'the records of the phantom, where no data was given; see below',
    'records-*/*': 'records of the same scans with other `data` fields, where a system changes them',
    'phantom/*': "the phantom's scans, as nnU-Net raw datasets",
    'SYSTEM/results.json': 'the results of one system: every case, pooled over folds',
    'SYSTEM/measures.json': 'the measures of a system, or of a fold in `SYSTEM/foldN`; none is taken twice',
    'SYSTEM/SET.csv': 'measures of the test scans of a set, one row a case and class; with folds in `foldN`',
    'SYSTEM/SET.png': 'contours of prediction and reference on test scans',
    'SYSTEM/SET_cases.png': 'the best, the median and the worst case',
    'SYSTEM/predictions/SET/*': 'label maps of the test scans, with `dataset.json`',
    'SYSTEM/STAGE': 'a link to the folder of the stage',
    'stages/STAGE-DIGEST/stage.json': 'the configuration of the stage, its classes, and its modalities',
    'stages/STAGE-DIGEST/cost.json': 'seconds, steps and memory over all sessions',
    'stages/STAGE-DIGEST/checkpoints/*': 'checkpoints by step, as orbax writes them, with checksums and score',
    'stages/STAGE-DIGEST/metrics.csv': 'every `train.log_every` steps: step, epoch, terms, gradient norms, rates',
    'stages/STAGE-DIGEST/validation.csv': 'at each checkpoint: step, score, Dice of each check, change by translation',
    'stages/STAGE-DIGEST/panel.png': 'translated and segmented slices at the last validation, or pairs of a synthesis',
    'stages/STAGE-DIGEST/curves.png': 'the columns of `metrics.csv` as curves',
    'stages/STAGE-DIGEST/tensorboard/*': 'the same for TensorBoard',
    'stages/STAGE-DIGEST/records/*': 'the records of a stage that makes a set',
    'stages/STAGE-DIGEST/atlases.json': 'of a stage of atlases: its labelled scans',
}
OTHERS = {
    '`prepare --output`': {
        'manifest.json': 'classes, settings, and the processing of each scan',
        'SET.ROLE.array_record': 'records, each the safetensors bytes of one slice or volume: `image` uint16 (0 to '
        '65535 for [0, 1]), `label` uint8 where labelled (int16 of pseudo labels, -1 where there is none), `case` '
        'and `slice` int32',
    },
    '`predict --output`': {
        'CASE.nii.gz': 'label map on the grid of the scan',
        'dataset.json': 'channel, label values by name, file ending, number of scans, as nnU-Net has them',
        'volumes.csv': '`--volumes`: columns case, organ, mL',
        'overlays/CASE.png': '`--overlays`',
        'probabilities/CLASS/CASE.nii.gz': '`--probabilities`: float32',
        'dicom_seg/CASE.dcm': '`--dicom_seg`',
    },
    '`synthesize --output`': {
        'imagesTr, labelsTr, dataset.json': 'an nnU-Net raw dataset; with `--format=scans` `CASE.nii.gz` alone',
    },
    '`evaluate --output`': {
        'cases.csv': 'columns case, organ, dice, iou, asd_mm, hd95_mm',
        'summary.json': '`classes` and `mean`, as a set in `results.json`',
        'boxplots.png': 'Dice of each class',
    },
    '`compare --workdir`': {
        'report_TABLE/report.html, report.md': 'the report',
        'report_TABLE/table.csv': 'one row for each row, class and measure: n, median, mean, std, interval, p, paper',
        'report_TABLE/cases.csv': 'every case of every row',
        'report_TABLE/*.png': 'boxplots and curves',
        'seedN/*': 'workdirs of the further seeds',
    },
    '`export --output`': {
        'card.json': 'all that an evaluator needs',
        'latest_net_NAME.safetensors, .pth': 'the tensors of each network',
        'segment_b.stablehlo, .onnx': '`--functions`; likewise `segment_a`, `translate_a` and `translate_b`',
    },
    '`benchmark --output`': {'FILE': '{stage: {figure: value}}, as it is printed'},
}
MORE = {  # meanings, and fields that no command reads again
    'results.json': {
        'systems': '{system: {set: {`classes`: {class: {measure: statistics, `both_empty`, `one_empty`}}, `mean`: '
        '{measure: statistics}}}}; statistics are `mean`, `median`, `std` (sample) and `n`; `mean` is over the organs '
        'of each case. Of classes in `lesions` also `lesions` (share found), `false_lesions`, `patch_dice` and '
        '`patch_hd95_mm`',
        'seconds': 'of this call of `main`',
        'steps': 'trained by all systems',
        'peak_memory_gib': 'of the process',
        'versions': 'of Python, this package and those it uses',
    },
    'SYSTEM/results.json': {
        'sets': 'the statistics of each set, as in `results.json`',
        'stages': 'the folders of its stages',
    },
    'measures.json': {
        'costs': 'a list of the stages with the fields of their `cost.json`',
        'seed': 'of the configuration',
        'reads_target_labels': 'whether any stage trained on target labels',
        'reads_pseudo_labels': 'whether any stage trained on labels that an earlier one found',
        'transductive': 'whether images of tested scans were trained on',
    },
    'manifest.json': {
        'classes': 'in the order of the labels in records, background first',
        'size': 'of a record',
        'spacing_mm': '0: resized',
        'seed': 'of the split',
        'packages': 'versions',
        'request': 'digest of all that was asked for',
        'version': 'of this package',
        'settings': 'all `data` fields',
    },
    'card.json': {
        'loss_weights': '{player: {term: weight}}',
        'classes': 'in the order of the labels',
        'size': 'of the images that networks see',
        'spacing_mm': 'of their pixels or voxels; 0: slices are resized',
        'context': 'neighbouring slices that are channels beside the middle one',
        'label_channel': 'whether generators see one more channel, 1 where anything is labelled',
        'dtype': 'in which the networks were trained',
        'domains': 'a and b',
        'segments': '{domain: the networks that segment its scans, one after another}',
        'translates': '{domain: the generator that sees it}',
        'functions': '{file: `takes`, the shape of images in [0, 1], and `sha256`}',
        'packages': 'versions',
    },
    'cost.json': {
        'seconds': 'over all sessions',
        'steps': 'planned',
        'trained': 'so far',
        'peak_memory_gib': 'of the process, or of the device',
        'finished': 'true or false',
    },
}
