# SPDX-License-Identifier: GPL-2.0-only
#
# `make help` says what there is. The kernel's build system reads Kbuild, not this file.

# The kernel the module is for: the running one, or else the newest whose headers are installed.
KDIR ?= $(firstword $(wildcard /lib/modules/$(shell uname -r)/build) \
	$(shell ls -dv /usr/src/linux-headers-*-amd64 2>/dev/null | tail -n 1))
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build/user

FUZZ_SECONDS ?= 60

# What `make run` uses.
CPU ?= corei7_haswell_4770
KERNEL ?= stock
PARAMS ?=
SHELL_IN_MACHINE := $(filter 1 y yes,$(if $(filter command line environment,$(origin SHELL)),$(SHELL)))
override SHELL := /bin/bash

SOURCES = $(shell git ls-files '*.c' '*.h' '*.cc' '*.hpp' '*.cpp' 2>/dev/null)

.PHONY: all module tools command configure docs run test test-long bench fuzz install load unload clean format lint help packages

all: module tools

module:
	@tools/packages --check build
	@test -n "$(KDIR)" || { echo "module: no kernel headers found; give KDIR=, or install linux-headers-amd64" >&2; exit 1; }
	$(MAKE) -C $(KDIR) M=$(CURDIR) CONFIG_DEBUG_INFO_BTF_MODULES= modules

tools: configure
	cmake --build $(BUILD) --parallel $(JOBS)
	$(MAKE) -C tools/guests
	$(MAKE) -C test-user/client
	$(MAKE) -C test-user/life

# What `make run` needs of them.
command: configure
	cmake --build $(BUILD) --parallel $(JOBS) --target minivmx
	$(MAKE) -C tools/guests

# What is made from the table of controls and the CPUs in data/.
docs: configure
	cmake --build $(BUILD) --parallel $(JOBS) --target minivmx
	$(BUILD)/minivmx matrix --markdown docs/controls.md
	$(BUILD)/minivmx matrix --real --one-per-generation --svg docs/matrix.svg

# Every time: it is quick, and a package that was missing then (GoogleTest) may be there now.
configure:
	@tools/packages --check build
	@mkdir -p $(BUILD)
	@cmake -S . -B $(BUILD) >$(BUILD).log 2>&1 || { cat $(BUILD).log >&2; exit 1; }

# Kbuild must not inherit what is meant for the machine (SHELL=1 above all), so MAKEFLAGS ends here.
run:
	@env -u MAKEFLAGS -u MFLAGS CPU='$(CPU)' KERNEL='$(KERNEL)' PARAMS='$(PARAMS)' JOBS='$(JOBS)' tools/machine/demo \
		$(if $(SHELL_IN_MACHINE),--shell)

test:
	@env -u MAKEFLAGS -u MFLAGS JOBS='$(JOBS)' tools/machine/test

test-long:
	@env -u MAKEFLAGS -u MFLAGS JOBS='$(JOBS)' tools/machine/test --long

# What exits cost beside kvm_intel's: data/bench, docs/performance.md.
bench:
	@env -u MAKEFLAGS -u MFLAGS JOBS='$(JOBS)' tools/machine/bench

packages:
	@tools/packages build test stock lean machine lint fuzz

fuzz:
	@tools/packages build test fuzz
	$(MAKE) -C test-user/fuzz run SECONDS=$(FUZZ_SECONDS)

install: all
	$(MAKE) -C $(KDIR) M=$(CURDIR) CONFIG_DEBUG_INFO_BTF_MODULES= \
		$(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) modules_install
	install -D -m 0755 $(BUILD)/minivmx $(DESTDIR)$(PREFIX)/bin/minivmx
	install -D -m 0644 tools/60-minivmx.rules $(DESTDIR)/etc/udev/rules.d/60-minivmx.rules
	install -D -m 0644 docs/minivmx.1 $(DESTDIR)$(PREFIX)/share/man/man1/minivmx.1

load:
	@tools/load $(PARAMS)

unload:
	@tools/load --unload

clean:
	$(if $(KDIR),-@$(MAKE) -s -C $(KDIR) M=$(CURDIR) clean)
	rm -rf build

format:
	@tools/packages --check lint
	clang-format -i $(SOURCES)

lint:
	@tools/packages --check lint
	@KDIR='$(KDIR)' tools/lint

help:
	@sed -e '/^#/d' tools/help.txt
