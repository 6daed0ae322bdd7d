/*
 * SMMUv3 Broadcast TLB Maintenance (SMMU_IDR0.BTM)
 *
 * What broadcast TLBIs of the CPUs do to the IOTLB: IHI 0070, 3.17 and CD.ASET
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/main-loop.h"
#include "system/qtest.h"
#include "system/tcg.h"
#include "cpu.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-internal.h"

/* The regimes of the CPUs, by that of a stream */
static const uint8_t world_regime[] = {
    [SMMU_WORLD_EL1] = ARM_TLB_REGIME_EL10,
    [SMMU_WORLD_EL2] = ARM_TLB_REGIME_EL2,
    [SMMU_WORLD_EL2_E2H] = ARM_TLB_REGIME_EL20,
};

/*
 * Must this entry go? The model drops what it has to drop and nothing more, so
 * that it does not forgive a driver that relies on a broadcast it never got.
 */
static gboolean smmuv3_btm_match(gpointer k, gpointer v, gpointer opaque)
{
    const SMMUIOTLBKey *key = k;
    const SMMUTLBEntry *entry = v;
    const ARMTLBBroadcast *tlbi = opaque;
    uint64_t first, last, tlbi_last;
    bool stage1 = key->asid >= 0;

    if (!(tlbi->regimes & world_regime[key->world])) {
        return false;
    }
    if (!(tlbi->stages & (stage1 ? ARM_TLB_STAGE_1 : ARM_TLB_STAGE_2))) {
        return false;
    }
    /* Without stage 2, all that an SMMU translates has VMID 0 */
    if (tlbi->by_vmid && tlbi->vmid != MAX(key->vmid, 0)) {
        return false;
    }
    if (tlbi->by_asid) {
        if (entry->aset) {
            return false; /* the ASID is not one of the CPUs' */
        }
        if (entry->global ? !tlbi->by_addr : tlbi->asid != key->asid) {
            return false;
        }
    }
    if (!tlbi->by_addr) {
        return true;
    }
    /* EL2 has no ASIDs, but it may have ASET all the same */
    if (key->world == SMMU_WORLD_EL2 && entry->aset) {
        return false;
    }

    /* If stage 2 gave the entry its size, stage 1's is not known any more */
    if (!entry->s2_sized &&
        ((tlbi->tg && tlbi->tg != key->tg) ||
         (tlbi->ttl && (entry->table ? tlbi->ttl <= entry->level :
                                       tlbi->ttl != entry->level)))) {
        return false;
    }
    first = entry->entry.iova;
    if (stage1) {
        first = sextract64(first, 0, 56); /* a TLBI does not see TBI's byte */
    }
    last = first + entry->entry.addr_mask;
    tlbi_last = tlbi->base + tlbi->size - 1;
    if (tlbi_last < tlbi->base) {
        tlbi_last = UINT64_MAX;
    }
    return first <= tlbi_last && tlbi->base <= last;
}

/* The kind of a broadcast, a bit of x-btm-deaf-kinds */
static unsigned int smmuv3_btm_kind(const ARMTLBBroadcast *tlbi)
{
    if (!tlbi->by_addr) {
        return tlbi->by_asid ? SMMUV3_DEAF_ASID : SMMUV3_DEAF_ALL;
    }
    if (tlbi->size > ARM_TLB_ADDRESS_SIZE) {
        return SMMUV3_DEAF_RANGE;
    }
    return tlbi->leaf ? SMMUV3_DEAF_VAL : SMMUV3_DEAF_VA;
}

/* Why a broadcast of @cs does not reach the IOTLB, or NULL if it does */
static const char *smmuv3_btm_ignore(SMMUv3State *s, CPUState *cs,
                                     const ARMTLBBroadcast *tlbi)
{
    if (!smmu_enabled(s)) {
        return "SMMUEN=0";
    }
    if (FIELD_EX32(s->cr[2], CR2, PTM)) {
        return "PTM=1";
    }
    if (s->btm_deaf) {
        return "deaf";
    }
    if (s->btm_deaf_kinds & smmuv3_btm_kind(tlbi)) {
        return "deaf to this kind";
    }
    if (s->btm_deaf_cpu == cs->cpu_index) {
        return "deaf to this CPU";
    }
    if (tlbi->space != ARMSS_NonSecure) {
        return "not Non-secure";
    }
    if (!(tlbi->regimes & (s->hyp ? ARM_TLB_REGIME_EL10 | ARM_TLB_REGIME_EL2 |
                                    ARM_TLB_REGIME_EL20 :
                                    ARM_TLB_REGIME_EL10))) {
        return "no stream of that regime";
    }
    if (!s->ril && tlbi->by_addr && tlbi->size > ARM_TLB_ADDRESS_SIZE) {
        return "range without RIL";
    }
    return NULL;
}

