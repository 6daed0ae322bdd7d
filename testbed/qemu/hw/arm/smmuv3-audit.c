/*
 * SMMUv3 model: an audit of all that is cached
 *
 * Whatever the IOTLB, the walk cache, the configuration cache and the ATCs of
 * functions hold is looked up anew, in memory alone. What grants an access that
 * memory does not grant, or one to another address, differs; what is merely
 * missing or grants less does not. Neither does the Access flag count: software
 * may clear it without an invalidation.
 *
 * While software changes tables, there is always something that differs for a
 * moment. It is stale if it still does after all vCPUs have made progress, in
 * terms of their DSBs, of which there is one in each context switch.
 *
 * Streams with stage 2 are left out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "system/qtest.h"
#include "cpu.h"
#include "hw/arm/smmuv3.h"
#include "hw/pci/pcie_ats_client.h"
#include "smmuv3-internal.h"

/* DSBs of each vCPU that is not idle, after which what differs is stale */
#define PROGRESS        64
/* Lines of the report */
#define LINES_MAX       32

typedef struct Suspect {
    uint64_t dsbs[SMMUV3_DSB_CPUS];
} Suspect;

typedef struct Audit {
    SMMUv3State *s;
    GHashTable *asids;      /* of CDs in memory: lists of SMMUTransCfg */
    GHashTable *suspects;   /* Suspect by number of the entry */
    uint64_t differs, stale;
    GString *report;
} Audit;

static bool progressed(SMMUv3State *s, const Suspect *suspect)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        int i = cs->cpu_index % SMMUV3_DSB_CPUS;

        if (!qatomic_read(&cs->halted) &&
            s->dsbs[i] - suspect->dsbs[i] < PROGRESS) {
            return false;
        }
    }
    return true;
}

G_GNUC_PRINTF(3, 4)
static void differs(Audit *a, uint64_t seq, const char *fmt, ...)
{
    gpointer key, suspect;
    bool stale;
    va_list ap;

    /* Numbers are never used again */
    if (g_hash_table_steal_extended(a->s->suspects, &seq, &key, &suspect)) {
        g_free(key);
        stale = progressed(a->s, suspect);
    } else {
        suspect = g_new0(Suspect, 1);
        memcpy(((Suspect *)suspect)->dsbs, a->s->dsbs, sizeof(a->s->dsbs));
        stale = false;
    }
    g_hash_table_insert(a->suspects, g_memdup2(&seq, sizeof(seq)), suspect);
    a->differs++;
    a->stale += stale;
    if (a->differs <= LINES_MAX) {
        g_string_append(a->report, stale ? "stale: " : "differs: ");
        va_start(ap, fmt);
        g_string_append_vprintf(a->report, fmt, ap);
        va_end(ap);
        g_string_append_c(a->report, '\n');
    }
}

/* What do the tables of @cfg say of [@iova, @iova + @size)? */
static const char *walk_differs(Audit *a, SMMUTransCfg *cfg, uint64_t iova,
                                uint64_t size, uint64_t addr,
                                IOMMUAccessFlags perm, bool contig)
{
    IOMMUAccessFlags granted = IOMMU_NONE;
    uint64_t step;

    for (uint64_t offset = 0; offset < size; offset += step) {
        SMMUPTWEventInfo info = {};
        SMMUTLBEntry now = {};

        if (smmu_ptw(ARM_SMMU(a->s), cfg, iova + offset, IOMMU_NONE, &now,
                     &info)) {
            return "is not mapped";
        }
        if (CACHED_ENTRY_TO_ADDR(&now, iova + offset) != addr + offset) {
            return "is mapped elsewhere";
        }
        if (!contig && (perm & ~now.entry.perm)) {
            return "does not grant that";
        }
        granted |= now.entry.perm;
        step = now.entry.addr_mask + 1;
    }
    /* One of contiguous descriptors speaks for all of them */
    return perm & ~granted ? "does not grant that" : NULL;
}

