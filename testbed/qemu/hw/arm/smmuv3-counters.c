/*
 * SMMUv3 model: counters, for tests and benchmarks
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-internal.h"

static const char * const counter_names[SMMUV3_COUNTER_NUM] = {
    [SMMUV3_COUNTER_CMD] = "cmd",
    [SMMUV3_COUNTER_CMD_PREFETCH] = "cmd-prefetch",
    [SMMUV3_COUNTER_CMD_CFGI_STE] = "cmd-cfgi-ste",
    [SMMUV3_COUNTER_CMD_CFGI_STE_RANGE] = "cmd-cfgi-ste-range",
    [SMMUV3_COUNTER_CMD_CFGI_CD] = "cmd-cfgi-cd",
    [SMMUV3_COUNTER_CMD_CFGI_CD_ALL] = "cmd-cfgi-cd-all",
    [SMMUV3_COUNTER_CMD_TLBI_NH_ALL] = "cmd-tlbi-nh-all",
    [SMMUV3_COUNTER_CMD_TLBI_NH_ASID] = "cmd-tlbi-nh-asid",
    [SMMUV3_COUNTER_CMD_TLBI_NH_VA] = "cmd-tlbi-nh-va",
    [SMMUV3_COUNTER_CMD_TLBI_NH_VAA] = "cmd-tlbi-nh-vaa",
    [SMMUV3_COUNTER_CMD_TLBI_EL2_ALL] = "cmd-tlbi-el2-all",
    [SMMUV3_COUNTER_CMD_TLBI_EL2_ASID] = "cmd-tlbi-el2-asid",
    [SMMUV3_COUNTER_CMD_TLBI_EL2_VA] = "cmd-tlbi-el2-va",
    [SMMUV3_COUNTER_CMD_TLBI_EL2_VAA] = "cmd-tlbi-el2-vaa",
    [SMMUV3_COUNTER_CMD_TLBI_S12_VMALL] = "cmd-tlbi-s12-vmall",
    [SMMUV3_COUNTER_CMD_TLBI_S2_IPA] = "cmd-tlbi-s2-ipa",
    [SMMUV3_COUNTER_CMD_TLBI_NSNH_ALL] = "cmd-tlbi-nsnh-all",
    [SMMUV3_COUNTER_CMD_ATC_INV] = "cmd-atc-inv",
    [SMMUV3_COUNTER_CMD_PRI_RESP] = "cmd-pri-resp",
    [SMMUV3_COUNTER_CMD_RESUME] = "cmd-resume",
    [SMMUV3_COUNTER_CMD_STALL_TERM] = "cmd-stall-term",
    [SMMUV3_COUNTER_CMD_SYNC] = "cmd-sync",
    [SMMUV3_COUNTER_CMD_OTHER] = "cmd-other",
    [SMMUV3_COUNTER_BROADCAST_VA] = "broadcast-va",
    [SMMUV3_COUNTER_BROADCAST_VAA] = "broadcast-vaa",
    [SMMUV3_COUNTER_BROADCAST_ASID] = "broadcast-asid",
    [SMMUV3_COUNTER_BROADCAST_VMALL] = "broadcast-vmall",
    [SMMUV3_COUNTER_BROADCAST_S12] = "broadcast-s12",
    [SMMUV3_COUNTER_BROADCAST_IPA] = "broadcast-ipa",
    [SMMUV3_COUNTER_BROADCAST_RANGE] = "broadcast-range",
    [SMMUV3_COUNTER_BROADCAST_IGNORED] = "broadcast-ignored",
    [SMMUV3_COUNTER_DROP_BROADCAST] = "drop-broadcast",
    [SMMUV3_COUNTER_DROP_CMD] = "drop-cmd",
    [SMMUV3_COUNTER_DROP_FULL] = "drop-full",
    [SMMUV3_COUNTER_IOTLB_HIT] = "iotlb-hit",
    [SMMUV3_COUNTER_IOTLB_MISS] = "iotlb-miss",
    [SMMUV3_COUNTER_FAULT] = "fault",
    [SMMUV3_COUNTER_EVENT] = "event",
    [SMMUV3_COUNTER_WALK_CACHE_HIT] = "walk-cache-hit",
    [SMMUV3_COUNTER_ATS_REQUEST] = "ats-request",
    [SMMUV3_COUNTER_ATS_TRANSLATED] = "ats-translated",
    [SMMUV3_COUNTER_STALL] = "stall",
    [SMMUV3_COUNTER_STALL_WAIT] = "stall-wait",
    [SMMUV3_COUNTER_STALL_RETRY] = "stall-retry",
    [SMMUV3_COUNTER_STALL_TERM] = "stall-term",
    [SMMUV3_COUNTER_STALL_HELD] = "stall-held",
    [SMMUV3_COUNTER_PREFETCH] = "prefetch",
    [SMMUV3_COUNTER_CONFLICT] = "conflict",
    [SMMUV3_COUNTER_AUDIT_DIFFERS] = "audit-differs",
    [SMMUV3_COUNTER_AUDIT_STALE] = "audit-stale",
};

void smmuv3_counters_init(SMMUv3State *s)
{
    int i;

    for (i = 0; i < SMMUV3_COUNTER_NUM; i++) {
        g_autofree char *name = NULL;

        if (counter_names[i]) {
            name = g_strdup_printf("counter-%s", counter_names[i]);
            object_property_add_uint64_ptr(OBJECT(s), name, &s->counters[i],
                                           OBJ_PROP_FLAG_READ);
        }
    }
}

void smmuv3_counters_reset(SMMUv3State *s)
{
    memset(s->counters, 0, sizeof(s->counters));
}

uint32_t smmuv3_counters_read(SMMUv3State *s, hwaddr offset)
{
    unsigned int i = (offset - SMMUV3_COUNTERS) / 4;

    if (i == SMMUV3_COUNTER_ID) {
        return SMMUV3_COUNTERS_ID_VALUE;
    }
    return i < SMMUV3_COUNTER_NUM ? s->counters[i] : 0;
}

void smmuv3_count_cmd(SMMUv3State *s, SMMUCommandType type)
{
    static const uint8_t cmd_counters[] = {
        [SMMU_CMD_PREFETCH_CONFIG] = SMMUV3_COUNTER_CMD_PREFETCH,
        [SMMU_CMD_PREFETCH_ADDR] = SMMUV3_COUNTER_CMD_PREFETCH,
        [SMMU_CMD_CFGI_STE] = SMMUV3_COUNTER_CMD_CFGI_STE,
        [SMMU_CMD_CFGI_STE_RANGE] = SMMUV3_COUNTER_CMD_CFGI_STE_RANGE,
        [SMMU_CMD_CFGI_CD] = SMMUV3_COUNTER_CMD_CFGI_CD,
        [SMMU_CMD_CFGI_CD_ALL] = SMMUV3_COUNTER_CMD_CFGI_CD_ALL,
        [SMMU_CMD_TLBI_NH_ALL] = SMMUV3_COUNTER_CMD_TLBI_NH_ALL,
        [SMMU_CMD_TLBI_NH_ASID] = SMMUV3_COUNTER_CMD_TLBI_NH_ASID,
        [SMMU_CMD_TLBI_NH_VA] = SMMUV3_COUNTER_CMD_TLBI_NH_VA,
        [SMMU_CMD_TLBI_NH_VAA] = SMMUV3_COUNTER_CMD_TLBI_NH_VAA,
        [SMMU_CMD_TLBI_EL2_ALL] = SMMUV3_COUNTER_CMD_TLBI_EL2_ALL,
        [SMMU_CMD_TLBI_EL2_ASID] = SMMUV3_COUNTER_CMD_TLBI_EL2_ASID,
        [SMMU_CMD_TLBI_EL2_VA] = SMMUV3_COUNTER_CMD_TLBI_EL2_VA,
        [SMMU_CMD_TLBI_EL2_VAA] = SMMUV3_COUNTER_CMD_TLBI_EL2_VAA,
        [SMMU_CMD_TLBI_S12_VMALL] = SMMUV3_COUNTER_CMD_TLBI_S12_VMALL,
        [SMMU_CMD_TLBI_S2_IPA] = SMMUV3_COUNTER_CMD_TLBI_S2_IPA,
        [SMMU_CMD_TLBI_NSNH_ALL] = SMMUV3_COUNTER_CMD_TLBI_NSNH_ALL,
        [SMMU_CMD_ATC_INV] = SMMUV3_COUNTER_CMD_ATC_INV,
        [SMMU_CMD_PRI_RESP] = SMMUV3_COUNTER_CMD_PRI_RESP,
        [SMMU_CMD_RESUME] = SMMUV3_COUNTER_CMD_RESUME,
        [SMMU_CMD_STALL_TERM] = SMMUV3_COUNTER_CMD_STALL_TERM,
        [SMMU_CMD_SYNC] = SMMUV3_COUNTER_CMD_SYNC,
    };
    int i = type < ARRAY_SIZE(cmd_counters) ? cmd_counters[type] : 0;

    s->counters[SMMUV3_COUNTER_CMD]++;
    s->counters[i ?: SMMUV3_COUNTER_CMD_OTHER]++;
}

void smmuv3_count_broadcast(SMMUv3State *s, const ARMTLBBroadcast *tlbi)
{
    int i;

    if (tlbi->stages == ARM_TLB_STAGE_2) {
        i = SMMUV3_COUNTER_BROADCAST_IPA;
    } else if (tlbi->stages != ARM_TLB_STAGE_1) {
        i = SMMUV3_COUNTER_BROADCAST_S12;
    } else if (tlbi->by_addr) {
        i = tlbi->by_asid ? SMMUV3_COUNTER_BROADCAST_VA :
                            SMMUV3_COUNTER_BROADCAST_VAA;
    } else {
        i = tlbi->by_asid ? SMMUV3_COUNTER_BROADCAST_ASID :
                            SMMUV3_COUNTER_BROADCAST_VMALL;
    }
    s->counters[i]++;
    if (tlbi->by_addr && tlbi->size > ARM_TLB_ADDRESS_SIZE) {
        s->counters[SMMUV3_COUNTER_BROADCAST_RANGE]++;
    }
}
