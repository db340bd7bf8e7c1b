"""What portable numerics cost: steps of training of each recipe, portable and native, in turn.

python benchmarks/numerics.py    (four minutes; writes numerics.csv and its section of docs/bench.md; `make bench` does it too)"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import pandas as pd
from competition import find_competition
from tables import put_section

from mnist_kaggle.data.files import FILES, read_file
from mnist_kaggle.training.device import processor_name

HERE = Path(__file__).parent
TABLE = HERE/'numerics.csv'
TITLE = '## Portable and native'
STEPS = {'linear': 100, 'two_layer': 100, 'conv': 100, 'conv_quick': 100, 'conv_best': 30}  # after ten others
AIM = 1.15  # of the recipes with convolutions
ROUNDS = 5


def recipe_alone(*arguments):
    "What `recipe.py` measures, in a process of its own: how torch computes is decided when it is loaded."
    done = subprocess.run([sys.executable, '-W', 'ignore', HERE/'recipe.py', *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder):
    "A row for each recipe: the medians, and their ratio."
    commit = subprocess.run(['git', 'describe', '--always', '--dirty'], capture_output=True, text=True, check=True).stdout.strip()
    for name, steps in STEPS.items():
        trials = [[recipe_alone(name, folder, way, 0, steps) for way in ('portable', 'native')] for _ in range(ROUNDS)]
        portable, native = map(median, zip(*trials))
        row = {'recipe': name, 'steps': steps, 'portable, seconds': round(portable, 3), 'native, seconds': round(native, 3), 'ratio': round(portable/native, 2),
               'at most': AIM if name.startswith('conv') else None, 'processor': processor_name(), 'commit': commit}
        print(*row.values(), flush=True)
        yield row


def section():
    "The section of docs/bench.md, from numerics.csv."
    table = pd.read_csv(TABLE)
    commit, processor = table.commit[0], table.processor[0]
    short = table[table.ratio > table['at most']].recipe
    verdict = f'The aim, at most {AIM} for the recipes with convolutions, is missed by {" and ".join(short)}. ' if len(short) else ''
    rows = table.drop(columns=['processor', 'commit']).astype(object)
    return f'''{TITLE}

Seconds of training steps with one thread, validation left out, medians of {ROUNDS} alternating, each in its own process; by `python benchmarks/numerics.py` at commit {commit} ({processor}). {verdict}The cost of portable runs depends on the processor: one that adds 16 numbers in the time of 8 loses most in convolutions. `--numerics native` avoids the cost; its results repeat on processors of one kind only.

{rows.where(rows.notna(), None).to_markdown(index=False, missingval='', floatfmt=('', '', '.3f', '.3f', '.2f', '.2f'))}
'''


def main(folder):
    pd.DataFrame(measure(folder)).to_csv(TABLE, index=False)


if __name__ == '__main__':
    source, folder = find_competition(), Path(tempfile.mkdtemp())
    for name in FILES: (folder/name).write_bytes(read_file(source, name))
    main(folder)
    put_section(TITLE, section())
