"Each notebook as Kaggle runs it by 'Save & Run All': Kaggle's versions, no network, the competition and the library's wheel mounted, papermill in place without parameters."
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from hashlib import sha256
from pathlib import Path

import nbformat
import pytest
from owning import write_residual

from mnist_kaggle.data.files import FILES
from mnist_kaggle.data.sample import sample_files
from mnist_kaggle.kaggle.wheel import pack_wheel
from mnist_kaggle.runs.record import read_record

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
KAGGLES_PYTHON = ROOT/'.venv-kaggle/bin/python'
NOTEBOOKS = sorted(path.stem for path in (ROOT/'nbs').glob('*.ipynb') if path.stem != 'pipeline') # which has tests of its own
MOUNTS = {'new': ('competitions/digit-recognizer', 'datasets/me/mnist-kaggle-wheel-0'), 'old': ('digit-recognizer', 'mnist-kaggle-wheel-0')}


@pytest.fixture(scope='session', autouse=True)
def possible():
    "What this needs, or a message that says what is missing."
    if sys.platform != 'linux': pytest.skip('a machine that looks like Kaggle\'s is made of Linux\'s namespaces')
    assert KAGGLES_PYTHON.exists(), 'make test-kaggle makes the environment with Kaggle\'s versions'
    result = subprocess.run(['unshare', *([] if not os.getuid() else ['--map-root-user']), '--mount', '--net', 'true'], capture_output=True, text=True)
    assert result.returncode == 0, f'this machine does not allow namespaces ({result.stderr.strip()}): run this as root, or allow user namespaces'


@pytest.fixture(scope='session')
def sample_contents():
    "The competition's files cut to 2,000 rows to train on and 500 to label; the sample where they are not here."
    path = ROOT.parent/'shared/kaggle/digit-recognizer.zip'
    if not path.exists(): return sample_files()
    rows = {'train.csv': 2000, 'test.csv': 500, 'sample_submission.csv': 500}
    with zipfile.ZipFile(path) as archive: return {name: b''.join(archive.read(name).splitlines(keepends=True)[:rows[name] + 1]) for name in FILES}


@pytest.fixture(scope='module')
def new_session(sample_contents):
    "A fresh session on Kaggle in an empty folder, with the competition and a wheel in its inputs."
    def start(folder, layout='new'):
        data, wheel = (folder/'input'/place for place in MOUNTS[layout])
        for place in (data, wheel, folder/'working', folder/'home'): place.mkdir(parents=True)
        for file, content in sample_contents.items(): (data/file).write_bytes(content)
        file, content = pack_wheel()
        (wheel/file).write_bytes(content)
        venv.create(folder/'python', symlinks=True) # the library is installed into this one, which sees Kaggle's packages
        packages = f'lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages'
        # a grammar that papermill has no use for takes it longer to load than all the rest
        (folder/'python'/packages/'kaggle.pth').write_text(f"{KAGGLES_PYTHON.parents[1]/packages}\nimport sys; sys.modules['rfc3987_syntax'] = None\n")
        return folder
    return start


@pytest.fixture
def session(tmp_path, new_session):
    "A fresh session: `session()` or `session('old')`."
    return lambda layout='new', name='session': new_session(tmp_path/name, layout)


