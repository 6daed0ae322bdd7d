# SPDX-License-Identifier: GPL-2.0-or-later
"""tests.cfg, and how run.py judges: what would let a test pass that noticed nothing."""

from __future__ import annotations

import configparser
import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import run  # pylint: disable=wrong-import-position
import vm  # pylint: disable=wrong-import-position

LISTS = ("unaffected", "skips", "broken", "announced")
SHOWS = ("assertion", "splat", "complaint", "crash", "hang")
KEYS = {"host", "run", "configs", "timeout", "groups", "append", "negative", "caught_by", "config", "shows",
        "smmus", "untested", "without", "default", *run.MACHINE, *LISTS}


class Inventory(unittest.TestCase):
    """The lines of tests.cfg."""

    def setUp(self) -> None:
        self.cfg = run.inventory()
        self.machines = {s.removeprefix("config ") for s in self.cfg.sections() if s.startswith("config ")}
        self.tests = [s for s in self.cfg.sections() if " " not in s and s not in ("machines", "mutants", "reverts")]
        self.mutants = [s for s in self.cfg.sections() if s.startswith("mutant ")]

    def configs(self, test: str) -> list[str]:
        return self.cfg[test].get("configs", "host").split()

    def in_readme(self, table: list[str]) -> None:
        if "\n".join(table) not in (vm.TOP / "testbed/README.md").read_text():
            self.fail("testbed/run.py --tables prints the tables as README.md there should have them")

    def test_keys_are_known(self) -> None:
        known = KEYS | set(self.cfg.defaults())
        for section in set(self.cfg.sections()) - {"machines", "mutants", "reverts"}:
            self.assertLessEqual(set(self.cfg[section]), known, section)

    def test_configs_exist(self) -> None:
        for test in self.tests:
            self.assertLessEqual(set(self.configs(test)), self.machines | {"host"}, test)
            self.assertLessEqual(set(self.cfg[test]["negative"].split()), set(self.configs(test)), test)
            self.assertIn(self.cfg[test]["smmus"], ("first", "all", "none"), test)

    def test_qtests_are_run(self) -> None:
        """Each that the QEMU series has."""
        series = (Path(__file__).resolve().parent.parent / "qemu/series").read_text(encoding="utf-8")
        qtests = re.search(r"^#qtest: (.*)$", series, re.MULTILINE)
        assert qtests
        hosts = " ".join(self.cfg[test].get("host", "") for test in self.tests)
        for name in qtests[1].split():
            self.assertIn(f'"$QTEST/{name}"', hosts)

    def test_lists(self) -> None:
        """Each line has a reason and a pattern, and names machines of the test only."""
        for test in self.tests:
            for key in LISTS:
                for pattern, configs, why in run.rules(self.cfg[test], key):
                    with self.subTest(test=test, key=key, pattern=pattern):
                        re.compile(pattern)
                        self.assertTrue(why)
                        self.assertLessEqual(set(configs) - {"*"}, set(self.configs(test)))

    def test_skips_name_their_machines(self) -> None:
        for test in self.tests:
            negative = set(self.cfg[test]["negative"].split())
            for pattern, configs, _ in run.rules(self.cfg[test], "skips"):
                self.assertTrue(configs, f"{test}: {pattern}")
                self.assertFalse(negative & set(configs), f"{test}: a negative control may not skip {pattern}")

    def test_machines(self) -> None:
        """None is another by a second name, but for what the kernel has to say there; README.md has them."""
        found: dict[tuple[str, ...], str] = {}
        words = {word for _, *words in run.axes(self.cfg).values() for word in words}
        for name, line in run.lines(self.cfg, "machines").items():
            words -= set(line.partition(":")[0].split())
            machine = self.cfg[f"config {name}"]
            same = found.setdefault((*(machine[key] for key in ("kernel", "qemu", "append", "guest", "btm")),), name)
            self.assertEqual(name, same)
        self.assertEqual(set(), words, "words that no machine has")
        self.in_readme(run.matrix(self.cfg))

    def test_words(self) -> None:
        """What they add up to, and what is refused."""
        text = ("[axis a one]\ndefault = yes\nqemu = -1\nbtm = on\nlistens = x\n[axis a two]\nqemu = -2\n"
                "[axis b three]\nqemu = -3%\nlistens =\n[axis b four]\n{axis}[mutants]\n[reverts]\n[machines]\nm = {words}: why\n")
        for words, qemu, btm, listens in (("", "-1", "on", "x"), ("two", "-2", "", ""), ("three", "-1 -3%", "on", ""),
                                          ("three two", "-2 -3%", "", "")):
            got = run.inventory(text.replace("%", "%%").format(axis="", words=words))["config m"]
            self.assertEqual((qemu, btm, listens), (got["qemu"], got["btm"], got["listens"]), words)
        for axis, words in (("", "five"), ("", "one two"), ("[axis c one]\n", ""), ("[axis a five]\ndefault = yes\n", "")):
            with self.assertRaises(SystemExit):
                run.inventory(text.replace("%", "%%").format(axis=axis, words=words))

    def test_firmware(self) -> None:
        """ACPI takes firmware and a kernel with ACPI; what is asserted of it is what the machine has."""
        for name in self.machines:
            machine = self.cfg[f"config {name}"]
            acpi = "-bios" in machine["qemu"]
            self.assertEqual("acpi" if acpi else "dt", machine["firmware"], name)
            self.assertTrue(not acpi or machine["kernel"] == "server", name)

    def test_listening_smmus_exist(self) -> None:
        for name in self.machines:
            machine = self.cfg[f"config {name}"]
            listens = machine["listens"].split()
            self.assertLessEqual(set(listens), set(run.REGISTERS), name)
            for bus in set(listens) - {"pcie.0"}:
                self.assertIn(f"primary-bus={bus}", machine["qemu"], name)
            if "x-btm-deaf-" in machine["qemu"]:    # it hears the rest, and is not relied on for that
                self.assertTrue(listens, name)
            elif "x-btm-deaf=on" in machine["qemu"] or machine["btm"].startswith("off"):
                self.assertFalse(listens, name)
            elif machine["btm"] == "on":
                self.assertTrue(listens, name)

    def test_mutants_are_all_listed(self) -> None:
        made = set()
        for patch in (vm.TOP / "testbed/mutants").glob("*.patch"):
            added = "".join(l for l in patch.read_text().splitlines(True) if l.startswith("+"))
            made |= set(re.findall(r"\bMUTANT\((\w+)\)", added)) - {"name"}
        self.assertEqual(made, {re.split("[/+]", s.split()[1])[0] for s in self.mutants})

    def test_modes_matter(self) -> None:
        """Each mode that is on in every machine, and HTTU, has a mutant noticed thanks to it. README.md here says which."""
        table = run.modes(self.cfg)
        self.in_readme(table)
        judge = set(re.findall(r"arm-smmuv3\.(x-[\w-]+)", self.cfg["DEFAULT"]["judge"])) | {"httu"}
        shown = {row.split("`")[1] for row in table[2:]}
        self.assertEqual(judge - shown, {
            "x-iotlb-size",     # a run fails if room is wanting
            "x-counters",       # changes nothing
            "x-unprivileged",   # only CPUs with FEAT_PAN3 have pages that the kernel can read and a process cannot
        })

    def test_mutants_have_a_control(self) -> None:
        """What notices a mistake runs on that machine without one as well, where it must pass.

        The debug kernel with mistakes to turn on is built for them alone: debug is the control.
        """
        for section in self.mutants:
            mutant = self.cfg[section]
            if mutant.get("untested"):
                continue
            with self.subTest(section):
                self.assertIn(mutant["config"].replace("mutants-debug", "debug"), self.configs(mutant["caught_by"]))
                self.assertTrue(self.cfg[f"config {mutant['config']}"]["kernel"].startswith("mutants"))
                shows, _, why = mutant["shows"].partition(" : ")
                self.assertIn(shows, SHOWS)
                self.assertTrue(shows == "assertion" or why.strip())

    def test_reverts_by_hand_belong_to_a_fix(self) -> None:
        named = {Path(s).name for s in self.cfg.sections() if s.startswith("revert ")}
        self.assertLessEqual({p.name for p in (vm.TOP / "testbed/reverts").glob("*")}, named)

    def test_fixes_have_a_test(self) -> None:
        """Each patch with a Fixes: tag has a test that fails without it, or says why there is none."""
        patches = [l for l in (vm.TOP / "series").read_text().split("\n") if l and not l.startswith("#")]
        fixes = {p for p in patches if re.search(r"^Fixes: ", (vm.TOP / p).read_text(), re.MULTILINE)}
        reverts = {s.removeprefix("revert "): self.cfg[s] for s in self.cfg.sections() if s.startswith("revert ")}
        self.assertLessEqual(fixes, set(reverts))
        self.assertLessEqual(set(reverts), set(patches))
        for patch, revert in reverts.items():
            with self.subTest(patch):
                if not revert.get("untested"):
                    self.assertIn(revert["config"], self.configs(revert["caught_by"]))
                    self.assertFalse(self.cfg[f"config {revert['config']}"]["kernel"].startswith("mutants"))


