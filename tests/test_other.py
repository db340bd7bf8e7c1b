"Other competitions: what their files say is what everything goes by, and what does not fit is an error before anything is trained."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from others import KANNADA_ZIP, WORDS, letters, pack, shapes, write
from owning import write_own
from torch import nn

from mnist_kaggle import class_means, confusion_matrix, get_learner, get_logits, get_recipe, load_run, nearest_mean, predict, read_data, show_digits, train
from mnist_kaggle.cli.runs import plan_runs
from mnist_kaggle.data import cache, places as searched
from mnist_kaggle.data.competition import Competition, DIGIT_RECOGNIZER
from mnist_kaggle.data.files import DataError
from mnist_kaggle.data.places import find_data
from mnist_kaggle.results.reading import read_submission
from mnist_kaggle.results.submission import SubmissionError, check_submission, make_submission
from mnist_kaggle.runs.record import read_record
from mnist_kaggle.training.net import NetError, make_net

NET = 'def make_net(competition): return nn.Sequential(nn.Flatten(), nn.Linear(competition.size, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, len(competition.classes)))'


@pytest.fixture(scope='session')
def kannada():
    if not KANNADA_ZIP.exists(): pytest.skip('the files of Kannada MNIST are not beside the checkout, in shared/kannada/kannada-mnist.zip')
    return KANNADA_ZIP


@pytest.fixture(scope='module')
def other(request, tmp_path_factory):
    "The place of one of the other competitions."
    if request.param == 'kannada': return request.getfixturevalue('kannada')
    return write({'letters': letters, 'shapes': shapes}[request.param](), tmp_path_factory.mktemp(request.param))


@pytest.fixture
def alphabet(tmp_path): return write(letters(), tmp_path/'letters')


@pytest.fixture
def bars(tmp_path): return write(shapes(), tmp_path/'shapes')


def test_what_the_files_say(alphabet, bars, kannada):
    data = read_data(alphabet)
    assert data.competition == Competition(32, tuple(WORDS), None, 'word', 'px', 1, 'name', 'name', 'word') and data.official is None
    frame = pd.read_csv(alphabet/'train.csv')
    assert data.names(data.labels).tolist() == frame['word'].tolist() and (data.images == frame.drop(columns='word').to_numpy()).all()
    test = pd.read_csv(alphabet/'test.csv')
    assert data.test_ids.tolist() == test.name.tolist() and (data.test_images == test.drop(columns='name').to_numpy()).all()
    assert data.ids.tolist() == pd.read_csv(alphabet/'sample_submission.csv').name.tolist()
    data = read_data(bars)
    assert data.competition == Competition(20, (1, 2, 3, 4, 5), None, 'class', 'pixel', 1, None, 'Id', 'class')
    assert data.test_ids.tolist() == list(range(100, 200)) and data.ids.tolist() == pd.read_csv(bars/'sample_submission.csv').Id.tolist()
    data = read_data(kannada)
    assert data.competition == Competition(28, tuple(range(10)), None, test_id='id') and data.images.shape == (8000, 784) and data.test_images.shape == (2000, 784)


def test_the_second_read_parses_nothing(alphabet, monkeypatch):
    from mnist_kaggle.data import tables
    first = read_data(alphabet)
    monkeypatch.setattr(tables, 'parse_table', None)
    again = read_data(alphabet)
    assert (first.images == again.images).all() and (first.labels == again.labels).all() and (first.test_ids == again.test_ids).all()


@pytest.mark.parametrize('change', [lambda text: text.replace(b'\n', b'\r\n'), lambda text: b'\xef\xbb\xbf' + text, lambda text: text.rstrip(b'\n'), lambda text: text.replace(b'\n', b'\n\n')])
def test_line_ends_and_marks_change_nothing(alphabet, change):
    first = read_data(alphabet)
    for path in alphabet.iterdir(): path.write_bytes(change(path.read_bytes()))
    again = read_data(alphabet)
    assert (first.images == again.images).all() and (first.labels == again.labels).all() and (first.ids == again.ids).all()


