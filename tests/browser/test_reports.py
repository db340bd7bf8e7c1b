"What a reader sees of the pages that `mnist_kaggle report` makes, with no network at all."
from pathlib import Path

import pytest

SCREENSHOTS = Path(__file__).with_name('screenshots')


@pytest.fixture(scope='module')
def runs(tmp_path_factory, command):
    "A folder with two runs and all reports; one of the runs was handed in, with a score that is alarming."
    place = tmp_path_factory.mktemp('reports')
    for model, epochs in (('linear', 3), ('conv_quick', 2)):
        result = command('run', '--model', model, '--epochs', epochs, '--data', 'sample', '--device', 'cpu', cwd=place)
        assert result.returncode == 0, result.stderr
    scored = next((place/'runs').glob('linear-*'))
    (scored/'submission.json').write_text('{"ref": 1, "status": "complete", "sent": "", "public_score": "0.10217", "error": null, "score_lower": 0.972, "score_upper": 0.987}')
    result = command('report', cwd=place)
    assert result.returncode == 0, result.stderr
    return place/'runs'


@pytest.fixture
def shown(open_page):
    "A page from the disk, and what went wrong while it was read."
    with open_page('file://') as (page, seen):
        yield page
        assert seen.errors == [] and seen.strangers == []


def take_picture(page, name):
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS/f'{name}.png', full_page=True)


def test_the_page_over_all_runs(runs, shown):
    shown.goto((runs/'report.html').as_uri())
    assert shown.locator('tbody tr').count() == 2
    alarm = shown.locator('.alarm')
    assert alarm.inner_text() == '0.10217' and alarm.evaluate('element => getComputedStyle(element).color') == 'rgb(204, 0, 0)'
    take_picture(shown, 'report-all')
    shown.get_by_role('link').first.click()
    assert shown.title() == next(runs.glob('conv_quick-*')).name and shown.locator('h1').first.inner_text() == 'Pipeline'


def test_the_page_of_a_run(runs, shown):
    shown.goto((next(runs.glob('conv_quick-*'))/'report.html').as_uri())
    code = shown.locator('.jp-CodeCell .jp-InputArea')
    assert code.count() >= 15 and not any(code.nth(i).is_visible() for i in range(code.count()))
    tables = shown.locator('table').all_text_contents()
    assert all(any(name in table for table in tables) for name in ('batch_size', 'train_loss', 'Label', 'valid_accuracy')), tables
    widths = shown.locator('img').evaluate_all('images => images.map(image => image.naturalWidth)')
    assert len(widths) >= 4 and all(widths)
    take_picture(shown, 'report-run')
    shown.locator('summary').first.click()
    assert code.first.is_visible()
