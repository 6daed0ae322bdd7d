/*
 * sva-testdev: a PCIe function with PASID, to test Shared Virtual Addressing
 *
 * Many queues, each with a page of registers that the guest's kernel maps into
 * one process and a PASID that only the kernel can set. An operation started on
 * a queue accesses memory with that PASID, through the IOMMU in front of the
 * function. See docs/specs/sva-testdev.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "qemu/host-utils.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/pcie_ats_client.h"
#include "hw/pci/pcie_regs.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "trace.h"

#define TYPE_SVA_TESTDEV "sva-testdev"
OBJECT_DECLARE_SIMPLE_TYPE(SVATestDev, SVA_TESTDEV)

#define MAX_VECTORS     64
/* The one that is always there is where the list has to begin */
#define AER_CAP_OFFSET PCI_CONFIG_SPACE_SIZE
#define PASID_CAP_OFFSET (AER_CAP_OFFSET + PCI_ERR_SIZEOF)
#define ATS_CAP_GLOBAL_INV 0x0040 /* Global Invalidate Supported */
#define PASID_MASK      MAKE_64BIT_MASK(0, 20)

/* No access crosses a page of the smallest translation granule */
#define ACCESS_MAX      (4 * KiB)
/* What one slot does before the others, and the vCPUs, have their turn */
#define BURST_ACCESSES  64
#define BURST_BYTES     (64 * KiB)

typedef struct Slot {
    uint32_t cmd;
    uint32_t status;
    uint64_t src, dst, len, arg, arg2, stride;
    uint64_t faddr, value, count;
    uint64_t pos;               /* offset of the next access */
    bool from_atc;              /* the last access's translation was there */
    /* An access that the IOMMU holds; 0: none */
    uint64_t stall_id;
    uint64_t stall_addr;
    bool stall_write;
} Slot;

typedef struct Queue {
    uint32_t ctl;
    uint32_t pasid;
    uint32_t vector;
    uint32_t done;
    uint32_t running;           /* a bit per slot */
    uint32_t stalled;           /* those with an access that the IOMMU holds */
    uint32_t stopping;          /* those that end when that one does */
    uint32_t atc_hits, atc_misses, stalls;
    Slot slot[SVATD_NUM_SLOTS];
} Queue;

/*
 * The address translation cache. An entry stays until an invalidation names it,
 * however much software would like it to go.
 */
typedef struct ATCKey {
    int pasid;                  /* -1: none */
    uint8_t shift;              /* log2 of the size */
    uint64_t iova;
} ATCKey;

typedef struct ATCEntry {
    ATCKey key;
    uint64_t addr;
    IOMMUAccessFlags perm;
    uint64_t seq;
} ATCEntry;

/* A posted write: translated, and on its way to memory */
typedef struct PostedWrite {
    AddressSpace *as;
    hwaddr addr;
    uint64_t value;
} PostedWrite;

struct SVATestDev {
    PCIDevice parent_obj;

    MemoryRegion ctrl_mr;
    MemoryRegion queues_mr;
    QEMUTimer timer;
    Queue *queue;
    unsigned int num_vectors;

    GHashTable *atc;            /* an ATCEntry is its own key's owner */
    uint64_t atc_shifts;        /* log2 of the sizes there may be in it */
    uint32_t atc_invs, atc_drops;
    uint64_t atc_seq;

    /* The access that is being translated */
    Queue *cur_queue;
    Slot *cur_slot;
    uint64_t cur_addr;
    bool cur_write;
    uint64_t stall_seq;

    GArray *writes;             /* PostedWrite, oldest first */

    uint16_t num_queues;
    uint8_t pasid_bits;
    uint32_t latency_ns;
    bool ats;
    bool ats_refill;
    bool posted;
    bool can_stall;
    uint32_t atc_size;
};

/* 64-bit registers of a slot */
static uint64_t *slot_reg64(Slot *slot, hwaddr reg)
{
    switch (reg) {
    case SVATD_SLOT_SRC:
        return &slot->src;
    case SVATD_SLOT_DST:
        return &slot->dst;
    case SVATD_SLOT_LEN:
        return &slot->len;
    case SVATD_SLOT_ARG:
        return &slot->arg;
    case SVATD_SLOT_ARG2:
        return &slot->arg2;
    case SVATD_SLOT_STRIDE:
        return &slot->stride;
    case SVATD_SLOT_FADDR:
        return &slot->faddr;
    case SVATD_SLOT_VALUE:
        return &slot->value;
    case SVATD_SLOT_COUNT:
        return &slot->count;
    default:
        return NULL;
    }
}

/* Whatever is on its way arrives */
static void drain_writes(SVATestDev *s)
{
    for (int i = 0; i < s->writes->len; i++) {
        PostedWrite *w = &g_array_index(s->writes, PostedWrite, i);

        address_space_stq_le(w->as, w->addr, w->value, MEMTXATTRS_UNSPECIFIED,
                             NULL);
    }
    g_array_set_size(s->writes, 0);
}

static void sva_testdev_drain(PCIEATSClient *client)
{
    drain_writes(SVA_TESTDEV(client));
}

static void slot_end(SVATestDev *s, Queue *q, Slot *slot, uint32_t status)
{
    unsigned int n = slot - q->slot;

    drain_writes(s);
    slot->status = status;
    q->running &= ~BIT(n);
    q->done |= BIT(n);
    trace_sva_testdev_end(q - s->queue, n, status, slot->faddr, slot->value,
                          slot->count);
    /* DONE first: who is woken by the message must find it set */
    if ((slot->cmd & SVATD_CMD_IRQ) && (q->ctl & SVATD_QCTL_CTL_ENABLE) &&
        msix_enabled(PCI_DEVICE(s))) {
        msix_notify(PCI_DEVICE(s), q->vector);
    }
}