@pytest.fixture(scope='module')
def run_forked(tmp_path_factory, new_session):
    "Execute a notebook's text in a session whose first notebook has installed the library, with nothing left of the notebooks before: the error, and all that was written."
    folder = new_session(tmp_path_factory.mktemp('kaggle')/'session')
    notebook = nbformat.read(ROOT/'nbs/pipeline.ipynb', 4)
    notebook.cells = notebook.cells[:2] # the first cell of all notebooks
    result, _ = save_and_run_all(folder, nbformat.writes(notebook))
    assert result.returncode == 0 and list((folder/'python').glob('lib/*/site-packages/mnist_kaggle')), result.stderr
    def run(text):
        for path in [*(folder/'working').iterdir(), *(folder/'home').iterdir()]: shutil.rmtree(path) if path.is_dir() else path.unlink()
        (folder/'working/__notebook__.ipynb').write_text(text)
        print('', file=session.stdin, flush=True)
        error = json.loads(session.stdout.readline())
        return error, text_of((folder/'working/__notebook__.ipynb').read_bytes())
    with subprocess.Popen(**in_session(folder, HERE/'forking.py'), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session: yield run


def in_session(folder, *arguments):
    "What `subprocess` needs to run Python with these arguments in a session."
    environment = {'PATH': f'{folder}/python/bin:/usr/bin:/bin', 'HOME': f'{folder}/home', 'LANG': 'C.UTF-8', 'KAGGLE_KERNEL_RUN_TYPE': 'Batch', 'KAGGLE_URL_BASE': 'https://www.kaggle.com',
                   'JUPYTER_PATH': str(KAGGLES_PYTHON.parents[1]/'share/jupyter')} # the session's own python has none of Jupyter's files
    return {'args': [HERE/'like_kaggle', folder, folder/'python/bin/python', *arguments], 'env': environment}


def save_and_run_all(folder, text):
    "Execute a notebook's text in a session; what it leaves, by name. The executed notebook is `__notebook__.ipynb`."
    (folder/'working/__notebook__.ipynb').write_text(text)
    result = subprocess.run(**in_session(folder, '-m', 'papermill', '__notebook__.ipynb', '__notebook__.ipynb', '--no-progress-bar'), capture_output=True, text=True)
    return result, {path.name: path.read_bytes() for path in (folder/'working').iterdir() if path.is_file()}


def text_of(notebook):
    "All that an executed notebook has written."
    outputs = [output for cell in json.loads(notebook)['cells'] for output in cell.get('outputs', [])]
    return ''.join(''.join(output.get('text', '') or output.get('data', {}).get('text/plain', '')) for output in outputs)


def source_of(name): return (ROOT/'nbs'/f'{name}.ipynb').read_text()


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_each_notebook_runs_by_itself(run_forked, name):
    error, text = run_forked(source_of(name))
    assert not error, error[-4000:]
    assert 'NO COMPETITION DATA' not in text


@pytest.mark.parametrize('layout', MOUNTS)
def test_the_pipeline_writes_a_submission_and_says_how_to_hand_it_in(session, sample_contents, layout):
    result, files = save_and_run_all(session(layout), source_of('pipeline'))
    assert result.returncode == 0, result.stderr[-4000:]
    rows = files['submission.csv'].decode().splitlines()
    assert rows[0] == 'ImageId,Label' and len(rows) == len(sample_contents['sample_submission.csv'].splitlines())
    assert json.loads(files['run.json'])['data']['sha256'] == {name: sha256(content).hexdigest() for name, content in sample_contents.items()}
    assert 'not for Kaggle' in text_of(files['__notebook__.ipynb']) # a cut of the data is not


@pytest.mark.parametrize('wheels', [0, 2])
def test_without_the_wheel_the_first_cell_says_what_to_do(session, wheels):
    folder = session()
    wheel = next((folder/'input').glob('**/*.whl'))
    if wheels: shutil.copytree(wheel.parent, wheel.parents[1]/'another')
    else: wheel.unlink()
    result, files = save_and_run_all(folder, source_of('00_data.digits'))
    assert result.returncode != 0 and re.search(f'{wheels} wheels: attach the data set of `mnist_kaggle push`', result.stderr, re.DOTALL)
    assert sum(cell.get('execution_count') is not None for cell in json.loads(files['__notebook__.ipynb'])['cells']) == 1


def as_competition(text, contents):
    "A notebook's text, whose first cell, which counts for no run's name, also says that these files are the competition's."
    notebook, digests = nbformat.reads(text, 4), {name: sha256(content).hexdigest() for name, content in contents.items()}
    notebook.cells[1].source += f'\nfrom mnist_kaggle.data.files import COMPETITION_SHA256\nCOMPETITION_SHA256.update({digests})'
    return nbformat.writes(notebook)


def test_there_and_back(session, kaggle, ask, tmp_path, sample_contents):
    "Pushed from here, run on Kaggle, fetched, submitted; verified here, where other versions are the reason for any difference."
    def run_kernel(text):
        result, files = save_and_run_all(session(), as_competition(text, sample_contents))
        assert result.returncode == 0, result.stderr[-4000:]
        return files
    kaggle.run_kernel = run_kernel
    assert ask('data').returncode == 0
    result = ask('push', '--model', 'two_layer', '--epochs', '2', '--device', 'cpu', '--follow')
    assert result.returncode == 0, result.stdout + result.stderr
    run, = (tmp_path/'runs').glob('two_layer-*')
    assert read_record(run)['versions']['torch'].startswith('2.10.') and read_record(run)['parameters']['epochs'] == 2
    assert nbformat.read(run/'pipeline.ipynb', 4).cells[4].source.startswith('# Parameters')
    result = ask('verify', run)
    assert (result.returncode, 'versions torch' in result.stdout) in ((0, False), (3, True)), result.stdout + result.stderr
    assert ask('submit', run).returncode == 0 and kaggle.submissions[0]['content'] == (run/'submission.csv').read_bytes()


def test_a_notebook_of_ones_own_there_and_back(session, kaggle, ask, tmp_path, sample_contents):
    "With the module beside it, which comes from a data set of its own."
    def run_kernel(text):
        folder = session()
        (folder/'input/datasets/me/beside').mkdir()
        for token, name in kaggle.names.items():
            if name.endswith('.bundle'): (folder/'input/datasets/me/beside'/name).write_bytes(kaggle.uploads[token])
        result, files = save_and_run_all(folder, as_competition(text, sample_contents))
        assert result.returncode == 0, result.stderr[-4000:]
        return files
    kaggle.run_kernel = run_kernel
    write_residual(tmp_path)
    assert ask('data').returncode == 0
    result = ask('push', 'mine.ipynb', '--epochs', '2', '--device', 'cpu', '-p', 'width=8', '--follow')
    assert result.returncode == 0, result.stdout + result.stderr
    run, = (tmp_path/'runs').glob('mine-*')
    assert (run/'my_layers.py').exists() and read_record(run)['versions']['torch'].startswith('2.10.') and read_record(run)['own']['parameters']['width'] == 8
    result = ask('verify', run)
    assert (result.returncode, 'versions torch' in result.stdout) in ((0, False), (3, True)), result.stdout + result.stderr
    assert ask('submit', run).returncode == 0
