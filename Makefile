# SPDX-License-Identifier: GPL-2.0-or-later
# SVA with broadcast TLB maintenance for Arm SMMUv3: build it, boot it, test it.

BUILD	?= build
ONLY	?=
T	?=
KERNEL	?= series
SERIES	?=
AUTHOR	?=
ONTO	?=
VERSION	?=
export BUILD := $(abspath $(BUILD))

BED	:= testbed
CACHE	:= $(or $(SVA_BTM_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sva-btm)
TOOL	:= $(BED)/bin/patches
py	:= PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3
quote	= '$(subst ','\'',$1)'

KERNELS	:= $(foreach k,mainline fixes series server 16k 64k debug server-debug kcsan mutants mutants-debug,kernel-$k kernel-$k-gdb)
GOALS	:= help demo bench test test-long try shell gdb check tree refresh rebase mails clean \
	setup trees tools qemu qtests guest strangers $(KERNELS)
.PHONY: $(GOALS)

# What was asked for is looked at before anything is done: what it needs, or an error
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
given	:= $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$v))
NEEDS	:= $(shell [ -x /usr/bin/python3 ] || $(BED)/bin/setup packages >&2; \
	env $(foreach v,$(given) BUILD ONLY T KERNEL SERIES AUTHOR ONTO VERSION,$v=$(call quote,$($v))) $(py) $(BED)/inputs.py \
	--goals $(foreach g,$(MAKECMDGOALS),$(call quote,$g)) --known $(GOALS) --given $(given))
$(if $(filter-out 0,$(.SHELLSTATUS)),$(error Nothing was done))
endif

help:
	@echo 'make demo      a process shares its memory with a device, and what each unmap costs'
	@echo 'make bench     curves of that cost: build/report/cost-*.svg'
	@echo 'make test      the tests; ONLY="WORD ..." selects (make test ONLY=list lists)'
	@echo 'make test-long what takes hours as well'
	@echo 'make try       T="TEST@CONFIG ..." on build/tree as it lies, committed or not'
	@echo 'make shell     a prompt in the guest, the device ready (KERNEL=mainline, series-on, debug ...)'
	@echo 'make gdb       the same, stopped at the first instruction, for gdb to attach'
	@echo 'make check     each patch built with W=1 and sparse and booted, clang, style, scripts, the model'
	@echo 'make tree      git trees of kernel and QEMU to edit: build/tree/linux, build/tree/qemu'
	@echo 'make refresh   turn those edited trees back into patches and whole files'
	@echo 'make rebase    ONTO=DIR: put build/tree/linux on the commit of this git tree; then make refresh, LINUX=DIR'
	@echo 'make mails     the postings as mails: build/mails; SERIES="fixes mm btm" AUTHOR="Name <mail>"'
	@echo 'make clean     remove build/ (the cache, $(CACHE), stays)'
	@echo
	@echo 'LINUX=DIR, QEMU_SRC=DIR  use these source trees; DISTFILES=DIR  packages to look in first'

# What a machine needs, each made from the one before; quick when nothing changed
setup:
	@$(BED)/bin/setup all
trees: setup
	@$(BED)/bin/build $(or $(TREES),tree)
tools: trees
	@$(BED)/bin/setup $@
qemu qtests guest: trees
	@$(BED)/bin/build $@
$(KERNELS): kernel-%: trees
	@$(BED)/bin/build kernel $*
strangers: guest
	@$(BED)/bin/setup $@
	@$(BED)/bin/build $@

demo: qemu guest kernel-series
	@$(py) $(BED)/demo.py
	@$(py) $(BED)/bystander.py
	@$(BED)/bin/setup times

bench: qemu guest kernel-mainline kernel-series kernel-server
	@$(BED)/bin/setup bench
	@$(py) $(BED)/demo.py mainline
	@$(py) $(BED)/bystander.py guests
	@$(py) $(BED)/bench.py
	@$(py) $(BED)/worst.py
	@$(BED)/bin/setup times

ifeq ($(ONLY),list)
test:
	@$(py) $(BED)/run.py --list
else
test: $(NEEDS)
	@$(py) $(BED)/run.py --times --only $(ONLY)
endif

test-long: $(NEEDS)
	@$(py) $(BED)/run.py --times --long

# The edited trees take the series' place among the objects: what is built is what differs
try: export TREES := edited
try: $(NEEDS)
	@$(py) $(BED)/run.py --times --only $(T)

check: tools qemu guest
	@$(BED)/bin/setup check || echo 'make check: no clang then'
	@$(BED)/bin/check-builds progress
	@$(py) $(BED)/run.py --only check check-rc builds-all builds-mails builds-rc model

shell gdb: $(NEEDS)
	@[ $@ = shell ] || $(BED)/bin/setup gdb
	@$(py) $(BED)/run.py --$@ $(KERNEL)

tree: setup
	@$(TOOL) --dir . tree --base $(CACHE)/base/linux --out $(BUILD)/tree/linux
	@$(TOOL) --dir $(BED)/qemu tree --base $(CACHE)/base/qemu --out $(BUILD)/tree/qemu
	@echo 'Edit and commit in $(BUILD)/tree/linux and $(BUILD)/tree/qemu, then: make refresh'

refresh:
	@for t in linux qemu; do [ -d $(BUILD)/tree/$$t ] || { echo 'make refresh: no $(BUILD)/tree: make tree first' >&2; exit 1; }; done
	@$(TOOL) --dir . refresh --tree $(BUILD)/tree/linux
	@$(TOOL) --dir $(BED)/qemu refresh --tree $(BUILD)/tree/qemu

rebase:
	@[ -d $(BUILD)/tree/linux ] || { echo 'make rebase: no $(BUILD)/tree: make tree first' >&2; exit 1; }
	@$(TOOL) --dir . rebase --tree $(BUILD)/tree/linux --onto $(ONTO)
	@echo 'make refresh takes them over; from then on give LINUX=$(ONTO)'

mails: trees
	@$(py) $(BED)/mails.py --series $(SERIES) $(if $(AUTHOR),--author $(call quote,$(AUTHOR))) $(if $(VERSION),--version $(VERSION))

clean:
	rm -rf $(BUILD)