static void slot_fail(SVATestDev *s, Queue *q, Slot *slot, uint32_t status,
                      uint64_t addr, bool is_write)
{
    slot->faddr = addr;
    slot_end(s, q, slot, status | (is_write ? SVATD_STATUS_WRITE : 0) |
             (slot->from_atc ? SVATD_STATUS_ATC : 0));
}

/* Address translation cache */

static bool atc_enabled(SVATestDev *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);

    return s->ats && (pci_get_word(pdev->config + pdev->exp.ats_cap +
                                   PCI_ATS_CTRL) & PCI_ATS_CTRL_ENABLE);
}

static guint atc_hash(gconstpointer v)
{
    const ATCKey *key = v;

    return g_int64_hash(&key->iova) ^ (key->pasid << 12) ^ key->shift;
}

static gboolean atc_equal(gconstpointer v1, gconstpointer v2)
{
    const ATCKey *k1 = v1, *k2 = v2;

    return k1->pasid == k2->pasid && k1->shift == k2->shift &&
           k1->iova == k2->iova;
}

static void atc_flush(SVATestDev *s)
{
    if (s->atc) {
        g_hash_table_remove_all(s->atc);
    }
    s->atc_shifts = 0;
}

static ATCEntry *atc_lookup(SVATestDev *s, int pasid, uint64_t addr)
{
    ATCKey key = { .pasid = pasid };
    ATCEntry *e = NULL;

    for (uint64_t left = s->atc_shifts; left && !e; left &= left - 1) {
        key.shift = ctz64(left);
        key.iova = addr & ~MAKE_64BIT_MASK(0, key.shift);
        e = g_hash_table_lookup(s->atc, &key);
    }
    return e;
}

static int queue_pasid(const Queue *q)
{
    return q->ctl & SVATD_QCTL_CTL_PASID ? q->pasid : -1;
}

/* One transaction of the address type @at; the IOMMU is asked directly */
static IOMMUTLBEntry iommu_translate(SVATestDev *s, IOMMUMemoryRegion *mr,
                                     int pasid, unsigned int at, uint64_t addr,
                                     IOMMUAccessFlags flag)
{
    IOMMUMemoryRegionClass *imrc = memory_region_get_iommu_class_nocheck(mr);
    MemTxAttrs attrs = {
        .requester_id = pci_requester_id(PCI_DEVICE(s)),
        .pasid_valid = pasid >= 0,
        .pasid = MAX(pasid, 0),
        .pci_at = at,
    };

    return imrc->translate(mr, addr, flag, imrc->attrs_to_index ?
                           imrc->attrs_to_index(mr, attrs) : 0);
}

/* A Translation Request. What it grants goes into the ATC */
static ATCEntry *atc_fill(SVATestDev *s, IOMMUMemoryRegion *mr, int pasid,
                          uint64_t addr, IOMMUAccessFlags flag)
{
    IOMMUTLBEntry entry = iommu_translate(s, mr, pasid, PCI_AT_REQUEST, addr,
                                          flag);
    ATCEntry *e;

    trace_sva_testdev_ats_request(pasid, addr, entry.translated_addr,
                                  entry.addr_mask, entry.perm);
    if (entry.perm == IOMMU_NONE) {
        return NULL;
    }
    if (g_hash_table_size(s->atc) >= s->atc_size) {
        atc_flush(s);
    }
    e = g_new(ATCEntry, 1);
    *e = (ATCEntry) {
        .key = {
            .pasid = pasid,
            .shift = ctz64(entry.addr_mask + 1),
            .iova = addr & ~entry.addr_mask,
        },
        .addr = entry.translated_addr & ~entry.addr_mask,
        .perm = entry.perm,
        .seq = ++s->atc_seq,
    };
    g_hash_table_replace(s->atc, &e->key, e);
    s->atc_shifts |= BIT_ULL(e->key.shift);
    return e;
}

static IOMMUMemoryRegion *find_iommu(SVATestDev *s)
{
    AddressSpace *as = pci_get_address_space(PCI_DEVICE(s));
    MemoryRegionSection section = memory_region_find(as->root, 0, 1);
    IOMMUMemoryRegion *mr = NULL;

    /* It stays as long as the machine does: no need to hold a reference */
    if (section.mr) {
        mr = memory_region_get_iommu(section.mr);
        memory_region_unref(section.mr);
    }
    return mr;
}

static void sva_testdev_invalidate(PCIEATSClient *client, int pasid,
                                   bool global, uint64_t addr, uint64_t last)
{
    SVATestDev *s = SVA_TESTDEV(client);
    g_autoptr(GArray) refill = g_array_new(false, false, sizeof(ATCKey));
    IOMMUMemoryRegion *mr;
    GHashTableIter iter;
    ATCEntry *e;

    if (!atc_enabled(s)) {
        return;     /* answered with UR */
    }
    s->atc_invs++;
    drain_writes(s);
    g_hash_table_iter_init(&iter, s->atc);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&e)) {
        uint64_t e_last = e->key.iova + MAKE_64BIT_MASK(0, e->key.shift);

        if (e->key.iova > last || e_last < addr) {
            continue;
        }
        if (pasid >= 0 && (global ? e->key.pasid < 0 :
                                    e->key.pasid != pasid)) {
            continue;
        }
        if (s->ats_refill) {
            g_array_append_val(refill, e->key);
        }
        s->atc_drops++;
        g_hash_table_iter_remove(&iter);
    }
    trace_sva_testdev_ats_invalidate(pasid, global, addr, last,
                                     g_hash_table_size(s->atc));

    mr = refill->len ? find_iommu(s) : NULL;
    for (int i = 0; mr && i < refill->len; i++) {
        ATCKey *key = &g_array_index(refill, ATCKey, i);

        atc_fill(s, mr, key->pasid, key->iova, IOMMU_RO);
    }
}

