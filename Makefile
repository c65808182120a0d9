# The two commands of the README, and shortcuts. Every target installs what it needs.
SHELL := /bin/bash
JOBS ?= $(shell nproc)

.PHONY: build demo dev test canon types api-docs bench bench-load format lint deps clean asan debug

build: deps
	@cmake --preset release -Wno-dev > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build --preset release -j $(JOBS) --target luaworker
	@ln -sfn release/luaworker build/luaworker

debug asan: deps
	@cmake --preset $@ -Wno-dev > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build --preset $@ -j $(JOBS)

demo: build
	@examples/demo.sh

dev: build
	@exec build/luaworker dev workers/hello_world.lua

test:
	@tests/run.sh

# The signed texts against Python's own json: a million random documents, some minutes.
canon: build
	@cd tests/e2e && LUAWORKER_BIN=$(CURDIR)/build/luaworker LW_CANON_DOCUMENTS=1000000 \
	  /usr/bin/python3 -m pytest -q -s -p no:cacheprovider test_canon.py

# The workers against the annotations of lua/types, by a checker from crates.io (needs cargo).
types:
	@tools/types.sh

# docs/api.md, of the annotations of lua/types.
api-docs: build
	@build/luaworker run tools/api_docs.lua > build/api.md
	@mv build/api.md docs/api.md

bench: build
	@tools/install.sh bench
	@bench/run.py

# luaworker load beside hey and wrk.
bench-load: build
	@tools/install.sh bench
	@bench/load_tools.py

format:
	@tools/install.sh lint
	@clang-format -i $$(git ls-files 'runtime/*.[ch]' 'runtime/*.cc' 'tests/*.[ch]' 'bench/*.[ch]' 'tools/*.c')

lint: build
	@tools/install.sh lint
	@tests/lint/run.sh

deps:
	@mkdir -p build
	@tools/install.sh build

clean:
	rm -rf build
