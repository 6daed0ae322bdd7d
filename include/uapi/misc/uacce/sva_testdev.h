/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Registers of sva-testdev, the PCIe function with PASID that QEMU models so
 * that Shared Virtual Addressing can be tested. The device's model, its driver
 * and user space include this one file. It holds numbers only.
 *
 * All registers are little-endian. A 32-bit register is accessed with 32 bits,
 * a 64-bit one with 64 bits or as two 32-bit halves.
 */
#ifndef _UAPI_SVA_TESTDEV_H
#define _UAPI_SVA_TESTDEV_H

#define SVATD_PCI_VENDOR_ID	0x1af4
#define SVATD_PCI_DEVICE_ID	0x10f0	/* 10f0-10ff: free for experiments */

/* BAR 0: the control page, for the driver alone */
#define SVATD_BAR_CTRL		0
#define SVATD_CTRL_SIZE		0x10000
/* BAR 2: the queue pages, one per queue, each mapped by one process */
#define SVATD_BAR_QUEUES	2
/* BAR 4: MSI-X */
#define SVATD_BAR_MSIX		4

#define SVATD_MAX_QUEUES	1024
#define SVATD_NUM_SLOTS		16
/* Queue pages stand this far apart: no page size puts two into one page */
#define SVATD_QUEUE_STRIDE	0x10000
#define SVATD_QUEUE_SIZE	0x1000	/* what is used of a queue page */

/*
 * Control page
 */
#define SVATD_ID		0x00	/* RO: SVATD_ID_VALUE */
#define SVATD_ID_VALUE		0x54415653	/* "SVAT" */
#define SVATD_VERSION		0x04	/* RO */
#define SVATD_VERSION_VALUE	1
#define SVATD_CAPS		0x08	/* RO */
#define SVATD_CAPS_QUEUES	0x0000ffff	/* number of queues */
#define SVATD_CAPS_PASID_BITS	0x001f0000	/* 0: no PASID capability */
#define SVATD_CAPS_PASID_SHIFT	16
#define SVATD_CAPS_ATS		0x80000000	/* has an ATC */
/* The ATC: entries now, and since reset Invalidate Requests and what they drop */
#define SVATD_ATC_ENTRIES	0x0c	/* RO */
#define SVATD_ATC_INVS		0x10	/* RO */
#define SVATD_ATC_DROPS		0x14	/* RO */

/* One block per queue. Only the driver can reach it, so only it sets a PASID */
#define SVATD_QCTL(q)		(0x1000 + (q) * 0x20)
#define SVATD_QCTL_CTL		0x00	/* RW */
/*
 * 0 -> 1 clears every slot of the queue, and has no effect while it is busy.
 * 1 -> 0 ends every operation in flight; once SVATD_QCTL_STATE reads 0 the queue
 * sends no transaction any more. The SMMU may hold one: that takes until it has
 * been told what to do with it.
 */
#define SVATD_QCTL_CTL_ENABLE	0x1
/* Transactions carry the PASID; otherwise they carry none (the RID's domain) */
#define SVATD_QCTL_CTL_PASID	0x2
/* RW, 20 bits. A write to it, or to CTL_PASID, has no effect while enabled */
#define SVATD_QCTL_PASID	0x04
#define SVATD_QCTL_STATE	0x08	/* RO */
#define SVATD_QCTL_STATE_BUSY	0x1	/* an operation is in flight */
#define SVATD_QCTL_VECTOR	0x0c	/* RW: MSI-X vector of the queue */

/*
 * Queue page
 */
#define SVATD_Q_DONE		0x00	/* RW1C: a bit per slot that completed */
#define SVATD_Q_INFO		0x04	/* RO */
#define SVATD_Q_INFO_ENABLED	0x1
/* RO, since the queue was enabled: accesses whose translation was in the ATC,
 * Translation Requests, accesses that the SMMU has held
 */