static void sva_testdev_each(PCIEATSClient *client,
                             void (*fn)(void *opaque, uint64_t seq, int pasid,
                                        uint64_t iova, uint64_t size,
                                        uint64_t addr, IOMMUAccessFlags perm),
                             void *opaque)
{
    SVATestDev *s = SVA_TESTDEV(client);
    GHashTableIter iter;
    ATCEntry *e;

    if (!atc_enabled(s)) {
        return;
    }
    g_hash_table_iter_init(&iter, s->atc);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&e)) {
        fn(opaque, e->seq, e->key.pasid, e->key.iova, BIT_ULL(e->key.shift),
           e->addr, e->perm);
    }
}

static bool sva_testdev_can_stall(PCIEATSClient *client)
{
    return SVA_TESTDEV(client)->can_stall;
}

static uint64_t sva_testdev_stall(PCIEATSClient *client)
{
    SVATestDev *s = SVA_TESTDEV(client);
    Queue *q = s->cur_queue;
    Slot *slot = s->cur_slot;
    unsigned int n;

    if (!slot || !s->can_stall) {
        return 0;
    }
    n = slot - q->slot;
    slot->stall_addr = s->cur_addr;
    slot->stall_write = s->cur_write;
    /* A number never comes back, and tells where to look for it */
    slot->stall_id = ++s->stall_seq * SVATD_MAX_QUEUES * SVATD_NUM_SLOTS +
                     (q - s->queue) * SVATD_NUM_SLOTS + n;
    q->stalled |= BIT(n);
    q->stalls++;
    trace_sva_testdev_stall(q - s->queue, n, slot->stall_addr,
                            slot->stall_write);
    return slot->stall_id;
}

/*
 * Translate one access: one transaction as far as the IOMMU is concerned. If
 * this returns false the slot has ended, or the IOMMU holds the access and the
 * slot will begin it again. The IOMMU's region is asked directly, because
 * address_space_*() does not tell an access that the IOMMU ended from one to an
 * output address where there is nothing.
 */
static bool slot_translate(SVATestDev *s, Queue *q, Slot *slot, uint64_t addr,
                           bool is_write, AddressSpace **as, hwaddr *out)
{
    IOMMUAccessFlags flag = is_write ? IOMMU_WO : IOMMU_RO;
    IOMMUMemoryRegion *mr = find_iommu(s);
    int pasid = queue_pasid(q);
    IOMMUTLBEntry entry;
    ATCEntry *e = NULL;

    *as = pci_get_address_space(PCI_DEVICE(s));
    *out = addr;
    slot->from_atc = false;
    if (!mr) {
        return true;
    }

    if (atc_enabled(s)) {
        e = atc_lookup(s, pasid, addr);
        if (e && (e->perm & flag)) {
            slot->from_atc = true;
            q->atc_hits++;
        } else {
            q->atc_misses++;
            e = atc_fill(s, mr, pasid, addr, flag);
        }
    }
    if (e && (e->perm & flag)) {
        *out = e->addr | (addr & MAKE_64BIT_MASK(0, e->key.shift));
        /* No PASID on it: not all Root Complexes let that pass */
        entry = iommu_translate(s, mr, -1, PCI_AT_TRANSLATED, *out, flag);
        *as = entry.target_as;
    } else {
        /* Without a translation it is the IOMMU that reports the fault */
        s->cur_queue = q;
        s->cur_slot = slot;
        s->cur_addr = addr;
        s->cur_write = is_write;
        entry = iommu_translate(s, mr, pasid, PCI_AT_UNTRANSLATED, addr, flag);
        s->cur_slot = NULL;
        if (slot->stall_id) {
            return false;
        }
        *as = entry.target_as;
        *out = (entry.translated_addr & ~entry.addr_mask) |
               (addr & entry.addr_mask);
    }
    if (!(entry.perm & flag)) {
        slot_fail(s, q, slot, SVATD_ST_FAULT, addr, is_write);
        return false;
    }
    return true;
}

/*
 * Is there RAM at the output address? The device accesses nothing else: its own
 * registers, which a process has mapped, must not be reached while it works.
 */
static bool slot_ram(AddressSpace *as, hwaddr out, hwaddr len, bool is_write)
{
    MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;
    hwaddr xlat, plen = len;
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(as, out, &xlat, &plen, is_write, attrs);
    return plen == len && memory_access_is_direct(mr, is_write, attrs);
}

