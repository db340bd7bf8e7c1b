"Bytes that flipped, rows that were cut: damage is an error that names its place, or it changes nothing."
import re
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from mnist_kaggle.data.cache import cache_folder
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import DataError, FILES
from mnist_kaggle.data.parse import parse_csv
from mnist_kaggle.runs.loading import load_run
from mnist_kaggle.runs.record import RESULTS, RecordError, read_record
from mnist_kaggle.runs.run import execute, run_once

EXAMPLES = 1000


def flip(content, place, bit=0):
    "The same bytes, but for one bit."
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1:]


def places(content, n=100): return np.unique(np.linspace(0, len(content) - 1, n).astype(int)).tolist()


def finds(content, mark): return [match.start() for match in re.finditer(re.escape(mark), content)]


def same(a, b): return all((getattr(a, name) == getattr(b, name)).all() for name in ('images', 'labels', 'test_images', 'ids'))


def test_a_damaged_cache(small, count):
    expected, tried = read_data(small), 0
    for name in FILES[:2]:
        cached = cache_folder()/'rows-1'/f'{name}-{expected.sha256[name]}'
        whole = cached.read_bytes()
        for damaged in [flip(whole, place, place % 8) for place in places(whole)] + [whole[:-1], whole[:31], b'', whole + b'0']:
            cached.write_bytes(damaged)
            assert same(read_data(small), expected)
            assert cached.read_bytes() == whole
            tried += 1
    count('parsed rows in the cache: a flipped bit, or cut', tried)


def test_a_damaged_zip(small, count):
    expected = read_data(small)
    archive = small.parent/'digits.zip'
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
        for name in FILES: file.write(small/name, name)
    whole, refused = archive.read_bytes(), 0
    headers = sorted({start + i for mark in (b'PK\x03\x04', b'PK\x01\x02', b'PK\x05\x06') for start in finds(whole, mark) for i in range(46) if start + i < len(whole)})
    damaged = [flip(whole, place, place % 8) for place in places(whole, 600)] + [whole[:place] for place in places(whole, 50)]
    damaged += [flip(whole, place, bit) for place in headers for bit in range(8)]
    for content in damaged:
        archive.write_bytes(content)
        try: assert same(read_data(archive), expected)
        except DataError: refused += 1
    assert refused > 0.5*len(damaged) # the others are in dates and the like
    count('a zip: a flipped bit, or cut', len(damaged))


@pytest.fixture(scope='module')
def run(tmp_path_factory, sample_contents):
    "A complete run, and its parameters."
    folder = tmp_path_factory.mktemp('damaged')
    (folder/'small').mkdir()
    for name, content in sample_contents.items(): (folder/'small'/name).write_bytes(content)
    parameters = {'model': 'linear', 'data': str(folder/'small'), 'epochs': 2, 'batch_size': 16}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder/'cache'))
        execute(parameters, folder/'runs/linear')
    return folder/'runs/linear', parameters


def test_a_damaged_run(run, count):
    folder, tried = run[0], 0
    record = read_record(folder)
    for name in (*RESULTS, 'run.json'):
        whole = (folder/name).read_bytes()
        for damaged in [flip(whole, place, place % 8) for place in places(whole)] + [whole[:-1], b'']:
            (folder/name).write_bytes(damaged)
            try: assert read_record(folder) == record and name == 'run.json' # a flip among blanks, or a brace less, is the same JSON or none
            except RecordError as error: assert name in str(error)
            tried += 1
        (folder/name).unlink()
        with pytest.raises(RecordError, match=name): load_run(folder)
        (folder/name).write_bytes(whole)
    assert read_record(folder) == record
    count("a run's files: a flipped bit, cut, or missing", tried + len(RESULTS) + 1)


def test_a_damaged_run_is_put_aside_and_made_again(run, capsys, count):
    folder, parameters = run
    before = {name: (folder/name).read_bytes() for name in RESULTS}
    for n, name in enumerate(('model.safetensors', 'run.json'), start=1):
        (folder/name).write_bytes(flip((folder/name).read_bytes(), 100))
        run_once(parameters, folder)
        assert f'renamed to {folder}.damaged-{n}' in capsys.readouterr().out
        assert (folder.parent/f'linear.damaged-{n}'/name).exists()
        read_record(folder)
        assert all((folder/name).read_bytes() == content for name, content in before.items() if name != 'history.csv')
    count('a damaged run, and the same command', 2)


