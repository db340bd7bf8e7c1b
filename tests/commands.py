"""A server for commands: one process that has its imports behind it, and is forked for each command that a test runs.

Each line of JSON on its stdin is a command: its arguments, environment, folder, and the files for what it writes. It answers with the exit status.
What a test says of a process, its signals, its children or what it imports, is tested with a process of its own: the fixture `process`."""
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

QUICK = Path(__file__).with_name('quick')


class CommandServer:
    "The server, seen from the tests."
    def __init__(self, folder):
        self.output = [folder/name for name in ('stdout', 'stderr')]
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, arguments, environment, folder):
        "What `subprocess.run` gives for `mnist_kaggle` with these arguments."
        request = {'arguments': list(map(str, arguments)), 'environment': environment, 'folder': str(folder), 'output': list(map(str, self.output))}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        status = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(path.read_text(encoding='utf-8') for path in self.output))

    def stop(self): self.process.communicate()


def become_command(arguments, environment, folder, output):
    "In a process that was forked: run the command as the console script does; its exit status."
    from mnist_kaggle.cli import runs
    from mnist_kaggle.runs import server
    for number, path in enumerate(output, start=1): os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None # which TMPDIR says anew
    if environment.get('PYTHONPATH') == str(QUICK):
        runpy.run_path(str(QUICK/'sitecustomize.py'))
        server.SERVERS.clear() # its kernels have not run that
        runs.warm_kernels = server.warm_kernels
    sys.argv = ['mnist_kaggle', *arguments]
    from mnist_kaggle.cli.main import run_command as main
    try: main()
    except SystemExit as end: return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def serve():
    "Import, then fork for each command."
    from mnist_kaggle.runs import server
    server.warm_kernels()
    server.import_papermill() # first: what others import of it would take longer
    from mnist_kaggle.cli import kaggle, main, notebooks, runs, sweeps
    from mnist_kaggle.kaggle import follow, push, submit
    from mnist_kaggle.results import submission
    from mnist_kaggle.runs import ensemble, report, verify
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try: status = become_command(**json.loads(line))
            except BaseException: # whatever a command may raise is told, as Python does
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == '__main__': serve()
