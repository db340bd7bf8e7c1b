"Sweeps: on this machine and on a cluster without a shared disk, with workers and kernels killed; and ensembles of what they made."
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from conftest import PROGRAM

from mnist_kaggle import cluster
from mnist_kaggle.cli import cli
from mnist_kaggle.cluster import PATIENCE, data_folder, remote_client, worker_device, worker_environments
from mnist_kaggle.data import read_data
from mnist_kaggle.ensemble import find_members, make_ensemble, verify_ensemble
from mnist_kaggle.jobs import SweepError
from mnist_kaggle.record import RecordError, read_record, record_sha256
from mnist_kaggle.run import execute
from mnist_kaggle.verify import verify

PATIENTLY = 120 # seconds for what comes sooner or later; more only on a machine that hangs


def wait_until(condition):
    "What a condition gives, as soon as it gives something."
    for _ in range(PATIENTLY * 20):
        if found := condition(): return found
        time.sleep(0.05)
    raise AssertionError('it did not happen')


def kernels(process):
    "The kernels that a process and its children have now."
    found = []
    for child in process.children(recursive=True):
        try: found += [child] if 'ipykernel_launcher' in ' '.join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE else []
        except psutil.NoSuchProcess: pass
    return found


def runs_in(out):
    "The complete runs in a folder, by name."
    return {path.parent.name: read_record(path.parent) for path in out.glob('[!.]*/run.json')}


def leftovers(out):
    "What a sweep should not leave."
    return [path.name for path in out.glob('.*')]


