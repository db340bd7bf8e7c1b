"Kaggle and back, by the command: Kaggle's own client and fastkaggle against a server of ours."
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from commands import QUICK
from running import execute, reseal
from safetensors.torch import load_file

from mnist_kaggle.data.files import FILES
from mnist_kaggle.data.writing import try_lock
from mnist_kaggle.kaggle import push
from mnist_kaggle.kaggle.follow import check_sent
from mnist_kaggle.runs import kernel
from mnist_kaggle.runs.naming import PIPELINE, recorded_name
from mnist_kaggle.runs.record import hash_results, read_record, save_logits
from mnist_kaggle.runs.staging import RunError
from mnist_kaggle.training.parameters import check_injected

PROGRAM = Path(sys.executable).with_name('mnist_kaggle')
CREDENTIALS = ('KAGGLE_USERNAME', 'KAGGLE_KEY')


@pytest.fixture
def cached(tmp_path): return tmp_path/'home/.cache/mnist_kaggle/digit-recognizer.zip'


def error_of(result):
    "The message of a command that failed, which must be no traceback."
    assert result.returncode == 1 and 'Traceback' not in result.stderr, result.stdout + result.stderr
    return result.stderr.rpartition('Error: ')[2]


# The data

def test_data_is_fetched_once(kaggle, ask, cached):
    result = ask('data')
    assert result.returncode == 0 and f"{cached} contains the competition's files" in result.stdout and '100%' in result.stderr
    assert cached.read_bytes() == kaggle.zip
    assert [path.name for path in cached.parent.iterdir() if path.is_file()] == [cached.name] and not list((cached.parent/'download').iterdir())
    before = list(kaggle.asked)
    result = ask('data', without=CREDENTIALS)
    assert result.returncode == 0 and kaggle.asked == before


def test_a_download_that_breaks_off_goes_on(kaggle, ask, cached):
    kaggle.mode = 'cut off once'
    assert ask('data').returncode == 0
    assert cached.read_bytes() == kaggle.zip and kaggle.starts[0] == 0 < kaggle.starts[1] and len(kaggle.starts) == 2


def test_a_download_that_always_breaks_off_leaves_nothing_that_is_used(kaggle, ask, cached):
    kaggle.mode = 'always cut off'
    assert 'the connection broke' in error_of(ask('data')) and not cached.exists()
    assert 0 < kaggle.starts[1] < kaggle.starts[2] and (cached.parent/'download'/cached.name).exists()


def test_a_later_start_goes_on_where_the_first_was_cut_off(kaggle, ask, cached, small_zip):
    kaggle.mode = 'always cut off'
    ask('data')
    kaggle.mode, tries = 'fine', len(kaggle.starts)
    assert ask('data').returncode == 0
    assert kaggle.starts[tries:] == [0, 3 * 2**20] and cached.read_bytes() == small_zip


def no_numbers(zip_bytes):
    "A zip that is whole, of files that are not."
    content = BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        for name in FILES: archive.writestr(name, 'hello')
    return content.getvalue()


@pytest.mark.parametrize('damage', [lambda b: b[:2000] + bytes([b[2000] ^ 1]) + b[2001:], lambda b: b[:-30], lambda b: b'<html>', no_numbers])
def test_a_corrupt_zip_is_refused_and_fetched_anew(kaggle, ask, cached, damage):
    whole, kaggle.zip = kaggle.zip, damage(kaggle.zip)
    assert str(cached.parent/'download') in error_of(ask('data')) and not cached.exists()
    kaggle.zip = whole
    assert ask('data').returncode == 0 and cached.read_bytes() == whole


REFUSALS = {'no rules': 'https://www.kaggle.com/competitions/digit-recognizer/rules', 'unauthorised': 'KAGGLE_API_TOKEN', 'no JSON': 'no zip'}

@pytest.mark.parametrize('mode', REFUSALS)
def test_refusals_say_what_to_do(kaggle, ask, cached, mode):
    kaggle.mode = mode
    assert REFUSALS[mode] in error_of(ask('data')) and not cached.exists()


def test_no_credentials(kaggle, ask):
    message = error_of(ask('data', without=CREDENTIALS))
    assert 'KAGGLE_API_TOKEN' in message and 'kaggle.json' in message and kaggle.asked == []


def test_a_token_that_kaggle_does_not_know(kaggle, ask):
    message = error_of(ask('data', KAGGLE_API_TOKEN='wrong', without=CREDENTIALS))
    assert 'credentials' in message or 'accept' in message


