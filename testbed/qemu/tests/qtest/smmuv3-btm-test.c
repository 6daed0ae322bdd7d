/*
 * QTest testcase for broadcast TLB maintenance in the SMMUv3 model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A device reads through a set of translations until they are in the IOTLB.
 * Then the page tables change, and a broadcast is injected where the decoder
 * of CPU instructions would put it: those translations that it names have to
 * go, so that the device reads what the tables say now. The others have to
 * stay, so that it reads what they said before.
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qobject/qdict.h"
#include "qobject/qnum.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "hw/arm/smmuv3-counters.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define IDR0_BTM        (1 << 5)
#define CR2             0x2c
#define CR2_PTM         (1 << 2)
#define CD0_ASET        (1ull << 47)
#define STE_S2          6
#define STE_S1S2        7
/* 39 bits from level 1 with 4 KB pages, 44 bits out, AArch64, record faults */
#define STE2_S2CFG      (25ull << 32 | 1ull << 38 | 4ull << 48 | 1ull << 51 | \
                         1ull << 58)
/* Stage 2: read-write, normal memory */
#define S2_PTE_ATTRS    (3ull << 6 | 0xfull << 2 | QSMMU_PTE_SH_IS | \
                         QSMMU_PTE_AF)

#define EL10            QSMMU_EL10
#define EL20            QSMMU_EL20
#define EL2             QSMMU_EL2
#define EL3             QSMMU_EL3
#define S1              1
#define S2              2
#define S12             (S1 | S2)
#define ANY             QSMMU_ANY

typedef QSMMUBroadcast TLBI;

static const TLBI tlbi_all = { EL10, S12, ANY, ANY };

#define PAGE            0x1000ull
#define BLOCK           0x200000ull
#define NUM_DEVS        2

/* Addresses */
#define A               0x3654321000ull
#define A_NEXT          (A + PAGE)
#define G               (A + 0x10 * PAGE)
#define B               0x1200000000ull

/* What pages hold: what translation they are of, and which version of it */
#define OLD(n)          (0xa00ull + (n))
#define NEW(n)          (0xb00ull + (n))

typedef struct Dev {
    QPCIDevice *pci;
    QPCIBar ctrl;
    QPCIBar queues;
    uint32_t sid;
} Dev;

typedef struct Fixture {
    QTestState *qts;
    QGenericPCIBus bus;
    QSMMU smmu;
    char *path;
    Dev dev[NUM_DEVS];
} Fixture;

typedef struct Translation {
    int dev;
    uint32_t ssid;
    uint64_t va;
    int level;
    uint64_t attrs;
    uint64_t pte;               /* where it is; filled in */
    uint64_t pa[2];             /* old and new; filled in */
} Translation;

static uint64_t counter(Fixture *f, const char *name)
{
    g_autofree char *prop = g_strdup_printf("counter-%s", name);
    QDict *rsp = qtest_qmp(f->qts, "{ 'execute': 'qom-get', 'arguments': "
                           "{ 'path': %s, 'property': %s } }", f->path, prop);
    uint64_t value = qnum_get_uint(qobject_to(QNum, qdict_get(rsp, "return")));

    qobject_unref(rsp);
    return value;
}

/* sva-testdev: slot 0 of queue 0 */

static uint64_t dev_slot(Fixture *f, const Translation *t)
{
    return f->dev[t->dev].queues.addr + SVATD_Q_SLOT(0);
}

