#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Draw what an operation costs a bound process, by its size and by the number of threads at it.

Instructions and commands, exact, on the machines of `make demo`. By threads:
what all of them together put on the one command queue. How long they wait for
it there is for hardware to say (sva_cost -t); an emulator's time says nothing.
What happens once in the life of a process, and a flush of one CPU's TLB, are a table.
The drawings and bench.json go to build/report/.
"""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
from typing import Any

import demo
import report
import run as tests
import vm

REPORT = report.REPORT
COLUMNS = {"mainline": "count-mainline", "series-on": "count-on"}
OPERATIONS = ["munmap", "mprotect", "madvise", "munmap_thp", "mprotect_thp", "madvise_thp"]
LIFE = ["bind", "unbind", "fork", "exec", "exit", "local_flush"]
SCRIPT = "for t in 1 2 4 8 16; do ./sva_cost --json -n 9 -t $t || exit 1; done; ./sva_cost --json -n 9 -l\n"

Rows = list[dict[str, Any]]


def measure(column: str, config: str) -> Rows:
    machine = tests.inventory()[f"config {config}"]
    result = vm.run(f"bench@{config}", machine["qemu"], machine["kernel"], f"kunit.enable=0 {machine['append']}",
                    SCRIPT, 900)
    if result.error:
        sys.exit(f"bench.py: error: {config}: {result.error}\n{vm.tail(result.console)}")
    text = "\n".join(line for line in result.text() if not vm.FINISHED.match(line))
    rows: Rows = []
    try:
        while "[\n" in text:
            some, end = json.JSONDecoder().raw_decode(text := text[text.index("[\n"):])
            text = text[end:]
            rows += some
    except ValueError as e:
        sys.exit(f"bench.py: error: sva_cost on {config} printed no JSON ({e}):\n{text[:500]}")
    # `commands` is per operation; all threads do one at once
    return [{"kernel": column, **row, "at_once": row["commands"] * row["threads"]} for row in rows]


def curve(rows: Rows, op: str, x: str, y: str, relative: bool) -> str:
    """Lines of x and y: of the bound process, or how many times that of the unbound one."""
    free = {r[x]: r[y] for r in rows if r["op"] == op and not r["bound"]}
    return "".join(f"{r[x]} {r[y] / free[r[x]] if relative else r[y]}\n"
                   for r in rows if r["op"] == op and r["bound"] and (not relative or free[r[x]]))


def draw(name: str, title: str, rows: Rows, x: str, y: str, relative: bool = False) -> None:
    """One SVG with a small drawing for each operation, one curve for each kernel."""
    scale = "set logscale x 8; unset mxtics" if x == "pages" else "set xtics 4"
    script = [f"set terminal svg size 900,600 font 'sans,11'; set output '{REPORT / name}'",
              f"set multiplot layout 2,3 title '{title}'",
              f"set xlabel '{x}'; {scale}; set grid; set border back; set key below",
              f"set yrange [{'0.9' if relative else '0'}:*]; set offsets 0,0,graph 0.1,0"]
    for op in OPERATIONS:
        plots = []
        for kernel in dict.fromkeys(r["kernel"] for r in rows):
            if data := curve([r for r in rows if r["kernel"] == kernel], op, x, y, relative):
                block = f"${op}_{kernel.replace('-', '_')}"
                script.append(f"{block} << END\n{data}END")
                plots.append(f"{block} using 1:2 with linespoints title '{kernel}'")
        if plots:
            script.append(f"set title '{op}' noenhanced; plot {', '.join(plots)}")
    done = subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, capture_output=True, check=False)
    if done.returncode or done.stderr:
        sys.exit(f"bench.py: error: gnuplot: {done.stderr}")
    print(REPORT / name)


def main() -> int:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = [row for some in pool.map(measure, COLUMNS, COLUMNS.values()) for row in some]
    alone = [r for r in rows if r["threads"] == 1]
    draw("cost-instructions.svg", "Instructions of a bound process: times those of an unbound one", alone,
         "pages", "median", relative=True)
    draw("cost-commands.svg", "SMMU commands of one operation by a bound process", alone, "pages", "commands")
    draw("cost-threads.svg", "SMMU commands when each thread of a bound process does it once (1 page; thp: 512)",
         [r for r in rows if r["pages"] == (512 if r["op"].endswith("_thp") else 1)], "threads", "at_once")
    report.write("bench.json", rows)
    print("\nCommands when bound, guest instructions not bound -> bound (bind, unbind: the first, one more)")
    demo.table([demo.Row(kernel=r["kernel"], op=r["op"], pages=r["pages"], bound=r["bound"], commands=r["commands"],
                         instructions=r["median"]) for r in alone if r["op"] in LIFE or r["pages"] == 1], list(COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