/* Access @len bytes that lie in one page. On failure as slot_translate() */
static bool slot_rw(SVATestDev *s, Queue *q, Slot *slot, uint64_t addr,
                    void *buf, unsigned int len, bool is_write)
{
    AddressSpace *as;
    MemTxResult result = MEMTX_OK;
    hwaddr out;

    if (!slot_translate(s, q, slot, addr, is_write, &as, &out)) {
        return false;
    }
    if (!slot_ram(as, out, len, is_write)) {
        slot_fail(s, q, slot, SVATD_ST_BUS, addr, is_write);
        return false;
    }
    if (!is_write) {
        drain_writes(s); /* reads do not pass writes */
    }
    if (len == 8) {
        /* One 64-bit access, not eight of bytes */
        if (is_write && s->posted) {
            PostedWrite w = { .as = as, .addr = out, .value = ldq_le_p(buf) };

            g_array_append_val(s->writes, w);
        } else if (is_write) {
            address_space_stq_le(as, out, ldq_le_p(buf),
                                 MEMTXATTRS_UNSPECIFIED, &result);
        } else {
            stq_le_p(buf, address_space_ldq_le(as, out, MEMTXATTRS_UNSPECIFIED,
                                               &result));
        }
    } else {
        result = address_space_rw(as, out, MEMTXATTRS_UNSPECIFIED, buf, len,
                                  is_write);
    }
    if (result != MEMTX_OK) {
        slot_fail(s, q, slot, SVATD_ST_BUS, addr, is_write);
        return false;
    }
    return true;
}

/* Atomic against the vCPUs too, so it needs the memory itself */
static void slot_atomic_add(SVATestDev *s, Queue *q, Slot *slot)
{
    hwaddr out, plen = 8;
    AddressSpace *as;
    uint64_t old, *p;

    if (!slot_translate(s, q, slot, slot->dst, true, &as, &out)) {
        return;
    }
    if (!slot_ram(as, out, 8, true)) {
        slot_fail(s, q, slot, SVATD_ST_BUS, slot->dst, true);
        return;
    }
    drain_writes(s);
    p = address_space_map(as, out, &plen, true, MEMTXATTRS_UNSPECIFIED);
    do {
        old = qatomic_read(p);
    } while (qatomic_cmpxchg(p, old,
                             cpu_to_le64(le64_to_cpu(old) + slot->arg)) != old);
    address_space_unmap(as, p, plen, true, 8);
    slot->value = le64_to_cpu(old);
    slot->count = 1;
    slot_end(s, q, slot, SVATD_ST_OK);
}

/* The bytes from offset @pos that touch no second page at @addr */
static unsigned int chunk(uint64_t addr, uint64_t pos, uint64_t len)
{
    return MIN(len - pos, ACCESS_MAX - ((addr + pos) & (ACCESS_MAX - 1)));
}

static bool slot_compare(SVATestDev *s, Queue *q, Slot *slot, unsigned int n)
{
    uint8_t a[ACCESS_MAX], b[ACCESS_MAX];
    bool src_from_atc;

    if (!slot_rw(s, q, slot, slot->src + slot->pos, a, n, false)) {
        return false;
    }
    src_from_atc = slot->from_atc;
    if (!slot_rw(s, q, slot, slot->dst + slot->pos, b, n, false)) {
        return false;
    }
    for (unsigned int i = 0; i < n; i++) {
        if (a[i] != b[i]) {
            slot->from_atc = src_from_atc;
            slot->count += i;
            slot->value = a[i];
            slot_fail(s, q, slot, SVATD_ST_MISMATCH,
                      slot->src + slot->pos + i, false);
            return false;
        }
    }
    return true;
}

static bool slot_fill(SVATestDev *s, Queue *q, Slot *slot, unsigned int n)
{
    uint8_t buf[ACCESS_MAX];

    for (unsigned int i = 0; i < n; i++) {
        buf[i] = slot->arg >> (((slot->pos + i) % 8) * 8);
    }
    return slot_rw(s, q, slot, slot->dst + slot->pos, buf, n, true);
}

static bool slot_copy(SVATestDev *s, Queue *q, Slot *slot, unsigned int n)
{
    uint8_t buf[ACCESS_MAX];

    return slot_rw(s, q, slot, slot->src + slot->pos, buf, n, false) &&
           slot_rw(s, q, slot, slot->dst + slot->pos, buf, n, true);
}

/* One round of COPY, FILL or COMPARE */
static void slot_bulk(SVATestDev *s, Queue *q, Slot *slot, uint32_t op)
{
    uint64_t stop = slot->pos + MIN(BURST_BYTES, slot->len - slot->pos);
    unsigned int n;
    bool ok;

    while (slot->pos < stop) {
        switch (op) {
        case SVATD_OP_FILL:
            n = chunk(slot->dst, slot->pos, stop);
            ok = slot_fill(s, q, slot, n);
            break;
        case SVATD_OP_COPY:
        case SVATD_OP_COMPARE:
            n = MIN(chunk(slot->src, slot->pos, stop),
                    chunk(slot->dst, slot->pos, stop));
            ok = op == SVATD_OP_COPY ? slot_copy(s, q, slot, n) :
                                       slot_compare(s, q, slot, n);
            break;
        default:
            g_assert_not_reached();
        }
        if (!ok) {
            return;
        }
        slot->pos += n;
        slot->count += n;
    }
    if (slot->pos == slot->len) {
        slot_end(s, q, slot, SVATD_ST_OK);
    }
}

/* One round of POLL or HAMMER, which never end by themselves */
static void slot_free_run(SVATestDev *s, Queue *q, Slot *slot, bool is_write)
{
    uint64_t base = is_write ? slot->dst : slot->src;
    uint64_t value;
    uint8_t buf[8];

    for (int i = 0; i < BURST_ACCESSES; i++) {
        stq_le_p(buf, slot->arg);
        if (!slot_rw(s, q, slot, base + slot->pos, buf, 8, is_write)) {
            return;
        }
        value = ldq_le_p(buf);
        slot->count++;
        if (!is_write && value != slot->arg && value != slot->arg2) {
            slot->value = value;
            slot_fail(s, q, slot, SVATD_ST_MISMATCH, base + slot->pos, false);
            return;
        }
        slot->pos += slot->stride;
        if (slot->pos >= slot->len) {
            slot->pos = 0;
        }
    }
}

