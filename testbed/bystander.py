#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Count what an SMMU that obeys broadcast TLBIs over-invalidates.

The bystander is the guest's console, a virtio device in a DMA domain: its rings,
buffers and MSI doorbell are in the IOTLB, which never evicts. Processes that are
bound to nothing work meanwhile, and print. QEMU tells for whom each TLBI was, and
how many entries it dropped; one for an ASID cannot hit a DMA domain. What the
boot alone broadcasts is left out. The numbers go to build/report/bystander.json.
"""

from __future__ import annotations

import collections
import concurrent.futures
import re
import shlex
import sys
from typing import Any

import report
import run as tests
import vm

# With one CPU Linux frees the least of vmalloc() before it flushes everything
MACHINES = {"count-on": "Cortex-A57", "count-on-range": "Neoverse N2, invalidates ranges"}
BYSTANDER = "-global virtio-serial-pci.iommu_platform=on -trace smmuv3_btm_drop"
DROP = re.compile(r"smmuv3_btm_drop dropped (\d+): .* asid (-?\d+) base \S+ size (\S+)")
LOOP = "i=0; while [ $((i += 1)) -le 200 ]; do echo $i; %s; done\n"
# What is done, how many times, and how; `swap` fills what memory there is
WORKLOADS = {
    "boot": (1, "echo\n"),
    "fork-exec": (4000, LOOP % ("echo $i" + " | busybox cat" * 20)),
    "mappings": (1, "./sva_cost -m unbound -n 9\n"),
    "swap": (1, """echo 256M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0 || exit
for f in /tmp/a /dev/shm/b; do dd if=/dev/zero of=$f bs=1M count=60 2>&1; done
cat /tmp/a /dev/shm/b >/dev/null; rm /tmp/a /dev/shm/b; swapoff /dev/zram0; grep 'pswpout [1-9]' /proc/vmstat\n"""),
    "vmalloc": (200, "cd /sys/block/zram0\n" + LOOP % "echo 512M >disksize; echo 1 >reset"),     # 2 MiB each
    "bound": (1, "./sva_demo\n"),      # the control: its TLBIs have to hit its own entries
}
COLUMNS = ["asid", "asid_entries", "kernel", "kernel_entries", "all", "all_entries"]


def count(machine: str, workload: str) -> collections.Counter[str]:
    config = tests.inventory()[f"config {machine}"]
    log = vm.BUILD / f"log/guest/bystander-{workload}@{machine}.trace"
    result = vm.run(log.stem, f"{config['qemu']} {BYSTANDER} -D {shlex.quote(str(log))}", config["kernel"],
                    f"kunit.enable=0 mem=160M {config['append']}", WORKLOADS[workload][1], 300)
    if result.error:
        sys.exit(f"bystander.py: error: {workload} on {machine}: {result.error}\n{vm.tail(result.console)}")
    counts: collections.Counter[str] = collections.Counter()
    with log.open() as lines:
        for entries, asid, size in (m.groups() for m in map(DROP.match, lines) if m):
            whom = "asid" if asid != "-1" else "kernel" if int(size, 16) else "all"
            counts.update({whom: 1, f"{whom}_entries": int(entries)})
    log.unlink()
    return counts


def main() -> int:
    runs = [(m, w) for m in MACHINES for w in WORKLOADS]
    print("\n==> Over-invalidation: TLBIs while processes work, and the TLB entries of another device that these dropped",
          flush=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        counts = dict(zip(runs, pool.map(lambda run: count(*run), runs)))
    rows: list[dict[str, Any]] = []
    for machine, title in MACHINES.items():
        print(f"{title}\n  {'workload':9} {'times':>5}" + "".join(f" {c:>14}" for c in COLUMNS))
        for workload in list(WORKLOADS)[1:]:
            more = counts[machine, workload] - counts[machine, "boot"]
            rows.append({"machine": machine, "workload": workload, "times": WORKLOADS[workload][0],
                         **{c: more[c] for c in COLUMNS}})
            print(f"  {workload:9} {rows[-1]['times']:5}" + "".join(f" {more[c]:14}" for c in COLUMNS))
    if not counts["count-on", "bound"]["asid_entries"] or not counts["count-on", "vmalloc"]["all_entries"]:
        sys.exit("bystander.py: error: nothing was dropped where something had to be")
    path = report.write("bystander.json", rows)
    print(f"\nThe same numbers: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
