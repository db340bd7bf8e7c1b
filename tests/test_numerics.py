"How a process computes: who sets the variables, what is kept, what is said, and what a record has of it."
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from running import execute, reseal

from mnist_kaggle import get_recipe, read_record
from mnist_kaggle.runs import server
from mnist_kaggle.runs.differences import tell_differences
from mnist_kaggle.runs.jobs import job_name, make_job, on_device
from mnist_kaggle.sweeps.cluster import worker_problem
from mnist_kaggle.sweeps.values import SweepError
from mnist_kaggle.training import numerics
from mnist_kaggle.training.numerics import CHOICE, PORTABLE, PRESETS, numeric_environment, portable_problem, preset_variables, resolve_numerics

pytestmark = pytest.mark.skipif(portable_problem() is not None, reason=f'nothing is portable here: {portable_problem()}')
BARE = {name: value for name, value in os.environ.items() if name not in (*PRESETS, CHOICE)}
REPORTS = '''
from mnist_kaggle.training.numerics import process_problem, torch_reports
print(process_problem(), torch_reports()["mkl"])'''


def python(program, **variables):
    "The last line that a program prints, with these variables of the numerics and no others."
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', program], env={**BARE, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize('first', ['', 'import mnist_kaggle; import torch', 'from mnist_kaggle.models import conv', 'import numpy, pandas'])
def test_whoever_imports_it_first_computes_portably(first): assert python(first + REPORTS) == 'None COMPATIBLE'


@pytest.mark.parametrize('first', ['import torch', 'import fastai.basics'])
def test_where_torch_was_there_before_it_is_native(first): assert python(first + REPORTS).startswith('torch was loaded before mnist_kaggle')


def test_native_is_native_throughout():
    "Where it was chosen, a later import, another process and numpy keep to it; where it comes too late, that is said."
    chosen = 'from mnist_kaggle.training.numerics import set_numerics; set_numerics("native"); '
    reports = 'from mnist_kaggle.training.device import library_reports; print(library_reports())'
    again = f'import subprocess, sys; print(subprocess.run([sys.executable, "-W", "ignore", "-c", {reports!r}], capture_output=True, text=True).stdout)'
    for program in (chosen + reports, f'{chosen}{again[:-1]}.strip())'):
        found = python(program)
        assert "'mkl': 'AUTO'" in found and "'torch': 'AVX2'" not in found or 'avx512f' not in open('/proc/cpuinfo').read()
    late = 'import mnist_kaggle, torch; from mnist_kaggle import *; data = read_data(find_data("sample")); get_learner(get_recipe("linear", device="cpu", numerics="native"), data)'
    assert "numerics='native' was set after torch" in python(late)
    with pytest.raises(ValueError, match="not 'nativ'"): numerics.set_numerics('nativ')


def test_a_kernel_that_does_not_compute_as_it_was_asked_to_is_an_error(process, tmp_path):
    "A notebook's own cell sets a variable: the run whose name says `portable` is not made."
    process('new', 'mine.ipynb', cwd=tmp_path)
    text = (tmp_path/'mine.ipynb').read_text()
    (tmp_path/'mine.ipynb').write_text(text.replace('set_numerics(numerics, precision)', "import os; os.environ['MKL_ENABLE_INSTRUCTIONS'] = 'AVX2'; set_numerics(numerics, precision)"))
    result = process('run', 'mine.ipynb', '--model', 'linear', '--data', 'sample', cwd=tmp_path)
    assert result.returncode == 1 and "numerics='portable' is unavailable: MKL_ENABLE_INSTRUCTIONS=AVX2 is set" in result.stderr and not list((tmp_path/'runs').glob('mine-????????'))


def test_an_older_notebook_in_bfloat16_computes_natively():
    assert numerics.kernel_numerics({'precision': 'bfloat16'}) == numerics.kernel_numerics({'numerics': 'native'}) == 'native' and numerics.kernel_numerics({}) == 'portable'


def test_a_training_says_so_once():
    program = 'from mnist_kaggle import *; data = read_data(find_data("sample")); [get_learner(get_recipe("linear", device="cpu"), data) for _ in range(2)]'
    for first, lines in (('import torch; ', 1), ('', 0)):
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', first + program], env=BARE, capture_output=True, text=True, check=True)
        assert done.stdout.count('Computing natively, so results are the same only on processors of this kind: torch was loaded before') == lines


