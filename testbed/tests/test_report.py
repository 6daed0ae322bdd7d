# SPDX-License-Identifier: GPL-2.0-or-later
"""The reports say the same: one set of rows as JSON, KTAP, JUnit and HTML."""

import os
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import report  # noqa: E402


def row(suite, config, case, result, detail=""):
    return {"suite": suite, "case": case, "config": config, "result": result, "seconds": 1.0, "detail": detail}


ROWS = [row("sva_basic", "series-on", "bind", "passed"), row("sva_basic", "series-on", "odd", "skipped", "no <ATS>"),
        row("sva_basic", "debug", "bind", "failed", "want 1, got \x1b[1m<script>\nnot ok 7"),
        row("sva_once", "debug", "bind", "passed"), row("mutant", "inv_first", "inv_first", "passed", "noticed"),
        row("unit", "host", "x", "passed")]


class Page(HTMLParser):
    """Tags in their order, the text, and what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        self.text += data


class Report(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="test-report-")
        self.addCleanup(temp.cleanup)
        self.dir = Path(temp.name) / "report"
        patch = mock.patch.object(report, "REPORT", self.dir)
        patch.start()
        self.addCleanup(patch.stop)

    def test_rows_of_a_run_replace_theirs(self):
        report.write("tests.json", ROWS, set())
        again = [row("sva_basic", "debug", "bind", "passed")]
        report.write("tests.json", again, {("sva_basic", "debug")})
        self.assertEqual(report.read("tests.json"), [r for r in ROWS if r["result"] != "failed"] + again)
        self.assertNotIn("not ok", (self.dir / "tests.tap").read_text())

    def test_ktap(self):
        report.write("tests.json", ROWS)
        lines = (self.dir / "tests.tap").read_text().splitlines()
        self.assertEqual(lines[:2], ["KTAP version 1", "1..5"])
        self.assertIn("    ok 2 odd # SKIP no <ATS>", lines)
        # What a case says is no result
        self.assertEqual([line for line in lines if line.lstrip().startswith("not ok")],
                         ["    not ok 1 bind", "not ok 2 sva_basic@debug"])

    def test_junit(self):
        report.write("tests.json", ROWS)
        root = xml.etree.ElementTree.parse(self.dir / "junit.xml").getroot()
        self.assertEqual(sum(int(s.get("tests")) for s in root), len(ROWS))
        self.assertEqual([f.get("message") for f in root.iter("failure")], ["want 1, got ?[1m<script>\nnot ok 7"])
        self.assertEqual(len(list(root.iter("skipped"))), 1)

    def test_page(self):
        for name in ("demo", "audit"):
            report.write(f"{name}.json", [
                {"kernel": "series-on", "op": "munmap", "pages": 1, "bound": bound, "commands": 0.0, "instructions": n}
                for bound, n in ((False, 100.0), (True, 105.0))] if name == "demo" else [{"suite": "s", "stale": 0}])
        (self.dir / "cost-threads.svg").write_text("<svg/>")
        report.write("tests.json", ROWS)
        page = Page((self.dir / "index.html").read_text())
        self.assertEqual(page.open, ["html"][:len(page.open)])
        self.assertNotIn("script", [tag for tag, _ in page.tags])
        self.assertIn("<script>", page.text)
        self.assertIn("4 passed, 1 failed, 1 skipped in 5 tests", page.text)
        cells = {attrs["title"]: attrs["class"] for tag, attrs in page.tags if tag == "td" and "title" in attrs}
        self.assertEqual(cells, {"sva_basic@series-on": "some", "sva_basic@debug": "failed"})
        self.assertIn(("img", {"src": "cost-threads.svg", "alt": "cost-threads"}), page.tags)
        self.assertIn("100 \N{RIGHTWARDS ARROW} 105 (\N{MULTIPLICATION SIGN}1.05)", page.text)
        links = [attrs["href"][1:] for tag, attrs in page.tags if tag == "a"]
        self.assertEqual(links, [attrs["id"] for tag, attrs in page.tags if tag == "h2"])

    def test_nothing_yet(self):
        report.write("audit.json", [])
        self.assertIn("0 passed", (self.dir / "index.html").read_text())

    def test_disk_full_leaves_the_old(self):
        report.write("tests.json", ROWS)
        before = (self.dir / "tests.json").read_bytes()
        with mock.patch.object(Path, "replace", side_effect=OSError(28, os.strerror(28))), self.assertRaises(OSError):
            report.write("tests.json", [])
        self.assertEqual((self.dir / "tests.json").read_bytes(), before)


if __name__ == "__main__":
    unittest.main()
