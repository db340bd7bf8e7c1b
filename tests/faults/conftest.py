"The table of faults: each test counts what it tried, and when all have passed and none was skipped the counts are written down."
from collections import Counter
from pathlib import Path

import pytest

COUNTS, OUTCOMES = {}, Counter()


def pytest_addoption(parser):
    parser.addoption('--table', help='the file to write the table of faults to')


@pytest.fixture
def count():
    "`count('fault', n)`: so many were tried, and each ended as it must: the assertions before say so."
    def add(fault, n): COUNTS[fault] = COUNTS.get(fault, 0) + n
    return add


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    "One of xdist's processes has ended."
    for fault, n in getattr(node, 'workeroutput', {}).get('counts', {}).items(): COUNTS[fault] = COUNTS.get(fault, 0) + n


def pytest_runtest_logreport(report):
    if report.when == 'call' or report.outcome != 'passed': OUTCOMES[report.outcome] += 1


def pytest_sessionfinish(session):
    if hasattr(session.config, 'workeroutput'): session.config.workeroutput['counts'] = COUNTS # this is one of xdist's processes
    path = session.config.getoption('--table', None)
    if not path or hasattr(session.config, 'workeroutput'): return
    if set(OUTCOMES) - {'passed'}: return print(f'\n{path} is not written: {dict(OUTCOMES)}')
    rows = [f'| {fault} | {n:,} | 0 | 0 |' for fault, n in sorted(COUNTS.items(), key=lambda item: item[0].lower())]
    total = f'| **all** | **{sum(COUNTS.values()):,}** | **0** | **0** |'
    head = ['# Faults', '', 'Faults injected into runs and files, and their results. `make test-faults` repeats all of them and writes this table, but',
            'only if each ends correctly: the same command, repeated, gives the same bytes as an undisturbed run, and nothing damaged or', 'half-written is accepted as a result.', '',
            '| fault | tried | results lost | wrong results accepted |', '| --- | ---: | ---: | ---: |']
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text('\n'.join([*head, *rows, total]) + '\n')
