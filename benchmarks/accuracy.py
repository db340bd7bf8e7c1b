"""Train every default recipe with three seeds on the first 80% of the rows, and write the table of accuracies.

make accuracy, or: python benchmarks/accuracy.py (the data is found as the library finds it)"""
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mnist_kaggle.baseline import class_means, nearest_mean
from mnist_kaggle.data import read_data, split_rows
from mnist_kaggle.files import find_data
from mnist_kaggle.recipes import RECIPES
from mnist_kaggle.training import get_history, get_learner, train

SEEDS = (0, 1, 2)
COLUMNS = ['model', 'accuracy', 'spread', 'seeds', 'epochs', 'cpu seconds']


def measure(recipe, data):
    "Validation accuracy and CPU seconds of training."
    learn = get_learner(recipe, data, path=tempfile.mkdtemp())
    start = time.process_time()
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    return get_history(learn).accuracy.iloc[-1], time.process_time() - start


def main():
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, check=True).stdout.strip()
    data = read_data(find_data())
    if len(data.labels) != 42_000: sys.exit('The accuracies are those on the competition\'s data.')
    train_rows, valid_rows = split_rows(data.labels)
    start = time.process_time()
    predicted = nearest_mean(data.images[valid_rows], class_means(data.images[train_rows], data.labels[train_rows]))
    rows = [{'model': 'nearest class mean', 'accuracy': (predicted == data.labels[valid_rows]).mean(), 'cpu seconds': time.process_time() - start}]
    for name, recipe in RECIPES.items():
        runs = pd.DataFrame([measure(replace(recipe, seed=seed, device='cpu'), data) for seed in SEEDS], columns=['accuracy', 'seconds'])
        rows.append({'model': name, 'accuracy': runs.accuracy.mean(), 'spread': runs.accuracy.std(), 'seeds': len(SEEDS),
                     'epochs': recipe.epochs, 'cpu seconds': runs.seconds.median()})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows, columns=COLUMNS).round({'accuracy': 5, 'spread': 5, 'cpu seconds': 1}).astype({'seeds': 'Int64', 'epochs': 'Int64'})
    table.assign(**{'rows': len(train_rows), 'commit': commit}).to_csv(Path(__file__).with_name('accuracy.csv'), index=False)


if __name__ == '__main__': main()
