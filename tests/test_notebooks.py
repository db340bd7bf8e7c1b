"What all notebooks have in common."
import ast
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1]/'nbs').glob('*.ipynb'))


def first_cells(path):
    "A notebook's first two cells."
    return nbformat.read(path, 4).cells[:2]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_each_begins_with_a_title_and_the_cell_that_installs_on_kaggle(path):
    title, install = first_cells(path)
    assert title.cell_type == 'markdown' and title.source.startswith('# ')
    assert install.source == first_cells(NOTEBOOKS[0])[1].source and '/kaggle/input' in install.source


SHOWING = ('show_', 'plot_', 'pd.', 'display', 'print', 'len', 'sorted', 'list', 'round')


def shows(source):
    "Should a cell show something? One that ends in a value that is no call, or in a call that gives or prints one."
    tree = ast.parse(re.sub(r'^\s*[%!].*$', 'pass', source, flags=re.M))
    if not tree.body or source.rstrip().endswith(';') or not isinstance(tree.body[-1], ast.Expr): return False
    value = tree.body[-1].value
    return not isinstance(value, ast.Call) or ast.unparse(value.func).startswith(SHOWING)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_lost(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == 'code' and 'no-output' not in cell.metadata.get('tags', [])]
    assert [cell.source.splitlines()[-1] for cell in cells if shows(cell.source) and not cell.outputs] == []


@pytest.mark.parametrize('source, found', [('x', True), ('plot_history(learn)', True), ('x = 1\nx.round(2)', False), ('pd.Series(x)', True), ('x;', False), ('train(learn)', False),
                                           ("f'{x}' if y else z", True), ('assert x', False), ('%matplotlib inline\nx', True)])
def test_the_search_for_lost_outputs_finds(source, found): assert shows(source) == found


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    start = path.parents[1] if path.stem == 'index' else path.parent # the index is the README, one folder up
    prose = '\n'.join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == 'markdown')
    links = [link for link in re.findall(r'\]\(([^)#\s]+)\)', prose) if '://' not in link]
    assert [link for link in links if not (start/link).exists()] == []