#define SVATD_Q_ATC_HITS	0x08
#define SVATD_Q_ATC_MISSES	0x0c
#define SVATD_Q_STALLS		0x10
#define SVATD_Q_STALLED		0x14	/* RO: a bit per slot with one held now */
#define SVATD_Q_SLOT(n)		(0x400 + (n) * 0x80)

/*
 * Slot: arm (write the arguments), trigger (write CMD), read the result. Slots
 * are independent of each other and run at once. While a slot runs, all writes
 * to it but SVATD_OP_STOP are ignored.
 */
#define SVATD_SLOT_CMD		0x00	/* RW, 32 bits: starts the operation */
#define SVATD_CMD_OP		0x000000ff
#define SVATD_CMD_IRQ		0x00000100	/* interrupt on completion */
#define SVATD_SLOT_STATUS	0x04	/* RO, 32 bits */
#define SVATD_STATUS_CODE	0x000000ff
#define SVATD_STATUS_WRITE	0x00000100	/* the access that failed was a write */
#define SVATD_STATUS_ATC	0x00000200	/* its translation came from the ATC */
#define SVATD_SLOT_SRC		0x08	/* RW, 64 bits: address */
#define SVATD_SLOT_DST		0x10	/* RW, 64 bits: address */
#define SVATD_SLOT_LEN		0x18	/* RW, 64 bits: bytes */
#define SVATD_SLOT_ARG		0x20	/* RW, 64 bits */
#define SVATD_SLOT_ARG2		0x28	/* RW, 64 bits */
#define SVATD_SLOT_STRIDE	0x30	/* RW, 64 bits: bytes */
#define SVATD_SLOT_FADDR	0x38	/* RO, 64 bits: address that failed */
#define SVATD_SLOT_VALUE	0x40	/* RO, 64 bits: value found there */
#define SVATD_SLOT_COUNT	0x48	/* RO, 64 bits: progress */

/*
 * Operations. COUNT is in bytes for COPY, FILL and COMPARE; in accesses for
 * ATOMIC_ADD, POLL and HAMMER, and keeps rising while they run.
 */
#define SVATD_OP_NOP		1
#define SVATD_OP_COPY		2	/* LEN bytes from SRC to DST */
#define SVATD_OP_FILL		3	/* LEN bytes at DST with ARG; LEN % 8 == 0 */
/* LEN bytes at SRC and DST; the first difference's address in SRC to FADDR,
 * the byte found in SRC to VALUE
 */
#define SVATD_OP_COMPARE	4
#define SVATD_OP_ATOMIC_ADD	5	/* *DST += ARG, 64 bits; old value to VALUE */
/* Read the 64 bits at SRC, SRC + STRIDE, ... below SRC + LEN, again and again,
 * until one is neither ARG nor ARG2 (MISMATCH), an access fails, or STOP
 */
#define SVATD_OP_POLL		6
/* Write ARG to DST, DST + STRIDE, ... below DST + LEN, again and again, until
 * an access fails, or STOP
 */
#define SVATD_OP_HAMMER		7
#define SVATD_OP_STOP		8	/* end what the slot runs */

/* SVATD_STATUS_CODE */
#define SVATD_ST_IDLE		0	/* nothing was started */
#define SVATD_ST_RUNNING	1
#define SVATD_ST_OK		2
#define SVATD_ST_MISMATCH	3	/* FADDR and VALUE say where and what */
#define SVATD_ST_FAULT		4	/* the SMMU ended the access; FADDR */
#define SVATD_ST_BAD_CMD	5	/* unknown operation, or a reserved bit */
#define SVATD_ST_BAD_ARG	6	/* alignment, stride, or a range that wraps */
#define SVATD_ST_STOPPED	7
#define SVATD_ST_DISABLED	8	/* the driver has not enabled the queue */
#define SVATD_ST_BUS		9	/* no memory at the output address; FADDR */

#endif /* _UAPI_SVA_TESTDEV_H */
