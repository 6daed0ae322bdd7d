/*
 * SMMUv3 model: a speculative walker
 *
 * An SMMU may fetch whatever valid configuration leads to, at any time. This
 * one does it when it hurts: before an invalidation is acknowledged it fetches
 * again what has been dropped, what devices used last, and goes on a little
 * through all page tables and CD tables. It does the same from time to time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-internal.h"

#define PERIOD_NS       (1 * SCALE_MS)
/*
 * Descriptors to look at: after an invalidation, and each period. The guest's
 * progress in terms of its DSBs decides, not the time: on a loaded host the
 * walker would keep the vCPUs from work.
 */
#define BUDGET_INV      16
#define BUDGET_MIN      8
#define BUDGET_MAX      512
/* After a period's work the vCPUs have this many times as long for theirs */
#define REST            8
/* CDs to look at, and how far beyond the last that was valid */
#define CDS             4
#define CDS_BEYOND      64
/* Streams and SubstreamIDs that are known at once */
#define STREAMS_MAX     4096

/* A StreamID and maybe a SubstreamID, whose tables the walker goes through */
typedef struct SMMUv3Stream {
    SMMUConfigKey key;
    uint64_t cursor;
} SMMUv3Stream;

static guint stream_hash(gconstpointer v)
{
    const SMMUv3Stream *stream = v;

    return g_direct_hash(stream->key.sdev) ^ stream->key.ssid << 1 ^
           stream->key.ssv;
}

static gboolean stream_equal(gconstpointer v1, gconstpointer v2)
{
    const SMMUv3Stream *s1 = v1, *s2 = v2;

    return s1->key.sdev == s2->key.sdev && s1->key.ssv == s2->key.ssv &&
           s1->key.ssid == s2->key.ssid;
}

/* What the key leads to now, as it is cached or as it is in memory */
static SMMUTransCfg *prefetch_config(const SMMUConfigKey *key)
{
    SMMUEventInfo event = {
        .sid = smmu_get_sid(key->sdev), .ssv = key->ssv, .ssid = key->ssid,
        .inval_ste_allowed = true,
    };
    SMMUTransCfg *cfg = smmuv3_get_config(key->sdev, &event);

    return cfg && !cfg->aborted && !cfg->bypassed &&
           cfg->stage == SMMU_STAGE_1 ? cfg : NULL;
}

static bool prefetch_addr(SMMUv3State *s, SMMUTransCfg *cfg, uint64_t iova)
{
    if (!smmu_prefetch(ARM_SMMU(s), cfg, iova)) {
        return false;
    }
    s->counters[SMMUV3_COUNTER_PREFETCH]++;
    return true;
}

/* If @entry would be fetched the same after it was dropped, its time is now */
static void prefetch_again(SMMUState *bs, SMMUTLBEntry *entry)
{
    SMMUTransCfg *cfg = entry->owner.sdev ? prefetch_config(&entry->owner) :
                                            NULL;
    uint64_t table;
    bool same;

    if (!cfg || cfg->asid != entry->key->asid ||
        cfg->world != entry->key->world) {
        return;
    }
    bs->fresh = true;
    if (entry->table) {
        same = smmu_walk_table(bs, cfg, entry->entry.iova, entry->level,
                               &table) &&
               table == entry->entry.translated_addr;
    } else {
        SMMUPTWEventInfo info = {};
        SMMUTLBEntry now = {};

        same = !smmu_ptw(bs, cfg, entry->entry.iova, IOMMU_NONE, &now, &info) &&
               now.entry.translated_addr == entry->entry.translated_addr &&
               now.entry.perm == entry->entry.perm &&
               now.level == entry->level;
    }
    bs->fresh = false;
    if (same) {
        entry->seq = entry->since = ++bs->seq;
        ARM_SMMUV3(bs)->counters[SMMUV3_COUNTER_PREFETCH]++;
    }
}

void smmuv3_prefetch_stream(SMMUv3State *s, const SMMUConfigKey *key)
{
    SMMUv3Stream stream = { .key = *key };

    if (s->prefetch && !g_hash_table_contains(s->streams, &stream) &&
        g_hash_table_size(s->streams) < STREAMS_MAX) {
        SMMUv3Stream *new = g_memdup2(&stream, sizeof(stream));

        g_hash_table_add(s->streams, new);
        g_ptr_array_add(s->stream_list, new);
    }
}

void smmuv3_prefetch_used(SMMUv3State *s, const SMMUConfigKey *key,
                          uint64_t iova)
{
    uint64_t page = iova >> 12;
    SMMUv3Used *used = &s->used[(page ^ key->ssid) % ARRAY_SIZE(s->used)];

    if (s->prefetch) {
        used->key = *key;
        used->iova = page << 12;
    }
}

