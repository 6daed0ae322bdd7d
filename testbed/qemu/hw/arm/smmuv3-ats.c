/*
 * SMMUv3 model: Address Translation Services (SMMU_IDR0.ATS)
 *
 * Translation Requests, Translated transactions and the invalidation of what
 * functions have cached: IHI 0070, 3.9.1 and 4.5.1
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/target_page.h"
#include "cpu.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_ats_client.h"
#include "smmuv3-internal.h"

/* The one key of a function's STE, beside those of its SubstreamIDs */
#define SSID_NONE_STE_ONLY UINT32_MAX

PCIEATSClient *smmuv3_find_client(SMMUDevice *sdev)
{
    PCIDevice *pdev = sdev->bus->devices[sdev->devfn];

    return pdev ? (PCIEATSClient *)object_dynamic_cast(OBJECT(pdev),
                                                       TYPE_PCIE_ATS_CLIENT) :
                  NULL;
}

/*
 * What the STE alone says about ATS. It is cached until a CFGI names it, as
 * all configuration is. NULL: the STE is not valid.
 */
static SMMUTransCfg *smmuv3_ats_get_config(SMMUv3State *s, SMMUDevice *sdev)
{
    SMMUConfigKey key = { .sdev = sdev, .ssid = SSID_NONE_STE_ONLY };
    SMMUTransCfg *cfg = smmu_configs_lookup(ARM_SMMU(s), &key);
    SMMUEventInfo event = { .inval_ste_allowed = true };
    STE ste;

    if (cfg) {
        return cfg;
    }
    if (smmu_find_ste(s, smmu_get_sid(sdev), &ste, &event) ||
        !STE_VALID(&ste)) {
        return NULL;
    }
    cfg = g_new0(SMMUTransCfg, 1);
    cfg->aborted = STE_CFG_ABORT(STE_CONFIG(&ste));
    /* Bypass and the encodings that are not implemented forbid it as well */
    cfg->full_ats = s->ats && !STE_CFG_BYPASS(STE_CONFIG(&ste)) &&
                    STE_EATS(&ste) == STE_EATS_FULL;
    smmu_configs_insert(ARM_SMMU(s), &key, cfg);
    return cfg;
}

/* A Translation Request: UR, CA and "no access" all are no permission */
static void smmuv3_ats_request(SMMUv3State *s, SMMUDevice *sdev,
                               SMMUEventInfo *event, IOMMUTLBEntry *entry)
{
    hwaddr addr = entry->iova;
    /* Faults are the function's business: their events are not recorded */
    SMMUEventInfo unrecorded = {
        .sid = event->sid, .ssv = event->ssv, .ssid = event->ssid,
    };
    SMMUTLBEntry *tlbe;
    SMMUTransCfg *cfg;

    event->u.f_bad_ats_treq.addr = addr;
    if (!smmu_enabled(s)) {
        event->type = SMMU_EVT_F_BAD_ATS_TREQ;
        return;
    }
    cfg = smmuv3_ats_get_config(s, sdev);
    if (!cfg || cfg->aborted) {
        return;
    }
    if (!cfg->full_ats) {
        event->type = SMMU_EVT_F_BAD_ATS_TREQ;
        return;
    }
    cfg = smmuv3_get_config(sdev, &unrecorded);
    if (!cfg) {
        return;
    }
    if (cfg->bypassed) { /* STE.S1DSS */
        entry->perm = IOMMU_RW;
        entry->addr_mask = ~TARGET_PAGE_MASK;
        return;
    }
    /* Reading is always part of the request */
    if (smmuv3_do_translate(s, addr, cfg, &unrecorded, IOMMU_RO, &tlbe,
                            SMMU_CLASS_IN) == SMMU_TRANS_SUCCESS) {
        entry->perm = tlbe->entry.perm & tlbe->parent_perm;
        entry->translated_addr = CACHED_ENTRY_TO_ADDR(tlbe, addr);
        entry->addr_mask = tlbe->entry.addr_mask;
    }
}

/* A Translated transaction: does it pass? */
static bool smmuv3_ats_translated(SMMUv3State *s, SMMUDevice *sdev,
                                  SMMUEventInfo *event, hwaddr addr,
                                  IOMMUAccessFlags flag)
{
    SMMUTransCfg *cfg;

    event->u.f_transl_forbidden.addr = addr;
    event->u.f_transl_forbidden.rnw = flag & IOMMU_RO;
    if (!smmu_enabled(s)) {
        event->type = SMMU_EVT_F_TRANS_FORBIDDEN;
        return false;
    }
    if (FIELD_EX32(s->cr[0], CR0, ATSCHK)) {
        cfg = smmuv3_ats_get_config(s, sdev);
        if (!cfg || cfg->aborted) {
            return false;
        }
        if (!cfg->full_ats) {
            event->type = SMMU_EVT_F_TRANS_FORBIDDEN;
            return false;
        }
    }
    return !(addr >> s->oas);
}

IOMMUTLBEntry smmuv3_ats_translate(SMMUDevice *sdev, unsigned int at, bool ssv,
                                   uint32_t ssid, hwaddr addr,
                                   IOMMUAccessFlags flag)
{
    SMMUv3State *s = sdev->smmu;
    SMMUEventInfo event = {
        .type = SMMU_EVT_NONE, .sid = smmu_get_sid(sdev),
        .ssv = ssv, .ssid = ssid,
    };
    IOMMUTLBEntry entry = {
        .target_as = &address_space_memory,
        .iova = addr,
        .translated_addr = addr,
        .addr_mask = ~TARGET_PAGE_MASK,
        .perm = IOMMU_NONE,
    };

    WITH_QEMU_LOCK_GUARD(&s->mutex) {
        if (at == PCI_AT_REQUEST) {
            s->counters[SMMUV3_COUNTER_ATS_REQUEST]++;
            smmuv3_ats_request(s, sdev, &event, &entry);
        } else {
            s->counters[SMMUV3_COUNTER_ATS_TRANSLATED]++;
            if (smmuv3_ats_translated(s, sdev, &event, addr, flag)) {
                entry.perm = flag;
            } else {
                s->counters[SMMUV3_COUNTER_FAULT]++;
            }
        }
    }
    trace_smmuv3_ats_translate(event.sid, at, ssv ? (int)ssid : -1, addr,
                               entry.translated_addr, entry.addr_mask,
                               entry.perm);
    smmuv3_record_event(s, &event);
    return entry;
}

void smmuv3_ats_inv(SMMUv3State *s, Cmd *cmd)
{
    SMMUDevice *sdev = smmu_find_sdev(ARM_SMMU(s), CMD_SID(cmd));
    PCIEATSClient *client = sdev ? smmuv3_find_client(sdev) : NULL;
    uint64_t mask = MAKE_64BIT_MASK(0, CMD_ATC_SIZE(cmd) + 12);
    uint64_t addr = CMD_ADDR(cmd) & ~mask;
    int pasid = CMD_SSV(cmd) ? (int)CMD_SSID(cmd) : -1;

    trace_smmuv3_ats_inv(CMD_SID(cmd), pasid, CMD_ATC_GLOBAL(cmd), addr, mask);
    if (client && smmu_enabled(s)) {
        PCIE_ATS_CLIENT_GET_CLASS(client)->invalidate(client, pasid,
                                                      CMD_ATC_GLOBAL(cmd),
                                                      addr, addr | mask);
    }
}
