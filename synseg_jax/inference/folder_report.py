"""The page of `predict --report`: report.html of all scans in report.csv, with the pictures in report/."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from synseg_jax.files import atomic_file, read_csv
from synseg_jax.inference import agreement, trust
from synseg_jax.inference.trained_model import Segmenter
from synseg_jax.reports import scans_page

PAGE, TABLE = 'report.html', 'report.csv'
ML, AGREEMENT = ' mL', ' agreement'  # end the names of columns of organs
UNKNOWN = 'The volumes of the training labels are not known: the records were made by an earlier version.'
WORDS = {
    trust.TRUST: f'agreement of at least {trust.GOOD:.2f}, and no remarks.',
    trust.LOOK: f'remarks, or agreement of {trust.POOR:.2f} to {trust.GOOD:.2f}, or unknown: look before use.',
    trust.LEAVE: f'agreement below {trust.POOR:.2f}, or half of the organs missing or on the wrong side.',
}
NOTES = (
    'Agreement: mean Dice over the organs between these labels and those of the same scan when it is rotated by '
    f'{agreement.ROTATION:.0f}°, darkened with noise added and, where the networks can, translated or mirrored. No '
    'reference is known: an error that stays the same in all of them is not seen.',
    f'Torn: the largest connected part holds less than {trust.WHOLE:.0%} of the organ. Volume: outside the range of '
    f'the training labels by more than a factor of {trust.BEYOND}. Unsteady: agreement of the organ below '
    f'{trust.STEADY:.2f}.',
    'Axial and coronal slices show the patient’s right on the left; all planes have one scale.',
)


def picture(case: str) -> str:
    """The file of a scan's picture."""
    return f'report/{case}.png'


def row(case: str, judged: trust.Trust, volumes: Sequence[Mapping], agreed: Mapping[str, float]) -> dict:
    """The row of a scan in report.csv; `agreed`: of organs."""
    remarks = {kind: judged.remarks.get(kind, '') for kind in trust.REMARKS}
    organs = {f'{found["organ"]}{ML}': found['mL'] for found in volumes}
    organs |= {f'{name}{AGREEMENT}': round(value, 4) for name, value in agreed.items()}
    return {'case': case, 'flag': judged.word, 'agreement': round(judged.agreement, 4), **remarks, **organs}


def write(output: Path, trained: Segmenter) -> None:
    """Write report.html of the scans in report.csv, if there are any."""
    if not (output / TABLE).is_file():
        return
    run, rows = trained.run, read_csv(output / TABLE)
    members = ', '.join(f'{member.run.folder.name} (step {member.step})' for member in trained.members)
    scans = [
        scans_page.Scan(
            found['case'],
            found['flag'],
            _number(found['agreement']),
            {kind: found[kind] for kind in trust.REMARKS if found[kind]},
            [_organ(found, name, i, run.volumes_ml.get(name)) for i, name in enumerate(run.classes) if i],
            output / picture(found['case']),
        )
        for found in rows
    ]
    title = f'{len(scans)} segmented scan{"s" * (len(scans) != 1)}'
    warning = '' if run.volumes_ml else UNKNOWN
    page = scans_page.render(scans_page.Overview(title, f'segmented by {members}', WORDS, NOTES, warning), scans)
    with atomic_file(output / PAGE) as temporary:
        temporary.write_text(page, encoding='utf-8', errors='surrogateescape')


def _organ(found, name, label, usual) -> scans_page.Organ:
    agreed = _number(found.get(f'{name}{AGREEMENT}', ''))
    return scans_page.Organ(name, label, float(found[f'{name}{ML}']), usual, agreed)


def _number(text) -> float | None:
    return float(text) if text else None
