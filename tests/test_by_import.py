"What people do by import: other forms of images, a learner used before it is trained, and fastai's own tools after."
import warnings
from dataclasses import replace

import fastai.callback.hook # `summary`
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner
from fastai.optimizer import Adam

from mnist_kaggle import (
    DataError, DigitData, RECIPES, check_submission, class_means, confusion_matrix, find_data, get_history, get_learner, get_logits, get_recipe,
    make_submission, nearest_mean, plot_history, predict, prediction_interval, read_data, show_digits, show_mistakes, split_rows, train)
from mnist_kaggle.data.loaders import DigitDataset
from mnist_kaggle.data.writing import say_once
from mnist_kaggle.models.baseline import below_baseline
from mnist_kaggle.results.submission import SubmissionError, check_origin, label_ids
from mnist_kaggle.runs import ensemble, listing, members, report, run
from mnist_kaggle.runs.server import warm_kernels
from mnist_kaggle.training.recipes import MODELS


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        return read_data('sample')


@pytest.fixture(scope='module')
def learn(sample, tmp_path_factory):
    "Trained."
    recipe = get_recipe('linear', epochs=3)
    learn = get_learner(recipe, sample, path=tmp_path_factory.mktemp('learner'))
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    return learn


# Images

FORMS = {
    'bytes': lambda images: (images, None), 'squares': lambda images: (images.reshape(-1, 28, 28), None), 'with a channel': lambda images: (images.reshape(-1, 1, 28, 28), None),
    'a tensor': lambda images: (torch.from_numpy(images), None), 'a tensor of squares': lambda images: (torch.from_numpy(images).view(-1, 28, 28), None),
    'floats to 1': lambda images: ((images / 255).astype(np.float32), 1), 'doubles to 1': lambda images: (images / 255, 1), 'floats to 255': lambda images: (images.astype(np.float32), 255),
    'a tensor of floats': lambda images: (torch.from_numpy(images).float() / 255, 1), 'columns first': lambda images: (np.asfortranarray(images), None), 'backwards': lambda images: (images[::-1].copy()[::-1], None)}

@pytest.mark.parametrize('form', FORMS)
def test_the_same_images_in_any_form_give_the_same_logits(learn, sample, form):
    images, scale = FORMS[form](sample.test_images)
    assert torch.equal(get_logits(learn.model, images, scale=scale), get_logits(learn.model, sample.test_images))
    assert (predict(learn.model, images, scale=scale) == predict(learn.model, sample.test_images)).all()


@pytest.mark.parametrize('shape', [(784,), (28, 28), (1, 28, 28), (1, 784), (1, 1, 28, 28)])
def test_one_image(learn, sample, shape):
    assert predict(learn.model, sample.test_images[0].reshape(shape)).tolist() == predict(learn.model, sample.test_images)[:1].tolist()


NO_IMAGES = {
    'floats to 1': (lambda images: images / 255, None, TypeError, 'scale=1'), 'a tensor of floats': (lambda images: torch.from_numpy(images).float(), None, TypeError, 'scale=255'),
    'half precision': (lambda images: torch.from_numpy(images).bfloat16(), None, TypeError, 'scale=1'), 'standardised': (lambda images: (images / 255 - 0.13) / 0.31, 1, ValueError, 'standardised'),
    'above the scale': (lambda images: images.astype(float), 1, ValueError, 'scale=1 is for'), 'NaN': (lambda images: np.full((2, 784), np.nan), 1, ValueError, 'nan'),
    'another scale': (lambda images: images / 255, 255, ValueError, 'add scale=1'), 'a scale of ours': (lambda images: images / 16, 16, TypeError, 'scale=1'),
    'bytes with a scale': (lambda images: images, 1, ValueError, 'leave scale=1 out'),
    'bool': (lambda images: images > 100, None, TypeError, 'bool'), 'whole numbers': (lambda images: images.astype(np.int64), None, TypeError, "astype('uint8')"), 'signed bytes': (lambda images: images.astype(np.int8), None, TypeError, 'int8'),
    'a list': (lambda images: images.tolist(), None, TypeError, 'list'), 'a frame': (lambda images: pd.DataFrame(images), None, TypeError, 'to_numpy'),
    'another size': (lambda images: images[:, :-1], None, ValueError, '[500, 783]'), 'channels last': (lambda images: images.reshape(-1, 28, 28, 1), None, ValueError, '[500, 28, 28, 1]'),
    'a number': (lambda images: 7, None, TypeError, 'int'), 'nothing': (lambda images: None, None, TypeError, 'NoneType')}