def slow_parse(content, columns, limits):
    "What a file says, cell by cell, by Python's own means alone; None where it says nothing that can be right."
    header, *lines = content.decode('latin-1').split('\n')
    lines = [line.removesuffix('\r') for line in lines]
    if header.removesuffix('\r').removeprefix('\xef\xbb\xbf').split(',') != columns: return None
    rows = [line.split(',') for line in lines if line]
    for row in rows:
        if len(row) != len(columns): return None
        for cell, limit in zip(row, limits):
            if not (cell.isascii() and cell.isdecimal()) or str(int(cell)) != cell or int(cell) > limit: return None
    return [[int(cell) for cell in row] for row in rows] or None


@st.composite
def corruptions(draw, content):
    "A valid file with one thing wrong: a bit, a byte, a row, a column, a value."
    lines = content.split(b'\n')
    row = draw(st.integers(1, len(lines) - 2))
    cells = lines[row].split(b',')
    column = draw(st.integers(0, len(cells) - 1))
    kind = draw(st.sampled_from(['bit', 'byte', 'cut', 'row cut', 'row lost', 'column moved', 'column lost', 'column doubled', 'value', 'swapped']))
    place = draw(st.integers(0, len(content) - 1))
    if kind == 'bit': return flip(content, place, draw(st.integers(0, 7)))
    if kind == 'byte': return content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1:]
    if kind == 'cut': return content[:place]
    if kind == 'row cut': lines[row] = lines[row][:draw(st.integers(1, len(lines[row]) - 1))]
    if kind == 'row lost': del lines[row]
    if kind == 'column moved': lines[row] = b','.join([*cells[:column], *cells[column + 1:], cells[column]])
    if kind == 'column lost': lines[row] = b','.join(cells[:column] + cells[column + 1:])
    if kind == 'column doubled': lines[row] = b','.join(cells[:column] + [cells[column]] + cells[column:])
    if kind == 'value':
        cells[column] = draw(st.sampled_from([b'-1', b'256', b'1000', b'3.0', b'', b'nan', b'1e2', b' 7', b'007', b'0x1', b'\xb2', b'99999999999999999999', b'"5"', b'=1+1']))
        lines[row] = b','.join(cells)
    if kind == 'swapped': lines[row], lines[-2] = lines[-2], lines[row]
    return b'\n'.join(lines)


@pytest.mark.parametrize('name', FILES)
def test_any_single_corruption(sample_contents, count, name):
    """A corruption is an error that names the place, or leaves the data as it was. Where it makes another valid file (a digit became another digit,
    a whole row is gone), no reader can know; then the data is exactly what that file says, by a second, slow reader, and its sha256 is another."""
    content = sample_contents[name]
    columns = content.split(b'\n')[0].decode().split(',')
    limits = [{'label': 9, 'Label': 9, 'ImageId': 10**9}.get(column, 255) for column in columns]
    tried = []

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(corruptions(content))
    def corrupted(damaged):
        tried.append(0)
        expected = slow_parse(damaged, columns, limits)
        try: rows = parse_csv(BytesIO(damaged), name, name)
        except DataError as error:
            assert expected is None
            assert str(error).startswith(name) and any(word in str(error) for word in ('line ', 'header', 'empty', 'no rows', 'label column'))
        else: assert rows.tolist() == expected

    corrupted()
    count(f'{name}: one thing corrupted (hypothesis)', len(tried))


def test_the_data_of_a_corrupted_folder_is_never_the_old_one(small, count):
    "Through the cache, too: another file is never given the rows of the one before."
    before = read_data(small)
    whole = (small/'train.csv').read_bytes()
    tried = 0
    for place in places(whole, 200):
        (small/'train.csv').write_bytes(flip(whole, place))
        try: after = read_data(small)
        except DataError: pass
        else: assert after.sha256['train.csv'] != before.sha256['train.csv'] and not same(after, before)
        tried += 1
    count('train.csv: a flipped bit, with the old rows in the cache', tried)
