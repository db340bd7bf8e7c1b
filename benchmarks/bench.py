"""Accuracy against training seconds, ours and others', and speed and memory against the original's way, measured in one run but for what is taken from records.csv.

make bench, or: python benchmarks/bench.py    (about 35 minutes; writes bench.csv, numerics.csv, docs/bench.md, docs/bench.png and docs/scale.md)
make bench-quick, or the same with --quick    (each short thing once; writes nothing)
The data is found as the library finds it; it must be the competition's. Linux only, for some of it is held to one core."""
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from statistics import median

os.environ['CUDA_VISIBLE_DEVICES'] = ''  # everything on the CPU

import pandas as pd
import psutil
import torch # before mnist_kaggle, so that what is trained in this process is computed natively
import torch.nn.functional as F

from threadpoolctl import threadpool_limits

from mnist_kaggle.data.cache import cache_folder
from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import FILES, read_file
from mnist_kaggle.data.rows import read_rows
from mnist_kaggle.data.split import split_rows
from mnist_kaggle.training.device import processor_name
from mnist_kaggle.training.learner import get_learner, train
from mnist_kaggle.training.net import make_net
from mnist_kaggle.training.recipes import get_recipe

import numerics
import peers
import scale
from competition import find_competition

if sys.argv[1:] not in ([], ['--quick']): sys.exit(__doc__)
QUICK = sys.argv[1:] == ['--quick']
ROUNDS = 1 if QUICK else 5
QUICKEST, SLOWEST = 'data.digits', 'sweeps.sweep' # the module that reads the data, and the one that loads most
OURS = {'linear': 6, 'two_layer': 50, 'conv': 130, 'conv_quick': 4}  # about how many seconds each takes
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


