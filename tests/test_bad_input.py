"Whatever is wrong with the input is an error that names the file and the place, before anything is trained or written."
import re
import zipfile

import numpy as np
import pytest

from mnist_kaggle.cli.runs import plan_runs
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import DataError
from mnist_kaggle.data.parse import find_fault, parse_bytes

LINES = {'train.csv': 101, 'test.csv': 21, 'sample_submission.csv': 21}


def change_line(folder, name, number, change):
    "Apply a function to one line, counted from 1, of a file."
    lines = (folder/name).read_text().splitlines()
    lines[number - 1] = change(lines[number - 1])
    (folder/name).write_text('\n'.join(lines) + '\n')


def change_cell(folder, name, number, column, value):
    def change(line):
        cells = line.split(',')
        cells[column] = value
        return ','.join(cells)
    change_line(folder, name, number, change)


def swap_first_two(line):
    first, second, *rest = line.split(',')
    return ','.join([second, first, *rest])


def refuse(folder, *words):
    "Reading must fail, with a message that has all the words."
    with pytest.raises(DataError) as error: plan_runs('linear', str(folder), 'first80')
    for word in words: assert word in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize('name', LINES)
def test_missing_file(small, name):
    (small/name).unlink()
    refuse(small, 'lacks', name)


@pytest.mark.parametrize('name', LINES)
def test_empty_file(small, name):
    (small/name).write_bytes(b'')
    refuse(small, name, 'is empty')


@pytest.mark.parametrize('name', LINES)
def test_header_without_rows(small, name):
    (small/name).write_text((small/name).read_text().splitlines()[0] + '\n')
    refuse(small, name, 'no rows')


@pytest.mark.parametrize('name', LINES)
def test_truncated_last_row(small, name):
    change_line(small, name, LINES[name], lambda line: line.rpartition(',')[0])
    refuse(small, name, f'line {LINES[name]}', 'cut short')


@pytest.mark.parametrize('name', LINES)
def test_row_too_long(small, name):
    change_line(small, name, 5, lambda line: line + ',0')
    refuse(small, name, 'line 5')


def test_every_row_too_long(small):
    header, *rows = (small/'test.csv').read_text().splitlines()
    (small/'test.csv').write_text('\n'.join([header, *(row + ',0' for row in rows)]) + '\n')
    refuse(small, 'test.csv', 'line 2', '785')


@pytest.mark.parametrize('name', LINES)
def test_wrong_header(small, name):
    change_line(small, name, 1, lambda line: line.rpartition(',')[0] + ',other')
    refuse(small, name, "'other'")


@pytest.mark.parametrize('name', LINES)
def test_shuffled_header(small, name):
    change_line(small, name, 1, swap_first_two)
    refuse(small, name, 'column 1')


@pytest.mark.parametrize('name', ['train.csv', 'test.csv'])
@pytest.mark.parametrize('value', ['', '256', '-1', '3.5', 'word', ' 7', '+7', '07', '1e1', '0x1', 'nan', '٣', '9'*5000])
def test_bad_pixel(small, name, value):
    change_cell(small, name, 7, 100, value)
    column = 'pixel99' if name == 'train.csv' else 'pixel100'
    refuse(small, name, 'line 7', f'column {column}', repr(value[:40]))


@pytest.mark.parametrize('value', ['10', '255'])
def test_bad_label(small, value):
    change_cell(small, 'train.csv', 9, 0, value)
    refuse(small, 'train.csv', 'line 9', 'label', value)


@pytest.mark.parametrize('value', ['', '-1', '1.0', 'two'])
def test_label_that_is_no_whole_number(small, value):
    change_cell(small, 'train.csv', 9, 0, value)
    refuse(small, 'train.csv', 'line 9', 'label', repr(value))


def test_test_file_with_a_label_column(small):
    (small/'test.csv').write_bytes((small/'train.csv').read_bytes())
    refuse(small, 'test.csv', 'label column')


def test_sample_submission_too_short(small):
    lines = (small/'sample_submission.csv').read_text().splitlines(keepends=True)
    (small/'sample_submission.csv').write_text(''.join(lines[:-1]))
    refuse(small, 'sample_submission.csv', '19 ids', '20 rows')


@pytest.mark.parametrize('value', ['0', '21', '5'])
def test_sample_submission_with_a_wrong_id(small, value):
    change_cell(small, 'sample_submission.csv', 4, 0, value)
    refuse(small, 'sample_submission.csv', 'id 3 is missing')