@pytest.mark.parametrize('form', NO_IMAGES)
def test_what_is_no_image_is_told(learn, sample, form):
    change, scale, error, words = NO_IMAGES[form]
    for use in (lambda images: get_logits(learn.model, images, scale=scale), lambda images: predict(learn.model, images, scale=scale),
                lambda images: DigitDataset(images, scale=scale), lambda images: show_digits(images, scale=scale),
                lambda images: nearest_mean(images, np.zeros((10, 784)), scale), lambda images: class_means(images, np.zeros(500, int), scale)):
        with pytest.raises(error) as told: use(change(sample.test_images))
        assert words in str(told.value)


def test_what_is_no_prediction_is_told(sample):
    for logits in (np.zeros((500, 10)), torch.zeros(500), torch.zeros(500, 9), torch.zeros(500, dtype=torch.int64)):
        with pytest.raises(SubmissionError, match="as from `get_logits`"): make_submission(logits, sample)
    for predicted in (np.zeros((1297, 10), int), np.full(1297, 10), np.zeros(5, int)):
        with pytest.raises(ValueError, match='predicted'): confusion_matrix(sample.labels, predicted)


def test_labels_go_by_their_position(sample):
    rows = np.random.default_rng(0).permutation(len(sample.labels))
    shuffled = pd.Series(sample.labels).iloc[rows]
    assert np.trace(confusion_matrix(shuffled, pd.Series(sample.labels[rows]))) == len(rows)
    expected = class_means(sample.images, sample.labels)
    for labels in (sample.labels.tolist(), torch.from_numpy(sample.labels), pd.Series(sample.labels), sample.labels.astype(np.uint8)):
        assert (class_means(sample.images, labels) == expected).all()
        assert confusion_matrix(labels, labels).to_numpy().trace() == len(rows)
    assert class_means(sample.images[rows], shuffled).round(6).tolist() == expected.round(6).tolist()


@pytest.mark.parametrize('change', [lambda labels: labels.astype(str), lambda labels: labels[:5], lambda labels: labels.astype(float), lambda labels: labels + 1, lambda labels: np.eye(10)[labels], lambda labels: labels[:, None]])
def test_what_is_no_label_is_told(learn, sample, change):
    labels = change(sample.labels)
    for use in (lambda: class_means(sample.images, labels), lambda: confusion_matrix(sample.labels, labels), lambda: DigitDataset(sample.images, labels),
                lambda: show_mistakes(get_logits(learn.model, sample.images), sample.images, labels), lambda: DigitData(sample.images, labels, sample.test_images, sample.ids, {})):
        with pytest.raises(ValueError, match='labels|predicted'): use()


def test_things_that_do_not_go_together(learn, sample):
    rows = split_rows(sample.labels)[1]
    logits, means = get_logits(learn.model, sample.images[rows]), class_means(sample.images, sample.labels)
    with pytest.raises(ValueError, match='1297 images for the logits of 260'): show_mistakes(logits, sample.images, sample.labels[rows])
    with pytest.raises(ValueError, match='different scales'): nearest_mean(sample.images / 255, means, scale=1)
    with pytest.raises(ValueError, match='different scales'): nearest_mean(sample.images, means / 255)
    for kind in (np.uint8, np.float16, np.float32): assert (nearest_mean(sample.images, means.round().astype(kind)) == sample.labels).mean() > 0.9
    for counts in ((0.98, 8400, 28000), (400, 360, 500), (-5, 360, 500), (1, 0, 500)):
        with pytest.raises(ValueError): prediction_interval(*counts)
    for ids in (np.arange(500), np.ones(500, int), np.arange(1, 501) + 0.5):
        with pytest.raises(SubmissionError, match='1 to 500'): label_ids(np.zeros(500, int), ids, sample.test_ids)
    with pytest.raises(TypeError, match='expected DigitData'): make_submission(get_logits(learn.model, sample.test_images), sample.ids)
    with pytest.raises(TypeError, match='learn.model'): predict(learn, sample.test_images)
    with pytest.raises(TypeError, match='expected a Recipe, not a str'): get_learner('linear', sample)
    with pytest.raises(SubmissionError, match='is a frame'): check_submission(sample.ids, sample)
    with pytest.raises(DataError, match='name the folder'): find_data(find_data('sample')/'train.csv')
    with torch.inference_mode(), pytest.raises(RuntimeError, match='inference_mode'): get_learner(get_recipe('linear'), sample)