static void slot_run(SVATestDev *s, Queue *q, Slot *slot)
{
    uint32_t op = slot->cmd & SVATD_CMD_OP;

    switch (op) {
    case SVATD_OP_NOP:
        slot_end(s, q, slot, SVATD_ST_OK);
        break;
    case SVATD_OP_COPY:
    case SVATD_OP_FILL:
    case SVATD_OP_COMPARE:
        slot_bulk(s, q, slot, op);
        break;
    case SVATD_OP_ATOMIC_ADD:
        slot_atomic_add(s, q, slot);
        break;
    case SVATD_OP_POLL:
    case SVATD_OP_HAMMER:
        slot_free_run(s, q, slot, op == SVATD_OP_HAMMER);
        break;
    default:
        g_assert_not_reached();
    }
}

static void sva_testdev_schedule(SVATestDev *s, int64_t latency)
{
    if (!timer_pending(&s->timer)) {
        timer_mod(&s->timer,
                  qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + latency);
    }
}

static void sva_testdev_timer(void *opaque)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    SVATestDev *s = opaque;
    bool more = false;

    drain_writes(s);

    for (int i = 0; i < s->num_queues; i++) {
        Queue *q = &s->queue[i];

        for (int n = 0; n < SVATD_NUM_SLOTS; n++) {
            if (q->running & ~q->stalled & BIT(n)) {
                slot_run(s, q, &q->slot[n]);
            }
        }
        more |= q->running & ~q->stalled;
    }
    more |= s->writes->len;
    if (more) {
        int64_t spent = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - start;

        /*
         * The vCPUs have been kept from the BQL: leave it to them for as long.
         * With -icount the clock has stood still.
         */
        sva_testdev_schedule(s, MAX(s->latency_ns, spent));
    }
}

/* A command ends by order, as soon as the IOMMU holds none of its accesses */
static void slot_stop(SVATestDev *s, Queue *q, Slot *slot)
{
    unsigned int n = slot - q->slot;

    if (q->stalled & BIT(n)) {
        q->stopping |= BIT(n);
    } else {
        slot_end(s, q, slot, SVATD_ST_STOPPED);
    }
}

static void sva_testdev_resume(PCIEATSClient *client, uint64_t id, bool retry)
{
    SVATestDev *s = SVA_TESTDEV(client);
    unsigned int n = id % SVATD_NUM_SLOTS;
    unsigned int i = id / SVATD_NUM_SLOTS % SVATD_MAX_QUEUES;
    Queue *q = &s->queue[i];
    Slot *slot;

    if (i >= s->num_queues || q->slot[n].stall_id != id) {
        return;     /* reset has forgotten it */
    }
    slot = &q->slot[n];
    trace_sva_testdev_resume(i, n, slot->stall_addr, retry);
    slot->stall_id = 0;
    q->stalled &= ~BIT(n);
    if (q->stopping & BIT(n)) {
        q->stopping &= ~BIT(n);
        slot_end(s, q, slot, SVATD_ST_STOPPED);
    } else if (retry) {
        sva_testdev_schedule(s, s->latency_ns);
    } else {
        slot_fail(s, q, slot, SVATD_ST_FAULT, slot->stall_addr,
                  slot->stall_write);
    }
}

static bool range_ok(uint64_t addr, uint64_t len)
{
    return len == 0 || addr + len - 1 >= addr;
}

/* The status with which a command ends at once, or RUNNING */
static uint32_t slot_check(const Queue *q, const Slot *slot)
{
    uint64_t base = slot->src;

    if (!(q->ctl & SVATD_QCTL_CTL_ENABLE)) {
        return SVATD_ST_DISABLED;
    }
    if (slot->cmd & ~(SVATD_CMD_OP | SVATD_CMD_IRQ)) {
        return SVATD_ST_BAD_CMD;
    }
    switch (slot->cmd & SVATD_CMD_OP) {
    case SVATD_OP_NOP:
        return SVATD_ST_RUNNING;
    case SVATD_OP_COPY:
    case SVATD_OP_COMPARE:
        if (!range_ok(slot->src, slot->len) ||
            !range_ok(slot->dst, slot->len)) {
            return SVATD_ST_BAD_ARG;
        }
        return SVATD_ST_RUNNING;
    case SVATD_OP_FILL:
        if (!range_ok(slot->dst, slot->len) || slot->len % 8) {
            return SVATD_ST_BAD_ARG;
        }
        return SVATD_ST_RUNNING;
    case SVATD_OP_ATOMIC_ADD:
        return slot->dst % 8 ? SVATD_ST_BAD_ARG : SVATD_ST_RUNNING;
    case SVATD_OP_HAMMER:
        base = slot->dst;
        /* fall through */
    case SVATD_OP_POLL:
        if (base % 8 || slot->len % 8 || !slot->len || !slot->stride ||
            slot->stride % 8 || !range_ok(base, slot->len) ||
            slot->stride > UINT64_MAX - slot->len) {
            return SVATD_ST_BAD_ARG;
        }
        return SVATD_ST_RUNNING;
    default:
        return SVATD_ST_BAD_CMD;
    }
}

