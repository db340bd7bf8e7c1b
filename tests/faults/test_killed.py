"Runs that are killed, stopped, starved of space or made twice at once: the same command again always comes to the same, complete result."
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mnist_kaggle.runs.record import RESULTS, read_record

PROGRAM = Path(sys.executable).with_name('mnist_kaggle')
RUN = ('run', '--model', 'linear', '--epochs', '3', '--batch-size', '16') # five batches an epoch, and two to validate
SAME = [name for name in RESULTS if name != 'history.csv'] # which holds seconds

# Where the event is seen, its kind, the end of its name, the how manieth: in the order in which they come. Once the runner has kept the parsed rows
# it no longer writes them, and once it has opened the folder of the runs, to flush it, the run is whole: that one is the last.
IN_KERNEL = [
    'kernel import numpy 1', 'kernel import torch 1', 'kernel import fastai.learner 1', 'kernel open train.csv 1', 'kernel open test.csv 1',
    'kernel import mnist_kaggle.models.metrics 1', 'kernel batch - 1', 'kernel batch - 2', 'kernel batch - 4', 'kernel batch - 6', 'kernel batch - 9', 'kernel batch - 13',
    'kernel batch - 17', 'kernel batch - 20', 'kernel rename submission.csv 1', 'kernel rename history.csv 1', 'kernel rename model.safetensors 1', 'kernel rename recipe.json 1',
    'kernel rename logits.safetensors 1', 'kernel rename run.json 1']
IN_RUNNER = [
    'runner open train.csv 1', 'runner rename train.csv 1', 'runner rename test.csv 1', 'runner import papermill 1', *IN_KERNEL[::2], 'runner open pipeline.ipynb 4',
    'runner open pipeline.ipynb 5', 'runner open pipeline.ipynb 6', 'runner open run.json 1', 'runner rename linear 1', 'runner open runs 1']
CHAINS = 2


def start(folder, *arguments, fault='', cache=None, prefix=()):
    "The command as a process in a folder, with a cache of its own."
    environment = {name: value for name, value in os.environ.items() if name != 'MNIST_KAGGLE_DATA'}
    for name in ('home', 'tmp'): (folder/name).mkdir(exist_ok=True)
    environment |= {'HOME': str(folder/'home'), 'TMPDIR': str(folder/'tmp'), 'XDG_CACHE_HOME': str(cache or folder/'cache'), 'FAULT': fault, 'PYTHONPATH': str(Path(__file__).with_name('inject'))}
    return subprocess.Popen([*prefix, PROGRAM, *map(str, arguments)], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, status=0):
    "Its output, after it ended as expected."
    out, err = process.communicate()
    assert process.returncode == status, (process.returncode, out, err)
    return out + err


def left_over(folder):
    "Processes that work in a folder."
    found = []
    for process in psutil.process_iter(['cwd', 'status']):
        if process.info['status'] != psutil.STATUS_ZOMBIE and str(process.info['cwd'] or '').startswith(str(folder)): found.append(process)
    return found


def results(run): return {name: (run/name).read_bytes() for name in SAME}


@pytest.fixture(scope='module')
def reference(tmp_path_factory, sample_contents):
    "The small data, and what an undisturbed run makes of it: the run's name, and its files."
    folder = tmp_path_factory.mktemp('reference')
    for name, content in sample_contents.items():
        (folder/'small').mkdir(exist_ok=True)
        (folder/'small'/name).write_bytes(content)
    finish(start(folder, *RUN, '--data', folder/'small'))
    [run] = (folder/'runs').iterdir()
    return folder/'small', run.name, results(run)


def check_again(folder, reference, *arguments, failed=()):
    "The same command ends well now, with the right result, and nothing else beside it."
    data, name, expected = reference
    finish(start(folder, *RUN, '--data', data, *arguments))
    read_record(folder/'runs'/name)
    assert results(folder/'runs'/name) == expected
    assert {path.name for path in (folder/'runs').iterdir()} - set(failed) == {name}
    assert not [path for path in (folder/'cache').rglob('*') if path.name.endswith('.part')]
    assert not list((folder/'tmp').iterdir())


def kill(folder, reference, event, victim):
    "Kill a runner or a kernel at an event. Nobody is left, and nothing false is there."
    data, name, _ = reference
    process = start(folder, *RUN, '--data', data, fault=f'{event} {victim}')
    _, err = process.communicate()
    assert process.returncode == (-9 if victim == 'runner' else 1), (event, victim, process.returncode, err)
    if victim == 'kernel': assert 'The kernel died' in err
    psutil.wait_procs(left_over(folder), timeout=30)
    assert not left_over(folder)
    if (folder/'runs'/name).exists(): read_record(folder/'runs'/name) # only whole, as after the rename


def kill_and_go_on(folder, reference, events, victim):
    "The same command, killed at one event after the other, goes on from whatever the kills before have left, and ends well when nobody kills it."
    folder.mkdir()
    for event in events:
        assert not (folder/'runs'/reference[1]).exists(), f'the run was whole before {event}'
        kill(folder, reference, event, victim)
    check_again(folder, reference, failed=[f'{reference[1]}-failed.ipynb'])


@pytest.mark.parametrize('victim, events', [('kernel', IN_KERNEL), ('runner', IN_RUNNER)])
def test_killed(tmp_path, reference, count, victim, events):
    chains = [events[i::CHAINS] for i in range(CHAINS)] # each has all of a run's parts in it
    with ThreadPoolExecutor(CHAINS) as pool: list(pool.map(lambda chain: kill_and_go_on(tmp_path/chain[0], reference, chain, victim), chains))
    count(f'SIGKILL of the {victim}, at an event of the run each', len(events))


