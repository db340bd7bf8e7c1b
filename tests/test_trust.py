"The mistakes that a run must not survive, each made on purpose; submissions that must not be handed in; runs that are verified."
import json
import os
import re
import zipfile

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from types import SimpleNamespace
from running import execute, reseal
from click.testing import CliRunner
from fastai.learner import Learner
from fastai.optimizer import SGD

from mnist_kaggle.cli.main import cli
from mnist_kaggle.data import loaders
from mnist_kaggle.data.cache import cache_folder
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import FILES
from mnist_kaggle.data.loaders import OrderError
from mnist_kaggle.data.parse import to_csv
from mnist_kaggle.data.places import find_data
from mnist_kaggle.data.split import LeakError
from mnist_kaggle.models.linear import linear_net, mse, rmse
from mnist_kaggle.results.distribution import DistributionError, DistributionWarning, check_distribution
from mnist_kaggle.results.interval import prediction_interval
from mnist_kaggle.results.submission import SubmissionError, check_submission, make_submission
from mnist_kaggle.runs import kernel
from mnist_kaggle.runs.naming import PIPELINE, library_sha256, notebook_sha256
from mnist_kaggle.kaggle.submit import scores_table
from mnist_kaggle.runs.listing import find_runs
from mnist_kaggle.runs.loading import load_run
from mnist_kaggle.runs.record import RecordError, hash_results, read_record, record_sha256
from mnist_kaggle.runs.run import find_complete, publish, run_once
from mnist_kaggle.runs.staging import RunError
from mnist_kaggle.runs.verify import verify
from mnist_kaggle.sweeps.remote import Outcome, read_folder, receive
from mnist_kaggle.training import device, learner
from mnist_kaggle.training.checks import NotFreshError, ShapeError, TrainingError, WatchTraining, check_loss
from mnist_kaggle.training.learner import get_learner, train
from mnist_kaggle.training.net import make_net
from mnist_kaggle.training.recipes import get_recipe

LINEAR = get_recipe('linear', epochs=2)


@pytest.fixture
def sample(): return read_data(find_data('sample'))


