"Sweeps on this machine."
import json
import os
import signal
import time

import pandas as pd
import pytest
from click.testing import CliRunner
from sweeping import PATIENTLY, leftovers, runs_in, wait_until

from mnist_kaggle.cli.main import cli
from mnist_kaggle.cli.sweeps import plan_sweep
from mnist_kaggle.data.writing import try_lock
from mnist_kaggle.runs.members import find_members
from mnist_kaggle.runs.record import RecordError
from mnist_kaggle.runs.server import KernelServer


@pytest.mark.parametrize('arguments, words', [
    (['--lr', '0.1,-1'], ['lr', '-1']), (['--lr', '0.1,,0.2'], ['lr', 'empty']), (['--seed', ''], ['seed', 'empty']), (['--seed', '4-0'], ['seed', '4-0']),
    (['--seed', '0,0'], ['combination 2', 'combination 1']), (['--epochs', 'ten'], ['epochs', 'ten']), (['--model', 'forest'], ['forest', 'conv_quick']),
    (['--split', 'first80,first90'], ['first90', 'fold-K-of-N']), (['--split', 'fold-1-of-5000'], ['fold-1-of-5000', 'rarest']), (['--norm', 'maybe'], ['norm', 'true or false']),
    (['--seed', '0-99999'], ['0-99999', '10,000']), (['--seed', '0-9999', '--lr', '1,2'], ['20,000', '10,000']), (['--data', 'no/such.zip'], ['no/such.zip'])])
def test_bad_options(tmp_path, arguments, words):
    result = CliRunner().invoke(cli, ['sweep', '--data', 'sample', '--model', 'linear', '--out', str(tmp_path/'runs'), *arguments])
    assert result.exit_code == 1 and all(word in result.output for word in words), result.output
    assert not (tmp_path/'runs').exists() and len(result.output.splitlines()) <= 3


def test_a_time_limit_that_can_not_be(tmp_path):
    result = CliRunner().invoke(cli, ['sweep', '--data', 'sample', '--out', str(tmp_path/'runs'), '--time-limit', '-1'])
    assert result.exit_code == 2 and '--time-limit' in result.output and not (tmp_path/'runs').exists()


@pytest.mark.parametrize('text, words', [
    ('', ['is empty', 'model,seed,epochs']), (',,\n', ['is empty']), (' \n\n', ['is empty']), ('model,lr\nlinear,0.1,3\n', ['row 1', '3 cells']), ('model,seed,seed\nlinear,1,2\n', ['seed', 'twice']), ('model,lr\n', ['no row']), ('model,epoch\nlinear,3\n', ['epoch', 'epochs']), ('model,lr\nlinear,0.1\nlinear,x\n', ['row 2', 'lr']),
    ('model,lr\nlinear,0.1\nconv,0.1\nlinear,0.1\n', ['row 3', 'row 1']), ('model,lr\nlinear,0\n', ['row 1', 'lr']), ('model,seed\nlinear,-1\n', ['row 1', 'seed'])])
def test_bad_table(tmp_path, text, words):
    table = tmp_path/'table.csv'
    table.write_text(text)
    result = CliRunner().invoke(cli, ['sweep', str(table), '--data', 'sample', '--out', str(tmp_path/'runs')])
    assert result.exit_code == 1 and all(word in result.output for word in ['table.csv', *words]), result.output
    assert not (tmp_path/'runs').exists()


def test_a_table_as_a_spreadsheet_leaves_it(tmp_path):
    table = tmp_path/'table.csv'
    table.write_bytes(b'\xef\xbb\xbfmodel,seed,\r\n'.replace(b'seed,', b'seed') + b'linear,1\r\n,\r\n , \r\nconv,2\r\n,\r\n')
    assert [(job.model, job.recipe.seed) for job in plan_sweep(table, {})] == [('linear', 1), ('conv', 2)]


def test_a_table_with_columns_or_signs_too_many(tmp_path):
    table = tmp_path/'table.csv'
    table.write_text('model,seed,,\nlinear,1,,\n')
    assert [(job.model, job.recipe.seed) for job in plan_sweep(table, {})] == [('linear', 1)]
    for sign in ';\t':
        table.write_text(f'model{sign}seed\nlinear{sign}1\n')
        with pytest.raises(ValueError, match='save it with commas'): plan_sweep(table, {})


def test_a_table_is_not_overwritten_by_its_results(tmp_path):
    (tmp_path/'sweep.csv').write_text('model,seed\nlinear,1\n')
    result = CliRunner().invoke(cli, ['sweep', str(tmp_path/'sweep.csv'), '--data', 'sample', '--out', str(tmp_path)])
    assert result.exit_code == 1 and 'choose another folder' in result.output and (tmp_path/'sweep.csv').read_text().startswith('model,seed')