def recode(folder, name, change):
    "Apply a function to the lines of a file, each a list of cells."
    lines = [line.split(',') for line in (folder/name).read_text().splitlines()]
    (folder/name).write_text('\n'.join(map(','.join, change(lines))) + '\n')


def refuse(folder, *words, model='linear', competition=None, split='first80'):
    with pytest.raises(ValueError) as error: plan_runs(model, str(folder), split, competition=competition)
    for word in words: assert word in str(error.value), error.value
    assert len(str(error.value)) < 400 and '\n' not in str(error.value)


def header(change): return lambda lines: [change(list(lines[0])), *lines[1:]]


def cell(row, column, value): return lambda lines: [[value if (i, j) == (row, column % len(line)) else old for j, old in enumerate(line)] for i, line in enumerate(lines)]


def swap(names): return [names[1], names[0], *names[2:]]


BAD = { # of the letters: 1024 pixels and a word; a name and 1024 pixels; a name and a word
    'no square': ({'train.csv': lambda lines: [line[1:] for line in lines]}, 'train.csv', "'px2'", "'px1'"),
    'a side too small': ({'train.csv': lambda lines: [line[:144] + line[-1:] for line in lines], 'test.csv': lambda lines: [line[:145] for line in lines]}, 'train.csv', '144 pixel columns', 'a side from 16 to 64'),
    '1023 pixels': ({'train.csv': lambda lines: [line[:1023] + line[-1:] for line in lines]}, 'train.csv', '1,023 pixel columns'),
    'pixels out of order': ({'train.csv': header(swap)}, 'train.csv', "expected 'px1' as column 1", "found 'px2'"),
    'a pixel twice': ({'train.csv': header(lambda names: [names[0], names[0], *names[2:]])}, 'train.csv', "'px1' 2 times"),
    'two prefixes': ({'train.csv': header(lambda names: [*names[:7], 'pixel8', *names[8:]])}, 'train.csv', "expected 'px8' as column 9", "found 'px9'"),
    'numbers with zeros': ({'train.csv': header(lambda names: [f'px{i:04}' for i in range(1024)] + ['word'])}, 'train.csv', "'px0000'", "expected 'px0' as column 1"),
    'a header in quotes': ({'train.csv': header(lambda names: [f'"{name}"' for name in names])}, 'train.csv', 'in quotes'),
    'rows and columns': ({'train.csv': header(lambda names: [f'{i // 32}x{i % 32}' for i in range(1024)] + ['word'])}, 'train.csv', 'one prefix and a number'),
    'half of another prefix': ({'train.csv': header(lambda names: [name.replace('px', 'qx') if i < 400 else name for i, name in enumerate(names)])}, 'train.csv', "'px401'"),
    'no label': ({'train.csv': lambda lines: [line[:-1] for line in lines]}, 'train.csv', 'no column of labels'),
    'an id in train.csv': ({'train.csv': lambda lines: [[f'id{i}', *line] for i, line in enumerate(lines)]}, 'train.csv', "'id0', 'word'", 'besides its pixels'),
    'an index column': ({'train.csv': lambda lines: [['' if i == 0 else str(i), *line] for i, line in enumerate(lines)]}, 'train.csv', 'index column'),
    'a label among the pixels': ({'train.csv': lambda lines: [[*line[:5], line[-1], *line[5:-1]] for line in lines]}, 'train.csv', "'word' among its pixels"),
    'other columns in test.csv': ({'test.csv': header(lambda names: [*names[:-1], 'px1025'])}, 'test.csv', "'px1025'", "'px1024'"),
    'fewer columns in test.csv': ({'test.csv': lambda lines: [line[:-1] for line in lines]}, 'test.csv', 'nothing', "'px1024'"),
    'labels in test.csv': ({'test.csv': lambda lines: [[*line, 'word' if i == 0 else 'alpha'] for i, line in enumerate(lines)]}, 'test.csv', "label column, 'word'"),
    'a class that train.csv lacks': ({'sample_submission.csv': cell(3, 1, 'aleph')}, 'sample_submission.csv', 'line 4', "'aleph'", '26 classes'),
    'three columns in the sample': ({'sample_submission.csv': lambda lines: [[*line, '0'] for line in lines]}, 'sample_submission.csv', '3 columns'),
    'a label with a blank': ({'train.csv': cell(4, -1, 'al pha')}, 'train.csv', 'line 5', 'column word', "'al pha'"),
    'a label that is blank': ({'train.csv': cell(4, -1, '')}, 'train.csv', 'line 5', 'column word', "''"),
    'a label with a point': ({'train.csv': cell(4, -1, '1.0')}, 'train.csv', 'line 5', 'column word', "'1.0'"),
    'labels of two kinds': ({'train.csv': cell(4, -1, '7')}, 'train.csv', 'mixes integers and words', "'7' in line 5"),
    'one class': ({'train.csv': lambda lines: [lines[0], *([*line[:-1], 'alpha'] for line in lines[1:])], 'sample_submission.csv': lambda lines: lines}, 'train.csv', "every label is 'alpha'"),
    'more than a hundred': ({'train.csv': lambda lines: [lines[0], *([*line[:-1], f'w{i % 101}'] for i, line in enumerate(lines[1:]))]}, 'train.csv', '101 classes'),
    'an id that is blank': ({'test.csv': cell(2, 0, '')}, 'test.csv', 'line 3', 'column name', "''"),
    'an id with a point': ({'sample_submission.csv': cell(2, 0, '7.0')}, 'sample_submission.csv', 'line 3', 'column name', "'7.0'"),
    'an id twice in test.csv': ({'test.csv': lambda lines: [*lines[:5], [lines[4][0], *lines[5][1:]], *lines[6:]]}, 'test.csv', '2 times'),
    'an id twice in the sample': ({'sample_submission.csv': lambda lines: [*lines[:5], lines[4], *lines[6:]]}, 'sample_submission.csv', '2 times'),
    'an id that test.csv lacks': ({'sample_submission.csv': cell(2, 0, 'aaa')}, 'sample_submission.csv', "aaa is not in test.csv"),
    'too few ids': ({'sample_submission.csv': lambda lines: lines[:-1]}, 'sample_submission.csv', '155 ids', '156 rows'),
    'a pixel of 256': ({'train.csv': cell(7, 99, '256')}, 'train.csv', 'line 8', 'column px100', "'256'"),
    'a pixel that is a word': ({'test.csv': cell(7, 100, 'dark')}, 'test.csv', 'line 8', 'column px100', "'dark'"),
    'a row cut short': ({'train.csv': lambda lines: [*lines[:-1], lines[-1][:500]]}, 'train.csv', 'cut short'),
    'a header alone': ({'train.csv': lambda lines: lines[:1]}, 'train.csv', 'no rows'),
    'an empty file': ({'train.csv': lambda lines: [['']]}, 'train.csv', 'is empty'),
    'no pixels at all': ({'train.csv': lambda lines: [['word'], *([line[-1]] for line in lines[1:])]}, 'train.csv', 'no pixel columns'),
}

