"How JupyterLab's server starts a kernel in these tests: forked, as a sweep's kernels are, from a process that has loaded torch."
import os
from uuid import uuid4

from jupyter_server.services.kernels.kernelmanager import ServerKernelManager

from mnist_kaggle.runs.kernel import ForkedProvisioner
from mnist_kaggle.runs.server import KernelServer
from mnist_kaggle.training.numerics import numeric_environment

SERVER = KernelServer()


class ForkedKernelManager(ServerKernelManager):
    async def start_kernel(self, **options):
        self.transport, self.ip = 'ipc', f'@{uuid4()}' # no port that another process could take
        self.provisioner = ForkedProvisioner(SERVER, kernel_id=str(uuid4()), kernel_spec=self.kernel_spec, parent=self)
        environment = numeric_environment(options.pop('env', os.environ), 'portable')
        return await super().start_kernel(env=environment, **options)