def fit(recipe, data, tmp_path, split='first80'):
    "A learner, trained without a bar."
    learn = get_learner(recipe, data, split, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    return learn


@pytest.mark.parametrize('train_rows, valid_rows, words', [
    (range(1000), range(999, 1297), 'of the validation set is also image 999 of the train set'),
    (range(1297), range(1297), 'of the validation set is also image 0 of the train set')])
def test_rows_in_two_sets(sample, tmp_path, monkeypatch, train_rows, valid_rows, words):
    monkeypatch.setattr(loaders, 'split_rows', lambda labels, split: (np.array(train_rows), np.array(valid_rows)))
    with pytest.raises(LeakError, match=words): get_learner(LINEAR, sample, path=tmp_path)


def test_a_test_file_with_a_training_row(small, command):
    label, _, pixels = (small/'train.csv').read_text().splitlines()[7].partition(',')
    lines = (small/'test.csv').read_text().splitlines()
    (small/'test.csv').write_text('\n'.join([*lines[:3], pixels, *lines[4:]]) + '\n')
    result = command('run', '--model', 'linear', '--data', small, '--out', small.parent/'runs', cwd=small.parent)
    assert result.returncode == 1 and 'LeakError: image 2 of the test set is also image 6 of the train set' in result.stderr


def value_net(recipe, maker=None, competition=None):
    "A net of one output, as the regression's."
    torch.manual_seed(recipe.seed)
    return linear_net(1)


@pytest.mark.filterwarnings('ignore:Using a target size')
@pytest.mark.parametrize('loss', [
    lambda preds, yb: ((preds - yb)**2).mean(), lambda preds, yb: F.mse_loss(preds, yb.float()), lambda preds, yb: F.l1_loss(preds, yb.float()),
    lambda preds, yb: torch.sub(preds, other=yb).square().mean(), lambda preds, yb: (preds.expand(len(yb), len(yb)) - yb).abs().mean()])
def test_a_loss_that_broadcasts_ends_the_training_before_its_first_step(sample, tmp_path, monkeypatch, loss):
    monkeypatch.setattr(learner, 'make_net', value_net)
    monkeypatch.setattr(learner, 'CrossEntropyLossFlat', lambda **options: loss)
    recipe = get_recipe('linear', epochs=1)
    learn = get_learner(recipe, sample, path=tmp_path)
    with pytest.raises(ShapeError, match='does not compare each prediction with its own target'), learn.no_bar(): train(learn, recipe)
    assert all(torch.equal(p, q) for p, q in zip(learn.model.parameters(), value_net(recipe).parameters()))


def test_losses_that_are_sound(sample):
    for b in (1, 2, 3, 256, 20_000):
        yb = torch.arange(b) % 10
        for loss in (mse, rmse, lambda preds, yb: F.l1_loss(preds[:, 0], yb.float()), lambda preds, yb: F.cross_entropy(-(preds - torch.arange(10.))**2, yb)):
            check_loss(loss, torch.rand(b, 1), yb)
        check_loss(F.cross_entropy, torch.rand(b, 10), yb)


@pytest.mark.parametrize('preds, yb, loss, words', [
    ((8, 1), (8, 1), mse, r'targets have the shape \[8, 1\]'), ((8, 10), (7,), F.cross_entropy, r'targets have the shape \[7\]'),
    ((8, 3), (8,), F.cross_entropy, r'predictions have the shape \[8, 3\]'), ((8,), (8,), mse, r'predictions have the shape \[8\]'),
    ((8, 1), (8,), lambda preds, yb: (preds[:, 0] - yb)**2, r'the loss has the shape \[8\]'),
    ((8, 1), (8,), lambda preds, yb: (preds[:, 0] - yb.sort().values).square().mean(), 'does not compare')])
def test_shapes_that_are_not_meant(preds, yb, loss, words):
    with pytest.raises(ShapeError, match=words): check_loss(loss, torch.rand(preds), torch.zeros(yb, dtype=torch.int64))


@pytest.mark.parametrize('order, words', [
    (lambda loader, rows: rows, 'in file order'), (lambda loader, rows: rows[::-1], 'same order in each epoch'),
    (lambda loader, rows: torch.randperm(len(rows)).tolist(), 'the same seed gives another order'),
    (lambda loader, rows: torch.randint(len(rows), (len(rows),), generator=loader.generator).tolist(), 'leaves rows out')])
def test_a_wrong_order(sample, tmp_path, monkeypatch, order, words):
    monkeypatch.setattr(loaders.BatchLoader, 'shuffle_fn', order)
    with pytest.raises(OrderError, match=words): get_learner(LINEAR, sample, path=tmp_path)


def test_a_net_that_was_trained_before(sample, tmp_path):
    learn = fit(LINEAR, sample, tmp_path)
    with pytest.raises(NotFreshError): train(learn, LINEAR)
    anew = Learner(learn.dls, learn.model, loss_func=F.cross_entropy, opt_func=SGD, path=tmp_path)
    with pytest.raises(ValueError, match='not made by `get_learner`'): train(anew, LINEAR)
    anew = get_learner(LINEAR, sample, path=tmp_path)
    anew.model = learn.model
    with pytest.raises(NotFreshError): train(anew, LINEAR)


def test_a_net_whose_statistics_have_seen_data(sample, tmp_path):
    recipe = get_recipe('conv_quick', epochs=1)
    learn = get_learner(recipe, sample, path=tmp_path)
    learn.model.train()(torch.rand(8, 1, 28, 28))
    with pytest.raises(NotFreshError, match='running_mean'): train(learn, recipe)


@pytest.mark.parametrize('split', ['first80', 'all'])
def test_a_loss_that_is_no_number(sample, tmp_path, split):
    with pytest.raises(TrainingError, match=r'the loss is (nan|inf) in epoch \d.*learning rate is too high: try a tenth of 1e\+38'):
        fit(get_recipe('linear', lr=1e38, schedule='flat', epochs=2), sample, tmp_path, split)


def test_weights_that_broke_at_the_last_step(sample):
    net = make_net(LINEAR)
    net[1].bias.data[3] = float('nan')
    with pytest.raises(SubmissionError, match='logits of test row 0 are not all numbers'): make_submission(net(torch.zeros(500, 1, 28, 28)).detach(), sample)


def dead_net(recipe, maker=None, competition=None):
    net = make_net(recipe)
    net[-1].bias.data[4] = 1e6
    return net


@pytest.mark.parametrize('epochs, epoch', [(2, 1), (8, 4), (50, 24)])
def test_a_net_that_says_one_digit(sample, tmp_path, monkeypatch, epochs, epoch):
    monkeypatch.setattr(learner, 'make_net', dead_net)
    with pytest.raises(TrainingError, match=f'in epoch {epoch} .* predicts 4 for every row'): fit(get_recipe('linear', epochs=epochs), sample, tmp_path)


def test_a_net_that_says_one_digit_without_validation_rows(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(learner, 'make_net', dead_net)
    with pytest.raises(TrainingError, match='predicts 4 for every row'): fit(LINEAR, sample, tmp_path, split='all')


def test_a_slow_start_is_no_failure(sample, tmp_path):
    watch = WatchTraining()
    watch.learn = SimpleNamespace(epoch=0, n_epoch=11, model=None) # of which the last never comes here
    def one_epoch(classes):
        watch.before_train()
        watch.total, watch.classes = torch.tensor(1.), set(classes)
        watch.after_epoch()
        watch.learn.epoch += 1
    for classes in ([4], [4], [4], [4], [4, 5], [4], [4], [4], [4]): one_epoch(classes)
    with pytest.raises(TrainingError): one_epoch([4])


OTHER_ROWS = 'from dataclasses import replace; run.data = replace(run.data, test_images={}); '
CHANGED = "; submission{}.to_csv(run.folder/'submission.csv', index=False)"


@pytest.mark.parametrize('before, after, words', [
    (OTHER_ROWS.format('run.data.test_images[::-1].copy()'), '', 'SubmissionError.*not what the net predicts'),
    (OTHER_ROWS.format('run.data.images[:500]'), '', 'SubmissionError.*training rows at the same places'),
    ('', CHANGED.format('.assign(Label=run.data.labels[:500])'), 'submission.csv.*training rows at the same places'),
    ('', CHANGED.format('[::-1]'), 'submission.csv.*row 1 has id 500')])
def test_a_pipeline_with_a_mistake(tmp_path, monkeypatch, before, after, words):
    text, right = PIPELINE.read_text(), 'submission = predict_test(run, learn)'
    assert text.count(right) == 1
    (tmp_path/'mistaken.ipynb').write_text(text.replace(right, before + right + after))
    monkeypatch.setattr(kernel, 'PIPELINE', tmp_path/'mistaken.ipynb')
    with pytest.raises(RunError, match=words): execute({'model': 'linear', 'data': 'sample', 'epochs': 2}, tmp_path/'out/run')
    assert [path.name for path in (tmp_path/'out').iterdir()] == ['run-failed.ipynb']
    first = nbformat.read(tmp_path/'out/run-failed.ipynb', 4).cells[0].source
    assert re.match('# This run failed\n\n    .*' + words, first)


def test_test_rows_of_other_digits(tmp_path, sample):
    from sklearn.datasets import load_digits
    chosen = np.isin(load_digits().target[1297:], (4, 9))
    folder = tmp_path/'other'
    folder.mkdir()
    for name, content in zip(FILES, [None, sample.test_images[chosen], np.column_stack([np.arange(1, chosen.sum() + 1), np.zeros(chosen.sum(), int)])]):
        source = (find_data('sample')/name).read_bytes()
        (folder/name).write_bytes(source if content is None else to_csv(source.split(b'\n')[0].decode().split(','), content))
    with pytest.raises(RunError, match='DistributionError.*chi-square'): execute({'model': 'linear', 'data': str(folder), 'epochs': 5}, tmp_path/'run')


def test_shares():
    valid = np.repeat(np.arange(10), 800)
    assert check_distribution(valid, np.repeat(np.arange(10), 2800)) == 1
    assert check_distribution(np.zeros(50, int), np.zeros(500, int)) == 1
    with pytest.warns(DistributionWarning, match='chi-square'): check_distribution(valid, np.repeat(np.arange(10), [3600, *[2800]*9]))
    with pytest.raises(DistributionError): check_distribution(valid, np.repeat(np.arange(10), [4000, *[2800]*9]))


def test_shares_of_rare_digits():
    "A digit that is said once in ten thousand rows is no alarm where there are few validation rows."
    valid, test = np.repeat([0, 1], 200), np.concatenate([np.repeat([0, 1], 13_985), np.repeat([2, 3, 4, 5, 6, 7], 5)])
    assert check_distribution(valid, test) > 0.01


def test_unlikely_shares_are_said_by_the_command(tmp_path, monkeypatch, sample):
    "Where a warning in a notebook would not be read."
    monkeypatch.setattr('mnist_kaggle.runs.run.run_once', lambda *args: {**read_record_like, 'metrics': {**read_record_like['metrics'], 'distribution_p': 1.4e-4}})
    result = CliRunner().invoke(cli, ['run', '--data', 'sample', '--model', 'linear', '--out', str(tmp_path)])
    assert result.exit_code == 0 and '(p = 1.4e-04): check its notebook' in result.output and 'is not for Kaggle' in result.output


read_record_like = {'model': 'linear', 'parameters': {'epochs': 2}, 'seconds': {'train': 1.}, 'data': {'competition': False},
                    'metrics': {'valid_accuracy': 0.9, 'baseline_accuracy': 0.8, 'score_lower': 0.8, 'score_upper': 0.95, 'distribution_p': None}}


def test_an_expected_score_holds_both_errors():
    least, most = prediction_interval(8340, 8400, 28_000)
    assert least < 8340/8400 < most
    rate = 8340/8400
    assert abs((most - least) / (2 * 3.2905 * (rate * (1 - rate) * (1/8400 + 1/28_000))**0.5) - 1) < 0.05 # as by the normal distribution
    alone = prediction_interval(8340*1000, 8400*1000, 28_000) # as if the rate were known
    assert alone[1] - alone[0] < 0.6*(most - least)
    assert prediction_interval(100, 100, 10)[1] == 1 and prediction_interval(0, 100, 10)[0] == 0


# mnist_kaggle check

def good(n=500): return [f'{i},{(7*i + i//10) % 10}' for i in range(1, n + 1)]


BAD = {
    'header': (['id,label', *good()], "expected 'ImageId' as column 1 of the header, found 'id'"),
    'no header': (good(), "expected 'ImageId' as column 1 of the header, found '1'"),
    'empty': ([], 'is empty'),
    'missing': (['ImageId,Label', *good()[:6], *good()[7:]], 'id 7 is missing; there are 499 rows instead of 500'),
    'cut short': (['ImageId,Label', *good()[:400]], 'id 401 is missing'),
    'doubled': (['ImageId,Label', *good(), good()[6]], 'id 7 occurs 2 times'),
    'doubled in place of another': (['ImageId,Label', *good()[:7], good()[6], *good()[8:]], 'id 8 is missing'),
    'too many': (['ImageId,Label', *good(501)], 'id 501 is unknown: the ids are 1 to 500'),
    'from 0': (['ImageId,Label', *[f'{i},{line.partition(",")[2]}' for i, line in enumerate(good())]], 'the ids begin at 0'),
    'with an index': ([',ImageId,Label', *(f'{i},{line}' for i, line in enumerate(good()))], 'index column'),
    'float': (['ImageId,Label', *good()[:6], '7,9.0', *good()[7:]], "line 8, column Label: '9.0' is not a whole number from 0 to 9"),
    'ten': (['ImageId,Label', *good()[:6], '7,10', *good()[7:]], "line 8, column Label: '10'"),
    'negative': (['ImageId,Label', *good()[:6], '7,-1', *good()[7:]], "line 8, column Label: '-1'"),
    'word': (['ImageId,Label', *good()[:6], '7,seven', *good()[7:]], "line 8, column Label: 'seven'"),
    'nothing': (['ImageId,Label', *good()[:6], '7,', *good()[7:]], "line 8, column Label: ''"),
    'third column': (['ImageId,Label', *good()[:6], '7,9,1', *good()[7:]], 'line 8 has 3 values instead of 2'),
    'one label': (['ImageId,Label', *[f'{i},0' for i in range(1, 501)]], 'every label is 0: is this the sample submission?'),
}


@pytest.mark.parametrize('name', BAD)
def test_check_refuses(tmp_path, name):
    lines, words = BAD[name]
    (tmp_path/'answers.csv').write_text('\n'.join(lines))
    result = CliRunner().invoke(cli, ['check', str(tmp_path/'answers.csv'), '--data', 'sample'])
    assert result.exit_code == 1 and words in result.output and 'answers.csv' in result.output


def test_check_refuses_the_training_labels(tmp_path, sample):
    for labels in (sample.labels[:500], np.where(np.arange(500) % 9, sample.labels[:500], 3)):
        (tmp_path/'answers.csv').write_bytes(to_csv(['ImageId', 'Label'], np.column_stack([sample.ids, labels])))
        result = CliRunner().invoke(cli, ['check', str(tmp_path/'answers.csv'), '--data', 'sample'])
        assert result.exit_code == 1 and 'those of the training rows at the same places' in result.output


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_check_accepts_what_others_wrote(tmp_path, end, monkeypatch):
    (tmp_path/'answers.csv').write_bytes(end.join(['ImageId,Label', *good()]).encode())
    monkeypatch.setenv('MNIST_KAGGLE_DATA', 'sample')
    result = CliRunner().invoke(cli, ['check', str(tmp_path/'answers.csv')])
    assert result.exit_code == 0 and '500 rows' in result.output and "not the competition's" in result.output


def test_check_without_the_competitions_data(tmp_path):
    (tmp_path/'answers.csv').write_text('\n'.join(['ImageId,Label', *good()]))
    result = CliRunner().invoke(cli, ['check', str(tmp_path/'answers.csv')])
    assert result.exit_code == 1 and 'give its path by --data' in result.output


def test_columns_are_named(sample):
    with pytest.raises(SubmissionError, match='the columns are'): check_submission(pd.DataFrame({'id': sample.ids, 'Label': sample.ids % 10}), sample)


@pytest.mark.parametrize('arguments, words', [(['nowhere.csv', '--data', 'sample'], 'nowhere.csv is not a file'), (['.', '--data', 'sample'], '. is a folder')])
def test_check_of_no_file(arguments, words):
    result = CliRunner().invoke(cli, ['check', *arguments])
    assert result.exit_code == 1 and words in result.output


# The record, and verify

@pytest.fixture(scope='module')
def run(tmp_path_factory, command):
    "A run on the sample, made by the command."
    folder = tmp_path_factory.mktemp('trust')
    assert command('run', '--data', 'sample', '--model', 'linear', '--epochs', '2', cwd=folder).returncode == 0
    [run] = (folder/'runs').iterdir()
    return run


@pytest.fixture
def copy(run, tmp_path):
    "A copy of it, to be changed."
    import shutil
    return shutil.copytree(run, tmp_path/run.name)


def test_the_record_is_enough_to_run_again(run):
    record = read_record(run)
    assert record['code']['library'] == library_sha256() and record['code']['notebook'] == notebook_sha256(PIPELINE)
    assert set(record['data']['sha256']) == set(FILES) and record['data']['competition'] is False
    assert {'python', 'mnist_kaggle', 'torch', 'torchvision', 'fastai', 'numpy', 'pandas', 'papermill'} <= set(record['versions'])
    assert record['parameters']['seed'] == 0 and record['parameters']['threads'] == record['device']['threads'] == 1
    assert record['started'] < record['ended'] or record['started'] == record['ended']
    assert set(record['seconds']) == {'read', 'baseline', 'train', 'validate', 'submission'}
    assert 0 < record['metrics']['score_lower'] < record['metrics']['valid_accuracy'] < record['metrics']['score_upper'] <= 1


def test_verify_identical(run, command):
    before = sorted(path.name for path in run.parent.iterdir())
    result = command('verify', run, cwd=run.parent)
    assert result.returncode == 0 and 'was reproduced, byte for byte' in result.stdout
    assert sorted(path.name for path in run.parent.iterdir()) == before


@pytest.mark.parametrize('name', ['submission.csv', 'model.safetensors', 'history.csv', 'run.json'])
@pytest.mark.parametrize('how', ['changed', 'missing'])
def test_verify_runs_nothing_where_a_file_is_not_as_recorded(copy, monkeypatch, name, how):
    from mnist_kaggle.runs import verify as module
    monkeypatch.setattr(module, 'execute', lambda *args: pytest.fail('the run was made again'))
    if how == 'missing': (copy/name).unlink()
    else: (copy/name).write_bytes((copy/name).read_bytes().replace(b'0', b'1', 1))
    result = CliRunner().invoke(cli, ['verify', str(copy)])
    assert result.exit_code == 1 and name in result.output


def change_submission(run):
    "Other labels in three rows of a run's submission, and a record that has its hash."
    submission = pd.read_csv(run/'submission.csv')
    submission.loc[:2, 'Label'] = (submission.Label[:3] + 1) % 10
    submission.to_csv(run/'submission.csv', index=False)
    reseal(run, files=hash_results(run))


def test_verify_a_submission_that_was_changed(copy):
    change_submission(copy)
    status, words = verify(copy)
    assert status == 1 and 'submission.csv has' in words and 'the stored logits give' in words and '3 labels differ' in words


def test_a_submission_that_a_worker_changed(copy, tmp_path):
    change_submission(copy)
    with pytest.raises(RunError, match='3 labels differ.\nThe failed run.s notebook is'):
        receive(Outcome(read_folder(copy)), tmp_path/'here'/copy.name, read_data('sample'))
    assert [path.name for path in (tmp_path/'here').iterdir()] == [f'{copy.name}-failed.ipynb']


def test_verify_different_without_a_reason(copy):
    reseal(copy, metrics={**read_record(copy)['metrics'], 'train_loss': 0.01})
    status, words = verify(copy)
    assert status == 1 and 'Different: train_loss' in words and '0 of 500 predictions differ' in words and 'The records do not explain it' in words


def test_verify_a_submission_that_was_cut(copy):
    lines = (copy/'submission.csv').read_text().splitlines()
    (copy/'submission.csv').write_text('\n'.join(lines[:-3]) + '\n')
    reseal(copy, files=hash_results(copy))
    status, words = verify(copy)
    assert status == 1 and 'id 498 is missing' in words


def test_verify_passes_over_a_damaged_place(copy, capsys):
    zipped = cache_folder()/'digit-recognizer.zip'
    with zipfile.ZipFile(zipped, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in FILES: archive.writestr(name, b'label,pixel0'*100)
    content = zipped.read_bytes()
    zipped.write_bytes(content[:45] + bytes([content[45] ^ 255]) + content[46:])
    try: assert verify(copy)[0] == 0
    finally: zipped.unlink()
    assert 'digit-recognizer.zip is skipped' in capsys.readouterr().out


def test_a_record_without_hashes(copy):
    reseal(copy, files={'submission.csv': 'ab'})
    with pytest.raises(RecordError, match='lacks the hashes'): read_record(copy)
    record = json.loads((copy/'run.json').read_text())
    (copy/'run.json').write_text(json.dumps({key: value for key, value in record.items() if key != 'sha256'}))
    with pytest.raises(RecordError, match='older version'): read_record(copy)


def test_verify_different_for_a_reason(tmp_path, process):
    "Another set of vector instructions gives other weights, and the record names it."
    made = process('run', '--data', 'sample', '--model', 'conv', '--epochs', '4', '--out', 'runs', cwd=tmp_path, ATEN_CPU_CAPABILITY='default')
    assert made.returncode == 0, made.stderr
    [run] = (tmp_path/'runs').iterdir()
    result = process('verify', run, cwd=tmp_path)
    if 'byte for byte' in result.stdout: pytest.skip('this processor has no other instructions')
    assert result.returncode == 3 and 'device name: ' in result.stdout and ', DEFAULT → ' in result.stdout
    assert 'predictions differ; validation accuracy ' in result.stdout


def test_verify_without_the_data(copy, small):
    status, words = verify(copy, str(small))
    assert status == 2 and "the run's data" in words and '--data' in words


@pytest.mark.parametrize('lines, note', [
    (['ImageId,Label', *good()[::-1]], 'not in the order'), (['"ImageId","Label"', *(','.join(f'"{cell}"' for cell in line.split(',')) for line in good())], 'quotes')])
def test_check_takes_what_kaggle_takes(tmp_path, lines, note):
    (tmp_path/'submission.csv').write_text('\n'.join(lines) + '\n')
    result = CliRunner().invoke(cli, ['check', str(tmp_path/'submission.csv'), '--data', 'sample'])
    assert result.exit_code == 0 and f'Note: ' in result.output and note in result.output, result.output


@pytest.mark.parametrize('text, words', [
    ('"ImageId,Label"\n' + ''.join(f'"{line}"\n' for line in good()), 'in quotes, as one cell'), ('ImageId,Label\n"' + '\n'.join(good()), 'line'),
    ('"ImageId,Label\n' + '\n'.join(good()*60), 'Is a quote not closed?')])
def test_check_of_careless_quotes(tmp_path, text, words):
    (tmp_path/'submission.csv').write_text(text)
    result = CliRunner().invoke(cli, ['check', str(tmp_path/'submission.csv'), '--data', 'sample'])
    assert result.exit_code == 1 and words in result.output, result.output
    result = CliRunner().invoke(cli, ['check', str(tmp_path), '--data', 'sample'])
    assert result.exit_code == 1 and 'name the submission.csv in it' in result.output


def test_check_of_something_packed(tmp_path):
    (tmp_path/'submission.csv').write_bytes(b'PK\x03\x04...')
    result = CliRunner().invoke(cli, ['check', str(tmp_path/'submission.csv'), '--data', 'sample'])
    assert result.exit_code == 1 and 'is packed' in result.output


def test_verify_names_what_a_version_lacks(copy):
    parameters = read_record(copy)['parameters']
    reseal(copy, parameters={name: value for name, value in parameters.items() if name != 'precision'})
    status, words = verify(copy)
    assert status == 2 and 'the run has no parameter precision' in words and 'rows' not in words


def test_verify_a_run_of_another_version(copy):
    parameters = read_record(copy)['parameters']
    reseal(copy, parameters={**parameters, 'momentum': 0.9})
    status, words = verify(copy)
    assert status == 2 and 'momentum' in words


def test_verify_of_no_run(tmp_path):
    status, words = verify(tmp_path/'nowhere')
    assert status == 2 and 'does not exist' in words
    assert verify(tmp_path)[0] == 1


def test_a_run_that_was_made_meanwhile_is_taken(run, tmp_path, copy):
    copy.rename(tmp_path/'staging')
    assert publish(tmp_path/'staging', run) == read_record(run)
    assert (tmp_path/'staging').exists() # the runner removes its own


def test_all_is_flushed_before_the_name_is_given(tmp_path, monkeypatch, copy):
    flushed = []
    monkeypatch.setattr(os, 'fsync', lambda descriptor: flushed.append(os.readlink(f'/proc/self/fd/{descriptor}')))
    staging, folder = copy.rename(tmp_path/'staging'), tmp_path/'run'
    publish(staging, folder)
    del flushed[:2] # of the notebook's hash, as of any file that is written
    assert flushed == [*(str(staging/path.name) for path in folder.iterdir()), str(staging), str(tmp_path)]


def test_what_stands_beside_a_run_is_left_alone(tmp_path, copy):
    (tmp_path/'latest').symlink_to('nowhere')
    os.mkfifo(tmp_path/'pipe')
    (tmp_path/'.theirs.staging').mkdir()
    staging = copy.rename(tmp_path/'staging')
    publish(staging, tmp_path/'run')
    assert run_once({}, tmp_path/'run') == read_record(tmp_path/'run')
    assert {'latest', 'pipe', '.theirs.staging'} <= {path.name for path in tmp_path.iterdir()}


def test_two_that_put_the_same_folder_aside(tmp_path, copy):
    from concurrent.futures import ThreadPoolExecutor
    for i in range(50):
        (tmp_path/f'{i}').mkdir()
        with ThreadPoolExecutor(2) as pool: assert list(pool.map(find_complete, [tmp_path/f'{i}']*2)) == [None, None]
        assert not (tmp_path/f'{i}').exists() and (tmp_path/f'{i}.damaged-1').exists()


@pytest.mark.parametrize('on', [True, False])
def test_deterministic_algorithms_are_asked_for(sample, tmp_path, on):
    get_learner(get_recipe('linear', deterministic=on), sample, path=tmp_path, device='meta')
    assert torch.are_deterministic_algorithms_enabled() is on and torch.backends.cudnn.benchmark is not on


@pytest.mark.parametrize('precision, expected', [('single', 'ieee'), ('tf32', 'tf32'), ('bfloat16', 'ieee')])
def test_32_bits_on_cuda_are_32_bits_whatever_was_set_before(sample, tmp_path, precision, expected):
    device.set_tf32(expected == 'ieee')
    get_learner(get_recipe('linear', precision=precision), sample, path=tmp_path, device='meta')
    parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    assert {part.fp32_precision for part in parts} == {expected}
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is (expected == 'tf32') # as others ask for it
    device.set_tf32(False)


@pytest.mark.parametrize('name, value, changes', [
    ('CUBLAS_WORKSPACE_CONFIG', ':0:0', {}), ('TORCH_ALLOW_TF32_CUBLAS_OVERRIDE', '1', {}), ('NVIDIA_TF32_OVERRIDE', '0', {'precision': 'tf32'})])
def test_a_variable_against_the_recipe_is_refused_by_name(sample, tmp_path, monkeypatch, name, value, changes):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f'{name}={value}'): get_learner(get_recipe('linear', **changes), sample, path=tmp_path, device='meta')


def test_cublas_is_told_before_cuda_is_asked(monkeypatch):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    monkeypatch.setattr(device.Path, 'exists', lambda path: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: os.environ['CUBLAS_WORKSPACE_CONFIG'] != ':4096:8')
    assert device.cuda_problem() == 'torch finds no CUDA GPU'
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')


def test_a_changed_pipeline_is_another_run(tmp_path, monkeypatch):
    text = PIPELINE.read_text()
    (tmp_path/'changed.ipynb').write_text(text.replace('measure_baseline(run)', 'measure_baseline(run) # once'))
    monkeypatch.setattr(kernel, 'PIPELINE', tmp_path/'changed.ipynb')
    record = execute({'model': 'linear', 'data': 'sample', 'epochs': 2}, tmp_path/'run')
    assert record['code']['notebook'] == notebook_sha256(tmp_path/'changed.ipynb') != notebook_sha256(PIPELINE)


# Runs of version 0.1

OLD = {'score_lower': 'least_score', 'score_upper': 'most_score', 'distribution_p': 'shares_p', 'split': 'rows'}


def test_what_an_older_run_was_worth_is_still_listed(copy):
    record = json.loads((copy/'run.json').read_text())
    metrics, parameters = ({OLD.get(name, name): value for name, value in record[part].items()} for part in ('metrics', 'parameters'))
    recipe = {'model': 'linear', 'head': 'logits', **{name: value for name, value in json.loads((copy/'recipe.json').read_text()).items() if name != 'arch'}}
    (copy/'recipe.json').write_text(json.dumps(recipe))
    parameters |= {'head': 'logits', 'loss': 'cross_entropy'} # which recipes no longer have
    kept = {name: value for name, value in record.items() if name not in ('kind', 'sha256')}
    old = kept | {'metrics': metrics, 'parameters': parameters, 'files': hash_results(copy)}
    (copy/'run.json').write_text(json.dumps({**old, 'sha256': record_sha256(old)}))
    note = {'ref': 1, 'status': 'complete', 'sent': '2026-01-01', 'public_score': '0.98000', 'error': None, 'least_score': 0.97, 'most_score': 0.99}
    (copy/'submission.json').write_text(json.dumps(note))
    table = scores_table(find_runs(copy.parent), [])
    assert table.loc[0, ['accuracy', 'lower', 'upper', 'score']].tolist() == [*(record['metrics'][name] for name in ('valid_accuracy', 'score_lower', 'score_upper')), '0.98000']
    with pytest.raises(RecordError, match='recipe.json was written by another version'): load_run(copy)
    result = CliRunner().invoke(cli, ['verify', str(copy)])
    assert result.exit_code == 2 and 'made by version' in result.output
