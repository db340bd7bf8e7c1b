"Sweeps on a cluster without a shared disk, with workers killed."
import signal
import re
import socket

import psutil
import pytest
from sweeping import PATIENTLY, kernels, runs_in, wait_until, wait_for_workers

from mnist_kaggle.sweeps import cluster
from mnist_kaggle.sweeps.cluster import PATIENCE, remote_client, worker_device, worker_environments
from mnist_kaggle.sweeps.values import SweepError


def test_a_sweep_that_is_stopped_kills_its_runs_on_a_cluster(dask, start, small):
    worker = dask('worker', 'one')
    wait_for_workers(dask.address, 1)
    process = start('--model', 'linear', '--epochs', '5000', '--seed', '0-3', '--scheduler', dask.address, data=small)
    [kernel] = wait_until(lambda: kernels(worker))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENTLY) == 143, process.stderr.read()
    assert psutil.wait_procs([kernel], timeout=PATIENTLY)[1] == [] and worker.is_running() # which may have other work


@pytest.mark.whole
def test_two_runs_at_once_in_one_process(dask, start, small, tmp_path):
    dask('worker', 'one', threads=2)
    wait_for_workers(dask.address, 1)
    process = start('--model', 'linear', '--epochs', '1', '--seed', '0-3', '--scheduler', dask.address, data=small)
    assert process.wait(PATIENTLY) == 0, process.stdout.read() + process.stderr.read()
    assert sorted(record['parameters']['seed'] for record in runs_in(tmp_path/'runs').values()) == [*range(4)]


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
