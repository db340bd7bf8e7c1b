"What the tests share: a cache of their own, a small copy of the sample, and the competition's files where they are."
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_kaggle import files

COMPETITION_ZIP = Path(__file__).parents[2]/'shared/kaggle/digit-recognizer.zip'


@pytest.fixture(scope='session')
def cache_home(tmp_path_factory):
    "A home folder for the whole session, so that the user's cache is neither used nor touched."
    return tmp_path_factory.mktemp('home')


@pytest.fixture(autouse=True)
def own_cache(cache_home, monkeypatch):
    "Here, and in the kernels started here."
    monkeypatch.setattr(files, 'user_cache_path', lambda name: cache_home/'.cache'/name)
    monkeypatch.setenv('HOME', str(cache_home))
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache_home/'.cache'))
    monkeypatch.delenv('MNIST_KAGGLE_DATA', raising=False)


@pytest.fixture(scope='session')
def environment(cache_home):
    "The environment of a process with the session's home folder."
    inherited = {name: value for name, value in os.environ.items() if name != 'MNIST_KAGGLE_DATA'}
    return {**inherited, 'HOME': str(cache_home), 'XDG_CACHE_HOME': str(cache_home/'.cache')}


@pytest.fixture(scope='session')
def command(environment):
    "Run `mnist_kaggle` as a process: `command('run', '--model', 'linear', cwd=folder)`."
    def run(*arguments, cwd):
        program = Path(sys.executable).with_name('mnist_kaggle')
        return subprocess.run([program, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True)
    return run


@pytest.fixture(scope='session')
def sample_contents():
    "The sample's three files, cut to 100 rows to train on and 20 to label."
    rows = {'train.csv': 100, 'test.csv': 20, 'sample_submission.csv': 20}
    return {name: b''.join(content.splitlines(keepends=True)[:rows[name] + 1]) for name, content in files.sample_files().items()}


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
