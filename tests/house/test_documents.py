"""README and docs name nothing that is not there."""

import re

import documents
import pytest
import run_documents

import synseg_jax
from synseg_jax.objective.methods import METHODS
from synseg_jax.objective.terms import TERMS

PLACES = ('', 'synseg_jax', 'configs', 'configs/tables', 'tests', 'launch')  # that files are named from
README = documents.ROOT / 'README.md'


def _name(page):
    return str(page.relative_to(documents.ROOT))


@pytest.mark.parametrize('page', documents.with_tables(), ids=_name)
def test_links_lead_somewhere(page):
    for path, anchor in documents.links(page):
        assert path.exists(), f'{page.name} links {path}'
        assert not anchor or anchor in documents.anchors(path), f'{page.name} links {path.name}#{anchor}'


@pytest.mark.parametrize('page', documents.pages(), ids=_name)
def test_files_that_are_named_exist(page):
    for name in documents.mentions(page):
        assert any((documents.ROOT / place / name).is_file() for place in PLACES), f'{page.name} names {name}'


def test_readme_is_short_and_links_every_page():
    assert len(README.read_text(encoding='utf-8').splitlines()) <= 120
    linked = {path.resolve() for path, _ in documents.links(README)}
    assert set(documents.pages()) - {README} <= linked


def test_readme_names_every_configuration_and_command():
    text = README.read_text(encoding='utf-8')
    configurations = [path for path in documents.ROOT.glob('configs/*.py') if 'def get_config' in path.read_text()]
    commands = [path for path in documents.ROOT.glob('synseg_jax/*.py') if 'def main(argv' in path.read_text()]
    missing = [path.name for path in configurations if f'`configs/{path.name}`' not in text]
    assert not missing + [path.name for path in commands if f'`{path.stem}`' not in text]


def test_every_method_and_term_is_explained():
    text = (documents.ROOT / 'docs' / 'methods.md').read_text(encoding='utf-8')
    assert not [name for name in (*METHODS, *TERMS) if f'`{name}`' not in text], 'add rows to docs/methods.md'


@pytest.mark.parametrize('page', documents.pages(), ids=_name)
def test_commands_that_are_run_are_of_python(page):
    """launch/docs.sh runs what is fenced as bash."""
    for block in documents.blocks(page):
        assert block.language in ('bash', 'sh', 'python', 'text', 'json', 'bibtex'), f'{page.name}: {block.language}'
        for command in block.commands if block.language == 'bash' else ():
            assert re.match(r'python -m (synseg_jax|configs)\.', command), f'{page.name} cannot run: {command}'


def test_blocks_are_read_as_they_are_written(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        '# A head, *here*\n\n[x](a.md#b) ![y](z.png) [w](https://x.org) `objective/none.py` `x.csv`\n\n'
        '```bash\npython -m a --b=c \\\n    --d  # why\n# nothing\n```\n\n```sh\nbash launch/local.sh 2 --e=f\n```\n'
    )
    bash, sh = documents.blocks(page)
    assert bash.commands == ['python -m a --b=c --d'] and sh.language == 'sh'
    assert [*documents.calls(page)] == [('a', ['--b=c', '--d']), ('synseg_jax.main', ['--e=f'])]
    assert [*documents.links(page)] == [(tmp_path / 'a.md', 'b'), (tmp_path / 'z.png', '')]
    assert documents.anchors(page) == {'a-head-here'} and documents.mentions(page) == {'objective/none.py'}


def test_citation():
    """The fields that the Citation File Format 1.2 requires, and the version of the package."""
    cited = pytest.importorskip('yaml').safe_load((documents.ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert cited['cff-version'] == '1.2.0' and str(cited['version']) == synseg_jax.__version__ and cited['message']
    assert len(cited['references']) == 5
    for work in (cited, *cited['references']):
        assert work['title'] and all('name' in one or 'family-names' in one for one in work['authors'])
        assert work['type'] in ('software', 'article', 'conference-paper')


def test_commands_are_made_small(monkeypatch):
    """Also where a system sets a length of its own, and at the size that `prepare` writes."""
    monkeypatch.chdir(documents.ROOT)
    added = run_documents.smaller('main', ['--config=configs/quickstart.py', '--workdir=x'])
    wanted = ('train.steps=2', 'systems.source_only.train.steps=2', 'phantom.sets.source.subjects=4')
    assert {f'--config.{field}' for field in wanted} <= {*added}
    assert '--config.data.size=(16, 16)' in run_documents.smaller('prepare', ['--config=configs/base.py'])
    assert '--size=32' in run_documents.smaller('benchmark', ['--size=256'])
    assert run_documents.smaller('predict', ['--workdir=x']) == []
