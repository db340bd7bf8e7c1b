# make run    set up, then train all three models on the best data there is
# make test   set up with the tools, then every notebook on the built-in sample, and pytest
# make tools  set up with the tools: nbdev, JupyterLab, what tests need
# make test-whole    set up, then the tests that take long: a notebook of one's own through every command, a cluster and Kaggle; odd machines
# make test-faults   set up, then kill, starve and damage runs, and write the results to docs/faults.md
# make test-portable  set up, then compare the bytes with those of other processors, under valgrind and qemu
# make test-kaggle   set up Kaggle's versions too, then run every notebook as Kaggle does
# make test-gpu       where there is a CUDA GPU, on its own Python with torch: what is promised of a GPU; make bench-gpu measures it
# make test-browser  set up, then run the lessons, the pipeline and whatever else shows a picture by hand in a browser
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --system-certs
READY := .venv/.ready
TOOLS := .venv/.tools
KAGGLE_READY := .venv-kaggle/.ready
GPU_PYTHON ?= python3
GPU_READY := .venv-gpu/.ready
DEVICE ?= cuda
NOTEBOOKS := $(sort $(wildcard nbs/*.ipynb))
# Where Python may not keep the bytecode of what it imports, each process compiles torch and fastai anew: 7 s on two cores.
unexport PYTHONDONTWRITEBYTECODE
OTHERS := --ignore=tests/faults --ignore=tests/on_kaggle --ignore=tests/browser --ignore=tests/portable --ignore=tests/on_gpu

.PHONY: run tools test test-whole test-hostile test-faults test-portable test-kaggle test-browser gpu-wheels test-gpu bench-gpu audit export check readme notebooks records kannada bench bench-quick lock

run: $(READY)
	$(BIN)/mnist_kaggle run --model all

tools: $(TOOLS)

test: $(TOOLS)
	MNIST_KAGGLE_DATA=sample $(BIN)/nbdev-test --n-workers 3 --skip-file-re '^pipeline'
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m 'not whole' tests $(OTHERS)

test-whole: $(TOOLS)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m whole tests $(OTHERS)

# A group of the tests in an environment that is against them.
test-hostile: $(TOOLS)
	mkdir -p "$${TMPDIR:-/tmp}/a place"
	TMPDIR="$${TMPDIR:-/tmp}/a place" MNIST_KAGGLE_DATA=nowhere KAGGLE_USERNAME=nobody KAGGLE_KEY=none KAGGLE_KERNEL_RUN_TYPE=Batch OMP_NUM_THREADS=4 LC_ALL=C \
	  $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/test_finding_data.py tests/test_ensemble.py tests/test_kaggle.py::test_there_and_back

test-faults: $(TOOLS)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/faults --table=docs/faults.md

# Two processes at a time, and the tests when they are done.
test-portable: $(TOOLS)
	$(BIN)/python -m pytest -q tests/portable

test-kaggle: $(TOOLS) $(KAGGLE_READY)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal tests/on_kaggle

test-browser: $(TOOLS)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal tests/browser

# What a machine with a GPU needs beside its own torch, as a folder of wheels to take along: 27 MB for Python 3.12 on x86-64.
gpu-wheels: $(TOOLS)
	rm -rf wheels
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --python-version 3.12 --implementation cp \
	  $(foreach glibc,2_28 2_27 2_26 2_24 2_17 2_12 2_5,--platform manylinux_$(glibc)_x86_64) --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
	  --dest wheels -r tests/on_gpu/requirements.lock

# From the wheels, without a network; GPU_PYTHON is the Python that has torch, and stays as it is. DEVICE=cpu tries both without a card.
test-gpu: $(GPU_READY)
	.venv-gpu/bin/python -m pytest -q tests/on_gpu --device $(DEVICE)

bench-gpu: $(GPU_READY)
	.venv-gpu/bin/python benchmarks/gpu.py $(DEVICE)

$(GPU_READY): tests/on_gpu/requirements.lock
	$(GPU_PYTHON) -m venv --without-pip .venv-gpu
	$(GPU_PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo .venv-gpu/lib/python3*/site-packages)/beside.pth
	$(GPU_PYTHON) -m pip --python .venv-gpu/bin/python install --quiet --no-index --find-links wheels --no-deps --require-hashes -r tests/on_gpu/requirements.lock
	$(GPU_PYTHON) -m pip --python .venv-gpu/bin/python install --quiet --no-index --no-deps --no-build-isolation -e .
	touch $@

# Known weaknesses of the pinned packages. Fails, too, where the database can't be reached: not asked is not audited.
audit: $(TOOLS)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements-test.lock

$(READY): requirements.lock settings.ini setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12, say")'
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/# via/p' requirements.lock > .venv/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.lock
	$(INSTALL) --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# What running needs, and what testing adds to it.
$(TOOLS): $(READY) requirements-test.lock
	$(INSTALL) --python $(BIN)/python --require-hashes -r requirements-test.lock
	touch $@

$(KAGGLE_READY): tests/on_kaggle/requirements.lock | $(TOOLS)
	$(PYTHON) -m venv .venv-kaggle
	$(INSTALL) --python .venv-kaggle/bin/python --require-hashes -r tests/on_kaggle/requirements.lock
	touch $@

# From the notebooks: the modules, clean notebooks, README.md and docs/notebooks.md.
export: $(TOOLS)
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean
	$(MAKE) readme

readme: $(TOOLS)
	rm -rf docs/pictures
	$(BIN)/jupyter nbconvert --log-level WARN --to markdown nbs/index.ipynb --output-dir . --output README --NbConvertApp.output_files_dir=docs/pictures \
	  --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_input_tags no-input
	$(BIN)/python docs/notebooks.py

# Fails where an export, a clean or a build of README.md would change anything, or a notebook is past the bounds of its form.
check: export
	git diff --exit-code
	test -z "$$(git status --porcelain)"
	$(BIN)/python tests/measure_notebooks.py

# Execute the notebooks in place, so that their outputs are current; this wants the competition's data.
notebooks: $(TOOLS)
	$(BIN)/python -c 'from mnist_kaggle import find_data, read_data; import sys; sys.exit(len(read_data(find_data()).labels) != 42_000 and "Name the competition data in MNIST_KAGGLE_DATA.")'
	for notebook in $(NOTEBOOKS); do \
	  echo $$notebook; $(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace $$notebook || exit 1; \
	done
	rm -f nbs/*.csv nbs/*.json nbs/*.safetensors
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --inplace $(NOTEBOOKS) \
	  --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_all_outputs_tags no-output
	$(MAKE) export

# The accuracies of the recipes and of the steps to them, by sweeps: an hour and a half on two cores; what was stopped goes on.
records: $(TOOLS)
	$(BIN)/python benchmarks/records.py

# The accuracies of recipes on Kannada MNIST, whose zip DATA names: three minutes on two cores.
kannada: $(TOOLS)
	$(BIN)/python benchmarks/kannada.py $(DATA)

# About 35 minutes on two cores, which should have nothing else to do; bench-quick does each short thing once, and writes nothing.
bench: $(TOOLS)
	$(BIN)/python benchmarks/bench.py

bench-quick: $(TOOLS)
	$(BIN)/python benchmarks/bench.py --quick

# Choose the newest versions that settings.ini allows, and pin them; so too beside Kaggle's own.
lock: $(TOOLS)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --extra run -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --extra run --extra test -c requirements.lock -o requirements-test.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes -o tests/on_kaggle/requirements.lock tests/on_kaggle/requirements.in
	$(BIN)/uv pip compile --quiet --upgrade --no-deps --python-version 3.12 --python-platform x86_64-manylinux_2_28 --generate-hashes -c requirements-test.lock -o tests/on_gpu/requirements.lock tests/on_gpu/requirements.in
