"What the tests share: a clean environment, a cache of their own, a small copy of the sample, and the competition's files where they are."
import os

# What of the caller's environment changes what is tested, for this process and all that it starts.
OTHERS = ('MNIST_KAGGLE_', 'KAGGLE_', 'OMP_', 'MKL_', 'ONEDNN_', 'DNNL_', 'ATEN_', 'OPENBLAS_', 'NPY_', 'GLIBC_', 'CUBLAS_', 'NVIDIA_TF32', 'DASK_', 'XDG_', 'PYTHON', 'MPL', 'JUPYTER_', 'IPYTHON', 'LC_', 'LANG')
MACHINE = 'OPENBLAS_L2_SIZE' # where a virtual machine does not tell the size of its cache, OpenBLAS crashes without it
for name in [name for name in os.environ if name.startswith(OTHERS) and name != MACHINE]: del os.environ[name]
os.environ['LC_ALL'] = 'C.UTF-8'

import json
import random
import subprocess
import sys

sys.modules['rfc3987_syntax'] = None # a grammar that jsonschema would take a second to load, for a form of text that no notebook contains
import nbformat
del sys.modules['rfc3987_syntax']

import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from commands import CommandServer
from kaggle_stub import Kaggle
from sweeping import wait_until

from mnist_kaggle.data import cache, sample

PROGRAM = Path(sys.executable).with_name('mnist_kaggle')
COMPETITION_ZIP = Path(__file__).parents[2]/'shared/kaggle/digit-recognizer.zip'


def pytest_configure(config): config.addinivalue_line('markers', 'whole: takes long; `make test-whole` runs it, and `make test` does not')


@pytest.fixture(scope='session')
def cache_home(tmp_path_factory):
    "A home folder for the whole session, so that the user's cache is neither used nor touched."
    return tmp_path_factory.mktemp('home')


@pytest.fixture(autouse=True)
def own_cache(cache_home, monkeypatch):
    "Here, and in the kernels started here."
    monkeypatch.setattr(cache, 'user_cache_path', lambda name: cache_home/'.cache'/name)
    monkeypatch.setenv('HOME', str(cache_home))
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache_home/'.cache'))


@pytest.fixture(scope='session')
def environment(cache_home):
    "The environment of a process with the session's home folder."
    return {**os.environ, 'HOME': str(cache_home), 'XDG_CACHE_HOME': str(cache_home/'.cache')}


@pytest.fixture(scope='session')
def server(tmp_path_factory):
    "What forks commands."
    server = CommandServer(tmp_path_factory.mktemp('output'))
    yield server
    server.stop()


@pytest.fixture(scope='session')
def command(server, environment):
    "Run `mnist_kaggle`: `command('run', '--model', 'linear', cwd=folder)`."
    def run(*arguments, cwd): return server.run(arguments, environment, cwd)
    return run


@pytest.fixture(scope='session')
def process(environment):
    "Run `mnist_kaggle` as a process of its own, with more variables: `process('verify', run, cwd=folder, OMP_NUM_THREADS='2')`."
    def run(*arguments, cwd, **more):
        return subprocess.run([PROGRAM, *map(str, arguments)], cwd=cwd, env={**environment, **more}, capture_output=True, text=True)
    return run


@pytest.fixture(scope='session')
def sample_contents():
    "The sample's three files, cut to 100 rows to train on and 20 to label."
    rows = {'train.csv': 100, 'test.csv': 20, 'sample_submission.csv': 20}
    return {name: b''.join(content.splitlines(keepends=True)[:rows[name] + 1]) for name, content in sample.sample_files().items()}


@pytest.fixture
def small(tmp_path, sample_contents):
    "A folder with the small files."
    folder = tmp_path/'small'
    folder.mkdir()
    for name, content in sample_contents.items(): (folder/name).write_bytes(content)
    return folder


@pytest.fixture(scope='session')
def competition():
    "The zip with the competition's files."
    if not COMPETITION_ZIP.exists():
        pytest.skip('the competition\'s files are not beside the checkout, in shared/kaggle/digit-recognizer.zip')
    return COMPETITION_ZIP


@pytest.fixture(scope='session')
def small_zip(sample_contents):
    "Kaggle's zip, with the small files."
    content = BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, text in sample_contents.items(): archive.writestr(name, text)
        archive.writestr('filler', random.Random(0).randbytes(2**22)) # the client reads a megabyte at a time
    return content.getvalue()


@pytest.fixture
def kaggle(small_zip):
    "A server that has the small files."
    server = Kaggle(small_zip)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def surroundings(kaggle, sample_contents, tmp_path):
    "The environment of a user with a home folder of their own, for whom the small files are the competition's."
    home = tmp_path/'home'
    home.mkdir()
    digests = {name: sha256(text).hexdigest() for name, text in sample_contents.items()}
    return {**os.environ, **kaggle.environment(), 'HOME': str(home), 'XDG_CACHE_HOME': str(home/'.cache'), 'XDG_CONFIG_HOME': str(home/'.config'),
            'STUB_SHA256': json.dumps(digests), 'BROWSER': 'true', 'TMPDIR': str(home)}


@pytest.fixture
def ask(server, surroundings, tmp_path):
    "Run `mnist_kaggle` in an empty folder: `ask('data')`; without some variables: `ask('data', without=…)`."
    def run(*arguments, without=(), **more):
        environment = {name: value for name, value in {**surroundings, **more}.items() if name not in without}
        return server.run(arguments, environment, tmp_path)
    return run


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
    wait_until(lambda: (tmp_path/'scheduler.json').exists() and (tmp_path/'scheduler.json').read_text().strip().endswith('}')) # dask writes it bit by bit
    run.address = json.loads((tmp_path/'scheduler.json').read_text())['address']
    yield run
    for process in processes:
        for one in [*process.children(recursive=True), process] if process.is_running() else []: one.kill()
        process.wait()
