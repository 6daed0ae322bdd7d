/*
 * SMMUv3 model: a cache of configuration structures, each by itself
 *
 * L1STDs, STEs, L1CDs and CDs stay as they were read, valid or not, until a
 * command names them: IHI 0070, 3.21.3 and 4.3
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-internal.h"

static guint struct_hash(gconstpointer v)
{
    const SMMUv3Struct *e = v;

    return e->kind ^ e->sid << 2 ^ e->index << 14;
}

static gboolean struct_equal(gconstpointer v1, gconstpointer v2)
{
    const SMMUv3Struct *e1 = v1, *e2 = v2;

    return e1->kind == e2->kind && e1->sid == e2->sid && e1->index == e2->index;
}

void smmuv3_structs_init(SMMUv3State *s)
{
    s->structs = g_hash_table_new_full(struct_hash, struct_equal, NULL, g_free);
    s->smmu_state.configs_derived = s->config_cache;
}

void smmuv3_structs_reset(SMMUv3State *s)
{
    g_hash_table_remove_all(s->structs);
}

bool smmuv3_struct_get(SMMUv3State *s, SMMUv3StructKind kind, uint32_t sid,
                       uint32_t index, uint32_t *buf, int nwords)
{
    SMMUv3Struct key = { .kind = kind, .sid = sid, .index = index }, *e;

    if (!s->config_cache || s->smmu_state.fresh) {
        return false;
    }
    e = g_hash_table_lookup(s->structs, &key);
    if (e) {
        s->structs_since = MIN(s->structs_since, e->since);
        memcpy(buf, e->word, nwords * sizeof(*buf));
    }
    return e;
}

void smmuv3_struct_put(SMMUv3State *s, SMMUv3StructKind kind, uint32_t sid,
                       uint32_t index, int span, const uint32_t *buf,
                       int nwords)
{
    SMMUv3Struct *e;

    if (!s->config_cache || s->smmu_state.fresh) {
        return;
    }
    e = g_new0(SMMUv3Struct, 1);
    e->kind = kind;
    e->sid = sid;
    e->index = index;
    e->span = span;
    e->nwords = nwords;
    e->seq = ++s->smmu_state.seq;
    e->since = MIN(s->structs_since, e->seq);
    memcpy(e->word, buf, nwords * sizeof(*buf));
    g_hash_table_replace(s->structs, e, e);
}

void smmuv3_structs_inv_sids(SMMUv3State *s, uint32_t first, uint32_t last,
                             bool leaf)
{
    GHashTableIter iter;
    SMMUv3Struct *e;

    g_hash_table_iter_init(&iter, s->structs);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&e)) {
        bool match;

        if (e->kind == SMMU_STRUCT_L1STD) {
            match = !leaf && first >> e->span <= e->index &&
                    e->index <= last >> e->span;
        } else {
            match = first <= e->sid && e->sid <= last;
        }
        if (match && e->since <= s->smmu_state.drop_until) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

void smmuv3_structs_inv_cds(SMMUv3State *s, uint32_t sid, int64_t ssid,
                            bool leaf)
{
    GHashTableIter iter;
    SMMUv3Struct *e;

    g_hash_table_iter_init(&iter, s->structs);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&e)) {
        if (e->sid == sid && e->since <= s->smmu_state.drop_until &&
            (e->kind == SMMU_STRUCT_CD ||
             (e->kind == SMMU_STRUCT_L1CD && !leaf)) &&
            (ssid < 0 || ssid >> e->span == e->index)) {
            g_hash_table_iter_remove(&iter);
        }
    }
}