@pytest.mark.parametrize('bad', BAD)
def test_what_does_not_fit_is_named(alphabet, bad):
    changes, *words = BAD[bad]
    for name, change in changes.items(): recode(alphabet, name, change)
    refuse(alphabet, *words)


def test_a_class_without_rows_to_train_on(bars):
    "All rows of one class are among the last fifth; and five folds want five rows of each."
    recode(bars, 'train.csv', lambda lines: [lines[0], *([('4' if line[0] == '5' else line[0]), *line[1:]] for line in lines[1:-3]), *(['5', *line[1:]] for line in lines[-3:])])
    refuse(bars, 'column class', 'class 5', "'first80'")
    refuse(bars, 'fold-1-of-5', '3 rows', split='fold-1-of-5')


def test_rows_that_are_sorted(bars):
    recode(bars, 'train.csv', lambda lines: [*lines[:-80], *(['5', *line[1:]] for line in lines[-80:])])
    refuse(bars, 'all rows to validate on are of class 5', "'first80'", 'fold-1-of-5')
    assert plan_runs('linear', str(bars), 'fold-1-of-5')


def test_labels_in_another_encoding(alphabet):
    "Two letters that UTF-8 does not know are not one class."
    for old, new in (('alpha', 'é'), ('bravo', 'è')): (alphabet/'train.csv').write_bytes((alphabet/'train.csv').read_bytes().replace(old.encode(), new.encode('latin-1')))
    refuse(alphabet, 'train.csv', 'column word', 'is not UTF-8')
    recode(alphabet, 'sample_submission.csv', header(lambda names: [names[0], 'NAME']))
    (alphabet/'sample_submission.csv').write_bytes((alphabet/'sample_submission.csv').read_bytes().replace(b'NAME', b'm\xf6t'))
    refuse(alphabet, 'sample_submission.csv', 'is not UTF-8')


