# SPDX-License-Identifier: GPL-2.0-or-later
"""Wrong input to make: an error that says what was meant, and nothing is begun."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
# For each target: what is wrong whatever the target
ANYWHERE = [
    (["LINUKS=/"], r"no variable 'LINUKS'; near it: LINUX"),
    (["X=1"], r"no variable 'X'; there are: .*ONLY"),
    (["LINUX=/nonexistent"], r"LINUX=/nonexistent is not a directory"),
    (["LINUX=."], r"LINUX=\. is not Linux 7\.3 or later"),
    (["QEMU_SRC=testbed"], r"QEMU_SRC=testbed has no VERSION"),
    (["DISTFILES=Makefile"], r"DISTFILES=Makefile is not a directory"),
    (["DISTFILES=a b"], r"blanks in a path"),
    (["JOBS=0"], r"JOBS=0 is not a number above 0"),
    (["SVA_BTM_CACHE=Makefile/x"], r"SVA_BTM_CACHE=Makefile/x: .*Makefile is not a directory"),
]
WORDS = [
    (["tset"], r"no target 'tset'; near it: test"),
    (["kernel-sereis"], r"no target 'kernel-sereis'; near it: .*kernel-series"),
    (["demo", "tset"], r"no target 'tset'"),
    (["test", "ONLY=sva_basc"], r"'sva_basc'; near it: sva_basic"),
    (["test", "ONLY=sva_basic typo"], r"'typo'"),
    (["test", "ONLY=sva_move@series-on"], r"'sva_move@series-on'; near it: sva_move@series-on-asid8"),
    (["test", "ONLY=it's; $(exit)"], r"no test, group or config"),
    (["test", "KERNEL=series"], r"KERNEL= is for make shell, gdb; make test takes ONLY="),
    (["try"], r"make try T="),
    (["try", "T=sva_basic@sereis-on"], r"near it: sva_basic@series-on"),
    (["shell", "KERNEL=sereis-on"], r"no config 'sereis-on'; near it: series-on"),
    (["shell", "KERNEL="], r"no config ''"),
    (["gdb", "KERNEL=sva_basic"], r"no config 'sva_basic'"),
    (["mails", "VERSION=two"], r"VERSION=two is not a number"),
    (["mails", "SERIES=testdev"], r"SERIES=testdev: .* are for no list"),
    (["mails", "SERIES=fixes bmt"], r"no posting 'bmt'; near it: btm"),
    (["mails", "AUTHOR=me@example.org"], r"AUTHOR=me@example.org is not 'Name <mail>'"),
    (["rebase"], r"make rebase ONTO=DIR says"),
    (["rebase", "ONTO=/nonexistent"], r"ONTO=/nonexistent is not a directory"),
    (["rebase", "ONTO=testbed"], r"ONTO=testbed has no Makefile"),
    (["refresh", "ONTO=."], r"ONTO= is for make rebase"),
    (["demo", "SERIES=btm"], r"SERIES= is for make mails"),
]


class Inputs(unittest.TestCase):
    def make(self, *words):
        with tempfile.TemporaryDirectory(prefix="test-inputs-") as name:
            env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in (
                "ONLY", "T", "KERNEL", "SERIES", "AUTHOR", "VERSION", "ONTO")}
            env |= {"SVA_BTM_CACHE": f"{name}/cache", "BUILD": f"{name}/build"}
            done = subprocess.run(["make", "-C", TOP, *words], env=env, capture_output=True, text=True, timeout=60,
                                  check=False)
            self.assertEqual(os.listdir(name), [], f"make {words} began something")
        return done

    def refused(self, words, says):
        with self.subTest(words=words):
            done = self.make(*words)
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, f"(?m)^error: .*{says}")
            self.assertNotIn("Traceback", done.stderr)
            self.assertRegex(done.stderr.splitlines()[-1], r"Nothing was done\.  Stop\.$")
            self.assertEqual(len(done.stderr.splitlines()), 2, done.stderr)

    def test_every_target(self):
        goals = self.make("-pn", "help").stdout.partition("\nGOALS := ")[2].splitlines()[0].split()
        self.assertIn("demo", goals)
        targets = [g for g in goals if g not in ("help", "clean") and not g.startswith("kernel-") or g == "kernel-series"]
        for number, target in enumerate(targets):
            # All of them with one target, one with each other
            for words, says in ANYWHERE if not number else [ANYWHERE[number % len(ANYWHERE)]]:
                self.refused([target, *words], says)

    def test_words(self):
        for words, says in WORDS:
            self.refused(words, says)

    def test_right_input(self):
        """The control: what is right passes, and says what it needs."""
        for words, needs in ((["test", "ONLY=sva_basic@series-on"], "guest kernel-series qemu"),
                             (["try", "T=qtest-btm sva_basic@debug"], "guest kernel-debug qemu qtests"),
                             (["gdb", "KERNEL=series-on"], "guest kernel-series-gdb qemu"),
                             (["test", "ONLY=unit"], "tools")):
            done = self.make("-pn", *words)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual([line for line in done.stdout.splitlines() if line.startswith("NEEDS")],
                             [f"NEEDS := {needs}"])


if __name__ == "__main__":
    unittest.main()
