"Surroundings that are against a run: file systems without locks, a cache that can't be used, and a power cut."
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from test_killed import RUN, SAME, check_again, finish, reference, results, start, unshare # two fixtures among them

from mnist_kaggle.data.cache import cache_folder
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.writing import write_file

ERRORS = ('ENOLCK', 'ENOSYS', 'EOPNOTSUPP', 'EBADF', 'EINVAL')


def first(folder, code):
    "An environment in which each Python runs this code first."
    folder.mkdir()
    (folder/'sitecustomize.py').write_text(code)
    return folder


@pytest.mark.parametrize('error', ERRORS)
def test_a_file_system_without_locks(tmp_path, reference, count, error):
    code = f"import errno, fcntl, os\ndef flock(*arguments): raise OSError(errno.{error}, os.strerror(errno.{error}))\nfcntl.flock = flock"
    patched = first(tmp_path/'first', code)
    said = finish(start(tmp_path, *RUN, '--data', reference[0], prefix=['env', f'PYTHONPATH={patched}']))
    assert said.count('File locks are unavailable here') == 1 and results(tmp_path/'runs'/reference[1]) == reference[2]
    assert [path.name for path in (tmp_path/'runs').iterdir()] == [reference[1]]
    count('a file system without locks', 1)


CACHES = {
    'read-only': 'mount --bind cache cache; mount -o remount,ro,bind cache', 'full': 'mount -t tmpfs -o size=4k none cache; dd if=/dev/zero of=cache/full bs=4k count=1 2>/dev/null || true',
    'a file in its place': 'rm -r cache; touch cache', 'a link to nowhere': 'rm -r cache; ln -s /proc/nowhere/at/all cache', 'another width': ':', 'folders in the place of files': ':'}


@pytest.mark.parametrize('command', ['run', 'sweep'])
@pytest.mark.parametrize('state', CACHES)
def test_a_cache_that_can_not_be_used(tmp_path, reference, count, unshare, state, command):
    (tmp_path/'cache/mnist_kaggle/rows-1').mkdir(parents=True)
    digests = read_data(reference[0]).sha256
    for name in ('train.csv', 'test.csv'):
        kept, mine = cache_folder()/f'rows-1/{name}-{digests[name]}', tmp_path/f'cache/mnist_kaggle/rows-1/{name}-{digests[name]}'
        if state == 'another width': # whole by its hash, and not rows
            mine.write_bytes(sha256(kept.read_bytes()[32:-1]).digest() + kept.read_bytes()[32:-1])
        if state == 'folders in the place of files': mine.mkdir()
    prefix = [*unshare, 'sh', '-c', f'{CACHES[state]}; exec "$@"', 'sh']
    if command == 'run': said = finish(start(tmp_path, *RUN, '--data', reference[0], prefix=prefix))
    else: said = finish(start(tmp_path, 'sweep', *RUN[1:], '--seed', '0', '--data', reference[0], prefix=prefix))
    assert 'Traceback' not in said and results(tmp_path/'runs'/reference[1]) == reference[2], said
    count("a cache that can't be used, in six ways", 1)


@pytest.mark.parametrize('state', ['read-only', 'full', 'a file in its place', 'a link to nowhere'])
def test_the_sample_without_a_cache(tmp_path, count, unshare, state):
    (tmp_path/'cache').mkdir()
    prefix = [*unshare, 'sh', '-c', f'{CACHES[state]}; exec "$@"', 'sh']
    said = finish(start(tmp_path, 'run', '--model', 'linear', '--epochs', '1', '--data', 'sample', prefix=prefix))
    assert "can't be used" in said and 'Traceback' not in said and len(list((tmp_path/'runs').glob('*/submission.csv'))) == 1
    count("a cache that can't be used, in six ways", 1)


CALL = re.compile(r'(fsync|fdatasync|rename\w*|openat)\((.*)')


def calls(trace, folder):
    "The system calls that flush and rename, by the paths that they are about, below a folder."
    found = []
    for line in trace.read_text().splitlines():
        call = CALL.search(line)
        if not call or ' = -1 ' in line: continue
        paths = re.findall(r'<([^>]+)>' if call[1].endswith('sync') else r'"([^"]+)"', call[2])
        found.append((call[1][:6], [path for path in paths if str(folder) in path]))
    return [(name, paths) for name, paths in found if paths]


@pytest.mark.skipif(not shutil.which('strace'), reason='strace is not installed: the order of system calls is not seen')
def test_all_that_gets_its_name_was_flushed_before_and_its_folder_is_after(tmp_path, reference, count):
    trace = tmp_path/'trace'
    strace = ['strace', '-f', '-y', '-s', '4096', '-e', 'trace=fsync,fdatasync,rename,renameat,renameat2', '-o', str(trace)]
    finish(start(tmp_path, 'sweep', *RUN[1:], '--seed', '0', '--data', reference[0], '--out', tmp_path/'runs', prefix=strace))
    seen, renames = calls(trace, tmp_path/'runs'), 0
    for i, (name, paths) in enumerate(seen):
        if name != 'rename': continue
        source, target = paths
        renames += 1
        assert any(other == 'fsync' and others == [source] for other, others in seen[:i]), f'{target} was not flushed before it got its name'
        assert any(other == 'fsync' and others == [str(Path(target).parent)] for other, others in seen[i + 1:]), f'the folder of {target} was not flushed after'
    named = {Path(paths[1]).name for name, paths in seen if name == 'rename'}
    assert {'sweep.csv', 'sweep.png', reference[1]} <= named # the run's files come from a worker, and are flushed with their folder
    count('the order of system calls: flushed, renamed, the folder flushed', renames)
