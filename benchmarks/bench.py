"""Speed and memory against the original's way, as ratios of things measured in turn in one run.

make bench, or: python benchmarks/bench.py (the data is found as the library finds it; it must be the competition's)"""
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd
import psutil
import torch
import torch.nn.functional as F

from mnist_kaggle.data import read_data, read_rows
from mnist_kaggle.files import FILES, cache_folder, find_data, read_file
from mnist_kaggle.recipes import get_recipe
from mnist_kaggle.training import get_learner, make_net, train

import scale

ROUNDS = 5
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def in_turn(**functions):
    "Call each function in turn, `ROUNDS` times, and return the median of what each gave."
    results = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items(): results[name].append(function())
    return {name: median(values) for name, values in results.items()}


def seconds(function, *args):
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def whole_process(*command, cwd):
    "Wall seconds of a command, and the most memory in MB that it and its children had at one time, looked at ten times a second."
    start, most = time.perf_counter(), 0
    process = psutil.Popen([*map(str, command)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        total = 0
        for p in [process, *process.children(recursive=True)]:
            try: total += p.memory_info().rss
            except psutil.NoSuchProcess: pass
        most = max(most, total)
        time.sleep(0.1)
    if process.returncode: raise RuntimeError(f'{command} ended with status {process.returncode}')
    return time.perf_counter() - start, most / 1e6


def runs(folder):
    "A whole run, from command to submission, the original's and ours; and the accuracy that each came to."
    theirs, ours = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    def original(): return whole_process(BIN/'papermill', HERE/'original.ipynb', 'out.ipynb', '-p', 'folder', folder, cwd=theirs)
    def quick():
        shutil.rmtree(ours/'runs', ignore_errors=True)
        return whole_process(BIN/'mnist_kaggle', 'run', '--model', 'conv_quick', '--data', folder, cwd=ours)
    measured = [(original(), quick()) for _ in range(ROUNDS)]
    for i, (figure, limit) in enumerate([('whole run, wall seconds', 0.5), ('whole run, peak memory in MB', 0.6)]):
        yield figure, median(q[i] for _, q in measured), 'the original\'s way', median(o[i] for o, _ in measured), limit
    accuracy = [pd.read_csv(path).accuracy.iloc[-1] for path in (*ours.glob('runs/*/history.csv'), theirs/'history.csv')]
    yield 'its validation accuracy', accuracy[0], 'the original\'s way', accuracy[1], None


def reading(folder, archive):
    "train.csv by pandas, and by us for the first time and again."
    def first():
        kept = list(cache_folder().glob('rows-*/train.csv-*'))
        if not kept: raise RuntimeError('the parsed rows were not found in the cache, so this would not be a first time')
        for path in kept: path.unlink()
        return seconds(read_rows, folder, 'train.csv')
    found = in_turn(pandas=lambda: seconds(pd.read_csv, folder/'train.csv'), first=first,
                    folder=lambda: seconds(read_rows, folder, 'train.csv'), zip=lambda: seconds(read_rows, archive, 'train.csv'))
    for name, words, limit in [('first', 'first', 0.75), ('folder', 'second, folder', 0.15), ('zip', 'second, zip', 0.4)]:
        yield f'reading train.csv, {words}, seconds', found[name], 'pandas.read_csv', found['pandas'], limit


def epoch(data):
    "An epoch through a `Learner`, with and without deterministic algorithms, and through a plain loop over the same tensors with the same net."
    recipe = get_recipe('conv', epochs=1, augment='none', device='cpu')
    images, labels = torch.from_numpy(data.images[:33_600]), torch.from_numpy(data.labels[:33_600])
    def learner(recipe=recipe):
        learn = get_learner(recipe, data, path=tempfile.mkdtemp())
        learn.dls.loaders[1] = learn.dls.test_dl(data.images[:0])  # the plain loop does not validate
        with learn.no_bar(), learn.no_logging(): return seconds(train, learn, recipe)
    def loop(net, optimiser):
        for rows in torch.randperm(len(images)).split(recipe.batch_size):
            xb = (images[rows].float() / 255).view(-1, 1, 28, 28)
            F.cross_entropy(net(xb), labels[rows]).backward()
            optimiser.step()
            optimiser.zero_grad()
    def plain():
        net = make_net(recipe).to(memory_format=torch.contiguous_format)
        return seconds(loop, net, torch.optim.SGD(net.parameters(), lr=recipe.lr, momentum=0.9))
    found = in_turn(learner=learner, plain=plain, free=lambda: learner(replace(recipe, deterministic=False)))
    yield 'an epoch of conv, seconds', found['learner'], 'a plain loop', found['plain'], 1.15
    yield 'an epoch of conv, deterministic, seconds', found['learner'], '--deterministic false', found['free'], None


def imports():
    "Importing each module, and everything of fastai.vision."
    def load(statement): return lambda: seconds(lambda: subprocess.run([sys.executable, '-W', 'ignore', '-c', statement], check=True))
    modules = sorted(path.stem for path in (HERE.parent/'mnist_kaggle').glob('[!_]*.py'))
    found = in_turn(vision=load('from fastai.vision.all import *'), **{name: load(f'import mnist_kaggle.{name}') for name in modules})
    for name in ('data', max(modules, key=found.get)):
        yield f'import mnist_kaggle.{name}, seconds', found[name], 'fastai.vision.all', found['vision'], 0.85


def many_runs():
    "What a run in a sweep costs beyond its training and evaluation, and eight runs by two workers and by one; docs/scale.md says more."
    beyond, eight = scale.main()
    yield 'a run in a sweep, beyond its own work, seconds', beyond, 'the seconds that it may cost', 8., 1.
    yield 'eight runs by two workers, seconds', eight[2], 'by one worker', eight[1], 1 / 1.6


def main():
    source = find_data()
    folder, archive = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())/'data.zip'
    for name in FILES: (folder/name).write_bytes(read_file(source, name))
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as z:
        for name in FILES: z.write(folder/name, name)
    data = read_data(folder)
    if len(data.labels) != 42_000: sys.exit('The benchmarks need the competition\'s data.')
    rows = []
    for row in itertools.chain(reading(folder, archive), epoch(data), imports(), runs(folder), many_runs()):
        print(*row, flush=True)
        rows.append(row)
    table = pd.DataFrame(rows, columns=['what', 'ours', 'against', 'theirs', 'at most']).round({'ours': 3, 'theirs': 3})
    table.insert(4, 'ratio', (table.ours / table.theirs).round(2))
    table.to_csv(HERE/'bench.csv', index=False)
    print(table.to_string(index=False))


if __name__ == '__main__': main()