def test_labels_that_begin_with_0(bars):
    recode(bars, 'train.csv', lambda lines: [lines[0], *([f'0{line[0]}', *line[1:]] for line in lines[1:])])
    recode(bars, 'sample_submission.csv', lambda lines: [lines[0], *([line[0], '01'] for line in lines[1:])])
    assert read_data(bars).competition.classes == ('01', '02', '03', '04', '05')


def test_ids_in_another_order_are_told(bars, capsys):
    read_data(bars)
    assert 'its rows are numbered 100 to 199' in capsys.readouterr().out


def near(small):
    "Files that are nearly Digit Recognizer's."
    recode(small, 'sample_submission.csv', lambda lines: [['Id', 'Label'], *lines[1:]])
    return small


def test_what_looks_like_digit_recognizer_and_is_not(small):
    refuse(near(small), "as column 1 of the header, found 'Id'", 'name it by --competition')
    data = read_data(small, 'my-class')
    assert data.competition.id == 'Id' and data.competition.slug == 'my-class' and len(data.competition.classes) == 10


def test_ids_that_test_csv_has_in_another_order(small):
    "The names, the classes and the ids of Digit Recognizer, and a column of ids in test.csv that number the rows otherwise."
    ids = np.random.default_rng(0).permutation(20) + 1
    recode(near(small), 'test.csv', lambda lines: [['Id', *lines[0]], *([str(i), *line] for i, line in zip(ids, lines[1:]))])
    data = read_data(small, 'my-class')
    logits = torch.eye(10)[np.arange(20) % 10]
    assert make_submission(logits, data).set_index('Id').Label.loc[ids].tolist() == (np.arange(20) % 10).tolist()


def test_a_net_that_is_given_the_competition(alphabet):
    data = read_data(alphabet)
    def maker(competition, width=8): return nn.Sequential(nn.Flatten(), nn.Linear(competition.size, width), nn.Linear(width, len(competition.classes)))
    recipe = get_recipe('linear', 499, epochs=1)
    learn = get_learner(recipe, data, net=maker)
    train(learn, recipe)
    assert get_logits(learn.model, data.test_images).shape == (156, 26) and 'fresh' in learn.checks


def test_a_recipe_says_which_sides_it_takes(tmp_path):
    contents = shapes()
    folder = write(contents, tmp_path/'small')
    for name, label in (('train.csv', 1), ('test.csv', 0)): recode(folder, name, lambda lines: [line[:256 + label] for line in lines])
    assert read_data(folder).competition.side == 16
    refuse(folder, "'pool'", '19×19', '16×16', model='conv_quick')
    for model in ('all', 'conv_best'): assert plan_runs(model, str(folder), 'first80')[0]


@pytest.mark.parametrize('side', [16, 19, 28, 32, 33, 64])
@pytest.mark.parametrize('model', ['linear', 'two_layer', 'conv', 'conv_quick', 'conv_best'])
def test_nets_of_all_sizes(model, side):
    competition = Competition(side, tuple(WORDS))
    if model == 'conv_quick' and side < 19: pytest.skip('the net takes sides from 19: see test_a_recipe_says_which_sides_it_takes')
    net = make_net(get_recipe(model), None, competition)
    images = np.random.default_rng(0).integers(0, 256, (5, side**2), np.uint8)
    assert get_logits(net, images, tta=2).shape == (5, 26) and predict(net, images).max() < 26


