"A notebook of one's own: what it can't be, what its runner finds out, what is left on its word, and whose code is executed."
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest
import torch
from owning import NET, SMALL, change_last, write_own, write_residual
from running import reseal

from mnist_kaggle.cli.notebooks import make_notebook
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.results.evaluation import get_logits
from mnist_kaggle.runs import run
from mnist_kaggle.runs.beside import MAX_MODULE, NotebookError
from mnist_kaggle.runs.jobs import job_name, job_parameters, make_own_job, on_device
from mnist_kaggle.runs.loading import load_run
from mnist_kaggle.runs.notebook import read_notebook
from mnist_kaggle.runs.record import RecordError, read_record, unchecked
from mnist_kaggle.runs.server import warm_kernels
from mnist_kaggle.runs.staging import RunError
from mnist_kaggle.runs.trust import TrustError
from mnist_kaggle.runs.verify import verify
from mnist_kaggle.training.checklist import CHECKS

PAPERMILL = Path(sys.executable).with_name('papermill')


def run_own(path, out, minutes=None, **given):
    "A run of a notebook on the sample, as the command makes it; its folder."
    warm_kernels()
    own, data = read_notebook(path), read_data('sample')
    job = on_device(make_own_job(own, train_rows=1037, **given), 'cpu')
    folder = out/job_name(job, data.sha256)
    run.execute({**job_parameters(job), 'data': 'sample'}, folder, minutes, own)
    return folder


def failure(path, out, **given):
    "Why a notebook could not be run. Nothing is published, and the failed notebook has the error first."
    with pytest.raises(RunError) as error: run_own(path, out, **given)
    left, = out.iterdir()
    assert left.name.endswith('-failed.ipynb')
    words = str(error.value).splitlines()[0]
    assert nbformat.read(left, 4).cells[0].source == f'# This run failed\n\n    {words}'
    return words


# What is refused before anything runs

def lose(tag):
    def change(path): path.write_text(path.read_text().replace(f'"{tag}"', '"lost"'))
    return change


@pytest.mark.parametrize('lost', ['parameters', 'net', 'augment', 'optimiser', 'loss'])
def test_a_lost_tag_of_ones_own(tmp_path, lost):
    lose(lost)(path := write_own(tmp_path))
    with pytest.raises(NotebookError, match=f'has no cells with the tag {lost!r}'): read_notebook(path)


@pytest.mark.parametrize('cells, words', [
    ({'net': 'def make_net() return 1'}, "the cell under 'The net', line 1: expected ':'"),
    ({'parameters': 'n = (2, 3)'}, 'n = \\(2, 3\\) is no plain value'),
    ({'parameters': 'n = 2 * 3'}, "the cell under 'Parameters': n = 2 \\* 3 is no plain value"),
    ({'parameters': 'files = "prior.npy"'}, 'where a list of paths belongs'),
    ({'parameters': 'files = ["prior.npy"]'}, 'prior.npy is not a file'),
    ({'parameters': 'files = ["/etc/hostname"]'}, 'leads out of the folder'),
    ({'parameters': 'files = ["run.json"]'}, 'run.json has the name of a file that a run writes itself')])
def test_what_is_no_notebook_to_run(tmp_path, cells, words):
    (tmp_path/'run.json').write_text('{}')
    with pytest.raises(NotebookError, match=words): read_notebook(write_own(tmp_path, **cells))


@pytest.mark.parametrize('name, words', [('conv', 'has the name of a recipe'), ('ensemble', 'has the name of something else'), ('my net', 'with no space')])
def test_names_that_can_not_be(tmp_path, name, words):
    with pytest.raises(NotebookError, match=words): read_notebook(write_own(tmp_path, name))


def test_what_is_no_notebook_at_all(tmp_path):
    with pytest.raises(NotebookError, match='mnist_kaggle new'): read_notebook(tmp_path/'mine.ipynb')
    for content in ('', '{}', '[]', 'print(1)'):
        (tmp_path/'mine.ipynb').write_text(content)
        with pytest.raises(NotebookError, match='mine.ipynb is no notebook'): read_notebook(tmp_path/'mine.ipynb')


