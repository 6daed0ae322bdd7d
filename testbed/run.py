#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the tests that tests.cfg lists, and write build/report/tests.json.

    run.py [--only WORD ...] [--long] [--times] [--list] [-v] [-j N]

WORD is a test, a group, a config, or TEST@CONFIG. Without one, all are run but
those of group nodefault, and of group long unless --long is given. Exit status 0
if nothing failed, and something ran.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import configparser
import dataclasses
import difflib
import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import report
import vm

RESULT = re.compile(r"^(not )?ok \d+")
# build/report/audit.json, a row per guest
audits: list[dict[str, Any]] = []
# What a machine's words say, and of that, what adds up
MACHINE = {"kernel", "qemu", "append", "btm", "listens", "first", "checked", "firmware", "guest", "groups"}
ADD_UP = ("qemu", "append", "groups")
AUDITED = ("translations", "prefetched", "stale", "dropped_full", "conflicts")
# A case that failed; what says that it was ended and did not end itself
NOTICED = re.compile(r"\s*not ok \d+ (?:- )?(\S+)")
ENDED = re.compile(r"#.*(?:Test terminated by timeout|Test terminated unexpectedly|test case timed out|try faulted)")
# What an emulated machine's SMMUs are called in tests.cfg, and where the guest finds their registers
REGISTERS = {"pcie.0": 0x9050000, "rp1": 0xc000000, "rc1": 0xc000000}


@dataclasses.dataclass
class Case:
    """A line of tests.json. result is passed, failed or skipped."""
    suite: str
    case: str
    config: str
    result: str
    seconds: float
    detail: str = ""


@dataclasses.dataclass
class Job:
    """One test on one machine."""
    name: str
    config: str
    test: configparser.SectionProxy
    machine: configparser.SectionProxy | None

    @property
    def label(self) -> str:
        return f"{self.name}@{self.config}"

    @property
    def negative(self) -> bool:
        return self.config in self.test["negative"].split()

    def rules(self, key: str) -> list[tuple[str, str]]:
        """The lines of this test's key that count on this config: pattern and reason."""
        return [(pattern, why) for pattern, configs, why in rules(self.test, key)
                if not configs or "*" in configs or self.config in configs]

    def cases(self, cases: list[tuple[str, str, float, str]]) -> list[Case]:
        return [Case(self.name, c, self.config, r, round(s, 2), d) for c, r, s, d in cases]

    def failed(self, case: str, why: str, seconds: float) -> list[Case]:
        return self.cases([(case, "failed", seconds, why)])


def rules(test: configparser.SectionProxy, key: str) -> list[tuple[str, list[str], str]]:
    """Lines of the form PATTERN [@ CONFIG ...] : REASON."""
    found = []
    for line in filter(str.strip, test[key].splitlines()):
        what, _, why = line.partition(" : ")
        pattern, _, configs = what.partition(" @ ")
        found.append((pattern.strip(), configs.split(), why.strip()))
    return found


def inventory(text: str = "") -> configparser.ConfigParser:
    """tests.cfg, or what has the form of it, with a [config NAME] for each machine: what its words, and the axes' defaults, add up to.

    And with a [mutant NAME] or [revert PATCH] for each of these lines.
    """
    cfg = configparser.ConfigParser()
    cfg.read_string(text or (vm.TOP / "testbed/tests.cfg").read_text())
    axis_of: dict[str, str] = {}
    for section in (s for s in cfg.sections() if s.startswith("axis ")):
        _, axis, word = section.split()
        if axis_of.setdefault(word, axis) != axis:
            sys.exit(f"error: tests.cfg: axes {axis_of[word]} and {axis} have the same word '{word}'")
    for name, line in lines(cfg, "machines").items():
        words = line.partition(":")[0].split()
        if unknown := [w for w in words if w not in axis_of]:
            sys.exit(f"error: tests.cfg: machine {name}: there is no word '{unknown[0]}'; {near(unknown[0], axis_of)}")
        chosen = {axis_of[w]: w for w in words}
        if len(chosen) < len(words):
            sys.exit(f"error: tests.cfg: machine {name} has two words of one axis")
        made = dict.fromkeys(MACHINE, "") | {"first": "pcie.0"}
        for axis, usual in axes(cfg).items():
            if word := chosen.get(axis, usual[0]):
                for key in MACHINE & set(part := cfg[f"axis {axis} {word}"]):
                    made[key] = " ".join([made[key], *part[key].split()]).strip() if key in ADD_UP else part[key]
        cfg[f"config {name}"] = {key: value.replace("%", "%%") for key, value in made.items()}
    for kind in ("mutant", "revert"):
        for name, line in lines(cfg, f"{kind}s").items():
            where, _, how = line.partition(" : ")
            test, _, rest = where.partition("@")
            config, _, without = rest.partition(" ")
            cfg[f"{kind} {name}"] = {"untested": how} if where == "untested" else {
                "caught_by": test, "config": config, "without": without, "shows": how or "assertion", "groups":
                "long reverts" if kind == "revert" else
                "long" if cfg.has_section(f"config {config}") and "long" in cfg[f"config {config}"]["groups"] else "mutants"}
    return cfg


