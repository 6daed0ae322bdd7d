/*
 * SMMUv3 model: transactions that stall (SMMU_IDR0.STALL_MODEL)
 *
 * IHI 0070, 3.12.2 and 4.7. The function behind the SMMU keeps the access
 * itself, and begins it again when told so. All this happens under the BQL:
 * only functions that know of stalls get here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "hw/pci/pcie_ats_client.h"
#include "smmuv3-internal.h"

typedef struct SMMUv3Stall {
    SMMUDevice *sdev;
    uint64_t id;        /* the function's name for the access */
} SMMUv3Stall;

void smmuv3_stall_init(SMMUv3State *s)
{
    s->stalls = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    s->stalls_waiting = g_array_new(false, false, sizeof(SMMUv3Stall));
}

static void smmuv3_stall_count(SMMUv3State *s)
{
    s->counters[SMMUV3_COUNTER_STALL_HELD] = g_hash_table_size(s->stalls) +
                                             s->stalls_waiting->len;
}

static void smmuv3_stall_end(SMMUv3State *s, const SMMUv3Stall *stall,
                             bool retry)
{
    PCIEATSClient *client = smmuv3_find_client(stall->sdev);

    trace_smmuv3_stall_end(smmu_get_sid(stall->sdev), stall->id, retry);
    if (client) {
        PCIE_ATS_CLIENT_GET_CLASS(client)->resume(client, stall->id, retry);
    }
}

/* For how many more stalls is there room, and for their events? */
static unsigned int smmuv3_stall_room(SMMUv3State *s)
{
    unsigned int events = smmuv3_eventq_writable(s) ?
                          smmuv3_q_space(&s->eventq) : 0;

    return MIN(s->stall_max - g_hash_table_size(s->stalls), events);
}

bool smmuv3_stall(SMMUv3State *s, SMMUDevice *sdev, SMMUEventInfo *event)
{
    PCIEATSClient *client;
    SMMUv3Stall stall = { .sdev = sdev };

    switch (event->type) {
    case SMMU_EVT_F_TRANSLATION:
    case SMMU_EVT_F_ADDR_SIZE:
    case SMMU_EVT_F_ACCESS:
    case SMMU_EVT_F_PERMISSION:
        break;
    default:
        return false;
    }
    if (!event->u.f_walk_eabt.stall) {
        return false;
    }
    /* Streams that cannot stall are terminated, which the event then says */
    event->u.f_walk_eabt.stall = false;
    client = smmuv3_find_client(sdev);
    stall.id = client ? PCIE_ATS_CLIENT_GET_CLASS(client)->stall(client) : 0;
    if (!stall.id) {
        return false;
    }

    if (!smmuv3_stall_room(s)) {
        /* Nobody is told: it begins again when there is room */
        g_array_append_val(s->stalls_waiting, stall);
        s->counters[SMMUV3_COUNTER_STALL_WAIT]++;
        event->type = SMMU_EVT_NONE;
    } else {
        /* A tag is not used again until software has answered it */
        do {
            s->stall_tag++;
        } while (g_hash_table_contains(s->stalls,
                                       GUINT_TO_POINTER(s->stall_tag)));
        g_hash_table_insert(s->stalls, GUINT_TO_POINTER(s->stall_tag),
                            g_memdup2(&stall, sizeof(stall)));
        event->u.f_walk_eabt.stall = true;
        event->u.f_walk_eabt.stag = s->stall_tag;
        s->counters[SMMUV3_COUNTER_STALL]++;
    }
    smmuv3_stall_count(s);
    trace_smmuv3_stall(event->sid, stall.id, event->u.f_walk_eabt.stall,
                       s->stall_tag, s->counters[SMMUV3_COUNTER_STALL_HELD]);
    return true;
}

void smmuv3_stall_poke(SMMUv3State *s)
{
    unsigned int n = MIN(s->stalls_waiting->len, smmuv3_stall_room(s));

    for (unsigned int i = 0; i < n; i++) {
        smmuv3_stall_end(s, &g_array_index(s->stalls_waiting, SMMUv3Stall, i),
                         true);
    }
    if (n) {
        g_array_remove_range(s->stalls_waiting, 0, n);
        smmuv3_stall_count(s);
    }
}

void smmuv3_stall_resume(SMMUv3State *s, Cmd *cmd)
{
    gpointer tag = GUINT_TO_POINTER(CMD_RESUME_STAG(cmd));
    SMMUv3Stall *stall = g_hash_table_lookup(s->stalls, tag);
    bool retry = CMD_RESUME_AC(cmd);

    /* A tag comes from a guest's guest as it is: it must fit the stream */
    if (!stall || smmu_get_sid(stall->sdev) != CMD_SID(cmd)) {
        return;
    }
    s->counters[retry ? SMMUV3_COUNTER_STALL_RETRY :
                        SMMUV3_COUNTER_STALL_TERM]++;
    g_hash_table_steal(s->stalls, tag);
    smmuv3_stall_count(s);
    /* IDR0.TERM_MODEL is 1: Abort makes no difference */
    smmuv3_stall_end(s, stall, retry);
    g_free(stall);
    smmuv3_stall_poke(s);
}

/* Terminate all stalled transactions, or those of @sid if that is >= 0 */
static void smmuv3_stall_terminate(SMMUv3State *s, int64_t sid)
{
    g_autoptr(GArray) ended = g_array_new(false, false, sizeof(SMMUv3Stall));
    GHashTableIter iter;
    SMMUv3Stall *stall;

    g_hash_table_iter_init(&iter, s->stalls);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&stall)) {
        if (sid < 0 || smmu_get_sid(stall->sdev) == sid) {
            g_array_append_val(ended, *stall);
            g_hash_table_iter_remove(&iter);
        }
    }
    for (int i = 0; i < s->stalls_waiting->len; ) {
        stall = &g_array_index(s->stalls_waiting, SMMUv3Stall, i);
        if (sid < 0 || smmu_get_sid(stall->sdev) == sid) {
            g_array_append_val(ended, *stall);
            g_array_remove_index(s->stalls_waiting, i);
        } else {
            i++;
        }
    }
    s->counters[SMMUV3_COUNTER_STALL_TERM] += ended->len;
    smmuv3_stall_count(s);
    for (int i = 0; i < ended->len; i++) {
        smmuv3_stall_end(s, &g_array_index(ended, SMMUv3Stall, i), false);
    }
}

void smmuv3_stall_term(SMMUv3State *s, Cmd *cmd)
{
    smmuv3_stall_terminate(s, CMD_SID(cmd));
    smmuv3_stall_poke(s);
}

void smmuv3_stall_term_all(SMMUv3State *s)
{
    smmuv3_stall_terminate(s, -1);
}