/* All CDs in memory that are valid, whether or not they are cached */
static void find_cds(Audit *a, SMMUDevice *sdev)
{
    SMMUEventInfo event = {
        .sid = smmu_get_sid(sdev), .inval_ste_allowed = true,
    };
    uint32_t cds;
    STE ste;

    if (smmu_find_ste(a->s, event.sid, &ste, &event) || !STE_VALID(&ste) ||
        STE_CFG_ABORT(STE_CONFIG(&ste)) ||
        STE_CFG_S2_ENABLED(STE_CONFIG(&ste)) ||
        !STE_CFG_S1_ENABLED(STE_CONFIG(&ste))) {
        return;
    }
    cds = STE_S1CDMAX(&ste) ? 1U << STE_S1CDMAX(&ste) : 0;
    for (int64_t ssid = -1; ssid < cds; ssid++) {
        SMMUTransCfg *cfg;
        GPtrArray *list;

        event = (SMMUEventInfo) {
            .sid = event.sid, .ssv = ssid >= 0, .ssid = MAX(ssid, 0),
            .inval_ste_allowed = true,
        };
        if (ssid >= 0 && STE_S1FMT(&ste) &&
            !(ssid & (smmuv3_cd_split(&ste) - 1)) &&
            !smmuv3_l1cd_valid(a->s, &ste, ssid)) {
            ssid += smmuv3_cd_split(&ste) - 1;
            continue;
        }
        cfg = g_new0(SMMUTransCfg, 1);
        if (smmuv3_decode_config(&sdev->iommu, cfg, &event) || cfg->aborted ||
            cfg->bypassed || cfg->stage != SMMU_STAGE_1) {
            g_free(cfg);
            continue;
        }
        cfg->key = (SMMUConfigKey) {
            .sdev = sdev, .ssv = event.ssv, .ssid = event.ssid,
        };
        cfg->affd = true;
        list = g_hash_table_lookup(a->asids, GINT_TO_POINTER(cfg->asid));
        if (!list) {
            list = g_ptr_array_new_with_free_func(g_free);
            g_hash_table_insert(a->asids, GINT_TO_POINTER(cfg->asid), list);
        }
        g_ptr_array_add(list, cfg);
    }
}

static void audit_entry(Audit *a, SMMUTLBEntry *e)
{
    const SMMUIOTLBKey *key = e->key;
    GPtrArray *list = g_hash_table_lookup(a->asids, GINT_TO_POINTER(key->asid));
    SMMUState *bs = ARM_SMMU(a->s);
    const char *why = NULL;
    bool found = false;

    if (key->asid < 0 || e->s2_sized) {
        return;
    }
    for (int i = 0; list && i < list->len && !why; i++) {
        SMMUTransCfg *cfg = g_ptr_array_index(list, i);

        if (cfg->world != key->world || cfg->s2cfg.vmid != key->vmid) {
            continue;
        }
        found = true;
        if (e->table) {
            uint64_t table;

            if (!smmu_walk_table(bs, cfg, key->iova, e->level, &table)) {
                why = "has no table there";
            } else if (table != e->entry.translated_addr) {
                why = "has another table there";
            }
        } else {
            why = walk_differs(a, cfg, key->iova, e->entry.addr_mask + 1,
                               e->entry.translated_addr, e->entry.perm,
                               e->contig);
        }
    }
    if (!found) {
        why = "has no CD";
    }
    if (why) {
        differs(a, e->seq,
                "%s of ASID %d%s, IOVA 0x%" PRIx64 " level %d%s -> "
                "0x%" PRIx64 " perm %d: memory %s (fetched for SSID %d)",
                e->table ? "table" : "translation", key->asid,
                e->aset ? " (ASET)" : "", key->iova, e->level,
                e->contig ? " contiguous" : "",
                (uint64_t)e->entry.translated_addr, e->entry.perm, why,
                e->owner.ssv ? (int)e->owner.ssid : -1);
    }
}

static void audit_struct(Audit *a, SMMUv3Struct *e)
{
    static const char * const names[] = { "L1STD", "STE", "L1CD", "CD" };
    uint32_t now[ARRAY_SIZE(e->word)] = {};
    bool valid;

    switch (e->kind) {
    case SMMU_STRUCT_L1STD:
        valid = L1STD_SPAN((STEDesc *)e->word);
        break;
    case SMMU_STRUCT_STE:
        valid = STE_VALID((STE *)e->word) &&
                !STE_CFG_ABORT(STE_CONFIG((STE *)e->word));
        break;
    case SMMU_STRUCT_L1CD:
        valid = L1CD_VALID((CDDesc *)e->word);
        break;
    default:
        valid = CD_VALID((CD *)e->word);
        break;
    }
    if (valid && (!smmuv3_struct_read(a->s, e, now) ||
                  memcmp(now, e->word, e->nwords * sizeof(now[0])))) {
        differs(a, e->seq,
                "%s %u of StreamID %u: 0x%08x%08x, in memory 0x%08x%08x",
                names[e->kind], e->index, e->sid, e->word[1], e->word[0],
                now[1], now[0]);
    }
}