@pytest.mark.parametrize('act, status', [('SIGINT', 130), ('SIGTERM', 143)])
def test_stopped(tmp_path, reference, count, act, status):
    events = ['kernel import torch 1', 'kernel batch - 4', 'kernel rename model.safetensors 1', 'runner open pipeline.ipynb 6']
    for event in events:
        assert 'Traceback' not in finish(start(tmp_path, *RUN, '--data', reference[0], fault=f'{event} {act}'), status)
        assert not left_over(tmp_path), event
        assert not list(tmp_path.glob('runs/*')), event # which may not be there yet
    check_again(tmp_path, reference)
    count(f'{act} to the runner (it must leave no process and no file)', len(events))


def test_the_time_limit(tmp_path, reference, count):
    said = finish(start(tmp_path, *RUN, '--data', reference[0], '--time-limit', '0.01'), 1)
    assert 'The time limit of 0.01 minutes was reached' in said
    assert not left_over(tmp_path)
    check_again(tmp_path, reference, '--time-limit', '60', failed=[f'{reference[1]}-failed.ipynb'])
    count('time limit reached', 1)


def test_killed_while_verifying(tmp_path, reference, count):
    finish(start(tmp_path, *RUN, '--data', reference[0]))
    verify = ('verify', f'runs/{reference[1]}', '--data', reference[0])
    start(tmp_path, *verify, fault='kernel batch - 4 runner').communicate()
    assert list((tmp_path/'tmp').iterdir())
    assert 'byte for byte' in finish(start(tmp_path, *verify))
    assert not [path for folder in (tmp_path/'tmp').iterdir() for path in folder.iterdir()]
    count('SIGKILL of `verify`', 1)


def test_two_equal_runs_at_once(tmp_path, reference, count):
    for i in range(3):
        folder = tmp_path/str(i)
        folder.mkdir()
        for process in [start(folder, *RUN, '--data', reference[0]) for _ in range(2)]: finish(process)
        check_again(folder, reference)
    count('two equal runs at once', 3)


@pytest.fixture(scope='module')
def unshare():
    "The words that give a command mounts of its own."
    words = ['unshare', '--mount', '--propagation', 'private', '--']
    if not shutil.which('unshare') or subprocess.run([*words, 'mount', '-t', 'tmpfs', 'none', '/mnt'], capture_output=True).returncode:
        pytest.skip('mounts of its own are not allowed here (unshare --mount)')
    return words


def script(text): return ['sh', '-ec', text + '\n"$@"', 'sh']


def test_a_full_disk(tmp_path, reference, count, unshare):
    sizes = ['8k', '24k', '40k', '56k', '72k', '88k']
    (tmp_path/'runs').mkdir()
    mounted = [*unshare, 'sh', '-c', f'''
        mount -t tmpfs -o size=4k none runs
        for size in {' '.join(sizes)}; do mount -o remount,size=$size none runs; "$@" >$size 2>&1 && exit 6; test ! -e runs/{reference[1]} || exit 7; done
        mount -o remount,size=50m none runs; "$@" || exit 8; mkdir kept; cp -r runs/{reference[1]} kept/''', 'sh']
    assert 'Traceback' not in finish(start(tmp_path, *RUN, '--data', reference[0], prefix=mounted))
    for size in sizes:
        said = (tmp_path/size).read_text()
        assert 'No space left on device' in said and 'Traceback' not in said, said
    read_record(tmp_path/'kept'/reference[1])
    assert results(tmp_path/'kept'/reference[1]) == reference[2]
    count('a disk that is full at some point of the run', len(sizes))


def test_a_folder_that_is_read_only(tmp_path, reference, count, unshare):
    (tmp_path/'runs').mkdir()
    mounted = [*unshare, *script('mount --bind runs runs; mount -o remount,ro,bind runs')]
    said = finish(start(tmp_path, *RUN, '--data', reference[0], prefix=mounted), 1)
    assert "runs can't be written to (Read-only file system)" in said and 'Traceback' not in said
    check_again(tmp_path, reference)
    count('a folder for runs that is read-only', 1)


def test_a_cache_that_is_read_only(tmp_path, reference, count, unshare):
    (tmp_path/'cache').mkdir()
    mounted = [*unshare, *script('mount --bind cache cache; mount -o remount,ro,bind cache')]
    said = finish(start(tmp_path, *RUN, '--data', reference[0], prefix=mounted))
    assert 'The parsed rows are not cached' in said
    assert results(tmp_path/'runs'/reference[1]) == reference[2]
    count('a cache that is read-only', 1)


def test_file_times_in_the_future(tmp_path, reference, count):
    data, name, expected = reference
    shutil.copytree(data, tmp_path/'data')
    finish(start(tmp_path, *RUN, '--data', tmp_path/'data'))
    places = [tmp_path, *tmp_path.rglob('*')]
    for path in places: os.utime(path, (4e9, 4e9))
    assert 'is already complete' in finish(start(tmp_path, *RUN, '--data', tmp_path/'data'))
    shutil.rmtree(tmp_path/'runs'/name)
    check_again(tmp_path, reference)
    (tmp_path/'data/test.csv').write_bytes((tmp_path/'data/test.csv').read_bytes().replace(b'\n0', b'\n1', 1))
    os.utime(tmp_path/'data/test.csv', (4e9, 4e9))
    assert 'is already complete' not in finish(start(tmp_path, *RUN, '--data', tmp_path/'data')) # another test file is another run
    count('files of the future (times of the year 2096)', len(places))
