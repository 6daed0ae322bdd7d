# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest: how QEMU is called, and when a run counts as a pass.

A run passes only if the guest wrote its last line to the virtio-serial port
(not to the console), with status 0, the guest powered off by itself, and the
console holds no sign of a kernel in trouble. What the kernel or QEMU complain
of besides is in Result.complaints, for the caller to judge.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", TOP / "build"))
CACHE = Path(os.environ.get("SVA_BTM_CACHE")
             or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sva-btm")
LINUX = CACHE / "linux/src"
QEMU_OBJ = CACHE / "qemu/obj"
QEMU = QEMU_OBJ / "qemu-system-aarch64"
# Where QEMU finds what -bios names
FIRMWARE = CACHE / "tools/efi/usr/share/qemu-efi-aarch64"

# A kernel in trouble, as arm64 says it
SPLAT = re.compile(
    r"Kernel panic|Internal error|Unable to handle kernel|------------\[ cut here"
    r"|\bWARNING: |\bBUG: |KASAN:|UBSAN:|kmemleak: \d+ new|rcu: INFO: .*stall|blocked for more than"
    r"|possible circular locking|suspicious RCU usage|inconsistent lock state"
    r"|sleeping function called|Oops")
# A data race between others is theirs: Linux has many. Such a report ends with a line like its first
RACE = re.compile(
    r"^[^\n]*={60,}\r?\n[^\n]*BUG: KCSAN: data-race in "
    r"(?![^\n]*(?:arm_smmu|iommu|iopf|sva_|uacce|uio_pci|mm_context|mmu_notifier))[\s\S]*?={60,}\r?\n", re.MULTILINE)
# A crash that was asked for, of a kernel that had another one loaded for it
CRASH = re.compile(r"^[^\n]*sysrq: Trigger a crash[\s\S]*?Starting crashdump kernel[^\n]*\n", re.MULTILINE)
# What a test in the guest may ask of QEMU
ASK = re.compile(r"^# qmp (device_add|device_del) (\w+)$")
FINISHED = re.compile(r"^sva-btm: finished with status (\d+)$")
# What the SMMU model says of its caches when the commands have ended
AUDIT = re.compile(r"^sva-btm: smmu (0x[0-9a-f]+)((?: \w+=\d+)+)$")
# A message of the kernel, as console_msg_format=syslog prints it
MESSAGE = re.compile(r"^<(\d+)>\[ *[\d.]+\](?:\[[^]]*\])? (.*?)\r?$", re.MULTILINE)
# Their warnings count as well as everybody's errors
OURS = re.compile(r"arm-smmu-v3|smmuv3|iommu|iopf|uacce|sva_testdev")
LOG_ERR, LOG_WARNING = 3, 4
# What an audit lists may have been about to go. Its last result counts, see AUDIT
LISTED = re.compile(r"arm-smmuv3: \d+ cached entries are stale|(stale|differs): ")

BASE = "-nodefaults -no-user-config -nographic -nic none -no-reboot -d guest_errors".split()


@dataclasses.dataclass
class Result:
    """What a run left behind. error is empty when it passed."""
    error: str
    lines: list[tuple[float, str]]      # results port: seconds since start, line
    console: Path
    seconds: float
    audit: dict[str, int]               # sums over all SMMUs
    complaints: list[str]               # of the kernel and of QEMU, announced or not
    # Counters of each SMMU, by the bus that it is for, when the guest had powered off
    smmus: dict[str, dict[str, int]]

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
    tree = "mutants" if tree.startswith("mutants") else tree if tree in ("mainline", "fixes") else "linux"
    return CACHE / tree / f"obj-{kernel}"


def image(kernel: str) -> Path:
    """Of a variant, or the path of an Image."""
    return Path(kernel) if "/" in kernel else objects(kernel) / "arch/arm64/boot/Image"


def command(machine: str, kernel: str, append: str, initrd: Path, *before: str) -> list[str]:
    """QEMU's command line for this machine and kernel."""
    more = shlex.split(os.environ.get("QEMU_ARGS", ""))
    return [str(QEMU), *BASE, "-L", str(FIRMWARE), *before, *shlex.split(machine), *more, "-kernel", str(image(kernel)),
            "-initrd", str(initrd), "-append", f"console=ttyAMA0 {append}".strip()]


def initrd_with(script: str, directory: Path, guest: str = "guest", kernel: str = "") -> Path:
    """The guest's initramfs with /run added; without a script, as it is.

    A script that asks for /Image finds the kernel there, and this initramfs in
    /initrd, to boot them.
    """
    base = CACHE / guest / "initramfs.gz"
    if not script:
        return base
    data = base.read_bytes()
    data += b"\0" * (-len(data) % 4) + cpio_newc("run", script.encode(), 0o100755)
    if "/Image" in script:
        data += cpio_newc("Image", image(kernel).read_bytes(), 0o100644) + cpio_newc("initrd", data, 0o100644)
    initrd = directory / "initrd"
    initrd.write_bytes(data)
    return initrd


def tail(path: Path, count: int = 25) -> str:
    text = path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join("    " + line for line in text)


class Qmp:
    """QEMU's control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.buf = sock, b""
        sock.setblocking(False)
        self.send("qmp_capabilities")

    def send(self, name: str, **arguments: Any) -> None:
        self.sock.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """What has arrived: greeting, answers, events."""
        try:
            self.buf += self.sock.recv(65536)
        except BlockingIOError:
            pass
        except OSError:
            return []
        *done, self.buf = self.buf.split(b"\n")
        return [json.loads(line) for line in done if line.strip()]

    def ask(self, name: str, **arguments: Any) -> Any:
        """The answer to a command. Raises TimeoutError, or KeyError for an error."""
        self.send(name, **arguments)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for message in self.read():
                if "event" not in message:
                    return message["return"]
            time.sleep(0.001)
        raise TimeoutError(f"QEMU does not answer {name}")

    def plug(self, name: str, device: str, argv: list[str]) -> None:
        """device_add or device_del, of what has the id `device` on the command line."""
        arguments: dict[str, Any] = {"id": device}
        if name == "device_add":
            driver, *pairs = next(a for a in argv if f",id={device}," in a).split(",")
            arguments = {k: int(v) if v.isdecimal() else v for k, _, v in (p.partition("=") for p in pairs)}
            arguments["driver"] = driver
        self.send(name, **arguments)

    def smmus(self) -> dict[str, dict[str, int]]:
        """The counters of each SMMU, by its primary bus; the machine's own is for pcie.0."""
        found = {}
        for parent in ("/machine/unattached", "/machine/peripheral", "/machine/peripheral-anon"):
            for child in self.ask("qom-list", path=parent):
                if child["type"] == "child<arm-smmuv3>":
                    path = f"{parent}/{child['name']}"
                    names = [p["name"] for p in self.ask("qom-list", path=path)]
                    # "/machine/peripheral/rp1/rp1": the bus of root port rp1
                    bus = str(self.ask("qom-get", path=path, property="primary-bus")).rpartition("/")[2]
                    found[bus or "pcie.0"] = {
                        n.removeprefix("counter-"): int(self.ask("qom-get", path=path, property=n))
                        for n in names if n.startswith("counter-")}
        return found


def complaints(console: str, qemu: str) -> list[str]:
    """What the kernel says at level err or above, or warning if it is about SVA, and all that QEMU says."""
    found = []
    for match in MESSAGE.finditer(console):
        facility, level = divmod(int(match[1]), 8)
        if not facility and (level <= LOG_ERR or level == LOG_WARNING and OURS.search(match[2])):
            found.append(match[2])
    return found + [f"QEMU: {line}" for line in qemu.splitlines() if line.strip() and not LISTED.match(line)]


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
        verbose: bool = False, echo: bool = False, until: re.Pattern[str] | None = None,
        guest: str = "guest") -> Result:
    """Boot, run script in the guest, and judge. Never raises for the guest's sake.

    A line of the results that matches until ends the run: what follows does not matter.
    """
    log = BUILD / "log" / "guest"
    log.mkdir(parents=True, exist_ok=True)
    console = log / f"{name}.console"
    said = [log / f"{name}.qemu", log / f"{name}.stderr"]
    for path in said:
        path.write_bytes(b"")
    lines: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory(prefix="sva-btm-") as tmp:
        port = Path(tmp) / "results"
        os.mkfifo(port)
        fd = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
        # Held open here as well, so that the guest's closing is no end of file
        keep = os.open(port, os.O_WRONLY)
        ours, theirs = socket.socketpair()
        argv = command(machine, kernel, f"panic=-1 panic_on_warn=1 oops=panic console_msg_format=syslog {append}",
                       initrd_with(script, Path(tmp), guest, kernel), "-D", str(said[0]))
        # Paused when the guest has powered off, so that its counters can be read
        argv += ["-serial", "stdio", "-monitor", "none", "-action", "shutdown=pause",
                 "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control",
                 # Where there are several root complexes, QEMU would choose
                 "-device", "virtio-serial-pci,disable-legacy=on,bus=pcie.0",
                 "-chardev", f"file,id=results,path={port}",
                 "-device", "virtserialport,chardev=results,name=results"]
        (log / f"{name}.cmd").write_text(shlex.join(argv) + "\n")
        if verbose:
            print("+", shlex.join(argv), flush=True)
        start = time.monotonic()
        with console.open("wb") as out, said[1].open("wb") as err:
            qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                    start_new_session=True, pass_fds=[theirs.fileno()])
        theirs.close()
        buf = b""
        rc: int | None = None
        enough = down = False
        refused = ""
        smmus: dict[str, dict[str, int]] = {}
        try:
            qmp = Qmp(ours)
            while True:
                rc = qemu.poll()
                for message in qmp.read():
                    down = down or message.get("event") == "SHUTDOWN"
                    if "error" in message:
                        raise OSError(f"QEMU: {message['error']['desc']}")
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
                    if ask := ASK.match(line):
                        qmp.plug(ask[1], ask[2], argv)
                if enough:
                    break
                if not chunk:
                    if down or rc is not None or now > timeout:
                        break
                    time.sleep(0.02)
            if down:
                smmus = qmp.smmus()
                qmp.send("quit")
                rc = qemu.wait(10)
        except (TimeoutError, subprocess.TimeoutExpired, KeyError, StopIteration, OSError) as e:
            refused = f"vm.py: {e}"
        finally:
            if qemu.poll() is None:
                os.killpg(qemu.pid, signal.SIGKILL)
                qemu.wait()
            os.close(fd)
            os.close(keep)
            ours.close()
    seconds = time.monotonic() - start
    (log / f"{name}.results").write_text("".join(f"{t:8.2f} {l}\n" for t, l in lines))
    audit: dict[str, int] = {}
    for _, line in lines:
        if match := AUDIT.match(line):
            for what, _, value in (word.partition("=") for word in match[2].split()):
                audit[what] = audit.get(what, 0) + int(value)
    lines = [(t, line) for t, line in lines if not AUDIT.match(line)]
    text = CRASH.sub("", RACE.sub("", console.read_text(errors="replace")))
    return Result(refused or verdict(rc, lines, text, timeout), lines, console, seconds, audit,
                  complaints(text, "".join(path.read_text(errors="replace") for path in said)), smmus)


def interactive(machine: str, kernel: str, append: str, gdb: bool, guest: str = "guest") -> int:
    """A prompt in the guest; with gdb, stopped before the first instruction."""
    kernel += "-gdb" if gdb else ""
    argv = command(machine, kernel, append, initrd_with("", Path(), guest))
    argv += ["-serial", "mon:stdio"]
    if gdb:
        obj = objects(kernel).resolve()
        print("QEMU waits. In another terminal:\n    gdb-multiarch "
              f"-iex 'add-auto-load-safe-path {obj}' {obj}/vmlinux -ex 'target remote :1234'\n"
              "(lines and types are there, `apropos lx-` lists the kernel's own commands; Ctrl-A X ends QEMU)", flush=True)
        argv += ["-s", "-S"]
    print("+", shlex.join(argv), file=sys.stderr, flush=True)
    return subprocess.call(argv)
