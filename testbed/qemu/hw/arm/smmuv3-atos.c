/*
 * SMMUv3 model: address translation operations (SMMU_IDR0.ATOS)
 *
 * Software asks for a translation as if a transaction had come: IHI 0070,
 * chapter 9. A lookup uses and fills the TLB as a transaction does. There are
 * the registers SMMU_GATOS_* alone, no VATOS.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "migration/vmstate.h"
#include "smmuv3-internal.h"
#include "smmu-internal.h"

/* PAR.REASON: the class of what stage 2 could not translate, plus 1 */
#define REASON_NONE     0
#define REASON_S2(class) ((class) + 1)

static uint64_t atos_fault(unsigned int code, unsigned int reason,
                           uint64_t faddr)
{
    uint64_t par = FIELD_DP64(0, GATOS_PAR, FAULT, 1);

    par = FIELD_DP64(par, GATOS_PAR, REASON, reason);
    par = FIELD_DP64(par, GATOS_PAR, FAULTCODE, code);
    return FIELD_DP64(par, GATOS_PAR, ADDR, faddr >> 12);
}

/*
 * Memory attributes are not modelled: all memory is Normal, Write-Back and
 * Inner Shareable.
 */
static uint64_t atos_result(const IOMMUTLBEntry *entry)
{
    uint64_t addr = entry->translated_addr & ~entry->addr_mask;
    uint64_t par = FIELD_DP64(0, GATOS_PAR, ATTR, 0xff);

    par = FIELD_DP64(par, GATOS_PAR, SH, 3);
    if (entry->addr_mask > 0xfff) {
        /* The lowest bit that is set tells the size */
        par = FIELD_DP64(par, GATOS_PAR, SIZE, 1);
        addr |= (entry->addr_mask + 1) >> 1;
    }
    return FIELD_DP64(par, GATOS_PAR, ADDR, addr >> 12);
}

static bool atos_is_trf(SMMUEventType type)
{
    return type >= SMMU_EVT_F_TRANSLATION && type <= SMMU_EVT_F_PERMISSION;
}

/* The result of a lookup of @type that ends with @event: IHI 0070, 9.1.4 */
static uint64_t atos_event(SMMUEventInfo *event, unsigned int type)
{
    bool walk = atos_is_trf(event->type) || event->type == SMMU_EVT_F_WALK_EABT;
    bool s2 = walk && event->u.f_walk_eabt.s2;
    unsigned int class = s2 ? event->u.f_walk_eabt.class : SMMU_CLASS_IN;

    switch (type) {
    case ATOS_TYPE_S1:
        /* Stage 2 is not shown: what it does not let through is an abort */
        if (s2) {
            return atos_fault(class == SMMU_CLASS_CD ? SMMU_EVT_F_CD_FETCH :
                                                       SMMU_EVT_F_WALK_EABT,
                              REASON_NONE, 0);
        }
        return atos_fault(event->type, REASON_NONE, 0);
    case ATOS_TYPE_S2:
        return atos_fault(event->type, walk && !s2 ? REASON_NONE :
                                       REASON_S2(SMMU_CLASS_IN), 0);
    default:
        if (!s2) {
            return atos_fault(event->type, REASON_NONE, 0);
        }
        return atos_fault(event->type, REASON_S2(class),
                          atos_is_trf(event->type) ?
                          event->u.f_walk_eabt.addr2 : 0);
    }
}

/* The configuration of the lookup's stream; false if @event says why not */
static bool atos_config(SMMUv3State *s, SMMUEventInfo *event, SMMUTransCfg *cfg)
{
    SMMUDevice *sdev = smmu_find_sdev(ARM_SMMU(s), event->sid);
    SMMUTransCfg *cached;

    if (!sdev) {
        return !smmuv3_decode_sid(s, event->sid, cfg, event);
    }
    cached = smmuv3_get_config(sdev, event);
    if (cached) {
        *cfg = *cached;
    }
    return cached;
}

