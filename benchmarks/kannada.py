"""Train recipes on Kannada MNIST by a sweep; write a row for each run into kannada.csv.

make kannada DATA=kannada-mnist.zip, or: python benchmarks/kannada.py ZIP [FOLDER]
All is trained on the CPU. FOLDER is for the runs. What is complete there is not made again, so what was stopped goes on."""
import sys
from pathlib import Path

import pandas as pd
from records import HERE, row_of, sweep

SWEEP = '--model linear,conv,conv_quick,conv_best --seed 0-2 --data {}'


def main(source, folder):
    runs = sweep(SWEEP.format(source), folder)
    rows = [row_of(run, recipe=run.name.rpartition('-')[0], command=f'mnist_kaggle sweep {SWEEP.format(Path(source).name)}') for run in runs]
    pd.DataFrame(rows).to_csv(HERE/'kannada.csv', index=False)


if __name__ == '__main__': main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else 'runs/kannada'))
