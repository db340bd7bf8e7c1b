import pytest

from mnist_kaggle.training.device import cuda_problem


def pytest_addoption(parser): parser.addoption('--device', default='cuda', help="'cpu' tries these tests without a card; those of CUDA alone are skipped")


@pytest.fixture(scope='session')
def device(request):
    "Where the tests compute."
    name = request.config.getoption('--device')
    if name == 'cuda' and (problem := cuda_problem()): pytest.skip(f'there is no GPU to test on: {problem}')
    return name


@pytest.fixture(scope='session')
def card(device):
    "For what CUDA alone has."
    if device != 'cuda': pytest.skip('only a card can do this')
