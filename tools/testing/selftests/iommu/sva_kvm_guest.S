/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest of sva_kvm, at the beginning of its memory. It starts with its MMU on,
 * does what it finds in struct guest_ctrl, tells how often it read from a page that
 * it had unmapped, and starts again. An exception is told each time, instead.
 *
 * x0 op, x1 how many times still, x2 errors, x3 page, x4 its PTE, x5 its address,
 * x6 and x7 scratch, x8 operand by address, x9 by range, x10 ASID. At 5 is what to
 * do, two instructions for each op.
 */
#include "sva_kvm.h"

	.macro op insn:vararg
	\insn
	b	6f
	.endm

	.section .rodata
	.balign	GUEST_PAGE
	.global	sva_kvm_guest, sva_kvm_guest_end
sva_kvm_guest:
	mov	x19, #GUEST_RAM
	add	x20, x19, #GUEST_WINDOW_L3
	mov	x21, #GUEST_WINDOW
	mov	x22, #GUEST_MMIO
	add	x23, x19, #GUEST_CTRL
	mov	x24, #GUEST_SPARE_VA
1:	ldp	x0, x1, [x23, #CTRL_OP]
	mov	x2, #0
2:	sub	x1, x1, #1
	and	x3, x1, #(WINDOW_PAGES - 1)
	add	x4, x20, x3, lsl #3
	add	x5, x21, x3, lsl #12
	/* Load from memory that the host takes away */
	add	x6, x24, x3, lsl #12
	ldr	x6, [x6]
	/* This op takes a new ASID each time; when they have run out, all go */
	ldp	x10, x6, [x23, #CTRL_ASID]
	cmp	x0, #OP_NEW_ASIDS
	b.ne	4f
	add	x10, x10, #1
	ands	x10, x10, #0xff
	b.ne	3f
	mov	x10, #1
	tlbi	vmalle1
	dsb	ish
3:	str	x10, [x23, #CTRL_ASID]
	ldr	x7, [x23, #CTRL_TTBR]
	orr	x7, x7, x10, lsl #48
	msr	ttbr0_el1, x7
	isb
	/* Map one page or the other, and read its number */
4:	ubfx	x7, x1, #WINDOW_SHIFT, #1
	add	x6, x6, x7, lsl #12
	str	x6, [x4]
	dsb	ishst
	isb
	ldr	x8, [x5]
	cmp	x8, x7
	cinc	x2, x2, ne
	/* Unmap it */
	str	xzr, [x4]
	dsb	ishst
	lsr	x8, x5, #12
	orr	x8, x8, x10, lsl #48
	mov	x9, #1 << 46
	orr	x9, x9, x8
	adr	x6, 5f
	add	x6, x6, x0, lsl #3
	br	x6
5:	op	tlbi vae1is, x8
	op	tlbi vale1is, x8
	op	tlbi vaae1is, x8
	op	tlbi vaale1is, x8
	op	tlbi aside1is, x8
	op	tlbi vmalle1is
	/* KVM makes broadcasts of these (HCR_EL2.FB) */
	op	tlbi vae1, x8
	op	tlbi vale1, x8
	op	tlbi vaae1, x8
	op	tlbi vaale1, x8
	op	tlbi aside1, x8
	op	tlbi vmalle1
	/* Outer Shareable: VAE1OS, VALE1OS, VAAE1OS, VAALE1OS, ASIDE1OS, VMALLE1OS */
	op	sys #0, c8, c1, #1, x8
	op	sys #0, c8, c1, #5, x8
	op	sys #0, c8, c1, #3, x8
	op	sys #0, c8, c1, #7, x8
	op	sys #0, c8, c1, #2, x8
	op	sys #0, c8, c1, #0
	/* Ranges: RVAE1IS, RVALE1IS, RVAAE1IS, RVAALE1IS, RVAE1, RVAE1OS */
	op	sys #0, c8, c2, #1, x9
	op	sys #0, c8, c2, #5, x9
	op	sys #0, c8, c2, #3, x9
	op	sys #0, c8, c2, #7, x9
	op	sys #0, c8, c6, #1, x9
	op	sys #0, c8, c5, #1, x9
	op	nop
	op	nop
6:	dsb	ish
	isb
	cbnz	x1, 2b
	str	x2, [x22]
	b	1b

	/* Any exception */
	.balign	GUEST_VECTORS
	.rept	16
	.balign	128
	mov	x2, #-1
	mov	x22, #GUEST_MMIO
1:	str	x2, [x22]
	b	1b
	.endr
sva_kvm_guest_end:

	.section .note.GNU-stack, "", %progbits