@pytest.mark.parametrize('value', ['10', '-1'])
def test_sample_submission_with_a_wrong_label(small, value):
    change_cell(small, 'sample_submission.csv', 4, 1, value)
    refuse(small, 'sample_submission.csv', 'line 4', value)


def zip_of(folder, path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in LINES:
            if (folder/name).exists(): archive.write(folder/name, name)
    return path


def test_zip(small, tmp_path):
    assert (read_data(zip_of(small, tmp_path/'good.zip')).images == read_data(small).images).all()


@pytest.mark.parametrize('share', [0.01, 0.5, 0.999])
def test_zip_cut_short(small, tmp_path, share):
    path = zip_of(small, tmp_path/'cut.zip')
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    refuse(path, 'cut.zip', 'not a complete zip')


def test_zip_damaged_inside(small, tmp_path):
    path = zip_of(small, tmp_path/'damaged.zip')
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    refuse(path, 'damaged.zip/train.csv', 'is damaged')


def test_zip_that_lacks_a_file(small, tmp_path):
    (small/'test.csv').unlink()
    refuse(zip_of(small, tmp_path/'two.zip'), 'two.zip', 'lacks test.csv')


@pytest.mark.parametrize('member', ['../outside.csv', '/etc/outside.csv', 'a/../../outside.csv', '..\\outside.csv', 'C:\\outside.csv'])
def test_zip_with_a_member_that_points_outside(small, tmp_path, member):
    path = zip_of(small, tmp_path/'outside.zip')
    with zipfile.ZipFile(path, 'a') as archive: archive.writestr(member, 'x')
    refuse(path, 'outside.zip', 'points outside', repr(member))


def test_files_that_were_packed_once_more_or_renamed(small, tmp_path):
    expected = read_data(small).images
    with zipfile.ZipFile(tmp_path/'deep.zip', 'w') as archive:
        for name in LINES: archive.write(small/name, f'digit-recognizer/{name.title()}')
        archive.writestr('__MACOSX/digit-recognizer/._train.csv', 'x')
    assert (read_data(tmp_path/'deep.zip').images == expected).all()
    (small/'train.csv').rename(small/'Train.CSV')
    assert (read_data(small).images == expected).all()


def test_what_is_there_instead_is_named(small, tmp_path):
    (small/'train.csv').rename(small/'train.csv.gz')
    refuse(small, 'lacks train.csv', 'train.csv.gz', 'Unpack')
    path = zip_of(small, tmp_path/'twice.zip')
    with zipfile.ZipFile(path, 'a') as archive:
        for folder in ('a', 'b'): archive.writestr(f'{folder}/train.csv', 'x')
    refuse(path, 'more than once', 'a/train.csv', 'b/train.csv')
    (tmp_path/'empty').mkdir()
    refuse(tmp_path/'empty', 'it contains nothing')


@pytest.mark.parametrize('name', ['train.csv', 'sample_submission.csv'])
@pytest.mark.parametrize('column', ['', 'Unnamed: 0'])
def test_an_index_column_is_called_that(small, name, column):
    header, *rows = (small/name).read_text().splitlines()
    (small/name).write_text('\n'.join([f'{column},{header}', *(f'{i},{row}' for i, row in enumerate(rows))]) + '\n')
    refuse(small, name, 'index column', 'index=False')


def test_ids_that_begin_at_0(small):
    rows = ''.join(f'{i},0\n' for i in range(20))
    (small/'sample_submission.csv').write_text('ImageId,Label\n' + rows)
    refuse(small, 'sample_submission.csv', 'begin at 0')


def test_path_that_does_not_exist(tmp_path):
    refuse(tmp_path/'nowhere', 'nowhere', 'does not exist')


def test_an_empty_path_is_not_the_search(small):
    refuse('', "'' does not exist")


def test_a_label_behind_empty_lines(small):
    path = small/'train.csv'
    path.write_bytes(path.read_bytes().replace(b'\n', b'\n\n', 3))
    change_cell(small, 'train.csv', 12, 0, '10')
    refuse(small, 'train.csv', 'line 12', "column label: '10'")


def test_zip_packed_in_another_way(small, tmp_path):
    path = zip_of(small, tmp_path/'other.zip')
    content = bytearray(path.read_bytes())
    for signature, offset in ((b'PK\x03\x04', 8), (b'PK\x01\x02', 10)): # each member's own header, and the list of contents
        for found in re.finditer(re.escape(signature), bytes(content)): content[found.start() + offset] = 99
    path.write_bytes(content)
    refuse(path, 'other.zip', 'compressed in an unsupported way')


def test_file_that_is_no_zip(small):
    refuse(small/'train.csv', 'train.csv', 'name the folder')
    (small/'notes.txt').write_text('no zip')
    refuse(small/'notes.txt', 'notes.txt', 'not a complete zip')


def test_the_fast_parser_and_the_one_that_names_the_place_agree():
    "On two thousand rows with one byte changed, both find a fault or neither does, and then the numbers are the right ones."
    random = np.random.default_rng(0)
    for _ in range(2000):
        row = random.integers(0, 256, 6)
        text = bytearray((','.join(map(str, row)) + '\n').encode())
        text[random.integers(len(text) - 1)] = random.choice([*b'0123456789,-. \t\r#"e', 0, 200])
        parsed = parse_bytes(bytes(text), 6)
        fault = find_fault([bytes(text[:-1])], 2, list('abcdef'))
        assert (parsed is None) == (fault is not None), text
        if parsed is not None: assert parsed.tolist() == [[int(cell) for cell in text.decode().split(',')]]


def test_empty_lines_are_passed_over(small):
    expected = read_data(small).images
    path = small/'train.csv'
    path.write_bytes(path.read_bytes().replace(b'\n', b'\n\n', 3) + b'\n\n')
    assert (read_data(small).images == expected).all()


def test_crlf_and_byte_order_mark_are_fine(small, tmp_path):
    expected = read_data(small)
    for name in LINES:
        path = small/name
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'\n', b'\r\n'))
    found = read_data(small)
    assert (found.images == expected.images).all() and (found.labels == expected.labels).all()
    assert (found.test_images == expected.test_images).all() and (found.ids == expected.ids).all()


