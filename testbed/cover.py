#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Print the cover letter, with the numbers that `make demo bench` measured.

In cover.txt, @repository@ is this one, at REPOSITORY in the environment; @table@
is a table of the numbers, @machine@ what they were measured on,
@cost OP PAGES COLUMN@ how many times the instructions of an unbound process a
bound one takes, and @commands OP PAGES COLUMN@ its SMMU commands. @bystander
WORKLOAD COLUMN MACHINE@ is a number of bystander.json; of several columns, as in
asid+kernel+all, the sum.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import demo
import run as tests
import vm

Key = tuple[str, str, int, bool]
COLUMNS = {"mainline": "mainline", "series-on": "series, btm=1"}
ROWS = [("munmap", 1), ("munmap", 512), ("mprotect", 1), ("mprotect", 512), ("madvise", 1), ("madvise", 512),
        ("mprotect_thp", 4096)]


def measured(path: Path, built: Path) -> list[Any]:
    """What the report says, if it is of the series as it is now."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=vm.LINUX, stdout=subprocess.PIPE, text=True, check=True)
    try:
        rows: list[Any] = json.loads(path.read_text())
        if path.stat().st_mtime < built.stat().st_mtime or head.stdout.split() != built.read_text().split()[:1]:
            sys.exit(f"cover.py: error: {path} is not of this series: make demo bench")
    except (OSError, ValueError) as e:
        sys.exit(f"cover.py: error: the cover letter needs what is measured by: make demo bench ({e})")
    return rows


def cost(rows: dict[Key, demo.Row], op: str, pages: int, column: str) -> str:
    return f"x{rows[column, op, pages, True]['instructions'] / rows[column, op, pages, False]['instructions']:.2f}"


def commands(rows: dict[Key, demo.Row], op: str, pages: int, column: str) -> str:
    return f"{rows[column, op, pages, True]['commands']:.0f}"


def bystander(rows: list[dict[str, Any]], workload: str, columns: str, machine: str) -> str:
    row = {(r["workload"], r["machine"]): r for r in rows}[workload, machine]
    return str(sum(row[c] for c in columns.split("+")))


def table(rows: dict[Key, demo.Row]) -> str:
    lines = [f"  {'':18}" + "".join(f" | {title:^17}" for title in COLUMNS.values()).rstrip(),
             f"  {'operation':12}{'pages':>6}" + " | commands     cost" * len(COLUMNS)]
    for op, pages in ROWS:
        lines.append(f"  {op:12}{pages:6}" + "".join(
            f" | {commands(rows, op, pages, c):>8} {cost(rows, op, pages, c):>8}" for c in COLUMNS))
    return "\n".join(lines)


def machine() -> str:
    """What the columns have in common: the CPU, from the inventory."""
    qemu = tests.inventory()[f"config {demo.COLUMNS['series-on']}"]["qemu"]
    cpu = re.search(r"-cpu (\S+)", qemu)
    version = (vm.CACHE / "base/qemu.stamp").read_text().partition("+")[0].replace("qemu_", "QEMU ")
    return f"{version}, {cpu[1] if cpu else 'no -cpu'}, one CPU, -icount"


def repository() -> str:
    if not (url := os.environ.get("REPOSITORY")):
        print("cover.py: note: REPOSITORY=URL tells the readers where to find this", file=sys.stderr)
    return f"the repository that this series comes from ({url})" if url else "the repository that this series comes from"


def letter(text: str, rows: dict[Key, demo.Row], beside: list[dict[str, Any]]) -> str:
    def value(match: re.Match[str]) -> str:
        name, *words = match[1].split()
        try:
            if name in ("cost", "commands"):
                op, pages, column = words
                return (cost if name == "cost" else commands)(rows, op, int(pages), column)
            if name == "bystander":
                return bystander(beside, *words)
            return {"table": lambda: table(rows), "machine": machine, "repository": repository}[name]()
        except (KeyError, TypeError, ValueError):
            sys.exit(f"cover.py: error: cover.txt asks for {match[0]}, which no report of make demo bench answers")
    return re.sub(r"@([a-z]+(?: [\w+-]+)*)@", value, text)


def main() -> int:
    built = vm.CACHE / "linux/obj-series/stamp"
    rows: list[demo.Row] = measured(vm.BUILD / "report/demo.json", built)
    print(letter((vm.TOP / "cover.txt").read_text(),
                 {(r["kernel"], r["op"], r["pages"], r["bound"]): r for r in rows},
                 measured(vm.BUILD / "report/bystander.json", built)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
