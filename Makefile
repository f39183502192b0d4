# Every target sets itself up in .venv: nothing but Python >= 3.10, make and the package registry is needed before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all test-oldest-timm lint format bench reference-corruptions constraints clean
.DEFAULT_GOAL := demo

# The constraints fix every version, so that two fresh machines get the same set.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "selplug needs Python >= 3.10; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,test]'
	@touch $@

demo: $(READY)
	$(BIN)/selplug demo

# Two single-threaded workers beat one with two threads: the tests are many and small.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What a change is likely to break; CONTRIBUTING.md tells which tests are slow.
test: $(READY)
	$(PYTEST) -m "not slow"

test-all: $(READY)
	$(PYTEST)

# `make test-all` runs with the timm of the constraints, the newest; this with the oldest that pyproject.toml allows.
OLDEST_TIMM := 1.0.27
test-oldest-timm: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/timm-$(OLDEST_TIMM) timm==$(OLDEST_TIMM)
	PYTHONPATH=build/timm-$(OLDEST_TIMM) $(PYTEST) tests/timm_plugin

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m bench

# For maintainers: what another package makes of the same images, in an environment of its own outside the repository.
# It needs old versions, and a Python that has wheels of them. IMAGES: a folder of further JPEG files, such as CIFAR-10's.
REFERENCE_PYTHON ?= python3.9
REFERENCE := $(HOME)/.cache/selplug/corruptions
reference-corruptions: $(READY)
	mkdir -p $(REFERENCE)
	$(REFERENCE_PYTHON) -m venv $(REFERENCE)/venv
	$(REFERENCE)/venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --requirement tests/corruptions/requirements.txt
	$(BIN)/python tests/corruptions/make_images.py $(REFERENCE)/images.npy $(IMAGES)
	$(REFERENCE)/venv/bin/python tests/corruptions/make_reference.py $(REFERENCE)/images.npy $(REFERENCE)/reference.npz

# For maintainers: resolve anew, for every supported Python at once.
constraints: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.10 --all-extras --no-header --no-annotate \
		--no-emit-index-url pyproject.toml --output-file constraints.txt

clean:
	rm -rf $(VENV)
