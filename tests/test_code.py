"What the hash of the library's code sees, what it does not, and where the code goes whole: into a wheel, into a search."
import zipfile
from io import BytesIO

import pytest

from mnist_kaggle.kaggle.wheel import pack_wheel
from mnist_kaggle.runs import naming
from mnist_kaggle.runs.naming import PACKAGE, library_sha256
from test_security import sources

MODULE = '''"What it is about."

def double(x): # a number
    "Twice as much."
    return 2 * x
'''


@pytest.fixture
def library(tmp_path, monkeypatch):
    "A library with a module in a package, in place of ours."
    (tmp_path/'library/inner').mkdir(parents=True)
    (tmp_path/'library/inner/module.py').write_text(MODULE)
    monkeypatch.setattr(naming, 'PACKAGE', tmp_path/'library')
    return tmp_path/'library'


@pytest.mark.parametrize('old, new', [('What it is about.', 'Another word.'), ('Twice as much.', 'Two times as much.'), ('    "Twice as much."\n', ''), ('"What it is about."\n', ''),
                                      ('# a number', '# any number'), ('2 * x', '2*x'), ('2 * x', '(2 *\n        x)'), (')', ') ')])
def test_prose_may_change(library, old, new):
    before = library_sha256()
    assert old in MODULE
    (library/'inner/module.py').write_text(MODULE.replace(old, new))
    assert library_sha256() == before


@pytest.mark.parametrize('old, new', [('2 * x', '3 * x'), ('2 * x', 'x * 2'), ('2 * x', '2. * x'), ('return 2', '"A text."\n    return 2'), ('double', 'twice'), ('(x)', '(x=0)'), ('2 * x', '"2" * x')])
def test_a_statement_may_not(library, old, new):
    before = library_sha256()
    assert old in MODULE
    (library/'inner/module.py').write_text(MODULE.replace(old, new))
    assert library_sha256() != before


def test_a_module_that_comes_goes_or_moves(library):
    hashes = {library_sha256()}
    (library/'inner/other.py').write_text('')
    hashes.add(library_sha256())
    (library/'inner/other.py').rename(library/'other.py')
    hashes.add(library_sha256())
    (library/'inner/module.py').unlink()
    hashes.add(library_sha256())
    assert len(hashes) == 4


def test_what_is_generated_beside_does_not_count(library):
    before = library_sha256()
    (library/'_modidx.py').write_text('d = {}')
    (library/'inner/__init__.py').write_text('')
    assert library_sha256() == before


def test_every_module_goes_into_the_wheel_and_is_searched():
    everything = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py')}
    _, wheel = pack_wheel()
    packed = {name.removeprefix('mnist_kaggle/') for name in zipfile.ZipFile(BytesIO(wheel)).namelist() if name.endswith('.py')}
    assert packed == everything == {name for name, _ in sources() if name.endswith('.py')}
