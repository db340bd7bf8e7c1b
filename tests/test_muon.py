"The optimiser for the weights between the first and the last, where a notebook would bore."
import pytest
import torch
from fastai.optimizer import Adam

from mnist_kaggle.models.conv import conv_net
from mnist_kaggle.models.two_layer import two_layer_net
from mnist_kaggle.training.muon import Muon, orthogonalise


@pytest.mark.parametrize('net', [two_layer_net(), torch.nn.Linear(3, 2), torch.nn.BatchNorm2d(3)])
def test_a_net_with_nothing_between_is_refused(net):
    with pytest.raises(ValueError, match='params hold'): Muon(net.parameters(), lr=0.05)


def step(opt_func, lr):
    "By how much each parameter of a net moves in a first step."
    torch.manual_seed(0)
    net = conv_net(norm=True)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    opt = opt_func(net.parameters(), lr=lr)
    net(torch.rand(16, 1, 28, 28)).logsumexp(1).sum().backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    opt.step()
    return {name: p.detach() - before[name] for name, p in net.named_parameters()}, gradients


def test_the_first_and_the_last_weights_and_all_vectors_move_as_with_adam():
    ours, gradients = step(Muon, 0.05)
    adams, _ = step(lambda params, lr: Adam(list(params), lr=lr, sqr_mom=0.99, eps=1e-8, wd=0.), 0.01)
    hidden = {'1.0.weight', '2.0.weight', '3.0.weight'}
    for name in ours:
        large = gradients[name].abs() > 1e-5  # fastai's has eps beside the root, and ours in it, which a gradient of that size shows
        assert large.any() and torch.allclose(ours[name][large], adams[name][large], rtol=2e-3, atol=1e-6) == (name not in hidden), name
        if name not in hidden: assert torch.allclose(ours[name], -0.01 * gradients[name] * (gradients[name]**2 + 1e-16).rsqrt(), atol=1e-6), name


def test_the_weights_between_move_along_the_orthogonal_form_of_their_gradient():
    moved, gradients = step(Muon, 0.05)
    for name, rows in {'1.0.weight': 16, '2.0.weight': 32, '3.0.weight': 64}.items():
        gradient = gradients[name].flatten(1)
        expected = -0.05 * max(1, rows / gradient.shape[1])**0.5 * orthogonalise(1.9 * gradient) # the momentum of a first step, and the look ahead
        assert torch.allclose(moved[name].flatten(1), expected, atol=1e-5)
