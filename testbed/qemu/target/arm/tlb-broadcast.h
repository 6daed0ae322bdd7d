/*
 * Broadcast TLB maintenance, for those who listen to it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_ARM_TLB_BROADCAST_H
#define TARGET_ARM_TLB_BROADCAST_H

#include "cpu.h"
#include "cpregs.h"
#include "qemu/queue.h"

/*
 * A TLBI of the Inner or Outer Shareable domain is heard by all that caches
 * translations there: the CPUs, and IOMMUs that share page tables with them.
 */

/* Translation regimes an operation applies to */
#define ARM_TLB_REGIME_EL10     (1 << 0) /* EL1&0 */
#define ARM_TLB_REGIME_EL20     (1 << 1) /* EL2&0: the host's, with VHE */
#define ARM_TLB_REGIME_EL2      (1 << 2)
#define ARM_TLB_REGIME_EL3      (1 << 3)

/* Stages of translation whose entries an operation applies to */
#define ARM_TLB_STAGE_1         (1 << 0) /* and both stages combined */
#define ARM_TLB_STAGE_2         (1 << 1)

/* What an operation on a single address covers; ranges are larger */
#define ARM_TLB_ADDRESS_SIZE    (1 << 12)

/**
 * struct ARMTLBBroadcast - a TLBI instruction, decoded
 * @space: security space of the translations
 * @regimes: any of ARM_TLB_REGIME_*
 * @stages: any of ARM_TLB_STAGE_*
 * @by_vmid: only translations of @vmid
 * @by_asid: only translations of @asid and, if @by_addr, global ones
 * @by_addr: only translations of [@base, @base + @size): an IPA if @stages is
 *           just ARM_TLB_STAGE_2, otherwise a VA, sign-extended from bit 55
 * @leaf: only cached copies of the last level of a walk have to go
 * @tg: only translations of this granule, 1: 4 KB, 2: 16 KB, 3: 64 KB; 0: any
 * @ttl: only translations that end at this level, 1 to 3; 0: any
 * @vmid: see @by_vmid, zero-extended to 16 bits
 * @asid: see @by_asid, zero-extended to 16 bits
 * @base: see @by_addr
 * @size: see @by_addr, in bytes
 */
typedef struct ARMTLBBroadcast {
    ARMSecuritySpace space;
    uint8_t regimes;
    uint8_t stages;
    bool by_vmid;
    bool by_asid;
    bool by_addr;
    bool leaf;
    uint8_t tg;
    uint8_t ttl;
    uint16_t vmid;
    uint16_t asid;
    uint64_t base;
    uint64_t size;
} ARMTLBBroadcast;

typedef struct ARMTLBBroadcastListener ARMTLBBroadcastListener;

/**
 * struct ARMTLBBroadcastListener - who wants to know of broadcast TLBIs
 * @notify: called for each of them by the thread of @cs, the vCPU that
 *          executes it, with the BQL held. The architecture wants the
 *          operation to be complete only when @cs executes a DSB.
 */
struct ARMTLBBroadcastListener {
    void (*notify)(ARMTLBBroadcastListener *listener, CPUState *cs,
                   const ARMTLBBroadcast *tlbi);
    QLIST_ENTRY(ARMTLBBroadcastListener) next;
};

typedef QLIST_HEAD(, ARMTLBBroadcastListener) ARMTLBBroadcastListeners;
extern ARMTLBBroadcastListeners arm_tlb_broadcast_listeners;

/**
 * arm_tlb_broadcast_add_listener - listen to broadcast TLBIs from now on
 * @listener: stays on the list for good
 *
 * vCPUs read the list without a lock, so call this before they run: when a
 * device of the machine is realized, which cannot be unplugged.
 */
void arm_tlb_broadcast_add_listener(ARMTLBBroadcastListener *listener);

/**
 * arm_tlb_broadcast_decode - what does a broadcast TLBI ask for?
 * @env: the CPU that executes it
 * @ri: the instruction; its encoding counts. The caller has made sure that it
 *      is broadcast: an IS or OS form, or a local one with HCR_EL2.FB
 * @value: its operand
 * @tlbi: the answer
 *
 * Returns false if it affects no translation.
 */
bool arm_tlb_broadcast_decode(CPUARMState *env, const ARMCPRegInfo *ri,
                              uint64_t value, ARMTLBBroadcast *tlbi);

/* Decode a broadcast TLBI and hand it to all listeners */
void arm_tlb_broadcast_notify(CPUARMState *env, const ARMCPRegInfo *ri,
                              uint64_t value);

/* To be called for each TLBI that is broadcast */
static inline void arm_tlb_broadcast(CPUARMState *env, const ARMCPRegInfo *ri,
                                     uint64_t value)
{
#ifndef CONFIG_USER_ONLY
    if (unlikely(!QLIST_EMPTY(&arm_tlb_broadcast_listeners))) {
        arm_tlb_broadcast_notify(env, ri, value);
    }
#endif
}

#endif
