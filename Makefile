# SPDX-License-Identifier: MIT OR Apache-2.0
#
#   make demo       installs what is missing, builds, and shows the library at work on a block device
#   make check      installs what is missing, and runs every check; the last line counts them
#
#   make check-quick    the checks for every day: format, lint, layers, unit tests, a core of the C tests
#
#   make            the library, in build/lib: CC, LD, AR, OBJCOPY, CPPFLAGS, CFLAGS, LDFLAGS, RUSTFLAGS, CARGO_BUILD_TARGET;
#                   V=1 shows the commands
#   make install    PREFIX, DESTDIR, BINDIR, LIBDIR, INCLUDEDIR, PKGCONFIGDIR, DATADIR, MANDIR; `make uninstall` with the same ones
#   make dist       a tarball with the crates, which builds without a network, in build/dist
#   make deb        Debian's packages, in build/deb
#   make header     writes include/aio2.h anew from src/; make symbols: debian/*.symbols from exports.txt and the header
#   make fio-engine, check-long, bench, bench-quick, hooks-lib, deps, clean
#
# scripts/ does the work; this file has the dependencies.

MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BINDIR ?= $(PREFIX)/bin
INCLUDEDIR ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DESTDIR ?=
# For these alone: what else make runs may install somewhere else.
install uninstall: export PREFIX := $(PREFIX)
install uninstall: export BINDIR := $(BINDIR)
install uninstall: export LIBDIR := $(LIBDIR)
install uninstall: export INCLUDEDIR := $(INCLUDEDIR)
install uninstall: export PKGCONFIGDIR := $(PKGCONFIGDIR)
install uninstall: export DATADIR := $(DATADIR)
install uninstall: export MANDIR := $(MANDIR)
install uninstall: export DESTDIR := $(DESTDIR)

.PHONY: all lib hooks-lib header symbols install uninstall dist deb fio-engine demo check check-quick check-long bench bench-quick deps clean

all: lib
	@echo "built in build/lib: $$(cd build/lib && echo libaio2.so.* libaio2.a libaio2-ffi.so.* aio2/lib*.so*)"
	@echo "next: \`make install\` (PREFIX=$(PREFIX)), or \`bin/aio2-run PROGRAM\` as it is; \`make check\` tests it"

# `+`: cargo shares make's jobs.
lib:
	+@scripts/build-lib.sh lib

hooks-lib:
	+@scripts/build-lib.sh hooks-lib

header:
	+@scripts/header.sh update

symbols:
	@scripts/symbols.sh update

dist:
	@scripts/dist.sh

deb:
	@scripts/deb.sh

# What is there is installed as it is, if it is of these sources: whoever installs need not have a compiler, or build as root.
install:
	@[ -e build/lib/.made-of ] || $(MAKE) lib
	@scripts/install.sh install

uninstall:
	@scripts/install.sh uninstall

fio-engine: lib
	+@$(MAKE) -C fio

deps:
	@scripts/deps.sh

demo: deps
	+@$(MAKE) lib fio-engine
	@demo/run.sh

check: deps
	+@scripts/check.sh

check-quick: deps
	+@scripts/check.sh lib fmt shellcheck clippy layers unit header exports core

check-long: export LONG := 1
check-long: deps
	+@scripts/check.sh

# The library's own, then the drop-in beside the kernel's AIO: on a machine that has nothing else to do.
bench-quick: deps
	+@$(MAKE) lib fio-engine
	@benches/run.sh --quick

bench: deps
	+@$(MAKE) lib fio-engine
	+@[ ! -x benches/run.sh ] || benches/run.sh
	@COMPATDIR=build/lib/aio2 compat-tests/benches/fdb.sh
	@compat-tests/benches/dropin.sh
	@benches/reactor.sh || [ $$? = 77 ]

clean:
	@rm -rf build target
	@[ ! -f fio/Makefile ] || $(MAKE) -C fio clean
