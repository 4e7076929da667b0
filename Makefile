# What can be made, in the order in which people need it; the work is done by cross/*.sh.
# On Debian 12 or 13 as root, each of these installs what it needs.

SHELL = /bin/bash
MAKEFLAGS += --no-print-directory
DESTDIR =
# ROUTER=1 builds target/mef-router, without what a router does not need.
PROGRAM = target/mef$(if $(ROUTER),-router)
FUZZ_SECONDS = 30

.PHONY: all run test test-quick test-reproducible vm bench size services fuzz cross dist install clean help

all:  ## build target/mef, the static program for this machine (ROUTER=1: target/mef-router, a smaller one)
	@bash cross/build.sh x86_64

run: all  ## the demonstration: a host is attacked in several ways, and defended
	@bash cross/with-packages.sh tests/demo-packages bash tests/demo.sh

test:  ## everything, as in continuous integration
	@bash cross/test.sh

test-quick:  ## that without what is built in other ways, packed, installed and booted: half the time
	@bash cross/test.sh quick

test-reproducible: all  ## build twice in two directories, compare the bytes
	@bash tests/reproducible.sh

vm: all  ## boot small virtual machines with Debian's kernels, and load them to their limits
	@bash cross/vm.sh

bench: all  ## measure mef beside its peers
	@bash cross/with-packages.sh tests/packages bash tests/bench.sh

size: all  ## bytes of the program by module, and what has grown (FEATURES=1: what each feature costs)
	@bash cross/size.sh $(if $(FEATURES),features,show) target/layout.map target/mef

services: all  ## attack real services of Debian, judge what they log by the rules that ship
	@bash cross/services.sh

fuzz:  ## run each fuzz target for FUZZ_SECONDS
	@bash cross/fuzz.sh $(FUZZ_SECONDS)

cross:  ## build every line of cross/targets
	@bash cross/all.sh

dist: cross  ## packages of each target (tarball, .deb, OCI image, contents), in target/dist
	@bash cross/dist.sh

install: all  ## copy mef and the files of rootfs/ below DESTDIR
	@bash cross/install.sh $(PROGRAM) "$(DESTDIR)"

clean:  ## remove everything that was fetched or built
	rm -rf target tests/fuzz/target

help:  ## show this
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 20
