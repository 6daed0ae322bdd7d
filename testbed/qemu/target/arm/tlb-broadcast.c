/*
 * Broadcast TLB maintenance: decode it once, hand it to those who listen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "internals.h"
#include "cpu-features.h"
#include "cpregs.h"
#include "tlb-broadcast.h"
#include "trace.h"

ARMTLBBroadcastListeners arm_tlb_broadcast_listeners =
    QLIST_HEAD_INITIALIZER(arm_tlb_broadcast_listeners);

void arm_tlb_broadcast_add_listener(ARMTLBBroadcastListener *listener)
{
    QLIST_INSERT_HEAD(&arm_tlb_broadcast_listeners, listener, next);
}

/* The VMID of a translation that the CPU would make in the EL1&0 regime now */
static uint16_t current_vmid(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);
    bool vmid16;

    if (!arm_is_el2_enabled(env)) {
        return 0;
    }
    vmid16 = FIELD_EX64(cpu->isar.id_aa64mmfr1, ID_AA64MMFR1, VMIDBITS) &&
             FIELD_EX64(env->cp15.vtcr_el2, VTCR, VS);
    return extract64(env->cp15.vttbr_el2, 48, vmid16 ? 16 : 8);
}

/* Bits that a TLBI ignores, or that are RES0, do not make it into the ASID */
static uint16_t operand_asid(CPUARMState *env, uint64_t value, bool aa64)
{
    ARMCPU *cpu = env_archcpu(env);
    bool asid16;

    if (!aa64) {
        return extract64(value, 0, 8);
    }
    asid16 = FIELD_EX64(cpu->isar.id_aa64mmfr0, ID_AA64MMFR0, ASIDBITS);
    return extract64(value, 48, asid16 ? 16 : 8);
}

/* By VA or IPA: a single address, which stands for whatever maps it */
static void decode_address(CPUARMState *env, uint64_t value, bool aa64,
                           ARMTLBBroadcast *tlbi)
{
    ARMCPU *cpu = env_archcpu(env);
    bool ipa = tlbi->stages == ARM_TLB_STAGE_2;

    tlbi->size = ARM_TLB_ADDRESS_SIZE;
    if (!aa64) {
        tlbi->base = ipa ? extract64(value, 0, 28) << 12 :
                           value & MAKE_64BIT_MASK(12, 20);
        return;
    }
    tlbi->base = ipa ? extract64(value, 0, 40) << 12 :
                       sextract64(value, 0, 44) << 12;

    if (FIELD_EX64(cpu->isar.id_aa64mmfr2, ID_AA64MMFR2, TTL)) {
        /* Level 0 is reserved, and so is TTL without TG */
        tlbi->ttl = extract64(value, 44, 2);
        tlbi->tg = tlbi->ttl ? extract64(value, 46, 2) : 0;
        tlbi->ttl = tlbi->tg ? tlbi->ttl : 0;
    }
}

static ARMMMUIdx regime_mmu_idx(const ARMTLBBroadcast *tlbi)
{
    if (tlbi->stages == ARM_TLB_STAGE_2) {
        return ARMMMUIdx_Stage2;
    }
    switch (tlbi->regimes) {
    case ARM_TLB_REGIME_EL10:
        return ARMMMUIdx_E10_0;
    case ARM_TLB_REGIME_EL20:
        return ARMMMUIdx_E20_0;
    case ARM_TLB_REGIME_EL2:
        return ARMMMUIdx_E2;
    default:
        return ARMMMUIdx_E3;
    }
}

/* By range of VA or IPA (FEAT_TLBIRANGE, AArch64 only) */
static bool decode_range(CPUARMState *env, uint64_t value,
                         ARMTLBBroadcast *tlbi)
{
    bool two_ranges = tlbi->stages != ARM_TLB_STAGE_2 &&
        (tlbi->regimes & (ARM_TLB_REGIME_EL10 | ARM_TLB_REGIME_EL20));
    int64_t base = two_ranges ? sextract64(value, 0, 37) :
                                extract64(value, 0, 37);
    unsigned num = extract64(value, 39, 5);
    unsigned scale = extract64(value, 44, 2);
    unsigned page_shift;
    ARMVAParameters param;

    tlbi->tg = extract64(value, 46, 2);
    tlbi->ttl = extract64(value, 37, 2);
    if (!tlbi->tg) {
        return false; /* reserved */
    }

    page_shift = 10 + 2 * tlbi->tg;
    tlbi->size = (num + 1ULL) << (5 * scale + 1 + page_shift);

    /* With 52-bit addresses, the base counts units of 64 KB (TCR_ELx.DS) */
    param = aa64_va_parameters(env, base, regime_mmu_idx(tlbi), true, false);
    tlbi->base = (uint64_t)base << (param.ds ? 16 : page_shift);
    return true;
}

