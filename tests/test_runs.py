"Whole runs on the sample: by the command, by plain papermill, from a wheel, on all rows."
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from jupyter_client.connect import LocalPortCache
from jupyter_core.utils import run_sync
from running import execute, reseal
from safetensors.torch import load_file

from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.places import find_data
from mnist_kaggle.results.evaluation import get_logits, predict
from mnist_kaggle.runs import kernel
from mnist_kaggle.runs.naming import PIPELINE
from mnist_kaggle.runs.loading import load_run
from mnist_kaggle.runs.record import RecordError, read_record
from mnist_kaggle.runs.staging import RunError
from mnist_kaggle.training.device import bfloat16_problem, cuda_problem
from mnist_kaggle.training.recipes import MODELS

FILES = ['history.csv', 'logits.safetensors', 'model.safetensors', 'pipeline.ipynb', 'pipeline.sha256', 'recipe.json', 'run.json', 'submission.csv']
KEYS = ['kind', 'model', 'parameters', 'data', 'code', 'versions', 'device', 'metrics', 'given', 'trained', 'checks', 'files', 'seconds', 'started', 'ended', 'sha256']


def check_run(folder, rows=500, by_hand=False):
    "A run's folder is complete: its files, its record, a submission with all ids; and the hash of its notebook, if it was published."
    assert sorted(path.name for path in folder.iterdir()) == [name for name in FILES if not by_hand or name != 'pipeline.sha256']
    assert list(read_record(folder)) == KEYS
    submission = pd.read_csv(folder/'submission.csv')
    assert list(submission) == ['ImageId', 'Label'] and submission.ImageId.tolist() == list(range(1, rows + 1))
    assert submission.Label.between(0, 9).all()


def text_of(notebook):
    "All text in a notebook's outputs."
    outputs = [o for cell in nbformat.read(notebook, 4).cells if cell.cell_type == 'code' for o in cell.outputs]
    return '\n'.join(o.get('text', '') + o.get('data', {}).get('text/plain', '') for o in outputs)