@pytest.mark.parametrize('augment', ['shift', 'affine', 'elastic'])
def test_training_by_import(alphabet, augment):
    data = read_data(alphabet)
    recipe = get_recipe('conv', 499, epochs=3, augment=augment, tta=1)
    learn = get_learner(recipe, data)
    train(learn, recipe)
    valid = slice(499, None)
    predicted = predict(learn.model, data.images[valid])
    assert (predicted == data.labels[valid]).mean() > 0.3
    table = confusion_matrix(data.labels[valid], predicted, data.competition)
    assert list(table) == list(table.index) == WORDS
    means = class_means(data.images[:499], data.labels[:499], competition=data.competition)
    assert (nearest_mean(data.images[valid], means) == data.labels[valid]).mean() > 0.3
    show_digits(data.images[:3], data.names(data.labels[:3]), competition=data.competition)
    learn.dls.show_batch(), learn.show_results()
    assert list(learn.dls.vocab) == WORDS
    dl = learn.dls.test_dl(data.test_images)
    assert learn.get_preds(dl=dl)[0].shape == (156, 26)
    with pytest.raises(ValueError, match=r'\[n, 1024\]'): predict(learn.model, np.zeros((2, 784), np.uint8))
    with pytest.raises(ValueError, match='0 to 25'): confusion_matrix([26], [0], data.competition)


def test_submissions_are_in_words(alphabet, tmp_path):
    data = read_data(alphabet)
    logits = torch.randn(156, 26, generator=torch.Generator().manual_seed(0))
    submission = make_submission(logits, data)
    check_submission(submission, data)
    expected = dict(zip(pd.read_csv(alphabet/'test.csv').name, data.names(logits.argmax(1))))
    assert submission.set_index('name').word.to_dict() == expected and list(submission.name) == list(data.ids)
    path = tmp_path/'submission.csv'
    submission.to_csv(path, index=False)
    assert read_submission(path, data.competition).equals(submission)
    for change, words in ((lambda frame: frame.assign(word='alpha'), 'every label is alpha'), (lambda frame: frame.assign(word=7), 'instead of words'), (lambda frame: frame.rename(columns={'word': 'letter'}), 'instead of name and word'),
                          (lambda frame: frame.assign(word=['aleph', *frame.word[1:]]), 'aleph'), (lambda frame: frame.iloc[::-1].reset_index(drop=True), 'use the order'), (lambda frame: frame[1:], 'is missing'),
                          (lambda frame: frame.assign(word=data.names(data.labels[:156])), 'training rows')):
        with pytest.raises(SubmissionError, match=words): check_submission(change(submission), data)
    path.write_text(path.read_text().replace('\n', ',\n', 2))
    with pytest.raises(DataError): read_submission(path, data.competition)


def test_two_classes_agree_by_chance():
    "With two classes, one of them frequent, honest answers agree with the training rows' labels more often than not."
    random = np.random.default_rng(0)
    labels, truth = (random.random((2, 1000)) < 0.9).astype(int)
    images = random.integers(0, 256, (2000, 256)).astype(np.uint8)
    data = type(read_data('sample'))(images[:1000], labels, images[1000:], np.arange(1000), {}, np.arange(1000), Competition(16, ('no', 'yes')))
    frame = pd.DataFrame({'id': data.ids, 'label': data.names(truth)})
    check_submission(frame, data)
    with pytest.raises(SubmissionError, match='training rows'): check_submission(frame.assign(label=data.names(labels)), data)


def test_digit_recognizer_allows_half_of_the_training_rows_labels():
    "As ever: 52 of 100 labels are too many."
    sample = read_data('sample')
    labels = np.where(np.arange(500) % 100 < 52, sample.labels[:500], (sample.labels[:500] + 1) % 10)
    with pytest.raises(SubmissionError, match='52.0% of the labels are those of the training rows'): check_submission(pd.DataFrame({'ImageId': sample.ids, 'Label': labels}), sample)


