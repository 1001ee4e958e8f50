# make demo     set everything up and run the main job on the bundled nano pair
# make mini     MMEB-V2 in miniature: nine tasks with and without thinking, and a page (ARGS="--count 500")
# make test     build and run the C++ and Python tests
# make lint     formatting, static analysis, types, stubs
# make bench    tte and its peer in turn, one table a claim
# make clean    remove what was built (not .venv)

VENV   ?= .venv
PYTHON := $(VENV)/bin/python
BUILD  := build/release
# Everything is built once, by the build that also makes the Python package.
INSTALL = $(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --force-reinstall -C build-dir=$(BUILD)

.PHONY: demo mini install test test-cpp test-example test-python lint lint-format bench stubs clean

demo:
	@tools/setup.sh run
	@echo "building tte (a few minutes the first time)"
	@$(INSTALL) .
	@$(PYTHON) -m tte.demo --html demo.html

mini:
	@tools/setup.sh eval
	@echo "building tte (a few minutes the first time)"
	@$(INSTALL) .
	$(PYTHON) -m tte.mmeb mini $(ARGS)

install:
	@tools/setup.sh test
	$(INSTALL) .

test: test-cpp test-example test-python

test-cpp:
	@tools/setup.sh test
	$(INSTALL) -C cmake.define.TTE_BUILD_TESTS=ON .
	ctest --test-dir $(BUILD) --output-on-failure -j 2

# What a user of the C++ library does: install it, find_package(tte), link, run.
test-example:
	cmake --install $(BUILD) --prefix build/install --component cpp > build/install.log
	cmake -S examples/cpp -B build/example -DCMAKE_PREFIX_PATH=$(abspath build/install) > build/example.log
	cmake --build build/example
	build/example/think_then_embed models/nano/reasoner models/nano/embedder examples/data/nano/*.png

test-python:
	$(PYTHON) -m pytest

lint:
	@tools/setup.sh lint
	PATH="$(abspath $(VENV))/bin:$$PATH" tools/lint.sh

# What needs no build; seconds.
lint-format:
	@tools/setup.sh lint
	PATH="$(abspath $(VENV))/bin:$$PATH" tools/lint.sh --format-only

stubs:
	PATH="$(abspath $(VENV))/bin:$$PATH" tools/stubs.sh --write

bench:
	@tools/setup.sh test
	@$(INSTALL) .
	$(PYTHON) benchmarks/qwen2_vl_2b.py

clean:
	rm -rf build install demo.html