/* A walk without the TLB, of stage 1 alone if @s1_only */
static bool atos_walk(SMMUv3State *s, SMMUTransCfg *cfg, uint64_t addr,
                      bool s1_only, IOMMUTLBEntry *entry,
                      SMMUPTWEventInfo *info)
{
    IOMMUAccessFlags flag = FIELD_EX64(s->gatos_addr, GATOS_ADDR, RNW) ?
                            IOMMU_RO : IOMMU_WO;
    bool inhibit = cfg->ha && FIELD_EX64(s->gatos_addr, GATOS_ADDR, HTTUI);
    SMMUState *bs = ARM_SMMU(s);
    bool was = bs->unprivileged;
    IOMMUAccessFlags granted;
    SMMUTLBEntry tlbe = {};
    int ret;

    /* As if the Access flag were set; what a write would dirty is writable */
    cfg->affd |= inhibit;
    bs->fresh = true;
    bs->unprivileged = !FIELD_EX64(s->gatos_addr, GATOS_ADDR, PNU);
    ret = (s1_only ? smmu_ptw_s1 : smmu_ptw)(bs, cfg, addr, inhibit ?
                                             IOMMU_RO : flag, &tlbe, info);
    bs->unprivileged = was;
    bs->fresh = false;
    if (ret) {
        return false;
    }
    granted = tlbe.entry.perm | (inhibit && tlbe.dbm ? IOMMU_WO : 0);
    if (flag & ~granted) {
        info->type = SMMU_PTW_ERR_PERMISSION;
        info->stage = cfg->stage & SMMU_STAGE_1 ? SMMU_STAGE_1 : SMMU_STAGE_2;
        return false;
    }
    *entry = tlbe.entry;
    return true;
}

static void atos_walk_event(SMMUEventInfo *event, SMMUPTWEventInfo *info)
{
    static const SMMUEventType types[] = {
        [SMMU_PTW_ERR_WALK_EABT] = SMMU_EVT_F_WALK_EABT,
        [SMMU_PTW_ERR_TRANSLATION] = SMMU_EVT_F_TRANSLATION,
        [SMMU_PTW_ERR_ADDR_SIZE] = SMMU_EVT_F_ADDR_SIZE,
        [SMMU_PTW_ERR_ACCESS] = SMMU_EVT_F_ACCESS,
        [SMMU_PTW_ERR_PERMISSION] = SMMU_EVT_F_PERMISSION,
    };

    event->type = types[info->type];
    event->u.f_walk_eabt.s2 = info->stage == SMMU_STAGE_2;
    event->u.f_walk_eabt.class = info->is_ipa_descriptor ? SMMU_CLASS_TT :
                                                           SMMU_CLASS_IN;
    event->u.f_walk_eabt.addr2 = info->addr;
}

static uint64_t atos_translate(SMMUv3State *s)
{
    unsigned int type = FIELD_EX64(s->gatos_addr, GATOS_ADDR, TYPE);
    IOMMUAccessFlags flag = FIELD_EX64(s->gatos_addr, GATOS_ADDR, RNW) ?
                            IOMMU_RO : IOMMU_WO;
    uint64_t addr = s->gatos_addr & R_GATOS_ADDR_ADDR_MASK;
    SMMUEventInfo event = {
        .sid = FIELD_EX64(s->gatos_sid, GATOS_SID, STREAMID),
        .ssv = FIELD_EX64(s->gatos_sid, GATOS_SID, SSID_VALID),
        .ssid = FIELD_EX64(s->gatos_sid, GATOS_SID, SUBSTREAMID),
        .inval_ste_allowed = true,
    };
    IOMMUTLBEntry entry = { .translated_addr = addr, .addr_mask = 0xfff };
    bool s1p = STAGE1_SUPPORTED(s), s2p = STAGE2_SUPPORTED(s);
    SMMUPTWEventInfo info = {};
    SMMUTransCfg cfg = {};
    SMMUTLBEntry *tlbe;
    bool s1_only, configured;
    STE ste;

    if (type == 0 || ((type & ATOS_TYPE_S1) && !s1p) ||
        ((type & ATOS_TYPE_S2) && !s2p) ||
        (type == ATOS_TYPE_S2 && event.ssv)) {
        return atos_fault(ATOS_INV_REQ, REASON_NONE, 0);
    }
    if (!event.ssv) {
        event.ssid = 0;
    }
    if (smmu_find_ste(s, event.sid, &ste, &event)) {
        return atos_event(&event, type);
    }
    if (type == ATOS_TYPE_S2) {
        /* Stage 2 comes from the STE, whatever becomes of a CD */
        configured = !smmuv3_decode_sid(s, event.sid, &cfg, &event) ||
                     event.type != SMMU_EVT_C_BAD_STE;
    } else {
        configured = atos_config(s, &event, &cfg);
    }
    if (!STE_VALID(&ste) || event.type == SMMU_EVT_C_BAD_STE) {
        event.type = SMMU_EVT_C_BAD_STE;
        return atos_event(&event, type);
    }
    /* By STE.Config alone, whatever S1DSS says */
    if (STE_CFG_ABORT(STE_CONFIG(&ste)) || (STE_CONFIG(&ste) & type) != type) {
        return atos_fault(ATOS_INV_STAGE, REASON_NONE, 0);
    }
    if (!configured) {
        return atos_event(&event, type);
    }
    cfg.record_faults = true;
    cfg.s2cfg.record_faults = true;
    if (type == ATOS_TYPE_S2) {
        /* As stage 2 translates the addresses of CDs and tables */
        cfg.stage = SMMU_STAGE_2;
        cfg.asid = -1;
        cfg.oas = s->oas;
        cfg.bypassed = false;
        event.type = SMMU_EVT_NONE;
    }
    if (cfg.bypassed || (type == ATOS_TYPE_S1 && cfg.stage == SMMU_STAGE_2)) {
        /* STE.S1DSS: stage 1 returns what it gets */
        if (addr >> s->oas) {
            return atos_fault(SMMU_EVT_F_ADDR_SIZE, REASON_NONE, 0);
        }
        return atos_result(&entry);
    }

    s1_only = type == ATOS_TYPE_S1 && cfg.stage == SMMU_NESTED;
    /*
     * What is cached is for accesses of the one kind that devices make, and
     * never marked as accessed or dirty unless its descriptor is.
     */
    if (s->atos_no_fill || s1_only ||
        (cfg.ha && FIELD_EX64(s->gatos_addr, GATOS_ADDR, HTTUI)) ||
        !FIELD_EX64(s->gatos_addr, GATOS_ADDR, PNU) !=
        ARM_SMMU(s)->unprivileged) {
        if (!atos_walk(s, &cfg, addr, s1_only, &entry, &info)) {
            atos_walk_event(&event, &info);
            return atos_event(&event, type);
        }
        return atos_result(&entry);
    }
    if (smmuv3_do_translate(s, addr, &cfg, &event, flag, &tlbe,
                            SMMU_CLASS_IN) != SMMU_TRANS_SUCCESS) {
        return atos_event(&event, type);
    }
    return atos_result(&tlbe->entry);
}

