"""Kernels for JupyterLab that have their imports behind them: forked from one server, as the runs of a sweep are. Found by Jupyter as what an installed
package offers, wherever this folder is on the path."""
from mnist_kaggle.runs.server import ForkedProvisioner, KernelServer

SERVER = KernelServer()


class Forked(ForkedProvisioner):
    def __init__(self, **kwargs): super().__init__(SERVER, **kwargs)
