"What a file, a parameter or an environment holds stays data: it is never run, never shown as markup, never spread."
import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import psutil
import pytest
from running import execute

from mnist_kaggle.data import files
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import DataError, FILES
from mnist_kaggle.data.places import find_data
from mnist_kaggle.runs.naming import PACKAGE
from mnist_kaggle.runs.loading import load_run
from mnist_kaggle.runs.run import execute as execute_cold
from mnist_kaggle.runs.server import SECRETS
from mnist_kaggle.runs.staging import RunError

HERE = Path(__file__).parents[1]
UNPICKLERS = {'pickle', 'cPickle', 'dill', 'joblib', 'cloudpickle', 'shelve', 'marshal', 'load_learner', 'read_pickle', 'load_pickle', 'Unpickler', 'import load'}


def sources():
    "Each module, and each notebook's code."
    for path in PACKAGE.rglob('*.py'): yield path.relative_to(PACKAGE).as_posix(), path.read_text()
    for path in (HERE/'nbs').glob('*.ipynb'):
        cells = [''.join(cell['source']) for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code']
        yield path.name, '\n'.join(cells)


def words_of(tree):
    "Each name that is used or imported."
    for_each = [vars(node) for node in ast.walk(tree)]
    words = {value for fields in for_each for key, value in fields.items() if key in ('id', 'attr', 'name', 'module') and isinstance(value, str)}
    imported = {f'import {alias.name}' for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module in ('torch', 'numpy') for alias in node.names}
    return {part for word in words for part in word.split('.')} | imported


def attributes_of(tree):
    "Pairs as ('torch', 'load') of `torch.load`."
    return {(ast.unparse(node.value), node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize('name, source', list(sources()), ids=lambda value: value if value.endswith(('.py', '.ipynb')) else '')
def test_nothing_here_unpickles(name, source):
    tree = ast.parse(source)
    assert not words_of(tree) & UNPICKLERS
    assert not {('torch', 'load'), ('np', 'load'), ('numpy', 'load'), ('learn', 'load')} & attributes_of(tree)


@pytest.mark.parametrize('source', ['import pickle', 'from pickle import loads', 'from pickle import loads as f', 'import pickle as p', 'f = torch.load', 'np.load(x)',
                                    'from torch import load', 'pd.read_pickle(x)', 'import joblib.numpy_pickle', 'load_learner(x)'])
def test_the_search_for_unpicklers_finds(source):
    with pytest.raises(AssertionError): test_nothing_here_unpickles('', source)


def test_nothing_is_unpickled_while_files_are_read(tmp_path, small):
    "By Python's own audit: it reports each class that a pickle asks for."
    execute({'model': 'linear', 'data': str(small), 'epochs': 2, 'batch_size': 16}, tmp_path/'run')
    program = f'''if True:
        import sys
        import torch, fastai.basics, safetensors.torch, mnist_kaggle.training.learner, mnist_kaggle.results.submission # what they do at import is not ours
        from mnist_kaggle.data.digits import read_data
        from mnist_kaggle.runs.loading import load_run
        from mnist_kaggle.results.reading import read_submission
        found = []
        sys.addaudithook(lambda event, args: found.append(args) if event == 'pickle.find_class' else None)
        read_data(__import__('pathlib').Path({str(small)!r}))
        load_run({str(tmp_path/'run')!r})
        read_submission({str(tmp_path/'run/submission.csv')!r})
        assert not found, found
        import pickle
        pickle.loads(pickle.dumps(len))
        assert found # the audit sees what it should'''
    subprocess.run([sys.executable, '-c', program], check=True)


def test_a_pickle_in_place_of_the_weights(tmp_path, small):
    import pickle
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'exploded'),)
    execute({'model': 'linear', 'data': str(small), 'epochs': 2, 'batch_size': 16}, tmp_path/'run')
    (tmp_path/'run/model.safetensors').write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError): load_run(tmp_path/'run')
    assert not (tmp_path/'exploded').exists()


@pytest.mark.parametrize('member', ['../out.csv', '/tmp/out.csv', '..\\out.csv', 'C:\\out.csv', 'a/../../out.csv'])
def test_a_zip_that_points_outside(tmp_path, sample_contents, member):
    with zipfile.ZipFile(tmp_path/'digits.zip', 'w') as archive:
        for name in FILES: archive.writestr(name, sample_contents[name])
        archive.writestr(member, 'x')
    with pytest.raises(DataError, match='points outside'): read_data(find_data(tmp_path/'digits.zip'))
    assert [path.name for path in tmp_path.iterdir()] == ['digits.zip']