static void slot_command(SVATestDev *s, Queue *q, Slot *slot, uint32_t cmd)
{
    unsigned int n = slot - q->slot;
    uint32_t status;

    trace_sva_testdev_command(q - s->queue, n, cmd, slot->src, slot->dst,
                              slot->len);
    if (q->running & BIT(n)) {
        if ((cmd & SVATD_CMD_OP) == SVATD_OP_STOP) {
            slot_stop(s, q, slot);
        } else {
            qemu_log_mask(LOG_GUEST_ERROR,
                          "sva-testdev: command to a slot that runs\n");
        }
        return;
    }
    if ((cmd & SVATD_CMD_OP) == SVATD_OP_STOP) {
        return;     /* it has ended by itself meanwhile */
    }
    slot->cmd = cmd;
    slot->faddr = slot->value = slot->count = slot->pos = 0;
    status = slot_check(q, slot);
    if (status == SVATD_ST_RUNNING) {
        slot->status = status;
        q->running |= BIT(n);
        sva_testdev_schedule(s, s->latency_ns);
    } else {
        slot_end(s, q, slot, status);
    }
}

static void queue_enable(SVATestDev *s, Queue *q, bool enable)
{
    if (enable) {
        /* What the last owner left is none of the next one's business */
        memset(q->slot, 0, sizeof(q->slot));
        q->done = 0;
        q->atc_hits = q->atc_misses = q->stalls = 0;
        return;
    }
    for (int n = 0; n < SVATD_NUM_SLOTS; n++) {
        if (q->running & BIT(n)) {
            slot_stop(s, q, &q->slot[n]);
        }
    }
}

static void bad_access(const char *what, hwaddr addr)
{
    qemu_log_mask(LOG_GUEST_ERROR, "sva-testdev: bad %s at 0x%" HWADDR_PRIx
                  "\n", what, addr);
}

static uint64_t ctrl_read(void *opaque, hwaddr addr, unsigned int size)
{
    SVATestDev *s = opaque;
    unsigned int n = (addr - SVATD_QCTL(0)) / (SVATD_QCTL(1) - SVATD_QCTL(0));
    Queue *q;

    switch (addr) {
    case SVATD_ID:
        return SVATD_ID_VALUE;
    case SVATD_VERSION:
        return SVATD_VERSION_VALUE;
    case SVATD_CAPS:
        return s->num_queues | s->pasid_bits << SVATD_CAPS_PASID_SHIFT |
               (s->ats ? SVATD_CAPS_ATS : 0);
    case SVATD_ATC_ENTRIES:
        return s->atc ? g_hash_table_size(s->atc) : 0;
    case SVATD_ATC_INVS:
        return s->atc_invs;
    case SVATD_ATC_DROPS:
        return s->atc_drops;
    }
    if (addr >= SVATD_QCTL(0) && n < s->num_queues) {
        q = &s->queue[n];
        switch (addr - SVATD_QCTL(n)) {
        case SVATD_QCTL_CTL:
            return q->ctl;
        case SVATD_QCTL_PASID:
            return q->pasid;
        case SVATD_QCTL_STATE:
            return q->running ? SVATD_QCTL_STATE_BUSY : 0;
        case SVATD_QCTL_VECTOR:
            return q->vector;
        }
    }
    bad_access("control read", addr);
    return 0;
}

static void ctrl_write(void *opaque, hwaddr addr, uint64_t val,
                       unsigned int size)
{
    SVATestDev *s = opaque;
    unsigned int n = (addr - SVATD_QCTL(0)) / (SVATD_QCTL(1) - SVATD_QCTL(0));
    bool was, is;
    Queue *q;

    if (addr < SVATD_QCTL(0) || n >= s->num_queues) {
        bad_access("control write", addr);
        return;
    }
    q = &s->queue[n];
    was = q->ctl & SVATD_QCTL_CTL_ENABLE;
    switch (addr - SVATD_QCTL(n)) {
    case SVATD_QCTL_CTL:
        is = val & SVATD_QCTL_CTL_ENABLE;
        if (!was && q->running) {
            bad_access("change of a busy queue", addr);
            break;
        }
        if (was && ((q->ctl ^ val) & SVATD_QCTL_CTL_PASID)) {
            bad_access("change of an enabled queue", addr);
            val = (val & ~SVATD_QCTL_CTL_PASID) |
                  (q->ctl & SVATD_QCTL_CTL_PASID);
        }
        q->ctl = val & (SVATD_QCTL_CTL_ENABLE | SVATD_QCTL_CTL_PASID);
        trace_sva_testdev_ctl(n, q->ctl, q->pasid);
        if (was != is) {
            queue_enable(s, q, is);
        }
        break;
    case SVATD_QCTL_PASID:
        if (was || q->running) {
            bad_access("change of an enabled queue", addr);
            break;
        }
        q->pasid = val & PASID_MASK;
        break;
    case SVATD_QCTL_VECTOR:
        if (val >= s->num_vectors) {
            bad_access("vector", addr);
            break;
        }
        q->vector = val;
        break;
    default:
        bad_access("control write", addr);
    }
}