@pytest.mark.parametrize('name, value', [('MKL_CBWR', 'AVX2'), ('ATEN_CPU_CAPABILITY', 'default'), ('ONEDNN_MAX_CPU_ISA', 'ALL'), ('OPENBLAS_CORETYPE', 'Zen'),
                                         ('MKL_ENABLE_INSTRUCTIONS', 'AVX2'), ('DNNL_MAX_CPU_ISA', 'AVX2')])
def test_what_a_user_has_set_is_kept_and_named(name, value):
    program = f'import os; from mnist_kaggle.training.numerics import *; print(os.environ["{name}"], sorted(set(os.environ) & {set(PORTABLE)}), process_problem())'
    assert python(program, **{name: value}) == f'{value} {[name] if name in PORTABLE else []} {name}={value} is set'


def test_what_a_user_has_set_as_it_is_set_here_is_no_contradiction():
    assert python('import mnist_kaggle' + REPORTS, MKL_CBWR='COMPATIBLE', OPENBLAS_CORETYPE='Haswell') == 'None COMPATIBLE'
    kept = numeric_environment(numeric_environment({'MKL_CBWR': 'COMPATIBLE', 'MKL_DEBUG_CPU_TYPE': ''}, 'portable'), 'native')
    assert kept == {'MKL_CBWR': 'COMPATIBLE', 'MKL_DEBUG_CPU_TYPE': '', CHOICE: 'native'} and preset_variables(kept) == []


@pytest.mark.parametrize('machine, flags, words', [('aarch64', '', 'not x86-64'), ('x86_64', 'flags : sse4_2 avx', 'no AVX2'), ('AMD64', 'flags : avx2 fma', None),
                                                   ('x86_64', None, 'on Linux only')])
def test_other_processors(machine, flags, words, monkeypatch, tmp_path):
    "Nothing is set on one that lacks AVX2: told to use it all the same, torch would stop at the first instruction."
    if flags is not None: (tmp_path/'cpuinfo').write_text(flags)
    monkeypatch.setattr(numerics.platform, 'machine', lambda: machine)
    monkeypatch.setattr(numerics, 'Path', lambda path: tmp_path/'cpuinfo')
    monkeypatch.setattr(numerics, 'processor_problem', numerics.processor_problem.__wrapped__)
    problem = portable_problem()
    assert problem is None if words is None else words in problem
    assert resolve_numerics(get_recipe('linear', device='cpu'), problem) == ('native' if words else 'portable')
    assert (set(PORTABLE) & set(numeric_environment({'HOME': '/root'})) == set()) == bool(words)


def test_what_has_nothing_to_do_with_it_is_left_alone():
    assert numeric_environment({'CUDA_VISIBLE_DEVICES': '', 'MKL_CBWR': ''}, 'native') == {'CUDA_VISIBLE_DEVICES': '', CHOICE: 'native'}


def test_a_build_of_torch_that_does_not_say_how_it_computes(monkeypatch):
    monkeypatch.setattr(numerics, 'torch_reports', lambda: {'torch': 'AVX2', 'mkl': None})
    assert 'no MKL that reports' in numerics.process_problem()


def test_the_name_of_a_run_holds_it():
    jobs = [make_job('conv'), make_job('conv', numerics='native'), make_job('conv', precision='bfloat16')]
    portable, native, half = [on_device(job, 'cpu') for job in jobs]
    assert [job.recipe.numerics for job in (portable, native, half)] == ['portable', 'native', 'native']
    assert job_name(portable, {}) != job_name(native, {}) == job_name(on_device(jobs[0], 'cpu', 'MKL_CBWR=AVX2 is set'), {})
    assert on_device(jobs[0], 'cuda').recipe.numerics == 'native'


def test_a_word_that_is_none(command, tmp_path):
    result = command('run', '--numerics', 'quick', cwd=tmp_path)
    assert result.returncode == 2 and "'quick' is not one of 'portable', 'native'" in result.stderr