/* Read once; returns SVATD_STATUS_* */
static uint32_t dev_access(Fixture *f, const Translation *t)
{
    uint64_t qctl = f->dev[t->dev].ctrl.addr + SVATD_QCTL(0);
    uint64_t slot = dev_slot(f, t);
    uint32_t status;

    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, 0);
    qtest_writel(f->qts, qctl + SVATD_QCTL_PASID, t->ssid);
    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL,
                 t->ssid ? SVATD_QCTL_CTL_PASID : 0);
    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, SVATD_QCTL_CTL_ENABLE |
                 (t->ssid ? SVATD_QCTL_CTL_PASID : 0));

    /* A poll that ends at the first value, as none is allowed */
    qtest_writeq(f->qts, slot + SVATD_SLOT_SRC, t->va);
    qtest_writeq(f->qts, slot + SVATD_SLOT_LEN, 8);
    qtest_writeq(f->qts, slot + SVATD_SLOT_STRIDE, 8);
    qtest_writeq(f->qts, slot + SVATD_SLOT_ARG, ~0ull);
    qtest_writeq(f->qts, slot + SVATD_SLOT_ARG2, ~0ull);
    qtest_writel(f->qts, slot + SVATD_SLOT_CMD, SVATD_OP_POLL);
    do {
        qtest_clock_step(f->qts, 1000000);
        status = qtest_readl(f->qts, slot + SVATD_SLOT_STATUS);
    } while ((status & SVATD_STATUS_CODE) == SVATD_ST_RUNNING);
    return status;
}

static uint64_t dev_read(Fixture *f, const Translation *t)
{
    g_assert_cmphex(dev_access(f, t), ==, SVATD_ST_MISMATCH);
    return qtest_readq(f->qts, dev_slot(f, t) + SVATD_SLOT_VALUE);
}

/* Setup */

static Fixture *setup(const char *args, uint32_t cr2)
{
    Fixture *f = g_new0(Fixture, 1);

    f->qts = qtest_initf("-machine virt,gic-version=3,iommu=smmuv3 -m 256M "
                         "-nodefaults -device sva-testdev,addr=1 "
                         "-device sva-testdev,addr=2 "
                         "-global arm-smmuv3.x-iotlb-size=100000 "
                         "-global arm-smmuv3.ssidsize=4 %s", args);
    f->path = qsmmu_find(f->qts);
    qtest_writel(f->qts, QSMMU_VIRT_BASE + CR2, cr2);
    qpci_init_generic(&f->bus, f->qts, NULL, false);
    qsmmu_init(&f->smmu, f->qts, QSMMU_VIRT_BASE, QSMMU_VIRT_RAM);

    for (int i = 0; i < NUM_DEVS; i++) {
        Dev *dev = &f->dev[i];

        dev->sid = QPCI_DEVFN(i + 1, 0);
        dev->pci = qpci_device_find(&f->bus.bus, dev->sid);
        g_assert_nonnull(dev->pci);
        qpci_device_enable(dev->pci);
        dev->ctrl = qpci_iomap(dev->pci, SVATD_BAR_CTRL, NULL);
        dev->queues = qpci_iomap(dev->pci, SVATD_BAR_QUEUES, NULL);
    }
    return f;
}

static void teardown(Fixture *f)
{
    for (int i = 0; i < NUM_DEVS; i++) {
        g_free(f->dev[i].pci);
    }
    qtest_quit(f->qts);
    g_free(f->path);
    g_free(f);
}

static void map(Fixture *f, uint64_t pgd, Translation *t, int n)
{
    uint64_t size = t->level == 3 ? PAGE : BLOCK;

    for (int i = 0; i < 2; i++) {
        t->pa[i] = qsmmu_alloc(&f->smmu, size);
        qtest_writeq(f->qts, t->pa[i], i ? NEW(n) : OLD(n));
    }
    t->pte = qsmmu_map(&f->smmu, pgd, t->va, t->pa[0], t->level, t->attrs);
}

/* Have a translation lead to its old or its new page from now on */
static void point(Fixture *f, const Translation *t, int new)
{
    uint64_t pte = qtest_readq(f->qts, t->pte);

    qtest_writeq(f->qts, t->pte, pte - t->pa[!new] + t->pa[new]);
}

/*
 * With everything cached, see what @tlbi or, if it is NULL, @step drops: a bit
 * per translation.
 */