static SMMUTLBScope smmuv3_btm_scope(const ARMTLBBroadcast *tlbi)
{
    return (SMMUTLBScope) {
        .asid = tlbi->by_asid ? tlbi->asid : -1,
        .leaf = tlbi->by_addr && tlbi->leaf,
        .by_addr = tlbi->by_addr,
        .first = tlbi->base,
        .last = tlbi->base + MIN(tlbi->size - 1, UINT64_MAX - tlbi->base),
    };
}

/* @seq is the last that was cached before the TLBI: what came later may stay */
static void smmuv3_btm_obey(SMMUv3State *s, CPUState *cs,
                            const ARMTLBBroadcast *tlbi, uint64_t seq)
{
    SMMUState *bs = ARM_SMMU(s);
    const char *ignore = smmuv3_btm_ignore(s, cs, tlbi);
    ARMTLBBroadcast op = *tlbi;
    SMMUTLBScope scope = smmuv3_btm_scope(tlbi);
    unsigned int dropped;

    if (ignore) {
        s->counters[SMMUV3_COUNTER_BROADCAST_IGNORED]++;
        trace_smmuv3_btm_ignore(ignore);
        return;
    }

    if (!s->ril) { /* which hints came with */
        op.tg = 0;
        op.ttl = 0;
    }

    /* Translations are made under the mutex, not always under the BQL */
    WITH_QEMU_LOCK_GUARD(&s->mutex) {
        bs->drop_until = seq;
        dropped = smmu_tlb_drop(bs, &scope, smmuv3_btm_match, &op);
        bs->drop_until = UINT64_MAX;
        smmu_inv_notifiers_all(bs);
    }
    s->counters[SMMUV3_COUNTER_DROP_BROADCAST] += dropped;
    trace_smmuv3_btm_drop(dropped, tlbi->stages,
                          tlbi->by_vmid ? tlbi->vmid : -1,
                          tlbi->by_asid ? tlbi->asid : -1,
                          tlbi->base, tlbi->size, tlbi->leaf);
    smmu_acknowledge(bs);
}

/* A broadcast that takes effect when the vCPU that sent it executes a DSB */
typedef struct SMMUv3DelayedTLBI {
    CPUState *cs;
    ARMTLBBroadcast tlbi;
    uint64_t seq;
} SMMUv3DelayedTLBI;

/*
 * The SMMU may have dropped what the TLBI names long before the DSB, and have
 * fetched it again. So what is in memory at the time of the TLBI survives it.
 */
static void smmuv3_btm_refetch(SMMUv3State *s, CPUState *cs,
                               const ARMTLBBroadcast *tlbi)
{
    SMMUTLBScope scope = smmuv3_btm_scope(tlbi);
    ARMTLBBroadcast op = *tlbi;
    SMMUState *bs = ARM_SMMU(s);

    if (!bs->fetch_again || smmuv3_btm_ignore(s, cs, tlbi)) {
        return;
    }
    if (!s->ril) {
        op.tg = 0;
        op.ttl = 0;
    }
    WITH_QEMU_LOCK_GUARD(&s->mutex) {
        g_autoptr(GPtrArray) found = smmu_tlb_find(bs, &scope,
                                                   smmuv3_btm_match, &op);

        for (int i = 0; i < found->len; i++) {
            bs->fetch_again(bs, g_ptr_array_index(found, i));
        }
    }
}

static void smmuv3_btm_notify(ARMTLBBroadcastListener *listener, CPUState *cs,
                              const ARMTLBBroadcast *tlbi)
{
    SMMUv3State *s = container_of(listener, SMMUv3State, btm_listener);
    SMMUv3DelayedTLBI delayed = { .cs = cs, .tlbi = *tlbi };

    WITH_QEMU_LOCK_GUARD(&s->mutex) {
        delayed.seq = ARM_SMMU(s)->seq;
    }

    smmuv3_count_broadcast(s, tlbi);
    if (s->btm_delay) {
        smmuv3_btm_refetch(s, cs, tlbi);
        g_array_append_val(s->btm_delayed, delayed);
        qatomic_set(&s->btm_num_delayed, s->btm_delayed->len);
        trace_smmuv3_btm_delay(cs->cpu_index, s->btm_delayed->len);
        smmu_acknowledge(ARM_SMMU(s));
    } else {
        smmuv3_btm_obey(s, cs, tlbi, delayed.seq);
    }
}