/* GATOS_CTRL.RUN: the result is there when the write is done */
static void atos_run(SMMUv3State *s)
{
    WITH_QEMU_LOCK_GUARD(&s->mutex) {
        s->gatos_par = atos_translate(s);
    }
    trace_smmuv3_atos(s->gatos_sid, s->gatos_addr, s->gatos_par);
}

static uint64_t *atos_reg(SMMUv3State *s, hwaddr offset)
{
    switch (offset & ~7) {
    case A_GATOS_SID:
        return &s->gatos_sid;
    case A_GATOS_ADDR:
        return &s->gatos_addr;
    case A_GATOS_PAR:
        return &s->gatos_par;
    default:
        return NULL;
    }
}

bool smmuv3_atos_write(SMMUv3State *s, hwaddr offset, uint64_t data,
                       unsigned int size)
{
    uint64_t *reg = atos_reg(s, offset);

    if (!s->atos || !(reg || offset == A_GATOS_CTRL)) {
        return false;
    }
    if (offset == A_GATOS_CTRL) {
        if (FIELD_EX32(data, GATOS_CTRL, RUN) && smmu_enabled(s)) {
            atos_run(s);
        }
        return true;
    }
    if (reg == &s->gatos_par) {
        return true; /* read-only */
    }
    *reg = deposit64(*reg, (offset & 4) * 8, size * 8, data);
    if (reg == &s->gatos_sid) {
        *reg &= R_GATOS_SID_STREAMID_MASK |
                (s->ssidsize ? R_GATOS_SID_SSID_VALID_MASK |
                               MAKE_64BIT_MASK(32, s->ssidsize) : 0);
    } else {
        *reg &= ~MAKE_64BIT_MASK(0, R_GATOS_ADDR_HTTUI_SHIFT);
    }
    return true;
}

bool smmuv3_atos_read(SMMUv3State *s, hwaddr offset, uint64_t *data,
                      unsigned int size)
{
    uint64_t *reg = atos_reg(s, offset);

    if (!s->atos || !(reg || offset == A_GATOS_CTRL)) {
        return false;
    }
    *data = reg ? extract64(*reg, (offset & 4) * 8, size * 8) : 0;
    return true;
}

void smmuv3_atos_reset(SMMUv3State *s)
{
    s->gatos_sid = s->gatos_addr = s->gatos_par = 0;
}

static bool atos_needed(void *opaque)
{
    return ((SMMUv3State *)opaque)->atos;
}

const VMStateDescription vmstate_smmuv3_atos = {
    .name = "smmuv3/atos",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = atos_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(gatos_sid, SMMUv3State),
        VMSTATE_UINT64(gatos_addr, SMMUv3State),
        VMSTATE_UINT64(gatos_par, SMMUv3State),
        VMSTATE_END_OF_LIST()
    }
};