static const MemoryRegionOps ctrl_ops = {
    .read = ctrl_read,
    .write = ctrl_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 4 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

/* The queue, and the offset in its page, of an address in the queues' BAR */
static Queue *queue_at(SVATestDev *s, hwaddr addr, hwaddr *offset)
{
    unsigned int n = addr / SVATD_QUEUE_STRIDE;

    *offset = addr % SVATD_QUEUE_STRIDE;
    return n < s->num_queues && *offset < SVATD_QUEUE_SIZE ? &s->queue[n] :
                                                              NULL;
}

/* The slot, and the register in it, of an offset in a queue page */
static Slot *slot_at(Queue *q, hwaddr offset, hwaddr *reg)
{
    const hwaddr size = SVATD_Q_SLOT(1) - SVATD_Q_SLOT(0);
    unsigned int n;

    if (offset < SVATD_Q_SLOT(0)) {
        return NULL;
    }
    n = (offset - SVATD_Q_SLOT(0)) / size;
    *reg = (offset - SVATD_Q_SLOT(0)) % size;
    return n < SVATD_NUM_SLOTS ? &q->slot[n] : NULL;
}

static uint64_t queues_read(void *opaque, hwaddr addr, unsigned int size)
{
    SVATestDev *s = opaque;
    hwaddr offset, reg;
    Queue *q = queue_at(s, addr, &offset);
    Slot *slot = q ? slot_at(q, offset, &reg) : NULL;
    uint64_t *reg64;

    drain_writes(s); /* what is read here does not pass writes either */
    if (slot) {
        if (reg == SVATD_SLOT_CMD) {
            return slot->cmd;
        }
        if (reg == SVATD_SLOT_STATUS) {
            return slot->status;
        }
        reg64 = slot_reg64(slot, reg & ~7ULL);
        if (reg64) {
            return *reg64 >> (reg & 4) * 8;
        }
    } else if (q && offset == SVATD_Q_DONE) {
        return q->done;
    } else if (q && offset == SVATD_Q_INFO) {
        return q->ctl & SVATD_QCTL_CTL_ENABLE ? SVATD_Q_INFO_ENABLED : 0;
    } else if (q && offset == SVATD_Q_ATC_HITS) {
        return q->atc_hits;
    } else if (q && offset == SVATD_Q_ATC_MISSES) {
        return q->atc_misses;
    } else if (q && offset == SVATD_Q_STALLS) {
        return q->stalls;
    } else if (q && offset == SVATD_Q_STALLED) {
        return q->stalled;
    }
    bad_access("queue read", addr);
    return 0;
}

static void queues_write(void *opaque, hwaddr addr, uint64_t val,
                         unsigned int size)
{
    SVATestDev *s = opaque;
    hwaddr offset, reg;
    Queue *q = queue_at(s, addr, &offset);
    Slot *slot = q ? slot_at(q, offset, &reg) : NULL;
    uint64_t *reg64;

    if (slot && reg == SVATD_SLOT_CMD) {
        slot_command(s, q, slot, val);
        return;
    }
    if (slot && reg < SVATD_SLOT_FADDR) {
        reg64 = slot_reg64(slot, reg & ~7ULL);
        if (reg64 && !(q->running & BIT(slot - q->slot))) {
            *reg64 = size == 8 ? val :
                     deposit64(*reg64, (reg & 4) * 8, 32, val);
            return;
        }
    } else if (q && offset == SVATD_Q_DONE) {
        q->done &= ~val;
        return;
    }
    bad_access("queue write", addr);
}

static const MemoryRegionOps queues_ops = {
    .read = queues_read,
    .write = queues_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 8 },
};

static void sva_testdev_reset(DeviceState *dev)
{
    SVATestDev *s = SVA_TESTDEV(dev);
    PCIDevice *pdev = PCI_DEVICE(dev);

    timer_del(&s->timer);
    g_array_set_size(s->writes, 0);
    memset(s->queue, 0, s->num_queues * sizeof(*s->queue));
    atc_flush(s);
    s->atc_invs = s->atc_drops = 0;
    pcie_cap_deverr_reset(pdev);
    if (s->ats) {
        pci_set_word(pdev->config + pdev->exp.ats_cap + PCI_ATS_CTRL, 0);
    }
    if (s->pasid_bits) {
        pci_set_word(pdev->config + PASID_CAP_OFFSET + PCI_PASID_CTRL, 0);
    }
}

static void sva_testdev_pasid_cap(SVATestDev *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    uint16_t pos = PASID_CAP_OFFSET;

    pcie_add_capability(pdev, PCI_EXT_CAP_ID_PASID, 1, pos,
                        PCI_EXT_CAP_PASID_SIZEOF);
    pci_set_word(pdev->config + pos + PCI_PASID_CAP, s->pasid_bits << 8);
    pci_set_word(pdev->wmask + pos + PCI_PASID_CTRL, PCI_PASID_CTRL_ENABLE);
}

static void sva_testdev_ats_cap(SVATestDev *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    uint16_t pos = PASID_CAP_OFFSET;

    if (s->pasid_bits) {
        pos += PCI_EXT_CAP_PASID_SIZEOF;
    }
    pcie_ats_init(pdev, pos, true);
    pci_word_test_and_set_mask(pdev->config + pos + PCI_ATS_CAP,
                               ATS_CAP_GLOBAL_INV);
    s->atc = g_hash_table_new_full(atc_hash, atc_equal, NULL, g_free);
}

static void sva_testdev_config_write(PCIDevice *pdev, uint32_t addr,
                                     uint32_t val, int len)
{
    SVATestDev *s = SVA_TESTDEV(pdev);

    pci_default_write_config(pdev, addr, val, len);
    pcie_cap_flr_write_config(pdev, addr, val, len);
    pcie_aer_write_config(pdev, addr, val, len);
    if (!atc_enabled(s)) {
        atc_flush(s);
    }
}

