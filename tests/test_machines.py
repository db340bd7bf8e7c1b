"Other machines: locales, users without a home, odd folders, systems and file systems that lack something."
import ast
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from running import execute

from mnist_kaggle.cli.runs import draft_runs, start_importing
from mnist_kaggle.data.writing import remove_unfinished
from mnist_kaggle.runs import server
from mnist_kaggle.runs.naming import modules
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

@pytest.mark.whole
def test_every_text_file_is_read_as_utf_8(process, tmp_path):
    strict = {**injected(tmp_path, STRICT), 'PYTHONWARNDEFAULTENCODING': '1'}
    for command in (RUN, ('report',)):
        result = process(*command, cwd=tmp_path, **strict)
        assert result.returncode == 0, result.stderr


def without_encoding(source):
    "The calls in a module that read or write text, and don't say how it is encoded."
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    text = [call for call in calls if getattr(call.func, 'attr', '') in ('read_text', 'write_text') or any(word.arg in ('text', 'universal_newlines') for word in call.keywords)]
    return [ast.unparse(call) for call in text if not call.args[:getattr(call.func, 'attr', '') == 'read_text'] and not any(word.arg == 'encoding' for word in call.keywords)]


@pytest.mark.parametrize('path', modules(), ids=lambda path: path.stem)
def test_no_call_leaves_the_encoding_to_the_locale(path):
    assert without_encoding(path.read_text(encoding='utf-8')) == [] and without_encoding("path.read_text()\nrun(['git'], text=True)") == ['path.read_text()', "run(['git'], text=True)"]


def test_the_search_for_other_encodings_finds(process, tmp_path):
    "It is seen, where our code reads a file without saying how it is encoded."
    code = STRICT + "import pathlib\npathlib.Path('x.txt').write_bytes(b'x')\nexec(compile(\"pathlib.Path('x.txt').read_text()\", 'x', 'exec'), {'__name__': 'mnist_kaggle.x', 'pathlib': pathlib})"
    result = process('--help', cwd=tmp_path, **injected(tmp_path, code), PYTHONWARNDEFAULTENCODING='1')
    assert 'EncodingWarning' in result.stderr


@pytest.mark.whole
def test_the_same_run_in_ascii(process, command, tmp_path):
    assert command(*RUN, '--out', 'utf-8', cwd=tmp_path).returncode == 0
    result = process(*RUN, '--out', 'ascii', cwd=tmp_path, **SIX_BITS)
    assert result.returncode == 0 and the_run(tmp_path/'utf-8').name == the_run(tmp_path/'ascii').name, result.stderr
    result = process('check', 'größe.csv', cwd=tmp_path, **SIX_BITS)
    assert result.returncode == 1 and 'Traceback' not in result.stderr and 'is not a file' in result.stderr


STARTUP = "import torch\ntorch.set_default_dtype(torch.float64)"

@pytest.mark.whole
def test_a_users_own_profile_is_not_run(process, command, tmp_path):
    profile = tmp_path/'home/.ipython/profile_default/startup'
    profile.mkdir(parents=True)
    (profile/'0.py').write_text(STARTUP)
    (tmp_path/'startup.py').write_text(STARTUP)
    assert command(*RUN, '--out', 'plain', cwd=tmp_path).returncode == 0
    result = process(*RUN, '--out', 'own', cwd=tmp_path, HOME=str(tmp_path/'home'), PYTHONSTARTUP=str(tmp_path/'startup.py'))
    assert result.returncode == 0, result.stderr
    ours, theirs = (the_run(tmp_path/out) for out in ('plain', 'own'))
    assert ours.name == theirs.name and (ours/'logits.safetensors').read_bytes() == (theirs/'logits.safetensors').read_bytes()


