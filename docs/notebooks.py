"Write docs/notebooks.md, the list of notebooks, from the first cell of each: python docs/notebooks.py"
import json
from pathlib import Path

HEAD = '''# Notebooks

The notebooks are numbered in two tracks: the lessons, to be read in order, and the machine, to be looked up. A notebook has the name of the module that it exports: `05_models.linear` is `mnist_kaggle.models.linear`. [`pipeline`](../nbs/pipeline.ipynb) contains the whole way from the data to the submission, in one notebook with parameters. `make readme` writes this page.
'''


def row(path):
    "A notebook's name as a link, its title, and the line below its title."
    title, _, rest = ''.join(json.loads(path.read_text(encoding='utf-8'))['cells'][0]['source']).partition('\n\n> ')
    return f"| [`{path.stem}`](../nbs/{path.name}) | {title.removeprefix('# ')} | {rest.partition(chr(10))[0]} |"


def table(paths): return '\n'.join(['| notebook | title | what it is about |', '| --- | --- | --- |', *map(row, paths)])


here = Path(__file__).parent
notebooks = sorted((here.parent/'nbs').glob('[0-9]*.ipynb'))
lessons = [path for path in notebooks if path.name < '30']
page = f'{HEAD}\n## The lessons\n\n{table(lessons)}\n\n## The machine\n\n{table(notebooks[len(lessons):])}\n'
(here/'notebooks.md').write_text(page, encoding='utf-8')