def test_a_net_is_told_what_it_should_give(alphabet):
    competition = read_data(alphabet).competition
    for net, words in ((nn.Linear(784, 10), r'\[2, 1, 32, 32\]'), (nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), r'instead of \[2, 26\]')):
        with pytest.raises(NetError, match=words): make_net(get_recipe('linear'), lambda: net, competition)


def test_files_that_contradict_the_name(alphabet, small, kannada):
    refuse(alphabet, "does not contain digit-recognizer's files: train.csv has the columns px1, px2", competition='digit-recognizer')
    refuse(kannada, 'test.csv has the columns id, pixel0', competition='digit-recognizer')
    refuse(small, "digit-recognizer's files", 'kannada-mnist', competition='kannada-mnist')
    refuse(alphabet, "'../x' is not a competition's name", competition='../x')
    assert read_data(alphabet, 'letters').competition.slug == 'letters'


def test_digit_recognizer_has_no_eleventh_class(small):
    recode(small, 'train.csv', cell(3, 0, '10'))
    refuse(small, 'train.csv', 'line 4', "'10' is not a whole number from 0 to 9")


@pytest.fixture
def mounted(alphabet, tmp_path, monkeypatch):
    "A notebook on Kaggle with the letters mounted."
    monkeypatch.setattr(searched, 'INPUT', tmp_path/'input')
    monkeypatch.setattr(cache, 'user_cache_path', lambda name: tmp_path/'cache')
    monkeypatch.setenv('KAGGLE_KERNEL_RUN_TYPE', 'Batch')
    return shutil.copytree(alphabet, tmp_path/'input/competitions/Letters-26')


def test_a_mounted_competition_is_named(mounted, small, tmp_path):
    assert find_data(competition='Letters-26') == mounted
    for path in (None, 'competition'):
        with pytest.raises(DataError, match="Letters-26 is mounted, which is not digit-recognizer. .* competition = 'Letters-26'"): find_data(path)
    shutil.copytree(small, tmp_path/'input/digit-recognizer')
    assert find_data() == tmp_path/'input/digit-recognizer'
    assert find_data(competition='letters-26').samefile(mounted) # Kaggle's names have capitals here and there
    with pytest.raises(DataError, match='is mounted, which is not letters-27'): find_data(competition='letters-27')
    shutil.rmtree(mounted)
    with pytest.raises(DataError, match='digit-recognizer is mounted, which is not Letters-26'): find_data(competition='Letters-26')


def test_the_sample_stands_for_no_other_competition(tmp_path, monkeypatch):
    monkeypatch.setattr(searched, 'INPUT', tmp_path/'input')
    with pytest.raises(DataError, match="kannada-mnist's files were not found.*mnist_kaggle data --competition kannada-mnist"): find_data(competition='kannada-mnist')


@pytest.mark.whole
@pytest.mark.parametrize('other', ['shapes'], indirect=True) # letters and Kannada MNIST make the trip in test_story.py
def test_through_all_commands(other, command, tmp_path):
    def lines(*arguments, status=0):
        result = command(*arguments, cwd=tmp_path)
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout.splitlines()
    data = read_data(other)
    competition, n = data.competition, len(data.ids)
    words = lines('run', '--model', 'all', '--epochs', '2', '--data', other, '--device', 'cpu')
    assert sum('in the form of its sample submission' in line for line in words) == 3
    runs = sorted((tmp_path/'runs').iterdir())
    for run in runs:
        frame = pd.read_csv(run/'submission.csv')
        assert list(frame) == [competition.id, competition.answer] and frame.iloc[:, 0].tolist() == data.ids.tolist() and set(frame.iloc[:, 1]) <= set(competition.classes)
        assert any('fits the data in ' in line and f': {n:,} rows' in line for line in lines('check', run/'submission.csv', '--data', other))
    net, recipe = load_run(runs[0])
    assert (data.names(predict(net, data.test_images)) == pd.read_csv(runs[0]/'submission.csv').set_index(competition.id).loc[data.test_ids].iloc[:, 0]).all()
    assert lines('verify', runs[1], '--data', other)[-1].endswith('byte for byte.')
    lines('ensemble', *runs, '--data', other, '--out', 'both')
    ensemble, = (tmp_path/'both').glob('ensemble-*')
    assert lines('verify', ensemble, '--data', other)[-1].endswith('byte for byte.')
    write_own(tmp_path, net=NET)
    lines('run', 'mine.ipynb', '--data', other, '--epochs', '5')
    mine, = (tmp_path/'runs').glob('mine-*')
    assert lines('verify', mine, '--data', other)[-1].endswith('byte for byte.')
    lines('sweep', '--model', 'linear', '--seed', '1-2', '--epochs', '1', '--data', other, '--out', 'swept')
    lines('report')
    assert str(competition.classes[-1]) in (mine/'report.html').read_text()
    assert read_record(mine)['data']['form']['classes'] == list(competition.classes)
    frame = pd.read_csv(mine/'submission.csv')
    frame.iloc[3, 1] = competition.classes[0] if frame.iloc[3, 1] != competition.classes[0] else competition.classes[1]
    frame.to_csv(mine/'submission.csv', index=False)
    assert 'submission.csv was changed' in lines('verify', mine, '--data', other, status=1)[-1]


