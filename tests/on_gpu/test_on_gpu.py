"What is promised of a GPU: the same bytes again, 32 bits where `single` says so, and a run, a sweep and a check as on a CPU. `make test-gpu` runs it on a card."
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mnist_kaggle import get_learner, get_recipe, read_data, train
from mnist_kaggle.data.places import find_data
from mnist_kaggle.training.device import set_tf32
from mnist_kaggle.training.recipes import RECIPES

BENCHMARKS = Path(__file__).parents[2]/'benchmarks'


@pytest.fixture(scope='module')
def sample(): return find_data('sample')


def trained(folder, **changes):
    "What a training in a process of its own prints."
    command = [sys.executable, '-W', 'ignore', BENCHMARKS/'gpu.py', 'train', folder, json.dumps(changes)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


@pytest.mark.parametrize('name', RECIPES)
def test_the_same_bytes_again(name, device, sample):
    first, second = [trained(sample, name=name, device=device, epochs=2) for _ in range(2)]
    assert first['weights'] == second['weights']


@pytest.mark.parametrize('precision', ['tf32', 'bfloat16'])
def test_other_precisions_give_other_weights(precision, device, card, sample):
    single, other = [trained(sample, name='conv_quick', device=device, precision=way, batch_size=32) for way in ('single', precision)]
    assert single['weights'] != other['weights'] and other['accuracy'] > 0.8


def errors(device):
    "The largest errors of a product and of a convolution, beside numbers of 64 bits, as shares of the largest result."
    torch.manual_seed(0)
    a, b, xb, kernels = torch.randn(512, 512), torch.randn(512, 512), torch.randn(32, 32, 12, 12), torch.randn(64, 32, 3, 3)
    for compute, x, y in ((torch.matmul, a, b), (F.conv2d, xb, kernels)):
        exact = compute(x.double(), y.double())
        yield ((compute(x.to(device), y.to(device)).cpu() - exact).abs().max() / exact.abs().max()).item()


def test_single_is_32_bits_and_tf32_is_not(device):
    set_tf32(False)
    assert all(error < 1e-5 for error in errors(device))
    if device != 'cuda' or torch.cuda.get_device_capability() < (8, 0): return
    set_tf32(True)
    try: assert all(error > 1e-5 for error in errors(device))
    finally: set_tf32(False)


def test_a_captured_step_is_the_learners(device, sample, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from captured import captured_training
    data, recipe = read_data(sample), get_recipe('conv_quick', device=device, batch_size=32)
    training, _ = captured_training(data, recipe)
    training.train()
    learn = get_learner(recipe, data, path=tmp_path)
    learn.dls.train.drop_last = True # as the captured steps do
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    ours, theirs = training.net.state_dict(), learn.model.state_dict()
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=2e-3) for name in theirs)


@pytest.fixture(scope='module')
def made(device, tmp_path_factory):
    "A run on the device."
    folder = tmp_path_factory.mktemp('runs')
    command = [Path(sys.executable).with_name('mnist_kaggle'), 'run', '--model', 'conv_quick', '--device', device, '--data', 'sample', '--out', folder]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (run,) = [path.parent for path in folder.glob('*/run.json')]
    return run


def test_a_run_names_the_device(made, device):
    record = json.loads((made/'run.json').read_text())
    assert record['parameters']['device'] == device
    if device == 'cuda': assert record['parameters']['numerics'] == 'native' and torch.cuda.get_device_name() in json.dumps(record['device'])


def test_verify_makes_the_same_run_again(made, process):
    result = process('verify', made, '--data', 'sample', cwd=made.parent)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_sweep(device, process, tmp_path):
    result = process('sweep', '--model', 'linear', '--seed', '0-3', '--device', device, '--data', 'sample', '--out', tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len([*tmp_path.glob('linear-*/run.json')]) == 4


def test_a_work_space_that_breaks_determinism_is_refused(card, process, tmp_path):
    result = process('run', '--model', 'linear', '--device', 'cuda', '--data', 'sample', '--out', tmp_path, cwd=tmp_path, CUBLAS_WORKSPACE_CONFIG=':0:0')
    assert result.returncode != 0 and 'CUBLAS_WORKSPACE_CONFIG' in result.stdout + result.stderr
    assert not [*tmp_path.glob('linear-*/run.json')]