static uint32_t dropped_by(Fixture *f, const Translation *t, int n,
                           const TLBI *tlbi, void (*step)(Fixture *f))
{
    uint64_t before = counter(f, "drop-broadcast");
    uint32_t dropped = 0;

    for (int i = 0; i < n; i++) {
        g_assert_cmphex(dev_read(f, &t[i]), ==, OLD(i));
    }
    for (int i = 0; i < n; i++) {
        point(f, &t[i], 1);
    }
    if (tlbi) {
        qsmmu_broadcast(&f->smmu, tlbi);
    }
    if (step) {
        step(f);
    }
    before = counter(f, "drop-broadcast") - before;

    for (int i = 0; i < n; i++) {
        uint64_t value = dev_read(f, &t[i]);

        if (value == NEW(i)) {
            dropped |= 1u << i;
        } else {
            g_assert_cmphex(value, ==, OLD(i));
        }
        point(f, &t[i], 0);
    }
    if (tlbi) {
        g_assert_cmpuint(before, ==, ctpop32(dropped));
    }
    qsmmu_tlbi_nsnh_all(&f->smmu);
    return dropped;
}

/* Stage 1: three address spaces of one device */

#define ASID            5
#define ASID_8BIT_ALIAS 0x105
#define ASID_PRIVATE    7               /* CD.ASET=1 */
#define ASID_OTHER      9               /* of no CD */

static const Translation stage1[] = {
    { 0, 1, A, 3, QSMMU_PTE_ATTRS },
    { 0, 1, A_NEXT, 3, QSMMU_PTE_ATTRS },
    { 0, 1, B, 2, QSMMU_PTE_ATTRS },
    { 0, 1, G, 3, QSMMU_PTE_ATTRS & ~QSMMU_PTE_NG },
    { 0, 2, A, 3, QSMMU_PTE_ATTRS },
    { 0, 3, A, 3, QSMMU_PTE_ATTRS },
};

#define T_A             (1 << 0)
#define T_A_NEXT        (1 << 1)
#define T_B             (1 << 2)
#define T_G             (1 << 3)
#define T_ALIAS_A       (1 << 4)
#define T_PRIVATE_A     (1 << 5)
#define T_ALL           0x3f

static void setup_stage1(Fixture *f, Translation *t)
{
    static const uint16_t asids[] = { 0, ASID, ASID_8BIT_ALIAS, ASID_PRIVATE };
    uint64_t pgd[ARRAY_SIZE(asids)], cd;
    QSMMUCDTable tab;

    memcpy(t, stage1, sizeof(stage1));
    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 4);
    for (int i = 1; i < ARRAY_SIZE(asids); i++) {
        pgd[i] = qsmmu_pgd_alloc(&f->smmu);
        cd = qsmmu_write_cd(&f->smmu, &tab, i, pgd[i], asids[i]);
        if (asids[i] == ASID_PRIVATE) {
            qtest_writeq(f->qts, cd, qtest_readq(f->qts, cd) | CD0_ASET);
        }
    }
    for (int i = 0; i < ARRAY_SIZE(stage1); i++) {
        map(f, pgd[t[i].ssid], &t[i], i);
    }
    qsmmu_write_ste_s1(&f->smmu, f->dev[0].sid, &tab, QSMMU_S1DSS_TERMINATE);
}

typedef struct Case {
    const char *name;
    TLBI tlbi;
    uint32_t drops;
    const char *counter;
} Case;

