"""The same bytes on other processors, as far as one machine can show it. valgrind presents itself as an Intel CPU with AVX2 and without AVX-512, and
runs everything; qemu computes all instructions itself, the approximate ones too, and can't sample images: its gathers are broken."""
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_kaggle.data.digits import read_data
from mnist_kaggle.training.numerics import CHOICE, NOT_PROMISED, PORTABLE, PRESETS, portable_problem
from mnist_kaggle.training.operators import OPERATORS
from mnist_kaggle.training.recipes import RECIPES

HASHES = Path(__file__).with_name('hashes.py')
PLAIN = ['--without', 'augmentation,sampling of images', '--square-root']
VALGRIND = ['valgrind', '-q', '--tool=none', '--vex-guest-chase=no'] # most of what runs runs once: to follow its jumps takes longer than it saves
QEMU = {model: ['qemu-x86_64', '-cpu', model] for model in ('Haswell-v4', 'EPYC-Rome-v2')}
MKL_SETS = {'SSE4_2': 'sse4_2', 'AVX2': 'avx2', 'AVX512': 'avx512f'}  # and what /proc/cpuinfo calls them
NATIVE = {}  # no variables
KERNEL = ['-m', 'ipykernel_launcher', '-f', '{connection_file}']
# They move, compare or count numbers, or make them without arithmetic, and so have no last bits to differ in.
MOVERS = {'_unsafe_view', '_local_scalar_dense', 'abs', 'all', 'argmax', 'arange', 'bitwise_and_', 'bitwise_not', 'bitwise_or_', 'cat', 'clone', 'copy_', 'detach', 'empty', 'eq', 'equal', 'expand',
          'eye', 'fill_', 'ge', 'gt', 'index', 'le', 'lift_fresh', 'masked_fill', 'masked_fill_', 'max', 'ne', 'neg', 'new_empty_strided', 'nonzero', 'ones', 'ones_like', 'permute', 'roll', 'select', 'slice', 'slice_backward', 'squeeze', 'stack', 't', 'transpose',
          'unbind', 'unsqueeze', 'view', 'zero_', 'zeros', 'zeros_like', '_to_copy', '_record_function_enter_new', '_record_function_exit'}

pytestmark = pytest.mark.skipif(portable_problem() is not None, reason=f'nothing is portable here: {portable_problem()}')


def install(*packages):
    "Have Debian's packages installed, where the user is root; else say what is missing."
    missing = [package for package, program in zip(packages, ('valgrind', 'qemu-x86_64')) if not shutil.which(program)]
    if missing and os.getuid() == 0 and shutil.which('apt-get'):
        for arguments in (['update'], ['install', '-y', *missing]):
            subprocess.run(['apt-get', '-qq', *arguments], check=True, env={**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'})
    elif missing: pytest.skip(f'{" and ".join(missing)} must be installed, which only root can do here')


def environment(variables):
    "That of this process with these variables of the numerics, and no others."
    return {**{name: value for name, value in os.environ.items() if name not in (*PRESETS, CHOICE)}, **variables}


def hashes(emulator, variables, *arguments):
    "What `hashes.py` finds."
    done = subprocess.run([*emulator, sys.executable, '-W', 'ignore', HASHES, *arguments], env=environment(variables), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def verify_under_valgrind(folder):
    "The exit status and the words of `verify`, of a run that was made natively and is made again with its kernel under valgrind."
    kernel = folder/'jupyter/kernels/python3'
    kernel.mkdir(parents=True)
    (kernel/'kernel.json').write_text(json.dumps({'argv': [*VALGRIND, sys.executable, *KERNEL], 'display_name': 'valgrind', 'language': 'python'}))
    program, home = Path(sys.executable).with_name('mnist_kaggle'), {**environment(NATIVE), 'HOME': str(folder)}
    subprocess.run([program, 'run', '--model', 'conv_quick', '--data', 'sample', '--out', folder/'runs'], env=home, check=True, capture_output=True)
    [run] = (folder/'runs').glob('conv_quick-*')
    done = subprocess.run([program, 'verify', run], env={**home, 'JUPYTER_PATH': str(folder/'jupyter')}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    "Everything, two at a time, the longest first."
    install('valgrind', 'qemu-user')
    read_data('sample') # makes it, once, where it is not there yet
    flags, calls = Path('/proc/cpuinfo').read_text(encoding='utf-8'), {}
    few = ['--recipes', 'linear,conv']
    calls['valgrind'] = (VALGRIND, PORTABLE)
    calls['verify'] = ()
    calls['valgrind, native'] = (VALGRIND, NATIVE, *few)
    for model, emulator in QEMU.items(): calls[model] = (emulator, PORTABLE, *PLAIN)
    calls |= {'here': ([], PORTABLE, '--called'), 'here, plain': ([], PORTABLE, *PLAIN, '--called'), 'native': ([], NATIVE, *few)}
    for name, flag in MKL_SETS.items():
        if re.search(rf'\b{flag}\b', flags): calls[f'MKL {name}'] = ([], {**PORTABLE, 'MKL_ENABLE_INSTRUCTIONS': name}, *few)
    with ThreadPoolExecutor(2) as pool:
        def submit(name, call): return pool.submit(hashes, *call) if call else pool.submit(verify_under_valgrind, tmp_path_factory.mktemp('runs'))
        tasks = {name: submit(name, call) for name, call in calls.items()}
        return {name: task.result() for name, task in tasks.items()}


def parted(one, other):
    "The operators and the recipes that differ, of those that both have."
    return [name for part in ('operators', 'recipes') for name in one[part] if name in other[part] and one[part][name] != other[part][name]]


def test_each_operator_of_a_step_is_in_the_list(found):
    called = set().union(*(names for part, names in found['here']['called'].items() if part != 'operators'))
    assert len(called) > 60 and called - MOVERS <= set(found['here']['called']['operators'])


def test_no_recipe_takes_a_square_root(found):
    here, plain = found['here']['called'], found['here, plain']['called']
    for recipe in RECIPES: assert not [name for name in here[recipe] if 'sqrt' in name and name != 'rsqrt'], recipe
    assert 'rsqrt' in here['conv_quick'] and 'sqrt' in plain['with a square root']


def test_the_same_under_valgrind(found):
    assert len(found['valgrind']['operators']) == len(OPERATORS) and len(found['valgrind']['recipes']) == 6
    assert set(parted(found['here'], found['valgrind'])) <= {"numpy's functions"}


@pytest.mark.parametrize('model', QEMU)
def test_the_same_under_qemu_but_for_square_roots(found, model):
    "It finds the one that was put back."
    assert len(found[model]['operators']) == len(OPERATORS) - 1 and len(found[model]['recipes']) == 7
    differing = set(parted(found['here, plain'], found[model]))
    assert {'square root', 'with a square root'} <= differing <= {*NOT_PROMISED, 'with a square root'}  # and so no recipe takes one


def test_the_same_with_each_instruction_set(found):
    for name in MKL_SETS:
        if f'MKL {name}' in found: assert parted(found[f'MKL {name}'], found['here']) == [], name


def test_without_the_variables_they_part(found):
    if found['native']['reports']['torch'] == 'AVX2': pytest.skip('this processor has no AVX-512, and computes as under valgrind')
    assert {'matrix product', 'convolution', 'linear', 'conv'} <= set(parted(found['native'], found['valgrind, native']))


def test_a_run_comes_out_the_same_with_its_kernel_under_valgrind(found):
    status, words = found['verify']
    assert status == 0 and 'was reproduced, byte for byte' in words, words
