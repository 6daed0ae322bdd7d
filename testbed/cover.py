# SPDX-License-Identifier: GPL-2.0-or-later
"""The cover letters, with the numbers that `make demo bench` measured.

The first line of cover/NAME.txt is the subject, Cc: lines may follow. If each
maintainer's tree has a letter of its own, it follows a line `== TREE`, and what
stands above the first of these ends all of them.

@repository@ is this one, at REPOSITORY in the environment; @base@ what
base-commit stands for; @table@ a table of the numbers, @machine@ what they were
measured on, @cost OP PAGES COLUMN@ how many times the instructions of an unbound
process a bound one takes, @extra OP PAGES COLUMN@ how many more, and
@commands OP PAGES COLUMN@ its SMMU commands. @bystander WORKLOAD COLUMN MACHINE@
is a number of bystander.json; of several columns, as in asid+kernel+all, the sum.
@guests WORKLOAD COLUMN MACHINE@ likewise of guests.json.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import textwrap
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


def extra(rows: dict[Key, demo.Row], op: str, pages: int, column: str) -> str:
    return f"{rows[column, op, pages, True]['instructions'] - rows[column, op, pages, False]['instructions']:.0f}"


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


def parts(text: str, tree: str) -> str:
    """The letter of one tree, out of a file with those of all."""
    if not tree:
        return text
    common, *others = re.split(r"^== (.*)\n", text, flags=re.M)
    letters = dict(zip(others[::2], others[1::2], strict=True))
    if tree not in letters:
        sys.exit(f"cover.py: error: there is no '== {tree}' in the cover letter")
    return f"{letters[tree].strip()}\n\n{common.strip()}\n"


@functools.cache
def reports() -> tuple[dict[Key, demo.Row], list[dict[str, Any]]]:
    built = vm.CACHE / "linux/obj-series/stamp"
    rows: list[demo.Row] = measured(vm.BUILD / "report/demo.json", built)
    return ({(r["kernel"], r["op"], r["pages"], r["bound"]): r for r in rows},
            measured(vm.BUILD / "report/bystander.json", built))


@functools.cache
def guests() -> list[dict[str, Any]]:
    return measured(vm.BUILD / "report/guests.json", vm.CACHE / "linux/obj-server/stamp")


def letter(name: str, tree: str, base: str, unmeasured: bool) -> str:
    numbers = {"cost": cost, "commands": commands, "extra": extra}

    def value(match: re.Match[str]) -> str:
        word, *words = match[1].split()
        if word == "repository":
            return repository()
        if word == "base":
            return textwrap.fill(f"base-commit {base}.", 75)
        if unmeasured:
            return "(not measured)"
        if word == "guests":
            return bystander(guests(), *words)
        rows, beside = reports()
        try:
            if word in numbers:
                op, pages, column = words
                return numbers[word](rows, op, int(pages), column)
            if word == "bystander":
                return bystander(beside, *words)
            return {"table": lambda: table(rows), "machine": machine}[word]()
        except (KeyError, TypeError, ValueError):
            sys.exit(f"cover.py: error: cover/{name}.txt asks for {match[0]}, which no report of make demo bench answers")
    return re.sub(r"@([a-z]+(?: [\w+-]+)*)@", value, parts((vm.TOP / f"cover/{name}.txt").read_text(), tree))