static const Case stage1_cases[] = {
    { "asid", { EL10, S1, 0, ASID }, T_A | T_A_NEXT | T_B, "asid" },
    { "asid/alias", { EL10, S1, 0, ASID_8BIT_ALIAS }, T_ALIAS_A, "asid" },
    { "asid/private", { EL10, S1, 0, ASID_PRIVATE }, 0, "asid" },
    { "asid/other", { EL10, S1, 0, ASID_OTHER }, 0, "asid" },

    { "va", { EL10, S1, 0, ASID, A, PAGE }, T_A, "va" },
    { "va/leaf", { EL10, S1, 0, ASID, A, PAGE, true }, T_A, "va" },
    { "va/next", { EL10, S1, 0, ASID, A_NEXT, PAGE, true }, T_A_NEXT, "va" },
    { "va/prev", { EL10, S1, 0, ASID, A - PAGE, PAGE, true }, 0, "va" },
    { "va/alias", { EL10, S1, 0, ASID_8BIT_ALIAS, A, PAGE, true },
      T_ALIAS_A, "va" },
    { "va/private", { EL10, S1, 0, ASID_PRIVATE, A, PAGE, true }, 0, "va" },
    { "va/other", { EL10, S1, 0, ASID_OTHER, A, PAGE, true }, 0, "va" },
    { "va/global", { EL10, S1, 0, ASID_OTHER, G, PAGE, true }, T_G, "va" },
    { "va/block", { EL10, S1, 0, ASID, B + 5 * PAGE, PAGE, true }, T_B, "va" },
    { "va/ttl", { EL10, S1, 0, ASID, A, PAGE, true, 1, 3 }, T_A, "va" },
    { "va/ttl-wrong", { EL10, S1, 0, ASID, A, PAGE, true, 1, 2 }, 0, "va" },
    { "va/block-ttl", { EL10, S1, 0, ASID, B + 5 * PAGE, PAGE, true, 1, 2 },
      T_B, "va" },
    { "va/block-ttl-wrong",
      { EL10, S1, 0, ASID, B + 5 * PAGE, PAGE, true, 1, 3 }, 0, "va" },

    { "vaa", { EL10, S1, 0, ANY, A, PAGE },
      T_A | T_ALIAS_A | T_PRIVATE_A, "vaa" },
    { "vaa/leaf", { EL10, S1, 0, ANY, A, PAGE, true },
      T_A | T_ALIAS_A | T_PRIVATE_A, "vaa" },
    { "vaa/prev", { EL10, S1, 0, ANY, A - PAGE, PAGE, true }, 0, "vaa" },

    { "range", { EL10, S1, 0, ASID, A, 2 * PAGE, true, 1 },
      T_A | T_A_NEXT, "range" },
    { "range/ttl", { EL10, S1, 0, ASID, A, 2 * PAGE, true, 1, 3 },
      T_A | T_A_NEXT, "range" },
    { "range/prev", { EL10, S1, 0, ASID, A - PAGE, 2 * PAGE, true, 1 },
      T_A, "range" },
    { "range/next", { EL10, S1, 0, ASID, A_NEXT, 2 * PAGE, true, 1 },
      T_A_NEXT, "range" },
    { "range/block", { EL10, S1, 0, ASID, B + 5 * PAGE, 2 * PAGE, true, 1 },
      T_B, "range" },
    { "range/block-ttl-wrong",
      { EL10, S1, 0, ASID, B + 5 * PAGE, 2 * PAGE, true, 1, 3 }, 0, "range" },
    { "range/granule-wrong", { EL10, S1, 0, ASID, A, 16 * PAGE, true, 2 },
      0, "range" },
    { "range/private", { EL10, S1, 0, ASID_PRIVATE, A, 2 * PAGE, true, 1 },
      0, "range" },
    { "range/all-asids", { EL10, S1, 0, ANY, A, 2 * PAGE, true, 1 },
      T_A | T_A_NEXT | T_ALIAS_A | T_PRIVATE_A, "range" },
    { "range/wraps", { EL10, S1, 0, ASID, A, -PAGE, true, 1 },
      T_A | T_A_NEXT | T_G, "range" },

    { "vmall", { EL10, S1, 0, ANY }, T_ALL, "vmall" },
    { "s12", { EL10, S12, 0, ANY }, T_ALL, "s12" },
    { "all", { EL10, S12, ANY, ANY }, T_ALL, "s12" },

    { "vmid/asid", { EL10, S1, 1, ASID }, 0, "asid" },
    { "vmid/vaa", { EL10, S1, 1, ANY, A, PAGE, true }, 0, "vaa" },
    { "vmid/vmall", { EL10, S1, 1, ANY }, 0, "vmall" },
    { "vmid/s12", { EL10, S12, 1, ANY }, 0, "s12" },
    { "ipa", { EL10, S2, 0, ANY, A, PAGE, true }, 0, "ipa" },

    { "regime/el20-asid", { EL20, S1, ANY, ASID }, 0, "ignored" },
    { "regime/el20-va", { EL20, S1, ANY, ASID, A, PAGE, true }, 0, "ignored" },
    { "regime/el20-vmall", { EL20, S1, ANY, ANY }, 0, "ignored" },
    { "regime/el2-vaa", { EL2, S1, ANY, ANY, A, PAGE, true }, 0, "ignored" },
    { "regime/alle2", { EL2 | EL20, S1, ANY, ANY }, 0, "ignored" },
    { "regime/alle3", { EL3, S1, ANY, ANY }, 0, "ignored" },
    { "secure/all", { EL10, S12, ANY, ANY, .secure = true }, 0, "ignored" },
};

