"The same run again and again, each in processes of its own: the same bytes each time."
from concurrent.futures import ThreadPoolExecutor

import pytest

from mnist_kaggle.runs.record import RESULTS, read_record
from mnist_kaggle.training.recipes import RECIPES

TIMES = 5


@pytest.mark.parametrize('model', RECIPES)
def test_the_same_bytes_each_time(tmp_path, command, count, model):
    command('check', 'nothing.csv', '--data', 'sample', cwd=tmp_path) # the sample is in the cache now, so that no two write it at once
    def run(i): return command('run', '--data', 'sample', '--model', model, '--epochs', '2', '--out', str(i), cwd=tmp_path)
    with ThreadPoolExecutor(2) as pool: results = list(pool.map(run, range(TIMES)))
    assert [result.returncode for result in results] == [0]*TIMES, results[0].stderr
    runs = [next(path for path in (tmp_path/str(i)).iterdir()) for i in range(TIMES)]
    assert len({path.name for path in runs}) == 1
    for path in runs: read_record(path)
    for name in set(RESULTS) - {'history.csv'}: assert len({(path/name).read_bytes() for path in runs}) == 1, name
    count(f'{model}: the same run in other processes (it must give the same bytes)', TIMES)
