"The house: packages on floors, modules of a size, one import for users."
import ast
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from io import StringIO

import pytest

import mnist_kaggle
from mnist_kaggle.runs.naming import PACKAGE, modules

FLOORS = [{'data'}, {'models'}, {'training', 'results'}, {'runs'}, {'kaggle', 'sweeps'}, {'cli'}]
FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor}
NAMES = {path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.'): path for path in modules()}


def imported(name):
    "The modules of the library that a module imports, those that a function imports among them."
    package, found = name.split('.')[0], set()
    for node in ast.walk(ast.parse(NAMES[name].read_bytes())):
        if isinstance(node, ast.ImportFrom):
            base = {0: node.module or '', 1: f'mnist_kaggle.{package}.{node.module}', 2: f'mnist_kaggle.{node.module}'}[node.level]
            found |= {base.removeprefix('mnist_kaggle.')} | {f"{base.removeprefix('mnist_kaggle.')}.{alias.name}" for alias in node.names}
    return found & set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_imports_go_downwards(name):
    package = name.split('.')[0]
    for other in imported(name):
        below = other.split('.')[0]
        assert below == package or FLOOR[below] < FLOOR[package], f'{name} imports {other}'


def test_no_circle():
    assert len(list(TopologicalSorter({name: imported(name) for name in NAMES}).static_order())) == len(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_module_has_fewer_than_200_lines(name): assert len(NAMES[name].read_text(encoding='utf-8').splitlines()) < 200


def test_the_names_that_a_user_needs():
    assert dir(mnist_kaggle) == mnist_kaggle.__all__ and 25 <= len(mnist_kaggle.__all__) <= 40
    for name in mnist_kaggle.__all__: assert getattr(mnist_kaggle, name) is not None
    with pytest.raises(AttributeError, match='no attribute .reed_data.; it has .*read_data'): mnist_kaggle.reed_data


def test_completion_shows_them_and_no_others():
    from IPython.core.completer import IPCompleter
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell()
    shell.user_ns['mnist_kaggle'] = mnist_kaggle
    completer = IPCompleter(shell, namespace=shell.user_ns)
    completer.use_jedi = False # which runs nothing, and so can't know what `__getattr__` gives
    shown = {match.removeprefix('mnist_kaggle.').lstrip('.') for match in completer.complete('mnist_kaggle.')[1]}
    assert shown == set(mnist_kaggle.__all__)


def test_importing_it_loads_nothing_large():
    program = "import sys, mnist_kaggle; dir(mnist_kaggle); print([name for name in ('numpy', 'torch', 'pandas', 'fastai', 'click') if name in sys.modules])"
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_a_learner_has_what_fastai_gives_to_one():
    program = 'from mnist_kaggle import get_learner; from fastai.learner import Learner; print([name for name in ("lr_find", "fit_one_cycle", "no_bar") if not hasattr(Learner, name)])'
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_a_net_is_added_in_one_cell_of_one_notebook():
    "As a cell of 09_models.nets would: the function, and its row in the table. The recipes and the command's option know it then."
    program = """if True:
        from mnist_kaggle.models import nets
        def tiny_net(outputs=10, side=28):
            from torch import nn
            return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(side**2, outputs))
        nets.tiny_net, nets.NETS['tiny'] = tiny_net, nets.Net('nets:tiny_net', muon=False)
        from mnist_kaggle import Recipe
        from mnist_kaggle.training.net import make_net
        print(len(make_net(Recipe('tiny', epochs=1, lr=0.1))))
        try: Recipe('tiny', epochs=1, lr=0.1, optimiser='muon')
        except ValueError as error: print(error)"""
    lines = subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == '3' and "'tiny' has none" in lines[1]


def test_sizes_stand_in_one_place():
    "28 pixels, 784 of them: written down for Digit Recognizer, and as the defaults of the nets that the lessons on digits build."
    found = {}
    for path in modules():
        numbers = {token.string for token in tokenize.generate_tokens(StringIO(path.read_text(encoding='utf-8')).readline) if token.type == tokenize.NUMBER}
        if numbers & {'28', '784', '785'}: found[path.relative_to(PACKAGE).as_posix()] = numbers & {'28', '784', '785'}
    lessons = ('models/linear.py', 'models/two_layer.py', 'models/conv.py', 'models/pool.py')
    assert found == dict.fromkeys(('data/competition.py', *lessons), {'28'})