static void sva_testdev_realize(PCIDevice *pdev, Error **errp)
{
    SVATestDev *s = SVA_TESTDEV(pdev);
    int i;

    if (!s->num_queues || s->num_queues > SVATD_MAX_QUEUES) {
        error_setg(errp, "sva-testdev: queues must be 1 to %d",
                   SVATD_MAX_QUEUES);
        return;
    }
    if (s->pasid_bits > 20) {
        error_setg(errp, "sva-testdev: pasid-bits must be 0 to 20");
        return;
    }
    if (!s->latency_ns) {
        error_setg(errp, "sva-testdev: latency-ns must not be 0");
        return;
    }
    if (!s->atc_size) {
        error_setg(errp, "sva-testdev: x-atc-size must not be 0");
        return;
    }
    if (s->ats_refill && !s->ats) {
        error_setg(errp, "sva-testdev: x-ats-refill needs ats=on");
        return;
    }
    if (!pci_bus_is_express(pci_get_bus(pdev))) {
        error_setg(errp, "sva-testdev: needs a PCI Express bus");
        return;
    }

    s->num_vectors = MIN(s->num_queues, MAX_VECTORS);
    if (msix_init_exclusive_bar(pdev, s->num_vectors, SVATD_BAR_MSIX, errp)) {
        return;
    }
    for (i = 0; i < s->num_vectors; i++) {
        msix_vector_use(pdev, i);
    }
    /* Its DEVCAP2 has the End-End TLP Prefix bit, which PASID needs */
    pcie_endpoint_cap_init(pdev, 0);
    pcie_cap_flr_init(pdev);
    pcie_cap_deverr_init(pdev);
    if (pcie_aer_init(pdev, PCI_ERR_VER, AER_CAP_OFFSET, PCI_ERR_SIZEOF,
                      errp)) {
        pcie_cap_exit(pdev);
        msix_uninit_exclusive_bar(pdev);
        return;
    }
    if (s->pasid_bits) {
        sva_testdev_pasid_cap(s);
    }
    if (s->ats) {
        sva_testdev_ats_cap(s);
    }

    s->queue = g_new0(Queue, s->num_queues);
    s->writes = g_array_new(false, false, sizeof(PostedWrite));
    timer_init_ns(&s->timer, QEMU_CLOCK_VIRTUAL, sva_testdev_timer, s);
    memory_region_init_io(&s->ctrl_mr, OBJECT(s), &ctrl_ops, s,
                          "sva-testdev-ctrl", SVATD_CTRL_SIZE);
    memory_region_init_io(&s->queues_mr, OBJECT(s), &queues_ops, s,
                          "sva-testdev-queues",
                          pow2ceil(s->num_queues * SVATD_QUEUE_STRIDE));
    pci_register_bar(pdev, SVATD_BAR_CTRL, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->ctrl_mr);
    pci_register_bar(pdev, SVATD_BAR_QUEUES, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->queues_mr);
}

static void sva_testdev_exit(PCIDevice *pdev)
{
    SVATestDev *s = SVA_TESTDEV(pdev);

    timer_del(&s->timer);
    g_free(s->queue);
    g_array_free(s->writes, true);
    g_clear_pointer(&s->atc, g_hash_table_destroy);
    pcie_aer_exit(pdev);
    pcie_cap_exit(pdev);
    msix_uninit_exclusive_bar(pdev);
}

static const VMStateDescription sva_testdev_vmstate = {
    .name = TYPE_SVA_TESTDEV,
    .unmigratable = 1,
};

static const Property sva_testdev_properties[] = {
    DEFINE_PROP_UINT16("queues", SVATestDev, num_queues, 64),
    DEFINE_PROP_UINT8("pasid-bits", SVATestDev, pasid_bits, 16),
    /* From the doorbell to the first access, and from burst to burst */
    DEFINE_PROP_UINT32("latency-ns", SVATestDev, latency_ns, 1000),
    /* Address Translation Services, and the number of entries in the ATC */
    DEFINE_PROP_BOOL("ats", SVATestDev, ats, false),
    DEFINE_PROP_UINT32("x-atc-size", SVATestDev, atc_size, 1 << 20),
    /* The IOMMU may hold accesses that fault */
    DEFINE_PROP_BOOL("stall", SVATestDev, can_stall, true),
    /* Ask again at once for what an invalidation drops */
    DEFINE_PROP_BOOL("x-ats-refill", SVATestDev, ats_refill, false),
    /* Writes of eight bytes arrive some time after their translation */
    DEFINE_PROP_BOOL("x-posted", SVATestDev, posted, false),
};

static void sva_testdev_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);
    PCIEATSClientClass *acc = PCIE_ATS_CLIENT_CLASS(klass);

    k->realize = sva_testdev_realize;
    k->exit = sva_testdev_exit;
    k->config_write = sva_testdev_config_write;
    acc->invalidate = sva_testdev_invalidate;
    acc->can_stall = sva_testdev_can_stall;
    acc->stall = sva_testdev_stall;
    acc->resume = sva_testdev_resume;
    acc->drain = sva_testdev_drain;
    acc->each = sva_testdev_each;
    k->vendor_id = SVATD_PCI_VENDOR_ID;
    k->device_id = SVATD_PCI_DEVICE_ID;
    k->class_id = PCI_CLASS_OTHERS;
    dc->desc = "Shared Virtual Addressing test device";
    dc->vmsd = &sva_testdev_vmstate;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_legacy_reset(dc, sva_testdev_reset);
    device_class_set_props(dc, sva_testdev_properties);
}

static const TypeInfo sva_testdev_types[] = {
    {
        .name = TYPE_SVA_TESTDEV,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(SVATestDev),
        .class_init = sva_testdev_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { TYPE_PCIE_ATS_CLIENT },
            { },
        },
    },
};

DEFINE_TYPES(sva_testdev_types)
