"""What a CUDA GPU makes of the recipes, as one table and one JSON: python benchmarks/gpu.py [DEVICE] [FOLDER]

Five minutes on a data centre's card. FOLDER (default runs/gpu) gets gpu.json and gpu.md; on CUDA with the competition's data the table also goes into
docs/bench.md, under the card's name. With DEVICE cpu all of it runs without a card, on the built-in sample too: a trial of this program, not a result."""
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median

from tables import put_section

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name('mnist_kaggle')
RECIPES = ('linear', 'two_layer', 'conv', 'conv_quick', 'conv_best')
PRECISIONS = ('single', 'tf32', 'bfloat16')
STEPS, WARM_UP, ROUNDS, REPEATS, SEEDS = 100, 10, 3, 5, 5


# In processes of their own.
def train_one(folder, changes):
    "Train a recipe; print its accuracy, the seconds, and the hash of its weights."
    from mnist_kaggle import get_history, get_learner, get_recipe, read_data, train
    data, recipe = read_data(folder), get_recipe(**changes)
    start = time.perf_counter()
    learn = get_learner(recipe, data, path=tempfile.mkdtemp())
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    print(json.dumps({'accuracy': get_history(learn).accuracy.iloc[-1], 'seconds': time.perf_counter() - start, 'weights': learn.weights_after}))


def time_steps(folder, recipes):
    "Print the seconds of some training steps of each recipe, in turn; the median of a few rounds."
    from fastai.callback.core import Callback, CancelFitException
    from captured import clock
    from mnist_kaggle import get_learner, get_recipe, read_data

    class Clock(Callback):
        "Ends a training after some steps, and notes how long those after the first took."
        def before_fit(self): self.steps = 0

        def after_batch(self):
            if not self.training: return
            self.steps += 1
            if self.steps == WARM_UP: self.start = clock(self.dls.device)
            if self.steps < WARM_UP + STEPS: return
            self.seconds = clock(self.dls.device) - self.start
            raise CancelFitException

    data, seconds = read_data(folder), [[] for _ in recipes]
    for _ in range(ROUNDS):
        for changes, times in zip(recipes, seconds):
            watch = Clock()
            learn = get_learner(get_recipe(**changes), data, path=tempfile.mkdtemp(), cbs=watch)
            with learn.no_bar(), learn.no_logging(): learn.fit(100, learn.recipe.lr)
            times.append(watch.seconds)
    print(json.dumps([*map(median, seconds)]))


