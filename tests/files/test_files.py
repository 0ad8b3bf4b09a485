import csv
import json
import os
import stat
import threading

import pytest

from synseg_jax.errors import InputError
from synseg_jax.files import atomic_file, atomic_folder, exclusive_lock, read_csv, read_json, write_csv, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_is_strict_and_whole_or_absent(tmp_path):
    path = tmp_path / 'new' / 'summary.json'
    write_json(path, {'mean': 0.5, 'case': 'Jäger'})
    assert json.loads(path.read_text(encoding='utf-8')) == {'mean': 0.5, 'case': 'Jäger'}
    with pytest.raises(ValueError):
        write_json(path, {'mean': float('nan')})
    assert read_json(path) == {'mean': 0.5, 'case': 'Jäger'}
    assert names(path.parent) == ['summary.json']


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / 'bom.json').write_text('{"a": 1}', encoding='utf-8-sig')
    assert read_json(tmp_path / 'bom.json') == {'a': 1}


@pytest.mark.parametrize('content', [b'', b'{', b'[' * 100_000, b'"\xff"'])
def test_what_is_no_json_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(InputError, match=r'a\.json: invalid JSON \(.+\); train again'):
        read_json(tmp_path / 'a.json', 'train again')


def test_csv_cells_are_no_formulas(tmp_path):
    path = tmp_path / 'cases.csv'
    rows = [{'case': text, 'dice': -0.5} for text in ('=1+1', '+a', '-b', '@c', 'd=e')]
    write_csv(path, rows)
    assert [row['case'] for row in csv.DictReader(path.open())] == ["'=1+1", "'+a", "'-b", "'@c", 'd=e']
    assert {row['dice'] for row in csv.DictReader(path.open())} == {'-0.5'}


def test_csv_is_read_and_written_again_without_a_change(tmp_path):
    path, again = tmp_path / 'cases.csv', tmp_path / 'again.csv'
    write_csv(
        path, [{'case': text, 'mL': 12.5, 'dice': None} for text in ('=1+1', "'quoted'", "'", 'a, "b"', '\udcff')]
    )
    rows = read_csv(path)
    assert [row['case'] for row in rows] == ['=1+1', "'quoted'", "'", 'a, "b"', '\udcff']
    assert rows[0] == {'case': '=1+1', 'mL': '12.5', 'dice': ''}
    write_csv(again, rows)
    assert again.read_bytes() == path.read_bytes()


def test_csv_leaves_out_what_is_no_number_and_has_columns_without_rows(tmp_path):
    path = tmp_path / 'cases.csv'
    write_csv(path, [{'case': 'one', 'dice': float('nan'), 'iou': None}])
    assert path.read_text().split() == ['case,dice,iou', 'one,,']
    write_csv(path, [], ('case', 'dice'))
    assert path.read_text().split() == ['case,dice']


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'cases.csv'
    path.write_text('old')
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'old'
    assert names(tmp_path) == ['cases.csv']


def test_a_temporary_file_keeps_the_suffix_and_the_permissions_of_any_file(tmp_path):
    (tmp_path / 'plain').write_text('')
    with atomic_file(tmp_path / f'{"long" * 60}.nii.gz') as temporary:
        assert temporary.name.endswith('.nii.gz')
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_links_at_the_place_of_a_file_are_replaced_not_followed(tmp_path):
    (tmp_path / 'theirs').write_text('theirs')
    (tmp_path / 'out').symlink_to(tmp_path / 'theirs')
    write_json(tmp_path / 'out', {})
    assert (tmp_path / 'theirs').read_text() == 'theirs'
    assert not (tmp_path / 'out').is_symlink()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    for suffix in ('partial', 'old'):  # whatever is called so is the user's
        (tmp_path / f'out.{suffix}').mkdir()
        (tmp_path / f'out.{suffix}' / 'theirs').write_text('')
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / 'out') as folder:
        (folder / 'a').write_text('')
        raise RuntimeError
    assert names(tmp_path) == ['out.old', 'out.partial']
    with atomic_folder(tmp_path / 'out') as folder:
        (folder / 'a').write_text('')
        assert names(tmp_path)[1:] == ['out.old', 'out.partial']
    assert names(tmp_path / 'out') == ['a']
    assert names(tmp_path / 'out.old') == names(tmp_path / 'out.partial') == ['theirs']


def test_a_folder_replaces_another_only_where_that_is_wanted(tmp_path):
    (tmp_path / 'out').mkdir()
    with atomic_folder(tmp_path / 'out') as folder:  # an empty one may go
        (folder / 'a').write_text('')
    with pytest.raises(InputError, match='out: exists and is not empty'), atomic_folder(tmp_path / 'out') as folder:
        (folder / 'b').write_text('')
    assert names(tmp_path / 'out') == ['a']
    with atomic_folder(tmp_path / 'out', replace=True) as folder:
        (folder / 'b').write_text('')
    assert names(tmp_path) == ['out']
    assert names(tmp_path / 'out') == ['b']


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left = tmp_path / '.synseg-01234567-left'
    left.mkdir()
    (left / 'half').write_text('')
    (tmp_path / '.synseg-01234567-young').write_text('')
    (tmp_path / '.synseg-theirs').write_text('')
    with atomic_file(tmp_path / 'busy') as busy:
        for path in (left, busy, tmp_path / '.synseg-theirs'):
            os.utime(path, (0, 0))
        write_json(tmp_path / 'out', {})
    assert names(tmp_path) == ['.synseg-01234567-young', '.synseg-theirs', 'busy', 'out']


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    held, log, waited = threading.Event(), [], threading.Event()

    def other():
        held.wait()
        with exclusive_lock(tmp_path / '.lock', waited.set):
            log.append('other')

    thread = threading.Thread(target=other)
    thread.start()
    with exclusive_lock(tmp_path / '.lock'):
        held.set()
        assert waited.wait(10)
        log.append('first')
    thread.join()
    assert log == ['first', 'other']
    assert names(tmp_path) == []


def test_who_waits_for_a_lock_may_give_up(tmp_path):
    def give_up():
        raise InterruptedError

    with exclusive_lock(tmp_path / '.lock'):
        with pytest.raises(InterruptedError), exclusive_lock(tmp_path / '.lock', give_up):
            pass


def test_a_link_is_no_lock(tmp_path):
    (tmp_path / '.lock').symlink_to(tmp_path / 'theirs')
    with pytest.raises(InputError, match='symbolic link; remove it'), exclusive_lock(tmp_path / '.lock'):
        pass
    assert names(tmp_path) == ['.lock']


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'device'])
def test_json_is_read_from_files_alone(tmp_path, kind):
    """A pipe would be waited for, and a device never ends."""
    path = tmp_path / 'dataset.json'
    {'folder': path.mkdir, 'pipe': lambda: os.mkfifo(path), 'device': lambda: path.symlink_to('/dev/zero')}[kind]()
    with pytest.raises(InputError, match='dataset.json: not a regular file; repair it'):
        read_json(path, 'repair it')