def wall(*command, cwd):
    "Wall seconds of a command."
    start = time.perf_counter()
    subprocess.run([*map(str, command)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def peak_memory(*command, cwd):
    "The most memory in MB that a command and its children had at one time, looked at every 50 ms; a page that several share counts once (PSS). Looking takes time, so it is not the run whose seconds are taken."
    most = 0
    process = psutil.Popen([*map(str, command)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        total = 0
        for p in [process, *process.children(recursive=True)]:
            try: total += p.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied): pass # it has ended
        most = max(most, total)
        time.sleep(0.05)
    if process.returncode: raise RuntimeError(f'{command} ended with status {process.returncode}')
    return most / 1e6


def warm_disk(folder):
    "Read what either way of a whole run imports and reads, so that neither waits for the disk: some machines forget files within a minute."
    subprocess.run([sys.executable, '-W', 'ignore', '-c', 'import ipykernel.kernelapp, papermill, mnist_kaggle.sweeps.sweep; from fastai.vision.all import *'], check=True)
    for path in folder.glob('*.csv'): path.read_bytes()


def runs(folder):
    "A whole run, from command to submission, the original's and ours, and the accuracy that each came to; and the original's row among those who train."
    theirs, ours = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    def last_accuracy(history): return pd.read_csv(history).accuracy.iloc[-1]
    def original(seed, measure):
        warm_disk(folder)
        return measure(BIN/'papermill', HERE/'original.ipynb', 'out.ipynb', '-p', 'folder', folder, '-p', 'seed', seed, cwd=theirs)
    def quick(seed, measure):
        shutil.rmtree(ours/'runs', ignore_errors=True)
        warm_disk(folder)
        return measure(BIN/'mnist_kaggle', 'run', '--model', 'conv_quick', '--data', folder, '--seed', seed, cwd=ours)
    def fitting():
        cell, = (cell for cell in json.loads((theirs/'out.ipynb').read_text())['cells'] if 'learn.fit(' in ''.join(cell['source']))
        return cell['metadata']['papermill']['duration']
    own, other = [], []
    for seed in range(ROUNDS):
        own.append((quick(seed, wall), *map(last_accuracy, ours.glob('runs/*/history.csv'))))
        other.append((original(seed, wall), last_accuracy(theirs/'history.csv'), fitting()))
    own, other = ([*map(median, zip(*trials))] for trials in (own, other))
    rows = [('whole run, wall seconds', own[0], 'the original\'s way', other[0], 0.3),
            ('whole run, peak memory in MB', quick(0, peak_memory), 'the original\'s way', original(0, peak_memory), 0.55),
            ('its validation accuracy', own[1], 'the original\'s way', other[1], None)]
    return rows, [('the original\'s way, by papermill', 'the original', *other[1:], f'median of {ROUNDS}')]


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
    "An epoch through a `Learner`, and through a plain loop over the same tensors with the same net."
    torch.set_num_threads(1)
    recipe = get_recipe('conv', epochs=1, augment='none', device='cpu', numerics='native')
    images, labels = torch.from_numpy(data.images[:33_600]), torch.from_numpy(data.labels[:33_600])
    def learner():
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
        net = make_net(recipe) # in the memory format of the Learner's
        return seconds(loop, net, torch.optim.SGD(net.parameters(), lr=recipe.lr, momentum=0.9))
    found = in_turn(learner=learner, plain=plain)
    yield 'an epoch of conv, seconds', found['learner'], 'a plain loop', found['plain'], 1.15


def imports():
    "Importing the module with the data, and the one with most behind it, and everything of fastai.vision."
    def load(statement): return seconds(lambda: subprocess.run([sys.executable, '-W', 'ignore', '-c', statement], check=True))
    found = in_turn(vision=lambda: load('from fastai.vision.all import *'), **{name: lambda name=name: load(f'import mnist_kaggle.{name}') for name in (QUICKEST, SLOWEST)})
    for name in (QUICKEST, SLOWEST):
        yield f'import mnist_kaggle.{name}, seconds', found[name], 'fastai.vision.all', found['vision'], 0.85


def many_runs():
    "What a run in a sweep costs beyond its training and evaluation, and eight runs by two workers and by one; docs/scale.md says more."
    beyond, eight = scale.main()
    yield 'a run in a sweep, beyond its own work, seconds', beyond, 'the seconds that it may cost', 1.5, 1.
    yield 'eight runs by two workers, seconds', eight[2], 'by one worker', eight[1], 1 / 1.6


def stored():
    "What takes too long to be made again here: the one net, and the ensemble of its seeds, of records.csv."
    records = scale.read_records()
    best, (whole,) = records[(records.section == 'recipes') & (records.step == 'conv_best')], records[records.step == 'the ensemble'].to_dict('records')
    yield 'conv_best', 'ours', best['with tta'].mean(), best['training seconds'].mean(), f'stored: mean of {len(best)}, two at a time'
    yield f'an ensemble of {len(best)} conv_best', 'ours', whole['with tta'], whole['training seconds'], 'stored: its members together, two at a time'


def race(data, folder):
    "Everybody on the first 33,600 rows with one thread, in turn: name, whose, accuracy, seconds of training, how often."
    train_rows, valid_rows = split_rows(data.labels)
    runners = [(name, 'ours', about, lambda seed, name=name: numerics.recipe_alone(name, folder, 'portable', seed)) for name, about in OURS.items()]
    runners += [(peer.name, peer.source, peer.seconds, lambda seed, peer=peer: peers.trial(peer, data, train_rows, valid_rows, seed)) for peer in peers.PEERS]
    found = {}
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for seed in range(ROUNDS):
            for name, whose, about, run in runners:
                if about < (20 if QUICK else 40) or seed == 0 and not QUICK: found.setdefault((name, whose), []).append(run(seed))
    for (name, whose), trials in found.items():
        yield name, whose, *map(median, zip(*trials)), f'median of {len(trials)}' if len(trials) > 1 else 'one run'


def plot(table):
    "Accuracy against training seconds."
    import matplotlib.pyplot as plt
    figure, ax = plt.subplots(figsize=(10, 6), dpi=80)
    for is_ours, rows in table.groupby(table.whose == 'ours'):
        ax.plot(rows['training seconds'], 1 - rows.accuracy, 'o' if is_ours else 's', label='ours' if is_ours else 'others')
        for row in rows.itertuples(index=False): ax.annotate(row[0], (row[3], 1 - row[2]), xytext=(5, -11 if is_ours else 4), textcoords='offset points', fontsize=7)
    ax.set(xscale='log', yscale='log', xlabel='training seconds', ylabel='validation error', title='error against time: down and left is better')
    ax.set_xlim(right=8 * table['training seconds'].max())
    ax.legend()
    figure.savefig(HERE.parent/'docs/bench.png', bbox_inches='tight', metadata={'Software': None})


def write(table, ratios, commit):
    "docs/bench.md, with the plot, and bench.csv."
    plot(table)
    often = '; '.join(f'{how}: {", ".join(rows.what)}' for how, rows in table[~table.measured.str.startswith('stored')].groupby('measured'))
    fell_short = ratios[ratios.ratio > ratios['at most']].what
    missed = f'missed by: {"; ".join(fell_short)}' if len(fell_short) else 'all hold'
    ratios.to_csv(HERE/'bench.csv', index=False)
    (HERE.parent/'docs/bench.md').write_text(f'''# Benchmarks

Made by `make bench` at commit {commit}, on {os.cpu_count()} cores ({processor_name()}) without a GPU, Python {sys.version.split()[0]}, torch {torch.__version__}, with the competition's data. Our recipes are trained portably, as they are by default; others, and the plain loop, compute natively. On a shared machine, times vary by a third from hour to hour. Each table was measured in one run, except the rows marked as stored.

## Accuracy against training seconds

Trained on the first 33,600 rows, validated on the other 8,400 (binomial error about .001 near .99), on the CPU with one thread, except the original's way, which uses torch's default number of threads. The seconds are those from the data in memory to the trained net or model; ours include a validation after each epoch, and the original's its own; the others have none. The last column has the number of trainings, with another seed each time, alternating with all others: {often}. `conv_best` and the ensemble are from `benchmarks/records.csv`, which `make records` makes, two runs at a time.

Our recipes were tuned on these validation rows, so their accuracies are slightly optimistic; the others' were implemented from their descriptions, in `benchmarks/peers.py`, and not tuned for these rows. PyTorch's example is stopped early, for time. The 0.76-second notebooks train on a GPU, on MNIST's 60,000 rows, and report .990. scikit-learn's `LogisticRegression` and `MLPClassifier` stop at their default number of iterations, converged or not.

{table.to_markdown(index=False, floatfmt=('', '', '.4f', '.1f', ''))}

![error against time](bench.png)

## Speed and memory

The original notebook's way, done right, is `benchmarks/original.ipynb`: everything imported, `pandas.read_csv`, a list of tuples, ten epochs of the plain net. Medians of {ROUNDS} in turn, with another seed each time, after everything that they import and read had been read once; the CSVs had been parsed before, except where the row says first. Memory is the peak of the process and its children together, sampled every 50 ms in a separate run; a page that several of them share counts once (PSS). The last column is the target ratio; {missed}.

{ratios.astype(object).where(ratios.notna(), None).to_markdown(index=False, missingval='', floatfmt=('', '.3f', '', '.3f', '.2f', '.2f'))}

{numerics.section()}''')


def main():
    already = list(stored())
    commit = subprocess.run(['git', 'describe', '--always', '--dirty'], capture_output=True, text=True, check=True).stdout.strip()
    source = find_competition()
    folder, archive = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())/'data.zip'
    for name in FILES: (folder/name).write_bytes(read_file(source, name))
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as z:
        for name in FILES: z.write(folder/name, name)
    data = read_data(folder)
    compared, original = ([], []) if QUICK else runs(folder)
    rows = []
    for row in itertools.chain(compared, reading(folder, archive), epoch(data), *([] if QUICK else [imports(), many_runs()])):
        print(*row, flush=True)
        rows.append(row)
    ratios = pd.DataFrame(rows, columns=['what', 'ours', 'against', 'theirs', 'at most']).round({'ours': 3, 'theirs': 3})
    ratios.insert(4, 'ratio', (ratios.ours / ratios.theirs).round(2))
    rows = [*original, *already]
    for row in race(data, folder):
        print(*row, flush=True)
        rows.append(row)
    table = pd.DataFrame(rows, columns=['what', 'whose', 'accuracy', 'training seconds', 'measured']).sort_values('training seconds')
    if not QUICK:
        numerics.main(folder)
        write(table, ratios, commit)
    print(table.to_string(index=False), ratios.to_string(index=False), sep='\n\n')


if __name__ == '__main__': main()
