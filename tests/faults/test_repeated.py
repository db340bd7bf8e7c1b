"The same run again and again, each in processes of its own: the same bytes each time."
import pytest

from mnist_kaggle.runs.record import RESULTS, read_record
from mnist_kaggle.training.recipes import RECIPES

TIMES = 5


@pytest.mark.parametrize('model', RECIPES)
def test_the_same_bytes_each_time(tmp_path, command, count, model):
    for i in range(TIMES):
        result = command('run', '--data', 'sample', '--model', model, '--epochs', '2', '--out', str(i), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    runs = [next(path for path in (tmp_path/str(i)).iterdir()) for i in range(TIMES)]
    assert len({path.name for path in runs}) == 1
    for path in runs: read_record(path)
    for name in set(RESULTS) - {'history.csv'}: assert len({(path/name).read_bytes() for path in runs}) == 1, name
    count(f'{model}: the same run in other processes (it must give the same bytes)', TIMES)