def lines(cfg: configparser.ConfigParser, section: str) -> dict[str, str]:
    """Those of a section that has a line for each of something, without what all sections have."""
    return {name: line for name, line in cfg[section].items() if name not in cfg.defaults()}


def axes(cfg: configparser.ConfigParser) -> dict[str, list[str]]:
    """The words of each axis, in the order of tests.cfg, but the default first: "" if there is none."""
    found: dict[str, list[str]] = {}
    for section in (s for s in cfg.sections() if s.startswith("axis ")):
        _, axis, word = section.split()
        words = found.setdefault(axis, [""])
        if "default" not in cfg[section]:
            words.append(word)
        elif words[0]:
            sys.exit(f"error: tests.cfg: axis {axis} has two defaults")
        else:
            words[0] = word
    return found


def matrix(cfg: configparser.ConfigParser) -> list[str]:
    """The tables of README.md: the axes, and what the machines are for."""
    rows = ["| axis | default | other words |", "| --- | --- | --- |"]
    for axis, (usual, *words) in axes(cfg).items():
        rows.append(f"| {axis} | {usual and f'`{usual}`'} | {', '.join(f'`{w}`' for w in words)} |")
    rows += ["", "| machine | its words | what it proves |", "| --- | --- | --- |"]
    for name, line in lines(cfg, "machines").items():
        has, _, what = map(str.strip, line.partition(":"))
        if what:
            rows.append(f"| `{name}` | {has} | {what} |")
    return rows


def modes(cfg: configparser.ConfigParser) -> list[str]:
    """The table of README.md: which mutants are noticed thanks to which mode of the SMMU."""
    found: dict[str, dict[str, list[str]]] = {}
    for section in cfg.sections():
        name, _, mode = section.removeprefix("mutant ").partition("/")
        if section.startswith("mutant ") and mode:
            where = f"`{cfg[section]['caught_by']}@{cfg[section]['config']}`"
            found.setdefault(mode, {}).setdefault(where, []).append(f"`{name.partition('+')[0]}`")
    return ["| with this mode | these mutants are noticed, and not without it | by |", "| --- | --- | --- |",
            *(f"| `{mode}` | {', '.join(names)} | {where} |" for mode, by in sorted(found.items())
              for where, names in by.items())]


def near(word: str, words: Iterable[str]) -> str:
    """What a mistyped word may have been, to say."""
    words = sorted(words)
    close = difflib.get_close_matches(word, words, 5, 0.5)
    return f"near it: {', '.join(close)}" if close else f"there are: {', '.join(w for w in words if '@' not in w)}"


def machine(name: str) -> configparser.SectionProxy:
    """The config of that name."""
    cfg = inventory()
    names = [section.removeprefix("config ") for section in cfg.sections() if section.startswith("config ")]
    if name not in names:
        sys.exit(f"error: there is no config '{name}'; {near(name, names)}")
    return cfg[f"config {name}"]


def jobs(cfg: configparser.ConfigParser, only: list[str], long: bool = False) -> list[Job]:
    """All jobs of the default, or those that a word of ONLY names. An unknown word is an error."""
    found, unknown, known = [], set(only), set[str]()
    apart = {"nodefault"} if long else {"nodefault", "long"}
    for section in cfg.sections():
        if section.startswith(("config ", "axis ")) or section in ("machines", "mutants", "reverts"):
            continue
        name, _, mutant = section.partition(" ")
        test = cfg[section]
        if test.get("untested"):
            continue
        for config in [mutant] if mutant else test.get("configs", "host").split():
            machine = None if config == "host" else cfg[f"config {config if not mutant else test['config']}"]
            words = {name, config, f"{name}@{config}", *test.get("groups", "").split(),
                     *(machine.get("groups", "").split() if machine else [])}
            if words & set(only) or not only and not words & apart:
                found.append(Job(name, config, test, machine))
            unknown -= words
            known |= words
    for word in sorted(unknown):
        sys.exit(f"error: there is no test, group or config '{word}'; {near(word, known)}")
    return found