def test_no_network(kaggle, ask):
    kaggle.shutdown()
    kaggle.server_close()
    assert 'network' in error_of(ask('data'))


def test_two_downloads_at_once(kaggle, surroundings, cached, tmp_path):
    both = [subprocess.Popen([PROGRAM, 'data'], cwd=tmp_path, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate() and one.returncode for one in both] == [0, 0]
    assert cached.read_bytes() == kaggle.zip and kaggle.starts == [0]


# A run, and what comes after it

RUN = ('run', '--model', 'linear', '--epochs', '1', '--device', 'cpu')


def the_run(tmp_path):
    "The one run in the folder `runs`."
    folder, = (tmp_path/'runs').glob('linear-*')
    return folder


def test_a_run_fetches_what_is_missing_or_says_how_to_go_without(kaggle, ask, tmp_path):
    kaggle.mode = 'no rules'
    message = error_of(ask(*RUN))
    assert '--data sample' in message and 'rules' in message and not (tmp_path/'runs').exists()
    kaggle.mode = 'fine'
    result = ask(*RUN)
    assert result.returncode == 0, result.stderr
    assert read_record(the_run(tmp_path))['data']['competition']


def test_a_run_without_credentials_takes_the_sample(kaggle, ask, tmp_path):
    result = ask(*RUN, without=CREDENTIALS)
    assert 'NO COMPETITION DATA FOUND' in result.stdout and kaggle.asked == []
    assert "can't be submitted" in error_of(ask('submit', the_run(tmp_path)))
    assert kaggle.asked == []


@pytest.fixture(scope='module')
def made(tmp_path_factory, small_zip, sample_contents):
    "A home folder with the data in its cache, and a run."
    place = tmp_path_factory.mktemp('made')
    (place/'home/.cache/mnist_kaggle').mkdir(parents=True)
    (place/'home/.cache/mnist_kaggle/digit-recognizer.zip').write_bytes(small_zip)
    digests = {name: sha256(text).hexdigest() for name, text in sample_contents.items()}
    environment = {**os.environ, 'HOME': str(place/'home'), 'XDG_CACHE_HOME': str(place/'home/.cache'), 'STUB_SHA256': json.dumps(digests), 'PYTHONPATH': str(QUICK)}
    subprocess.run([PROGRAM, *RUN], cwd=place, env=environment, check=True, capture_output=True)
    return place


@pytest.fixture
def run(made, surroundings, tmp_path):
    "A run that was made, and its data in the cache."
    for name in ('home', 'runs'): shutil.copytree(made/name, tmp_path/name, dirs_exist_ok=True)
    return the_run(tmp_path)


def test_a_run_is_named_by_its_record(run): assert recorded_name(read_record(run)) == run.name


def note_of(run): return json.loads((run/'submission.json').read_text())


def test_submit_and_its_score(kaggle, ask, run):
    record = (run/'run.json').read_bytes()
    result = ask('submit', run)
    assert result.returncode == 0, result.stderr
    assert '10 submissions are left' in result.stdout and 'scored 0.10000; the prediction interval is' in result.stdout and '***' not in result.stdout
    sent, = kaggle.submissions
    assert sent['content'] == (run/'submission.csv').read_bytes() and run.name in sent['description']
    metrics = json.loads(record)['metrics']
    assert {'ref': 100, 'status': 'complete', 'public_score': '0.10000', 'error': None, 'score_lower': metrics['score_lower'], 'score_upper': metrics['score_upper']}.items() <= note_of(run).items()
    assert (run/'run.json').read_bytes() == record and read_record(run)



def test_an_ensemble_is_handed_in_like_a_run(kaggle, ask, run):
    other = Path(shutil.copytree(run, run.with_name('conv-other')))
    save_logits(*(2 * logits for logits in map(load_file(run/'logits.safetensors').get, ('valid', 'test'))), other)
    reseal(other, files=hash_results(other))
    result = ask('ensemble', run, other)
    assert result.returncode == 0 and 'ready to submit' in result.stdout, result.stderr
    ensemble, = run.parent.glob('ensemble-*')
    result = ask('submit', ensemble)
    assert result.returncode == 0 and kaggle.submissions[0]['content'] == (ensemble/'submission.csv').read_bytes(), result.stderr
    assert note_of(ensemble)['ref'] == 100 and ensemble.name in ask('scores').stdout
    assert ask('report').returncode == 0 and f'<td>{ensemble.name}</td>' in (run.parent/'report.html').read_text()
    assert 'is an ensemble' in error_of(ask('report', ensemble))


def test_an_equal_submission_is_sent_once_unless_forced(kaggle, ask, run):
    assert ask('submit', run).returncode == 0
    (run/'submission.json').unlink() # Kaggle knows it all the same
    result = ask('submit', run)
    assert result.returncode == 0 and 'is not sent again' in result.stdout and len(kaggle.submissions) == 1 and note_of(run)['public_score'] == '0.10000'
    assert ask('submit', run, '--force').returncode == 0 and len(kaggle.submissions) == 2 and note_of(run)['ref'] == 101


def test_a_run_is_sent_by_one_program_at_a_time(kaggle, surroundings, run, tmp_path):
    lock = try_lock(run) # as another program has it
    process = subprocess.Popen([PROGRAM, 'submit', run], cwd=tmp_path, env={**surroundings, 'PYTHONUNBUFFERED': '1'}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == f'Another program is using {run}: waiting for it.\n' and 'ListSubmissions' not in kaggle.asked
    os.close(lock)
    process.communicate()
    assert process.returncode == 0 and len(kaggle.submissions) == 1


@pytest.mark.parametrize('score, is_alarm', [('1.00000', True), ('0.15000', False)])
def test_a_score_outside_of_the_interval_is_an_alarm(kaggle, ask, run, score, is_alarm):
    kaggle.score = score
    for command in (('submit', run), ('scores',)):
        result = ask(*command)
        assert result.returncode == 0 and ('outside its prediction interval' in result.stdout) == is_alarm and score in result.stdout


def test_a_refused_submission(kaggle, ask, run):
    kaggle.mode = 'refused'
    assert 'Submission must have 28000 rows' in error_of(ask('submit', run))
    assert note_of(run)['status'] == 'error' and note_of(run)['error'] == 'Submission must have 28000 rows'
    kaggle.mode = 'fine'
    assert ask('submit', run).returncode == 0 and len(kaggle.submissions) == 2 # a refused one is no reason not to send


@pytest.mark.parametrize('mode, words', [('limit', 'No submission is left'), ('no rules', "Accept the competition's rules once"), ('unauthorised', 'refused the credentials'), ('upload fails', 'did not accept')])
def test_what_is_not_sent_leaves_no_note(kaggle, ask, run, mode, words):
    kaggle.mode = mode
    assert words in error_of(ask('submit', run))
    assert not (run/'submission.json').exists() and kaggle.submissions == []


def test_slow_scoring(kaggle, ask, run):
    kaggle.mode = 'slow'
    result = ask('submit', run)
    assert result.returncode == 0 and 'scored 0.10000' in result.stdout and kaggle.asked.count('ListSubmissions') >= 4


def test_no_score_in_time_is_left_to_scores(kaggle, ask, run):
    kaggle.mode = 'never scored'
    result = ask('submit', run, '--wait', '0.1')
    assert result.returncode == 0 and 'mnist_kaggle scores' in result.stdout and note_of(run)['status'] == 'pending'
    kaggle.submissions[0]['polls'] = 0
    result = ask('scores')
    assert result.returncode == 0 and '0.10000' in result.stdout and note_of(run)['public_score'] == '0.10000'


def test_ctrl_c_leaves_the_score_to_later(kaggle, surroundings, run, tmp_path):
    kaggle.mode = 'never scored'
    process = subprocess.Popen([PROGRAM, 'submit', run], cwd=tmp_path, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while kaggle.asked.count('ListSubmissions') < 3 and process.poll() is None: pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 0 and 'mnist_kaggle scores' in output and 'Traceback' not in errors and note_of(run)['status'] == 'pending'


@pytest.mark.parametrize('name', ['run.json', 'submission.csv', 'logits.safetensors'])
def test_a_run_that_was_changed_is_not_sent(kaggle, ask, run, name):
    (run/name).write_bytes((run/name).read_bytes().replace(b'1', b'2', 1))
    assert name in error_of(ask('submit', run)) and kaggle.asked == []


def test_scores_lists_runs_and_other_submissions(kaggle, ask, run):
    assert ask('submit', run).returncode == 0
    kaggle.submissions += [{**kaggle.submissions[0], 'ref': ref, 'description': f'by hand {ref}', 'publicScore': '0.97'} for ref in range(45)]
    result = ask('scores')
    lines = result.stdout.splitlines()
    assert len(lines) == 47 and run.name in lines[1] and 'by hand 44' in lines[-1]
    (run/'run.json').write_text('{}')
    assert f'Skipped: {Path("runs")/run.name}' in ask('scores').stdout


def test_an_equal_submission_of_long_ago_keeps_its_score(kaggle, ask, run):
    assert ask('submit', run).returncode == 0
    kaggle.submissions[:0] = [{**kaggle.submissions[0], 'ref': ref, 'description': None} for ref in range(25)]
    result = ask('submit', run)
    assert 'is not sent again' in result.stdout and 'scored 0.10000' in result.stdout and note_of(run)['public_score'] == '0.10000'


def test_a_failure_while_waiting_is_no_failure_to_send(kaggle, ask, run):
    kaggle.mode = 'lists nothing'
    result = ask('submit', run)
    assert result.returncode == 0 and 'Internal error' in result.stdout and 'mnist_kaggle scores' in result.stdout and note_of(run)['status'] == 'pending'


@pytest.mark.parametrize('note', ['7', '[]', '{}', '{"ref": 1}', 'no JSON'])
def test_a_damaged_note(kaggle, ask, run, note):
    (run/'submission.json').write_text(note)
    for command in ('scores', 'report'):
        result = ask(command)
        assert 'Traceback' not in result.stderr and 'submission.json is damaged. Delete it' in result.stdout + result.stderr


def test_an_unfinished_run_is_none(kaggle, ask, run):
    run.rename(run.with_name(f'.{run.name}.0123abcd.mnist_kaggle-unfinished'))
    assert 'No run in runs' in ask('scores').stdout


def test_the_alarm_is_red(kaggle, surroundings, run, tmp_path):
    kaggle.score = '1.00000'
    terminal, inside = os.openpty()
    process = subprocess.Popen([PROGRAM, 'submit', run], cwd=tmp_path, env=surroundings, stdout=inside, stderr=inside)
    os.close(inside)
    text = b''
    with contextlib.suppress(OSError): # the end of a terminal
        while part := os.read(terminal, 2**16): text += part
    os.close(terminal)
    assert process.wait() == 0 and b'\x1b[31m' in text and text.index(b'\x1b[31m') < text.index(b'outside its prediction interval')


def test_scores_without_anything(kaggle, ask): assert 'No run in runs' in ask('scores').stdout


# The notebook on Kaggle

EXECUTED = {} # what notebooks have left, by their text: many tests push the same one


def execute_as_kaggle_does(text, folder, environment):
    "Papermill in place with no parameters; what the notebook leaves, by name."
    if text not in EXECUTED:
        folder.mkdir()
        (folder/'__notebook__.ipynb').write_text(text)
        subprocess.run([PROGRAM.with_name('papermill'), '__notebook__.ipynb', '__notebook__.ipynb', '--no-progress-bar'], cwd=folder, check=True, capture_output=True,
                       env={**environment, 'KAGGLE_KERNEL_RUN_TYPE': 'Batch'})
        EXECUTED[text] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return EXECUTED[text]


PUSH = ('push', '--model', 'linear', '--epochs', '1', '--device', 'cpu')


def versions(kaggle):
    "All that was saved as notebooks, in its order."
    return [version for kernel in kaggle.kernels.values() for version in kernel['versions']]


def test_a_dry_run_shows_all_and_sends_nothing(kaggle, ask, run, tmp_path):
    result = ask(*PUSH[:-1], 'auto', '--dry-run')
    assert result.returncode == 0 and 'Nothing was sent' in result.stdout and kaggle.asked == []
    about = json.loads((tmp_path/'runs/push/notebook/kernel-metadata.json').read_text())
    wheel = next((tmp_path/'runs/push/wheel').glob('*.whl'))
    name = about.pop('id')
    assert re.fullmatch('me/mnist-kaggle-linear-[0-9a-f]{8}', name) and name.endswith(about.pop('title'))
    assert about == {'code_file': 'pipeline.ipynb', 'language': 'python', 'kernel_type': 'notebook', 'is_private': True, 'enable_gpu': True, 'machine_shape': 'NvidiaTeslaT4',
                     'enable_internet': False, 'competition_sources': ['digit-recognizer'], 'dataset_sources': [f'me/mnist-kaggle-wheel-{sha256(wheel.read_bytes()).hexdigest()[:8]}']}


@pytest.fixture
def kernels_run(kaggle, surroundings, tmp_path):
    "What is pushed is executed."
    kaggle.run_kernel = lambda text: execute_as_kaggle_does(text, tmp_path/f'kernel-{len(versions(kaggle))}', surroundings)


@pytest.mark.whole
def test_there_and_back(kaggle, ask, run, kernels_run, tmp_path):
    "Pushed, run there, fetched, verified, submitted; the wheel is sent once, and an equal notebook is not sent again."
    shutil.rmtree(run)
    result = ask(*PUSH, '--follow')
    assert result.returncode == 0, result.stdout + result.stderr
    fetched = the_run(tmp_path)
    assert fetched.name == run.name and str(fetched.relative_to(tmp_path)) in result.stdout and 'ready to submit' in result.stdout
    assert sorted(path.name for path in fetched.iterdir()) == ['history.csv', 'kaggle.log', 'logits.safetensors', 'model.safetensors', 'pipeline.ipynb', 'pipeline.sha256', 'recipe.json', 'run.json', 'submission.csv']
    assert 'Submit to Competition' in json.dumps(nbformat.read(fetched/'pipeline.ipynb', 4).cells)
    saved, = versions(kaggle)
    assert saved['isPrivate'] and not saved.get('enableInternet') and not saved.get('enableGpu') and saved['competitionDataSources'] == ['digit-recognizer']
    (name, dataset), = kaggle.datasets.items()
    assert dataset['isPrivate'] and saved['datasetDataSources'] == [name] and len(dataset['content']) == 1
    assert ask('verify', fetched).returncode == 0
    assert ask('submit', fetched).returncode == 0 and kaggle.submissions[0]['content'] == (fetched/'submission.csv').read_bytes()
    shutil.rmtree(fetched)
    result = ask(*PUSH, '--follow')
    assert result.returncode == 0 and 'it is not sent again' in result.stdout and the_run(tmp_path) and len(versions(kaggle)) == 1
    assert ask('push', '--model', 'linear', '--epochs', '2', '--device', 'cpu').returncode == 0
    assert len(versions(kaggle)) == len(kaggle.kernels) == 2 and kaggle.asked.count('CreateDataset') == 1


def test_two_pushes_at_once_send_one(kaggle, surroundings, run, tmp_path):
    both = [subprocess.Popen([PROGRAM, *PUSH], cwd=tmp_path, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate() and one.returncode for one in both] == [0, 0]
    assert len(versions(kaggle)) == 1 and kaggle.asked.count('CreateDataset') == 1


def test_private_and_public_are_two(kaggle, ask, run):
    for options in (['--public'], []): assert ask(*PUSH, *options).returncode == 0
    assert [(kernel.get('isPrivate', False), kaggle.datasets[kernel['datasetDataSources'][0]].get('isPrivate', False)) for kernel in versions(kaggle)] == [(False, False), (True, True)]


def test_a_kernel_that_fails(kaggle, ask, run, tmp_path):
    kaggle.mode, kaggle.run_kernel = 'kernel fails', lambda text: {'__notebook__.ipynb': nbformat.writes(nbformat.v4.new_notebook()).encode()}
    message = error_of(ask(*PUSH, '--follow'))
    assert 'allocate more memory' in message and '-failed.ipynb' in message
    log, = (tmp_path/'runs').glob('*-failed.log')
    assert 'what it said' in log.read_text() and not [path for path in (tmp_path/'runs').iterdir() if path.name.startswith('.')]
    kaggle.mode = 'fine'
    assert ask(*PUSH).returncode == 0 and len(versions(kaggle)) == 2 # it is sent again


def test_a_failure_whose_output_is_not_to_be_had(kaggle, ask, run):
    kaggle.mode = 'kernel fails'
    assert ask(*PUSH).returncode == 0
    kaggle.kernels[next(iter(kaggle.kernels))]['sessions'][0]['polls'] = -2 # it goes on running for a while
    kaggle.mode = 'no output'
    message = error_of(ask(*PUSH, '--follow'))
    assert 'allocate more memory' in message and 'There is no output' in message


def test_what_could_not_be_fetched_whole_is_fetched_again(kaggle, ask, run, kernels_run, tmp_path):
    shutil.rmtree(run)
    kaggle.mode = 'output fails'
    assert 'Repeat the command to fetch it again' in error_of(ask(*PUSH, '--follow')) and not list((tmp_path/'runs').glob('linear-*'))
    kaggle.mode = 'fine'
    assert ask(*PUSH, '--follow').returncode == 0 and the_run(tmp_path) and len(versions(kaggle)) == 1


@pytest.mark.parametrize('files, words', [({}, 'The notebook is missing'), ({'__notebook__.ipynb': b'{}'}, 'The notebook is damaged'),
                                          ({'__notebook__.ipynb': nbformat.writes(nbformat.v4.new_notebook()).encode()}, 'no run.json')])
def test_output_that_is_no_run(kaggle, ask, run, files, words):
    kaggle.run_kernel = lambda text: files
    assert words in error_of(ask(*PUSH, '--follow'))


def test_a_notebook_that_was_edited_on_kaggle(kaggle, ask, run, surroundings, tmp_path):
    kaggle.run_kernel = lambda text: execute_as_kaggle_does(text.replace('epochs = 1', 'epochs = 2'), tmp_path/'kernel', surroundings)
    assert 'its epochs is 2, but 1 was sent' in error_of(ask(*PUSH, '--follow'))


def test_a_wheel_that_was_not_uploaded(kaggle, ask, run):
    kaggle.mode = 'upload fails'
    for _ in range(2):
        assert 'its upload failed. Delete it at' in error_of(ask(*PUSH)) and kaggle.kernels == {}
        kaggle.mode = 'fine'


def test_a_competition_that_was_not_joined(kaggle, ask, run):
    kaggle.mode = 'no competition'
    assert 'did not attach the competition digit-recognizer' in error_of(ask(*PUSH))


def test_foreign_files_are_not_sent(kaggle, ask, run, tmp_path):
    (tmp_path/'runs/push/wheel').mkdir(parents=True)
    (tmp_path/'runs/push/wheel/secret.txt').write_text('mine')
    assert 'secret.txt' in error_of(ask(*PUSH)) and kaggle.asked == []


@pytest.mark.parametrize('mistake, words', [(('--model', 'convnet'), 'convnet'), (('--split', 'first90'), 'first90'), (('--epochs', '0'), 'epochs'), (('--model', 'linear', '--optimiser', 'muon'), 'muon')])
def test_what_can_not_run_is_not_pushed(kaggle, ask, mistake, words, tmp_path):
    assert words in error_of(ask('push', *mistake)) and kaggle.asked == [] and not (tmp_path/'runs').exists()


# What people have met with on Kaggle

def test_an_old_sessions_failure_is_not_the_new_ones(kaggle, ask, run, kernels_run, tmp_path):
    "Asked without a version, this server answers with the session before."
    shutil.rmtree(run)
    kaggle.mode = 'kernel fails'
    assert 'allocate more memory' in error_of(ask(*PUSH, '--follow'))
    kaggle.mode = 'fine'
    assert ask(*PUSH, '--follow').returncode == 0 and the_run(tmp_path)
    assert 'it is not sent again' in ask(*PUSH).stdout and len(versions(kaggle)) == 2


def test_nothing_is_sent_while_it_is_not_known_how_the_last_stands(kaggle, ask, run):
    assert ask(*PUSH).returncode == 0
    kaggle.mode = 'status unknown'
    message = error_of(ask(*PUSH))
    assert 'has version 1 of me/mnist-kaggle-linear' in message and '--force' in message and len(versions(kaggle)) == 1
    assert ask(*PUSH, '--force').returncode == 0 and len(versions(kaggle)) == 2


def test_what_runs_for_ever_is_fetched_as_far_as_it_is(kaggle, ask, run, tmp_path):
    kaggle.mode, kaggle.run_kernel = 'never ends', lambda text: {'__notebook__.ipynb': nbformat.writes(nbformat.v4.new_notebook()).encode()}
    message = error_of(ask(*PUSH, '--now'))
    assert 'has not ended: its status is RUNNING' in message and list((tmp_path/'runs').glob('*-failed.ipynb')) and list((tmp_path/'runs').glob('*-failed.log'))


def test_now_of_what_has_ended_is_its_run(kaggle, ask, run, kernels_run, tmp_path):
    shutil.rmtree(run)
    assert ask(*PUSH).returncode == 0
    kaggle.kernels[next(iter(kaggle.kernels))]['sessions'][0]['polls'] = 2
    assert ask(*PUSH, '--now').returncode == 0 and the_run(tmp_path)


def test_a_gpu_that_was_not_given(kaggle, ask, run, kernels_run, tmp_path):
    shutil.rmtree(run)
    result = ask(*PUSH[:-1], 'auto', '--follow')
    assert result.returncode == 0 and '*** A GPU was requested (NvidiaTeslaT4), but Kaggle provided none' in result.stdout and the_run(tmp_path)
    assert '25.5 of 30 GPU hours are left this week.' in result.stdout


def test_hours_of_gpu_are_not_told_where_none_are_used(kaggle, ask, run):
    assert 'GPU hours' not in ask(*PUSH).stdout and 'GetAcceleratorQuotaStatistics' not in kaggle.asked


@pytest.mark.parametrize('mode', ['fine', 'log cut off'])
def test_the_log_is_shown_as_it_comes(kaggle, ask, run, kernels_run, mode):
    shutil.rmtree(run)
    kaggle.mode = mode
    result = ask(*PUSH, '--follow')
    assert result.returncode == 0 and result.stdout.count('  0:00 Training on Tesla T4.') == result.stdout.count('  1:15 epoch 1') == 1


def test_a_pushed_run_without_the_competition_is_an_error(ask, run, environment, tmp_path):
    assert ask(*PUSH, '--dry-run').returncode == 0
    empty = {**environment, 'HOME': str(tmp_path/'empty'), 'XDG_CACHE_HOME': str(tmp_path/'empty/cache'), 'KAGGLE_KERNEL_RUN_TYPE': 'Batch'}
    result = subprocess.run([PROGRAM.with_name('papermill'), tmp_path/'runs/push/notebook/pipeline.ipynb', '-', '--no-progress-bar'], cwd=tmp_path, env=empty, capture_output=True, text=True)
    assert result.returncode != 0 and "The competition's files were not found. Attach the competition" in result.stderr and not (tmp_path/'run.json').exists()


def test_a_run_of_other_data_is_not_fetched(run):
    record = read_record(run)
    with pytest.raises(RunError, match='not made with the competition'): check_sent({**record, 'data': {**record['data'], 'competition': False}}, {'model': 'linear', 'split': 'first80', 'epochs': 1})


def test_code_that_was_edited_on_kaggle(kaggle, ask, run, surroundings, tmp_path):
    kaggle.run_kernel = lambda text: execute_as_kaggle_does(text.replace('evaluate_run(run, learn)"', 'evaluate_run(run, learn) # 0.99"'), tmp_path/'kernel', surroundings)
    assert 'its code of the notebook is' in error_of(ask(*PUSH, '--follow'))


def test_complete_is_not_yet_scored(kaggle, ask, run):
    kaggle.score = ''
    result = ask('submit', run, '--wait', '0.1')
    assert result.returncode == 0 and 'It has no score yet' in result.stdout and 'None' not in result.stdout and note_of(run)['status'] == 'pending'


def test_one_failure_of_the_server_does_not_end_the_waiting(kaggle, ask, run, kernels_run, tmp_path):
    shutil.rmtree(run)
    kaggle.failing = ['GetKernelSessionStatus', 'GetKernel']
    assert ask(*PUSH, '--follow').returncode == 0 and the_run(tmp_path) and kaggle.failing == []


@pytest.mark.parametrize('value', ['KGAT_abc\n', ' KGAT_abc', 'KGAT_ab…'])
def test_a_token_is_never_shown(kaggle, ask, value):
    message = error_of(ask('scores', KAGGLE_API_TOKEN=value))
    assert 'KAGGLE_API_TOKEN contains spaces, a line break or non-ASCII characters' in message and 'KGAT' not in message and kaggle.asked == []


ASKED = ['GetKernel', 'GetDatasetStatus', 'CreateDataset', 'ListDatasetFiles', 'SaveKernel', 'GetKernelSessionStatus', 'ListKernelSessionOutput', 'ListSubmissions', 'GetSubmissionLimits', 'StartSubmissionUpload', 'CreateSubmission']

def test_whatever_is_asked_too_often_is_waited_for(kaggle, ask, run, kernels_run, tmp_path):
    shutil.rmtree(run)
    kaggle.busy = list(ASKED)
    pushed = ask(*PUSH, '--follow')
    assert pushed.returncode == 0, pushed.stderr
    sent = ask('submit', the_run(tmp_path))
    assert sent.returncode == 0 and kaggle.busy == [] and (pushed.stdout + sent.stdout).count('answers with status 429: waiting for 1 seconds') >= len(ASKED) - 1 # one of them the client itself asks again
    assert len(versions(kaggle)) == len(kaggle.submissions) == 1


def test_a_wait_that_is_too_long_is_told(kaggle, ask, run):
    kaggle.busy, kaggle.retry_after = ['GetKernel'], '3600'
    assert 'asks to wait for 60 minutes' in error_of(ask(*PUSH))


def test_a_data_set_that_is_still_being_made(kaggle, ask, run):
    assert ask(*PUSH).returncode == 0
    for dataset in kaggle.datasets.values(): dataset['being made'] = 2
    kaggle.kernels.clear()
    assert ask(*PUSH).returncode == 0 and kaggle.asked.count('CreateDataset') == 2 and len(versions(kaggle)) == 1


@pytest.mark.parametrize('missing', CREDENTIALS)
def test_one_variable_of_two(kaggle, ask, missing):
    there, = set(CREDENTIALS) - {missing}
    for command in (('data',), RUN): assert f'{there} is set, but {missing} is not' in error_of(ask(*command, without=[missing]))
    assert kaggle.asked == []


def test_which_of_two_credentials_counted(kaggle, ask, tmp_path):
    (tmp_path/'home/.kaggle').mkdir()
    (tmp_path/'home/.kaggle/kaggle.json').write_text('{"username": "somebody", "key": "else"}')
    (tmp_path/'home/.kaggle/kaggle.json').chmod(0o600)
    result = ask('data')
    assert result.returncode == 0 and 'Signed in by KAGGLE_USERNAME and KAGGLE_KEY; found: KAGGLE_USERNAME and KAGGLE_KEY, ' in result.stdout


def no_kernelspec(metadata): del metadata['kernelspec']
def another_name(metadata): metadata['kernelspec']['name'] = 'conda-env-mine-py'
def no_language(metadata): del metadata['kernelspec']['language']


@pytest.mark.parametrize('change', [no_kernelspec, another_name, no_language])
def test_metadata_as_an_editor_leaves_them(tmp_path, monkeypatch, change):
    notebook = nbformat.read(PIPELINE, 4)
    change(notebook.metadata)
    (tmp_path/'other.ipynb').write_text(json.dumps(notebook), encoding='utf-8')
    for module in (kernel, push): monkeypatch.setattr(module, 'PIPELINE', tmp_path/'other.ipynb')
    assert json.loads(push.with_parameters({'model': 'linear'}))['metadata'] == {'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    execute({'model': 'linear', 'data': 'sample', 'epochs': 1}, tmp_path/'run')


def test_a_lost_tag(tmp_path, monkeypatch):
    notebook = nbformat.read(PIPELINE, 4)
    for cell in notebook.cells: cell.metadata.pop('tags', None)
    (tmp_path/'other.ipynb').write_text(json.dumps(notebook), encoding='utf-8')
    for module in (kernel, push): monkeypatch.setattr(module, 'PIPELINE', tmp_path/'other.ipynb')
    for use in (lambda: push.with_parameters({'model': 'linear'}), lambda: execute({'model': 'linear', 'data': 'sample'}, tmp_path/'run')):
        with pytest.raises(RunError, match='has no cells with the tag `parameters`'): use()
    with pytest.raises(ValueError, match='no cell with the tag `parameters`'): check_injected(['# Parameters\nepochs = 1'])


# Reports

def test_reports(ask, run):
    for command in (('report', run), ('report',)): assert ask(*command).returncode == 0
    assert '<details>' in (run/'report.html').read_text()
    for page in [(folder/'report.html').read_text() for folder in (run, run.parent)]:
        assert '<script' not in page and 'src="http' not in page and 'href="http' not in page and '@import' not in page
    assert f'<a href="{run.name}/report.html">' in page
    assert read_record(run)


def test_reports_of_nothing(ask, run):
    assert 'is not a complete run' in error_of(ask('report', 'nowhere'))
    assert 'empty contains no complete run' in error_of(ask('report', '--out', 'empty'))


def test_a_damaged_notebook_is_passed_over(ask, run):
    shutil.copytree(run, run.with_name('linear-damaged'))
    (run/'pipeline.ipynb').write_text('{}')
    assert 'The notebook is damaged' in error_of(ask('report', run))
    result = ask('report')
    assert result.returncode == 0 and f'Skipped: {Path("runs")/run.name}' in result.stdout and 'linear-damaged/report.html' in (run.parent/'report.html').read_text()
