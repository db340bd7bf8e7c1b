"get_learner with parts of one's own, and fastai's own tools on what it gives back."
import csv
import random

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.mixup import MixUp
from fastai.callback.progress import CSVLogger
from fastai.learner import load_learner
from fastai.losses import LabelSmoothingCrossEntropy
from fastai.metrics import Precision, error_rate
from fastai.optimizer import Adam, RMSProp
from torch import nn

from mnist_kaggle import get_history, get_learner, get_recipe, plot_history, read_data, train
from mnist_kaggle.training.checklist import CHECKS
from mnist_kaggle.training.checks import NotFreshError, ShapeError
from mnist_kaggle.training.net import NetError, make_net

RECIPE = get_recipe('linear', epochs=2, lr=0.01)


@pytest.fixture(scope='module')
def sample(): return read_data('sample')


def small_net(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))


@pytest.fixture
def fit(sample, tmp_path):
    "A learner with some parts, trained."
    def run(recipe=RECIPE, schedule=None, **parts):
        learn = get_learner(recipe, sample, path=tmp_path, **parts)
        with learn.no_bar(): train(learn, recipe, schedule)
        return learn
    return run


@pytest.mark.parametrize('parts, words', [
    (dict(net=small_net), {'net': 'Sequential, 12,730 weights'}), (dict(opt_func=RMSProp), {'opt_func': 'RMSProp'}), (dict(loss_func=LabelSmoothingCrossEntropy()), {'loss_func': 'LabelSmoothingCrossEntropy'}),
    (dict(cbs=MixUp()), {'cbs': ['MixUp']}), (dict(metrics=[error_rate, Precision(average='macro')]), {'metrics': ['error_rate', 'AccumMetric']}), (dict(augment=lambda xb: xb.flip(-1)), None)])
def test_each_part(fit, parts, words):
    learn = fit(**parts)
    assert words is None or learn.given == words
    assert learn.checks >= set(CHECKS) - {'weights'} and len(get_history(learn)) == 2 and plot_history(learn)


@pytest.mark.parametrize('change', [dict(standardise=True), dict(precision='bfloat16'), dict(augment='affine'), dict(label_smoothing=0.1), dict(optimiser='sgd', schedule='flat')])
def test_a_net_of_ones_own_with_the_recipes_other_fields(fit, change):
    recipe = get_recipe('linear', epochs=1, **change)
    assert fit(recipe, net=small_net).weights_after == fit(recipe, net=small_net).weights_after
    assert make_net(recipe, small_net)(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_label_smoothing_is_that_of_the_loss(sample, tmp_path):
    learn = get_learner(get_recipe('linear', label_smoothing=0.2), sample, path=tmp_path)
    logits, labels = torch.randn(8, 10), torch.arange(8)
    assert torch.equal(learn.loss_func(logits, labels), torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2))


def test_batches_of_any_size_are_halved_to_32_at_least():
    assert get_recipe('conv_quick', 1_037).batch_size == 32 and get_recipe('conv_quick', 2_000).batch_size == 48


def test_a_schedule(fit):
    learn = fit(schedule=lambda learn, epochs, lr: learn.fit_flat_cos(epochs, lr))
    assert list(learn.given) == ['schedule'] and learn.history.lrs[0] == pytest.approx(0.01)


class Draws(Callback):
    "What draws from every generator, and lets the weights depend on it."
    def before_batch(self):
        if self.training: self.learn.xb = (self.xb[0] * (random.random() + np.random.rand() + torch.rand(1)),)


def test_whatever_draws_repeats_and_the_callers_draws_go_on(fit, sample, tmp_path):
    def draw(): return random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected, first = draw(), fit(net=small_net, cbs=[Draws(), MixUp()]).weights_after
    learn = get_learner(RECIPE, sample, path=tmp_path, net=small_net, cbs=[Draws(), MixUp()])
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    with learn.no_bar(): train(learn, RECIPE)
    assert learn.weights_after == first and draw() == expected
    assert fit(get_recipe('linear', epochs=2, lr=0.01, seed=1), net=small_net, cbs=[Draws(), MixUp()]).weights_after != first


def test_a_net_that_is_handed_in_is_not_known_to_be_fresh(fit, sample, tmp_path):
    net = small_net()
    learn = fit(net=net)
    assert set(CHECKS) - learn.checks == {'fresh', 'weights'}
    with pytest.raises(NotFreshError, match='trained since it was passed to'), learn.no_bar(): train(learn, RECIPE)


def test_another_net_in_a_learners_place(sample, tmp_path):
    learn = get_learner(RECIPE, sample, path=tmp_path, net=small_net)
    learn.model = small_net()
    with pytest.raises(NotFreshError): train(learn, RECIPE)


@pytest.mark.parametrize('net, words', [
    (lambda: nn.Linear(784, 10), r'does not take images of shape \[2, 1, 28, 28\]'), (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), r'outputs \[2, 3\]'),
    (lambda: nn.LSTM, 'returns the class LSTM'), (lambda: None, 'returns an object of type NoneType'), (lambda: nn.Sequential(nn.Flatten(1), nn.LSTM(784, 10)), 'outputs tuple')])
def test_nets_that_do_not_fit(sample, net, words):
    with pytest.raises(NetError, match=words): get_learner(RECIPE, sample, net=net)


def test_a_loss_that_broadcasts_is_found_behind_mixup(fit):
    def broadcasting(preds, yb, reduction='mean'): return ((preds.mean(1)[:, None] - yb)**2).mean()
    broadcasting.y_int, broadcasting.reduction = True, 'mean'
    with pytest.raises(ShapeError): fit(loss_func=broadcasting, cbs=MixUp())


# fastai's own tools

def test_csv_logger_lr_find_add_cb_and_export(fit, sample, tmp_path):
    learn = get_learner(RECIPE, sample, path=tmp_path, net=small_net, opt_func=Adam, cbs=CSVLogger())
    with learn.no_bar(): learn.lr_find(show_plot=False)
    learn.add_cb(Draws())
    with learn.no_bar(): train(learn, RECIPE)
    rows = list(csv.DictReader(open(tmp_path/'history.csv')))
    assert [row['epoch'] for row in rows] == ['0', '1'] and float(rows[1]['accuracy']) == pytest.approx(get_history(learn).accuracy[1])
    learn.remove_cbs([learn.draws, learn.csv_logger]) # whose closed file nothing can pickle
    learn.export('learner.pkl')
    again = load_learner(tmp_path/'learner.pkl')
    assert all(torch.equal(p, q) for p, q in zip(again.model.parameters(), learn.model.parameters())) and again.given == learn.given


def test_tensorboard(fit, sample, tmp_path):
    from fastai.callback.tensorboard import TensorBoardCallback
    learn = fit(net=small_net, cbs=TensorBoardCallback(tmp_path/'log', trace_model=False, log_preds=False))
    assert any((tmp_path/'log').iterdir()) and learn.given['cbs'] == ['TensorBoardCallback']
