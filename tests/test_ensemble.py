"Ensembles of runs: which go together, and that what was changed is found."
import shutil
from pathlib import Path

import pytest
from running import execute, reseal
from sweeping import leftovers

from mnist_kaggle.runs.ensemble import make_ensemble, verify_ensemble
from mnist_kaggle.runs.members import find_members
from mnist_kaggle.runs.record import RecordError, read_record


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "Runs for ensembles, by what is special about them."
    folder = tmp_path_factory.mktemp('runs')
    for name, more in {'a': {}, 'b': {'seed': 1}, 'fold': {'split': 'fold-1-of-3'}, 'fold5': {'split': 'fold-1-of-5'}, 'all': {'split': 'all'}}.items():
        execute({'model': 'linear', 'data': 'sample', 'epochs': 1, **more}, folder/name)
    return folder


def copied(runs, tmp_path, *names):
    "Copies of runs, which may be damaged."
    return [Path(shutil.copytree(runs/name, tmp_path/name)) for name in names]


def test_members_that_do_not_go_together(runs, tmp_path):
    for names, words in {('a', 'all'): 'all, first80', ('fold', 'fold5'): 'fold-1-of-3, fold-1-of-5', ('a',): 'two members', ('a', 'a'): 'each named once'}.items():
        with pytest.raises(RecordError, match=words): make_ensemble([runs/name for name in names], tmp_path)
    a, b = copied(runs, tmp_path, 'a', 'b')
    data = read_record(b)['data']
    reseal(b, data={**data, 'sha256': {**data['sha256'], 'test.csv': '0'*64}})
    with pytest.raises(RecordError, match='different data: test.csv'): make_ensemble([a, b], tmp_path)
    assert not list(tmp_path.glob('ensemble-*')) and not leftovers(tmp_path)


def test_a_member_that_is_incomplete_or_was_changed(runs, tmp_path):
    a, b = copied(runs, tmp_path, 'a', 'b')
    with (b/'logits.safetensors').open('ab') as file: file.write(b'0')
    with pytest.raises(RecordError, match='logits.safetensors was changed'): make_ensemble([a, b], tmp_path)
    (b/'run.json').unlink()
    with pytest.raises(RecordError, match='neither a run nor a sweep'): find_members([a, b])


def test_an_ensemble_is_checked_verified_and_no_member(runs, tmp_path, command):
    a, b = copied(runs, tmp_path, 'a', 'b')
    result = command('ensemble', a, b, '--data', 'sample', '--out', tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder, = tmp_path.glob('ensemble-*')
    assert command('check', folder/'submission.csv', '--data', 'sample', cwd=tmp_path).returncode == 0
    assert command('verify', folder, '--data', 'sample', cwd=tmp_path).returncode == 0
    assert [member['path'] for member in read_record(folder)['members']] == ['a', 'b']
    with pytest.raises(RecordError, match='is an ensemble'): make_ensemble([a, folder], tmp_path)
    shutil.copy(a/'logits.safetensors', folder)
    assert verify_ensemble(folder, 'sample')[0] == 1
    files = {name: read_record(a)['files'][name] for name in ('submission.csv', 'logits.safetensors')}
    shutil.copy(a/'submission.csv', folder)
    reseal(folder, files=files) # somebody has put in a better one, and rewritten the record
    assert verify_ensemble(folder, 'sample')[0] == 1
    shutil.rmtree(b)
    status, words = verify_ensemble(folder, 'sample')
    assert status == 2 and 'b is missing' in words


def test_top_is_of_a_sweep(runs, tmp_path):
    with pytest.raises(RecordError, match="a sweep's folder"): find_members([runs/'a', runs/'b'], top=2)
    with pytest.raises(RecordError, match='neither a run nor a sweep'): find_members([tmp_path])
    (tmp_path/'sweep.csv').write_text('run,split,accuracy,error\nall,all,,\nall2,all,,\n')
    with pytest.raises(RecordError, match='all rows'): find_members([tmp_path], top=2)
