# make demo     set everything up and run the main job on the bundled nano pair
# make test     build and run the C++ and Python tests
# make lint     formatting, static analysis, types, stubs
# make bench    tte and its peer in turn, one table a claim
# make clean    remove what was built (not .venv)

VENV   ?= .venv
PYTHON := $(VENV)/bin/python
BUILD  := build/release
# Everything is built once, by the build that also makes the Python package.
INSTALL = $(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --force-reinstall -C build-dir=$(BUILD)

.PHONY: demo install test test-cpp test-python lint bench stubs clean

demo:
	@tools/setup.sh run
	@echo "building tte (a few minutes the first time)"
	@$(INSTALL) .
	@$(PYTHON) -m tte.demo --html demo.html

install:
	@tools/setup.sh test
	$(INSTALL) .

test: test-cpp test-python

test-cpp:
	@tools/setup.sh test
	$(INSTALL) -C cmake.define.TTE_BUILD_TESTS=ON .
	ctest --test-dir $(BUILD) --output-on-failure -j 2

test-python:
	$(PYTHON) -m pytest

lint:
	@tools/setup.sh lint
	PATH="$(abspath $(VENV))/bin:$$PATH" tools/lint.sh $(BUILD)

stubs:
	PATH="$(abspath $(VENV))/bin:$$PATH" tools/stubs.sh --write

bench:
	@tools/setup.sh test
	@$(INSTALL) .
	$(PYTHON) benchmarks/qwen2_vl_2b.py

clean:
	rm -rf build install demo.html
