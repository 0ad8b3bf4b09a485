"""Public challenge data in the folder structure of their downloads: CHAOS, MM-WHS 2017, BTCV.

    Train_Sets/CT/<n>/{DICOM_anon,Ground}                           CHAOS; Test_Sets likewise, without Ground
    Train_Sets/MR/<n>/T2SPIR/{DICOM_anon,Ground}
    Train_Sets/MR/<n>/T1DUAL/{DICOM_anon/InPhase,DICOM_anon/OutPhase,Ground}
    ct_train/ct_train_<n>_{image,label}.nii.gz                      MM-WHS; mr_train, ct_test and mr_test likewise
    RawData/Training/{img/img<n>,label/label<n>}.nii.gz             BTCV
    RawData/Testing/img/img<n>.nii.gz

Give the folder above <n>, or RawData.  Structures and label values are those of the downloads as of 2019.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from synseg_jax.datasets.cases import Case, Dataset

NUMBER = '{n}'
CHAOS_MR = {  # 63, 126, 189 and 252 in the files; ranges as in the challenge's evaluation
    'background': 0,
    'liver': tuple(range(55, 71)),
    'right kidney': tuple(range(110, 136)),
    'left kidney': tuple(range(175, 201)),
    'spleen': tuple(range(240, 256)),
}
MM_WHS = {
    'background': 0,
    'left ventricle': 500,
    'right ventricle': 600,
    'left atrium': (420, 421),  # one file has 421
    'right atrium': 550,
    'myocardium': 205,
    'ascending aorta': 820,
    'pulmonary artery': 850,
}
BTCV_ORGANS = (
    'background',
    'spleen',
    'right kidney',
    'left kidney',
    'gallbladder',
    'esophagus',
    'liver',
    'stomach',
    'aorta',
    'inferior vena cava',
    'portal and splenic veins',
    'pancreas',
    'right adrenal gland',
    'left adrenal gland',
)


@dataclass(frozen=True)
class Download:
    """Scans and labels at paths with the case number `{n}`, one number per subject."""

    name: str
    channel: str
    image: str
    label: str
    subject: str
    labels: Mapping[str, int | tuple[int, ...]]
    test: str = ''  # images of test cases
    case: str = ''  # case id, if a subject has several scans

    @property
    def structure(self) -> str:
        return self.image.replace(NUMBER, '<n>')

    def fits(self, folder: Path) -> bool:
        return any(any(_numbered(folder, pattern)) for pattern in (self.image, self.test) if pattern)

    def read(self, folder: Path, subject: str) -> Dataset:
        cases, test_cases = (
            tuple(self._case(folder, n, image) for n, image in sorted(_numbered(folder, pattern)))
            for pattern in (self.image, self.test)
        )
        named_in = f'{self.name} ({folder})'
        return Dataset(folder, (self.channel,), dict(self.labels), cases, test_cases, named_in)

    def _case(self, folder, number, image) -> Case:
        label = folder / self.label.replace(NUMBER, number)
        case, subject = (text.replace(NUMBER, number) for text in (self.case or self.subject, self.subject))
        return Case(case, subject, image, label if label.exists() else None, label)


def _numbered(folder, pattern) -> Iterator[tuple[str, Path]]:
    """Number and path of the files and folders that match a pattern with `{n}`."""
    regex = re.compile(re.escape(pattern).replace(re.escape(NUMBER), r'(\d+)'))
    for path in folder.glob(pattern.replace(NUMBER, '*')) if pattern else ():
        if match := regex.fullmatch(path.relative_to(folder).as_posix()):
            yield match[1], path


def _chaos_mr(name, channel, images, masks) -> Download:
    subject = f'chaos_mr_{NUMBER}'
    case = f'{subject}_{name.lower()}'
    return Download(name, channel, f'{NUMBER}/{images}', f'{NUMBER}/{masks}', subject, CHAOS_MR, case=case)


def _mm_whs(modality) -> Download:
    image, label = f'{modality}_train_{NUMBER}_image.nii.gz', f'{modality}_train_{NUMBER}_label.nii.gz'
    test, subject = f'{modality}_test_{NUMBER}_image.nii.gz', f'mmwhs_{modality}_{NUMBER}'
    return Download(f'MM-WHS_{modality.upper()}', modality.upper(), image, label, subject, MM_WHS, test)


def _btcv(training, test) -> Download:
    image, label = f'{training}img/img{NUMBER}.nii.gz', f'{training}label/label{NUMBER}.nii.gz'
    return Download('BTCV', 'CT', image, label, f'btcv_{NUMBER}', {o: i for i, o in enumerate(BTCV_ORGANS)}, test)


DOWNLOADS = (
    Download('CHAOS_CT', 'CT', '{n}/DICOM_anon', '{n}/Ground', 'chaos_ct_{n}', {'background': 0, 'liver': (1, 255)}),
    _chaos_mr('T2SPIR', 'T2-SPIR MR', 'T2SPIR/DICOM_anon', 'T2SPIR/Ground'),
    _chaos_mr('InPhase', 'T1 in phase MR', 'T1DUAL/DICOM_anon/InPhase', 'T1DUAL/Ground'),
    _chaos_mr('OutPhase', 'T1 out of phase MR', 'T1DUAL/DICOM_anon/OutPhase', 'T1DUAL/Ground'),
    _mm_whs('ct'),
    _mm_whs('mr'),
    _btcv('Training/', 'Testing/img/img{n}.nii.gz'),
    _btcv('', ''),
)
