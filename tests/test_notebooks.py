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


def prose(path):
    "The text of a page: of a notebook, its markdown cells."
    if path.suffix == '.md': return path.read_text(encoding='utf-8')
    return '\n'.join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == 'markdown')


def anchors(path):
    "The headings of a page, as GitHub names them in links."
    headings = re.findall(r'^#+ (.+)$', prose(path), flags=re.M)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


ROOT = Path(__file__).parents[1]
PAGES = [*NOTEBOOKS, *ROOT.glob('*.md'), *(ROOT/'docs').glob('*.md')]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    start = ROOT if path.stem == 'index' else path.parent # the index is the README, one folder up
    links = [link.partition('#') for link in re.findall(r'\]\(([^)\s]+)\)', prose(path)) if '://' not in link]
    assert [name for name, _, _ in links if not (start/name).exists()] == []
    pages = [(start/name if name else path, anchor) for name, _, anchor in links if anchor]
    assert [anchor for page, anchor in pages if anchor.lower() not in anchors(page)] == []


def test_the_readme_is_short(): assert len((ROOT/'README.md').read_text(encoding='utf-8').splitlines()) < 200


@pytest.mark.parametrize('path', [path for path in NOTEBOOKS if re.match('[0-2]', path.name)], ids=lambda path: path.stem)
def test_each_lesson_says_what_it_needs_and_ends_with_three_exercises(path):
    cells = nbformat.read(path, 4).cells
    folded = [cell.source.splitlines()[0].partition(':')[0] for cell in cells if cell.metadata.get('jupyter', {}).get('source_hidden')]
    assert '**You need:**' in cells[0].source and '**Time:**' in cells[0].source and '## Exercises' in prose(path)
    assert folded == [f'# Solution of exercise {i}' for i in (1, 2, 3)] and all(f'**{i}.** ' in prose(path) for i in (1, 2, 3))
