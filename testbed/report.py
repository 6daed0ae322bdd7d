# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found, in build/report: the one place that writes there.

Each run replaces its rows in NAME.json. Of all that is there then are made, for people,
index.html; for machines that know no better, tests.tap (KTAP) and junit.xml.
"""

from __future__ import annotations

import collections
import json
import subprocess
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import vm

Rows = list[dict[str, Any]]
REPORT = vm.BUILD / "report"
ORDER = ("failed", "skipped", "passed")
# Suites whose configs are not machines, and what they are
LISTS = {"mutant": "Mutants: mistakes that a test has to notice", "revert": "Fixes taken out: a test has to notice"}
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1300px; padding: 0 1em; color: #222 }
h1 { font-size: 1.6em; margin-bottom: 0 } h2 { font-size: 1.2em; margin-top: 2em }
table { border-collapse: collapse } th, td { padding: 2px 8px; text-align: right; border-bottom: 1px solid #ddd }
th { font-weight: 600 } th:first-child, td:first-child { text-align: left; white-space: nowrap }
.matrix { font-size: 12px }
.matrix td { text-align: center; min-width: 3.2em; border: 1px solid #fff; padding: 1px 3px }
.matrix td:first-child, .matrix td:last-child, .matrix th:last-child { text-align: left } .matrix th { vertical-align: bottom }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400; white-space: nowrap }
.matrix tbody tr:hover { background: #f4f4f4 }
.passed { background: #cdeccd } .failed { background: #d33; color: #fff }
.skipped { background: #eee; color: #555 }
.some { background: linear-gradient(135deg, #cdeccd 70%, #ddd 70%) }
i { font-style: normal; display: inline-block; margin: 1px 3px 1px 0; padding: 0 5px; border-radius: 3px }
pre { background: #f6f6f6; padding: .5em; overflow-x: auto; font-size: 12px; margin: .3em 0 }
img { max-width: 100%; background: #fff } summary { cursor: pointer } nav a { margin-right: 1em }
"""