@pytest.mark.parametrize('name, change', [('opt_func', lambda learn: setattr(learn, 'opt_func', Adam)), ('loss_func', lambda learn: setattr(learn, 'loss_func', torch.nn.CrossEntropyLoss())),
                                          ('dls.train', lambda learn: learn.dls.loaders.__setitem__(0, learn.dls.train.new(bs=16)))])
def test_a_learner_with_other_parts_is_not_the_recipes(sample, tmp_path, name, change):
    recipe = get_recipe('linear', epochs=1)
    learn = get_learner(recipe, sample, path=tmp_path)
    change(learn)
    with pytest.raises(ValueError, match=f"{name} is no longer the recipe's"): train(learn, recipe)


def test_numbers_of_numpy_are_numbers(): assert get_recipe('linear', lr=np.float64(0.5), seed=np.int64(0), epochs=np.int32(10)) == RECIPES['linear']


def test_no_history_before_training(sample, tmp_path):
    with pytest.raises(ValueError, match='train the learner first'): get_history(get_learner(get_recipe('linear'), sample, path=tmp_path))


# Training

def weights(learn): return torch.cat([value.detach().flatten().cpu() for value in learn.model.state_dict().values()])


MEANWHILE = {
    'lr_find': lambda learn: learn.lr_find(show_plot=False), 'a batch': lambda learn: learn.dls.one_batch(), 'the loader': lambda learn: list(learn.dls.train), 'threads': lambda learn: torch.set_num_threads(2),
    'a seed': lambda learn: torch.manual_seed(7), 'summary': lambda learn: learn.summary(), 'predictions': lambda learn: learn.get_preds(), 'validate': lambda learn: learn.validate(),
    'evaluation mode': lambda learn: learn.model.eval(), 'shown': lambda learn: learn.dls.show_batch(), 'numpy': lambda learn: np.random.seed(3)}

@pytest.mark.parametrize('name', MEANWHILE)
def test_what_is_done_before_training_changes_nothing(sample, tmp_path, name):
    recipe = get_recipe('two_layer', epochs=1)
    found = []
    for meanwhile in (lambda learn: None, MEANWHILE[name]):
        learn = get_learner(recipe, sample, path=tmp_path)
        with learn.no_bar(), learn.no_logging():
            meanwhile(learn)
            train(learn, recipe)
        found.append(weights(learn))
    assert torch.equal(*found) and torch.get_num_threads() == recipe.threads and len(get_history(learn)) == 1


