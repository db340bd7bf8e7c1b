"What the tests of pages share: Chromium, driven by Playwright, and pages that reach nothing but their own place and note what went wrong."
import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM_ARGUMENTS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
                      '--disable-component-update', '--disable-sync', '--no-proxy-server', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1']


def find_chromium():
    "Where Chromium is. Where it is missing, root on Debian and its like has it installed, one process at a time, and anybody else is told what to install."
    with (Path(tempfile.gettempdir())/f'chromium-{os.getuid()}.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # apt-get does not wait for another one
        if not shutil.which('chromium') and shutil.which('apt-get') and os.getuid() == 0:
            environment = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
            for arguments in (['update'], ['install', '-y', 'chromium']): subprocess.run(['apt-get', '-qq', *arguments], check=True, env=environment)
    return shutil.which('chromium') or pytest.fail('There is no chromium on the PATH: install it, as with `apt-get install chromium` on Debian.')


@pytest.fixture(scope='module')
def browser():
    "Chromium, for one module only: Playwright's event loop runs all the while, and the tests of another module couldn't run one of their own."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


def watch(page, own):
    "What a page asks for beside addresses that begin with `own`, and its JavaScript's errors, come into two lists, as they happen. No other machine can be reached."
    seen = SimpleNamespace(strangers=[], errors=[])
    allowed = (own, own.replace('http', 'ws', 1), 'data:', 'blob:', 'about:')
    def meet(request):
        if not request.url.startswith(allowed): seen.strangers.append(request.url)
    def note(message):
        if message.type == 'error': seen.errors.append(f'{message.text} {message.location["url"]}')
    page.on('request', meet) # not refused by `page.route`, which would switch the cache off
    page.on('websocket', meet)
    page.on('console', note)
    page.on('pageerror', lambda error: seen.errors.append(str(error)))
    return seen


@pytest.fixture(scope='module')
def context(browser):
    "One user of the browser, whose cache spares the next page JupyterLab's scripts."
    with browser.new_context(viewport={'width': 1500, 'height': 900}) as context: yield context


@pytest.fixture(scope='module')
def open_page(context):
    "`with open_page('http://127.0.0.1:8888/') as (page, seen)`: a fresh page, with `seen.strangers`, what it asked of any other place ('file://' is one, too), and `seen.errors`."
    @contextmanager
    def opened(own):
        with context.new_page() as page: yield page, watch(page, own)
    return opened