bool arm_tlb_broadcast_decode(CPUARMState *env, const ARMCPRegInfo *ri,
                              uint64_t value, ARMTLBBroadcast *tlbi)
{
    bool aa64 = ri->state == ARM_CP_STATE_AA64;
    uint64_t hcr = arm_hcr_el2_eff(env);
    bool ipa = ri->opc1 == 4 && (ri->crm == 0 || ri->crm == 4);
    bool range = aa64 && (ipa ? ri->opc2 & 2 :
                          ri->crm == 2 || ri->crm == 5 || ri->crm == 6);

    *tlbi = (ARMTLBBroadcast) {
        .space = arm_security_space_below_el3(env),
        .stages = ARM_TLB_STAGE_1,
    };

    /*
     * The encodings of AArch32 and AArch64, and those of CRn 8 and 9 (nXS), are
     * alike: opc1 tells the exception level, CRm the scope and whether it is a
     * range, opc2 the operation; bit 2 of opc2 means last level only.
     */
    switch (ri->opc1) {
    case 0: /* VMALLE1, VAE1, ASIDE1, VAAE1, VALE1, VAALE1 */
        if (arm_current_el(env) == 3 && !aa64) {
            /* Secure PL1 is EL3 then, and has the EL3&0 regime */
            tlbi->regimes = ARM_TLB_REGIME_EL3;
            tlbi->space = arm_security_space(env);
        } else if ((hcr & (HCR_E2H | HCR_TGE)) == (HCR_E2H | HCR_TGE)) {
            tlbi->regimes = ARM_TLB_REGIME_EL20;
        } else {
            tlbi->regimes = ARM_TLB_REGIME_EL10;
            tlbi->by_vmid = true;
        }
        tlbi->by_asid = (ri->opc2 & 3) == 1 || (ri->opc2 & 3) == 2;
        tlbi->by_addr = ri->opc2 & 1;
        break;
    case 4:
        if (ipa) { /* IPAS2E1, IPAS2LE1 */
            tlbi->regimes = ARM_TLB_REGIME_EL10;
            tlbi->stages = ARM_TLB_STAGE_2;
            tlbi->by_vmid = true;
            tlbi->by_addr = true;
            /* In Secure state the top bit of the operand names the IPA space */
            if (tlbi->space == ARMSS_Secure && aa64 && (value >> 63)) {
                tlbi->space = ARMSS_NonSecure;
            }
        } else if (ri->opc2 == 4 || ri->opc2 == 6) { /* ALLE1, VMALLS12E1 */
            tlbi->regimes = ARM_TLB_REGIME_EL10;
            tlbi->stages = ARM_TLB_STAGE_1 | ARM_TLB_STAGE_2;
            tlbi->by_vmid = ri->opc2 == 6;
        } else if (ri->opc2 == 0) { /* ALLE2 is for whatever EL2 may use */
            tlbi->regimes = ARM_TLB_REGIME_EL2 | ARM_TLB_REGIME_EL20;
        } else { /* VAE2, VALE2 */
            tlbi->regimes = hcr & HCR_E2H ? ARM_TLB_REGIME_EL20 :
                                            ARM_TLB_REGIME_EL2;
            tlbi->by_asid = hcr & HCR_E2H;
            tlbi->by_addr = true;
        }
        break;
    case 6: /* ALLE3, VAE3, VALE3 */
        tlbi->regimes = ARM_TLB_REGIME_EL3;
        tlbi->space = arm_security_space(env);
        tlbi->by_addr = ri->opc2 & 1;
        break;
    default:
        g_assert_not_reached();
    }

    if (tlbi->by_vmid) {
        tlbi->vmid = current_vmid(env);
    }
    if (tlbi->by_asid) {
        tlbi->asid = operand_asid(env, value, aa64);
    }
    if (tlbi->by_addr) {
        tlbi->leaf = ri->opc2 & 4;
        if (range) {
            return decode_range(env, value, tlbi);
        }
        decode_address(env, value, aa64, tlbi);
    }
    return true;
}

void arm_tlb_broadcast_notify(CPUARMState *env, const ARMCPRegInfo *ri,
                              uint64_t value)
{
    CPUState *cs = env_cpu(env);
    ARMTLBBroadcastListener *listener;
    ARMTLBBroadcast tlbi;

    trace_arm_tlb_broadcast(cs->cpu_index, ri->name, value);
    if (!arm_tlb_broadcast_decode(env, ri, value, &tlbi)) {
        return;
    }
    trace_arm_tlb_broadcast_decoded(tlbi.space, tlbi.regimes, tlbi.stages,
                                    tlbi.by_vmid ? tlbi.vmid : -1,
                                    tlbi.by_asid ? tlbi.asid : -1,
                                    tlbi.base, tlbi.size, tlbi.leaf,
                                    tlbi.tg, tlbi.ttl);

    /* vCPUs execute TLBIs without it; devices want it */
    BQL_LOCK_GUARD();
    QLIST_FOREACH(listener, &arm_tlb_broadcast_listeners, next) {
        listener->notify(listener, cs, &tlbi);
    }
}
