#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the postings as mails: DIR/NAME, or DIR/NAME/TREE where each maintainer's tree has its own.

`series` says what belongs to which posting, cover/NAME.txt is the cover letter.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cover
import vm


@dataclass(frozen=True)
class Posting:
    prefix: str = ""
    after: tuple[str, ...] = ()
    # Maintainers' trees, in the order of `series`, and where their patches lie here
    trees: dict[str, str] = field(default_factory=lambda: {"": ""})


POSTINGS = {
    "fixes": Posting(trees={"iommu": "drivers/iommu/", "arm64": "arch/arm64/", "mm": "mm/",
                            "uacce": "drivers/misc/uacce/", "uio": "drivers/uio/"}),
    "mm": Posting(),
    "btm": Posting("RFC", ("fixes",)),
    "selfcheck": Posting("RFC", ("fixes", "btm")),
}
REFUSED = {"testdev": "the driver of QEMU's test device and its selftests are for no list: QEMU declines contributions "
           "derived from AI content, so the device will not be there for others. The cover letter of btm says where they "
           "are (REPOSITORY=URL)"}


def meant(base: str) -> str:
    """What base-commit stands for, in a tree that others have."""
    stamp = (vm.CACHE / "base/linux.stamp").read_text().strip()
    if package := re.match(r"linux-source-[\d.]+_([\d.]+)(.*)_all\.deb$", stamp):
        return (f"{base[:12]} is an import of Debian's linux-source {package[1]}{package[2]}, and stands for "
                f"v{package[1]} of the stable tree")
    return f"{base[:12]} is a commit of the tree that LINUX= named"


def write(name: str, tree: str, args: argparse.Namespace, meaning: str) -> None:
    posting = POSTINGS[name]
    out = args.out / name / tree
    letter = out / "cover.txt"
    out.mkdir(parents=True, exist_ok=True)
    letter.write_text(cover.letter(name, tree, meaning, args.unmeasured))
    prefix = [] if args.author else ["PREVIEW"]
    command = [vm.TOP / "testbed/bin/patches", "--dir", vm.TOP, "mails", "--base", vm.CACHE / "base/linux", "--out", out,
               "--part", name, "--cover", letter, "--maintainers", vm.LINUX, "--below", posting.trees[tree],
               "--prefix", " ".join([*prefix, *posting.prefix.split()])]
    for option in ("author", "version"):
        if value := getattr(args, option):
            command += [f"--{option}", value]
    for part in posting.after:
        command += ["--after", part]
    subprocess.run(command, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="*", choices=POSTINGS, default=[], help="default: all")
    parser.add_argument("--out", type=Path, default=vm.BUILD / "mails")
    parser.add_argument("--author", help="'Name <mail>': whom the mails are from (default: a preview)")
    parser.add_argument("--version", help="of the posting")
    parser.add_argument("--unmeasured", action="store_true", help="numbers are missing: say so where they belong")
    args = parser.parse_args()
    base = subprocess.run(["git", "-C", vm.CACHE / "base/linux", "rev-parse", "refs/tags/base"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()
    meaning = meant(base)
    entries = (vm.TOP / "series").read_text().splitlines()
    for name in args.series or POSTINGS:
        shutil.rmtree(args.out / name, ignore_errors=True)
        for tree in (t for t, below in POSTINGS[name].trees.items() if any(e.startswith(below) for e in entries)):
            try:
                write(name, tree, args, meaning)
            except subprocess.CalledProcessError:
                return 1
    print(f"base-commit: {meaning}")
    if not args.author:
        print("A preview: AUTHOR='Name <mail>' makes them yours. Signed-off-by is yours to add, and before anything of "
              "fixes is public\nread Documentation/process/security-bugs.rst (README.md, Submitting)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