def test_last_line_without_its_end_is_fine(small):
    expected = read_data(small).images
    path = small/'train.csv'
    path.write_bytes(path.read_bytes().rstrip(b'\n'))
    assert (read_data(small).images == expected).all()


@pytest.mark.parametrize('changes, words', [
    (dict(split='first90'), ['first90']), (dict(split='fold-0-of-5'), ['fold-0-of-5']), (dict(split='fold-1-of-99'), ['rarest class']),
    (dict(model='convnet'), ['convnet', 'conv_quick']), (dict(epochs=0), ['epochs']), (dict(lr=-1.0), ['lr']),
    (dict(seed=-1), ['seed']), (dict(seed=2**64), ['seed']), (dict(threads=10**6), ['threads']), (dict(loss='mse'), ['loss', 'there is no parameter']), (dict(augment='blur'), ['augment', 'blur', 'affine']),
    (dict(norm=True), ['norm', 'conv']), (dict(precision='half'), ['half', 'bfloat16']), (dict(precision='tf32', device='cpu'), ['tf32', 'CUDA', 'single']), (dict(label_smoothing=1.), ['label_smoothing', '1.0']), (dict(optimiser='muon'), ['muon', 'linear']),
    (dict(width=8), ['width', 'linear']), (dict(model='conv_best', width=0), ['width', 'deep_pool']), (dict(epoch=3), ['epoch', 'epochs'])])
def test_wrong_parameter(small, changes, words):
    with pytest.raises(ValueError) as error: plan_runs(**{'model': 'linear', 'data': str(small), 'split': 'first80', **changes})
    for word in words: assert word in str(error.value)


@pytest.mark.parametrize('arguments, words', [
    (['--data', 'nowhere.zip'], ["'nowhere.zip' does not exist"]),
    (['--epoch', '3'], ['no such option: --epoch', '--epochs']),
    (['--epochs', 'ten'], ["'ten'"]),
    (['--time-limit', 'nan'], ['--time-limit', '0<=x<=1000000']),
    (['--time-limit', '-1'], ['--time-limit', '0<=x<=1000000']),
    (['--model', 'convnet'], ['convnet', 'conv_quick']),
    (['--split', 'last20'], ['last20', 'first80'])])
def test_the_command_line_says_it_on_one_screen_and_writes_nothing(command, tmp_path, arguments, words):
    result = command('run', '--out', tmp_path/'runs', *arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert 'Traceback' not in result.stderr and len(result.stderr.splitlines()) < 12
    for word in words: assert word in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_line_names_the_place_in_a_bad_file(command, small):
    change_cell(small, 'train.csv', 7, 100, '256')
    result = command('run', '--data', small, '--out', small.parent/'runs', cwd=small.parent)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert "train.csv: line 7, column pixel99: '256'" in result.stderr
    assert [path.name for path in small.parent.iterdir()] == ['small']