static void test_stage1(const void *data)
{
    const Case *c = data;
    Fixture *f = setup("-global arm-smmuv3.btm=on", 0);
    Translation t[ARRAY_SIZE(stage1)];
    g_autofree char *name = g_strdup_printf("broadcast-%s", c->counter);
    uint64_t ignored;

    setup_stage1(f, t);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), &c->tlbi, NULL), ==,
                    c->drops);
    g_assert_cmpuint(counter(f, name), ==, 1);
    ignored = !strcmp(c->counter, "ignored");
    g_assert_cmpuint(counter(f, "broadcast-ignored"), ==, ignored);
    teardown(f);
}

/* Without stage 2, there is but one VMID: 0 */
static void test_stage1_only(void)
{
    const TLBI vmall = { EL10, S1, 0, ANY }, vmall_other = { EL10, S1, 1, ANY };
    Fixture *f = setup("-machine virt-9.1 -global arm-smmuv3.btm=on", 0);
    Translation t[ARRAY_SIZE(stage1)];

    setup_stage1(f, t);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), &vmall, NULL), ==, T_ALL);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), &vmall_other, NULL), ==, 0);
    teardown(f);
}

/* The command queue knows no ASET */
static void step_cmd_private(Fixture *f)
{
    qsmmu_tlbi_nh_asid(&f->smmu, ASID_PRIVATE);
}

static void test_command(void)
{
    Fixture *f = setup("-global arm-smmuv3.btm=on", 0);
    Translation t[ARRAY_SIZE(stage1)];

    setup_stage1(f, t);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), NULL, step_cmd_private),
                    ==, T_PRIVATE_A);
    teardown(f);
}

/*
 * For lookups an ASID is the same one whatever ASET is: two CDs with the same
 * one share what the first of them brought in, and its ASET.
 */
static void test_aset_lookup(const void *data)
{
    const TLBI tlbi = { EL10, S1, 0, ASID };
    bool first_private = GPOINTER_TO_INT(data);
    Fixture *f = setup("-global arm-smmuv3.btm=on", 0);
    Translation t[] = {
        { 0, 1, A, 3, QSMMU_PTE_ATTRS },
        { 0, 2, A, 3, QSMMU_PTE_ATTRS },
    };
    uint64_t pgd, cd;
    QSMMUCDTable tab;

    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 4);
    for (int i = 0; i < 2; i++) {
        pgd = qsmmu_pgd_alloc(&f->smmu);
        cd = qsmmu_write_cd(&f->smmu, &tab, t[i].ssid, pgd, ASID);
        if (first_private != i) {
            qtest_writeq(f->qts, cd, qtest_readq(f->qts, cd) | CD0_ASET);
        }
        map(f, pgd, &t[i], i);
    }
    qsmmu_write_ste_s1(&f->smmu, f->dev[0].sid, &tab, QSMMU_S1DSS_TERMINATE);

    g_assert_cmphex(dev_read(f, &t[0]), ==, OLD(0));
    g_assert_cmphex(dev_read(f, &t[1]), ==, OLD(0));
    qsmmu_broadcast(&f->smmu, &tlbi);
    g_assert_cmphex(dev_read(f, &t[1]), ==, first_private ? OLD(0) : OLD(1));
    teardown(f);
}

/* VMIDs and stage 2 */

#define T_S1            (1 << 0)        /* stage 1, VMID 1 */
#define T_S2            (1 << 1)        /* stage 2, VMID 2 */

