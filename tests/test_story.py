"A new user's first hour: a net with dropout, and a residual layer from a module beside the notebook, through everything."
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PROGRAM
from others import KANNADA_ZIP, letters, pack
from owning import write_residual
from sweeping import runs_in, wait_for_workers

from mnist_kaggle.runs.record import read_record, unchecked

pytestmark = pytest.mark.whole

EXPECTED = {'history.csv', 'logits.safetensors', 'model.safetensors', 'my_layers.py', 'my_shapes.py', 'pipeline.ipynb', 'pipeline.sha256', 'recipe.json', 'run.json', 'submission.csv'}


def execute_as_kaggle_does(text, folder, kaggle, environment):
    "Papermill in place with no parameters, the data sets below another folder than the notebook's; what the notebook leaves, by name."
    (folder/'input/mine').mkdir(parents=True)
    (folder/'working').mkdir()
    for token, name in kaggle.names.items(): (folder/'input/mine'/name).write_bytes(kaggle.uploads[token])
    (folder/'working/__notebook__.ipynb').write_text(text)
    subprocess.run([PROGRAM.with_name('papermill'), '__notebook__.ipynb', '__notebook__.ipynb', '--no-progress-bar'], cwd=folder/'working', check=True, capture_output=True,
                   env={**environment, 'KAGGLE_KERNEL_RUN_TYPE': 'Batch', 'STUB_INPUT': str(folder/'input')})
    return {path.name: path.read_bytes() for path in (folder/'working').iterdir() if path.is_file()}


@pytest.fixture
def mine(tmp_path, small_zip, surroundings, kaggle):
    "The notebook, the competition's data in the cache, and a Kaggle that executes what is pushed."
    (tmp_path/'home/.cache/mnist_kaggle').mkdir(parents=True)
    (tmp_path/'home/.cache/mnist_kaggle/digit-recognizer.zip').write_bytes(small_zip)
    kaggle.run_kernel = lambda text: execute_as_kaggle_does(text, tmp_path/'kaggle', kaggle, surroundings)
    return write_residual(tmp_path)


def lines_of(result, status=0):
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout.splitlines()


def test_a_notebook_of_ones_own_through_everything(mine, ask, kaggle, dask, tmp_path, environment):
    lines_of(ask('run', 'mine.ipynb', '--seed', '3', '--epochs', '2', '--device', 'cpu', '-p', 'width=8'))
    run, = (tmp_path/'runs').iterdir()
    assert {path.name for path in run.iterdir()} == EXPECTED and not unchecked(read_record(run))
    (tmp_path/'gone').mkdir()
    for path in (mine, tmp_path/'my_layers.py', tmp_path/'my_shapes.py'): path.rename(tmp_path/'gone'/path.name)
    for _ in range(2): assert lines_of(ask('verify', run))[-1].endswith('was reproduced, byte for byte.')
    for path in (tmp_path/'gone').iterdir(): path.rename(tmp_path/path.name)

    table = lines_of(ask('sweep', 'mine.ipynb', '--seed', '0-1', '--epochs', '1', '--device', 'cpu', '-p', 'width=4,8'))
    assert table[-3].split()[:3] == ['mine', '4', '2'] and table[-2].split()[:3] == ['mine', '8', '2']
    swept = {path.parent for path in (tmp_path/'runs').glob('mine-*/run.json')} - {run}
    assert len(swept) == 4 and all({path.name for path in folder.iterdir()} == EXPECTED for folder in swept)
    lines_of(ask('run', '--model', 'linear', '--epochs', '1', '--device', 'cpu'))
    linear, = (tmp_path/'runs').glob('linear-*')
    lines_of(ask('ensemble', 'runs', '--top', '2', '--out', 'best'))
    lines_of(ask('ensemble', run, linear))
    ensemble, = (tmp_path/'runs').glob('ensemble-*')
    assert lines_of(ask('verify', ensemble))[-1].endswith('byte for byte.')
    assert 'is ready to submit' in lines_of(ask('check', run/'submission.csv'))[0]
    lines_of(ask('submit', run))
    lines_of(ask('submit', ensemble))
    assert [one['content'] for one in kaggle.submissions] == [(folder/'submission.csv').read_bytes() for folder in (ensemble, run)]
    lines_of(ask('report'))
    page = (run/'report.html').read_text()
    assert page.index('make_net') < page.index('Five cells')

    words = lines_of(ask('push', 'mine.ipynb', '--epochs', '1', '--device', 'cpu', '-p', 'width=4', '--follow'))
    assert 'The bundle of modules and files is on Kaggle as the data set me/mnist-kaggle-beside-' in '\n'.join(words)
    sent, = kaggle.kernels.values()
    assert len(sent['versions'][0]['datasetDataSources']) == 2 and sent['versions'][0]['slug'].startswith('me/mnist-kaggle-mine-')
    fetched = Path(next(line for line in words if line.startswith('The run is ')).removeprefix('The run is ').removesuffix('.'))
    assert {path.name for path in (tmp_path/fetched).iterdir()} >= EXPECTED - {'report.html'}
    shutil.rmtree(tmp_path/'kaggle')
    assert lines_of(ask('verify', fetched))[-1].endswith('byte for byte.')


