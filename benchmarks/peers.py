"""Others' nets and models on the same rows, each written anew from its description, and ours beside them: accuracy against training seconds."""
import time
import warnings
from collections import namedtuple

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from torch import nn

Peer = namedtuple('Peer', 'name source seconds fit')  # `fit` trains on (images, labels, seed), in about so many seconds, and gives what predicts


def scikit_learn(model):
    "A model of scikit-learn on pixels from 0 to 1."
    def fit(images, labels, seed):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ConvergenceWarning)  # at its default number of iterations, which is what is compared
            fitted = model(seed).fit(images.astype('float32') / 255, labels)
        return lambda images: fitted.predict(images.astype('float32') / 255)
    return fit


def standardised(images): return ((torch.from_numpy(images).float() / 255 - 0.1307) / 0.3081).view(-1, 1, 28, 28)


def fit_epoch(net, optimiser, images, labels, size, after_step=lambda: None):
    "One epoch over batches of standardised images, in an order drawn anew."
    for rows in torch.randperm(len(images)).split(size):
        optimiser.zero_grad()
        F.cross_entropy(net(standardised(images[rows])), torch.from_numpy(labels[rows])).backward()
        optimiser.step()
        after_step()


def predictor(net):
    def predict(images):
        net.eval()
        with torch.no_grad(): return torch.cat([net(standardised(images[i:i + 1000])).argmax(1) for i in range(0, len(images), 1000)]).numpy()
    return predict


PYTORCH_EPOCHS = 2  # of its 14, for time


def pytorch_example(images, labels, seed):
    "Two convolutions, pooling, dropout, two linear layers; Adadelta with a rate of 1 that falls to 0.7 of it each epoch, batches of 64, standardised pixels. Its default is 14 epochs; `PYTORCH_EPOCHS` are made here."
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
                        nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    optimiser = torch.optim.Adadelta(net.parameters(), lr=1.)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.7)
    for _ in range(PYTORCH_EPOCHS):
        fit_epoch(net, optimiser, images, labels, 64)
        schedule.step()
    return predictor(net)


def train_mnist_fast(images, labels, seed):
    "Two convolutions with pooling, two linear layers; Adam of betas 0.7 and 0.9, one cycle of the rate up to 0.01, batches of 256 in an order drawn once, one epoch, standardised pixels."
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
                        nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=-(-len(images) // 256), cycle_momentum=False)
    fit_epoch(net, optimiser, images, labels, 256, after_step=schedule.step)
    return predictor(net)


PEERS = [
    Peer('LogisticRegression', 'scikit-learn', 6, scikit_learn(lambda seed: LogisticRegression())),
    Peer('MLPClassifier((30,))', 'scikit-learn', 30, scikit_learn(lambda seed: MLPClassifier((30,), random_state=seed))),
    Peer('SVC(C=5)', 'scikit-learn', 90, scikit_learn(lambda seed: SVC(C=5))),
    Peer(f'PyTorch\'s MNIST example, {PYTORCH_EPOCHS} of its 14 epochs', 'github.com/pytorch/examples, mnist/main.py', 130, pytorch_example),
    Peer('the net of the 0.76-second notebooks', 'github.com/tuomaso/train_mnist_fast, 8_Final_00s76.ipynb', 13, train_mnist_fast)]


def trial(peer, data, train_rows, valid_rows, seed):
    "Validation accuracy, and seconds of training."
    start = time.perf_counter()
    predict = peer.fit(data.images[train_rows], data.labels[train_rows], seed)
    seconds = time.perf_counter() - start
    return (predict(data.images[valid_rows]) == data.labels[valid_rows]).mean(), seconds