@pytest.mark.parametrize('text', ['model,seed\nlinear,1\n', 'run;accuracy;error\na;0.9;\n'])
def test_members_of_a_table_that_is_no_sweeps(tmp_path, text):
    (tmp_path/'sweep.csv').write_text(text)
    result = CliRunner().invoke(cli, ['ensemble', str(tmp_path), '--data', 'sample'])
    assert result.exit_code == 1 and "is not a sweep's table" in result.output


def test_top_of_two_sweeps(tmp_path):
    for folders in ([tmp_path/'a', tmp_path/'b'], [tmp_path/'a', tmp_path/'b', tmp_path/'c']):
        with pytest.raises(RecordError, match='one sweep'): find_members(folders, 2)


def test_a_row_without_a_model_is_each_of_the_three(tmp_path):
    table = tmp_path/'table.csv'
    table.write_text('seed,model\n1,\n2,conv_quick\n')
    assert [(job.model, job.recipe.seed) for job in plan_sweep(table, {})] == [('linear', 1), ('two_layer', 1), ('conv', 1), ('conv_quick', 2)]
    assert [job.model for job in plan_sweep(None, {'seed': '1'})] == ['linear', 'two_layer', 'conv']


def test_two_sweeps_into_one_folder(command, tmp_path):
    (tmp_path/'runs').mkdir()
    lock = try_lock(tmp_path/'runs') # as another sweep has it
    result = command('sweep', '--model', 'linear', '--epochs', '1', '--data', 'sample', cwd=tmp_path)
    assert result.returncode == 1 and 'Another sweep is writing its results into runs' in result.stderr and list((tmp_path/'runs').iterdir()) == []
    os.close(lock)
    assert command('sweep', '--model', 'linear', '--epochs', '1', '--data', 'sample', cwd=tmp_path).returncode == 0


def test_ctrl_c_while_the_workers_start(start, tmp_path):
    process = start('--model', 'linear', '--seed', '0-3')
    spawned = [one for one in wait_until(lambda: [one for one in process.children(recursive=True) if 'spawn_main' in ' '.join(one.cmdline())])]
    os.killpg(process.pid, signal.SIGINT) # as a terminal does
    output, errors = process.communicate(timeout=PATIENTLY)
    assert process.returncode == 130 and 'Traceback' not in errors and spawned and not leftovers(tmp_path/'runs'), errors


def test_a_table_that_is_missing_or_has_company(tmp_path):
    for arguments, word in [([str(tmp_path/'none.csv')], 'none.csv'), ([str(tmp_path/'table.csv'), '--seed', '0-2'], '--seed')]:
        result = CliRunner().invoke(cli, ['sweep', *arguments, '--data', 'sample'])
        assert result.exit_code == 1 and word in result.output


def test_an_option_that_does_not_exist(command, tmp_path):
    result = command('sweep', '--epoch', '3', cwd=tmp_path)
    assert result.returncode == 2 and '--epochs' in result.stderr


@pytest.mark.whole
def test_one_run_fails_and_the_others_end_well(command, tmp_path, small):
    table = tmp_path/'table.csv'
    table.write_text('model,epochs,lr\nlinear,3,1e38\nlinear,3,\ntwo_layer,3,\n')
    first = command('sweep', table, '--data', small, cwd=tmp_path)
    assert first.returncode == 1 and '1 of 3 runs failed' in first.stderr and 'TrainingError' in first.stdout and 'is started again' not in first.stdout
    out = tmp_path/'runs'
    found = pd.read_csv(out/'sweep.csv').set_index('run')
    failed, = found.index[found.error.notna()]
    assert len(found) == 3 and set(runs_in(out)) == set(found.index) - {failed} and not leftovers(out)
    cells = json.loads((out/f'{failed}-failed.ipynb').read_text())['cells']
    assert 'This run failed' in ''.join(cells[0]['source']) and str(out/f'{failed}-failed.ipynb').rpartition('/runs/')[2] in first.stdout
    assert found.loc[failed, 'lr'] == 1e38 and found.accuracy.drop(failed).notna().all() and (found.seconds.drop(failed) > found['training seconds'].drop(failed)).all()
    assert (out/'sweep.png').read_bytes().startswith(b'\x89PNG')
    before = {path: path.stat().st_mtime_ns for name in runs_in(out) for path in (out/name).iterdir()}
    again = command('sweep', table, '--data', small, cwd=tmp_path)
    assert again.returncode == 1 and '2 of 3 runs are already complete' in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_kernel_whose_folder_is_gone(tmp_path, capfd):
    server = KernelServer()
    forked = server.fork(arguments=['ipykernel_launcher'], environment=dict(os.environ), folder=str(tmp_path/'gone'))
    wait_until(lambda: forked.poll() is not None)
    server.process.communicate()
    assert capfd.readouterr().err == ''