def big(path): path.write_text('#' * (MAX_MODULE + 1))
def linked(path): path.symlink_to('/etc/hostname')
def broken(path): path.write_text('def f(:')


@pytest.mark.parametrize('name, make, words', [
    ('mine_too', big, 'a module may have 10,485,760'), ('mine_too', linked, 'leads out of the folder'), ('mine_too', broken, 'mine_too.py, line 1: invalid syntax'),
    ('torch', Path.touch, 'the name of an installed package, torch'), ('json', Path.touch, 'the name of an installed package, json')])
def test_modules_that_can_not_be_taken(tmp_path, name, make, words):
    make(tmp_path/f'{name}.py')
    with pytest.raises(NotebookError, match=words): read_notebook(write_own(tmp_path, net=f'import {name}\n{SMALL}'))


@pytest.mark.parametrize('arguments, words', [
    (['-p', 'depth=3'], "has no parameter 'depth'.*it has dropout=0.2, sizes="), (['-p', 'dropout=much'], 'dropout must be a number'), (['-p', 'seed=3'], 'use --seed'),
    (['-p', 'name=yours'], 'the command sets it'), (['-p', 'dropout'], 'write it as -p dropout=VALUE'), (['-p', 'dropout=0,0.2'], '`mnist_kaggle sweep` takes several'),
    (['-p', 'dropout=1', '-p', 'dropout=0'], 'given twice'), (['-p', 'sizes=4,5'], 'a list stands in brackets'), (['--epochs', '0'], 'epochs must be from 1'), (['--model', 'convnet'], 'model must be one of')])
def test_parameters_are_checked_before_anything_runs(command, tmp_path, arguments, words):
    write_own(tmp_path, parameters='dropout = 0.2\nsizes = [8, 16]')
    result = command('run', 'mine.ipynb', '--data', 'sample', *arguments, cwd=tmp_path)
    assert result.returncode == 1 and re.search(words, result.stderr), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['mine.ipynb']


