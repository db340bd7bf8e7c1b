"""Train every recipe, and each step on the way to the best of them, by sweeps; write a row for each run of each step into records.csv.

make records, or: python benchmarks/records.py [TEXT] (the data is found as the library finds it; it must be the competition's)
All is trained on the CPU, in runs/records. What is complete there is not made again, so what was stopped goes on. With TEXT, as 'model conv_quick',
only the steps whose sweep has it are made, and the other rows stay as they are."""
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from competition import find_competition

from mnist_kaggle.runs.record import read_record

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name('mnist_kaggle')
TWO_EPOCHS = '--model conv_quick --epochs 2 --batch-size 128'
STEPS = [  # section of the notebook, what is new, the sweep that trains it
    ('recipes', 'linear', '--model linear --seed 0-2'),
    ('recipes', 'two_layer', '--model two_layer --seed 0-2'),
    ('recipes', 'conv', '--model conv --seed 0-3'),
    ('recipes', 'conv_quick', '--model conv_quick --seed 0-4'),
    ('recipes', 'conv_best', '--model conv_best --seed 0-7'),
    ('conv_quick', 'the stride-2 net, two epochs', '--model conv --epochs 2 --lr 0.2 --batch-size 128 --augment none --seed 0-4'),
    ('conv_quick', 'the small net with max-pooling', f'{TWO_EPOCHS} --label-smoothing 0 --optimiser sgd --schedule one_cycle --lr 0.2 --seed 0-4'),
    ('conv_quick', 'Muon and its schedule', f'{TWO_EPOCHS} --label-smoothing 0 --lr 0.06 --seed 0-4'),
    ('conv_quick', 'label smoothing', f'{TWO_EPOCHS} --lr 0.06 --seed 0-4'),
    ('conv_quick', 'one epoch in place of two', '--model conv_quick --batch-size 128 --lr 0.06 --seed 0-4'),
    ('conv_quick', 'batches of 96, and a higher rate', '--model conv_quick --seed 0-4'),
    ('conv_best', 'the stride-2 net', '--model conv --seed 0-3'),
    ('conv_best', 'the deep net with max-pooling', '--model conv_best --optimiser sgd --schedule one_cycle --lr 0.2 --augment affine --tta 0 --seed 0-3'),
    ('conv_best', 'elastic distortions', '--model conv_best --optimiser sgd --schedule one_cycle --lr 0.2 --tta 0 --seed 0-3'),
    ('conv_best', 'Muon and its schedule', '--model conv_best --seed 0-7'),
    ('precision', 'single', '--model conv_quick --seed 0-4'),
    ('precision', 'bfloat16', '--model conv_quick --precision bfloat16 --seed 0-4'),
]
ENSEMBLES = [  # what it is, the sweep whose runs are its members
    ('the ensemble', '--model conv_best --seed 0-7'),
    ('the ensemble, for the submission', '--model conv_best --seed 0-7 --split all'),
]


def row_of(run, **columns):
    "A run as a row. The history's last accuracy is without test-time augmentation."
    record = read_record(run)
    return {**columns, 'run': run.name, 'seed': record['parameters']['seed'], 'accuracy': pd.read_csv(run/'history.csv').accuracy.iloc[-1],
            'with tta': record['metrics']['valid_accuracy'], 'tta': record['parameters']['tta'],
            'training seconds': record['seconds']['train'], 'evaluation seconds': record['seconds']['validate'] + record['seconds']['submission'],
            'rows': record['data']['rows']['train.csv'] - record['metrics']['valid_rows'], 'commit': record['code']['commit'], 'clean': record['code']['clean']}


def mnist_kaggle(*arguments):
    command = [PROGRAM, *map(str, arguments)]
    if status := subprocess.run(command, env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''}).returncode: sys.exit(f'{" ".join(map(str, command))} ended with status {status}.')


def sweep(arguments, folder):
    "The complete runs of a sweep."
    mnist_kaggle('sweep', *arguments.split(), '--out', folder)
    return [folder/name for name in pd.read_csv(folder/'sweep.csv').run]


def ensemble(runs, folder, **columns):
    "The ensemble of runs as a row; its submission's hash says whether it came out the same again."
    mnist_kaggle('ensemble', *runs, '--out', folder)
    members = {run.name for run in runs}
    records = {path: read_record(path) for path in folder.glob('ensemble-*')}
    path, record = next((path, record) for path, record in records.items() if {member['run'] for member in record['members']} == members)
    return {**columns, 'run': path.name, 'with tta': record['metrics']['valid_accuracy'], 'training seconds': record['seconds']['train'],
            'rows': record['data']['rows']['train.csv'] - record['metrics']['valid_rows'], 'commit': record['code']['commit'], 'clean': record['code']['clean'], 'submission': record['files']['submission.csv']}


def main(text, folder=Path('runs/records')):
    find_competition() # which the sweeps find, too
    old, rows = pd.read_csv(HERE/'records.csv') if text else None, []
    for section, step, arguments in STEPS:
        if text in arguments: rows += [row_of(run, section=section, step=step, command=f'mnist_kaggle sweep {arguments}') for run in sweep(arguments, folder)]
        else: rows += old[(old.section == section) & (old.step == step)].to_dict('records')
    for step, arguments in ENSEMBLES:
        if text in arguments: rows.append(ensemble(sweep(arguments, folder), folder, section='ensemble', step=step, command=f'mnist_kaggle sweep {arguments}'))
        else: rows += old[old.step == step].to_dict('records')
    pd.DataFrame(rows).astype({'seed': 'Int64', 'tta': 'Int64', 'rows': int}).to_csv(HERE/'records.csv', index=False)


if __name__ == '__main__': main(sys.argv[1] if len(sys.argv) > 1 else '')