/* Are there CDs that nobody has used yet? Those that are invalid count, too */
static void prefetch_cds(SMMUv3State *s)
{
    SMMUv3Stream *stream;
    SMMUConfigKey key;

    if (!s->stream_list->len) {
        return;
    }
    stream = g_ptr_array_index(s->stream_list,
                               s->next_stream % s->stream_list->len);
    key = (SMMUConfigKey) { .sdev = stream->key.sdev, .ssv = true };
    for (int i = 0; i < CDS; i++) {
        key.ssid = s->next_ssid++;
        if (s->next_ssid >= MIN(s->max_ssid + CDS_BEYOND, 1 << s->ssidsize)) {
            s->next_ssid = 0;
        }
        if (prefetch_config(&key)) {
            s->max_ssid = MAX(s->max_ssid, key.ssid);
        }
    }
}

/* Go on through the page tables of the next stream */
static void prefetch_tables(SMMUv3State *s, int budget)
{
    while (budget > 0 && s->stream_list->len) {
        unsigned int i = s->next_stream++ % s->stream_list->len;
        SMMUv3Stream *stream = g_ptr_array_index(s->stream_list, i);
        SMMUTransCfg *cfg = prefetch_config(&stream->key);
        int n = 0;

        if (!cfg) {
            g_ptr_array_remove_index_fast(s->stream_list, i);
            g_hash_table_remove(s->streams, stream);
            budget--;
            continue;
        }
        /* A share for each, if there is time for that */
        for (n = MIN(budget, 64); n > 0; n--) {
            uint64_t iova = stream->cursor;

            budget--;
            if (!smmu_next_leaf(ARM_SMMU(s), cfg, &iova, &stream->cursor)) {
                break;
            }
            prefetch_addr(s, cfg, iova);
        }
    }
}

static void prefetch(SMMUv3State *s, int budget)
{
    SMMUState *bs = ARM_SMMU(s);
    SMMUTransCfg *cfg;

    for (unsigned int i = 0; i < bs->dropped->len; i++) {
        SMMUTLBDropped *d = &g_array_index(bs->dropped, SMMUTLBDropped, i);

        cfg = prefetch_config(&d->owner);
        if (cfg) {
            prefetch_addr(s, cfg, d->iova);
        }
    }
    g_array_set_size(bs->dropped, 0);

    for (int i = 0; i < ARRAY_SIZE(s->used); i++) {
        SMMUv3Used *used = &s->used[i];

        if (used->key.sdev) {
            cfg = prefetch_config(&used->key);
            if (cfg) {
                prefetch_addr(s, cfg, used->iova);
            } else {
                used->key.sdev = NULL;
            }
        }
    }

    prefetch_cds(s);
    prefetch_tables(s, budget);
}

void smmuv3_prefetch(SMMUv3State *s)
{
    if (s->prefetch && smmu_enabled(s)) {
        QEMU_LOCK_GUARD(&s->mutex);
        prefetch(s, BUDGET_INV);
    }
}

static void prefetch_timer(void *opaque)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), end;
    SMMUv3State *s = opaque;
    uint64_t dsbs = 0;

    if (!smmu_enabled(s)) {
        return;
    }
    for (int i = 0; i < SMMUV3_DSB_CPUS; i++) {
        dsbs += s->dsbs[i];
    }
    WITH_QEMU_LOCK_GUARD(&s->mutex) {
        prefetch(s, MAX(BUDGET_MIN, MIN(BUDGET_MAX, dsbs - s->prefetch_dsbs)));
    }
    s->prefetch_dsbs = dsbs;
    end = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    timer_mod(s->prefetch_timer, end + MAX(PERIOD_NS, (end - start) * REST));
}

void smmuv3_prefetch_enable(SMMUv3State *s)
{
    if (s->prefetch && smmu_enabled(s) && !timer_pending(s->prefetch_timer)) {
        timer_mod(s->prefetch_timer,
                  qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + PERIOD_NS);
    }
}

void smmuv3_prefetch_init(SMMUv3State *s)
{
    SMMUState *bs = ARM_SMMU(s);

    if (s->prefetch) {
        bs->note_dropped = true;
        bs->fetch_again = prefetch_again;
    }
    bs->dropped = g_array_new(false, false, sizeof(SMMUTLBDropped));
    s->streams = g_hash_table_new_full(stream_hash, stream_equal, g_free, NULL);
    s->stream_list = g_ptr_array_new();
    s->prefetch_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, prefetch_timer, s);
}

void smmuv3_prefetch_reset(SMMUv3State *s)
{
    timer_del(s->prefetch_timer);
    g_array_set_size(ARM_SMMU(s)->dropped, 0);
    g_ptr_array_set_size(s->stream_list, 0);
    g_hash_table_remove_all(s->streams);
    memset(s->used, 0, sizeof(s->used));
    s->next_stream = s->next_ssid = s->max_ssid = 0;
}
