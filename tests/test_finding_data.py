"Which place the competition's files are taken from, and that nothing is written beside the user's."
import shutil
import subprocess
import sys

import pytest

from mnist_kaggle.data import cache, files, parse, places as searched, writing
from mnist_kaggle.data.cache import cache_folder
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import DataError
from mnist_kaggle.data.places import find_data


@pytest.fixture
def places(small, tmp_path, monkeypatch):
    "Both mounts and the cache, none of them there yet, and a function that fills one."
    mounts = (tmp_path/'input/competitions/digit-recognizer', tmp_path/'input/digit-recognizer')
    monkeypatch.setattr(searched, 'INPUT', tmp_path/'input')
    monkeypatch.setattr(cache, 'user_cache_path', lambda name: tmp_path/'cache')
    places = {'new mount': mounts[0], 'old mount': mounts[1], 'cache': tmp_path/'cache/digit-recognizer'}
    return places, lambda name: shutil.copytree(small, places[name])


def test_places_in_their_order(places, small, tmp_path, monkeypatch, capsys):
    places, fill = places
    for name in ('cache', 'old mount', 'new mount'):
        fill(name)
        assert find_data() == places[name]
    monkeypatch.setenv('MNIST_KAGGLE_DATA', str(small))
    assert find_data() == small
    assert find_data('sample') == tmp_path/'cache/sample'
    assert capsys.readouterr().out == ''


def test_a_zip_in_the_cache(places, small):
    folder = places[0]['cache']
    shutil.make_archive(folder, 'zip', small)
    assert find_data() == folder.with_suffix('.zip')


@pytest.mark.parametrize('name', ['new mount', 'cache'])
def test_an_incomplete_place_is_passed_over_aloud(places, capsys, name):
    places, fill = places
    fill('old mount')
    fill(name)
    (places[name]/'test.csv').unlink()
    expected = places['old mount']
    if name == 'cache': shutil.rmtree(expected); expected = cache_folder()/'sample'
    assert find_data() == expected
    assert f'{places[name]} is skipped: it lacks test.csv' in capsys.readouterr().out


@pytest.mark.parametrize('place', ['somebody/digit-recognizer', 'digit-recognizer/digit-recognizer', 'datasets/somebody/mnist/data', 'competitions/digit-recognizer/files'])
@pytest.mark.parametrize('packed', [False, True])
def test_a_competition_mounted_elsewhere(places, small, tmp_path, place, packed):
    folder = tmp_path/'input'/place
    other = tmp_path/'input/another-competition'
    other.mkdir(parents=True)
    for name in files.FILES: (other/name).write_text('id,label\n1,2\n') # it has the files' names, and other columns
    (tmp_path/'input/notes.zip').write_bytes(b'no zip')
    if packed: shutil.make_archive(folder, 'zip', small)
    else: shutil.copytree(small, folder)
    assert find_data() == find_data('competition') == (folder.with_suffix('.zip') if packed else folder)


def test_of_several_the_competitions_own_bytes_come_first(places, small, tmp_path, monkeypatch, capsys):
    shutil.copytree(small, tmp_path/'input/a-remix/digits')
    (tmp_path/'input/a-remix/digits/train.csv').write_bytes((small/'train.csv').read_bytes().rpartition(b'\n')[0].rpartition(b'\n')[0] + b'\n')
    shutil.copytree(small, tmp_path/'input/z/copy')
    (tmp_path/'input/loop').symlink_to(tmp_path/'input/loop')
    for name, digest in files.data_sha256(small).items(): monkeypatch.setitem(files.COMPETITION_SHA256, name, digest)
    assert find_data() == tmp_path/'input/z/copy' and 'Using the data in' in capsys.readouterr().out


def test_the_sample_is_not_the_competition(places):
    with pytest.raises(DataError, match='not found'): find_data('competition')
    places, fill = places
    fill('cache')
    assert find_data('competition') == places['cache']


def test_the_sample_is_the_last_place_and_said(places, capsys):
    assert find_data() == cache_folder()/'sample'
    assert '*** NO COMPETITION DATA FOUND' in capsys.readouterr().out


@pytest.mark.parametrize('by', ['argument', 'variable'])
def test_what_was_given_is_used_or_is_an_error(places, monkeypatch, by):
    places[1]('new mount')
    if by == 'variable': monkeypatch.setenv('MNIST_KAGGLE_DATA', 'nowhere')
    with pytest.raises(DataError, match="'nowhere' does not exist"): find_data('nowhere' if by == 'argument' else None)


def test_a_damaged_sample_is_made_again(places):
    source = find_data('sample')
    whole = (source/'train.csv').read_bytes()
    (source/'train.csv').write_bytes(whole.replace(b'0', b'1', 1))
    assert (find_data('sample')/'train.csv').read_bytes() == whole


def test_the_second_read_parses_nothing(small, monkeypatch):
    first = read_data(small)
    monkeypatch.setattr(parse, 'parse_bytes', lambda *args: pytest.fail('a big file was parsed again'))
    second = read_data(small)
    assert (first.images == second.images).all() and (first.test_images == second.test_images).all()
    assert sorted(path.name for path in small.iterdir()) == sorted(files.FILES)


@pytest.mark.parametrize('damage', [lambda b: b[:-1], lambda b: b'', lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: bytes([b[0] ^ 1]) + b[1:]])
def test_a_damaged_cache_is_noticed_and_rebuilt(small, capsys, damage):
    expected = read_data(small)
    cached = cache_folder()/'rows-1'/f"train.csv-{expected.sha256['train.csv']}"
    whole = cached.read_bytes()
    cached.write_bytes(damage(whole))
    assert (read_data(small).images == expected.images).all()
    assert 'is damaged and will be written again' in capsys.readouterr().out
    assert cached.read_bytes() == whole


def test_a_changed_file_does_not_meet_the_old_arrays(small):
    before = read_data(small)
    lines = (small/'train.csv').read_text().splitlines()
    lines[1] = ('8' if lines[1][0] != '8' else '3') + lines[1][1:]
    (small/'train.csv').write_text('\n'.join(lines) + '\n')
    after = read_data(small)
    assert after.labels[0] != before.labels[0] and (after.labels[1:] == before.labels[1:]).all()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    writing.write_file(tmp_path/'file', b'old')
    monkeypatch.setattr(writing.os, 'replace', lambda *paths: (_ for _ in ()).throw(OSError('no')))
    with pytest.raises(OSError): writing.write_file(tmp_path/'file', b'new')
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [('file', b'old')]


def test_reading_data_needs_none_of_the_heavy_libraries():
    heavy = ['torch', 'torchvision', 'fastai', 'matplotlib', 'sklearn', 'papermill']
    program = f"import sys, mnist_kaggle.data.digits; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_the_command_line_starts_without_them_too():
    program = "import sys, mnist_kaggle.cli.main; print([name for name in ['torch', 'fastai', 'papermill'] if name in sys.modules])"
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True).stdout.strip() == '[]'
