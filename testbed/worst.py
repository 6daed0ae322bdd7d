#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long an operation takes beside the worst neighbour, on mainline and with the series.

    worst.py [CASE ...]

Cases of sva_lifetime are run, each in a guest of its own, as mainline may crash: what
they print of their operations goes to build/report/worst.json. An operation that
mainline did not come to has no time there, but how its guest ended.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import report
import run as tests
import vm

MACHINES = {"mainline": "mainline-stall", "series": "series-stall"}
CASES = ("mmap_lock.stranger_closes", "mmap_lock.open_beside_fork", "never.killed", "never.closed",
         "never.opened_again", "never.unbind", "never.reset", "never.crowd", "function.unbind_while_busy",
         "function.removed_while_busy", "function.reset_while_busy")
TOOK = re.compile(r"# (.*): (\d+\.\d) ms$")
FAILED = re.compile(r"#.*(Test terminated by timeout|test case timed out)")
LIMIT = 60      # seconds that a case lets an operation take, as it would fail else


def measure(case: str, config: str) -> tuple[dict[str, float], str]:
    """The longest time of each operation in milliseconds, and how the guest ended if not well."""
    machine = tests.inventory()[f"config {config}"]
    result = vm.run(f"worst-{case}@{config}", machine["qemu"], machine["kernel"],
                    f"kunit.enable=0 {machine['append']}",
                    f"SVA_LIFETIME_MS={LIMIT * 1000} ./sva_lifetime -r {case}\n", 4 * LIMIT)
    times: dict[str, float] = {}
    ended = result.error
    for line in result.text():
        if match := TOOK.match(line):
            times[match[1]] = max(times.get(match[1], 0), float(match[2]))
        if FAILED.match(line):
            ended = "an operation did not end"
    return times, ended


def main() -> int:
    rows: list[dict[str, Any]] = []
    wrong = 0
    print("\n==> What an operation takes beside the worst neighbour, in ms, on an emulated machine\n"
          f"{'':60} {'mainline':>10} {'series':>10}", flush=True)
    for case in sys.argv[1:] or CASES:
        found = {name: measure(case, config) for name, config in MACHINES.items()}
        for operation in dict.fromkeys(o for times, _ in found.values() for o in times):
            row: dict[str, Any] = {"case": case, "operation": operation}
            row |= {name: times.get(operation) for name, (times, _) in found.items()}
            rows.append(row)
            columns = ["-" if row[name] is None else row[name] for name in found]
            print(f"{operation[:60]:60}" + "".join(f" {column:>10}" for column in columns), flush=True)
        for name, (times, ended) in found.items():
            if ended and name != "series":
                rows.append({"case": case, "operation": "", "ended": ended, "machine": name})
                print(f"    {name}, {case}: {ended}", flush=True)
            elif name == "series" and (ended or not times):
                wrong += 1
                print(f"worst.py: error: {case}: {ended or 'no operation was measured'}", file=sys.stderr)
    path = report.write("worst.json", rows)
    print(f"\nThe same numbers: {path}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