def result(lines: str, error: str = "", complaints: list[str] | None = None) -> vm.Result:
    return vm.Result(error, [(0.0, line) for line in lines.splitlines()], Path(), 1.0, {}, complaints or [], {})


def job(config: str = "a", listens: str = "", **keys: str) -> run.Job:
    cfg = configparser.ConfigParser()
    cfg.read_dict({"DEFAULT": {"negative": "", "listens": "", "smmus": "first", "usual": "fine",
                               "garbage": "QEMU: bad.*", **{k: "" for k in LISTS}},
                   "test": keys, "config a": {"listens": listens, "first": "pcie.0"}})
    return run.Job("test", config, cfg["test"], cfg["config a"])


class Judge(unittest.TestCase):
    """run.py and vm.py, of what a guest left behind."""

    def test_skips(self) -> None:
        cases = [("x.y", "skipped", 0.0, "no reason")]
        for config, rules, want in (("a", "", "failed"), ("a", "x\\.y @ a : why", "skipped"),
                                    ("b", "x\\.y @ a : why", "failed"), ("a", "x @ a : why", "failed")):
            self.assertEqual(want, run.judge(job(config, skips=rules), cases)[0].result, rules)

    def test_a_negative_control_neither_passes_nor_skips(self) -> None:
        for said, want in (("passed", "failed"), ("skipped", "failed"), ("failed", "passed")):
            got = run.judge(job(negative="a", skips="x : why"), [("x", said, 0.0, "")])
            self.assertEqual(want, got[0].result, said)

    def test_races_of_others(self) -> None:
        line = "<3>[    5.1] " + 66 * "=" + "\n"
        report = line + "<3>[    5.1] BUG: KCSAN: data-race in {}\n<3>[    5.1] write to 0xffff by task 1\n" + line
        others, ours = report.format("vfs_read / vfs_write"), report.format("vfs_read / arm_smmu_invs_publish")
        self.assertEqual("", vm.RACE.sub("", others + others))
        left = vm.RACE.sub("", others + ours + others)
        self.assertEqual(ours, left)
        self.assertTrue(vm.SPLAT.search(left))

    def test_complaints(self) -> None:
        console = ("<6>[    0.1] fine\n<3>[    1.2] anything: at all\r\n<4>[    1.3] other: not ours\n"
                   "<4>[    1.4] arm-smmu-v3 9050000.smmuv3: unexpected global error reported\n<11>[    2.0] user\n"
                   "<2>[   10.5][  T12] arm-smmu-v3 9050000.smmuv3: CMD_SYNC timeout\n")
        said = vm.complaints(console, "bad thing\n")
        self.assertEqual(4, len(said), said)
        self.assertEqual(said, run.unannounced(job(), result("", complaints=said)))
        rest = run.unannounced(job(announced="anything.* : why\nQEMU: bad thing @ a : why\nCMD_SYNC : why"),
                               result("", complaints=said))
        self.assertEqual(said[1:3], rest)
        self.assertEqual(said[:3], run.unannounced(job(negative="a"), result("", complaints=said)))

    def test_broadcasts(self) -> None:
        def said(listens: str, smmus: str, **drops: int) -> bool:
            got = result("")
            got.smmus = {b.replace("_", "."): {"drop-broadcast": n} for b, n in drops.items()}
            return not run.deaf(job(listens=listens, smmus=smmus), got)

        self.assertTrue(said("pcie.0", "first", pcie_0=1))
        self.assertFalse(said("pcie.0", "first", pcie_0=0))
        self.assertTrue(said("pcie.0", "none", pcie_0=0))
        self.assertFalse(said("", "none", pcie_0=1))
        self.assertTrue(said("pcie.0 rp1", "first", pcie_0=1, rp1=0))
        self.assertFalse(said("pcie.0 rp1", "all", pcie_0=1, rp1=0))
        self.assertFalse(said("pcie.0", "all", pcie_0=1, rp1=1))
        self.assertFalse(said("pcie.0 rp1", "first", pcie_0=1))

    def test_plug(self) -> None:
        """What a guest asks of QEMU is plugged as it was."""
        class Fake(vm.Qmp):
            """Keeps what it is to send."""

            def __init__(self) -> None:  # pylint: disable=super-init-not-called
                self.sent: list[tuple[str, dict[str, object]]] = []

            def send(self, name: str, **arguments: object) -> None:
                self.sent.append((name, arguments))

        qmp = Fake()
        for line in ("# qmp device_del f", "# qmp device_add f", "# qmp quit f", "device_add f"):
            if ask := vm.ASK.match(line):
                qmp.plug(ask[1], ask[2], ["-device", "port,id=rp", "-device", "dev,id=f,bus=rp,queues=128"])
        self.assertEqual([("device_del", {"id": "f"}),
                          ("device_add", {"driver": "dev", "id": "f", "bus": "rp", "queues": 128})], qmp.sent)

    def test_described(self) -> None:
        dt = "<6>[    0.0] Machine model: linux,dummy-virt\n"
        acpi = "<6>[    0.0] ACPI: IORT 0x000000007BDF0000 00012C (v03 BOCHS  BXPC     00000001 BXPC 00000001)\n"
        for firmware, console, want in (("dt", dt, True), ("dt", acpi, False), ("dt", "", False), ("dt", dt + acpi, False),
                                        ("acpi", acpi, True), ("acpi", dt, False), ("acpi", dt + acpi, False)):
            self.assertEqual(want, not run.described(firmware, console), (firmware, console))

    def test_noticed(self) -> None:
        """A mutant is noticed by an assertion; what else happens is called by its name."""
        bad = "# t.c:1:case:Expected 0 (0) == x (1)\nnot ok 2 a.case"
        for lines, error, complained, want in (
                (f"ok 1 a.first\n{bad}", "timeout: still running after 1 s", [], "assertion"),
                (f"ok 1 a.first\n{bad}", "kernel in trouble: BUG", [], "assertion"),
                ("    # x: EXPECTATION FAILED at a.c:3\n    not ok 1 x", "", [], "assertion"),
                ("# case: Test terminated by timeout\nnot ok 1 a.case", "", [], "crash"),
                ("# case: Test terminated unexpectedly by signal 11\nnot ok 1 a.case", "", [], "crash"),
                ("# case: Test terminated by timeout\nok 1 a.case\nnot ok 2 a.other", "", [], "assertion"),
                ("ok 1 a.first", "kernel in trouble: BUG", ["CMDQ error"], "splat"),
                ("ok 1 a.first", "timeout: still running after 1 s", [], "hang"),
                ("ok 1 a.first", "", ["CMDQ error"], "complaint"),
                ("ok 1 a.first", "QEMU exited with status 1", [], ""),
                ("sh: ./sva_none: not found", "the guest's commands ended with status 127", [], ""),
                ("ok 1 a.first", "", [], "")):
            self.assertEqual(want, run.noticed(result(lines, error), complained)[0], (lines, error))

    def test_verdict(self) -> None:
        done = [(1.0, "sva-btm: finished with status 0")]
        self.assertEqual("", vm.verdict(0, done, "", 5))
        for rc, lines, console in ((None, done, ""), (1, done, ""), (0, [], ""), (0, done, "KASAN: use after free"),
                                   (0, [(1.0, "sva-btm: finished with status 1")], "")):
            self.assertTrue(vm.verdict(rc, lines, console, 5))


if __name__ == "__main__":
    unittest.main()