typedef struct AuditATC {
    Audit *a;
    SMMUDevice *sdev;
} AuditATC;

static void audit_atc_entry(void *opaque, uint64_t seq, int pasid,
                            uint64_t iova, uint64_t size, uint64_t addr,
                            IOMMUAccessFlags perm)
{
    AuditATC *atc = opaque;
    SMMUEventInfo event = {
        .sid = smmu_get_sid(atc->sdev), .ssv = pasid >= 0,
        .ssid = MAX(pasid, 0), .inval_ste_allowed = true,
    };
    const char *why = "has no CD";
    SMMUTransCfg cfg = {};

    if (!smmuv3_decode_config(&atc->sdev->iommu, &cfg, &event) &&
        !cfg.aborted) {
        if (cfg.bypassed || cfg.stage != SMMU_STAGE_1) {
            return;
        }
        cfg.affd = true;
        /* The function was not told which of them are contiguous */
        why = walk_differs(atc->a, &cfg, iova, size, addr, perm,
                           ARM_SMMU(atc->a->s)->overlap);
    }
    if (why) {
        /* Apart from the numbers of the SMMU and of other functions */
        seq |= 1ULL << 63 | (uint64_t)event.sid << 47;
        differs(atc->a, seq, "ATC entry of StreamID %u PASID %d, "
                "IOVA 0x%" PRIx64 " size 0x%" PRIx64 " -> 0x%" PRIx64
                " perm %d: memory %s", event.sid, pasid, iova, size, addr,
                perm, why);
    }
}

char *smmuv3_audit(SMMUv3State *s)
{
    SMMUState *bs = ARM_SMMU(s);
    Audit a = {
        .s = s,
        .asids = g_hash_table_new_full(NULL, NULL, NULL,
                                       (GDestroyNotify)g_ptr_array_unref),
        .suspects = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                          g_free),
        .report = g_string_new(NULL),
    };
    SMMUTLBEntry *entry;
    SMMUPciBus *sbus;
    GHashTableIter iter, dev_iter;
    SMMUv3Struct *e;

    qemu_mutex_lock(&s->mutex);
    bs->fresh = true;
    if (smmu_enabled(s)) {
        g_hash_table_iter_init(&dev_iter, bs->smmu_pcibus_by_busptr);
        while (g_hash_table_iter_next(&dev_iter, NULL, (void **)&sbus)) {
            for (int i = 0; i < SMMU_PCI_DEVFN_MAX; i++) {
                if (sbus->pbdev[i]) {
                    find_cds(&a, sbus->pbdev[i]);
                }
            }
        }
        g_hash_table_iter_init(&iter, bs->iotlb);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&entry)) {
            audit_entry(&a, entry);
        }
        g_hash_table_iter_init(&iter, bs->walk_cache);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&entry)) {
            audit_entry(&a, entry);
        }
        g_hash_table_iter_init(&iter, s->structs);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&e)) {
            audit_struct(&a, e);
        }
        g_hash_table_iter_init(&dev_iter, bs->smmu_pcibus_by_busptr);
        while (g_hash_table_iter_next(&dev_iter, NULL, (void **)&sbus)) {
            for (int i = 0; i < SMMU_PCI_DEVFN_MAX; i++) {
                AuditATC atc = { .a = &a, .sdev = sbus->pbdev[i] };
                PCIEATSClient *client = atc.sdev ?
                                        smmuv3_find_client(atc.sdev) : NULL;

                if (client) {
                    PCIE_ATS_CLIENT_GET_CLASS(client)->each(client,
                                                            audit_atc_entry,
                                                            &atc);
                }
            }
        }
    }
    bs->fresh = false;
    qemu_mutex_unlock(&s->mutex);

    g_hash_table_destroy(a.asids);
    g_hash_table_destroy(s->suspects);
    s->suspects = a.suspects;
    s->counters[SMMUV3_COUNTER_AUDIT_DIFFERS] = a.differs;
    s->counters[SMMUV3_COUNTER_AUDIT_STALE] = a.stale;
    if (a.stale) {
        qemu_log("arm-smmuv3: %" PRIu64 " cached entries are stale\n%s",
                 a.stale, a.report->str);
    }
    return g_string_free(a.report, false);
}

static char *audit_get(Object *obj, Error **errp)
{
    return smmuv3_audit(ARM_SMMUV3(obj));
}

void smmuv3_audit_init(SMMUv3State *s)
{
    s->suspects = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                        g_free);
    object_property_add_str(OBJECT(s), "audit", audit_get, NULL);
}
