/*
 * SMMUv3 model: counters
 *
 * Numbers only, so that guests can include it too.
 *
 * With the property "x-counters", these are 32-bit read-only registers in the
 * part of register page 0 that is IMPLEMENTATION DEFINED (IHI 0070, 6.1):
 * counter N is at SMMUV3_COUNTERS + 4 * N. They start at 0 when the SMMU is
 * reset, and wrap. As QOM properties "counter-..." (64 bits) they are always
 * there.
 *
 * A broadcast TLBI is ignored if SMMUEN=0, CR2.PTM=1, the SMMU is deaf, it has
 * no stream of that regime and security state, or no RIL if it is a range.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_ARM_SMMUV3_COUNTERS_H
#define HW_ARM_SMMUV3_COUNTERS_H

#define SMMUV3_COUNTERS                     0xe00
#define SMMUV3_COUNTERS_LAST                0xefc

/* Counter 0 is none: it tells that the others are there */
#define SMMUV3_COUNTER_ID                   0
#define SMMUV3_COUNTERS_ID_VALUE            0x53434e54 /* "SCNT" */

/* Commands consumed: all, which is what CMDQ_CONS moved by, and by opcode */
#define SMMUV3_COUNTER_CMD                  1
#define SMMUV3_COUNTER_CMD_PREFETCH         2 /* CONFIG, ADDR */
#define SMMUV3_COUNTER_CMD_CFGI_STE         3
#define SMMUV3_COUNTER_CMD_CFGI_STE_RANGE   4 /* CMD_CFGI_ALL too */
#define SMMUV3_COUNTER_CMD_CFGI_CD          5
#define SMMUV3_COUNTER_CMD_CFGI_CD_ALL      6
#define SMMUV3_COUNTER_CMD_TLBI_NH_ALL      7
#define SMMUV3_COUNTER_CMD_TLBI_NH_ASID     8
#define SMMUV3_COUNTER_CMD_TLBI_NH_VA       9
#define SMMUV3_COUNTER_CMD_TLBI_NH_VAA      10
#define SMMUV3_COUNTER_CMD_TLBI_EL2_ALL     11
#define SMMUV3_COUNTER_CMD_TLBI_EL2_ASID    12
#define SMMUV3_COUNTER_CMD_TLBI_EL2_VA      13
#define SMMUV3_COUNTER_CMD_TLBI_EL2_VAA     14
#define SMMUV3_COUNTER_CMD_TLBI_S12_VMALL   15
#define SMMUV3_COUNTER_CMD_TLBI_S2_IPA      16
#define SMMUV3_COUNTER_CMD_TLBI_NSNH_ALL    17
#define SMMUV3_COUNTER_CMD_ATC_INV          18
#define SMMUV3_COUNTER_CMD_PRI_RESP         19
#define SMMUV3_COUNTER_CMD_RESUME           20
#define SMMUV3_COUNTER_CMD_STALL_TERM       21
#define SMMUV3_COUNTER_CMD_SYNC             22
#define SMMUV3_COUNTER_CMD_OTHER            23 /* any other opcode */

/* Broadcast TLBIs received */
#define SMMUV3_COUNTER_BROADCAST_VA         24 /* by VA and ASID */
#define SMMUV3_COUNTER_BROADCAST_VAA        25 /* by VA, all ASIDs */
#define SMMUV3_COUNTER_BROADCAST_ASID       26 /* by ASID */
#define SMMUV3_COUNTER_BROADCAST_VMALL      27 /* all of stage 1 */
#define SMMUV3_COUNTER_BROADCAST_S12        28 /* all of stages 1 and 2 */
#define SMMUV3_COUNTER_BROADCAST_IPA        29 /* by IPA */
#define SMMUV3_COUNTER_BROADCAST_RANGE      30 /* of these: ranges */
#define SMMUV3_COUNTER_BROADCAST_IGNORED    31 /* of all: see above */

/* IOTLB entries dropped, lookups of it */
#define SMMUV3_COUNTER_DROP_BROADCAST       32
#define SMMUV3_COUNTER_DROP_CMD             33
#define SMMUV3_COUNTER_DROP_FULL            34 /* to make room */
#define SMMUV3_COUNTER_IOTLB_HIT            35
#define SMMUV3_COUNTER_IOTLB_MISS           36

/* Transactions that failed; event records, written or lost */
#define SMMUV3_COUNTER_FAULT                37
#define SMMUV3_COUNTER_EVENT                38

/* Walks that did not begin at the root, thanks to the walk cache */
#define SMMUV3_COUNTER_WALK_CACHE_HIT       39

/* Translation Requests; Translated transactions */
#define SMMUV3_COUNTER_ATS_REQUEST          40
#define SMMUV3_COUNTER_ATS_TRANSLATED       41

/*
 * Transactions stalled: event records with Stall=1, those that had to wait for
 * one, retries and terminations by command, and how many are held now
 */
#define SMMUV3_COUNTER_STALL                42
#define SMMUV3_COUNTER_STALL_WAIT           43
#define SMMUV3_COUNTER_STALL_RETRY          44
#define SMMUV3_COUNTER_STALL_TERM           45
#define SMMUV3_COUNTER_STALL_HELD           46

/* Translations that nobody has asked for; lookups that found a contradiction */
#define SMMUV3_COUNTER_PREFETCH             47
#define SMMUV3_COUNTER_CONFLICT             48

/*
 * Reading one of these does an audit: how many cached entries differ from what
 * is in memory, in a way that grants an access; and how many still did after
 * all CPUs have made progress, so that nobody is about to invalidate them
 */
#define SMMUV3_COUNTER_AUDIT_DIFFERS        49
#define SMMUV3_COUNTER_AUDIT_STALE          50

#define SMMUV3_COUNTER_NUM                  51

#endif