# In this one.
def call(script, *arguments):
    "What a script prints in its last line, as JSON."
    done = subprocess.run([sys.executable, '-W', 'ignore', HERE/script, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def train_all(folder, recipes, at_once):
    "What `train_one` prints for each recipe, so many at a time."
    with ThreadPoolExecutor(at_once) as pool: return [*pool.map(lambda changes: call('gpu.py', 'train', folder, json.dumps(changes)), recipes)]


def row(what, value, unit, note=''): return {'what': what, 'value': value, 'unit': unit, 'note': note}


def repeats(folder, device):
    "Each recipe some times, in processes of their own that share the card: how many different weights."
    for name in RECIPES:
        found = train_all(folder, [{'name': name, 'device': device}] * REPEATS, REPEATS)
        kinds = len({one['weights'] for one in found})
        yield row(f'{name}, trained {REPEATS} times', kinds, 'different weights', f'accuracy {mean(one["accuracy"] for one in found):.4f}')


def costs(folder, device):
    "Steps that may add up in any order, and in other precisions, against those of the recipe."
    precisions = PRECISIONS if device == 'cuda' else ('single', 'bfloat16') # the CPU has no TF32
    for name in ('conv', 'conv_quick', 'conv_best'):
        ways = [{'precision': precision} for precision in precisions] + [{'deterministic': False}]
        own, *others = call('gpu.py', 'steps', folder, json.dumps([{'name': name, 'device': device, **way} for way in ways]))
        yield row(f'{name}, {STEPS} steps', own, 'seconds', 'single precision, deterministic')
        for way, seconds in zip(ways[1:], others): yield row(f'{name}, {STEPS} steps, {next(iter(way.values())) or "not deterministic"}', seconds / own, 'of these seconds')


def accuracies(folder, device):
    "What other precisions cost in accuracy."
    for precision in PRECISIONS if device == 'cuda' else ('single', 'bfloat16'):
        found = train_all(folder, [{'name': 'conv_quick', 'device': device, 'precision': precision, 'seed': seed} for seed in range(SEEDS)], SEEDS)
        yield row(f'conv_quick, {precision}', mean(one['accuracy'] for one in found), 'validation accuracy', f'mean of {SEEDS} seeds')


def to_990(folder, device):
    "The training of conv_quick without the Learner."
    found = call('captured.py', folder, device, SEEDS)
    note = f'validation accuracy {mean(one["accuracy"] for one in found):.4f}, mean of {SEEDS} seeds'
    yield row('conv_quick, all on the device', median(one['seconds'] for one in found), 'seconds of training', note)
    yield row('the same, with the capture of the step', median(one['seconds with the capture'] for one in found), 'seconds')


def eight(folder, device):
    "conv_best alone, and eight of it that share the card."
    recipes = [{'name': 'conv_best', 'device': device, 'seed': seed} for seed in range(8)]
    (alone,) = train_all(folder, recipes[:1], 1)
    yield row('conv_best', alone['seconds'], 'seconds of training', f'validation accuracy {alone["accuracy"]:.4f}')
    start = time.perf_counter()
    train_all(folder, recipes, 8)
    yield row('conv_best, eight at a time', time.perf_counter() - start, 'seconds, with the start of the processes')


def commands(folder, device):
    "A run and a sweep, as they are called."
    for words in (['run', '--model', 'conv_quick'], ['sweep', '--model', 'conv_quick', '--seed', '0-7']):
        start = time.perf_counter()
        subprocess.run([PROGRAM, *words, '--device', device, '--data', folder, '--out', tempfile.mkdtemp()], stdout=subprocess.DEVNULL, check=True)
        yield row(f'mnist_kaggle {" ".join(words)}', time.perf_counter() - start, 'seconds')


def name_of(device):
    "The device with what computes on it, asked in a process of its own, which leaves the card alone."
    code = f'import torch; from mnist_kaggle.training.device import device_name; print(device_name({device!r}), "torch", torch.__version__, sep=", ")'
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def table(results):
    "The rows as markdown."
    lines = ['| what | | | |', '|:---|---:|:---|:---|']
    for one in results['rows']:
        value = one['value'] if isinstance(one['value'], int) else f'{one["value"]:.3f}' if one['unit'].startswith('seconds') else f'{one["value"]:.4f}'
        lines.append(f"| {one['what']} | {value} | {one['unit']} | {one['note']} |")
    return '\n'.join(lines) + '\n'


def section(results):
    "The card's section of docs/bench.md, and its title."
    title = f'## On a GPU: {results["device"]}'
    return title, f'{title}\n\nBy `python benchmarks/gpu.py` at commit {results["commit"]}.\n\n{table(results)}'


def main(device='cuda', out='runs/gpu'):
    from mnist_kaggle.data.files import COMPETITION_SHA256, FILES, data_sha256, read_file
    from mnist_kaggle.data.places import find_data
    from mnist_kaggle.training.device import cuda_problem
    if device == 'cuda' and (problem := cuda_problem()): sys.exit(f'There is no GPU to measure: {problem}. `python benchmarks/gpu.py cpu` tries this program without one.')
    out, source, folder = Path(out), find_data(), Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES: (folder/name).write_bytes(read_file(source, name))
    commit = subprocess.run(['git', 'describe', '--always', '--dirty'], cwd=HERE, capture_output=True, text=True).stdout.strip() or 'unknown'
    results = {'device': name_of(device), 'commit': commit, 'data': data_sha256(source), 'rows': []}
    for part in (to_990, repeats, costs, accuracies, eight, commands):
        start = time.perf_counter()
        for one in part(folder, device):
            results['rows'].append(one)
            print(*one.values(), flush=True)
            (out/'gpu.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8') # what is there when the lease ends counts
            (out/'gpu.md').write_text(table(results), encoding='utf-8')
        print(f'  {part.__name__}: {time.perf_counter() - start:.0f} s', flush=True)
    if device == 'cuda' and results['data'] == COMPETITION_SHA256: put_section(*section(results))


if __name__ == '__main__':
    if sys.argv[1:2] == ['train']: train_one(sys.argv[2], json.loads(sys.argv[3]))
    elif sys.argv[1:2] == ['steps']: time_steps(sys.argv[2], json.loads(sys.argv[3]))
    else: main(*sys.argv[1:])
