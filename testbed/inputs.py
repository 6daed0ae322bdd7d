#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Look at what make was asked for before anything is done, and print what has to be built for it.

    inputs.py --goals GOAL ... --known GOAL ... --given VARIABLE ...

The variables' values are in the environment.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import mails
import run as tests

# Variables of make, and the targets that each is for: all if there is none
VARIABLES: dict[str, tuple[str, ...]] = {
    "ONLY": ("test",), "T": ("try",), "KERNEL": ("shell", "gdb"), "SERIES": ("mails",), "AUTHOR": ("mails",),
    "VERSION": ("mails",), "REPOSITORY": ("mails",), "ONTO": ("rebase",), "LINUX": (), "QEMU_SRC": (), "DISTFILES": (),
    "BUILD": (), "SVA_BTM_CACHE": (), "XDG_CACHE_HOME": (), "CCACHE_DIR": (), "JOBS": (), "PROGRESS": (), "QEMU_ARGS": ()}
# The version that a source tree has to be of, and where it says so
LINUX = ("Makefile", r"^VERSION = (7\nPATCHLEVEL = ([3-9]|\d\d+)|[89]|\d\d+)$", "Linux 7.3 or later")
SOURCES = {"LINUX": LINUX, "ONTO": LINUX,
           "QEMU_SRC": ("VERSION", r"^10\.0\.", "QEMU 10.0")}


def fail(message: str) -> None:
    sys.exit(f"error: {message}")


def one_of(word: str, words: Iterable[str], what: str) -> None:
    if word not in (words := list(words)):
        fail(f"there is no {what} '{word}'; {tests.near(word, words)}")


def directory(name: str, value: str) -> None:
    path = Path(value)
    if re.search(r"\s", value):
        fail(f"{name}='{value}': make cannot have blanks in a path")
    if name in ("LINUX", "ONTO", "QEMU_SRC", "DISTFILES"):
        if not path.is_dir():
            fail(f"{name}={value} is not a directory")
    else:
        while not path.exists():
            path = path.absolute().parent
        if not path.is_dir() or not os.access(path, os.W_OK):
            fail(f"{name}={value}: {path} is {'not writable' if path.is_dir() else 'not a directory'}")
    if name in SOURCES:
        file, pattern, what = SOURCES[name]
        if not (path / file).is_file():
            # A bare repository: setup reads its commit
            if not (path / "HEAD").is_file():
                fail(f"{name}={value} has no {file}: it is no source tree of {what}")
        elif not re.search(pattern, (path / file).read_text(errors="replace"), re.M):
            fail(f"{name}={value} is not {what} (see its {file})")


def variables(goals: list[str], given: list[str]) -> None:
    for name in given:
        one_of(name, VARIABLES, "variable")
        if VARIABLES[name] and not set(VARIABLES[name]) & set(goals):
            other = [n for n, targets in VARIABLES.items() if set(targets) & set(goals)]
            fail(f"{name}= is for make {', '.join(VARIABLES[name])}; make {' '.join(goals)} takes "
                 + ", ".join(f"{n}=" for n in other + [n for n, targets in VARIABLES.items() if not targets]))
    if "rebase" in goals and not os.environ.get("ONTO"):
        fail("make rebase ONTO=DIR says which git tree the series is put on")
    for name in ("LINUX", "ONTO", "QEMU_SRC", "DISTFILES", "BUILD", "SVA_BTM_CACHE", "XDG_CACHE_HOME", "CCACHE_DIR"):
        if value := os.environ.get(name):
            directory(name, value)
    for name in ("JOBS", "PROGRESS", *(["VERSION"] if "mails" in goals else [])):
        if (value := os.environ.get(name, "")) and not re.fullmatch(r"[1-9]\d*", value):
            fail(f"{name}={value} is not a number above 0")
    for name in os.environ.get("SERIES", "").split() if "mails" in goals else []:
        if name in mails.REFUSED:
            fail(f"SERIES={name}: {mails.REFUSED[name]}")
        one_of(name, mails.POSTINGS, "posting")
    if (author := os.environ.get("AUTHOR", "")) and not re.fullmatch(r"[^<>]+ <[^<>\s]+@[^<>\s]+>", author):
        fail(f"AUTHOR={author} is not 'Name <mail>'")
    try:
        shlex.split(os.environ.get("QEMU_ARGS", ""))
    except ValueError as e:
        fail(f"QEMU_ARGS: {e}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--goals", "--known", "--given"):
        parser.add_argument(option, nargs="*", default=[])
    args = parser.parse_args()
    for goal in args.goals:
        one_of(goal, args.known, "target")
    variables(args.goals, args.given)
    inventory = tests.inventory()
    needs: set[str] = set()
    for goal, name in (("test", "ONLY"), ("test-long", ""), ("try", "T")):
        words = os.environ.get(name, "").split() if name else []
        if goal == "try" in args.goals and not words:
            fail("make try T='TEST@CONFIG ...' says which tests to run on the edited trees; make test ONLY=list lists")
        if goal in args.goals and words != ["list"]:
            for job in tests.jobs(inventory, words, goal == "test-long"):
                if job.name == "revert":
                    needs |= {"qemu", "guest"}
                elif job.machine:
                    needs |= {"qemu", "guest", job.machine["guest"], f"kernel-{job.machine['kernel']}"}
                elif "QTEST" in job.test["host"]:
                    needs |= {"qemu", "qtests"}
                else:
                    needs |= {"tools"}
    for goal in {"shell", "gdb"} & set(args.goals):
        config = tests.machine(os.environ.get("KERNEL", ""))
        kernel = config["kernel"]
        needs |= {"qemu", "guest", config["guest"], f"kernel-{kernel}{'-gdb' if goal == 'gdb' else ''}"}
    print(*sorted(needs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
