"""What a run costs in a sweep, and what a scheduler can take: measured, then reckoned, and written to docs/scale.md.

make bench, or alone: python benchmarks/scale.py (the data is found as the library finds it; it must be the competition's)"""
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pandas as pd
from competition import find_competition

from mnist_kaggle.data.files import data_sha256
from mnist_kaggle.sweeps.cluster import identity, local_client
from mnist_kaggle.sweeps.transfer import data_folder, send_data
from mnist_kaggle.runs.jobs import job_name, job_parameters, on_device
from mnist_kaggle.sweeps.jobs import make_jobs
from mnist_kaggle.sweeps.remote import run_job
from mnist_kaggle.sweeps.values import combine
from mnist_kaggle.sweeps.sweep import run_sweep
from mnist_kaggle.training.device import processor_name
from mnist_kaggle.training.recipes import RECIPES

RUNS = 8
HERE = Path(__file__).parent
STAGES = {  # by how a cell of the pipeline notebook begins
    'imports': ('# On Kaggle', 'from mnist_kaggle.training.numerics', 'make_net', 'augment_batch', 'opt_func', 'loss_func'), 'reading': ('run = start_run',),
    'training': ('learn = get_learner',), 'evaluation': ('evaluate_run', 'submission = predict_test'),
    'plots': ('show_rows', 'plot_history', 'show_evaluation', 'submission.iloc'), 'baseline, checks, record': ('measure_baseline', 'finish_run')}
OWN = ('training', 'evaluation')  # a run's own; the rest is what it costs beyond them


def jobs_of(model, epochs):
    return [on_device(job, 'cpu') for job in make_jobs(combine({'model': [model], 'epochs': [epochs], 'seed': list(range(RUNS))}))]


def stages(notebook, seconds):
    "Seconds of each stage of a run, from what papermill wrote into its notebook."
    cells = [cell for cell in json.loads(notebook)['cells'] if cell['cell_type'] == 'code']
    found = {stage: sum(cell['metadata']['papermill']['duration'] for cell in cells if ''.join(cell['source']).startswith(starts)) for stage, starts in STAGES.items()}
    known = sum(''.join(cell['source']).startswith(starts) for cell in cells for starts in STAGES.values())
    if known != len(cells) - 2: raise RuntimeError('the pipeline notebook has cells that belong to no stage')  # but for the two with parameters
    return {'kernel, papermill': seconds - sum(found.values()), **found}


def cost_of_a_run(source):
    "Median seconds of each stage of a short run of the linear model, on one core, in a worker that has made one before."
    allowed, digests = os.sched_getaffinity(0), data_sha256(source)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        with local_client([{}]) as client:
            send_data(client, source, digests)
            outcomes = [client.submit(run_job, 'cost', job_name(job, digests), job_parameters(job), digests, None, identity()).result() for job in jobs_of('linear', 1)]
    finally: os.sched_setaffinity(0, allowed)
    found = pd.DataFrame([stages(outcome.files['pipeline.ipynb'], outcome.seconds) for outcome in outcomes[1:]])
    beyond = found.drop(columns=list(OWN)).sum(axis=1)
    return found.median(), beyond.median(), (beyond.min(), beyond.max()), {name: len(content) for name, content in outcomes[-1].files.items()}


def speed_up(source):
    "Seconds of eight runs by one worker and by two, that have made a run before."
    found = {}
    for workers in (1, 2):
        with local_client([{}] * workers) as client:
            for jobs in (jobs_of('linear', 1)[:workers], jobs_of('linear', 5)):
                out, start = Path(tempfile.mkdtemp()), time.perf_counter()
                table = run_sweep(client, jobs, source, out)
                found[workers] = time.perf_counter() - start
                shutil.rmtree(out)
                if table.error.notna().any(): raise RuntimeError(table.error.dropna().iloc[0])
    return found


def read_records():
    if not (HERE/'records.csv').exists(): sys.exit('benchmarks/records.csv is missing: `make records` makes it.')
    return pd.read_csv(HERE/'records.csv')


def nothing(size, number): return bytes(size)


def jobs_a_second(client, n, size):
    start = time.perf_counter()
    for future in client.map(nothing, [size] * n, range(n), pure=False): future.result()
    return n / (time.perf_counter() - start)