@pytest.fixture(scope='module')
def all_models(tmp_path_factory, command):
    "What `mnist_kaggle run --model all` did on the sample, in an empty folder."
    folder = tmp_path_factory.mktemp('all')
    result = command('run', '--data', 'sample', '--epochs', '2', cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_all_models(all_models):
    folder, result = all_models
    runs = {path.name.rpartition('-')[0]: path for path in (folder/'runs').iterdir()}
    assert sorted(runs) == sorted(MODELS)
    for path in runs.values(): check_run(path)
    table = result.stdout.splitlines()[-len(MODELS) - 1:]
    assert [line.split()[0] for line in table] == ['nearest', *MODELS]


def test_the_executed_notebook_has_its_plots_and_no_noise(all_models):
    for path in (all_models[0]/'runs').iterdir():
        outputs = [o for cell in nbformat.read(path/'pipeline.ipynb', 4).cells if cell.cell_type == 'code' for o in cell.outputs]
        assert sum('image/png' in o.get('data', {}) for o in outputs) == 5
        assert not [o.text for o in outputs if o.get('name') == 'stderr']


def test_times_stand_only_where_they_may(all_models):
    for path in (all_models[0]/'runs').iterdir():
        assert 'seconds' in (path/'run.json').read_text() and 'seconds' in (path/'history.csv').read_text()
        assert 'seconds' not in (path/'recipe.json').read_text()


def test_a_run_that_is_there_is_not_made_again(all_models, command):
    folder = all_models[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
    result = command('run', '--data', 'sample', '--epochs', '2', cwd=folder)
    assert result.returncode == 0 and result.stdout.count('is already complete') == len(MODELS)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_a_loaded_run_labels_digits_as_it_did(all_models, own_cache):
    digits = read_data(find_data('sample'))
    for path in (all_models[0]/'runs').iterdir():
        net, recipe = load_run(path)
        assert recipe.epochs == 2
        assert (get_logits(net, digits.test_images) == load_file(path/'logits.safetensors')['test']).all()
        assert (predict(net, digits.test_images) == pd.read_csv(path/'submission.csv').Label).all()


def test_the_same_run_elsewhere_gives_the_same_bytes(all_models, command, tmp_path):
    assert command('run', '--data', 'sample', '--epochs', '2', '--model', 'two_layer', '--out', 'again', cwd=tmp_path).returncode == 0
    [again] = (tmp_path/'again').iterdir()
    first = all_models[0]/'runs'/again.name
    for name in ('submission.csv', 'model.safetensors', 'logits.safetensors', 'recipe.json'):
        assert (again/name).read_bytes() == (first/name).read_bytes()


def test_weights_of_another_net_are_refused(tmp_path):
    for model in ('linear', 'two_layer'): execute({'model': model, 'data': 'sample', 'epochs': 1}, tmp_path/model)
    (tmp_path/'linear/model.safetensors').write_bytes((tmp_path/'two_layer/model.safetensors').read_bytes())
    with pytest.raises(RecordError, match='model.safetensors was changed'): load_run(tmp_path/'linear')
    files = json.loads((tmp_path/'linear/run.json').read_text())['files']
    reseal(tmp_path/'linear', files={**files, 'model.safetensors': read_record(tmp_path/'two_layer')['files']['model.safetensors']})
    with pytest.raises(RecordError, match='does not fit the net in recipe.json'): load_run(tmp_path/'linear')


def test_all_rows_have_no_validation_figures(tmp_path):
    record = execute({'model': 'linear', 'data': 'sample', 'split': 'all', 'epochs': 2}, tmp_path/'run')
    check_run(tmp_path/'run')
    assert record['metrics']['valid_accuracy'] is record['metrics']['valid_loss'] is record['metrics']['baseline_accuracy'] is None
    assert load_file(tmp_path/'run/logits.safetensors')['valid'].shape == (0, 10)
    assert pd.read_csv(tmp_path/'run/history.csv').valid_loss.isna().all()
    assert text_of(tmp_path/'run/pipeline.ipynb').count('all rows were trained on, so none are left for validation') == 3


def test_folds_and_a_folder_with_an_odd_name(tmp_path):
    record = execute({'model': 'linear', 'data': 'sample', 'split': 'fold-2-of-5', 'epochs': 1}, tmp_path/'a {b} c'/'run')
    check_run(tmp_path/'a {b} c'/'run')
    assert record['metrics']['valid_rows'] in (259, 260)


def test_all_rows_are_said_in_the_table(command, tmp_path):
    result = command('run', '--data', 'sample', '--model', 'linear', '--split', 'all', '--epochs', '1', cwd=tmp_path)
    assert result.returncode == 0 and 'Trained on all rows: no validation accuracy and no prediction interval.' in result.stdout


def test_a_folder_that_is_there_is_not_run_into(tmp_path):
    (tmp_path/'run').mkdir()
    with pytest.raises(RunError, match='already exists'): execute({'model': 'linear', 'data': 'sample'}, tmp_path/'run')
    assert [path.name for path in tmp_path.iterdir()] == ['run']


@pytest.mark.parametrize('code, words', [('import os; os._exit(1)', 'The kernel died'), ('import sys; sys.exit(0)', 'ended before its last cell')])
def test_a_kernel_that_ends_early(tmp_path, monkeypatch, code, words):
    notebook = nbformat.read(PIPELINE, 4)
    notebook.cells.insert(3, nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, tmp_path/'broken.ipynb')
    monkeypatch.setattr(kernel, 'PIPELINE', tmp_path/'broken.ipynb')
    with pytest.raises(RunError, match=words): execute({'model': 'linear', 'data': 'sample'}, tmp_path/'out/run')
    assert [path.name for path in (tmp_path/'out').iterdir()] == ['run-failed.ipynb']


def test_the_results_can_go_into_a_new_folder(tmp_path, environment):
    program = Path(sys.executable).with_name('papermill')
    subprocess.run([program, PIPELINE, 'out.ipynb', '-p', 'data', 'sample', '-p', 'model', 'linear', '-p', 'epochs', '1', '-p', 'folder', 'new/results'],
                   cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert sorted(path.name for path in (tmp_path/'new/results').iterdir()) == [name for name in FILES if not name.startswith('pipeline')]


def test_a_net_trained_in_16_bits_is_asked_in_32(tmp_path):
    execute({'model': 'conv_quick', 'data': 'sample', 'device': 'cpu', 'precision': 'bfloat16', 'epochs': 5}, tmp_path/'run')
    assert 'Training in bfloat16 will be slow' in text_of(tmp_path/'run/pipeline.ipynb') or not bfloat16_problem('cpu')
    assert read_record(tmp_path/'run')['parameters']['numerics'] == 'native'  # and so its logits come out again in a process that computes so
    asked = subprocess.run([sys.executable, '-W', 'ignore', '-c', ASKED, tmp_path/'run'], capture_output=True, text=True)
    assert asked.stdout.splitlines()[-1:] == ['True True True True'], asked.stderr


ASKED = '''
import sys
from dataclasses import replace
from pathlib import Path
from mnist_kaggle.training.numerics import set_numerics
set_numerics('native')
import torch
from safetensors.torch import load_file
from mnist_kaggle import find_data, get_logits, load_run, read_data
from mnist_kaggle.training.net import make_net
run = Path(sys.argv[1])
logits, digits = load_file(run/'logits.safetensors')['test'], read_data(find_data('sample'))
net, recipe = load_run(run)
single = make_net(replace(recipe, precision='single'))
single.load_state_dict(net.state_dict())
print(recipe.precision == 'bfloat16', torch.equal(get_logits(net, digits.test_images), logits), torch.equal(get_logits(single, digits.test_images), logits),
      {p.dtype for p in net.parameters()} == {torch.float32})'''


@pytest.mark.parametrize('parameters, words', [
    ({'epochs': '10'}, 'epochs must be of type int'), ({'model': 3}, 'model must be of type str'), ({'data': False}, 'data must be of type str'), ({'lr': 'fast'}, 'lr must be of type float'),
    ({'epoch': 3}, 'the notebook has no parameter epoch; its parameters are .*epochs'), ({'split': 'some'}, "split 'some'"), ({'seed': 1.5}, 'seed must be of type int'), ({'norm': 'yes'}, 'norm must be of type bool')])
def test_the_notebook_checks_its_parameters(tmp_path, parameters, words):
    with pytest.raises(RunError, match=words): execute({'data': 'sample', **parameters}, tmp_path/'run')
    assert [path.name for path in tmp_path.iterdir()] == ['run-failed.ipynb']
    assert 'learn.fit' not in text_of(tmp_path/'run-failed.ipynb') and 'rows' not in text_of(tmp_path/'run-failed.ipynb')


def test_plain_papermill(tmp_path, environment):
    program = Path(sys.executable).with_name('papermill')
    subprocess.run([program, PIPELINE, 'pipeline.ipynb', '-p', 'data', 'sample', '-p', 'epochs', '1'],
                   cwd=tmp_path, env=environment, check=True, capture_output=True)
    check_run(tmp_path, by_hand=True)
    assert json.loads((tmp_path/'run.json').read_text())['model'] == 'conv'


def test_a_wheel_does_the_same_elsewhere(tmp_path, environment):
    checkout, copy = Path(__file__).parents[1], tmp_path/'checkout'
    for name in ('mnist_kaggle', 'nbs'): shutil.copytree(checkout/name, copy/name, symlinks=True)
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'): shutil.copy(checkout/name, copy)
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp_path/'dist', copy], check=True, capture_output=True)
    [wheel] = (tmp_path/'dist').iterdir()
    shutil.rmtree(copy)
    subprocess.run([*pip, 'install', '--no-deps', '--target', tmp_path/'site', wheel], check=True, capture_output=True)
    environment = {**environment, 'PYTHONPATH': str(tmp_path/'site')}
    (tmp_path/'empty').mkdir()
    found = subprocess.run([sys.executable, '-c', 'import mnist_kaggle; print(mnist_kaggle.__file__)'], cwd=tmp_path/'empty', env=environment,
                           check=True, capture_output=True, text=True)
    assert found.stdout.startswith(str(tmp_path/'site'))
    subprocess.run([tmp_path/'site/bin/mnist_kaggle', 'run', '--model', 'linear', '--data', 'sample', '--epochs', '1'],
                   cwd=tmp_path/'empty', env=environment, check=True, capture_output=True)
    [folder] = (tmp_path/'empty/runs').iterdir()
    check_run(folder)


@pytest.mark.skipif(bool(cuda_problem()), reason=f'CUDA is not used: {cuda_problem()}')
@pytest.mark.parametrize('precision', ['single', 'bfloat16'])
def test_a_gpu(tmp_path, precision):
    record = execute({'model': 'conv_quick', 'data': 'sample', 'device': 'cuda', 'precision': precision, 'epochs': 30}, tmp_path/'run')
    assert record['device']['type'] == 'cuda' and record['metrics']['valid_accuracy'] > 0.9
    logits, digits = load_file(tmp_path/'run/logits.safetensors')['test'], read_data(find_data('sample'))
    net, _ = load_run(tmp_path/'run')
    assert np.allclose(get_logits(net, digits.test_images), logits, atol=1e-2)
    execute({'model': 'conv_quick', 'data': 'sample', 'device': 'cuda', 'precision': precision, 'epochs': 30}, tmp_path/'again')
    for name in ('submission.csv', 'model.safetensors', 'logits.safetensors'): assert (tmp_path/'again'/name).read_bytes() == (tmp_path/'run'/name).read_bytes()


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux can be asked to end a process with its parent')
def test_a_kernel_ends_with_its_runner():
    program = '''if True:
        import sys, tempfile
        from pathlib import Path
        from jupyter_core.utils import run_sync
        from mnist_kaggle.runs.kernel import leashed_kernel
        with leashed_kernel(Path(tempfile.mkdtemp()), None) as kernel:
            run_sync(kernel.start_kernel)()
            print(kernel.provisioner.process.pid, flush=True)
            sys.stdin.read()'''
    parent = subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    child.suspend() # so that it can't look for its parent by itself
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([child], timeout=20)[1] == []


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere a kernel has ports')
def test_a_kernel_whose_port_another_process_takes(tmp_path, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as other, kernel.leashed_kernel(tmp_path, None) as leashed:
        monkeypatch.setattr(LocalPortCache, 'find_available_port', lambda self, ip: other.getsockname()[1])
        run_sync(leashed.start_kernel)()
        client = leashed.client()
        client.start_channels()
        run_sync(client.wait_for_ready)(60)
        assert run_sync(client.execute_interactive)('1')['content']['status'] == 'ok'


def test_the_runner_loads_no_torch(tmp_path, environment):
    "Which takes seconds, and which it can do without: what it computes again, it computes with numpy."
    program = "import sys; sys.argv = ['mnist_kaggle', 'run', '--data', 'sample', '--model', 'linear', '--epochs', '1', '--device', 'cpu']\nfrom mnist_kaggle.cli.main import run_command\ntry: run_command()\nfinally: print([name for name in ('torch', 'fastai') if name in sys.modules])"
    result = subprocess.run([sys.executable, '-c', program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == '[]', result.stdout + result.stderr
