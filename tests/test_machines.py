"Other machines: locales, users without a home, odd folders, systems and file systems that lack something."
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from running import execute

from mnist_kaggle.runs.record import read_record

PROGRAM = Path(sys.executable).with_name('mnist_kaggle')
RUN = ('run', '--model', 'linear', '--epochs', '1', '--data', 'sample')
SIX_BITS = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'} # ASCII


def the_run(folder):
    found, = [path.parent for path in folder.glob('*/run.json')]
    return found


def injected(folder, code):
    "An environment in which every Python runs this code first."
    (folder/'first').mkdir()
    (folder/'first/sitecustomize.py').write_text(code)
    return {'PYTHONPATH': str(folder/'first')}


STRICT = """
import warnings
warnings.filterwarnings('error', category=EncodingWarning, module='mnist_kaggle')
"""

def test_every_text_file_is_read_as_utf_8(process, tmp_path):
    strict = {**injected(tmp_path, STRICT), 'PYTHONWARNDEFAULTENCODING': '1'}
    for command in ((*RUN, '--out', 'runs'), ('report', '--out', 'runs'), ('sweep', '--model', 'linear', '--epochs', '1', '--seed', '1', '--data', 'sample')):
        result = process(*command, cwd=tmp_path, **strict)
        assert result.returncode == 0, result.stderr
    for command in ('verify', 'ensemble'):
        runs = sorted(path.parent for path in (tmp_path/'runs').glob('*/run.json'))[:1 if command == 'verify' else 2]
        result = process(command, *runs, cwd=tmp_path, **strict)
        assert result.returncode == 0, result.stderr


def test_the_search_for_other_encodings_finds(process, tmp_path):
    "It is seen, where our code reads a file without saying how it is encoded."
    code = STRICT + "import pathlib\npathlib.Path('x.txt').write_bytes(b'x')\nexec(compile(\"pathlib.Path('x.txt').read_text()\", 'x', 'exec'), {'__name__': 'mnist_kaggle.x', 'pathlib': pathlib})"
    result = process('--help', cwd=tmp_path, **injected(tmp_path, code), PYTHONWARNDEFAULTENCODING='1')
    assert 'EncodingWarning' in result.stderr


def test_the_same_run_in_ascii(process, tmp_path):
    names = []
    for folder, locale in (('utf-8', {}), ('ascii', SIX_BITS)):
        result = process(*RUN, '--out', folder, cwd=tmp_path, **locale)
        assert result.returncode == 0, result.stderr
        names.append(the_run(tmp_path/folder).name)
    assert names[0] == names[1]
    for command in (('verify', the_run(tmp_path/'utf-8')), ('report', '--out', 'utf-8'), ('run', '--help')): assert process(*command, cwd=tmp_path, **SIX_BITS, BROWSER='true').returncode == 0
    result = process('check', 'größe.csv', cwd=tmp_path, **SIX_BITS)
    assert result.returncode == 1 and 'Traceback' not in result.stderr and 'is not a file' in result.stderr