def test_the_callers_random_numbers_go_on(sample, tmp_path):
    recipe = get_recipe('linear', epochs=1)
    learn = get_learner(recipe, sample, path=tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    assert torch.equal(torch.rand(3), expected)


def test_another_recipe_than_the_learners(sample, tmp_path):
    recipe = get_recipe('linear', epochs=1)
    learn = get_learner(recipe, sample, path=tmp_path)
    with pytest.raises(ValueError, match=r'epochs=1 instead of 2, seed=0 instead of 3'): train(learn, replace(recipe, epochs=2, seed=3))
    with pytest.raises(ValueError, match='arch'): train(learn, get_recipe('conv'))
    assert torch.equal(weights(learn), weights(get_learner(recipe, sample, path=tmp_path)))


# What works on a fastai learner

def interpretation(learn): return ClassificationInterpretation.from_learner(learn)


TOOLS = {
    'get_preds': lambda learn, image: learn.get_preds(with_loss=True, with_decoded=True), 'validate': lambda learn, image: learn.validate(), 'predict': lambda learn, image: learn.predict(image),
    'show_results': lambda learn, image: learn.show_results(), 'tta': lambda learn, image: learn.tta(), 'interpretation': lambda learn, image: interpretation(learn).confusion_matrix(),
    'top_losses': lambda learn, image: interpretation(learn).top_losses(3), 'most_confused': lambda learn, image: interpretation(learn).most_confused(), 'confusion': lambda learn, image: interpretation(learn).plot_confusion_matrix(),
    'report': lambda learn, image: interpretation(learn).print_classification_report(), 'test_dl': lambda learn, image: learn.get_preds(dl=learn.dls.test_dl(image)), 'show_batch': lambda learn, image: learn.dls.show_batch(),
    'summary': lambda learn, image: learn.summary(), 'save and load': lambda learn, image: learn.load(learn.save('kept').stem), 'plot_loss': lambda learn, image: learn.recorder.plot_loss()}

@pytest.mark.parametrize('tool', TOOLS)
def test_fastais_tools_after_training(learn, sample, tool):
    before, history = weights(learn), get_history(learn)
    with learn.no_bar(), warnings.catch_warnings():
        warnings.simplefilter('ignore') # sklearn's and matplotlib's
        TOOLS[tool](learn, sample.test_images[0])
    assert torch.equal(weights(learn), before) and get_history(learn).equals(history) and len(plot_history(learn).axes) == 3


def test_what_fastai_says_is_what_we_say(learn, sample):
    digit, _, probabilities = learn.predict(sample.test_images[3])
    logits = get_logits(learn.model, sample.test_images[3])
    assert int(digit) == predict(learn.model, sample.test_images[3])[0] and torch.allclose(probabilities, logits.softmax(1)[0], atol=1e-5)
    rows = split_rows(sample.labels)[1]
    assert (interpretation(learn).confusion_matrix() == confusion_matrix(sample.labels[rows], predict(learn.model, sample.images[rows])).to_numpy()).all()


def test_an_exported_learner(sample, tmp_path):
    recipe = get_recipe('two_layer', epochs=1)
    learn = get_learner(recipe, sample, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    learn.export()
    assert (tmp_path/'export.pkl').stat().st_size < 1_000_000 # without the images
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = load_learner(tmp_path/'export.pkl')
    with again.no_bar(): assert int(again.predict(sample.test_images[0])[0]) == predict(learn.model, sample.test_images[0])[0]


# The baseline

def test_a_class_without_training_rows(sample):
    few = sample.labels != 4
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        predicted = nearest_mean(sample.images, class_means(sample.images[few], sample.labels[few]))
    assert 4 not in predicted and (predicted == sample.labels)[few].mean() > 0.9


def test_a_net_below_the_baseline_is_said_to_be():
    assert below_baseline(0.59, 0.93).startswith('***') and below_baseline(0.93, 0.93) and not below_baseline(0.94, 0.93) and not below_baseline(None, 0.93)


@pytest.mark.parametrize('model', MODELS)
def test_every_model_beats_the_baseline_on_the_sample(sample, tmp_path, model):
    training, validation = split_rows(sample.labels)
    recipe = get_recipe(model, len(training))
    learn = get_learner(recipe, sample, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): train(learn, recipe)
    accuracy = (predict(learn.model, sample.images[validation]) == sample.labels[validation]).mean()
    baseline = nearest_mean(sample.images[validation], class_means(sample.images[training], sample.labels[training]))
    assert accuracy > (baseline == sample.labels[validation]).mean() and accuracy >= 0.95


def test_few_rows_are_said_and_given_values_count(capsys):
    say_once.cache_clear()
    recipe = get_recipe('conv', 1037)
    assert (recipe.batch_size, recipe.lr) == (32, 0.05) and 'batch_size is 32 instead of 256' in capsys.readouterr().out
    assert get_recipe('conv', 33_600) == RECIPES['conv'] == get_recipe('conv')
    assert get_recipe('conv', 1037, batch_size=128).lr == RECIPES['conv'].lr and get_recipe('conv', 1037, lr=0.1).batch_size == 256
    assert get_recipe('conv', 10).batch_size == 32


# Paths

def test_a_path_may_be_text(sample, learn, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_data('small').labels.tolist() == read_data(str(small)).labels.tolist() == read_data(small).labels.tolist() == read_data(find_data('small')).labels.tolist()
    assert (read_data('sample').labels == sample.labels).all()
    check_origin(make_submission(get_logits(learn.model, sample.test_images), sample), learn.model, 'sample', sample)
    warm_kernels()
    for seed in (0, 1): run.run_once({'model': 'linear', 'data': str(small), 'epochs': 1, 'device': 'cpu', 'seed': seed}, f'runs/linear-{seed}')
    assert len(listing.find_runs('runs')) == 2 and listing.read_note('runs/linear-0') is None and len(members.read_members(['runs/linear-0', 'runs/linear-1'])) == 2
    folder, _ = ensemble.make_ensemble(members.find_members(['runs/linear-0', 'runs/linear-1']), 'runs', 'small')
    assert (folder/'submission.csv').exists() and report.run_report('runs/linear-0').exists() and report.all_runs_report('runs').exists()