static void smmuv3_btm_dsb(ARMDSBListener *listener, CPUState *cs)
{
    SMMUv3State *s = container_of(listener, SMMUv3State, btm_dsb_listener);
    SMMUv3DelayedTLBI *delayed;

    s->dsbs[cs->cpu_index % SMMUV3_DSB_CPUS]++;
    /* What this vCPU has sent, it finds counted */
    if (!qatomic_read(&s->btm_num_delayed)) {
        return;
    }

    BQL_LOCK_GUARD();
    for (int i = 0; i < s->btm_delayed->len; ) {
        delayed = &g_array_index(s->btm_delayed, SMMUv3DelayedTLBI, i);
        if (delayed->cs == cs) {
            smmuv3_btm_obey(s, cs, &delayed->tlbi, delayed->seq);
            g_array_remove_index(s->btm_delayed, i);
        } else {
            i++;
        }
    }
    qatomic_set(&s->btm_num_delayed, s->btm_delayed->len);
}

/* For qtest again: any value is a DSB */
static void smmuv3_btm_inject_dsb(Object *obj, bool value, Error **errp)
{
    smmuv3_btm_dsb(&ARM_SMMUV3(obj)->btm_dsb_listener, first_cpu);
}

/*
 * For qtest, which has no CPU that could execute a TLBI: a property that takes
 * a struct ARMTLBBroadcast. What is optional there (by_...) may be left out.
 */
static void smmuv3_btm_inject(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    SMMUv3State *s = ARM_SMMUV3(obj);
    ARMTLBBroadcast tlbi = { .space = ARMSS_NonSecure };
    bool secure, ok;

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    visit_optional(v, "vmid", &tlbi.by_vmid);
    visit_optional(v, "asid", &tlbi.by_asid);
    visit_optional(v, "base", &tlbi.by_addr);
    ok = visit_type_bool(v, "secure", &secure, errp) &&
         visit_type_uint8(v, "regimes", &tlbi.regimes, errp) &&
         visit_type_uint8(v, "stages", &tlbi.stages, errp) &&
         (!tlbi.by_vmid || visit_type_uint16(v, "vmid", &tlbi.vmid, errp)) &&
         (!tlbi.by_asid || visit_type_uint16(v, "asid", &tlbi.asid, errp)) &&
         (!tlbi.by_addr ||
          (visit_type_uint64(v, "base", &tlbi.base, errp) &&
           visit_type_uint64(v, "size", &tlbi.size, errp) &&
           visit_type_bool(v, "leaf", &tlbi.leaf, errp) &&
           visit_type_uint8(v, "tg", &tlbi.tg, errp) &&
           visit_type_uint8(v, "ttl", &tlbi.ttl, errp))) &&
         visit_check_struct(v, errp);
    visit_end_struct(v, NULL);
    if (!ok) {
        return;
    }
    if (secure) {
        tlbi.space = ARMSS_Secure;
    }
    smmuv3_btm_notify(&s->btm_listener, first_cpu, &tlbi);
}

void smmuv3_btm_reset(SMMUv3State *s)
{
    if (s->btm_delay) {
        g_array_set_size(s->btm_delayed, 0);
        s->btm_num_delayed = 0;
    }
}

bool smmuv3_btm_realize(SMMUv3State *s, Error **errp)
{
    /* The audit wants to know of DSBs, even if no broadcast waits for one */
    if ((s->btm && s->btm_delay) || s->guest_counters) {
        s->btm_delayed = g_array_new(false, false, sizeof(SMMUv3DelayedTLBI));
        s->btm_dsb_listener.notify = smmuv3_btm_dsb;
        arm_dsb_add_listener(&s->btm_dsb_listener);
    }
    if (s->btm_deaf_kinds & ~SMMUV3_DEAF_KINDS) {
        error_setg(errp, "x-btm-deaf-kinds: 1 by VA, 2 by VA of the last level,"
                   " 4 by ASID, 8 ranges, 16 all, or a sum of these");
        return false;
    }
    if (!s->btm) {
        if (s->btm_deaf || s->btm_deaf_kinds || s->btm_deaf_cpu >= 0) {
            error_setg(errp, "x-btm-deaf%s needs btm=on",
                       s->btm_deaf ? "" :
                       s->btm_deaf_kinds ? "-kinds" : "-cpu");
            return false;
        }
        return true;
    }
    if (!tcg_enabled() && !qtest_enabled()) {
        error_setg(errp, "btm=on needs TCG: with other accelerators QEMU does "
                   "not see the guest's TLB maintenance");
        return false;
    }
    s->btm_listener.notify = smmuv3_btm_notify;
    arm_tlb_broadcast_add_listener(&s->btm_listener);
    if (qtest_enabled()) {
        object_property_add(OBJECT(s), "x-btm-inject", "ARMTLBBroadcast",
                            NULL, smmuv3_btm_inject, NULL, NULL);
        if (s->btm_delay) {
            object_property_add_bool(OBJECT(s), "x-dsb-inject", NULL,
                                     smmuv3_btm_inject_dsb);
        }
    }
    return true;
}