@pytest.mark.parametrize('closed', ['>&- 2>&-', '<&-'])
def test_a_closed_terminal(tmp_path, environment, closed):
    "As cron and daemons leave it."
    result = subprocess.run(['sh', '-c', f'exec "$@" {closed}', 'sh', PROGRAM, *RUN], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def nameless(*command, folder, **variables):
    "As a user without a name, in an environment without a home."
    return subprocess.run(['unshare', '--user', '--map-user=12345', 'env', '-i', 'PATH=/usr/bin:/bin', f'TMPDIR={folder}', *(f'{name}={value}' for name, value in variables.items()), PROGRAM, *command],
                          cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(subprocess.run(['unshare', '--user', '--map-user=12345', 'true'], capture_output=True).returncode != 0 if shutil.which('unshare') else True,
                    reason='this system lets nobody be another user (unshare --user)')
@pytest.mark.whole
def test_a_user_without_a_name_and_a_home(tmp_path):
    result = nameless(*RUN, folder=tmp_path)
    assert result.returncode == 0 and 'Traceback' not in result.stderr and 'This user has no home folder' in result.stdout, result.stderr
    assert the_run(tmp_path/'runs') and not (tmp_path/'~').exists()
    result = nameless(*RUN, '--out', 'others', folder=tmp_path, HOME='/proc/nowhere')
    assert result.returncode == 0 and "can't be used" in result.stdout, result.stderr


@pytest.mark.parametrize('out', ['-x', '~/y', './a b', 'ä{0}'])
def test_the_name_of_the_folder(command, cache_home, tmp_path, out):
    for words in (RUN, ('sweep', *RUN[1:], '--seed', '1'))[:2 if out == '-x' else 1]:
        result = command(*words, f'--out={out}', cwd=tmp_path)
        assert result.returncode == 0 and '"nbformat"' not in result.stdout, result.stderr
    assert list((cache_home/'y' if out.startswith('~') else tmp_path/out).glob('*/run.json')) and not (tmp_path/'~').exists()


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
    assert result.returncode == 0 and result.stdout.count('File locks are unavailable here') == 1 and words in result.stdout, result.stderr
    assert [path.name for path in (tmp_path/'runs').iterdir()] == [the_run(tmp_path/'runs').name]


def test_another_error_of_a_lock_is_told_and_leaves_nothing(process, tmp_path):
    code = "import fcntl, errno\ndef flock(*arguments): raise OSError(errno.EIO, 'Input/output error')\nfcntl.flock = flock"
    result = process(*RUN, cwd=tmp_path, **injected(tmp_path, code))
    assert result.returncode == 1 and 'Input/output error' in result.stderr and 'Traceback' not in result.stderr
    assert not list((tmp_path/'runs').glob('.*') if (tmp_path/'runs').exists() else [])


def test_what_was_left_where_nothing_can_be_locked_is_cleared_away_after_a_week(tmp_path, monkeypatch):
    def flock(*arguments): raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(fcntl, 'flock', flock)
    for age, name in ((8, 'old'), (1, 'young')):
        (tmp_path/f'.linear-{name}.0.mnist_kaggle-unfinished').mkdir()
        os.utime(tmp_path/f'.linear-{name}.0.mnist_kaggle-unfinished', (time.time() - age*24*3600,) * 2)
    remove_unfinished(tmp_path, '.*.mnist_kaggle-unfinished')
    assert [path.name for path in tmp_path.iterdir()] == ['.linear-young.0.mnist_kaggle-unfinished']


@pytest.mark.parametrize('command, event', [(('run', '--model', 'linear'), 'click'), (('run', '--model', 'linear'), 'numpy'), (('sweep', '--model', 'linear'), 'distributed'), (('check', 'none.csv'), 'pandas')])
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
    assert 'Traceback' not in result.stderr and result.returncode == 130, result.stderr


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


def test_help_loads_no_command(tmp_path):
    program = '''import sys
sys.argv = ['mnist_kaggle', '--help']
from mnist_kaggle.cli.start import main
try: main()
except SystemExit: print(sorted({'numpy', 'pandas', 'fastcore', 'mnist_kaggle.cli.runs'} & {*sys.modules}))'''
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()[-1] == '[]'


@pytest.mark.parametrize('arguments, status', [(['--data', 'nowhere'], 1), (['--model', 'convnet'], 1), (['--data', 'sample', '--epochs', '1'], 0)])
def test_a_command_ends_the_server_that_it_has_started(process, tmp_path, arguments, status):
    mark = {'MARK': tmp_path.name} # which whatever it starts inherits
    assert process('run', '--model', 'linear', '--device', 'cpu', *arguments, cwd=tmp_path, **mark).returncode == status
    def is_marked(one):
        with contextlib.suppress(psutil.Error): return one.environ().get('MARK') == tmp_path.name
    assert [one for one in psutil.process_iter() if is_marked(one)] == []


@pytest.mark.skipif(sys.platform != 'linux', reason='kernels are forked on Linux only')
@pytest.mark.parametrize('model, once', [('linear', True), ('all', False)])
def test_one_run_has_one_process(monkeypatch, model, once):
    "A server that forks one kernel would hold in memory most of what the kernel holds."
    monkeypatch.setattr(server, 'SERVERS', {}) # this process may have one already
    started = start_importing(draft_runs(model, None, device='cpu'))
    try: assert started.process.args[-1].endswith(f'serve_kernels({os.getpid() if once else None})')
    finally: server.end_server(started)


def test_help_fits(command, tmp_path):
    lines = command('--help', cwd=tmp_path).stdout.splitlines()
    assert not [line for line in lines[1:] if line.endswith('...')] and max(map(len, lines)) <= 80
    text = command('run', '--help', cwd=tmp_path).stdout
    assert text.index('--model') < text.index("Recipe (default: the model's own)") < text.index('--epochs') < text.index('More of the recipe') < text.index('--optimiser')
