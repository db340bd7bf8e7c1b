"Sweeps whose kernels, kernel servers and workers are killed, here and on a cluster without a shared disk; and sweeps that are stopped."
import os
import signal
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from sweeping import PATIENTLY, kernels, leftovers, runs_in, wait_until, wait_for_workers

from mnist_kaggle.data.digits import read_data
from mnist_kaggle.runs.record import read_record
from mnist_kaggle.runs.verify import verify
from mnist_kaggle.sweeps.transfer import data_folder


def test_a_kernel_that_is_killed_once_and_a_run_like_that_of_the_command(start, command, tmp_path):
    process, out = start('--model', 'linear', '--epochs', '1', '--seed', '0-1'), tmp_path/'runs'
    wait_until(lambda: kernels(process))[0].kill()
    assert process.wait(PATIENTLY) == 0, process.stderr.read()
    assert process.stdout.read().count('is started again') == 1 and len(runs_in(out)) == 2 and not leftovers(out)
    assert command('run', '--data', 'sample', '--model', 'linear', '--epochs', '1', '--out', 'other', cwd=tmp_path).returncode == 0
    (name, theirs), = runs_in(tmp_path/'other').items()
    for file in theirs['files']:
        if file != 'history.csv': assert (out/name/file).read_bytes() == (tmp_path/'other'/name/file).read_bytes()
    assert kinds_of_output(out/name) == kinds_of_output(tmp_path/'other'/name) # fastai knows in both that it is in a notebook
    assert read_record(out/name)['device'] == theirs['device'] # dask's own environment did not come through


def kinds_of_output(run):
    "What each cell of a run's notebook has shown: as what, not what."
    return [[(output.output_type, list(output.get('data', ()))) for output in cell.get('outputs', ())] for cell in nbformat.read(run/'pipeline.ipynb', 4).cells]


def test_a_kernel_server_that_is_killed(start, tmp_path):
    process, out = start('--model', 'linear', '--epochs', '1', '--seed', '0-3'), tmp_path/'runs'
    kernel = wait_until(lambda: kernels(process))[0]
    kernel.parent().kill()
    assert psutil.wait_procs([kernel], timeout=PATIENTLY)[1] == [] # it goes with its server
    assert process.wait(PATIENTLY) == 0, process.stderr.read()
    assert process.stdout.read().count('is started again') == 1 and len(runs_in(out)) == 4 and not leftovers(out)


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
                    kernel.parent().parent().kill()
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


def test_a_cluster_without_a_shared_disk(dask, start, small, tmp_path, environment):
    workers = [dask('worker', 'one'), dask('worker', 'two', threads=2)]
    wait_for_workers(dask.address, 2)
    process = start('--model', 'linear', '--epochs', '2', '--seed', '0-3', '--scheduler', dask.address, data=small)
    wait_until(lambda: all(map(kernels, workers)))
    family = workers[0].children(recursive=True)
    assert set(kernels(workers[0])) < set(family)
    workers[0].kill()
    assert psutil.wait_procs(family, timeout=PATIENTLY)[1] == [] # kernels go with their worker, and what they are forked from
    wait_until(lambda: kernels(workers[1])) # so that this one, too, is killed in a run
    workers[1].kill()
    dask('worker', 'three', nanny=True) # with an empty cache, and in an environment of dask's making
    assert process.wait(PATIENTLY) == 0, process.stdout.read() + process.stderr.read()
    out, text = tmp_path/'runs', process.stdout.read()
    assert text.count('is started again') >= 2 and len(runs_in(out)) == 4 and not leftovers(out)
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
