"What the tests of pages share: Chromium, driven by Playwright, that reaches nothing but the page's own place, and notes what went wrong."
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM_ARGUMENTS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
                      '--disable-component-update', '--disable-sync', '--no-proxy-server']
MINUTE = 60_000 # in milliseconds, as Playwright counts


def find_chromium():
    "Where Chromium is; root on Debian and its like has it installed, anybody else is told what to install."
    if not shutil.which('chromium') and shutil.which('apt-get') and os.getuid() == 0:
        for arguments in (['update'], ['install', '-y', '--no-install-recommends', 'chromium']):
            subprocess.run(['apt-get', '-qq', *arguments], check=True, env={**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'})
    return shutil.which('chromium') or pytest.fail('There is no chromium on the PATH: install it, on Debian with `apt-get install chromium`.')


@pytest.fixture(scope='module')
def browser():
    "Chromium, for one module: while Playwright is in use, its event loop runs, and other tests couldn't run their own."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    "A page without cookies, storage or history of others."
    with browser.new_context(viewport={'width': 1300, 'height': 900}) as context: yield context.new_page()


def watch(page, own):
    "Let a page reach only addresses that begin with `own`; what it asks for elsewhere, and its JavaScript's errors, come into two lists as they happen."
    seen = SimpleNamespace(strangers=[], errors=[])
    within = (own, own.replace('http', 'ws', 1), 'data:', 'blob:', 'about:')
    def is_strange(url): return not url.startswith(within)
    def refuse(route):
        seen.strangers.append(route.request.url)
        route.abort()
    page.route(re.compile('^(?!' + '|'.join(map(re.escape, within)) + ')'), refuse)
    page.on('websocket', lambda socket: is_strange(socket.url) and seen.strangers.append(socket.url))
    page.on('pageerror', lambda error: seen.errors.append(str(error)))
    page.on('console', lambda message: message.type == 'error' and seen.errors.append(f'{message.text} ({message.location["url"]})'))
    return seen


def take_picture(page, selector, path, most=15_000):
    "Write a picture of an element that scrolls, at its full height, up to so many pixels."
    height = page.locator(selector).evaluate('element => Math.max(element.scrollHeight, element.clientHeight)')
    page.set_viewport_size({'width': page.viewport_size['width'], 'height': min(height + 200, most)})
    path.parent.mkdir(exist_ok=True)
    page.locator(selector).screenshot(path=path)