def test_fetched_and_handed_in(ask, kaggle, tmp_path):
    kaggle.zip = pack(letters(), tmp_path/'letters.zip').read_bytes()
    assert ask('data', '--competition', 'letters-26').stdout.splitlines()[-1].endswith('letters-26.zip contains the files of letters-26.')
    result = ask('run', '--model', 'linear', '--epochs', '1', '--competition', 'letters-26', '--device', 'cpu')
    assert result.returncode == 0, result.stdout + result.stderr
    run, = (tmp_path/'runs').iterdir()
    assert read_record(run)['data']['form']['slug'] == 'letters-26'
    result = ask('submit', run)
    assert result.returncode == 0, result.stdout + result.stderr
    assert kaggle.submissions[0]['competition'] == 'letters-26' and kaggle.submissions[0]['content'] == (run/'submission.csv').read_bytes()
    assert "was made for letters-26, and can't be submitted to others" in ask('submit', run, '--competition', 'others').stderr
    assert ask('run', '--model', 'linear', '--epochs', '1', '--data', tmp_path/'letters.zip', '--device', 'cpu').returncode == 0
    assert len(list((tmp_path/'runs').glob('linear-*'))) == 2 # under another name, since nobody said where it belongs
    assert run.name in ask('scores', '--competition', 'letters-26').stdout and run.name not in ask('scores').stdout


def test_where_nobody_said_which_competition(ask, kaggle, alphabet, tmp_path):
    assert ask('run', '--model', 'linear', '--epochs', '1', '--data', alphabet, '--device', 'cpu').returncode == 0
    run, = (tmp_path/'runs').iterdir()
    result = ask('submit', run, '--data', alphabet)
    assert result.returncode == 1 and 'Add --competition NAME' in result.stderr and kaggle.asked == []
    kaggle.mode = 'notebooks only'
    result = ask('submit', run, '--data', alphabet, '--competition', 'letters-26')
    assert result.returncode == 1 and 'letters-26 accepts submissions from notebooks only' in result.stderr and 'mnist_kaggle push --competition letters-26' in result.stderr
    assert not kaggle.submissions and not (run/'submission.json').exists()
    kaggle.mode = 'fine'
    assert ask('submit', run, '--data', alphabet, '--competition', 'letters-26').returncode == 0 and kaggle.submissions[0]['competition'] == 'letters-26'


def test_what_is_pushed_names_its_competition(ask, kaggle):
    result = ask('push', '--model', 'linear', '--competition', 'letters-26', '--device', 'cpu')
    assert result.returncode == 0, result.stderr
    sent, = kaggle.kernels.values()
    version = sent['versions'][0]
    assert version['competitionDataSources'] == ['letters-26'] and "competition = \\\"letters-26\\\"" in version['text']
    assert json.loads(version['text'])['cells'] and DIGIT_RECOGNIZER.slug not in str(version['competitionDataSources'])
