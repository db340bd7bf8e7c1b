"""Seconds of training to .990 with all the work on the card: python benchmarks/captured.py DATA DEVICE SEEDS

Images, row order and learning rates lie on the device, and on CUDA each step is one replay of a captured graph, without a copy or a synchronisation.
It trains conv_quick's net by conv_quick's recipe. Prints, as JSON, for each seed the accuracy, the seconds of training and those with the capture."""
import json
import sys
import time

import torch
import torch.nn.functional as F
from fastai.callback.schedule import SchedCos, SchedLin, combine_scheds

from mnist_kaggle import get_learner, get_recipe, read_data
from mnist_kaggle.data.loaders import next_orders, to_float
from mnist_kaggle.training.muon import orthogonalise

WARM_UP = 3  # steps before the capture; they count as training
MOMENTUM, SQR_MOMENTUM, EPS = 0.9, 0.99, 1e-8  # as in `Muon`


class CapturedTraining:
    "The steps of a training by Muon with the `cosine` schedule. Everything that changes from step to step is a tensor on the device."
    def __init__(self, net, images, labels, orders, recipe):
        self.net, self.images, self.labels, self.recipe = net, images, labels, recipe
        device, size = images.device, recipe.batch_size
        self.order = torch.cat([torch.tensor(order[:len(order) // size * size], device=device) for order in orders]).view(-1, size)
        rate = combine_scheds([0.2, 0.8], [SchedLin(recipe.lr/25, recipe.lr), SchedCos(recipe.lr, 0)])
        self.rates = torch.tensor([rate(i / len(self.order)) for i in range(len(self.order))], device=device)
        self.count = torch.zeros(1, dtype=torch.int64, device=device)
        self.params = [p for p in net.parameters() if p.requires_grad]
        weights = [i for i, p in enumerate(self.params) if p.ndim > 1]
        self.hidden = set(weights[1:-1])
        self.averages = [torch.zeros_like(p) for p in self.params]
        self.squares = [torch.zeros_like(p) for p in self.params]

    def gradients(self):
        rows = self.order[self.count][0]
        logits = self.net(to_float(self.images[rows]))
        loss = F.cross_entropy(logits, self.labels[rows], label_smoothing=self.recipe.label_smoothing)
        return torch.autograd.grad(loss, self.params)

    def muon(self, p, grad, average, lr):
        average.mul_(MOMENTUM).add_(grad)
        step = orthogonalise((grad + MOMENTUM*average).flatten(1))
        p.sub_(lr * max(1, len(step) / step.shape[1])**0.5 * step.view(p.shape))

    def adam(self, p, grad, average, square, lr):
        average.mul_(MOMENTUM).add_(grad, alpha=1 - MOMENTUM)
        square.mul_(SQR_MOMENTUM).addcmul_(grad, grad, value=1 - SQR_MOMENTUM)
        n = (self.count + 1).float()
        root = (square / (1 - SQR_MOMENTUM**n) + EPS**2).rsqrt()
        p.sub_(lr/5 / (1 - MOMENTUM**n) * average * root)

    def step(self):
        grads, lr = self.gradients(), self.rates[self.count]
        with torch.no_grad():
            for i, (p, grad) in enumerate(zip(self.params, grads)):
                if i in self.hidden: self.muon(p, grad, self.averages[i], lr)
                else: self.adam(p, grad, self.averages[i], self.squares[i], lr)
            self.count += 1

    def capture(self):
        "The first steps, and what makes one more: on CUDA the replay of a graph."
        if self.images.device.type != 'cuda': return self.step
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP): self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph): self.step()
        return graph.replay

    def train(self):
        "Seconds of all steps but those of the capture, and with them."
        start = clock(self.images.device)
        step = self.capture()
        captured = clock(self.images.device)
        for _ in range(len(self.order) - self.count.item()): step()
        end = clock(self.images.device)
        return end - captured, end - start


def clock(device):
    "The time when the device has done its work."
    if device.type == 'cuda': torch.cuda.synchronize()
    return time.perf_counter()


def captured_training(data, recipe):
    "A training from where the library's own starts: the same net, the same order of the rows."
    learn = get_learner(recipe, data)
    dataset = learn.dls.train.dataset
    return CapturedTraining(learn.model, dataset.images, dataset.labels, next_orders(learn.dls.train, recipe.epochs), recipe), learn.dls.valid


def accuracy_of(net, valid):
    net.eval()
    with torch.no_grad(): return (net(to_float(valid.dataset.images)).argmax(1) == valid.dataset.labels).float().mean().item()


def main(folder, device, seeds):
    data, results = read_data(folder), []
    for seed in range(int(seeds)):
        training, valid = captured_training(data, get_recipe('conv_quick', device=device, seed=seed))
        seconds, with_capture = training.train()
        results.append({'seed': seed, 'accuracy': accuracy_of(training.net, valid), 'seconds': seconds, 'seconds with the capture': with_capture})
    print(json.dumps(results))


if __name__ == '__main__': main(*sys.argv[1:])