def parse_ktap(lines: list[tuple[float, str]]) -> tuple[list[tuple[str, str, float, str]], str]:
    """The cases of a KTAP stream with their times, and what is wrong with it as a whole.

    The parser is the kernel's own (tools/testing/kunit), which knows plans,
    nesting and results out of order.
    """
    kunit = str(vm.LINUX / "tools/testing/kunit")
    if kunit not in sys.path:
        sys.path.append(kunit)
    parser = importlib.import_module("kunit_parser")
    printer = importlib.import_module("kunit_printer").Printer(print=False)
    text = [line for _, line in lines]
    root = parser.parse_run_tests(text, printer)
    at = [t for t, line in lines if RESULT.match(line.strip())]
    spent = iter([b - a for a, b in zip([lines[0][0] if lines else 0.0, *at], at)])
    why = {m[1].strip(): m[2] for m in (re.search(r"ok \d+ (?:- )?(.*?) ?# SKIP ?(.*)", l) for l in text) if m}
    cases: list[tuple[str, str, float, str]] = []
    errors: list[str] = [str(root.counts.errors) + " KTAP errors"] if root.counts.errors else []

    def walk(test: Any, prefix: str) -> None:
        name = f"{prefix}.{test.name}" if prefix else test.name
        if test.subtests:
            for sub in test.subtests:
                walk(sub, name if test is not root else "")
            next(spent, 0.0)    # the suite's own line
            return
        seconds = next(spent, 0.0)
        if test.status == parser.TestStatus.SUCCESS:
            cases.append((name, "passed", seconds, ""))
        elif test.status == parser.TestStatus.SKIPPED:
            cases.append((name, "skipped", seconds, why.get(test.name, "no reason given")))
        else:
            cases.append((name, "failed", seconds, "\n".join(test.log[-6:])))

    walk(root, "")
    if not any(re.match(r"\s*1\.\.\d+", line) for line in text):
        errors.append("no KTAP plan")
    if not cases:
        errors.append("no test ran")
    return cases, "; ".join(errors)


def listed(job: Job, key: str, name: str) -> str:
    """Why the inventory lists this case under key on this config; empty if it does not."""
    return next((why for pattern, why in job.rules(key) if re.fullmatch(pattern, name)), "")


def judge(job: Job, cases: list[tuple[str, str, float, str]]) -> list[Case]:
    """Apply what the inventory expects: negative controls, and skips with a reason."""
    out = []
    for name, result, seconds, detail in cases:
        if result == "skipped" and (job.negative or not listed(job, "skips", name)):
            result, detail = "failed", f"unexpected skip: {detail}"
        elif result == "failed" and (why := listed(job, "broken", name)):
            result, detail = "skipped", f"broken upstream: {why}"
        elif job.negative and not listed(job, "unaffected", name):
            if result == "passed":
                result, detail = "failed", "a negative control that did not fail"
            else:
                result, detail = "passed", ""
        out.append((name, result, seconds, detail))
    return job.cases(out)


def unannounced(job: Job, result: vm.Result) -> list[str]:
    """Complaints of the kernel or of QEMU that this test does not provoke on purpose."""
    usual = [job.test["usual"], *([job.test["garbage"]] if job.negative else [])]
    known = [re.compile(pattern) for pattern in (*usual, *(p for p, _ in job.rules("announced")))]
    return [line for line in result.complaints if not any(k.fullmatch(line) for k in known)]


def deaf(job: Job, result: vm.Result) -> str:
    """Whether each SMMU that tests.cfg says listens did drop entries by broadcast, and no other."""
    assert job.machine
    listens = job.machine["listens"].split()
    drops = {bus: counters["drop-broadcast"] for bus, counters in result.smmus.items()}
    choices: dict[str, list[str]] = {"all": list(drops), "first": [job.machine["first"]], "none": []}
    used = choices[job.test["smmus"]]
    wrong = [f"that of {bus} dropped {n} entries by broadcast" for bus, n in sorted(drops.items())
             if (not n and bus in listens and bus in used) or (n and bus not in listens)]
    wrong += [f"there is none for {bus}" for bus in listens if bus not in drops]
    return f"SMMUs that listen: {listens or 'none'}; " + ", ".join(wrong) if wrong else ""