@pytest.fixture
def start(tmp_path, environment):
    "Start a sweep in an empty folder: `start('--model', 'linear')`."
    started = []
    def run(*arguments, data='sample'):
        process = psutil.Popen([PROGRAM, 'sweep', '--data', data, *map(str, arguments)], cwd=tmp_path, env={**environment, 'TMPDIR': str(tmp_path)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        return process
    yield run
    for process in started:
        for one in [*process.children(recursive=True), process] if process.is_running() else []: one.kill()


@pytest.mark.parametrize('arguments, words', [
    (['--lr', '0.1,-1'], ['lr', '-1']), (['--lr', '0.1,,0.2'], ['lr', 'empty']), (['--seed', ''], ['seed', 'empty']), (['--seed', '4-0'], ['seed', '4-0']),
    (['--seed', '0,0'], ['combination 2', 'combination 1']), (['--epochs', 'ten'], ['epochs', 'ten']), (['--model', 'forest'], ['forest', 'conv_quick']),
    (['--rows', 'first80,first90'], ['first90', 'fold-K-of-N']), (['--rows', 'fold-1-of-5000'], ['fold-1-of-5000', 'rarest']), (['--norm', 'maybe'], ['norm', 'true or false']),
    (['--seed', '0-99999'], ['0-99999', '10,000']), (['--seed', '0-9999', '--lr', '1,2'], ['20,000', '10,000']), (['--time-limit', '-1'], ['--time-limit']), (['--data', 'no/such.zip'], ['no/such.zip'])])
def test_bad_options(tmp_path, arguments, words):
    result = CliRunner().invoke(cli, ['sweep', '--data', 'sample', '--model', 'linear', '--out', str(tmp_path/'runs'), *arguments])
    assert result.exit_code == 1 and all(word in result.output for word in words), result.output
    assert not (tmp_path/'runs').exists() and len(result.output.splitlines()) <= 3


@pytest.mark.parametrize('text, words', [
    ('', ["can't be read"]), ('model,lr\nlinear,0.1,3\n', ['row 1', '3 cells']), ('model,seed,seed\nlinear,1,2\n', ['seed', 'twice']), ('model,lr\n', ['no row']), ('model,epoch\nlinear,3\n', ['epoch', 'epochs']), ('model,lr\nlinear,0.1\nlinear,x\n', ['row 2', 'lr']),
    ('model,lr\nlinear,0.1\nconv,0.1\nlinear,0.1\n', ['row 3', 'row 1']), ('model,lr\nlinear,0\n', ['row 1', 'lr']), ('model,seed\nlinear,-1\n', ['row 1', 'seed'])])
def test_bad_table(tmp_path, text, words):
    table = tmp_path/'table.csv'
    table.write_text(text)
    result = CliRunner().invoke(cli, ['sweep', str(table), '--data', 'sample', '--out', str(tmp_path/'runs')])
    assert result.exit_code == 1 and all(word in result.output for word in ['table.csv', *words]), result.output
    assert not (tmp_path/'runs').exists()


def test_a_table_that_is_missing_or_has_company(tmp_path):
    for arguments, word in [([str(tmp_path/'none.csv')], 'none.csv'), ([str(tmp_path/'table.csv'), '--seed', '0-2'], '--seed')]:
        result = CliRunner().invoke(cli, ['sweep', *arguments, '--data', 'sample'])
        assert result.exit_code == 1 and word in result.output


def test_an_option_that_does_not_exist(command, tmp_path):
    result = command('sweep', '--epoch', '3', cwd=tmp_path)
    assert result.returncode == 2 and '--epochs' in result.stderr


def test_one_run_fails_and_the_others_end_well(command, tmp_path, small):
    table = tmp_path/'table.csv'
    table.write_text('model,epochs,lr\nlinear,3,1e38\nlinear,3,\ntwo_layer,3,\n')
    first = command('sweep', table, '--data', small, cwd=tmp_path)
    assert first.returncode == 1 and '1 of 3 runs failed' in first.stderr and 'TrainingError' in first.stdout and 'begun once more' not in first.stdout
    out = tmp_path/'runs'
    found = pd.read_csv(out/'sweep.csv').set_index('run')
    failed, = found.index[found.error.notna()]
    assert len(found) == 3 and set(runs_in(out)) == set(found.index) - {failed} and not leftovers(out)
    cells = json.loads((out/f'{failed}-failed.ipynb').read_text())['cells']
    assert 'This run failed' in ''.join(cells[0]['source']) and str(out/f'{failed}-failed.ipynb').rpartition('/runs/')[2] in first.stdout
    assert found.loc[failed, 'lr'] == 1e38 and found.accuracy.drop(failed).notna().all() and (found.seconds.drop(failed) > found['training seconds'].drop(failed)).all()
    assert (out/'sweep.png').read_bytes().startswith(b'\x89PNG')
    before = {path: path.stat().st_mtime_ns for name in runs_in(out) for path in (out/name).iterdir()}
    again = command('sweep', table, '--data', small, cwd=tmp_path)
    assert again.returncode == 1 and '2 of 3 runs are there already' in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_kernel_that_is_killed_once_and_a_run_like_that_of_the_command(start, command, tmp_path):
    process, out = start('--model', 'linear', '--epochs', '1', '--seed', '0-1'), tmp_path/'runs'
    wait_until(lambda: kernels(process))[0].kill()
    assert process.wait(PATIENTLY) == 0, process.stderr.read()
    assert process.stdout.read().count('begun once more') == 1 and len(runs_in(out)) == 2 and not leftovers(out)
    assert command('run', '--data', 'sample', '--model', 'linear', '--epochs', '1', '--out', 'other', cwd=tmp_path).returncode == 0
    (name, theirs), = runs_in(tmp_path/'other').items()
    for file in theirs['files']:
        if file != 'history.csv': assert (out/name/file).read_bytes() == (tmp_path/'other'/name/file).read_bytes()
    assert read_record(out/name)['device'] == theirs['device'] # dask's own environment did not come through


def test_a_kernel_that_always_dies(start, tmp_path):
    process, killed = start('--model', 'linear', '--epochs', '1'), set()
    while process.poll() is None:
        for kernel in kernels(process):
            kernel.kill()
            killed.add(kernel.pid)
        time.sleep(0.05)
    assert process.returncode == 1 and len(killed) == 3 and 'The kernel died' in process.stdout.read()
    assert '1 of 1 runs failed' in process.stderr.read() and not runs_in(tmp_path/'runs')


def test_a_worker_that_always_dies(start, tmp_path):
    process, killed = start('--model', 'linear', '--epochs', '1', '--seed', '0-1'), set()
    while process.poll() is None:
        for kernel in kernels(process): # that of the run with seed 0
            try:
                if any('seed = 0' in path.read_text() for path in Path(kernel.cwd()).glob('pipeline.ipynb')):
                    kernel.parent().kill()
                    killed.add(kernel.pid)
            except (psutil.Error, OSError, AttributeError): pass
        time.sleep(0.05)
    assert process.returncode == 1 and len(killed) == 3, process.stderr.read()
    assert 'workers died' in process.stdout.read() and [record['parameters']['seed'] for record in runs_in(tmp_path/'runs').values()] == [1]


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped(start, tmp_path, number, status):
    process = start('--model', 'linear', '--epochs', '1', '--seed', '0-3')
    wait_until(lambda: kernels(process))
    family = process.children(recursive=True)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    assert process.wait(PATIENTLY) == status
    assert psutil.wait_procs(family, timeout=PATIENTLY)[1] == []
    assert 'Traceback' not in process.stderr.read() and not leftovers(tmp_path/'runs') and not list(tmp_path.glob('mnist_kaggle-*/.*'))


@pytest.fixture
def dask(tmp_path, environment):
    "Start a scheduler, and workers with folders and caches of their own: `dask('worker', 'one')`. The address is `dask.address`."
    bin, processes = PROGRAM.parent, []
    def run(kind, name, threads=1, nanny=False, **more):
        home = tmp_path/name
        home.mkdir()
        surroundings = {**environment, 'HOME': str(home), 'XDG_CACHE_HOME': str(home/'cache'), 'TMPDIR': str(home), **more}
        arguments = {'scheduler': ['--host', '127.0.0.1', '--port', '0', '--no-dashboard', '--scheduler-file', tmp_path/'scheduler.json'],
                     'worker': [run.address, '--nthreads', threads, '--host', '127.0.0.1', '--no-dashboard', *([] if nanny else ['--no-nanny']), '--local-directory', home/'work']}[kind]
        processes.append(psutil.Popen([bin/'dask', kind, *map(str, arguments)], cwd=home, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return processes[-1]
    run.address = None
    run('scheduler', 'scheduler')
    wait_until((tmp_path/'scheduler.json').exists)
    run.address = json.loads((tmp_path/'scheduler.json').read_text())['address']
    yield run
    for process in processes:
        for one in [*process.children(recursive=True), process] if process.is_running() else []: one.kill()
        process.wait()


def wait_for_workers(address, n):
    "Wait until a scheduler has so many workers."
    program = f'from distributed import Client; Client({address!r}).wait_for_workers({n}, timeout={PATIENTLY})'
    subprocess.run([sys.executable, '-c', program], check=True)


def test_a_cluster_without_a_shared_disk(dask, start, small, tmp_path, environment):
    workers = [dask('worker', 'one'), dask('worker', 'two', threads=2)]
    wait_for_workers(dask.address, 2)
    process = start('--model', 'linear', '--epochs', '1', '--seed', '0-3', '--scheduler', dask.address, data=small)
    wait_until(lambda: all(map(kernels, workers)))
    kernel = kernels(workers[0])
    workers[0].kill()
    assert psutil.wait_procs(kernel, timeout=PATIENTLY)[1] == [] # it goes with its worker
    dask('worker', 'three', nanny=True) # with an empty cache, and in an environment of dask's making
    wait_for_workers(dask.address, 2)
    workers[1].kill()
    assert process.wait(PATIENTLY) == 0, process.stderr.read()
    out, text = tmp_path/'runs', process.stdout.read()
    assert text.count('begun once more') >= 2 and len(runs_in(out)) == 4 and not leftovers(out)
    assert not any({'OMP_NUM_THREADS', 'MKL_NUM_THREADS'} & set(record['device']['settings']) for record in runs_in(out).values())
    place = data_folder(read_data(small).sha256).name
    kept = {name: next((tmp_path/name/'cache').glob(f'**/{place}/test.csv')) for name in ('one', 'two', 'three')}
    assert all(path.read_bytes() == (small/'test.csv').read_bytes() for path in kept.values())
    before = kept['three'].stat().st_mtime_ns
    assert verify(out/next(iter(runs_in(out))), str(small))[0] == 0
    again = start('--model', 'linear', '--epochs', '1', '--seed', '4', '--scheduler', dask.address, data=small)
    assert again.wait(PATIENTLY) == 0, again.stderr.read()
    assert kept['three'].stat().st_mtime_ns == before # the data was there
    assert not list((tmp_path/'three'/'work').glob('**/pipeline.ipynb')) # what was sent back is gone there


def test_workers_with_another_version(dask, command, tmp_path):
    other = tmp_path/'other'/'mnist_kaggle-9.9.9.dist-info'
    other.mkdir(parents=True)
    (other/'METADATA').write_text('Metadata-Version: 2.1\nName: mnist_kaggle\nVersion: 9.9.9\n')
    dask('worker', 'one', PYTHONPATH=str(other.parent))
    wait_for_workers(dask.address, 1)
    result = command('sweep', '--data', 'sample', '--model', 'linear', '--scheduler', dask.address, cwd=tmp_path)
    assert result.returncode == 1 and '9.9.9' in result.stderr and '0.1.0' in result.stderr and not (tmp_path/'runs').exists()


def test_a_cluster_without_workers(dask, command, tmp_path):
    result = command('sweep', '--data', 'sample', '--model', 'linear', '--scheduler', dask.address, cwd=tmp_path)
    assert result.returncode == 1 and 'no workers' in result.stderr and 'dask worker' in result.stderr


def test_a_scheduler_that_does_not_answer(monkeypatch):
    assert PATIENCE < 10
    monkeypatch.setattr(cluster, 'PATIENCE', 1)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        for address in (f'tcp://127.0.0.1:{silent.getsockname()[1]}', 'tcp://127.0.0.1:1', 'nonsense://127.0.0.1'):
            with pytest.raises(SweepError, match=re.escape(address)):
                with remote_client(address): pass


def test_workers_are_as_many_as_there_is_room_for(monkeypatch):
    monkeypatch.setattr(cluster, 'CPU_COUNT', 8)
    assert len(worker_environments(1, [])) == 8 and len(worker_environments(4, [])) == 2 and len(worker_environments(16, [])) == 1
    assert worker_environments(1, ['3', 'GPU-a']) == [{'CUDA_VISIBLE_DEVICES': '3'}, {'CUDA_VISIBLE_DEVICES': 'GPU-a'}]


def test_workers_that_differ_in_their_gpus():
    class Client:
        def __init__(self, *problems): self.problems = dict(enumerate(problems))
        def run(self, function): return self.problems
        def nthreads(self): return self.problems
    assert worker_device(Client(None, None), 'auto') == 'cuda' and worker_device(Client('x', 'x'), 'auto') == 'cpu' and worker_device(Client('x', None), 'cpu') == 'cpu'
    for problems, name in [(('x', None), 'auto'), (('x', 'x'), 'cuda')]:
        with pytest.raises(SweepError, match='CUDA'): worker_device(Client(*problems), name)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "Runs for ensembles, by what is special about them."
    folder = tmp_path_factory.mktemp('runs')
    for name, more in {'a': {}, 'b': {'seed': 1}, 'fold': {'rows': 'fold-1-of-3'}, 'fold5': {'rows': 'fold-1-of-5'}, 'all': {'rows': 'all'}}.items():
        execute({'model': 'linear', 'data': 'sample', 'epochs': 1, **more}, folder/name)
    return folder


def copied(runs, tmp_path, *names):
    "Copies of runs, which may be damaged."
    return [Path(shutil.copytree(runs/name, tmp_path/name)) for name in names]


def change(run, **values):
    "Change a record, and its hash with it."
    record = json.loads((run/'run.json').read_text()) | values
    record['sha256'] = record_sha256(record)
    (run/'run.json').write_text(json.dumps(record, indent=1))


def test_members_that_do_not_go_together(runs, tmp_path):
    for names, words in {('a', 'all'): 'all, first80', ('fold', 'fold5'): 'fold-1-of-3, fold-1-of-5', ('a',): 'two members', ('a', 'a'): 'each of them once'}.items():
        with pytest.raises(RecordError, match=words): make_ensemble([runs/name for name in names], tmp_path)
    a, b = copied(runs, tmp_path, 'a', 'b')
    data = read_record(b)['data']
    change(b, data={**data, 'sha256': {**data['sha256'], 'test.csv': '0'*64}})
    with pytest.raises(RecordError, match='different data: test.csv'): make_ensemble([a, b], tmp_path)
    assert not list(tmp_path.glob('ensemble-*')) and not leftovers(tmp_path)


def test_a_member_that_is_incomplete_or_was_changed(runs, tmp_path):
    a, b = copied(runs, tmp_path, 'a', 'b')
    with (b/'logits.safetensors').open('ab') as file: file.write(b'0')
    with pytest.raises(RecordError, match='logits.safetensors was changed'): make_ensemble([a, b], tmp_path)
    (b/'run.json').unlink()
    with pytest.raises(RecordError, match='neither a run nor a sweep'): find_members([a, b])


def test_an_ensemble_is_checked_verified_and_no_member(runs, tmp_path, command):
    a, b = copied(runs, tmp_path, 'a', 'b')
    result = command('ensemble', a, b, '--data', 'sample', '--out', tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder, = tmp_path.glob('ensemble-*')
    assert command('check', folder/'submission.csv', '--data', 'sample', cwd=tmp_path).returncode == 0
    assert command('verify', folder, '--data', 'sample', cwd=tmp_path).returncode == 0
    assert [member['path'] for member in read_record(folder)['members']] == ['a', 'b']
    with pytest.raises(RecordError, match='is an ensemble'): make_ensemble([a, folder], tmp_path)
    shutil.copy(a/'logits.safetensors', folder)
    assert verify_ensemble(folder, 'sample')[0] == 1
    files = {name: read_record(a)['files'][name] for name in ('submission.csv', 'logits.safetensors')}
    shutil.copy(a/'submission.csv', folder)
    change(folder, files=files) # somebody has put in a better one, and rewritten the record
    assert verify_ensemble(folder, 'sample')[0] == 1
    shutil.rmtree(b)
    status, words = verify_ensemble(folder, 'sample')
    assert status == 2 and 'b is missing' in words


def test_top_is_of_a_sweep(runs, tmp_path):
    with pytest.raises(RecordError, match="a sweep's folder"): find_members([runs/'a', runs/'b'], top=2)
    with pytest.raises(RecordError, match='neither a run nor a sweep'): find_members([tmp_path])
    (tmp_path/'sweep.csv').write_text('run,rows,accuracy,error\nall,all,,\nall2,all,,\n')
    with pytest.raises(RecordError, match='all rows'): find_members([tmp_path], top=2)