def test_two_runs_of_one_process_compute_in_two_ways(tmp_path, small):
    "Both kernels are forked, from a server each, and their records say how they computed, and what came of it."
    records = {}
    for way in ('portable', 'native'):
        server.warm_kernels(way)
        execute({'data': str(small), 'model': 'linear', 'epochs': 2, 'numerics': way}, tmp_path/way)
        records[way] = read_record(tmp_path/way)
    libraries = {way: record['device']['libraries'] for way, record in records.items()}
    assert libraries['portable']['torch'] == 'AVX2' and libraries['portable']['openblas'] == 'Haswell'
    assert {way: found['mkl'] for way, found in libraries.items()} == {'portable': 'COMPATIBLE', 'native': 'AUTO'}
    assert [record['parameters']['numerics'] for record in records.values()] == ['portable', 'native']
    assert not set(PORTABLE) & set(records['native']['device']['settings']) and len(records['native']['device']['operators']) > 15


def test_a_run_with_a_variable_of_ones_own(process, tmp_path):
    result = process('run', '--model', 'linear', '--epochs', '2', '--data', 'sample', '--out', 'runs', cwd=tmp_path, MKL_CBWR='SSE4_2')
    assert result.returncode == 0 and result.stdout.count('MKL_CBWR=SSE4_2 is set') == 1
    [run] = (tmp_path/'runs').glob('linear-*')
    record = read_record(run)
    assert record['parameters']['numerics'] == 'native' and record['device']['settings']['MKL_CBWR'] == 'SSE4_2' and 'ATEN_CPU_CAPABILITY' not in record['device']['settings']


def test_workers_of_which_some_cannot():
    def client(*problems): return SimpleNamespace(run=lambda question: dict(zip(('one', 'two'), problems)))
    assert worker_problem(client(None, None)) is None and worker_problem(client('no AVX2', 'no AVX2')) == 'no AVX2'
    with pytest.raises(SweepError, match='The worker two .* no AVX2.*--numerics native'): worker_problem(client(None, 'no AVX2'))


@pytest.fixture
def twice(tmp_path, small):
    "A portable run, and the same made again with another result, elsewhere: by default on another processor, whose sums are other ones."
    execute({'data': str(small), 'model': 'linear', 'epochs': 2}, tmp_path/'here')
    execute({'data': str(small), 'model': 'linear', 'epochs': 2, 'seed': 1}, tmp_path/'there')
    old = read_record(tmp_path/'here')
    def told(**changes):
        device = {**old['device'], **changes.pop('device', {'processor': 'Another CPU', 'operators': {**old['device']['operators'], 'sum': 'x', 'softmax': 'y'}})}
        reseal(tmp_path/'there', **{'parameters': old['parameters'], 'versions': old['versions'], 'device': device, **changes})
        return tell_differences(tmp_path/'here', tmp_path/'there', old)
    return old, told


def test_verify_says_where_the_promise_is_broken(twice):
    old, told = twice
    status, words = told()
    assert status == 3 and "numerics='portable' should give the same bytes" in words and "The first operator that differs is 'sum'" in words
    assert 'Please report it' in words and 'device operators: sum, softmax' in words and 'device processor: ' in words
    status, words = told(device={'processor': 'Another CPU'})
    assert status == 3 and 'No operator that it covers differs' in words
    status, words = told(device={'operators': {**old['device']['operators'], 'square root': 'x'}})
    assert status == 3 and 'No operator that it covers differs' in words and 'device operators: square root' in words


def test_verify_says_what_is_set_here(process, tmp_path):
    process('run', '--model', 'linear', '--epochs', '2', '--data', 'sample', '--out', 'runs', cwd=tmp_path)
    [run] = (tmp_path/'runs').glob('linear-*')
    result = process('verify', run, '--data', 'sample', cwd=tmp_path, MKL_CBWR='SSE4_2')
    assert 'is repeated with native numerics: MKL_CBWR=SSE4_2 is set' in result.stdout and result.returncode in (0, 3)


def test_verify_promises_no_more_than_it_can_keep(twice):
    old, told = twice
    for changes in ({'versions': {**old['versions'], 'torch': '0'}}, {'parameters': {**old['parameters'], 'numerics': 'native'}}):
        status, words = told(**changes)
        assert status == 3 and 'should give' not in words
    status, words = told(device={}) # the same processor, and nothing that explains it
    assert status == 1 and 'should give' not in words


def test_hashing_the_operators_loads_no_library_for_symbols():
    "It would take longer than all the rest of a record, and 40 MB."
    program = "import sys; from mnist_kaggle.training.operators import operator_hashes; operator_hashes(); print('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True, check=True).stdout == 'False\n'