static const Case stage2_cases[] = {
    { "vmall/vmid1", { EL10, S1, 1, ANY }, T_S1, "vmall" },
    { "vmall/vmid2", { EL10, S1, 2, ANY }, 0, "vmall" },
    { "asid/vmid1", { EL10, S1, 1, ASID }, T_S1, "asid" },
    { "asid/vmid2", { EL10, S1, 2, ASID }, 0, "asid" },
    { "vaa/vmid2", { EL10, S1, 2, ANY, A, PAGE, true }, 0, "vaa" },
    { "s12/vmid1", { EL10, S12, 1, ANY }, T_S1, "s12" },
    { "s12/vmid2", { EL10, S12, 2, ANY }, T_S2, "s12" },
    { "s12/vmid258", { EL10, S12, 258, ANY }, 0, "s12" },
    { "all", { EL10, S12, ANY, ANY }, T_S1 | T_S2, "s12" },
    { "ipa/vmid1", { EL10, S2, 1, ANY, A, PAGE, true }, 0, "ipa" },
    { "ipa/vmid2", { EL10, S2, 2, ANY, A, PAGE, true }, T_S2, "ipa" },
    { "ipa/vmid2-next", { EL10, S2, 2, ANY, A_NEXT, PAGE, true }, 0, "ipa" },
    { "ipa/vmid2-range", { EL10, S2, 2, ANY, A - PAGE, 2 * PAGE, true, 1, 3 },
      T_S2, "range" },
    { "ipa/vmid2-range-ttl-wrong",
      { EL10, S2, 2, ANY, A - PAGE, 2 * PAGE, true, 1, 2 }, 0, "range" },
};

static void test_stage2(const void *data)
{
    const Case *c = data;
    Fixture *f = setup("-global arm-smmuv3.btm=on", 0);
    Translation t[] = {
        { 0, 0, A, 3, QSMMU_PTE_ATTRS },
        { 1, 0, A, 3, S2_PTE_ATTRS },
    };
    g_autofree char *name = g_strdup_printf("broadcast-%s", c->counter);
    uint64_t pgd[2] = { qsmmu_pgd_alloc(&f->smmu), qsmmu_pgd_alloc(&f->smmu) };
    uint64_t ste;
    QSMMUCDTable tab;

    for (int i = 0; i < 2; i++) {
        map(f, pgd[i], &t[i], i);
    }

    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 0);
    qsmmu_write_cd(&f->smmu, &tab, 0, pgd[0], ASID);
    qsmmu_write_ste_s1(&f->smmu, f->dev[0].sid, &tab, 0);
    ste = qsmmu_ste_addr(&f->smmu, f->dev[0].sid);
    qtest_writeq(f->qts, ste + 16, 1);

    qsmmu_write_ste(&f->smmu, f->dev[1].sid, QSMMU_STE0_V |
                    QSMMU_STE0_CONFIG(STE_S2), 0);
    ste = qsmmu_ste_addr(&f->smmu, f->dev[1].sid);
    qtest_writeq(f->qts, ste + 16, 2 | STE2_S2CFG);
    qtest_writeq(f->qts, ste + 24, pgd[1]);

    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), &c->tlbi, NULL), ==,
                    c->drops);
    g_assert_cmpuint(counter(f, name), ==, 1);
    teardown(f);
}

/*
 * A translation of both stages combined is for operations on stage 1, or on
 * both, to drop. By IPA, only those of stage 2 have to go.
 */
