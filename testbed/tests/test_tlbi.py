# SPDX-License-Identifier: GPL-2.0-or-later
"""Broadcast TLB maintenance: QEMU's decoder against a table from the Arm ARM.

A program without an operating system executes every TLBI of one exception
level, with operands that differ in all fields. QEMU traces what its decoder
hands to the listeners; that has to be what the table below says, in that order.

QTEST_QEMU_BINARY is the QEMU to test, by default the one that testbed/bin/build
has built; CROSS is the prefix of the AArch64 compiler.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CC = os.environ.get("CROSS", "aarch64-linux-gnu-") + "gcc"
MACHINE = ("-M virt,iommu=smmuv3,virtualization=on,secure=on -global arm-smmuv3.btm=on "
           "-nographic -nodefaults -nic none -semihosting -trace arm_tlb_broadcast*").split()
LOAD_AT = 0x41000000

# target/arm/tlb-broadcast.h, and enum ARMSecuritySpace
EL10, EL20, EL2, EL3 = 1, 2, 4, 8
S1, S2 = 1, 2
SECURE, NONSECURE = 0, 1
ANY = -1

# HCR_EL2
RW, E2H, TGE, FB = 1 << 31, 1 << 34, 1 << 27, 1 << 9

VMID, ASID = 0x1234, 0xabcd
MASK64 = (1 << 64) - 1


class Broadcast(NamedTuple):
    """What a listener is told; the fields of the trace, in its order."""
    space: int
    regimes: int
    stages: int
    vmid: int
    asid: int
    base: int
    size: int
    leaf: int
    tg: int
    ttl: int


class Op(NamedTuple):
    """An instruction. `by` says what its operand names."""
    name: str
    op1: int
    op2: int
    by: str         # all, asid, va (and ASID), vaa (all ASIDs), ipa
    leaf: bool = False


# By exception level of op1: the instructions, and those that take a range
OPS = {
    0: [Op("VMALLE1", 0, 0, "all"), Op("VAE1", 0, 1, "va"), Op("ASIDE1", 0, 2, "asid"),
        Op("VAAE1", 0, 3, "vaa"), Op("VALE1", 0, 5, "va", True), Op("VAALE1", 0, 7, "vaa", True)],
    4: [Op("ALLE2", 4, 0, "all"), Op("VAE2", 4, 1, "va"), Op("ALLE1", 4, 4, "all"),
        Op("VALE2", 4, 5, "va", True), Op("VMALLS12E1", 4, 6, "all")],
    6: [Op("ALLE3", 6, 0, "all"), Op("VAE3", 6, 1, "va"), Op("VALE3", 6, 5, "va", True)],
}
RANGES = {
    0: [Op("RVAE1", 0, 1, "va"), Op("RVAAE1", 0, 3, "vaa"),
        Op("RVALE1", 0, 5, "va", True), Op("RVAALE1", 0, 7, "vaa", True)],
    4: [Op("RVAE2", 4, 1, "va"), Op("RVALE2", 4, 5, "va", True)],
    6: [Op("RVAE3", 6, 1, "va"), Op("RVALE3", 6, 5, "va", True)],
}
# Those by IPA do not fit in: name, CRm, op2, scope
IPA = [("IPAS2E1", 0, 1, "IS"), ("IPAS2LE1", 0, 5, "IS"), ("IPAS2E1", 4, 0, "OS"),
       ("IPAS2LE1", 4, 4, "OS"), ("IPAS2E1", 4, 1, ""), ("IPAS2LE1", 4, 5, ""),
       ("RIPAS2E1", 0, 2, "IS"), ("RIPAS2LE1", 0, 6, "IS"), ("RIPAS2E1", 4, 3, "OS"),
       ("RIPAS2LE1", 4, 7, "OS"), ("RIPAS2E1", 4, 2, ""), ("RIPAS2LE1", 4, 6, "")]
# Scope, CRm, and CRm of those that take a range
SCOPES = [("IS", 3, 2), ("OS", 1, 5), ("", 7, 6)]


class Config(NamedTuple):
    """Where the program runs."""
    el: int
    hcr: int = RW
    secure: bool = False
    vmid16: bool = True
    asid16: bool = True
    cpu: str = "max"

    @property
    def v8_0(self) -> bool:
        """No Outer Shareable, no ranges, no TTL, no nXS, and VMIDs of 8 bits."""
        return self.cpu != "max" and not self.cpu.startswith("max,")


class Operand(NamedTuple):
    """An operand and what it means."""
    value: int
    base: int = 0
    size: int = 0
    tg: int = 0
    ttl: int = 0
    ns_ipa: bool = False


def instructions() -> Iterator[tuple[Op, int, str, bool]]:
    """Every instruction with its CRm, its scope, and whether it takes a range."""
    for op1, ops in OPS.items():
        for scope, crm, range_crm in SCOPES:
            yield from ((op, crm, scope, False) for op in ops)
            yield from ((op, range_crm, scope, True) for op in RANGES[op1])
    for name, crm, op2, scope in IPA:
        yield Op(name, 4, op2, "ipa", "LE1" in name), crm, scope, name.startswith("R")


def addresses(op: Op, config: Config) -> Iterator[Operand]:
    """Operands that name one address."""
    top = ASID << 48 if op.by == "va" and op.op1 != 6 else 0
    for va in (0x0000_1234_5678_9000, 0xffff_8765_4321_0000):
        base = va & (1 << 48) - 1 if op.by == "ipa" else va
        field = base >> 12 & (1 << 36 if op.by == "ipa" else 1 << 44) - 1
        # TTL:TG, and what of it counts: level 0 is reserved, as is no granule
        for ttl, tg, level in ((0b0000, 0, 0), (0b0111, 1, 3), (0b0110, 1, 2), (0b1011, 2, 3),
                               (0b1110, 3, 2), (0b0011, 0, 0), (0b0100, 0, 0)):
            if config.v8_0:
                tg = level = 0
            yield Operand(top | ttl << 44 | field, base, 4096, tg, level)


def ranges(op: Op, config: Config) -> Iterator[Operand]:
    """Operands that name a range of addresses."""
    top = ASID << 48 if op.by == "va" and op.op1 != 6 else 0
    two_halves = op.op1 == 0 or op.op1 == 4 and op.by == "va" and config.hcr & E2H
    for tg, shift in ((1, 12), (2, 14), (3, 16)):
        for num, scale in ((0, 0), (3, 0), (31, 1), (5, 3)):
            for ttl in (0, 3):
                for base in (0x12345 << shift, -(0x54321 << shift)):
                    if base < 0 and not two_halves:
                        continue
                    field = base >> shift & (1 << 37) - 1
                    yield Operand(top | tg << 46 | scale << 44 | num << 39 | ttl << 37 | field,
                                  base & MASK64, (num + 1) * 2 ** (5 * scale + 1) << shift, tg, ttl)


def operands(op: Op, is_range: bool, config: Config) -> Iterator[Operand]:
    """What to execute this instruction with."""
    if op.by == "all":
        yield Operand(0xdeadbeef12345678)
    elif op.by == "asid":
        yield Operand(ASID << 48 | 0x5678)
    else:
        for operand in ranges(op, config) if is_range else addresses(op, config):
            yield operand
            if op.by == "ipa" and config.secure:
                yield operand._replace(value=operand.value | 1 << 63, ns_ipa=True)


def expected(op: Op, scope: str, operand: Operand, config: Config) -> Broadcast | None:
    """What the decoder has to make of it; None if it stays on this CPU."""
    if not scope and not (config.hcr & FB and config.el == 1):
        return None
    e2h = bool(config.hcr & E2H)
    host = e2h and bool(config.hcr & TGE)
    vmid: int = VMID if config.vmid16 and not config.v8_0 else VMID & 0xff
    asid: int = ASID if config.asid16 else ASID & 0xff
    space = SECURE if config.secure and not operand.ns_ipa else NONSECURE
    regimes, stages = EL10, S1

    if op.op1 == 0:
        if host:
            regimes, vmid = EL20, ANY
        if op.by not in ("asid", "va"):
            asid = ANY
    elif op.op1 == 6:
        regimes, vmid, asid, space = EL3, ANY, ANY, SECURE
    elif op.by == "ipa":
        stages, asid = S2, ANY
    elif op.by == "va":
        regimes, vmid = EL20 if e2h else EL2, ANY
        asid = asid if e2h else ANY
    else:
        asid = ANY
        if op.name == "ALLE2":
            regimes, vmid = EL20 | EL2, ANY
        else:
            stages = S1 | S2
            vmid = vmid if op.name == "VMALLS12E1" else ANY
    return Broadcast(space, regimes, stages, vmid, asid, operand.base, operand.size,
                     int(op.leaf), operand.tg, operand.ttl)


def program(config: Config) -> tuple[str, list[tuple[str, Broadcast]]]:
    """The program in assembly, and the broadcasts that it makes."""
    body: list[str] = []
    want: list[tuple[str, Broadcast]] = []
    for op, crm, scope, is_range in instructions():
        if {4: 2, 6: 3}.get(op.op1, 1) > config.el or config.v8_0 and (is_range or scope == "OS"):
            continue
        for crn in (8,) if config.v8_0 else (8, 9):
            for operand in operands(op, is_range, config):
                body += [f"ldr x0, ={operand.value:#x}", f"sys #{op.op1}, C{crn}, C{crm}, #{op.op2}, x0"]
                broadcast = expected(op, scope, operand, config)
                if broadcast:
                    want.append((f"TLBI_{op.name}{scope}" + "NXS" * (crn == 9), broadcast))
            body += ["b 1f", ".ltorg", "1:"]
    # RES1, HCE and RW; EEL2; NS
    scr = 0x5b0 | 1 << 18 | (not config.secure)
    return start(scr, config.hcr, 1 << 31 | config.vmid16 << 19, 0x3c0 | config.el << 2 | 1,
                 config.el < 3) + "\n".join(body) + """
        ldr x1, =exit_block
        mov w0, #0x18
        hlt #0xf000
        .balign 8
