# What can be made, in the order in which people need it. The work is done by cross/*.sh.
SHELL = /bin/bash
HOST = x86_64

.PHONY: all
all:  ## build target/mef, the static program for this machine
	@bash cross/build.sh $(HOST) target/mef

.PHONY: clean
clean:  ## remove target/, with everything that was fetched or built
	rm -rf target