static void test_nested(void)
{
    Fixture *f = setup("-global arm-smmuv3.btm=on", 0);
    Translation t = { 0, 0, A, 3, QSMMU_PTE_ATTRS };
    uint64_t pgd = qsmmu_pgd_alloc(&f->smmu);
    uint64_t s2_pgd = qsmmu_pgd_alloc(&f->smmu);
    uint64_t ste = qsmmu_ste_addr(&f->smmu, f->dev[0].sid);
    TLBI ipa = { EL10, S2, 2, ANY, 0, PAGE };
    TLBI vmall = { EL10, S1, 2, ANY };
    TLBI vmall_other = { EL10, S1, 3, ANY };
    TLBI s12 = { EL10, S12, 2, ANY };
    QSMMUCDTable tab;

    /* All of RAM with one block */
    qsmmu_map(&f->smmu, s2_pgd, QSMMU_VIRT_RAM, QSMMU_VIRT_RAM, 1,
              S2_PTE_ATTRS);
    map(f, pgd, &t, 0);
    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 0);
    qsmmu_write_cd(&f->smmu, &tab, 0, pgd, ASID);
    qsmmu_write_ste(&f->smmu, f->dev[0].sid, QSMMU_STE0_V |
                    QSMMU_STE0_CONFIG(STE_S1S2) | tab.base, 0);
    qtest_writeq(f->qts, ste + 16, 2 | STE2_S2CFG);
    qtest_writeq(f->qts, ste + 24, s2_pgd);

    g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
    point(f, &t, 1);
    ipa.base = t.pa[0];
    qsmmu_broadcast(&f->smmu, &ipa);
    g_assert_cmpuint(counter(f, "drop-broadcast"), >, 0);
    g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
    qsmmu_broadcast(&f->smmu, &vmall_other);
    g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
    qsmmu_broadcast(&f->smmu, &vmall);
    g_assert_cmphex(dev_read(f, &t), ==, NEW(0));
    point(f, &t, 0);
    g_assert_cmphex(dev_read(f, &t), ==, NEW(0));
    qsmmu_broadcast(&f->smmu, &s12);
    g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
    teardown(f);
}

/* Registers, and who does not listen */

static void test_registers(void)
{
    QTestState *qts;
    uint64_t base = QSMMU_VIRT_BASE;

    qts = qtest_init("-nodefaults -machine virt,iommu=smmuv3");
    g_assert_false(qtest_readl(qts, base + QSMMU_IDR0) & IDR0_BTM);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, 0);
    qtest_quit(qts);

    qts = qtest_init("-nodefaults -machine virt,iommu=smmuv3 "
                     "-global arm-smmuv3.btm=on");
    g_assert_true(qtest_readl(qts, base + QSMMU_IDR0) & IDR0_BTM);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, CR2_PTM);
    qtest_writel(qts, base + CR2, 0);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, 0);
    qtest_writel(qts, base + QSMMU_CR0, QSMMU_CR0_SMMUEN);
    qtest_writel(qts, base + CR2, CR2_PTM);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, 0);
    qtest_writel(qts, base + QSMMU_CR0, 0);
    qtest_writel(qts, base + CR2, CR2_PTM);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, CR2_PTM);
    qtest_writel(qts, base + QSMMU_CR0, QSMMU_CR0_SMMUEN);
    qtest_writel(qts, base + CR2, 0);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, CR2_PTM);
    qtest_quit(qts);
}

static void test_ptm(void)
{
    Fixture *f = setup("-global arm-smmuv3.btm=on", CR2_PTM);
    Translation t[ARRAY_SIZE(stage1)];

    setup_stage1(f, t);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), &tlbi_all, NULL),
                    ==, 0);
    g_assert_cmpuint(counter(f, "broadcast-ignored"), ==, 1);
    teardown(f);
}

static void test_deaf(void)
{
    Fixture *f = setup("-global arm-smmuv3.btm=on "
                       "-global arm-smmuv3.x-btm-deaf=on", 0);
    Translation t[ARRAY_SIZE(stage1)];

    g_assert_true(qsmmu_readl(&f->smmu, QSMMU_IDR0) & IDR0_BTM);
    setup_stage1(f, t);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), &tlbi_all, NULL),
                    ==, 0);
    g_assert_cmpuint(counter(f, "broadcast-ignored"), ==, 1);
    teardown(f);
}

static void step_disabled(Fixture *f)
{
    uint32_t cr0 = qsmmu_readl(&f->smmu, QSMMU_CR0);

    qsmmu_writel(&f->smmu, QSMMU_CR0, cr0 & ~QSMMU_CR0_SMMUEN);
    qsmmu_broadcast(&f->smmu, &tlbi_all);
    qsmmu_writel(&f->smmu, QSMMU_CR0, cr0);
}

static void test_smmuen(void)
{
    Fixture *f = setup("-global arm-smmuv3.btm=on", 0);
    Translation t[ARRAY_SIZE(stage1)];

    setup_stage1(f, t);
    g_assert_cmphex(dropped_by(f, t, ARRAY_SIZE(t), NULL, step_disabled),
                    ==, 0);
    g_assert_cmpuint(counter(f, "broadcast-ignored"), ==, 1);
    teardown(f);
}