# What the kernel's log says of each way to be told of the machine, and what only the other one says
DESCRIBED = {"dt": (r"Machine model: linux,dummy-virt\b", r"ACPI: IORT 0x"),
             "acpi": (r"ACPI: IORT 0x", r"Machine model: ")}


def described(firmware: str, console: str) -> str:
    """Why this boot was not described by what tests.cfg says of the machine; empty if it was."""
    wanted, other = DESCRIBED[firmware]
    if not re.search(wanted, console):
        return f"firmware = {firmware}, but the kernel did not log: {wanted}"
    return f"firmware = {firmware}, but the kernel logged: {other}" if re.search(other, console) else ""


def noticed(result: vm.Result, complained: list[str]) -> tuple[str, str]:
    """How a mistake showed, and what said so. A failed assertion counts before what else there is."""
    since: list[str] = []
    for _, line in result.lines:
        if match := NOTICED.match(line):
            return ("crash" if any(ENDED.search(l) for l in since) else "assertion"), f"{match[1]} fails"
        since = [] if RESULT.match(line.strip()) else [*since, line]
    if result.error.startswith("kernel in trouble"):
        return "splat", result.error
    if complained:
        return "complaint", complained[0]
    if result.error.startswith("timeout"):
        return "hang", result.error
    return "", result.error


REVERTING = threading.Lock()


def run_revert(job: Job, verbose: bool) -> list[Case]:
    """Build and boot the series without one of its fixes. The test that is to notice it has to."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sva-btm-") as tmp:
        with REVERTING:
            done = subprocess.run([str(vm.TOP / "testbed/bin/build"), "reverted", job.config], cwd=vm.TOP, text=True,
                                  stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode:
                return job.failed(job.config, done.stderr[-2000:], time.monotonic() - start)
            kernel = shutil.copy(done.stdout.split()[-1], tmp)
        return run_mutant(job, verbose, kernel)


def run_mutant(job: Job, verbose: bool, reverted: str = "") -> list[Case]:
    """Boot the kernel with one mistake in it. The test that is to notice it has to, by a failed assertion.

    NAME/MODE is the same with a mode of the SMMU turned off: then the test must not notice.
    NAME+TEST is another test that has to notice NAME.
    """
    assert job.machine
    mutant, _, mode = ("", "", "") if reverted else re.sub(r"\+\w+", "", job.config).partition("/")
    catcher = Job(job.test["caught_by"], job.test["config"], job.test.parser[job.test["caught_by"]], job.machine)
    append = ["kunit.enable=0", job.machine["append"], catcher.test["append"]]
    if not reverted:
        append.append(f"arm_smmu_v3.mutant={mutant}")
    result = vm.run(job.label.replace("/", "_"), f"{job.machine['qemu']} {job.test.get('without', '')}",
                    reverted or job.machine["kernel"], " ".join(append),
                    environment(job) + catcher.test["run"] + "\n", catcher.test.getfloat("timeout"), verbose,
                    until=NOTICED)
    how, what = noticed(result, unannounced(catcher, result))
    if mode:
        why = f"{how} without {mode} as well: {what}" if how else result.error
        return job.cases([(job.config, "failed" if why else "passed", result.seconds,
                           why or f"{catcher.name} does not notice without {mode}")])
    expected, _, _ = job.test["shows"].partition(" : ")
    if how and how == expected:
        return job.cases([(job.config, "passed", result.seconds, f"{how}: {what}")])
    if how:
        return job.failed(job.config, f"no {expected}, but {how}: {what}", result.seconds)
    return job.failed(job.config, what or f"{catcher.name} did not notice", result.seconds)


def environment(job: Job) -> str:
    """What a test in the guest cannot know by itself: the machine's description."""
    assert job.machine
    return (f"export SVA_LISTENS='{' '.join(f'{REGISTERS[s]:x}' for s in job.machine['listens'].split())}'\n"
            f"export SVA_CONFIG={job.machine.name.removeprefix('config ')}\n"
            f"export SVA_BTM={shlex.quote(job.machine.get('btm', ''))}"
            f" SVA_CHECKED={shlex.quote(job.machine.get('checked', ''))}\n")


