"What the tests of notebooks of one's own share: a notebook with other cells, and what lies beside it."
import json

from mnist_kaggle.cli.notebooks import make_notebook

LAYERS = '''from torch import nn
from my_shapes import KERNEL

class Block(nn.Module):
    "A residual layer."
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, KERNEL, padding=KERNEL // 2)

    def forward(self, x): return x + self.conv(x).relu()
'''
NET = '''from my_layers import Block

def make_net():
    return nn.Sequential(nn.Conv2d(1, width, 5, stride=2), nn.ReLU(), Block(width), nn.Flatten(), nn.Dropout(dropout), nn.LazyLinear(10))'''
SMALL = 'def make_net(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10))'
WIDTH = 'width = None         # channels of the first layer of a net with pooling'


def write_own(folder, name='mine', model='linear', parameters='', **cells):
    "A notebook whose cells of these tags have other sources; `parameters` is added to those that are there. A source may be a function of the old one."
    notebook = json.loads(make_notebook(name, model))
    for cell in notebook['cells']:
        for tag in cell['metadata']['tags']:
            if tag == 'parameters': cell['source'] += '\nepochs = 1\n' + parameters
            if tag in cells: cell['source'] = cells[tag]
    folder.mkdir(exist_ok=True)
    (folder/f'{name}.ipynb').write_text(json.dumps(notebook))
    return folder/f'{name}.ipynb'


def write_residual(folder):
    "A notebook with dropout and a residual layer from a module beside it, which imports another."
    folder.mkdir(exist_ok=True)
    (folder/'my_layers.py').write_text(LAYERS)
    (folder/'my_shapes.py').write_text('KERNEL = 3\n')
    path = write_own(folder, parameters='dropout = 0.2\n', net=NET)
    path.write_text(path.read_text().replace(WIDTH, 'width = 4'))
    return path


def change_last(path, source):
    "Put code before the last cell of a notebook; a text with `finish_run` takes its place."
    notebook = json.loads(path.read_text())
    last = notebook['cells'][-1]
    last['source'] = source if 'finish_run' in source else f"{source}\n{last['source']}"
    path.write_text(json.dumps(notebook))
    return path