/* Counters, as the guest sees them */

static uint32_t guest_counter(Fixture *f, int n)
{
    return qsmmu_readl(&f->smmu, SMMUV3_COUNTERS + 4 * n);
}

static void test_counters(void)
{
    Fixture *f = setup("-global arm-smmuv3.btm=on "
                       "-global arm-smmuv3.x-counters=on", 0);
    Translation t[ARRAY_SIZE(stage1)], none = { 0, 1, 0, 3 };
    const TLBI tlbi = { EL10, S1, 0, ASID, A, PAGE, true };
    int n = ARRAY_SIZE(t);
    QSMMUEvent evt;

    g_assert_cmphex(guest_counter(f, SMMUV3_COUNTER_ID), ==,
                    SMMUV3_COUNTERS_ID_VALUE);
    for (int i = 1; i <= (SMMUV3_COUNTERS_LAST - SMMUV3_COUNTERS) / 4; i++) {
        g_assert_cmpuint(guest_counter(f, i), ==, 0);
    }

    setup_stage1(f, t);
    /* n misses, then what was dropped misses again; one CMD_TLBI_NSNH_ALL */
    dropped_by(f, t, n, &tlbi, NULL);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_BROADCAST_VA), ==, 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_DROP_BROADCAST), ==, 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_IOTLB_MISS), ==, n + 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_IOTLB_HIT), ==, n - 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_DROP_CMD), ==, n);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_CMD), ==, 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_CMD_TLBI_NSNH_ALL), ==, 1);

    qsmmu_tlbi_nh_asid(&f->smmu, 5);
    qsmmu_cmd(&f->smmu, 0x46, 0);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_CMD), ==, 3);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_CMD_TLBI_NH_ASID), ==, 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_CMD_SYNC), ==, 1);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_CMD), ==,
                     qsmmu_readl(&f->smmu, QSMMU_CMDQ_PROD));
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_FAULT), ==, 0);

    none.ssid = 9; /* has no CD */
    g_assert_cmphex(dev_access(f, &none), ==, SVATD_ST_FAULT);
    for (n = 0; qsmmu_pop_event(&f->smmu, &evt); n++) {
        g_assert_cmphex(evt.type, ==, QSMMU_EVT_C_BAD_CD);
    }
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_FAULT), ==, n);
    g_assert_cmpuint(guest_counter(f, SMMUV3_COUNTER_EVENT), ==, n);
    teardown(f);

    f = setup("-global arm-smmuv3.btm=on", 0);
    for (int i = 0; i < SMMUV3_COUNTER_NUM; i++) {
        g_assert_cmphex(guest_counter(f, i), ==, 0);
    }
    teardown(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (int i = 0; i < ARRAY_SIZE(stage1_cases); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-btm/stage1/%s",
                                                stage1_cases[i].name);

        qtest_add_data_func(path, &stage1_cases[i], test_stage1);
    }
    for (int i = 0; i < ARRAY_SIZE(stage2_cases); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-btm/stage2/%s",
                                                stage2_cases[i].name);

        qtest_add_data_func(path, &stage2_cases[i], test_stage2);
    }
    qtest_add_func("/smmuv3-btm/stage1-only", test_stage1_only);
    qtest_add_func("/smmuv3-btm/nested", test_nested);
    qtest_add_func("/smmuv3-btm/command", test_command);
    qtest_add_data_func("/smmuv3-btm/aset-lookup/private-first",
                        GINT_TO_POINTER(1), test_aset_lookup);
    qtest_add_data_func("/smmuv3-btm/aset-lookup/shared-first",
                        GINT_TO_POINTER(0), test_aset_lookup);
    qtest_add_func("/smmuv3-btm/registers", test_registers);
    qtest_add_func("/smmuv3-btm/ptm", test_ptm);
    qtest_add_func("/smmuv3-btm/deaf", test_deaf);
    qtest_add_func("/smmuv3-btm/smmuen", test_smmuen);
    qtest_add_func("/smmuv3-btm/counters", test_counters);

    return g_test_run();
}
