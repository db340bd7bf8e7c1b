"What all notebooks have in common."
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