def main():
    "Write docs/scale.md; return the seconds that a run costs beyond its own work, and those of eight runs by one worker and by two."
    records = read_records()
    source = find_competition()
    digests = data_sha256(source)
    table, beyond, (least, most), files = cost_of_a_run(source)
    found = speed_up(source)
    with local_client([{}, {}]) as client:
        jobs_a_second(client, 100, 0)
        empty, full = jobs_a_second(client, 1000, 0), jobs_a_second(client, 200, sum(files.values()))
        shutil.rmtree(data_folder(digests))
        sent, unpacked = send_data(client, source, digests), sum(path.stat().st_size for path in data_folder(digests).iterdir())
    asked = len(pickle.dumps((job_parameters(jobs_of('conv', 1)[0]), digests, identity())))
    own = records[records.section == 'recipes'].groupby('step')[['training seconds', 'evaluation seconds']].mean().sum(axis=1)
    rows = []
    for model in RECIPES:
        run = own[model] + beyond
        rows.append({'model': model, 'a run, seconds': run, **{f'{cores} cores, hours': 1000 * run / cores / 3600 for cores in (2, 64)}, 'answers a second from 64 cores': 64 / run})
    reckoned = pd.DataFrame(rows).set_index('model')
    text = f'''# Scale

The cost of many runs, here and elsewhere. `make bench` measures it and writes this page (`python benchmarks/scale.py` alone takes five minutes).
Measured on {os.cpu_count()} cores ({processor_name()}), with the competition's data, Python {sys.version.split()[0]}.

## Measured: a run

The seconds of each stage of a run of the linear model with one epoch, on one core, in a worker that has executed a run before; medians of {RUNS - 1} runs.

{table.round(2).rename('seconds').rename_axis('stage').to_frame().to_markdown()}

Everything except training and evaluation is overhead: **{beyond:.1f} s** (from {least:.1f} to {most:.1f}). Each notebook has its own process, without any state of earlier runs. On the CPU of a Linux machine, this process is forked from one that has already imported torch and other libraries. On other systems, with CUDA, and in a worker's first run, it imports everything itself, which takes some seconds more.

Eight runs of the linear model with five epochs take one worker {found[1]:.0f} s and two workers {found[2]:.0f} s (in workers that have executed a run before): **{found[1] / found[2]:.2f} times** as fast.

## Measured: what goes over the network

| what | bytes | how often |
| --- | ---: | --- |
| the data, compressed | {sent:,.0f} | once to each worker's cache, by its sha256; there it takes {unpacked:,.0f} bytes, and stays until it is deleted |
| a job: its parameters, hashes and versions | {asked:,} | for each run |
| a run's folder | {sum(files.values()):,} | for each run, back |

## Measured: the scheduler

1,000 empty jobs, one scheduler and two workers on this machine: {empty:,.0f} jobs a second. With results as large as a run's folder, sent through the scheduler to the client: {full:,.0f} a second.

## Estimated: 1,000 runs

Not measured, but computed from the figures above and the seconds of training and evaluation in `benchmarks/records.csv`, where two runs ran at a time: a run's seconds times 1,000, divided by the cores. That each of 64 cores is as fast as each of two is an assumption; they may share memory and disk worse.

{reckoned.round(2).to_markdown()}

The last column is the load of the scheduler and the client with 64 cores: far less than the {full:,.0f} a second measured.

## On a cluster

```sh
dask scheduler                                            # on one machine
dask worker tcp://SCHEDULER:8786 --nthreads 1 --nworkers 8  # on each of the others, in an environment with the same mnist_kaggle
mnist_kaggle sweep --model conv --seed 0-99 --scheduler tcp://SCHEDULER:8786
```

No shared disk is needed. A worker must have this library in the same version, and the same Python, torch, fastai, numpy and scikit-learn, or it is rejected before anything runs. The client checks each worker's results: each file against the record, and the record against the job.

A worker's number of threads is the number of runs that it executes at a time (each run's notebook has its own process). Assign it a GPU by `CUDA_VISIBLE_DEVICES`. A scheduler abandons a run whose workers die after `distributed.scheduler.allowed-failures` failures; independently of that, a run is started at most three times.

**A dask cluster is trusted.** Tasks and results are pickled: whoever reaches the scheduler or a worker can run anything there, and a worker can run anything here. The local workers listen on 127.0.0.1 and have no dashboard. A cluster of several machines needs a private network, or TLS: `tls://` addresses work, with the certificates in dask's own configuration (`distributed.comm.tls`).
'''
    (HERE.parent/'docs/scale.md').write_text(text)
    return beyond, found


if __name__ == '__main__': main()