def audited(job: Job, result: vm.Result) -> list[Case]:
    """Nothing stale may be left in the SMMUs, and nothing may have been forgotten for want of room."""
    audit = result.audit
    if not audit:
        return []
    row: dict[str, Any] = {"suite": job.name, "config": job.config, **{name: audit[name] for name in AUDITED}}
    # What testbed/guest/strangers says at its end
    if match := re.search(r'"differs_from_unbound": (\d+)', "\n".join(result.text())):
        row["differs_from_unbound"] = int(match[1])
    audits.append(row)
    wrong = {name: audit[name] for name in ("stale", "dropped_full") if audit[name]}
    if not wrong or job.negative:
        return []
    return job.failed("audit", f"the SMMUs' caches: {wrong}; QEMU lists what is stale on the console", result.seconds)


def run_guest(job: Job, verbose: bool) -> list[Case]:
    assert job.machine
    if job.name == "mutant":
        return run_mutant(job, verbose)
    if job.name == "revert":
        return run_revert(job, verbose)
    kernel = job.machine["kernel"]
    append = " ".join(["kunit.enable=0", job.machine["append"], job.test["append"]])
    result = vm.run(f"{job.name}@{job.config}", job.machine["qemu"], kernel, append,
                    environment(job) + job.test["run"] + "\n", job.test.getfloat("timeout"), verbose,
                    guest=job.machine["guest"])
    lines = [(t, l) for t, l in result.lines if not vm.FINISHED.match(l)]
    cases, wrong = parse_ktap(lines)
    error = result.error
    if error.startswith("the guest's commands ended") and any(r == "failed" for _, r, _, _ in cases):
        error = ""      # said case by case
    out = judge(job, cases) + audited(job, result)
    console = result.console.read_text(errors="replace").replace("\r", "")
    said = f"broadcast TLB maintenance {job.machine['btm']}\n"
    if job.machine["btm"] and said not in console:
        out += job.failed("log", f"the kernel did not log: {said}", result.seconds)
    if why := described(job.machine["firmware"], console):
        out += job.failed("firmware", why, result.seconds)
    if complained := unannounced(job, result):
        out += job.failed("complaints", f"{len(complained)} that were not announced:\n" + "\n".join(complained[:12]),
                          result.seconds)
    if not error and (why := deaf(job, result)):
        out += job.failed("broadcasts", why, result.seconds)
    if error or wrong:
        why = "; ".join(filter(None, (error, wrong)))
        out += job.failed("boot", f"{why}\n  end of {result.console}:\n{vm.tail(result.console)}", result.seconds)
    return out


