"What the tests of pages share: Chromium, driven by Playwright, and pages that reach nothing but their own place and note what went wrong."
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM_ARGUMENTS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
                      '--disable-component-update', '--disable-sync', '--no-proxy-server']


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
    "Refuse a page all addresses that don't begin with `own`. What it asked for and its JavaScript's errors come into two lists, as they happen."
    seen = SimpleNamespace(strangers=[], errors=[])
    allowed = (own, own.replace('http', 'ws', 1), 'data:', 'blob:', 'about:')
    def refuse(route):
        seen.strangers.append(route.request.url)
        route.abort()
    def meet(socket):
        if not socket.url.startswith(allowed): seen.strangers.append(socket.url)
    def note(message):
        if message.type == 'error': seen.errors.append(f'{message.text} {message.location["url"]}')
    page.route(re.compile(f'^(?!{"|".join(map(re.escape, allowed))})'), refuse)
    page.on('websocket', meet)
    page.on('console', note)
    page.on('pageerror', lambda error: seen.errors.append(str(error)))
    return seen


@pytest.fixture(scope='module')
def open_page(browser):
    "`with open_page('http://127.0.0.1:8888/') as (page, seen)`: a fresh page that reaches that place only ('file://' is one, too), with `seen.strangers` and `seen.errors`."
    @contextmanager
    def opened(own):
        with browser.new_context(viewport={'width': 1500, 'height': 900}) as context:
            page = context.new_page()
            yield page, watch(page, own)
    return opened