OTHERS = { # Kaggle's name; the files; pixels of an image; classes
    'letters': ('Letters-26', lambda folder: pack(letters(), folder/'Letters-26.zip'), 1024, 26),
    'kannada': ('Kannada-MNIST', lambda folder: shutil.copy(KANNADA_ZIP, folder/'Kannada-MNIST.zip'), 784, 10),
}

@pytest.mark.parametrize('other', OTHERS)
def test_another_competition_through_everything(mine, ask, kaggle, dask, tmp_path, other):
    "The same trip; the files are in the cache under Kaggle's name, which the commands are given."
    slug, put, size, classes = OTHERS[other]
    if other == 'kannada' and not KANNADA_ZIP.exists(): pytest.skip('the files of Kannada MNIST are not beside the checkout, in shared/kannada/kannada-mnist.zip')
    put(tmp_path/'home/.cache/mnist_kaggle')
    mine.write_text(mine.read_text().replace('nn.LazyLinear(10)', f'nn.LazyLinear({classes})'))
    epochs, named = ('--epochs', '6', '--device', 'cpu'), ('--competition', slug)
    lines_of(ask('run', 'mine.ipynb', *epochs, *named, '-p', 'width=8'))
    run, = (tmp_path/'runs').iterdir()
    assert {path.name for path in run.iterdir()} == EXPECTED and not unchecked(read_record(run)) and read_record(run)['data']['form']['slug'] == slug
    (tmp_path/'gone').mkdir()
    for path in (mine, tmp_path/'my_layers.py', tmp_path/'my_shapes.py'): path.rename(tmp_path/'gone'/path.name)
    for _ in range(2): assert lines_of(ask('verify', run))[-1].endswith('was reproduced, byte for byte.')
    for path in (tmp_path/'gone').iterdir(): path.rename(tmp_path/path.name)

    lines_of(ask('sweep', 'mine.ipynb', '--seed', '1-2', *epochs, *named, '-p', 'width=8'))
    lines_of(ask('run', '--model', 'linear', '--epochs', '2', '--device', 'cpu', *named))
    linear, = (tmp_path/'runs').glob('linear-*')
    lines_of(ask('ensemble', 'runs', '--top', '2', '--out', 'best'))
    lines_of(ask('ensemble', run, linear))
    ensemble, = (tmp_path/'runs').glob('ensemble-*')
    assert lines_of(ask('verify', ensemble))[-1].endswith('byte for byte.')
    assert 'each id once, classes of train.csv for labels' in lines_of(ask('check', run/'submission.csv', *named))[0]
    kaggle.mode = 'notebooks only'
    assert f'mnist_kaggle push --competition {slug}' in ask('submit', run).stderr and not kaggle.submissions
    kaggle.mode = 'fine'
    for folder in (run, ensemble): lines_of(ask('submit', folder))
    assert [(one['competition'], one['content']) for one in kaggle.submissions] == [(slug, (folder/'submission.csv').read_bytes()) for folder in (ensemble, run)]
    lines_of(ask('report'))
    assert 'LazyLinear' in (run/'report.html').read_text()

    words = lines_of(ask('push', 'mine.ipynb', *epochs, *named, '-p', 'width=8', '--follow'))
    sent, = kaggle.kernels.values()
    assert sent['versions'][0]['competitionDataSources'] == [slug]
    fetched = Path(next(line for line in words if line.startswith('The run is ')).removeprefix('The run is ').removesuffix('.'))
    assert (tmp_path/fetched/'submission.csv').read_bytes() == (run/'submission.csv').read_bytes()


def test_on_a_cluster_without_a_shared_disk(dask, start, small, tmp_path):
    write_residual(tmp_path)
    for name in ('one', 'two'): dask('worker', name)
    wait_for_workers(dask.address, 2)
    process = start('mine.ipynb', '--epochs', '4', '--seed', '0-3', '-p', 'dropout=0.1', '--device', 'cpu', '--scheduler', dask.address, data=small)
    assert process.wait(120) == 0, process.stdout.read() + process.stderr.read()
    assert len(runs_in(tmp_path/'runs')) == 4
    assert all({path.name for path in folder.iterdir()} == EXPECTED for folder in (tmp_path/'runs').glob('mine-*'))


def test_a_table_names_notebooks(ask, small, tmp_path):
    write_residual(tmp_path/'nets')
    (tmp_path/'trials.csv').write_text('notebook,model,epochs,dropout,seed\nnets/mine.ipynb,,1,0.3,1\n,linear,1,,2\n')
    lines_of(ask('sweep', 'trials.csv', '--data', small))
    models = {record['model']: record for record in runs_in(tmp_path/'runs').values()}
    assert set(models) == {'mine', 'linear'} and models['mine']['own']['parameters']['dropout'] == 0.3 and models['mine']['parameters']['seed'] == 1
    for text, words in (('notebook,dropout\nnets/mine.ipynb,much\n', 'row 1: dropout must be a number'), ('notebook,depth\nnets/mine.ipynb,2\n', "row 1: mine.ipynb has no parameter 'depth'"),
                        ('notebook,dropout\n,0.2\n', "row 1: 'dropout' is not a parameter of any model"), ('notebook\nmine.ipynb\n', 'row 1: .*mine.ipynb does not exist')):
        (tmp_path/'trials.csv').write_text(text)
        result = ask('sweep', 'trials.csv', '--data', small)
        assert result.returncode == 1 and words.split('.*')[-1] in result.stderr, result.stderr
