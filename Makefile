# make demo     set everything up and run the main job on the bundled nano pair
# make mini     MMEB-V2 in miniature: nine tasks with and without thinking, and a page (ARGS="--count 500")
# make test     build and run the C++ and Python tests
# make stress   both test suites again and again, in random order, under busy loops (ARGS="--rounds 20")
# make fuzz     the readers of files on inputs that libFuzzer makes up, ten seconds each (ARGS="--seconds 600 --seed 0")
# make lint     formatting, static analysis, types, stubs
# make bench    tte and its peer in turn, one table a claim
# make clean    remove what was built (not .venv)

VENV   ?= .venv
PYTHON := $(VENV)/bin/python
export TTE_VENV := $(VENV)
# Everything is built once, by the build that also makes the Python package.
INSTALL = tools/install.sh

.PHONY: demo mini install test build-tests test-cpp test-example test-python stress fuzz lint lint-format bench stubs clean

demo:
	@tools/setup.sh run
	@$(INSTALL)
	@$(PYTHON) -m tte.demo --html demo.html

mini:
	@tools/setup.sh eval
	@$(INSTALL)
	$(PYTHON) -m tte.mmeb mini $(ARGS)

install:
	@tools/setup.sh test
	@$(INSTALL)

# Every suite runs, whatever became of those before it; the last line says which failed.
test: build-tests
	tools/test.sh

test-cpp test-example test-python: test-%: build-tests
	tools/test.sh $*

build-tests:
	@tools/setup.sh test
	@$(INSTALL) tests

stress: build-tests
	tools/stress.sh $(ARGS)

fuzz:
	@tools/setup.sh fuzz
	tools/fuzz.sh $(ARGS)

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
	@$(INSTALL)
	$(PYTHON) benchmarks/qwen2_vl_2b.py
	$(PYTHON) benchmarks/media.py
	$(PYTHON) benchmarks/quantization.py
	$(PYTHON) benchmarks/peers.py

clean:
	rm -rf build install demo.html
