# SPDX-License-Identifier: GPL-2.0-or-later
# SVA with broadcast TLB maintenance for Arm SMMUv3: build it, boot it, test it.

BUILD	?= build
ONLY	?=
KERNEL	?= series
PREFIX	?= RFC
VERSION	?=
export BUILD := $(abspath $(BUILD))

T	:= testbed
CACHE	:= $(or $(SVA_BTM_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sva-btm)
SERIES	:= $(T)/bin/series
py	:= PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3

.PHONY: help demo bench test shell gdb check tree refresh mails clean
.PHONY: setup trees qemu guest kernel-mainline kernel-series kernel-debug kernel-mutants

help:
	@echo 'make demo      a process shares its memory with a device, and what each unmap costs'
	@echo 'make bench     curves of that cost: build/report/cost-*.svg'
	@echo 'make test      everything there is; ONLY="WORD ..." selects (make test ONLY=list lists)'
	@echo 'make shell     a prompt in the guest, the device ready (KERNEL=mainline, series-on, debug ...)'
	@echo 'make gdb       the same, stopped at the first instruction, for gdb to attach'
	@echo 'make check     each patch built with W=1 and sparse and booted, clang, style, scripts, the model'
	@echo 'make tree      git trees of kernel and QEMU to edit: build/tree/linux, build/tree/qemu'
	@echo 'make refresh   turn those edited trees back into patches and whole files'
	@echo 'make mails     the kernel series as mails: build/mails'
	@echo 'make clean     remove build/ (the cache, $(CACHE), stays)'
	@echo
	@echo 'LINUX=DIR, QEMU_SRC=DIR  use these source trees; DISTFILES=DIR  packages to look in first'

# What a machine needs, each made from the one before; quick when nothing changed
setup:
	@$(T)/bin/setup all
trees: setup
	@$(T)/bin/build tree
qemu guest: trees
	@$(T)/bin/build $@
kernel-mainline kernel-series kernel-debug kernel-mutants: kernel-%: trees
	@$(T)/bin/build kernel $*

demo: qemu guest kernel-mainline kernel-series
	@$(py) $(T)/demo.py
	@$(py) $(T)/bystander.py

bench: qemu guest kernel-mainline kernel-series
	@$(T)/bin/setup bench
	@$(py) $(T)/bench.py

ifeq ($(ONLY),list)
test:
	@$(py) $(T)/run.py --list
else
test: qemu guest $(addprefix kernel-,$(shell $(py) $(T)/run.py --needs --only $(ONLY)))
	@$(py) $(T)/run.py --only $(ONLY)
endif

check: qemu guest
	@$(T)/bin/setup check || echo 'make check: no clang then'
	@$(T)/bin/check-builds progress
	@$(py) $(T)/run.py --only check builds-all model

shell gdb: qemu guest $(addprefix kernel-,$(shell $(py) $(T)/run.py --needs --only $(KERNEL)))
	@$(py) $(T)/run.py --$@ $(KERNEL)

tree: setup
	@$(SERIES) --dir . tree --base $(CACHE)/base/linux --out $(BUILD)/tree/linux
	@$(SERIES) --dir $(T)/qemu tree --base $(CACHE)/base/qemu --out $(BUILD)/tree/qemu
	@echo 'Edit and commit in $(BUILD)/tree/linux and $(BUILD)/tree/qemu, then: make refresh'

refresh:
	@for t in linux qemu; do [ -d $(BUILD)/tree/$$t ] || { echo 'make refresh: no $(BUILD)/tree: make tree first' >&2; exit 1; }; done
	@$(SERIES) --dir . refresh --tree $(BUILD)/tree/linux
	@$(SERIES) --dir $(T)/qemu refresh --tree $(BUILD)/tree/qemu

mails: trees
	@mkdir -p $(BUILD) && $(py) $(T)/cover.py >$(BUILD)/cover.txt
	@$(SERIES) --dir . mails --base $(CACHE)/base/linux --out $(BUILD)/mails --prefix '$(PREFIX)' $(if $(VERSION),--version $(VERSION)) \
		--cover $(BUILD)/cover.txt --maintainers $(CACHE)/linux/src
	@echo 'The mails are in $(BUILD)/mails'

clean:
	rm -rf $(BUILD)