@pytest.mark.whole
def test_texts_and_data_of_a_notebook(command, tmp_path, small):
    write_own(tmp_path, parameters=f'label = "none"\nother = None\ndata = {str(small)!r}\nepochs = 4')
    for words in (('run', '-p', 'label=x, "y" = z'), ('run', '-p', 'label='), ('sweep', '-p', 'label="x, y",z', '-p', 'other=-1')):
        result = command(words[0], 'mine.ipynb', *words[1:], cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    records = [read_record(path.parent) for path in (tmp_path/'runs').glob('*/run.json')]
    assert {record['own']['parameters']['label'] for record in records} == {'x, "y" = z', '', 'x, y', 'z'} and {record['own']['parameters']['other'] for record in records} == {None, -1}
    assert {record['data']['rows']['train.csv'] for record in records} == {100}


def test_parameters_without_a_notebook(command, tmp_path):
    result = command('run', '-p', 'dropout=0.2', '--data', 'sample', cwd=tmp_path)
    assert result.returncode == 1 and 'name the notebook' in result.stderr


def test_new_does_not_overwrite(command, tmp_path):
    assert command('new', 'mine.ipynb', cwd=tmp_path).returncode == 0
    before = (tmp_path/'mine.ipynb').read_bytes()
    assert before == make_notebook('mine', 'conv') and before != make_notebook('mine', 'linear')
    result = command('new', 'mine.ipynb', '--model', 'linear', cwd=tmp_path)
    assert result.returncode == 1 and 'is there already' in result.stderr and (tmp_path/'mine.ipynb').read_bytes() == before
    for name, words in (('linear.ipynb', 'name of a recipe'), ('mine.txt', 'must end in .ipynb'), ('none/mine.ipynb', '')):
        result = command('new', name, cwd=tmp_path)
        assert (result.returncode == 1 and words in result.stderr) or (tmp_path/name).exists()


# What is found out while it runs, and named by its cell

@pytest.mark.parametrize('cells, words', [
    ({'net': SMALL.replace('16, 10', '16, 9')}, "for two images the net outputs [2, 9] instead of [2, 10]. Give its last layer 10 outputs, one per class. It was raised in the cell under 'The net'."),
    ({'net': 'def make_net(): return nn.Conv2d(3, 10, 3)'}, "to have 3 channels, but got 1 channels instead. It was raised in the cell under 'The net'."),
    ({'net': 'class Net(nn.Module): pass\ndef make_net(): return Net'}, "make_net returns the class Net. Return a net: Net(). It was raised in the cell under 'The net'."),
    ({'net': 'net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\ndef make_net(): return net'}, 'make_net returns the same net each time'),
    ({'net': 'make_net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))'}, 'make_net is no function. Make the net inside of one'),
    ({'net': f'import bad_layers\n{SMALL}'}, "ImportError: no such layer. It was raised in the cell under 'The net'."),
    ({'augment': 'def augment_batch(xb): return xb[:, 0]'}, 'It must keep shape and type'),
    ({'loss': 'def loss_func(preds, yb): return ((preds.mean(1)[:, None] - yb)**2).mean()'}, 'does not compare each prediction with its own target'),
    ({'loss': 'exit()\nloss_func = None'}, "Leave out exit() in the cell under 'The loss'"),
    ({'loss': 'import sys; sys.exit()\nloss_func = None'}, "Leave out exit() in the cell under 'The loss'"),
    ({'loss': 'import subprocess; subprocess.Popen(["sleep", "997"], start_new_session=True)\nloss_func = None'}, "left a process running: sleep 997. End it in the cell that starts it, the cell under 'The loss'."),
    ({'loss': 'loss_func, folder = None, "elsewhere"\nrun_folder = folder'}, 'has written no run.json'),
    ({'net': f'open("prior.npy")\n{SMALL}'}, "No such file or directory: 'prior.npy'. A file that a cell reads must be named in the parameters"),
    ({'net': f'open("PLACE/prior.npy")\n{SMALL}'}, "Name it in the parameters, files = ['prior.npy']")])
def test_what_goes_wrong_is_told_by_its_cell(tmp_path, cells, words):
    folder = tmp_path/'mine'
    folder.mkdir()
    (folder/'bad_layers.py').write_text('raise ImportError("no such layer")')
    (folder/'prior.npy').write_text('0.1')
    path = write_own(folder, **{tag: source.replace('PLACE', str(folder)) for tag, source in cells.items()})
    assert words in failure(path, tmp_path/'out')
    assert not [process for process in psutil.process_iter(['cmdline']) if process.info['cmdline'] == ['sleep', '997']]


def test_a_notebook_that_never_ends(tmp_path):
    words = failure(write_own(tmp_path/'mine', loss='while True: pass'), tmp_path/'out', minutes=0.1)
    assert words.startswith('The time limit of 0.1 minutes was reached. It came to the cell under ') or words == 'The time limit of 0.1 minutes was reached.'


def test_a_file_that_is_declared_goes_along(tmp_path):
    path = write_own(tmp_path/'mine', parameters='files = ["prior.txt"]', net=f'assert open("prior.txt").read() == "0.1"\n{SMALL}')
    (tmp_path/'mine/prior.txt').write_text('0.1')
    first = run_own(path, tmp_path/'out')
    (tmp_path/'mine/prior.txt').unlink()
    assert (first/'prior.txt').read_text() == '0.1' and verify(first)[0] == 0
    (first/'prior.txt').write_text('0.2')
    assert verify(first)[0] == 1 and 'prior.txt is not what the run has read' in verify(first)[1]


# Whatever determines the result is in the name

def test_a_name_for_each_result(tmp_path):
    path = write_residual(tmp_path)
    def name(path=path, **given):
        own = read_notebook(path)
        return job_name(on_device(make_own_job(own, train_rows=1037, **given), 'cpu'), {'train.csv': 'ab'}, None)
    names = [name(), name(seed=1), name(dropout=0.3), name(width=8), name(epochs=2), name(model='conv')]
    (tmp_path/'my_shapes.py').write_text('KERNEL = 5\n')
    names.append(name())
    (tmp_path/'my_shapes.py').write_text('KERNEL = 3\n')
    assert name() == names[0]
    path.write_text(path.read_text().replace('nn.ReLU()', 'nn.GELU()'))
    names.append(name())
    (tmp_path/'other.ipynb').write_bytes(path.read_bytes())
    names.append(name(tmp_path/'other.ipynb'))
    assert len(set(names)) == len(names) and all(re.fullmatch('(mine|other)-[0-9a-f]{8}', name) for name in names)


def test_versions_of_what_it_imports_count(tmp_path):
    own = read_notebook(write_own(tmp_path, net=f'import safetensors, psutil, json, torch\n{SMALL}'))
    assert list(own.packages) == ['psutil', 'safetensors']
    jobs = [on_device(make_own_job(replace(own, packages=packages)), 'cpu') for packages in (own.packages, {**own.packages, 'psutil': '0'})]
    assert job_name(jobs[0], {}) != job_name(jobs[1], {})


# Randomness of any kind repeats; what does not is told

DRAWING = {'net': NET.replace('from my_layers import Block\n', '').replace('Block(width), ', ''),
           'augment': 'import random\nimport numpy as np\ndef augment_batch(xb): return xb * random.uniform(0.5, 1) * np.random.uniform(0.5, 1) * torch.rand(len(xb), 1, 1, 1)'}


def test_whatever_draws_repeats(tmp_path):
    path = write_own(tmp_path/'mine', parameters='dropout = 0.3\nwidth = 4', **DRAWING)
    folder = run_own(path, tmp_path/'out', epochs=2)
    shutil.rmtree(tmp_path/'mine')
    assert verify(folder)[0] == verify(folder)[0] == 0
    assert set(read_record(folder)['given']) == {'net', 'augment'} and read_record(folder)['own']['parameters']['dropout'] == 0.3


def test_what_a_cell_draws_repeats(tmp_path):
    "The weights of a loss, which no function makes under the seed."
    weighted = 'class Loss(nn.Module):\n    def __init__(self): super().__init__(); self.weight = nn.Parameter(torch.rand(10))\n    def forward(self, x, y): return nn.functional.cross_entropy(x * self.weight, y)\nloss_func = Loss()'
    assert verify(run_own(write_own(tmp_path/'mine', loss=weighted), tmp_path/'out'))[0] == 0


def test_a_cell_that_reads_the_clock(tmp_path):
    clock = 'import time\ndef augment_batch(xb): return xb * (time.time() % 1)'
    folder = run_own(write_own(tmp_path/'mine', augment=clock), tmp_path/'out')
    status, words = verify(folder)
    assert status == 1 and 'The two trainings part in epoch 0 (the first is 0).' in words and 'Nothing that the records hold explains it' in words


# What the runner computes again

RESEAL = '''
from mnist_kaggle.runs.record import record_sha256
import json
record = json.loads((run.folder/'run.json').read_text())
record['metrics']['{}'] = {}
record['sha256'] = record_sha256(record)
(run.folder/'run.json').write_text(json.dumps(record))'''


@pytest.mark.parametrize('metric, value', [('valid_accuracy', 0.9999), ('score_lower', 0.99), ('distribution_p', 0.5), ('valid_rows', 8400)])
def test_a_record_that_says_more_than_the_logits(tmp_path, metric, value):
    path = change_last(write_own(tmp_path/'mine'), 'finish_run(run, learn)' + RESEAL.format(metric, value))
    assert f'run.json says that {metric} is {value}, and by the stored logits it is' in failure(path, tmp_path/'out')


def test_logits_that_are_not_the_nets(tmp_path):
    "The labels of the validation rows, as logits: consistent with the record, and still found out by the net that is kept."
    path = change_last(write_own(tmp_path/'mine'), 'run.test_logits = 2 * run.test_logits')
    folder = run_own(path, tmp_path/'out')
    status, words = verify(folder)
    assert status == 1 and 'gives other logits for the test rows than those in logits.safetensors' in words


def test_a_last_cell_that_changes_the_submission(tmp_path):
    change = '''submission.loc[3, 'Label'] = (submission.Label[3] + 1) % 10
submission.to_csv(run.folder/'submission.csv', index=False)
finish_run(run, learn)'''
    assert 'for id 4, and by the stored logits it is' in failure(change_last(write_own(tmp_path/'mine'), change), tmp_path/'out')


def test_training_rows_are_no_submission(tmp_path):
    change = "submission.assign(Label=run.data.labels[:500]).to_csv(run.folder/'submission.csv', index=False)"
    assert 'are those of the training rows at the same places' in failure(change_last(write_own(tmp_path/'mine'), change), tmp_path/'out')


# What is left on the notebook's word, and named

AGAIN = '\nevaluate_run(run, learn)\npredict_test(run, learn)'
ON = 'learn.fit(1, 0.001)' + AGAIN
LEAKING = '''
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from mnist_kaggle.data.loaders import BatchLoader, DigitDataset
rows = DigitDataset(run.data.images, run.data.labels)
learn = Learner(DataLoaders(BatchLoader(rows), BatchLoader(rows)), make_net(), loss_func=nn.CrossEntropyLoss(), path=run.folder)
learn.fit(1, 0.001)''' + AGAIN
BY_HAND = '''
from types import SimpleNamespace
learn = SimpleNamespace(model=make_net())''' + AGAIN


@pytest.mark.parametrize('change, missing', [(ON, ['weights']), (LEAKING, list(CHECKS)), (BY_HAND, list(CHECKS)), ('learn.checks = []', [name for name in CHECKS if name != 'weights'])])
def test_checks_that_were_gone_around_are_named(command, tmp_path, change, missing):
    change_last(write_own(tmp_path, net=SMALL), change)
    result = command('run', 'mine.ipynb', '--data', 'sample', '--epochs', '1', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder, = (tmp_path/'runs').iterdir()
    words = [CHECKS[name] for name in missing]
    assert unchecked(read_record(folder)) == words
    assert result.stdout.splitlines()[-1] == f'*** Not checked in {folder.name}: {"; ".join(words)}. ***'
    assert command('report', cwd=tmp_path).returncode == 0
    assert all(word in (tmp_path/'runs/report.html').read_text() and word in (folder/'report.html').read_text() for word in words)
    assert (folder/'report.html').read_text().index('make_net') < (folder/'report.html').read_text().index('Five cells are there to be changed')


def test_an_ensemble_has_passed_what_all_its_members_have(command, tmp_path):
    change_last(write_own(tmp_path, net=SMALL), ON)
    for words in (['mine.ipynb', '--epochs', '1'], ['--model', 'linear', '--epochs', '1']): assert command('run', *words, '--data', 'sample', cwd=tmp_path).returncode == 0
    result = command('ensemble', *(tmp_path/'runs').iterdir(), '--data', 'sample', cwd=tmp_path)
    assert result.returncode == 0 and CHECKS['weights'] in result.stdout.splitlines()[-1], result.stdout + result.stderr


def test_training_on_the_loaders_of_ones_own_is_no_training_by_train(tmp_path):
    "Loaders that take the place of the learner's are refused by `train` itself."
    swap = 'learn.dls = get_learner(run.recipe, run.data, "all", path=run.folder).dls\ntrain(learn, run.recipe)'
    assert "dls.train is no longer the recipe's" in failure(change_last(write_own(tmp_path/'mine'), swap), tmp_path/'out')


# Somebody else's run is somebody else's code

def test_whose_code_is_executed(tmp_path, monkeypatch, sample_folder_of_run):
    folder = sample_folder_of_run
    net, recipe = load_run(folder)
    logits = get_logits(net, read_data('sample').test_images)
    assert torch.equal(logits, get_logits(load_run(folder, trust=True)[0], read_data('sample').test_images))
    monkeypatch.setenv('HOME', str(tmp_path/'other'))
    monkeypatch.setenv('JUPYTER_DATA_DIR', str(tmp_path/'other'))
    for use in (load_run, lambda folder: verify_or_raise(folder)):
        with pytest.raises(TrustError, match=r'was not run here, and its code would be executed: .*pipeline.ipynb, .*my_layers.py, .*my_shapes.py.*--trust'): use(folder)
    assert verify(folder, trust=True)[0] == 0
    assert 'my_layers' not in sys.modules and torch.equal(logits, get_logits(load_run(folder, trust=True)[0], read_data('sample').test_images))


def verify_or_raise(folder):
    status, words = verify(folder)
    assert status == 2
    raise TrustError(words)


@pytest.fixture
def sample_folder_of_run(tmp_path):
    "A run of the notebook with a residual layer, whose original is gone."
    folder = run_own(write_residual(tmp_path/'mine'), tmp_path/'out')
    shutil.rmtree(tmp_path/'mine')
    return folder


def test_a_run_is_loaded_beside_its_original(tmp_path, monkeypatch):
    "Where Python finds the original modules, too, as a program there does; those of the run count."
    folder = run_own(write_residual(tmp_path/'mine'), tmp_path/'out')
    (tmp_path/'mine/my_shapes.py').write_text('KERNEL = 5')
    monkeypatch.chdir(tmp_path/'mine')
    monkeypatch.syspath_prepend(tmp_path/'mine')
    import my_shapes
    assert my_shapes.KERNEL == 5 and load_run(folder)[0][2].conv.kernel_size == (3, 3) and sys.modules['my_shapes'] is my_shapes
    del sys.modules['my_shapes']


def test_magics_do_not_keep_a_net_from_being_loaded(tmp_path):
    folder = run_own(write_own(tmp_path/'mine', net='%matplotlib inline\n!true\n' + SMALL), tmp_path/'out')
    assert sum(p.numel() for p in load_run(folder)[0].parameters()) == 12_730


def test_what_was_changed_is_not_executed(sample_folder_of_run):
    folder = sample_folder_of_run
    (folder/'my_layers.py').write_text('import os; os._exit(3)')
    with pytest.raises(RecordError, match='my_layers.py is not what the run has read'): load_run(folder)
    assert verify(folder)[0] == 1


def test_a_record_that_was_sealed_anew_is_not_signed(sample_folder_of_run):
    folder = sample_folder_of_run
    reseal(folder, started='2020-01-01T00:00:00+00:00')
    with pytest.raises(TrustError): load_run(folder)


def test_loading_executes_the_net_and_nothing_else(tmp_path):
    path = write_own(tmp_path/'mine', net=SMALL, loss='(run_folder := __import__("pathlib").Path("ran")).touch()\nloss_func = None')
    change_last(path, 'raise_if_loaded = None')
    folder = run_own(path, tmp_path/'out')
    assert (folder/'ran').exists()
    (folder/'ran').unlink()
    load_run(folder)
    assert not (folder/'ran').exists() and not Path('ran').exists()


# By hand and by plain papermill

@pytest.mark.whole
def test_by_plain_papermill(tmp_path, environment):
    write_own(tmp_path, net=SMALL)
    subprocess.run([PAPERMILL, 'mine.ipynb', 'out.ipynb', '-p', 'data', 'sample', '-p', 'epochs', '1'], cwd=tmp_path, env=environment, check=True, capture_output=True)
    record = read_record(tmp_path)
    assert record['model'] == 'mine' and record['given'] == {'net': 'Sequential, 12,730 weights'} and not unchecked(record)
    for trust in (False, True):
        with pytest.raises(RecordError, match='has kept no notebook, since it was run by hand'): load_run(tmp_path, trust=trust)
        assert verify(tmp_path, trust=trust)[0] == 2


@pytest.mark.whole
def test_another_net_is_never_recorded_as_the_recipes(tmp_path, environment):
    path = write_own(tmp_path, net=SMALL)
    path.write_text(path.read_text().replace("name = 'mine'", 'name = None'))
    subprocess.run([PAPERMILL, 'mine.ipynb', 'out.ipynb', '-p', 'data', 'sample'], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert read_record(tmp_path)['model'] == 'notebook'


def test_a_user_who_can_sign_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('JUPYTER_DATA_DIR', '/proc/nowhere')
    folder = run_own(write_own(tmp_path/'mine', net=SMALL), tmp_path/'out')
    assert "Runs are not signed, since Jupyter's data can't be written" in capsys.readouterr().out
    status, words = verify(folder)
    assert status == 2 and 'was not run here' in words and verify(folder, trust=True)[0] == 0
