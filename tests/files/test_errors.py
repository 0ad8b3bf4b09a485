"""Errors are lines that any terminal shows, whatever the files hold that they quote."""

import pytest

from synseg_jax.errors import InputError, printable

QUOTED = {
    'a\x1b[31mb': r'a\x1b[31mb',  # would turn the terminal red
    'a\x00b\nc\rd': r'a\x00b\nc\rd',
    'x\udce4.dcm': r'x\udce4.dcm',  # a name that is not UTF-8, which no terminal encodes
    'abc\u202egpj.exe': r'abc\u202egpj.exe',  # shown as abcexe.jpg
    'a\u2028b': r'a\u2028b',
    'Jäger 日本\xa0\u200d': 'Jäger 日本\xa0\u200d',
}


@pytest.mark.parametrize('text', QUOTED)
def test_characters_that_terminals_obey(text):
    assert str(InputError(f'{text}: damaged')) == f'{QUOTED[text]}: damaged'


def test_long_values_are_shortened():
    line = printable(f'scan.nrrd: type {"x" * 5000}, not known')
    assert line.startswith('scan.nrrd: type xxx') and line.endswith('xxx, not known') and len(line) < 300
    assert 990 < len(printable('word ' * 5000)) <= 1000
    path = f'/data/{"folder/" * 20}scan.nii.gz'
    assert printable(f'{path}: damaged') == f'{path}: damaged'


def test_several_lines():
    assert str(InputError('two problems:', 'a\nb', 'c')) == 'two problems:\na\\nb\nc'
