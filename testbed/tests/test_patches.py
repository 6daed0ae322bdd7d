# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool patches, on toy trees: both ways, to the byte, and what it refuses."""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent / "bin/patches"
sys.dont_write_bytecode = True  # not beside the tool
loader = importlib.machinery.SourceFileLoader("patches", str(TOOL))
spec = importlib.util.spec_from_loader("patches", loader)
assert spec
tool = sys.modules["patches"] = importlib.util.module_from_spec(spec)
loader.exec_module(tool)
sys.dont_write_bytecode = False

ENV = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A. Developer", "GIT_AUTHOR_EMAIL": "dev@example.org",
    "GIT_COMMITTER_NAME": "Somebody Else", "GIT_COMMITTER_EMAIL": "else@example.org",
    "GIT_AUTHOR_DATE": "2026-02-03T04:05:06+0200"}


def git(where, *args):
    return subprocess.run(["git", *args], cwd=where, env=ENV, check=True, capture_output=True, text=True).stdout.strip()


def put(root, files, mode=0o644):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        path.chmod(mode)


def lines(count, **changed):
    return "".join(changed.get(f"l{n}", f"line {n}") + "\n" for n in range(1, count + 1))


def snapshot(root):
    """Every file below root: content, mode and what a link points to."""
    return {str(p.relative_to(root)): (os.readlink(p) if p.is_symlink() else hashlib.sha256(p.read_bytes()).hexdigest(),
                                       p.lstat().st_mode)
            for p in sorted(root.rglob("*")) if not p.is_dir() or p.is_symlink()}


def commit(tree, subject, body="Why.\n\nAssisted-by: LLM", edit=None):
    put(tree, edit or {})
    git(tree, "add", "-A", "-f")
    git(tree, "commit", "-q", "-m", f"{subject}\n\n{body}")
    return git(tree, "rev-parse", "HEAD")


SRC = {
    "Makefile": "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n",
    "mm/mmap.c": lines(20),
    "drivers/Makefile": lines(8),
    "drivers/iommu/core.c": lines(60),
    "drivers/old.c": lines(5),
    "drivers/dos.c": b"one\r\ntwo\r\n",
    "logo.bin": bytes(range(256)),
    # All of what git could alter on the way in and out
    ".gitattributes": "*.c text eol=crlf ident\n*.bin text\n",
    # As Debian's kernel has it: every new file is ignored
    ".gitignore": "*.o\nignored/\n/*\n!/debian/\n",
    "ignored/kept.c": "$Id$\n",
}
FOO, HEADER, CORE, MMAP = "drivers/foo/foo.c", "include/uapi/foo.h", "drivers/iommu/core.c", "mm/mmap.c"


class SeriesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temp = tempfile.TemporaryDirectory(prefix="test-series-")
        cls.addClassCleanup(temp.cleanup)
        cls.home = Path(temp.name)
        cls.src, cls.base = cls.home / "src", cls.home / "base"
        put(cls.src, SRC)
        put(cls.src, {"tool.sh": "#!/bin/sh\n"}, 0o755)
        (cls.src / "link").symlink_to("Makefile")
        case = cls()
        case.dir, case.out = cls.home / "proto", cls.home / "proto-tree"
        case.run_ok("base", "--src", cls.src, "--repo", cls.base, "--message", "base")
        git(cls.base, "worktree", "add", "-q", "--detach", case.out, "base")
        commit(case.out, "mm: Say more", edit={MMAP: lines(20, l10="line ten")})
        put(case.out, {"drivers/foo/run.sh": "#!/bin/sh\n"}, 0o755)
        commit(case.out, "drivers: foo: Add a driver (really)", edit={
            FOO: "int foo;\n", HEADER: "#define FOO 1\n", "drivers/foo/empty": "",
            "drivers/Makefile": lines(8, l4="line 4\nobj-y += foo/")})
        (case.out / "drivers/old.c").unlink()
        commit(case.out, "iommu/core: Fix two places", edit={CORE: lines(60, l10="ten", l50="fifty")})
        case.run_ok("refresh", "--tree", case.out)
        cls.proto, cls.proto_tree = case.dir, case.out

    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="case-", dir=self.home)
        self.addCleanup(temp.cleanup)
        self.tmp = Path(temp.name)
        self.dir, self.out = self.tmp / "dir", self.tmp / "tree"
        shutil.copytree(self.proto, self.dir, symlinks=True)

    def call(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = tool.main(["--dir", str(self.dir), *map(str, args)])
        return status, out.getvalue(), err.getvalue()

    def run_ok(self, *args):
        status, out, err = self.call(*args)
        self.assertEqual((status, err), (0, ""))
        return out

    def run_bad(self, *args, says):
        status, _, err = self.call(*args)
        self.assertEqual(status, 1, "should have been refused")
        for line in err.splitlines():
            self.assertTrue(line.startswith("patches: error: "), err)
        self.assertRegex(err, says)
        return err

    def tree(self, *args):
        self.run_ok("tree", "--base", self.base, "--out", self.out, *args)
        return git(self.out, "rev-parse", "HEAD")

    def refuses(self, says, *args):
        """refresh refuses, and neither the repository nor the tree is touched."""
        before, head = snapshot(self.dir), git(self.out, "rev-parse", "HEAD")
        self.run_bad("refresh", "--tree", self.out, *args, says=says)
        self.assertEqual(snapshot(self.dir), before)
        self.assertEqual(git(self.out, "rev-parse", "HEAD"), head)

    def entries(self):
        return (self.dir / "series").read_text().split()

    def edit(self, path, old, new):
        text = (self.dir / path).read_text()
        self.assertIn(old, text)
        (self.dir / path).write_text(text.replace(old, new))


class RoundTrip(SeriesTest):
    def test_layout(self):
        self.assertEqual(self.entries(), ["mm/say-more.patch", "drivers/foo/add-a-driver-really.patch",
                                          "drivers/fix-two-places.patch"])
        text = (self.dir / "drivers/foo/add-a-driver-really.patch").read_text()
        self.assertTrue(text.startswith(
            "From: A. Developer <dev@example.org>\nDate: Tue, 3 Feb 2026 04:05:06 +0200\n"
            "Subject: drivers: foo: Add a driver (really)\n\nWhy.\n\nAssisted-by: LLM\n---\n"
            f"Adds: drivers/foo/empty\nAdds: {FOO}\nAdds: drivers/foo/run.sh\nAdds: {HEADER}\n\n"
            "diff --git a/drivers/Makefile b/drivers/Makefile\n--- a/drivers/Makefile\n"), text)
        self.run_ok("check")

    def test_unchanged_refresh_changes_no_byte(self):
        self.tree()
        before = snapshot(self.dir)
        times = {p: p.stat().st_mtime_ns for p in self.dir.rglob("*")}
        self.run_ok("refresh", "--tree", self.out)
        self.assertEqual(snapshot(self.dir), before)
        self.assertEqual({p: p.stat().st_mtime_ns for p in self.dir.rglob("*")}, times)

    def test_tree_is_what_was_committed(self):
        self.tree()
        trees = [git(t, "log", "--format=%T %an %ae %aI %B", "base..HEAD") for t in (self.out, self.proto_tree)]
        self.assertEqual(trees[0], trees[1])
        self.assertEqual(git(self.out, "log", "-1", "--format=%cn %ce %cI"),
                         "A. Developer dev@example.org 2026-02-03T04:05:06+02:00")
        self.assertEqual(git(self.out, "status", "--porcelain"), "")

    def test_same_input_same_hashes(self):
        head = self.tree()
        again = self.tmp / "base"
        self.run_ok("base", "--src", self.src, "--repo", again, "--message", "base")
        self.run_ok("tree", "--base", again, "--out", self.tmp / "other", "--branch", "topic")
        self.assertEqual(git(self.tmp / "other", "rev-parse", "topic"), head)
        self.assertEqual(git(self.tmp / "other", "symbolic-ref", "HEAD"), "refs/heads/topic")

    def test_user_configuration_does_not_matter(self):
        head = self.tree()
        config = self.tmp / "home/.gitconfig"
        put(self.tmp, {"home/.gitconfig": "[diff]\nnoprefix = true\ncontext = 1\n[core]\nautocrlf = true\nabbrev = 5\n"
                       "[apply]\nwhitespace = error-all\n[format]\nnumbered = false\n[i18n]\ncommitEncoding = latin1\n"})
        before = snapshot(self.dir)
        done = [subprocess.run([TOOL, "--dir", self.dir, *words], check=True, capture_output=True, env=ENV | {
            "GIT_CONFIG_GLOBAL": str(config), "HOME": str(config.parent), "GIT_DIR": "/nonexistent"}).returncode
            for words in (["tree", "--base", self.base, "--out", self.out], ["refresh", "--tree", self.out])]
        self.assertEqual(done, [0, 0])
        self.assertEqual(snapshot(self.dir), before)
        self.assertEqual(git(self.out, "rev-parse", "HEAD"), head)

    def test_part_of_the_series(self):
        self.tree("--only", "add-a-driver-really.patch")
        self.assertEqual(git(self.out, "log", "--format=%s", "base..HEAD"), "drivers: foo: Add a driver (really)")
        self.refuses("made of a part of the series")
        self.tree("--upto", "1")
        self.assertEqual(git(self.out, "log", "--format=%s", "base..HEAD"), "mm: Say more")
        self.tree("--upto", "drivers/foo/add-a-driver-really.patch")
        self.assertEqual(git(self.out, "rev-list", "--count", "base..HEAD"), "2")
        self.run_bad("tree", "--base", self.base, "--out", self.out, "--only", "nothing.patch", says="no 'nothing.patch'")
        self.run_bad("tree", "--base", self.base, "--out", self.out, "--upto", "4", says="3 entries, not 4")

    def test_executable_bit(self):
        self.tree()
        self.assertTrue(os.access(self.out / "drivers/foo/run.sh", os.X_OK))
        self.assertFalse(os.access(self.out / FOO, os.X_OK))
        git(self.out, "reset", "-q", "--soft", "HEAD~2")
        (self.out / "drivers/foo/run.sh").chmod(0o644)
        (self.out / FOO).chmod(0o755)
        commit(self.out, "drivers: foo: Add a driver (really)")
        self.run_ok("refresh", "--tree", self.out)
        self.assertFalse(os.access(self.dir / "drivers/foo/run.sh", os.X_OK))
        self.assertTrue(os.access(self.dir / FOO, os.X_OK))

    def test_symlinked_whole_file(self):
        real = self.tmp / "elsewhere/foo.h"
        real.parent.mkdir()
        (self.dir / HEADER).rename(real)
        (self.dir / HEADER).symlink_to("../../../elsewhere/foo.h")
        head = self.tree()
        self.assertFalse((self.out / HEADER).is_symlink())
        self.assertEqual(git(self.out, "rev-parse", "HEAD^{tree}"), git(self.proto_tree, "rev-parse", "HEAD^{tree}"))
        real.write_text("#define FOO 2\n")
        self.assertNotEqual(self.tree(), head)
        self.assertEqual((self.out / HEADER).read_text(), "#define FOO 2\n")
        git(self.out, "reset", "-q", "--soft", "HEAD~2")
        commit(self.out, "drivers: foo: Add a driver (really)", edit={HEADER: "#define FOO 3\n"})
        self.run_ok("refresh", "--tree", self.out)
        self.assertTrue((self.dir / HEADER).is_symlink())
        self.assertEqual(real.read_text(), "#define FOO 3\n")

    def test_edits_names_and_comments(self):
        put(self.dir, {"series": "# Top\n#mainline: x\n\nmm/say-more.patch\n# The driver\n"
                       "drivers/foo/add-a-driver-really.patch\n# Last\ndrivers/fix-two-places.patch\n# End\n"})
        self.tree()
        git(self.out, "reset", "-q", "--hard", "base")
        commit(self.out, "mm: Come first", edit={"mm/new.c": "x\n"})
        commit(self.out, "iommu/core: Another subject, the same files", edit={CORE: lines(60, l3="three")})
        (self.out / "drivers/old.c").unlink()
        git(self.out, "add", "-A")
        git(self.out, "commit", "-q", "--amend", "--no-edit")
        commit(self.out, "mm: Say more", edit={MMAP: lines(20, l11="eleven")})
        commit(self.out, "mm: Say more again", edit={MMAP: lines(20, l11="twelve")})
        self.run_ok("refresh", "--tree", self.out)
        self.assertEqual((self.dir / "series").read_text(), "# Top\n#mainline: x\n\nmm/come-first.patch\n# Last\n"
                         "drivers/fix-two-places.patch\nmm/say-more.patch\nmm/say-more-again.patch\n# End\n")
        self.assertFalse((self.dir / "drivers/foo").exists(), "a vanished commit leaves nothing behind")
        self.run_ok("check")

        head = git(self.out, "rev-parse", "HEAD^{tree}")
        self.tree()
        self.assertEqual(git(self.out, "rev-parse", "HEAD^{tree}"), head)

    def test_no_newline_at_the_end(self):
        self.tree()
        commit(self.out, "mm: End without a newline", edit={MMAP: lines(20, l10="line ten")[:-1], "mm/x": "no newline"})
        self.run_ok("refresh", "--tree", self.out)
        want = git(self.out, "rev-parse", "HEAD^{tree}")
        self.tree()
        self.assertEqual(git(self.out, "rev-parse", "HEAD^{tree}"), want)


class Incremental(SeriesTest):
    def times(self):
        return {str(p.relative_to(self.out)): p.stat().st_mtime_ns
                for p in self.out.rglob("*") if p.is_file() and p.name != ".git"}

    def test_nothing_to_do_touches_nothing(self):
        self.tree()
        before = self.times()
        self.tree()
        self.assertEqual(self.times(), before)

    def test_only_changed_files_are_touched(self):
        self.tree()
        before = self.times()
        (self.dir / FOO).write_text("int bar;\n")
        self.tree()
        after = self.times()
        self.assertEqual({name for name in after if after[name] != before.get(name)}, {FOO})

    def test_tree_after_refresh_touches_nothing(self):
        self.tree()
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n"})
        self.run_ok("refresh", "--tree", self.out)
        before = self.times()
        self.tree()
        self.assertEqual(self.times(), before)

    def test_uncommitted_edit_is_kept(self):
        self.tree()
        put(self.out, {CORE: "mine\n"})
        (self.dir / FOO).write_text("int bar;\n")
        self.run_bad("tree", "--base", self.base, "--out", self.out, says="core.c not committed: commit, then `refresh`")
        self.assertEqual((self.out / CORE).read_text(), "mine\n")
        self.tree("--force")
        self.assertEqual((self.out / FOO).read_text(), "int bar;\n")
        self.assertEqual(git(self.out, "status", "--porcelain"), "")

    def test_untracked_file_is_kept(self):
        self.tree("--upto", "1")
        put(self.out, {FOO: "mine\n"})
        self.run_bad("tree", "--base", self.base, "--out", self.out, says=f"untracked .* overwritten.*{FOO}")
        self.assertEqual((self.out / FOO).read_text(), "mine\n")

    def test_unknown_commit_is_kept(self):
        self.tree()
        mine = commit(self.out, "mm: Mine", edit={MMAP: "mine\n"})
        self.run_bad("tree", "--base", self.base, "--out", self.out, says="commits that the series does not know")
        self.assertEqual(git(self.out, "rev-parse", "HEAD"), mine)
        git(self.out, "reset", "-q", "--hard", "HEAD~2")  # nothing of its own: may be moved
        self.tree()

    def test_foreign_directory(self):
        put(self.out, {"precious": "x"})
        self.run_bad("tree", "--base", self.base, "--out", self.out, says="not a worktree of")
        git(self.out, "init", "-q")
        self.run_bad("tree", "--base", self.base, "--out", self.out, says="not a worktree of")
        self.assertEqual((self.out / "precious").read_text(), "x")

    def test_existing_branch(self):
        git(self.base, "branch", "taken", "base")
        self.addCleanup(git, self.base, "branch", "-D", "taken")
        self.run_bad("tree", "--base", self.base, "--out", self.out, "--branch", "taken", says="branch taken exists")


class Broken(SeriesTest):
    def bad_tree(self, says):
        err = self.run_bad("tree", "--base", self.base, "--out", self.out, says=says)
        self.assertEqual(len(err.splitlines()), 1)
        self.assertFalse(self.out.exists(), "half a tree is left behind")

    def bad_check(self, says):
        self.run_bad("check", says=says)

    def test_does_not_apply(self):
        self.edit("drivers/fix-two-places.patch", "-line 50\n", "-line fifty\n")
        self.bad_tree(r"drivers/fix-two-places.patch: drivers/iommu/core.c, hunk 2 \(@@ -47,7 \+47,7 @@.*"
                      "patch does not apply")

    def test_no_fuzz(self):
        self.edit("mm/say-more.patch", " line 7\n", " line seven\n")
        self.bad_tree("mm/say-more.patch: mm/mmap.c, hunk 1")

    def test_missing_and_twice(self):
        self.edit("drivers/foo/add-a-driver-really.patch", f"Adds: {FOO}\n", f"Adds: {FOO}\nAdds: {FOO}\nAdds: mm/no.c\n")
        for bad in (self.bad_tree, self.bad_check):
            bad(f"Adds {FOO}, which .* adds already")
            bad("Adds mm/no.c, but there is no such file")

    def test_added_file_is_in_the_base(self):
        put(self.dir, {"drivers/dos.c": "x\n"})
        self.edit("mm/say-more.patch", "---\n\n", "---\nAdds: drivers/dos.c\n\n")
        self.bad_tree("the base has drivers/dos.c already")

    def test_diff_of_an_added_file(self):
        with (self.dir / "drivers/fix-two-places.patch").open("a") as file:
            file.write(f"diff --git a/{FOO} b/{FOO}\n--- a/{FOO}\n+++ b/{FOO}\n@@ -1 +1 @@\n-int foo;\n+int bar;\n")
        self.bad_tree(f"edits {FOO}, which drivers/foo/add-a-driver-really.patch adds")

    def test_diff_that_makes_a_file(self):
        with (self.dir / "mm/say-more.patch").open("a") as file:
            file.write("diff --git a/mm/n.c b/mm/n.c\nnew file mode 100644\n--- /dev/null\n+++ b/mm/n.c\n@@ -0,0 +1 @@\n+x\n")
        self.bad_tree("'new file mode 100644': a diff may only edit or delete")

    def test_unclaimed(self):
        put(self.dir, {"lib/stray.c": "", "mm/stray.patch": "", "top.patch": "", "README.md": "", ".gitattributes": ""})
        self.bad_check("lib/stray.c: no patch Adds it")
        self.bad_check("mm/stray.patch: not listed")
        (self.dir / "testbed").mkdir()  # the root also holds what is not the kernel's
        put(self.dir, {"testbed/x": "", "extra/y": ""})
        self.bad_check("top.patch: not listed")
        self.assertNotRegex(self.run_bad("check", says="lib/stray.c"), "testbed/|extra/|README")

    def test_series_file(self):
        with (self.dir / "series").open("a") as file:
            file.write("mm/say-more.patch\n")
        self.bad_tree("lists mm/say-more.patch twice")
        put(self.dir, {"series": "mm/none.patch\n"})
        self.bad_tree("lists mm/none.patch, which does not exist")
        (self.dir / "series").unlink()
        self.bad_tree("series: no such file")

    def test_header(self):
        patch = "mm/say-more.patch"
        for old, new, says in (("Assisted-by: LLM\n", "", "no Assisted-by"),
                               ("Why.\n", "Signed-off-by: A <a@b>\n", "a Signed-off-by"),
                               ("Subject: mm: Say", "Subject: Say", "no prefix")):
            self.edit(patch, old, new)
            self.bad_check(says)
            shutil.copy(self.proto / patch, self.dir / patch)
        for old, new, says in (("Date: Tue, 3 Feb 2026 04:05:06 +0200\n", "", "begins with the lines From, Date, Subject"),
                               ("Date: Tue, 3 Feb 2026", "Date: soon", "not a mail's date"),
                               ("<dev@example.org>", "dev", "not 'Name <mail>'"),
                               ("\n---\n", "\n", "no '---' line"),
                               ("\n---\n", "\n---\nnote\n", "'note' between"),
                               ("\n---\n", "\n---\nAdds: ../x\n", "not a path")):
            self.edit(patch, old, new)
            self.bad_check(says)
            self.bad_tree(says)
            shutil.copy(self.proto / patch, self.dir / patch)


class Refusals(SeriesTest):
    def setUp(self):
        super().setUp()
        self.tree()

    def test_uncommitted(self):
        put(self.out, {MMAP: "x\n"})
        self.refuses("mm/mmap.c not committed")
        git(self.out, "checkout", "-q", MMAP)
        put(self.out, {"mm/untracked.c": "x\n"})
        self.assertEqual(git(self.out, "status", "--porcelain"), "", "git does not see it")
        self.refuses("mm/untracked.c not committed: `git add -f`")
        put(self.out, {"mm/untracked.o": "x\n"})
        (self.out / "mm/untracked.c").unlink()
        self.run_ok("refresh", "--tree", self.out)

    def test_merge(self):
        head = git(self.out, "rev-parse", "HEAD")
        git(self.out, "checkout", "-q", "base")
        commit(self.out, "mm: Side", edit={"mm/side.c": "x\n"})
        git(self.out, "merge", "-q", "-m", "mm: Merge", head)
        self.refuses("is a merge")

    def test_change_of_an_added_file(self):
        commit(self.out, "drivers: foo: Change", edit={FOO: "int bar;\n"})
        self.refuses(f"changes {FOO}, which an earlier commit of the series adds .*fold")

    def test_removal_of_an_added_file(self):
        (self.out / FOO).unlink()
        commit(self.out, "drivers: foo: Remove")
        self.refuses(f"changes {FOO}, which an earlier commit of the series adds")

    def test_deletion_and_return_of_a_base_file(self):
        commit(self.out, "drivers: Return", edit={"drivers/old.c": "new\n"})
        self.refuses("edits drivers/old.c, which drivers/return.patch adds")

    def test_binary(self):
        commit(self.out, "mm: Binary", edit={"mm/pic": b"\0\1\2"})
        self.refuses("mm/pic is binary")
        git(self.out, "reset", "-q", "--hard", "HEAD~1")
        commit(self.out, "logo: Change", edit={"logo.bin": b"\0\1\2"})
        self.refuses("logo.bin is binary")

    def test_mode(self):
        (self.out / MMAP).chmod(0o755)
        commit(self.out, "mm: Mode")
        self.refuses("changes the mode of mm/mmap.c")

    def test_links(self):
        (self.out / "mm/link").symlink_to("mmap.c")
        commit(self.out, "mm: Link")
        self.refuses("mm/link is not a regular file")
        git(self.out, "reset", "-q", "--hard", "HEAD~1")
        (self.out / "link").unlink()
        commit(self.out, "mm: No link")
        self.refuses("link is not a regular file")

    def test_rename_is_taken_apart(self):
        git(self.out, "mv", MMAP, "mm/map.c")
        commit(self.out, "mm: Rename")
        want = git(self.out, "rev-parse", "HEAD^{tree}")
        self.run_ok("refresh", "--tree", self.out)
        self.assertIn("deleted file mode 100644\n", (self.dir / "mm/rename.patch").read_text())
        self.tree()
        self.assertEqual(git(self.out, "rev-parse", "HEAD^{tree}"), want)

    def test_messages(self):
        for subject, body, says in (("Say nothing of where", "x", "no subsystem prefix"),
                                    ("mm: Sign", "Signed-off-by: A <a@b>", "Signed-off-by"),
                                    ("mm: Split", "a\n---\nb", "line '---'"),
                                    ("mm: Long\nsubject", "x", "line after the subject")):
            commit(self.out, subject, body, {"mm/x.c": "x\n"})
            self.refuses(says)
            git(self.out, "reset", "-q", "--hard", "HEAD~1")

    def test_empty_commit(self):
        git(self.out, "commit", "-q", "--allow-empty", "-m", "mm: Nothing")
        self.refuses("changes no file")

    def test_names(self):
        for path, says in (("series", "another use"), ("mm/x.patch", "another use"), ('mm/a"b', "not a path")):
            commit(self.out, "mm: Name", edit={path: "x\n"})
            self.refuses(says)
            git(self.out, "reset", "-q", "--hard", "HEAD~1")

    def test_no_commits_and_no_base(self):
        git(self.out, "reset", "-q", "--hard", "base")
        self.refuses("no commit on top of the base")
        git(self.out, "checkout", "-q", "--orphan", "lonely")
        self.addCleanup(git, self.base, "branch", "-D", "lonely")
        self.addCleanup(git, self.out, "checkout", "-q", "--detach")
        git(self.out, "commit", "-q", "-m", "x")
        self.refuses("does not stand on the base")

    def test_unfinished_rebase(self):
        Path(git(self.out, "rev-parse", "--git-path", "rebase-merge")).mkdir()
        self.refuses("not finished")

    def test_repository_changed_meanwhile(self):
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n"})
        (self.dir / FOO).write_text("int edited_here;\n")
        self.refuses("has changed since")
        self.run_ok("refresh", "--tree", self.out, "--force")
        self.assertEqual((self.dir / FOO).read_text(), "int foo;\n")

    def edit_message(self, name, old, new):
        text = (self.dir / name).read_text()
        self.assertIn(old, text)
        (self.dir / name).write_text(text.replace(old, new))

    def test_message_edited_in_the_repository(self):
        """An edited message in the patch file and a fixup in the tree: both are kept, there and here."""
        (self.out / MMAP).write_text(lines(20, l10="line TEN"))
        git(self.out, "commit", "-q", "-a", "--fixup", "HEAD~2")
        self.edit_message("mm/say-more.patch", "Why.", "Why, in better words.")
        self.edit_message("drivers/fix-two-places.patch", "Fix two places", "Fix both places")
        said = self.run_ok("refresh", "--tree", self.out)
        self.assertIn("kept the message of mm/say-more.patch", said)
        self.assertIn("\nWhy, in better words.\n", text := (self.dir / "mm/say-more.patch").read_text())
        self.assertIn("+line TEN", text)
        self.assertEqual(git(self.out, "log", "--reverse", "--format=%s", "base.."),
                         "mm: Say more\ndrivers: foo: Add a driver (really)\niommu/core: Fix both places")
        self.assertIn("in better words", git(self.out, "log", "-1", "--format=%b", "HEAD~2"))
        self.assertNotIn("kept", self.run_ok("refresh", "--tree", self.out))

    def test_message_edited_in_both(self):
        self.edit_message("drivers/fix-two-places.patch", "Why.", "Why here.")
        git(self.out, "commit", "-q", "--amend", "-m", "iommu/core: Fix two places\n\nWhy there.\n\nAssisted-by: LLM")
        self.refuses("fix-two-places.patch: its message was changed here, and in .* as well")

    def test_message_and_diff_edited_in_the_repository(self):
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n"})
        self.edit_message("mm/say-more.patch", "Why.", "Why not.")
        self.edit_message("mm/say-more.patch", "+line ten", "+line eleven")
        self.refuses("has changed since")

    def test_proof_before_writing(self):
        real = tool.take
        self.addCleanup(setattr, tool, "take", real)

        def wrong(*args):
            patch, files = real(*args)
            return patch, {path: (data + b"x", mode) for path, (data, mode) in files.items()}

        tool.take = wrong
        self.refuses("Add a driver .* does not survive the way through a patch")

    def test_disk_full(self):
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n", CORE: "y\n"})
        real = Path.write_bytes

        def full(path, data):
            if path.name == ".series.series-new":
                raise OSError(28, "No space left on device")
            return real(path, data)

        self.addCleanup(setattr, Path, "write_bytes", real)
        Path.write_bytes = full
        self.refuses("No space left")


class Folding(SeriesTest):
    """Commits of git commit --fixup and --squash."""

    def setUp(self):
        super().setUp()
        self.tree()

    def fixup(self, kind, subject, edit, body=""):
        put(self.out, edit)
        git(self.out, "add", "-A", "-f")
        git(self.out, "commit", "-q", "-m", f"{kind}! {subject}" + (f"\n\n{body}" if body else ""))

    def subjects(self):
        return git(self.out, "log", "--reverse", "--format=%s", "base..HEAD").splitlines()

    def test_whole_file_and_patch(self):
        before = self.subjects()
        names = self.entries()
        self.fixup("fixup", "drivers: foo: Add a driver (really)", {FOO: "int bar;\n", "drivers/foo/more.c": "x\n"})
        self.fixup("fixup", "mm: Say more", {MMAP: lines(20, l10="line X")})
        self.fixup("fixup", "fixup! drivers: foo: Add a driver (really)", {HEADER: "#define FOO 9\n"})
        files = git(self.out, "rev-parse", "HEAD^{tree}")
        times = {p: p.stat().st_mtime_ns for p in self.out.rglob("*.[ch]")}
        self.run_ok("refresh", "--tree", self.out)
        self.assertEqual(self.subjects(), before)
        self.assertEqual(self.entries(), names)
        self.assertEqual((self.dir / FOO).read_text(), "int bar;\n")
        self.assertEqual((self.dir / HEADER).read_text(), "#define FOO 9\n")
        self.assertIn("Adds: drivers/foo/more.c\n", (self.dir / names[1]).read_text())
        self.assertIn("+line X\n", (self.dir / names[0]).read_text())
        self.assertEqual(git(self.out, "rev-parse", "HEAD^{tree}"), files)
        self.assertEqual({p: p.stat().st_mtime_ns for p in self.out.rglob("*.[ch]")}, times)
        self.assertEqual(git(self.out, "status", "--porcelain"), "")
        head = git(self.out, "rev-parse", "HEAD")
        self.assertEqual(self.tree(), head, "the tree is what the series gives")
        self.run_ok("check")

    def test_squash_keeps_both_messages(self):
        self.fixup("squash", "mm: Say more", {MMAP: lines(20, l10="line X")}, "Because of that.")
        self.run_ok("refresh", "--tree", self.out)
        text = (self.dir / "mm/say-more.patch").read_text()
        self.assertRegex(text, r"Subject: mm: Say more\n\nWhy\.(?s:.*)Because of that\.\n---\n")
        self.assertNotIn("squash!", text)

    def test_names_a_branch(self):
        self.tree("--branch", "topic")
        self.addCleanup(git, self.base, "branch", "-D", "topic")
        self.addCleanup(git, self.out, "checkout", "-q", "--detach")
        self.fixup("fixup", "mm: Say more", {MMAP: lines(20, l10="line X")})
        self.run_ok("refresh", "--tree", self.out)
        self.assertEqual(git(self.out, "symbolic-ref", "HEAD"), "refs/heads/topic")

    def test_nothing_of_that_subject(self):
        self.fixup("fixup", "mm: Say less", {MMAP: lines(20, l10="line X")})
        self.refuses(r"commit \w+ \(\"fixup! mm: Say less\"\): no commit below it has that subject")

    def test_conflict(self):
        commit(self.out, "mm: Say even more", edit={MMAP: lines(20, l10="line 10 more")})
        self.fixup("fixup", "mm: Say more", {MMAP: lines(20, l10="line ten, twice more")})
        self.refuses(r'commit \w+ \("fixup! mm: Say more"\) does not fold \(mm/mmap.c\): `git rebase')
        self.assertEqual(git(self.out, "status", "--porcelain"), "")

    def test_nothing_left(self):
        self.fixup("fixup", "mm: Say more", {MMAP: lines(20)})
        self.refuses("does not fold .*nothing would be left")

    def test_refusal_of_what_was_folded(self):
        self.fixup("fixup", "mm: Say more", {"mm/pic": b"\0\1\2"})
        self.refuses(r'\("mm: Say more"\): mm/pic is binary')


class Snapshot(SeriesTest):
    """What make try builds: an edited tree as it lies, in the tree that the objects belong to."""

    def setUp(self):
        super().setUp()
        self.made = self.tree()
        self.built = self.tmp / "built"
        self.run_ok("tree", "--base", self.base, "--out", self.built)

    def snapshot(self):
        self.run_ok("snapshot", "--tree", self.out, "--out", self.built)
        return git(self.built, "rev-parse", "HEAD")

    def test_unchanged(self):
        self.assertEqual(self.snapshot(), self.made)

    def test_as_it_lies(self):
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n"})
        put(self.out, {MMAP: "staged\n"})
        git(self.out, "add", "-f", MMAP)
        put(self.out, {MMAP: "dirty\n", "mm/new.c": "new\n", "mm/new.o": "built\n"})
        (self.out / CORE).unlink()
        status = git(self.out, "status", "--porcelain")
        times = {p: p.stat().st_mtime_ns for p in self.built.rglob("*.[ch]")}
        head = self.snapshot()
        for name in (MMAP, "mm/more.c", "mm/new.c", FOO):
            self.assertEqual((self.built / name).read_text(), (self.out / name).read_text())
        self.assertFalse((self.built / CORE).exists() or (self.built / "mm/new.o").exists())
        self.assertEqual(git(self.out, "status", "--porcelain"), status)
        self.assertEqual({p for p in times if p.exists() and p.stat().st_mtime_ns != times[p]}, {self.built / MMAP})
        self.assertEqual(self.snapshot(), head, "the same files are the same commit")
        self.run_ok("tree", "--base", self.base, "--out", self.built)
        self.assertEqual(git(self.built, "rev-parse", "HEAD"), self.made)
        self.assertFalse((self.built / "mm/new.c").exists())

    def test_what_cannot_be(self):
        args = ("snapshot", "--tree", self.out, "--out", self.built)
        self.run_bad("snapshot", "--tree", self.tmp / "none", "--out", self.built, says="not a worktree")
        put(self.out, {MMAP: lines(20, l3="three")})
        git(self.out, "stash", "-q")
        self.addCleanup(git, self.base, "update-ref", "-d", "refs/stash")
        commit(self.out, "mm: More", edit={MMAP: lines(20, l3="drei")})
        subprocess.run(["git", "stash", "apply", "-q"], cwd=self.out, env=ENV, capture_output=True, check=False)
        self.run_bad(*args, says="mm/mmap.c has conflicts")


class Mails(SeriesTest):
    def setUp(self):
        super().setUp()
        self.tree()
        self.mails = self.tmp / "mails"

    def write(self, *args):
        self.run_ok("mails", "--base", self.base, "--out", self.mails, *args)
        return [p.name for p in sorted(self.mails.iterdir())]

    def verify(self):
        return ["verify-mails", "--base", self.base, "--mails", self.mails, "--tree", self.out]

    def test_git_am_gives_the_tree(self):
        self.assertEqual(self.write(), ["0001-mm-Say-more.patch", "0002-drivers-foo-Add-a-driver-really.patch",
                                        "0003-iommu-core-Fix-two-places.patch"])
        want = git(self.out, "rev-parse", "HEAD^{tree}")
        self.assertIn(want, self.run_ok(*self.verify()))
        pristine = self.tmp / "pristine"
        git(self.base, "worktree", "add", "-q", "--detach", pristine, "base")
        git(pristine, "am", "-q", *sorted(self.mails.iterdir()))
        self.assertEqual(git(pristine, "rev-parse", "HEAD^{tree}"), want)

    def test_cover_letter(self):
        put(self.tmp, {"cover.md": "# mm: A whole series\n\nWhat it is for.\n\n- one\n- two\n"})
        names = self.write("--prefix", "RFC", "--version", "2", "--cover", self.tmp / "cover.md")
        self.assertEqual(names[0], "v2-0000-cover-letter.patch")
        text = (self.mails / names[0]).read_text()
        self.assertRegex(text, r"(?s)Subject: \[RFC PATCH v2 0/3\] mm: A whole series\n\n"
                         r"What it is for.\n\n- one\n- two\n\nA. Developer \(3\):\n.*8 files changed")
        self.assertIn(f"base-commit: {git(self.base, 'rev-parse', 'base')}\n", text)
        self.assertNotIn("***", text)
        before = snapshot(self.mails)
        put(self.mails, {"v1-0001-old.patch": "old\n"})
        self.write("--prefix", "RFC", "--version", "2", "--cover", self.tmp / "cover.md")
        self.assertEqual(snapshot(self.mails), before)
        self.run_ok(*self.verify())

    def test_recipients(self):
        script = "#!/bin/sh\ngrep -q '^+++ b/' \"$3\" || exit 1\n" + "".join(f"echo '{line}'\n" for line in (
            "Jos\u00e9 Mantenedor <jose@example.org> (reviewer:X,maintainer:CORE (NEW CORE))", "Re Viewer <r@example.org> (reviewer:CORE)",
            "core@lists.example.org (open list:CORE)", "Jos\u00e9 Mantenedor <jose@example.org> (reviewer:OTHER)"))
        put(self.tmp, {"k/scripts/get_maintainer.pl": script}, 0o755)
        put(self.tmp, {"cover.md": "mm: A series\nCc: Fr Iend <f@example.org>\n\nWhat it is for.\n"})
        names = self.write("--cover", self.tmp / "cover.md", "--maintainers", self.tmp / "k")
        for name in names:
            text = (self.mails / name).read_text()
            self.assertRegex(text, r"\nTo: =\?utf-8\?.*\?= <jose@example.org>\n"
                             r"Cc: Re Viewer <r@example.org>,\n\s+core@lists.example.org,\n\s+Fr Iend <f@example.org>\n")
        self.assertNotIn("Cc:", (self.mails / names[0]).read_text().partition("\n\n")[2])
        self.run_ok(*self.verify())
        put(self.tmp, {"k/scripts/get_maintainer.pl": "#!/bin/sh\nexit 2\n"}, 0o755)
        self.run_bad("mails", "--base", self.base, "--out", self.mails, "--maintainers", self.tmp / "k",
                     says="get_maintainer.pl: names nobody")

    def parts(self):
        put(self.dir, {"series": "# All of it\n# first: alone\nmm/say-more.patch\n"
                       "# then\ndrivers/foo/add-a-driver-really.patch\ndrivers/fix-two-places.patch\n"})

    def test_part(self):
        self.parts()
        put(self.tmp, {"cover.md": "drivers: Two things\n\nWhat for.\n"})
        self.run_ok("check")
        first = self.tmp / "first"
        self.run_ok("mails", "--base", self.base, "--out", first, "--part", "first", "--cover", self.tmp / "cover.md")
        (one,) = first.iterdir()
        self.assertIn("\nSubject: [PATCH] mm: Say more\n", one.read_text())
        self.assertRegex(one.read_text(), r"(?s)\n---\n.*\n    What for\.\n.*\ndiff --git ")
        names = self.write("--part", "then", "--after", "first", "--cover", self.tmp / "cover.md")
        self.assertEqual(names, ["0000-cover-letter.patch", "0001-drivers-foo-Add-a-driver-really.patch",
                                 "0002-iommu-core-Fix-two-places.patch"])
        cover = (self.mails / names[0]).read_text()
        diff = git(self.out, "show", "--format=%H", "HEAD~2")
        patch_id = subprocess.run(["git", "patch-id", "--stable"], input=diff, cwd=self.out, env=ENV, check=True,
                                  capture_output=True, text=True).stdout.split()[0]
        self.assertRegex(cover, f"\nbase-commit: {git(self.base, 'rev-parse', 'base')}\n"
                         f"prerequisite-patch-id: {patch_id}\n")
        self.assertNotIn("mmap.c", cover)
        self.run_ok("verify-mails", "--base", self.base, "--mails", first, self.mails, "--tree", self.out)
        self.assertIn("1 mails apply", self.run_ok("verify-mails", "--base", self.base, "--mails", first))
        self.run_bad("verify-mails", "--base", self.base, "--mails", self.mails, "--tree", self.out,
                     says="gives another tree")
        self.assertEqual(self.write("--part", "then", "--below", "drivers/foo/"),
                         ["0001-drivers-foo-Add-a-driver-really.patch"])
        for words, says in ((["--part", "second"], "no part 'second', but first, then"),
                            (["--part", "first", "--below", "drivers/"], "no such patch"),
                            (["--part", "then", "--after", "it"], "no part 'it'")):
            self.run_bad("mails", "--base", self.base, "--out", self.mails, *words, says=says)

    def test_author(self):
        names = self.write("--author", "Some One <one@example.org>")
        for name in names:
            self.assertRegex((self.mails / name).read_text(), r"\AFrom 0{40} .*\nFrom: Some One <one@example.org>\n")
        self.run_bad("mails", "--base", self.base, "--out", self.mails, "--author", "one@example.org",
                     says="not 'Name <mail>'")

    def test_mails_that_differ(self):
        self.run_bad("mails", "--base", self.base, "--out", self.mails, "--cover", self.tmp / "none", says="No such file")
        self.mails.mkdir()
        self.run_bad(*self.verify(), says="has no mails")
        names = self.write()
        mail = self.mails / names[0]
        text = mail.read_text()
        mail.write_text(text.replace("+line ten", "+line 10!"))
        self.run_bad(*self.verify(), says="another tree")
        mail.write_text(text.replace("Why.", "Because."))
        self.run_bad(*self.verify(), says="the same tree, but other commits")
        mail.write_text(text.replace("-line 10", "-line 9"))
        self.run_bad(*self.verify(), says="git am: .*patch does not apply")


class Base(SeriesTest):
    def test_blobs_equal_the_files(self):
        for name, data in SRC.items():
            blob = subprocess.run(["git", "cat-file", "blob", f"base:{name}"], cwd=self.base, env=ENV, check=True,
                                  capture_output=True).stdout
            self.assertEqual(blob, data if isinstance(data, bytes) else data.encode(), name)
        self.tree()
        for name in set(SRC) - {MMAP, CORE, "drivers/Makefile", "drivers/old.c"}:
            self.assertEqual((self.out / name).read_bytes(), (self.src / name).read_bytes(), name)
        self.assertEqual(git(self.base, "ls-tree", "base", "link", "tool.sh").split()[::4], ["120000", "100755"])

    def test_again(self):
        before = git(self.base, "rev-parse", "base")
        self.run_ok("base", "--src", self.src, "--repo", self.base, "--message", "base", "--expect-version", "7.3")
        self.assertEqual(git(self.base, "rev-parse", "base"), before)

    def test_tree_follows_a_new_base(self):
        base = self.tmp / "base"
        src = self.tmp / "src"
        shutil.copytree(self.src, src, symlinks=True)
        for version in ("4", "5"):
            put(src, {"Makefile": SRC["Makefile"].replace("SUBLEVEL = 4", f"SUBLEVEL = {version}")})
            self.run_ok("base", "--src", src, "--repo", base)
            if version == "5":
                self.refuses("does not stand on the base")
            self.run_ok("tree", "--base", base, "--out", self.out)
            self.assertIn(f"SUBLEVEL = {version}", (self.out / "Makefile").read_text())
            self.assertEqual(git(self.out, "rev-parse", "HEAD~3"), git(base, "rev-parse", "base"))

    def other(self, **edits):
        """A git tree of the user's: the base and one commit more."""
        other = self.tmp / "other"
        git(self.base, "worktree", "add", "-q", "--detach", other, "base")
        self.addCleanup(git, self.base, "worktree", "remove", "--force", other)
        commit(other, "mm: Theirs", edit=edits)
        return other

    def test_rebase(self):
        self.tree()
        other = self.other(**{"mm/mmap.c": lines(20, l2="theirs")})
        said = self.run_ok("rebase", "--tree", self.out, "--onto", other)
        self.assertIn("3 commits on", said)
        self.run_ok("refresh", "--tree", self.out)
        self.assertIn(" theirs\n", git(self.out, "show", f"HEAD~2:{MMAP}").replace("theirs", " theirs"))
        # Again, before anybody has given LINUX=
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n"})
        self.run_ok("refresh", "--tree", self.out)
        # The base that setup finds, by the commit's name
        theirs = git(other, "rev-parse", "HEAD")
        self.assertEqual(git(self.base, "rev-parse", f"refs/bases/{theirs}"), theirs)
        self.assertIn("4 commits", self.run_ok("tree", "--base", f"{self.base}:{theirs}", "--out", self.out))
        # And back: the other base's line is not ours
        self.run_ok("rebase", "--tree", self.out, "--onto", self.src_git())
        self.run_ok("refresh", "--tree", self.out)
        self.run_ok("tree", "--base", self.base, "--out", self.out)
        self.assertEqual((self.out / MMAP).read_text(), lines(20, l10="line ten"))

    def src_git(self):
        back = self.tmp / "back"
        git(self.base, "worktree", "add", "-q", "--detach", back, "base")
        self.addCleanup(git, self.base, "worktree", "remove", "--force", back)
        return back

    def test_rebase_onto_what_has_one_already(self):
        self.tree()
        other = self.other(**{"mm/mmap.c": lines(20, l10="line ten")})
        self.assertIn("1 that it has already are gone", self.run_ok("rebase", "--tree", self.out, "--onto", other))
        self.run_ok("refresh", "--tree", self.out)
        self.assertFalse((self.dir / "mm/say-more.patch").exists())

    def test_rebase_conflict(self):
        self.tree()
        other = self.other(**{"mm/mmap.c": lines(20, l10="their ten")})
        before = snapshot(self.dir)
        self.run_bad("rebase", "--tree", self.out, "--onto", other,
                     says='stopped at "mm: Say more": conflicts in mm/mmap.c.*git rebase --continue')
        self.run_bad("refresh", "--tree", self.out, says="not finished")
        self.assertEqual(snapshot(self.dir), before)
        put(self.out, {MMAP: lines(20, l10="their ten", l11="line eleven")})
        git(self.out, "add", "-f", MMAP)
        git(self.out, "-c", "core.editor=true", "rebase", "--continue")
        self.run_ok("refresh", "--tree", self.out)
        self.assertIn(" their ten\n-line 11\n+line eleven\n", (self.dir / "mm/say-more.patch").read_text())

    def test_rebase_aborted(self):
        self.tree()
        other = self.other(**{"mm/mmap.c": lines(20, l10="their ten")})
        self.run_bad("rebase", "--tree", self.out, "--onto", other, says="stopped")
        git(self.out, "rebase", "--abort")
        before = snapshot(self.dir)
        self.run_ok("refresh", "--tree", self.out)
        self.assertEqual(snapshot(self.dir), before)

    def test_rebase_refused(self):
        self.tree()
        back = self.src_git()
        self.run_bad("rebase", "--tree", self.out, "--onto", back, says="is the base already")
        self.run_bad("rebase", "--tree", self.out, "--onto", self.tmp / "none", says="is not a directory")
        commit(self.out, "mm: More", edit={"mm/more.c": "x\n"})
        self.run_bad("rebase", "--tree", self.out, "--onto", back, says="`refresh` first")

    def test_version(self):
        args = ["base", "--src", self.src, "--repo", self.tmp / "b"]
        self.run_bad(*args, "--expect-version", "7.4", says="is version 7.3.4, not 7.4")
        put(self.tmp, {"qemu/VERSION": "10.0.13\n"})
        self.run_bad("base", "--src", self.tmp / "qemu", "--repo", self.tmp / "b", "--expect-version", "10.1",
                     says="10.0.13, not 10.1")
        self.run_ok("base", "--from", self.tmp / "qemu", "--repo", self.tmp / "b", "--expect-version", "10.0")
        self.run_bad("base", "--src", self.tmp / "none", "--repo", self.tmp / "b", says="not a directory")

    def test_from_git(self):
        user, repo = self.tmp / "user", self.tmp / "b"
        git(self.tmp, "clone", "-q", self.base, user, "-b", "base")
        git(user, "checkout", "-q", "base")
        args = ["base", "--from-git", user, "--repo", repo, "--expect-version", "7.3"]
        git(user, "config", "core.autocrlf", "true")
        put(user, {"Makefile": "VERSION = 8\n"})
        self.run_bad(*args, says="uncommitted changes")
        self.run_ok(*args, "--rev", "HEAD")
        git(user, "commit", "-qam", "x: y")
        self.run_bad(*args, says=r"is version 8\.\?\.\?, not 7.3")
        self.run_bad(*args, "--rev", "v7.3", says="no commit 'v7.3'")
        self.run_ok(*args, "--rev", "HEAD~1")
        self.run_ok("tree", "--base", f"{repo}:base", "--out", self.out)
        self.assertEqual(git(self.out, "rev-parse", "HEAD~3"), git(self.base, "rev-parse", "base"))
        self.assertEqual(git(user, "worktree", "list").count("\n"), 0, "the user's repository is only read")
        shutil.rmtree(user)
        self.assertFalse((repo / "objects/info/alternates").exists())
        git(repo, "fsck", "--full", "base")
        git(repo, "worktree", "add", "-q", "--detach", self.tmp / "again", "base")

    def test_nested_repository(self):
        put(self.tmp, {"src/Makefile": SRC["Makefile"], "src/sub/f": "x\n"})
        git(self.tmp / "src/sub", "init", "-q")
        git(self.tmp / "src/sub", "add", "f")
        git(self.tmp / "src/sub", "commit", "-qm", "x")
        self.run_bad("base", "--src", self.tmp / "src", "--repo", self.tmp / "b", says="src/sub is a git repository")

    def test_no_repository(self):
        self.run_bad("tree", "--base", self.tmp / "dir", "--out", self.out, says="not a git repository")
        self.run_bad("tree", "--base", f"{self.base}:no-such", "--out", self.out, says="no commit 'no-such'")


if __name__ == "__main__":
    unittest.main()
