"What the tests of sweeps share: to wait for what will happen, and to see the kernels and the runs."
import subprocess
import sys
import time

import psutil

from mnist_kaggle.runs.record import read_record

PATIENTLY = 120 # seconds for what comes sooner or later; more only on a machine that hangs


def wait_until(condition):
    "What a condition gives, as soon as it gives something."
    for _ in range(PATIENTLY * 20):
        if found := condition(): return found
        time.sleep(0.05)
    raise AssertionError('it did not happen')


def is_server(process):
    "Is this a kernel server, or forked from one?"
    return 'serve_kernels' in ' '.join(process.cmdline())


def kernels(process):
    "The kernels that a process and its children have now."
    found = []
    for child in process.children(recursive=True):
        # the server's own children, as `lscpu` before it is that, have its folder
        try: found += [child] if is_server(child) and is_server(child.parent()) and child.cwd() != child.parent().cwd() else []
        except (psutil.Error, AttributeError): pass # it has ended, or its parent has
    return found


def runs_in(out):
    "The complete runs in a folder, by name."
    return {path.parent.name: read_record(path.parent) for path in out.glob('[!.]*/run.json')}


def leftovers(out):
    "What a sweep should not leave."
    return [path.name for path in out.glob('.*')]


def wait_for_workers(address, n):
    "Wait until a scheduler has so many workers."
    program = f'from distributed import Client; Client({address!r}).wait_for_workers({n}, timeout={PATIENTLY})'
    subprocess.run([sys.executable, '-c', program], check=True)