def nameless(*command, folder, **variables):
    "As a user without a name, in an environment without a home."
    return subprocess.run(['unshare', '--user', '--map-user=12345', 'env', '-i', 'PATH=/usr/bin:/bin', f'TMPDIR={folder}', *(f'{name}={value}' for name, value in variables.items()), PROGRAM, *command],
                          cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(subprocess.run(['unshare', '--user', '--map-user=12345', 'true'], capture_output=True).returncode != 0 if shutil.which('unshare') else True,
                    reason='this system lets nobody be another user (unshare --user)')
def test_a_user_without_a_name_and_a_home(tmp_path):
    result = nameless(*RUN, folder=tmp_path)
    assert result.returncode == 0 and 'Traceback' not in result.stderr and 'This user has no home folder' in result.stdout, result.stderr
    assert the_run(tmp_path/'runs') and not (tmp_path/'~').exists()
    result = nameless(*RUN, '--out', 'others', folder=tmp_path, HOME='/proc/nowhere')
    assert result.returncode == 0 and "can't be used" in result.stdout, result.stderr
    assert nameless('sweep', *RUN[1:], '--seed', '1-2', folder=tmp_path, HOME='/proc/nowhere').returncode == 0


@pytest.mark.parametrize('out', ['-x', '~/y', './a b', 'ä{0}'])
def test_the_name_of_the_folder(process, tmp_path, out):
    home = tmp_path/'home'
    home.mkdir()
    for command in (RUN, ('sweep', *RUN[1:], '--seed', '1')):
        result = process(*command, f'--out={out}', cwd=tmp_path, HOME=str(home))
        assert result.returncode == 0 and '"nbformat"' not in result.stdout, result.stderr
    folder = home/'y' if out.startswith('~') else tmp_path/out
    assert len(list(folder.glob('*/run.json'))) == 2 and not (tmp_path/'~').exists()


def test_a_clone_that_looks_like_the_library(tmp_path, environment):
    "Where the library is not installed, a folder of its name is no library."
    (tmp_path/'mnist_kaggle/mnist_kaggle').mkdir(parents=True)
    cell = nbformat.read(Path(__file__).parents[1]/'nbs/pipeline.ipynb', 4).cells[1].source
    result = subprocess.run([sys.executable, '-S', '-c', cell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and 'ImportError: 0 wheels' in result.stderr and 'install mnist_kaggle' in result.stderr


@pytest.mark.parametrize('code, words', [
    ("import sys; sys.modules['fcntl'] = None", 'this system has no fcntl'),
    ("import fcntl, errno\ndef flock(*arguments): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock", 'No locks available')])
def test_nothing_can_be_locked(process, tmp_path, code, words):
    surroundings = injected(tmp_path, code)
    assert process('--help', cwd=tmp_path, **surroundings).returncode == 0
    result = process(*RUN, cwd=tmp_path, **surroundings)
    assert result.returncode == 0 and result.stdout.count('Nothing can be locked here') == 1 and words in result.stdout, result.stderr
    assert [path.name for path in (tmp_path/'runs').iterdir()] == [the_run(tmp_path/'runs').name]


def test_another_error_of_a_lock_is_told_and_leaves_nothing(process, tmp_path):
    code = "import fcntl, errno\ndef flock(*arguments): raise OSError(errno.EIO, 'Input/output error')\nfcntl.flock = flock"
    result = process(*RUN, cwd=tmp_path, **injected(tmp_path, code))
    assert result.returncode == 1 and 'Input/output error' in result.stderr and 'Traceback' not in result.stderr
    assert not list((tmp_path/'runs').glob('.*') if (tmp_path/'runs').exists() else [])


def test_what_was_left_where_nothing_can_be_locked_is_cleared_away_after_a_week(process, tmp_path):
    code = "import fcntl, errno\ndef flock(*arguments): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock"
    for age, name in ((8, 'old'), (1, 'young')):
        folder = tmp_path/f'runs/.linear-{name}.0.mnist_kaggle-unfinished'
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age*24*3600,) * 2)
    assert process(*RUN, cwd=tmp_path, **injected(tmp_path, code)).returncode == 0
    assert [path.name for path in (tmp_path/'runs').glob('.*')] == ['.linear-young.0.mnist_kaggle-unfinished']


@pytest.mark.parametrize('command', [('run', '--model', 'linear'), ('sweep', '--model', 'linear', '--seed', '0-3'), ('check', 'none.csv')])
@pytest.mark.parametrize('event', ['click', 'numpy', 'distributed'])
def test_ctrl_c_while_it_loads(tmp_path, environment, command, event):
    "The signal comes as soon as a module is imported."
    code = f'''
import os, signal, sys
def seen(kind, arguments):
    if kind == 'import' and arguments[0] == {event!r} and 'mnist_kaggle' in ' '.join(sys.orig_argv[:3]): os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(seen)
'''
    result = subprocess.run([PROGRAM, *command, '--data', 'sample'], cwd=tmp_path, env={**environment, **injected(tmp_path, code)}, capture_output=True, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert 'Traceback' not in result.stderr and (result.returncode == 130 or event not in sys.modules and result.returncode in (0, 1)), result.stderr


# Runs and their notebooks

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return execute({'model': 'linear', 'data': 'sample', 'epochs': 1}, tmp_path_factory.mktemp('made')/'linear-1') and next(tmp_path_factory.getbasetemp().glob('made*/linear-1'))


def test_an_edited_notebook_is_found(command, tmp_path, made):
    folder = shutil.copytree(made, tmp_path/'linear-1')
    assert subprocess.run(['sha256sum', '--check', '--quiet', 'pipeline.sha256'], cwd=folder).returncode == 0
    text = (folder/'pipeline.ipynb').read_text(encoding='utf-8')
    (folder/'pipeline.ipynb').write_text(text.replace('0.9', '0.99'), encoding='utf-8')
    for name in ('verify', 'report'):
        result = command(name, folder, cwd=tmp_path)
        assert result.returncode == 1 and 'pipeline.ipynb was changed since the run ended' in result.stdout + result.stderr
    (folder/'pipeline.sha256').unlink() # as of an older version
    assert command('verify', folder, cwd=tmp_path).returncode == 0 and read_record(folder)


def test_pages_that_are_there_and_whole_stay(command, tmp_path, made):
    for name in ('linear-1', 'linear-2'): shutil.copytree(made, tmp_path/'runs'/name)
    assert command('report', cwd=tmp_path).returncode == 0
    pages = [tmp_path/'runs'/name/'report.html' for name in ('linear-1', 'linear-2')]
    whole = pages[1].read_bytes()
    pages[1].write_bytes(whole[:-100])
    before = [page.stat().st_mtime_ns for page in pages]
    assert command('report', cwd=tmp_path).returncode == 0
    assert [page.stat().st_mtime_ns == time for page, time in zip(pages, before)] == [True, False] and pages[1].read_bytes() == whole


def test_help_fits(command, tmp_path):
    lines = command('--help', cwd=tmp_path).stdout.splitlines()
    assert not [line for line in lines[1:] if line.endswith('...')] and max(map(len, lines)) <= 80
    text = command('run', '--help', cwd=tmp_path).stdout
    assert text.index('--model') < text.index("Recipe (default: the model's own)") < text.index('--epochs') < text.index('More of the recipe') < text.index('--optimiser')