class _Collector(unittest.TestResult):
    """unittest's results as cases."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, str, float, str]] = []
        self.began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.began = time.monotonic()

    def row(self, test: unittest.TestCase, result: str, detail: str = "") -> None:
        self.rows.append((test.id(), result, time.monotonic() - self.began, detail))

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.row(test, "passed")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.row(test, "failed", self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.row(test, "failed", self.errors[-1][1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.row(test, "skipped", reason)


def run_host(job: Job, verbose: bool) -> list[Case]:
    what = job.test["host"]
    if what.startswith("unittest:"):
        collector = _Collector()
        unittest.defaultTestLoader.discover(str(vm.TOP / what.partition(":")[2])).run(collector)
        return judge(job, collector.rows) or job.failed("tests", "no test ran", 0)
    env = dict(os.environ, QTEST_QEMU_BINARY=str(vm.QEMU), QTEST=str(vm.QEMU_OBJ / "tests/qtest"))
    if verbose:
        print("+", what, flush=True)
    start = time.monotonic()
    try:
        done = subprocess.run(["bash", "-c", what], cwd=vm.TOP, env=env, timeout=job.test.getfloat("timeout"),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except subprocess.TimeoutExpired as e:
        return job.failed("run", f"timeout after {e.timeout:.0f} s", e.timeout)
    seconds = time.monotonic() - start
    lines = done.stdout.splitlines()
    if not any("TAP version" in line for line in lines):
        lines.insert(0, "TAP version 13")       # GLib prints none
    cases, wrong = parse_ktap([(0.0, line) for line in lines])
    cases = [(c, r, seconds / len(cases), d) for c, r, _, d in cases]
    out = judge(job, cases)
    if wrong or (done.returncode and not any(c.result == "failed" for c in out)):
        out += job.failed("run", f"exit status {done.returncode}; {wrong}\n" +
                          "\n".join(lines[-15:]), seconds)
    return out


def run(job: Job, verbose: bool) -> list[Case]:
    try:
        return run_guest(job, verbose) if job.machine else run_host(job, verbose)
    except OSError as e:
        return job.failed("run", str(e), 0)


def summary(job: Job, cases: list[Case], done: int, total: int, seconds: float) -> str:
    count = {r: sum(c.result == r for c in cases) for r in ("passed", "failed", "skipped")}
    text = ", ".join(f"{n} {r}" for r, n in count.items() if n)
    return f"[{done:2}/{total}] {'FAIL' if count['failed'] else 'ok  '} {job.label:34} {text} ({seconds:.1f} s)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--times", action="store_true", help="what each step took, before the last line")
    parser.add_argument("--long", action="store_true", help="what takes long as well")
    parser.add_argument("--list", action="store_true", help="what there is, and stop")
    parser.add_argument("--tables", action="store_true", help="the tables in README.md of machines and modes, and stop")
    parser.add_argument("--image", metavar="FILE", help="boot this kernel instead of those in tests.cfg")
    parser.add_argument("--shell", metavar="KERNEL", help="a prompt in the guest instead of tests")
    parser.add_argument("--gdb", metavar="KERNEL", help="the same, waiting for gdb")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, help="guests at once")
    args = parser.parse_args()
    if kernel := args.shell or args.gdb:
        config = machine(kernel)
        return vm.interactive(config["qemu"], config["kernel"], f"kunit.enable=0 {config['append']}", bool(args.gdb),
                              config["guest"])
    if args.tables:
        print("\n".join([*matrix(inventory()), "", *modes(inventory())]))
        return 0
    todo = jobs(inventory(), args.only, args.long)
    if args.image:
        if not Path(args.image).is_file():
            sys.exit(f"error: {args.image} is no file")
        for config in filter(None, (job.machine for job in todo)):
            config["kernel"] = args.image
    if args.list:
        for job in todo:
            what = job.test.get("run") or job.test.get("host") or f"caught by {job.test['caught_by']}"
            print(f"{job.label:34} {job.test.get('groups', ''):16} {what}")
        return 0
    print(f"==> {len(todo)} tests, {args.j} at once (logs: {shlex.quote(str(vm.BUILD / 'log/guest'))})", flush=True)
    cases: list[Case] = []
    # Unit tests redirect sys.stdout for a while, in a thread
    say = functools.partial(print, file=sys.stdout, flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        begun: dict[str, float] = {}

        def timed(job: Job) -> list[Case]:
            begun[job.label] = time.monotonic()
            return run(job, args.verbose)

        # The longest first, or one of them is left over in the end
        todo.sort(key=lambda job: -job.test.getfloat("timeout"))
        futures = {pool.submit(timed, job): job for job in todo}
        for n, future in enumerate(concurrent.futures.as_completed(futures), 1):
            job, got = futures[future], future.result()
            cases += got
            say(summary(job, got, n, len(todo), time.monotonic() - begun[job.label]))
            for case in got:
                if case.result == "failed":
                    say(f"        {case.case}: " + case.detail.replace("\n", "\n        "))
                elif case.result == "skipped":
                    say(f"        skipped {case.case}: {case.detail}")
    ran = {(c.suite, c.config) for c in cases}
    report.write("audit.json", audits, ran)
    report.write("tests.json", [dataclasses.asdict(c) for c in cases], ran)
    # Again, in short: what a CI keeps of its log may be the end alone
    for case in cases:
        if case.result == "failed":
            print(f"FAILED {case.suite}@{case.config} {case.case}: {case.detail[-400:]}")
    # Negative controls left out, which are to have something stale
    negative = {(job.name, job.config) for job in todo if job.negative}
    counted = [row for row in audits if (row["suite"], row["config"]) not in negative]
    print(f"audits of {len(counted)} guests: "
          + ", ".join(f"{sum(row[name] for row in counted)} {name}" for name in AUDITED))
    count = {r: sum(c.result == r for c in cases) for r in ("passed", "failed", "skipped")}
    print(report.REPORT / "index.html", flush=True)
    if args.times:
        subprocess.run([vm.TOP / "testbed/bin/setup", "times"], check=True)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