def test_a_zip_that_unpacks_without_end(tmp_path, sample_contents, monkeypatch):
    monkeypatch.setattr(files, 'MAX_BYTES', 10**7)
    with zipfile.ZipFile(tmp_path/'digits.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in FILES: archive.writestr(name, sample_contents[name] if name != 'test.csv' else b'0'*10**8)
    assert (tmp_path/'digits.zip').stat().st_size < 10**6
    with pytest.raises(DataError, match='test.csv has 100,000,000 bytes'): read_data(tmp_path/'digits.zip')


def test_a_zip_that_lies_about_its_size(tmp_path, sample_contents, monkeypatch):
    "It says 1,000 bytes and holds a hundred million: no more than it says is ever unpacked."
    with zipfile.ZipFile(tmp_path/'digits.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in FILES: archive.writestr(name, sample_contents[name] if name != 'test.csv' else b'0'*10**8)
    content = (tmp_path/'digits.zip').read_bytes()
    size = (10**8).to_bytes(4, 'little')
    assert content.count(size) == 2
    (tmp_path/'digits.zip').write_bytes(content.replace(size, (1000).to_bytes(4, 'little')))
    with pytest.raises(DataError, match='test.csv is damaged'): read_data(tmp_path/'digits.zip')


CODE = '"\nimport pathlib; pathlib.Path("planted").touch()\nx = "'


@pytest.mark.parametrize('parameters', [{'data': CODE}, {'data': 'sample', 'split': CODE}, {'model': CODE}, {'data': 'sample', 'model': "conv'''" + CODE}, {'data': 'sample', 'loss': CODE}])
def test_a_parameter_is_a_value_and_never_code(tmp_path, parameters):
    with pytest.raises(RunError): execute(parameters, tmp_path/'out/run')
    assert not list(tmp_path.rglob('planted'))
    [failed] = (tmp_path/'out').iterdir()
    injected = [cell.source for cell in nbformat.read(failed, 4).cells if cell.source.startswith('# Parameters')]
    assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) for node in ast.parse(injected[0]).body)


MARKUP = '<img src=x onerror=alert(1)>'


def markup_in(notebook):
    "Where a notebook would show the planted text as markup: in prose outside of a block of code, or as HTML."
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == 'markdown': yield from (line for line in cell.source.splitlines() if MARKUP in line and not line.startswith('    '))
        for output in cell.get('outputs', []):
            for kind in ('text/html', 'text/markdown', 'image/svg+xml', 'application/javascript'):
                if MARKUP in output.get('data', {}).get(kind, ''): yield kind


@pytest.mark.parametrize('where', ['a cell', 'the header', 'the path', 'a parameter'])
def test_markup_stays_text(tmp_path, small, where):
    parameters = {'data': str(small), 'model': 'linear'}
    lines = (small/'train.csv').read_text().splitlines()
    if where == 'a cell': (small/'train.csv').write_text('\n'.join([*lines[:5], MARKUP + lines[5][1:], *lines[6:]]))
    if where == 'the header': (small/'train.csv').write_text('\n'.join([lines[0].replace('pixel5,', f'{MARKUP},'), *lines[1:]]))
    if where == 'the path': parameters['data'] = str(tmp_path/MARKUP)
    if where == 'a parameter': parameters['augment'] = MARKUP
    with pytest.raises(RunError, match=re.escape(MARKUP[:20])): execute(parameters, tmp_path/'out/run')
    assert not list(markup_in(tmp_path/'out/run-failed.ipynb'))


def test_a_path_that_looks_like_markup_can_be_used(tmp_path, small):
    place = small.rename(tmp_path/'<b>small{x}')
    execute({'data': str(place), 'model': 'linear', 'epochs': 2, 'batch_size': 16}, tmp_path/'run')
    assert not list(markup_in(tmp_path/'run/pipeline.ipynb'))


def test_credentials_go_nowhere(tmp_path, small, environment):
    "Planted in each place where Kaggle's client looks, then searched for in all that two runs leave: one that ends well, one that doesn't."
    secret = 'c0ffee5ec2e7c0ffee5ec2e7c0ffee5e'
    home = tmp_path/'home'
    for folder in ('.kaggle', '.config/kaggle'):
        (home/folder).mkdir(parents=True)
        (home/folder/'kaggle.json').write_text(json.dumps({'username': 'somebody', 'key': secret}))
        (home/folder/'access_token').write_text(secret)
    environment = {**environment, 'HOME': str(home), **dict.fromkeys(SECRETS, secret)}
    for data in (small, tmp_path/'nowhere'):
        result = subprocess.run([Path(sys.executable).with_name('mnist_kaggle'), 'run', '--model', 'linear', '--epochs', '2', '--batch-size', '16', '--data', data],
                                cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert secret not in result.stdout + result.stderr
    (small/'train.csv').write_text('label\n')
    with pytest.MonkeyPatch.context() as patch:
        for name in SECRETS: patch.setenv(name, secret)
        with pytest.raises(RunError) as error: execute({'data': str(small), 'model': 'linear'}, tmp_path/'runs/failing')
    assert secret not in str(error.value)
    left = [path for path in tmp_path.rglob('*') if path.is_file() and home not in path.parents]
    assert {'run.json', 'pipeline.ipynb', 'failing-failed.ipynb'} <= {path.name for path in left}
    for path in left: assert secret.encode() not in path.read_bytes(), path


def test_the_kernel_is_not_given_them(tmp_path, monkeypatch, small):
    from mnist_kaggle.runs import kernel, server
    from mnist_kaggle.runs.naming import PIPELINE
    notebook = nbformat.read(PIPELINE, 4)
    notebook.cells.insert(4, nbformat.v4.new_code_cell(f'import os\nassert not set({SECRETS}) & set(os.environ), "the kernel has a secret"'))
    nbformat.write(notebook, tmp_path/'asking.ipynb')
    monkeypatch.setattr(kernel, 'PIPELINE', tmp_path/'asking.ipynb')
    monkeypatch.setattr(server, 'SERVERS', {})
    for name in SECRETS: monkeypatch.setenv(name, 'secret')
    execute_cold({'data': str(small), 'model': 'linear', 'epochs': 2, 'batch_size': 16}, tmp_path/'run')
    server.warm_kernels()
    [warm] = server.SERVERS.values()
    execute({'data': str(small), 'model': 'linear', 'epochs': 2, 'batch_size': 16, 'device': 'cpu'}, tmp_path/'forked')
    assert not set(SECRETS) & set(psutil.Process(warm.process.pid).environ())
    warm.process.communicate() # its end
