# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest: how QEMU is called, and when a run counts as a pass.

A run passes only if the guest wrote its last line to the virtio-serial port
(not to the console), with status 0, QEMU exited by itself with 0, and the
console holds no sign of a kernel in trouble.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", TOP / "build"))
CACHE = Path(os.environ.get("SVA_BTM_CACHE")
             or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sva-btm")
LINUX = CACHE / "linux/src"
QEMU_OBJ = CACHE / "qemu/obj"
QEMU = QEMU_OBJ / "qemu-system-aarch64"

# A kernel in trouble, as arm64 says it
SPLAT = re.compile(
    r"Kernel panic|Internal error|Unable to handle kernel|------------\[ cut here"
    r"|\bWARNING: |\bBUG: |KASAN:|UBSAN:|kmemleak: \d+ new|rcu: INFO: .*stall|blocked for more than"
    r"|possible circular locking|suspicious RCU usage|inconsistent lock state"
    r"|sleeping function called|Oops")
FINISHED = re.compile(r"^sva-btm: finished with status (\d+)$")
# What the SMMU model says of its caches when the commands have ended
AUDIT = re.compile(r"^sva-btm: smmu (0x[0-9a-f]+)((?: \w+=\d+)+)$")

BASE = "-nodefaults -no-user-config -nographic -nic none -no-reboot -d guest_errors".split()


@dataclasses.dataclass
class Result:
    """What a run left behind. error is empty when it passed."""
    error: str
    lines: list[tuple[float, str]]      # results port: seconds since start, line
    console: Path
    seconds: float
    audit: dict[str, int]               # sums over all SMMUs

    def text(self) -> list[str]:
        return [line for _, line in self.lines]


def cpio_newc(name: str, data: bytes, mode: int) -> bytes:
    """An archive of one file, for the kernel to unpack after the initramfs."""
    def entry(ino: int, path: str, body: bytes, mode: int) -> bytes:
        fields = (ino, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(path) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + path.encode() + b"\0"
        head += b"\0" * (-len(head) % 4)
        return head + body + b"\0" * (-len(body) % 4)
    return entry(1, name, data, mode) + entry(0, "TRAILER!!!", b"", 0)


def objects(kernel: str) -> Path:
    """Where testbed/bin/build builds this kernel variant."""
    tree = kernel.removesuffix("-gdb")
    return CACHE / (tree if tree in ("mainline", "mutants") else "linux") / f"obj-{kernel}"


def command(machine: str, kernel: str, append: str, initrd: Path) -> list[str]:
    """QEMU's command line for this machine and kernel: a variant, or the path of an Image."""
    image = Path(kernel) if "/" in kernel else objects(kernel) / "arch/arm64/boot/Image"
    more = shlex.split(os.environ.get("QEMU_ARGS", ""))
    return [str(QEMU), *BASE, *shlex.split(machine), *more, "-kernel", str(image),
            "-initrd", str(initrd), "-append", f"console=ttyAMA0 {append}".strip()]


def initrd_with(script: str, directory: Path) -> Path:
    """The initramfs with /run added; without a script, as it is."""
    base = CACHE / "guest/initramfs.gz"
    if not script:
        return base
    initrd = directory / "initrd"
    with initrd.open("wb") as out:
        data = base.read_bytes()
        out.write(data + b"\0" * (-len(data) % 4))
        out.write(cpio_newc("run", script.encode(), 0o100755))
    return initrd


def tail(path: Path, count: int = 25) -> str:
    text = path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join("    " + line for line in text)


def verdict(rc: int | None, lines: list[tuple[float, str]], console: str, timeout: float) -> str:
    """Why this run is no pass; empty if it is one."""
    splat = SPLAT.search(console)
    if splat:
        line = console[:splat.start()].count("\n")
        return "kernel in trouble: " + console.splitlines()[line].strip()
    if rc is None:
        return f"timeout: still running after {timeout:.0f} s"
    if rc != 0:
        return f"QEMU exited with status {rc}"
    if not lines or not (last := FINISHED.match(lines[-1][1])):
        return "the guest stopped without finishing its work"
    if last[1] != "0":
        return f"the guest's commands ended with status {last[1]}"
    return ""


def run(name: str, machine: str, kernel: str, append: str, script: str, timeout: float,
        verbose: bool = False, echo: bool = False, until: re.Pattern[str] | None = None) -> Result:
    """Boot, run script in the guest, and judge. Never raises for the guest's sake.

    A line of the results that matches until ends the run: what follows does not matter.
    """
    log = BUILD / "log" / "guest"
    log.mkdir(parents=True, exist_ok=True)
    console = log / f"{name}.console"
    lines: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory(prefix="sva-btm-") as tmp:
        port = Path(tmp) / "results"
        os.mkfifo(port)
        fd = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
        # Held open here as well, so that the guest's closing is no end of file
        keep = os.open(port, os.O_WRONLY)
        argv = command(machine, kernel, f"panic=-1 panic_on_warn=1 oops=panic {append}",
                       initrd_with(script, Path(tmp)))
        argv += ["-serial", "stdio", "-monitor", "none",
                 "-device", "virtio-serial-pci,disable-legacy=on",
                 "-chardev", f"file,id=results,path={port}",
                 "-device", "virtserialport,chardev=results,name=results"]
        (log / f"{name}.cmd").write_text(shlex.join(argv) + "\n")
        if verbose:
            print("+", shlex.join(argv), flush=True)
        start = time.monotonic()
        with console.open("wb") as out:
            qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT, start_new_session=True)
        buf = b""
        rc: int | None = None
        enough = False
        try:
            while True:
                rc = qemu.poll()
                try:
                    chunk = os.read(fd, 65536)
                except BlockingIOError:
                    chunk = b""
                buf += chunk
                *done, buf = buf.split(b"\n")
                now = time.monotonic() - start
                for raw in done:
                    line = raw.decode(errors="replace").rstrip("\r")
                    lines.append((now, line))
                    if echo and not FINISHED.match(line):
                        print(line, flush=True)
                    enough = enough or bool(until and until.match(line))
                if enough:
                    break
                if not chunk:
                    if rc is not None or now > timeout:
                        break
                    time.sleep(0.02)
        finally:
            if qemu.poll() is None:
                os.killpg(qemu.pid, signal.SIGKILL)
                qemu.wait()
            os.close(fd)
            os.close(keep)
    seconds = time.monotonic() - start
    (log / f"{name}.results").write_text("".join(f"{t:8.2f} {l}\n" for t, l in lines))
    error = verdict(rc, lines, console.read_text(errors="replace"), timeout)
    audit: dict[str, int] = {}
    for _, line in lines:
        if said := AUDIT.match(line):
            for name, _, value in (word.partition("=") for word in said[2].split()):
                audit[name] = audit.get(name, 0) + int(value)
    lines = [(t, line) for t, line in lines if not AUDIT.match(line)]
    return Result(error, lines, console, seconds, audit)


def interactive(machine: str, kernel: str, append: str, gdb: bool) -> int:
    """A prompt in the guest; with gdb, stopped before the first instruction."""
    kernel += "-gdb" if gdb else ""
    argv = command(machine, kernel, append, initrd_with("", Path()))
    argv += ["-serial", "mon:stdio"]
    if gdb:
        obj = objects(kernel).resolve()
        print("QEMU waits. In another terminal:\n    gdb-multiarch "
              f"-iex 'add-auto-load-safe-path {obj}' {obj}/vmlinux -ex 'target remote :1234'\n"
              "(lines and types are there, `apropos lx-` lists the kernel's own commands; Ctrl-A X ends QEMU)", flush=True)
        argv += ["-s", "-S"]
    print("+", shlex.join(argv), file=sys.stderr, flush=True)
    return subprocess.call(argv)
