#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Show SVA at work in the guest, then count what an unmap costs without and with BTM.

    demo.py [mainline]		mainline as well, which is a kernel more to build

Instructions are the guest's own, exact under -icount; commands are what the
SMMU's CMDQ_PROD says. Both are the same on every run. The numbers go to
build/report/demo.json.
"""

from __future__ import annotations

import concurrent.futures
import json
import re
import sys
from typing import TypedDict

import report
import run as tests
import vm


class Row(TypedDict):
    """A line of demo.json: mean commands and median instructions of the repeats of one operation."""
    kernel: str
    op: str
    pages: int
    bound: bool
    commands: float
    instructions: float


# Column, and the config of tests.cfg that boots it
COLUMNS = {"mainline": "count-mainline", "series-off": "count-off", "series-on": "count-on"}
SCRIPT = "./sva_cost -n 9 --json\n"
# Machines whose SMMU can be asked whether it obeys: it does, and it does not although it says so
ASKED = {"obeys": "series-on-atos", "is deaf": "deaf-atos"}
ANSWER = re.compile(rb"arm-smmu-v3 \S+: ((?:broadcast|CPU\d+: TLBI)[^\r\n]*)")


def boot(config: str, script: str, timeout: float, echo: bool = False) -> vm.Result:
    machine = tests.inventory()[f"config {config}"]
    append = f"kunit.enable=0 {machine['append']}"
    result = vm.run(f"demo@{config}", machine["qemu"], machine["kernel"], append, script, timeout, echo=echo)
    if result.error:
        sys.exit(f"demo.py: error: {result.error}\n  the guest's last words:\n"
                 + "\n".join(result.text()[-5:]) + f"\n  end of {result.console}:\n{vm.tail(result.console)}")
    return result


def costs(column: str) -> list[Row]:
    text = [l for l in boot(COLUMNS[column], SCRIPT, 120).text() if not vm.FINISHED.match(l)]
    try:
        rows = json.loads("\n".join(text[next(i for i, l in enumerate(text) if l.startswith("[")):]))
    except (StopIteration, ValueError) as e:
        sys.exit(f"demo.py: error: sva_cost on {column} printed no JSON ({e}):\n" + "\n".join(text[-5:]))
    return [Row(kernel=column, op=r["op"], pages=r["pages"], bound=r["bound"], commands=r["commands"],
                instructions=r["median"]) for r in rows]


def verdicts() -> None:
    """What the driver finds out about an SMMU, a line for each machine."""
    for smmu, config in ASKED.items():
        said = ANSWER.findall(boot(config, "true\n", 60).console.read_bytes())
        print(f"    the SMMU {smmu}: {'; '.join(line.decode() for line in said)}", flush=True)


def table(rows: list[Row], columns: list[str]) -> None:
    index = {(r["kernel"], r["op"], r["pages"], r["bound"]): r for r in rows}
    keys = list(dict.fromkeys((r["op"], r["pages"]) for r in rows))
    head = "".join(f" | {c:^36}" for c in columns)
    print(f"{'':24}{head}\n{'operation':16}{'pages':>7} "
          + "".join(f" | {'commands':>8} {'instructions':>19} {'cost':>7}" for _ in columns))
    for op, pages in keys:
        line = f"{op:16}{pages:7} "
        for c in columns:
            free, bound = index[c, op, pages, False], index[c, op, pages, True]
            steps = f"{free['instructions']:.0f} -> {bound['instructions']:.0f}"
            line += (f" | {bound['commands']:8.0f} {steps:>19} "
                     f"x{bound['instructions'] / free['instructions']:6.2f}")
        print(line)


def main() -> int:
    columns = [c for c in COLUMNS if c != "mainline" or c in sys.argv[1:]]
    print("==> A process shares its memory with a device\n", flush=True)
    boot("series-stall", "./sva_demo\n", 60, echo=True)
    print("\n==> Does the SMMU obey? The driver asks it, at boot", flush=True)
    verdicts()
    print("\n==> What it costs: SMMU commands when bound, guest instructions not bound -> bound", flush=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = [row for rs in pool.map(costs, columns) for row in rs]
    table(rows, columns)
    path = report.write("demo.json", [dict(r) for r in rows])
    print(f"\nThe same numbers: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
