/* SPDX-License-Identifier: GPL-2.0-only */
/* What sva_kvm and its guest's code have to agree about */
#ifndef SELFTESTS_IOMMU_SVA_KVM_H
#define SELFTESTS_IOMMU_SVA_KVM_H

#define GUEST_PAGE	0x1000		/* whatever the host's are */

/* In the guest's memory, by IPA */
#define GUEST_RAM	0x40000000
#define GUEST_SIZE	0x400000
/* From its beginning */
#define GUEST_VECTORS	0x800
#define GUEST_CTRL	0x1000
#define GUEST_L1	0x2000
#define GUEST_L2	0x3000
#define GUEST_L3	0x4000
#define GUEST_WINDOW_L3	0x5000
#define GUEST_PAGES	0x6000		/* two, which hold their number */
#define GUEST_SPARE	0x200000	/* what the host takes away */

/* By VA; the code, tables and pages have that of their IPA */
#define GUEST_WINDOW	0x40200000	/* where pages come and go */
#define GUEST_MMIO	0x40400000	/* a store there ends KVM_RUN */
#define GUEST_SPARE_VA	0x40600000

#define WINDOW_SHIFT	5
#define WINDOW_PAGES	32

/* Of the ops, those that differ from the others, and one to know */
#define OP_VMALLE1IS	5
#define OP_NEW_ASIDS	24
#define OP_NOTHING	25	/* not even the TLBI that is due */

/* struct guest_ctrl */
#define CTRL_OP		0
#define CTRL_ASID	16
#define CTRL_TTBR	32

#ifndef __ASSEMBLER__

#include <linux/types.h>

/**
 * struct guest_ctrl - what the guest finds at GUEST_CTRL
 * @op: what to do
 * @count: how many times
 * @asid: the ASID it has
 * @pte: of the first of GUEST_PAGES; the other is next to it
 * @ttbr: its page table
 */
struct guest_ctrl {
	__u64 op;
	__u64 count;
	__u64 asid;
	__u64 pte;
	__u64 ttbr;
};

extern const char sva_kvm_guest[], sva_kvm_guest_end[];

#endif
#endif /* SELFTESTS_IOMMU_SVA_KVM_H */