exit_block: .quad 0x20026, 0
        .ltorg
""", want


def start(scr: int, hcr: int, vtcr: int, spsr: int, leave: bool) -> str:
    """From EL3, where the program starts, to where SPSR says; or not."""
    return f"""
        .global _start
_start: ldr x0, ={scr:#x}
        msr scr_el3, x0
        ldr x0, ={hcr:#x}
        msr hcr_el2, x0
        ldr x0, ={vtcr:#x}
        msr vtcr_el2, x0
        ldr x0, ={VMID << 48:#x}
        msr vttbr_el2, x0
        msr sctlr_el1, xzr
        isb
        mov x0, #{spsr:#x}
        msr spsr_el3, x0
        adr x0, 2f
        msr elr_el3, x0
        {"eret" if leave else "b 2f"}
        .ltorg
        .balign 8
2:
"""


def program_a32(hcr: int) -> tuple[str, list[tuple[str, Broadcast]]]:
    """For AArch32 at EL1: in machine code, as AArch64's assembler has no A32."""
    asid, va = 0xcd, 0x87654000
    code: list[int] = []
    want: list[tuple[str, Broadcast]] = []

    def mov(reg: int, value: int) -> None:
        for opcode, half in ((0xe3000000, value & 0xffff), (0xe3400000, value >> 16)):
            code.append(opcode | half >> 12 << 16 | reg << 12 | half & 0xfff)

    # Name, op2, whether the ASID and the VA count, last level only
    ops = [("ALL", 0, False, False, False), ("MVA", 1, True, True, False),
           ("ASID", 2, True, False, False), ("MVAA", 3, False, True, False),
           ("MVAL", 5, True, True, True), ("MVAAL", 7, False, True, True)]
    for crm, name, count in ((3, "TLBI{}IS", 8), (7, "TLBI{}", 8), (6, "DTLBI{}", 3), (5, "ITLBI{}", 3)):
        for op, op2, by_asid, by_va, leaf in ops:
            if op2 >= count:
                continue
            mov(0, va | asid)
            code.append(0xee000f10 | 8 << 16 | crm | op2 << 5)
            if crm == 3 or hcr & FB:
                want.append((name.format(op), Broadcast(
                    NONSECURE, EL10, S1, VMID & 0xff, asid if by_asid else ANY, va if by_va else 0,
                    4096 if by_va else 0, int(leaf), 0, 0)))
    mov(0, 0x18)
    mov(1, 0x20026)
    code.append(0xef123456)     # semihosting: exit
    return start(0x5b1, hcr, 0, 0x1d3, True) + ".inst " + ", ".join(f"{c:#x}" for c in code) + "\n", want


NAME = re.compile(r"arm_tlb_broadcast cpu \d+ (\w+)")
DECODED = re.compile("arm_tlb_broadcast_decoded " + " ".join(
    rf"{f} (-?\w+)" for f in Broadcast._fields))


def qemu() -> str:
    """The QEMU to test."""
    if path := os.environ.get("QTEST_QEMU_BINARY"):
        return path
    import vm   # pylint: disable=import-outside-toplevel
    return str(vm.QEMU)


def execute(source: str, cpu: str) -> list[tuple[str, Broadcast]]:
    """Run the program; return the broadcasts that QEMU has traced."""
    with tempfile.TemporaryDirectory(prefix="sva-btm-") as tmp:
        asm, elf, log = (Path(tmp) / name for name in ("tlbi.S", "tlbi.elf", "log"))
        asm.write_text(source)
        subprocess.run([CC, "-nostdlib", "-static", f"-Wl,-Ttext={LOAD_AT:#x}", "-Wl,--build-id=none",
                        "-o", str(elf), str(asm)], check=True)
        subprocess.run([qemu(), *MACHINE, "-cpu", cpu, "-D", str(log),
                        "-device", f"loader,file={elf},cpu-num=0"], timeout=60, check=True,
                       stdin=subprocess.DEVNULL)
        got: list[tuple[str, Broadcast]] = []
        name = ""
        for line in log.read_text().splitlines():
            if match := NAME.search(line):
                name = match[1]
            if match := DECODED.search(line):
                got.append((name, Broadcast(*(int(field, 0) for field in match.groups()))))
        return got


class TLBITest(unittest.TestCase):
    """One program per exception level and what changes the meaning there."""

    def compare(self, source: str, want: list[tuple[str, Broadcast]], cpu: str) -> None:
        got = execute(source, cpu)
        self.assertTrue(want)
        for number, (one, other) in enumerate(zip(got, want)):
            self.assertEqual(one, other, f"broadcast {number}")
        self.assertEqual(len(got), len(want))

    def check(self, config: Config) -> None:
        self.compare(*program(config), config.cpu)

    def test_el1(self) -> None:
        self.check(Config(1))

    def test_el1_forced_broadcast(self) -> None:
        self.check(Config(1, RW | FB))

    def test_el1_8_bit_vmid(self) -> None:
        self.check(Config(1, vmid16=False))

    def test_el1_8_bit_asid(self) -> None:
        self.check(Config(1, asid16=False, cpu="max,x-asid-bits=8"))

    def test_el1_v8_0(self) -> None:
        self.check(Config(1, cpu="cortex-a57"))

    def test_el1_secure(self) -> None:
        self.check(Config(1, secure=True))

    def test_el2(self) -> None:
        self.check(Config(2))

    def test_el2_v8_0(self) -> None:
        self.check(Config(2, cpu="cortex-a57"))

    def test_el2_secure(self) -> None:
        self.check(Config(2, secure=True))

    def test_el2_e2h(self) -> None:
        self.check(Config(2, RW | E2H))

    def test_el2_host(self) -> None:
        self.check(Config(2, RW | E2H | TGE))

    def test_el2_host_8_bit_asid(self) -> None:
        self.check(Config(2, RW | E2H | TGE, asid16=False, cpu="max,x-asid-bits=8"))

    def test_el3(self) -> None:
        self.check(Config(3))

    def test_el3_host(self) -> None:
        self.check(Config(3, RW | E2H | TGE))

    def test_aarch32(self) -> None:
        self.compare(*program_a32(0), "cortex-a53")

    def test_aarch32_forced_broadcast(self) -> None:
        self.compare(*program_a32(FB), "cortex-a53")


if __name__ == "__main__":
    unittest.main()
