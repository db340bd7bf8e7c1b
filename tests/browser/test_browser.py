"What a reader sees who opens a notebook with pictures, tables or bars in JupyterLab and runs all its cells: no error, all of them, a bar that moves and goes."
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
import requests
from others import KANNADA_ZIP

CHECKOUT = Path(__file__).parents[2]
PICTURES = {'image/png', 'text/html', 'text/markdown'} # what a browser makes of an output, beside text
SCREENSHOTS = Path(__file__).with_name('screenshots')
MINUTE = 60_000 # in milliseconds, in which Playwright counts
LINE = 17 # pixels, a line of an output
SETTINGS = {
    'notebook-extension/tracker': {'windowingMode': 'none', 'scrollPastEnd': False}, # all cells are in the page
    'apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False}}

# All values of progress bars, in the order in which they are shown: the cell, which bar of it, the value.
WATCH_BARS = '''() => {
    window.bars = []
    const look = () => document.querySelectorAll('.jp-CodeCell').forEach((cell, i) => cell.querySelectorAll('progress[value]').forEach((bar, j) => window.bars.push([i, j, bar.value])))
    new MutationObserver(look).observe(document.querySelector('.jp-Notebook'), {subtree: true, childList: true, attributes: true, attributeFilter: ['value']})
}'''

# JupyterLab shows an error as it shows any text on stderr, so its model of the notebook is asked, which `--expose-app-in-browser` lets us do.
CODE_CELLS = "jupyterapp.shell.currentWidget.content.model.toJSON().cells.filter(cell => cell.cell_type == 'code')"
ERRORS = CODE_CELLS + '''.flatMap((cell, i) => cell.outputs.filter(output => output.output_type == 'error').map(error => [i, `${error.ename}: ${error.evalue}`]))'''
WARNINGS = CODE_CELLS + '''.flatMap((cell, i) => cell.outputs.filter(output => output.name == 'stderr').map(output => [i, [output.text].flat().join('')]))'''

COUNTS = CODE_CELLS + '.map(cell => cell.execution_count)'

# Nothing more will happen: each cell has its number, or one failed, or JupyterLab asks something, as when a kernel died. A folded cell shows no number.
IS_DONE = f'''() => document.querySelector('.jp-Dialog') || {ERRORS}.length
    || {COUNTS}.every(count => count) && [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].every(prompt => /^\\[\\d+\\]/.test(prompt.innerText))'''

ARE_LOADED = "() => [...document.querySelectorAll('.jp-Notebook img')].every(image => image.complete)"

CELLS = '''() => [...document.querySelectorAll('.jp-CodeCell')].map(cell => ({
    outputs: [...cell.querySelectorAll('.jp-OutputArea-output')].map(output => ({
        text: output.innerText, height: output.clientHeight, epochs: output.querySelectorAll('table.fastprogress').length,
        images: output.querySelectorAll('img').length, tables: output.querySelectorAll('table').length, bars: output.querySelectorAll('progress').length}))}))'''


def shows_more_than_text(path):
    "Has a notebook a picture or a bar, or, in what a reader runs by hand, a table? Of the others a browser shows nothing that the tests of Kaggle have not seen."
    kinds = {'image/png'} if '30' <= path.stem < ':' else PICTURES # the library's own are numbered from 30
    return any(kinds & {*output.get('data', {})} for cell in nbformat.read(path, 4).cells for output in cell.get('outputs', []))


NOTEBOOKS = sorted(path.stem for path in (CHECKOUT/'nbs').glob('*.ipynb') if shows_more_than_text(path))


def free_port():
    "A port that nobody listens at."
    with socket.create_server(('127.0.0.1', 0)) as server: return server.getsockname()[1]


def lab_environment(folder):
    "The environment of a server whose home, cache and settings are in a folder, with the sample as its data, and Kannada MNIST in the cache where it is here."
    inherited = {name: value for name, value in os.environ.items() if not name.startswith('JUPYTER') and not name.lower().endswith('_proxy')}
    places = {'HOME': 'home', 'XDG_CACHE_HOME': 'home/.cache', 'JUPYTER_CONFIG_DIR': 'config', 'JUPYTER_DATA_DIR': 'data', 'JUPYTER_RUNTIME_DIR': 'runtime',
              'JUPYTERLAB_SETTINGS_DIR': 'settings', 'JUPYTERLAB_WORKSPACES_DIR': 'workspaces'}
    for place in places.values(): (folder/place).mkdir(parents=True, exist_ok=True)
    cache = folder/'home/.cache/mnist_kaggle'
    cache.mkdir()
    if KANNADA_ZIP.exists(): shutil.copy(KANNADA_ZIP, cache/'Kannada-MNIST.zip')
    return {**inherited, 'MNIST_KAGGLE_DATA': 'sample', **{name: str(folder/place) for name, place in places.items()}}


def write_settings(folder):
    "JupyterLab's settings, where a user's would be."
    for name, values in SETTINGS.items():
        path = folder/'@jupyterlab'/f'{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))


@contextlib.contextmanager
def served(arguments, **options):
    "A server, for the length of a block. Whatever happens in it, the server ends then, with its kernels."
    server = psutil.Popen(arguments, stderr=subprocess.STDOUT, **options)
    try: yield server
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [server, *server.children(recursive=True)]
            server.terminate()
            for process in psutil.wait_procs(family, timeout=30)[1]: process.kill()


def wait_until_ready(server, ask, log):
    "Ask a server until it answers, for two minutes at most."
    end = time.monotonic() + 120
    while True:
        try: return ask.get(f'{ask.url}api', timeout=10).raise_for_status()
        except requests.ConnectionError:
            assert server.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab on copies of the notebooks: `lab.url`, `lab.token`, and all that `requests.Session` has."
    folder = tmp_path_factory.mktemp('lab')
    for name in ('nbs', 'benchmarks', 'docs'): shutil.copytree(CHECKOUT/name, folder/name, ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    environment = {**lab_environment(folder), 'PYTHONPATH': str(Path(__file__).parent)}
    write_settings(folder/'settings')
    port, token, log = free_port(), secrets.token_hex(), folder/'jupyter-lab.log'
    arguments = ['--no-browser', '--allow-root', '--expose-app-in-browser', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0', f'--ServerApp.root_dir={folder/"nbs"}', f'--IdentityProvider.token={token}',
                 '--AsyncMappingKernelManager.kernel_manager_class=forking.ForkedKernelManager']
    ask = requests.Session()
    ask.trust_env, ask.headers['Authorization'] = False, f'token {token}'
    ask.url, ask.token, ask.notebooks = f'http://127.0.0.1:{port}/', token, folder/'nbs'
    with log.open('w') as file, served([Path(sys.executable).with_name('jupyter-lab'), *arguments], env=environment, cwd=folder, stdout=file) as server:
        wait_until_ready(server, ask, log)
        yield ask


def stop_kernels(lab):
    "End all kernels, so that 20 of them don't fill the memory."
    for session in lab.get(f'{lab.url}api/sessions').json(): lab.delete(f'{lab.url}api/sessions/{session["id"]}').raise_for_status()


@pytest.fixture(scope='module')
def app(lab, open_page):
    "JupyterLab's page, in which one notebook after the other is opened, and what it asked for."
    with open_page(lab.url) as (page, seen):
        page.goto(f'{lab.url}lab?token={lab.token}&reset')
        page.get_by_text('Python 3 (ipykernel)').first.wait_for(timeout=2*MINUTE) # of the launcher
        yield page, seen, page.viewport_size


def run_all(page, path):
    "Open a notebook and run its cells, as a reader does, by the menu."
    page.evaluate("path => jupyterapp.commands.execute('docmanager:open', {path}).then(() => null)", path)
    page.locator('.jp-Notebook .jp-CodeCell').first.wait_for(timeout=MINUTE)
    page.get_by_text('Python 3 (ipykernel) | Idle').first.wait_for(timeout=2*MINUTE)
    assert set(page.evaluate(COUNTS)) == {None} # none has run
    page.evaluate(WATCH_BARS)
    page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
    page.locator('.lm-Menu-itemLabel:text-is("Run All Cells")').click()
    page.wait_for_function(IS_DONE, timeout=10*MINUTE, polling=500)
    page.wait_for_function(ARE_LOADED, timeout=MINUTE)


def take_picture(page, path, most=15_000):
    "A picture of all cells, up to so many pixels high."
    notebook = page.locator('.jp-Notebook .jp-WindowedPanel-outer')
    height = notebook.evaluate('element => element.scrollHeight')
    page.set_viewport_size({'width': page.viewport_size['width'], 'height': min(height + 150, most)}) # what is above and below takes less than that
    notebook.evaluate('element => element.scrollTo(0, 0)')
    path.parent.mkdir(exist_ok=True)
    notebook.screenshot(path=path)


def run_by_hand(name, lab, app):
    "What a notebook's page holds after all cells ran: `cells` as they are shown, `stored` as they are in the checkout, and what went wrong."
    path = lab.notebooks/f'{name}.ipynb'
    stored = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == 'code']
    page, seen, size = app
    seen.strangers.clear()
    seen.errors.clear()
    page.set_viewport_size(size)
    run_all(page, path.name)
    take_picture(page, SCREENSHOTS/f'{name}.png')
    images = page.locator('.jp-Notebook img').evaluate_all('images => images.map(image => image.naturalWidth)')
    dialogs = page.locator('.jp-Dialog').all_inner_texts()
    result = SimpleNamespace(name=name, cells=page.evaluate(CELLS), counts=page.evaluate(COUNTS), stored=stored, bars=page.evaluate('window.bars'),
                             images=images, errors=page.evaluate(ERRORS), warnings=page.evaluate(WARNINGS), dialogs=dialogs,
                             seen=SimpleNamespace(strangers=[*seen.strangers], errors=[*seen.errors]))
    page.evaluate('jupyterapp.shell.currentWidget.dispose()') # which asks nothing
    stop_kernels(lab)
    return result


def outputs_of(ran):
    "All outputs, each with its cell's place among the cells of code."
    return [(i, output) for i, cell in enumerate(ran.cells) for output in cell['outputs']]


def is_table(output):
    "Does a stored output hold a table, of HTML or, as no HTML is there, of markdown?"
    data = output.get('data', {})
    return '<table' in data.get('text/html', '') or 'text/html' not in data and bool(re.search(r'^\|[-:| ]+\|$', data.get('text/markdown', ''), re.MULTILINE))


def shows_epochs(cell): return any('class="fastprogress"' in output.get('data', {}).get('text/html', '') for output in cell.outputs)


def check_all_cells_ran_without_a_warning(ran):
    assert ran.errors == [] and ran.dialogs == [] and ran.warnings == []
    assert [(i, output['text']) for i, output in outputs_of(ran) if 'Traceback' in output['text']] == []
    assert all(ran.counts)


def check_pictures_and_tables_are_shown(ran):
    assert len(ran.cells) == len(ran.stored)
    shown = [(sum(output['images'] for output in cell['outputs']), sum(output['tables'] for output in cell['outputs'])) for cell in ran.cells]
    stored = [(sum('image/png' in output.get('data', {}) for output in cell.outputs), sum(map(is_table, cell.outputs))) for cell in ran.stored]
    missing = [(i, f'{now} of {before} pictures and tables') for i, (now, before) in enumerate(zip(shown, stored)) if now[0] < before[0] or now[1] < before[1]]
    assert missing == []
    assert all(width > 0 for width in ran.images)


def check_the_bar_moved_while_a_net_was_trained(ran):
    trained = [i for i, cell in enumerate(ran.stored) if shows_epochs(cell)]
    assert trained or ran.name != 'pipeline'
    for i in trained:
        values = {j: [value for cell, bar, value in ran.bars if (cell, bar) == (i, j)] for j in (0, 1)} # of the epochs, of the batches
        assert any(before < after for bar in values.values() for before, after in pairwise(bar)), f'cell {i}: {values}'
        assert any(output['epochs'] for output in ran.cells[i]['outputs']), f'cell {i} has no table of epochs'


def check_nothing_is_left_of_the_bar(ran):
    label = re.compile(r'\d% \[\d+/\d+ [\d:]+<')
    left = [(i, output['text']) for i, output in outputs_of(ran) if output['bars'] or label.search(output['text'])]
    empty = [i for i, output in outputs_of(ran) if output['height'] >= LINE and not (output['text'].strip() or output['images'] or output['tables'])]
    assert left == [] and empty == []


def check_the_page_had_no_errors_and_asked_nobody(ran):
    assert ran.seen.errors == []
    assert ran.seen.strangers == []


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_a_notebook_run_by_hand(name, lab, app):
    ran = run_by_hand(name, lab, app)
    check_all_cells_ran_without_a_warning(ran)
    if not name.endswith('_kannada') or KANNADA_ZIP.exists(): check_pictures_and_tables_are_shown(ran) # which are of its files
    check_the_bar_moved_while_a_net_was_trained(ran)
    check_nothing_is_left_of_the_bar(ran)
    check_the_page_had_no_errors_and_asked_nobody(ran)