def write(name: str, rows: Rows, ran: Iterable[tuple[str, str]] | None = None) -> Path:
    """Write NAME, then the pages. `ran`: the suites and configs that rows replace in it (default: all)."""
    path = REPORT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if ran is not None:
        gone = set(ran)
        rows = [r for r in read(name) if (r["suite"], r["config"]) not in gone] + rows
    replace(path, "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    tests = read("tests.json")
    replace(REPORT / "tests.tap", ktap(tests))
    replace(REPORT / "junit.xml", junit(tests))
    if rows := read("demo.json"):
        replace(REPORT / "demo.svg", bars(rows))
    replace(REPORT / "index.html", page(tests))
    return path


def read(name: str) -> Rows:
    try:
        rows: Rows = json.loads((REPORT / name).read_text())
        return rows
    except (OSError, ValueError):
        return []


def replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def by_job(tests: Rows) -> dict[tuple[str, str], Rows]:
    jobs: dict[tuple[str, str], Rows] = collections.defaultdict(list)
    for row in tests:
        jobs[row["suite"], row["config"]].append(row)
    return jobs


def count(rows: Rows) -> dict[str, int]:
    return {result: sum(r["result"] == result for r in rows) for result in ORDER}


def ktap(tests: Rows) -> str:
    jobs = by_job(tests)
    lines = ["KTAP version 1", f"1..{len(jobs)}"]
    for number, ((suite, config), rows) in enumerate(jobs.items(), 1):
        lines += ["    KTAP version 1", f"    1..{len(rows)}"]
        for n, row in enumerate(rows, 1):
            lines += [f"    # {line}" for line in row["detail"].splitlines() if row["result"] == "failed"]
            lines.append(f"    {'not ' if row['result'] == 'failed' else ''}ok {n} {row['case']}"
                         + (f" # SKIP {' '.join(row['detail'].split())}" if row["result"] == "skipped" else ""))
        lines.append(f"{'not ' if count(rows)['failed'] else ''}ok {number} {suite}@{config}")
    return "\n".join(lines) + "\n"


def junit(tests: Rows) -> str:
    def attribute(text: str) -> str:
        # XML has no place for most control characters
        return quoteattr("".join(c if c >= " " or c in "\n\t" else "?" for c in text))

    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for (suite, config), rows in by_job(tests).items():
        n = count(rows)
        lines.append(f"<testsuite name={attribute(f'{suite}@{config}')} tests=\"{len(rows)}\" "
                     f"failures=\"{n['failed']}\" skipped=\"{n['skipped']}\">")
        for row in rows:
            inner = {"failed": "failure", "skipped": "skipped"}.get(row["result"])
            lines.append(f"<testcase classname={attribute(suite)} name={attribute(row['case'])} "
                         f"time=\"{row['seconds']:.3f}\""
                         + (f"><{inner} message={attribute(row['detail'])}/></testcase>" if inner else "/>"))
        lines.append("</testsuite>")
    return "\n".join(lines) + "\n</testsuites>\n"


def verdict(rows: Rows) -> tuple[str, str]:
    """What a job's cell looks like, and says."""
    n = count(rows)
    if n["failed"]:
        return "failed", f"{n['failed']} of {len(rows)}"
    if not n["passed"]:
        return "skipped", "skip"
    return ("some", f"{n['passed']}+{n['skipped']}") if n["skipped"] else ("passed", f"{n['passed']}")


def chip(name: str, rows: Rows) -> str:
    detail = next((r["detail"] for r in rows if r["result"] != "passed"), rows[0]["detail"])
    return f"<i class={verdict(rows)[0]} title=\"{escape(detail[:300])}\">{escape(name)}</i>"


def table(rows: Rows, columns: Iterable[str] | None = None) -> str:
    def text(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) else escape(f"{value}")

    names = list(columns or rows[0])
    return ("<table><tr>" + "".join(f"<th>{escape(n)}</th>" for n in names) + "</tr>"
            + "".join("<tr>" + "".join(f"<td>{text(r.get(n, ''))}</td>" for n in names) + "</tr>" for r in rows)
            + "</table>")


def matrix(jobs: dict[tuple[str, str], Rows]) -> str:
    """Machines down, tests across; what runs on one machine alone is listed at the end of its line."""
    machines = list(dict.fromkeys(config for _, config in jobs))
    number = collections.Counter(suite for suite, _ in jobs)
    across = [suite for suite, n in number.most_common() if n > 1]
    head = "".join(f"<th><span>{escape(suite)}</span></th>" for suite in across)
    lines = [f"<table class=matrix><thead><tr><th>machine</th>{head}<th>others</th></tr></thead><tbody>"]
    for machine in sorted(machines, key=lambda m: (m.split("-")[0], m)):
        cells = ""
        for suite in across:
            if rows := jobs.get((suite, machine)):
                shown, text = verdict(rows)
                cells += f"<td class={shown} title=\"{escape(f'{suite}@{machine}')}\">{text}</td>"
            else:
                cells += "<td></td>"
        alone = "".join(chip(suite, rows) for (suite, m), rows in jobs.items() if m == machine and suite not in across)
        lines.append(f"<tr><td>{escape(machine)}</td>{cells}<td>{alone}</td></tr>")
    return "\n".join(lines) + "</tbody></table>"


def costs(rows: Rows) -> str:
    """demo.json, a line for each operation, the kernels side by side."""
    kernels = list(dict.fromkeys(r["kernel"] for r in rows))
    at = {(r["kernel"], r["op"], r["pages"], r["bound"]): r for r in rows}
    lines = []
    for op, pages in dict.fromkeys((r["op"], r["pages"]) for r in rows):
        line: dict[str, Any] = {"operation": op, "pages": pages}
        for kernel in kernels:
            one, two = at.get((kernel, op, pages, False)), at.get((kernel, op, pages, True))
            if one and two:
                free, bound = one["instructions"], two["instructions"]
                line[f"{kernel}: commands"] = f"{two['commands']:.0f}"
                line[f"{kernel}: instructions"] = (f"{free:.0f} \N{RIGHTWARDS ARROW} {bound:.0f} "
                                                   f"(\N{MULTIPLICATION SIGN}{bound / free:.2f})")
        lines.append(line)
    return table(lines)


def bars(rows: Rows) -> str:
    """demo.json as an SVG: how many times the instructions of an unbound process, and how many commands."""
    kernels = list(dict.fromkeys(r["kernel"] for r in rows))
    at = {(r["kernel"], r["op"], r["pages"], r["bound"]): r for r in rows}
    ops = [(op, pages) for op, pages in dict.fromkeys((r["op"], r["pages"]) for r in rows)
           if pages in (1, 64, 512, 4096) and all((k, op, pages, b) in at for k in kernels for b in (False, True))]
    colors = dict(zip(kernels, ("#c0392b", "#2e86c1") if len(kernels) < 3 else ("#7f8c8d", "#c0392b", "#2e86c1")))
    height, step = 12, 12 * len(kernels) + 10
    most = max((at[k, *op, True]["instructions"] / at[k, *op, False]["instructions"] for k in kernels for op in ops),
               default=1)
    scale = 360 / max(most - 0.9, 0.1)      # from x0.9
    out = []
    for n, kernel in enumerate(kernels):
        out.append(f'<rect x="{150 + 130 * n}" y="34" width="12" height="12" fill="{colors[kernel]}"/>'
                   f'<text x="{167 + 130 * n}" y="44">{escape(kernel)}</text>')
    y = 64
    for op, pages in ops:
        out.append(f'<text x="140" y="{y + step // 2 - 2}" text-anchor="end">{escape(op)} {pages}</text>')
        for n, kernel in enumerate(kernels):
            free, bound = at[kernel, op, pages, False], at[kernel, op, pages, True]
            ratio = bound["instructions"] / free["instructions"]
            width = max((ratio - 0.9) * scale, 1)
            said = "no command" if not bound["commands"] else f"{bound['commands']:.0f} commands"
            out.append(f'<rect x="150" y="{y + n * height}" width="{width:.0f}" height="{height - 2}" '
                       f'fill="{colors[kernel]}"/><text x="{156 + width:.0f}" y="{y + n * height + 9}" '
                       f'font-size="10">&#215;{ratio:.2f}, {said}</text>')
        y += step
    return ("<!-- SPDX-License-Identifier: GPL-2.0-or-later -->\n"
            f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{y + 10}" font-family="sans-serif" '
            f'font-size="12"><rect width="700" height="{y + 10}" fill="white"/>'
            '<text x="10" y="20" font-size="14">Guest instructions of an operation: times those of a process that is '
            'not bound; SMMU commands</text>' + "\n".join(out) + "</svg>\n")


def page(tests: Rows) -> str:
    jobs = by_job(tests)
    n = count(tests)
    sections = []
    if failed := [r for r in tests if r["result"] == "failed"]:
        sections.append(("failed", "Failed", "".join(
            f"<details{' open' if len(failed) < 6 else ''}><summary>{escape(r['suite'])}@{escape(r['config'])} "
            f"<b>{escape(r['case'])}</b></summary>"
            f"<pre>{escape(r['detail'])}</pre></details>" for r in failed)))
    if ours := {job: rows for job, rows in jobs.items() if job[0] not in LISTS and job[1] != "host"}:
        sections.append(("matrix", "Tests by machine", "<p>Cases that passed; + that skipped. Red: failed, of how "
                         "many. A negative control passes if its cases fail.</p>" + matrix(ours)))
    for name, title in (*LISTS.items(), ("host", "Tests without a guest")):
        if some := [chip(config.rpartition("/")[2].removesuffix(".patch") if name != "host" else suite, rows)
                    for (suite, config), rows in jobs.items() if name == (suite if name != "host" else config)]:
            sections.append((name, title, "".join(some)))
    if rows := read("demo.json"):
        sections.append(("cost", "What it costs: SMMU commands, guest instructions not bound and bound",
                         f"<p><img src=demo.svg alt=cost></p>{costs(rows)}"))
    if curves := sorted(REPORT.glob("cost-*.svg")):
        sections.append(("curves", "Cost by size and by threads", "".join(
            f"<p><img src=\"{c.name}\" alt=\"{c.stem}\"></p>" for c in curves)))
    if rows := read("bystander.json"):
        sections.append(("bystander", "TLBIs for others, and the TLB entries that they dropped", table(rows)))
    if rows := read("audit.json"):
        sections.append(("audit", "What the SMMUs had cached in the end, compared with memory",
                         "<p>Nothing may be stale, and nothing dropped for want of room.</p>" + table(rows)))
    if skipped := collections.Counter(r["detail"] for r in tests if r["result"] == "skipped"):
        sections.append(("skipped", "Why cases skipped", table(
            [{"reason": why, "cases": times} for why, times in skipped.most_common()])))
    head = subprocess.run(["git", "log", "-1", "--format=%h %s"], cwd=vm.TOP, stdout=subprocess.PIPE, text=True,
                          check=False).stdout.strip()
    links = "".join(f"<a href=\"#{name}\">{escape(title.partition(':')[0])}</a>" for name, title, _ in sections)
    body = "".join(f"<h2 id={name}>{escape(title)}</h2>\n{text}\n" for name, title, text in sections)
    return (f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><title>SVA over broadcast TLB maintenance</title>"
            f"<style>{STYLE}</style><h1>SVA over broadcast TLB maintenance</h1>"
            f"<p>{n['passed']} passed, {n['failed']} failed, {n['skipped']} skipped in {len(jobs)} tests; "
            f"{escape(head)}</p>"
            f"<nav>{links}</nav>\n{body}</html>\n")
