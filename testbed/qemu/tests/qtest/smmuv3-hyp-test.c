/*
 * QTest testcase for StreamWorlds, the walk cache and RIL in the SMMUv3 model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A device reads until translations are cached, the page tables change, and an
 * invalidation is sent as a command, or as a broadcast by the back door. What
 * it names has to go: the device reads what the tables say now. All else has to
 * stay: it reads what they said before.
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "hw/arm/smmuv3-counters.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define IDR0_HYP        (1 << 9)
#define IDR3            0x0c
#define IDR3_RIL        (1 << 10)
#define IIDR            0x18
#define CR2             0x2c
#define CR2_E2H         (1 << 0)
#define STE1_STRW(x)    ((uint64_t)(x) << 30)
#define CD0_ASET        (1ull << 47)
#define CD0_T1SZ(x)     ((uint64_t)(x) << 16)
#define CD0_TG1_4K      (2ull << 22)

/* Commands: words 0 and 1 */
#define NH_ALL          0x10
#define NH_ASID(asid)   (0x11 | (uint64_t)(asid) << 48)
#define NH_VA(asid)     (0x12 | (uint64_t)(asid) << 48)
#define NH_VAA          0x13
#define EL2_ALL         0x20
#define EL2_ASID(asid)  (0x21 | (uint64_t)(asid) << 48)
#define EL2_VA(asid)    (0x22 | (uint64_t)(asid) << 48)
#define EL2_VAA         0x23
#define S12_VMALL       0x28
#define NSNH_ALL        0x30
#define NUM(n)          ((n) << 12)
#define LEAF            1
#define TTL(l)          ((l) << 8)
#define TG_4K           (1 << 10)

#define EL10            QSMMU_EL10
#define EL20            QSMMU_EL20
#define EL2             QSMMU_EL2
#define S1              1
#define S12             3
#define ANY             QSMMU_ANY

#define PAGE            0x1000ull
#define BLOCK           0x200000ull
#define A               0x3654321000ull
#define A_NEXT          (A + PAGE)
#define G               (A + 0x10 * PAGE)
#define B               0x1200000000ull
/* The upper of two ranges */
#define UPPER           0xffffffd654321000ull

#define ASID            5
#define ASID_PRIVATE    7               /* CD.ASET=1 */
#define ASID_OTHER      9               /* of no CD */

#define OLD(n)          (0xa00ull + (n))
#define NEW(n)          (0xb00ull + (n))

#define BTM             "-global arm-smmuv3.btm=on "
#define HYP             "-global arm-smmuv3.hyp=on "
#define WALK_CACHE      "-global arm-smmuv3.x-walk-cache=on "
#define NO_RIL          "-global arm-smmuv3.ril=off "

/* An invalidation: a command, or a broadcast if it has @regimes */
typedef struct Inv {
    uint64_t cmd0;
    uint64_t cmd1;
    uint8_t regimes;
    uint8_t stages;
    int asid;                   /* or ANY */
    uint64_t base;
    uint64_t size;              /* 0: all addresses */
    bool leaf;
    uint8_t tg;
    uint8_t ttl;
} Inv;

typedef struct Case {
    const char *name;
    Inv inv;
    uint32_t drops;
} Case;

typedef struct Translation {
    int dev;
    uint32_t ssid;
    uint64_t va;
    int level;
    uint64_t attrs;
    uint64_t pte;               /* where it is; filled in */
    uint64_t pa[2];             /* old and new; filled in */
} Translation;

typedef struct Fixture {
    QTestState *qts;
    QGenericPCIBus bus;
    QSMMU smmu;
    QSMMUCDTable tab[2];
    QPCIDevice *pci[2];
    uint64_t ctrl[2];
    uint64_t queues[2];
} Fixture;

/* Device 0 is at devfn 8, device 1 at devfn 16 */
#define SID(dev)        QPCI_DEVFN((dev) + 1, 0)

static Fixture *setup(const char *args, uint32_t cr2)
{
    Fixture *f = g_new0(Fixture, 1);

    f->qts = qtest_initf("-machine virt,gic-version=3,iommu=smmuv3 -m 256M "
                         "-nodefaults -device sva-testdev,addr=1 "
                         "-device sva-testdev,addr=2 "
                         "-global arm-smmuv3.x-counters=on "
                         "-global arm-smmuv3.x-iotlb-size=100000 "
                         "-global arm-smmuv3.ssidsize=4 %s", args);
    qtest_writel(f->qts, QSMMU_VIRT_BASE + CR2, cr2);
    qpci_init_generic(&f->bus, f->qts, NULL, false);
    qsmmu_init(&f->smmu, f->qts, QSMMU_VIRT_BASE, QSMMU_VIRT_RAM);
    for (int i = 0; i < 2; i++) {
        f->pci[i] = qpci_device_find(&f->bus.bus, SID(i));
        g_assert_nonnull(f->pci[i]);
        qpci_device_enable(f->pci[i]);
        f->ctrl[i] = qpci_iomap(f->pci[i], SVATD_BAR_CTRL, NULL).addr;
        f->queues[i] = qpci_iomap(f->pci[i], SVATD_BAR_QUEUES, NULL).addr;
        qsmmu_cdtable_init(&f->smmu, &f->tab[i], QSMMU_CD_LINEAR, 4);
        qsmmu_write_ste_s1(&f->smmu, SID(i), &f->tab[i],
                           QSMMU_S1DSS_TERMINATE);
    }
    return f;
}

static void teardown(Fixture *f)
{
    g_free(f->pci[0]);
    g_free(f->pci[1]);
    qtest_quit(f->qts);
    g_free(f);
}

static void set_strw(Fixture *f, int dev, int strw)
{
    uint64_t ste1 = qsmmu_ste_addr(&f->smmu, SID(dev)) + 8;

    qtest_writeq(f->qts, ste1, STE1_STRW(strw));
    qsmmu_cfgi_ste(&f->smmu, SID(dev));
}

static uint32_t counter(Fixture *f, int n)
{
    return qsmmu_readl(&f->smmu, SMMUV3_COUNTERS + 4 * n);
}

/* One access with sva-testdev; returns SVATD_STATUS_* */
static uint32_t dev_access(Fixture *f, const Translation *t)
{
    uint64_t qctl = f->ctrl[t->dev] + SVATD_QCTL(0);
    uint64_t slot = f->queues[t->dev] + SVATD_Q_SLOT(0);

    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, 0);
    qtest_writel(f->qts, qctl + SVATD_QCTL_PASID, t->ssid);
    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, SVATD_QCTL_CTL_PASID);
    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL,
                 SVATD_QCTL_CTL_ENABLE | SVATD_QCTL_CTL_PASID);

    /* A poll that ends at the first value, as none is allowed */
    qtest_writeq(f->qts, slot + SVATD_SLOT_SRC, t->va);
    qtest_writeq(f->qts, slot + SVATD_SLOT_LEN, 8);
    qtest_writeq(f->qts, slot + SVATD_SLOT_STRIDE, 8);
    qtest_writeq(f->qts, slot + SVATD_SLOT_ARG, ~0ull);
    qtest_writeq(f->qts, slot + SVATD_SLOT_ARG2, ~0ull);
    qtest_writel(f->qts, slot + SVATD_SLOT_CMD, SVATD_OP_POLL);
    qtest_clock_step(f->qts, 1000000);
    return qtest_readl(f->qts, slot + SVATD_SLOT_STATUS);
}

static uint64_t dev_read(Fixture *f, const Translation *t)
{
    g_assert_cmphex(dev_access(f, t), ==, SVATD_ST_MISMATCH);
    return qtest_readq(f->qts, f->queues[t->dev] + SVATD_Q_SLOT(0) +
                       SVATD_SLOT_VALUE);
}

static void map(Fixture *f, uint64_t pgd, Translation *t, int n)
{
    for (int i = 0; i < 2; i++) {
        t->pa[i] = qsmmu_alloc(&f->smmu, t->level == 3 ? PAGE : BLOCK);
        qtest_writeq(f->qts, t->pa[i], i ? NEW(n) : OLD(n));
    }
    t->pte = qsmmu_map(&f->smmu, pgd, t->va, t->pa[0], t->level, t->attrs);
}

/* Invalidations */

static void invalidate(Fixture *f, const Inv *inv)
{
    QSMMUBroadcast tlbi = {
        inv->regimes, inv->stages, inv->regimes == EL10 ? 0 : ANY, inv->asid,
        inv->base, inv->size, inv->leaf, inv->tg, inv->ttl,
    };

    if (inv->regimes) {
        qsmmu_broadcast(&f->smmu, &tlbi);
    } else {
        qsmmu_cmd(&f->smmu, inv->cmd0, inv->cmd1);
    }
}

/* StreamWorlds: device 0 has a stream of EL1, device 1 one of EL2 */

static const Translation translations[] = {
    { 0, 1, A, 3, QSMMU_PTE_ATTRS },
    { 0, 1, G, 3, QSMMU_PTE_ATTRS & ~QSMMU_PTE_NG },
    { 1, 1, A, 3, QSMMU_PTE_ATTRS },
    { 1, 1, A_NEXT, 3, QSMMU_PTE_ATTRS },
    { 1, 1, B, 2, QSMMU_PTE_ATTRS },
    { 1, 1, G, 3, QSMMU_PTE_ATTRS & ~QSMMU_PTE_NG },
    { 1, 2, A, 3, QSMMU_PTE_ATTRS },
};

#define T_EL1_A         (1 << 0)
#define T_EL1_G         (1 << 1)
#define T_EL1           (T_EL1_A | T_EL1_G)
#define T_A             (1 << 2)
#define T_NEXT          (1 << 3)
#define T_B             (1 << 4)
#define T_G             (1 << 5)
#define T_PRIVATE       (1 << 6)        /* EL2-E2H only */
#define T_ASID          (T_A | T_NEXT | T_B)
#define T_EL2           (T_ASID | T_G)
#define T_EL2_E2H       (T_EL2 | T_PRIVATE)

/* Neither commands nor broadcasts for EL1 have an effect on EL2 */

static const Case el1_cases[] = {
    { "nh-all", { NH_ALL }, T_EL1 },
    { "nh-asid", { NH_ASID(ASID) }, T_EL1_A },
    { "nh-va", { NH_VA(ASID), A }, T_EL1_A },
    { "nh-va-ttl", { NH_VA(ASID), A | TG_4K | TTL(3) }, T_EL1_A },
    { "nh-va-global", { NH_VA(ASID_OTHER), G }, T_EL1_G },
    { "nh-vaa", { NH_VAA, A }, T_EL1_A },
    { "s12-vmall", { S12_VMALL }, T_EL1 },
    { "nsnh-all", { NSNH_ALL }, T_EL1 },
    { "broadcast/el1-asid", { 0, 0, EL10, S1, ASID }, T_EL1_A },
    { "broadcast/el1-va", { 0, 0, EL10, S1, ASID, A, PAGE }, T_EL1_A },
    { "broadcast/el1-vaa", { 0, 0, EL10, S1, ANY, A, PAGE }, T_EL1_A },
    { "broadcast/el1-vmall", { 0, 0, EL10, S1, ANY }, T_EL1 },
    { "broadcast/el1-s12", { 0, 0, EL10, S12, ANY }, T_EL1 },
};

static const Case e2h_cases[] = {
    { "all", { EL2_ALL }, T_EL2_E2H },
    { "asid", { EL2_ASID(ASID) }, T_ASID },
    { "asid/private", { EL2_ASID(ASID_PRIVATE) }, T_PRIVATE },
    { "asid/other", { EL2_ASID(ASID_OTHER) }, 0 },
    { "va", { EL2_VA(ASID), A }, T_A },
    { "va/leaf", { EL2_VA(ASID), A | LEAF }, T_A },
    { "va/next", { EL2_VA(ASID), A_NEXT }, T_NEXT },
    { "va/prev", { EL2_VA(ASID), A - PAGE }, 0 },
    { "va/block", { EL2_VA(ASID), B + 5 * PAGE }, T_B },
    { "va/private", { EL2_VA(ASID_PRIVATE), A }, T_PRIVATE },
    { "va/other", { EL2_VA(ASID_OTHER), A }, 0 },
    { "va/global", { EL2_VA(ASID_OTHER), G }, T_G },
    { "va/ttl", { EL2_VA(ASID), A | TG_4K | TTL(3) }, T_A },
    { "va/ttl-wrong", { EL2_VA(ASID), A | TG_4K | TTL(2) }, 0 },
    { "va/range", { EL2_VA(ASID) | NUM(1), A | TG_4K }, T_A | T_NEXT },
    { "vaa", { EL2_VAA, A }, T_A | T_PRIVATE },
    { "vaa/range", { EL2_VAA | NUM(1), A | TG_4K }, T_A | T_NEXT | T_PRIVATE },
    { "broadcast/asid", { 0, 0, EL20, S1, ASID }, T_ASID },
    { "broadcast/asid-private", { 0, 0, EL20, S1, ASID_PRIVATE }, 0 },
    { "broadcast/va", { 0, 0, EL20, S1, ASID, A, PAGE }, T_A },
    { "broadcast/va-other", { 0, 0, EL20, S1, ASID_OTHER, A, PAGE }, 0 },
    { "broadcast/va-global", { 0, 0, EL20, S1, ASID_OTHER, G, PAGE }, T_G },
    { "broadcast/vaa", { 0, 0, EL20, S1, ANY, A, PAGE }, T_A | T_PRIVATE },
    { "broadcast/range", { 0, 0, EL20, S1, ASID, A, 2 * PAGE, true, 1, 3 },
      T_A | T_NEXT },
    { "broadcast/vmall", { 0, 0, EL20, S1, ANY }, T_EL2_E2H },
    { "broadcast/alle2", { 0, 0, EL2 | EL20, S1, ANY }, T_EL2_E2H },
    { "broadcast/el2-va", { 0, 0, EL2, S1, ANY, A, PAGE }, 0 },
    { "broadcast/el2-all", { 0, 0, EL2, S1, ANY }, 0 },
};

static const Case el2_cases[] = {
    { "all", { EL2_ALL }, T_EL2 },
    { "asid", { EL2_ASID(ASID) }, 0 },
    { "asid/0", { EL2_ASID(0) }, 0 },
    { "va", { EL2_VA(ASID_OTHER), A }, T_A },
    { "va/prev", { EL2_VA(ASID), A - PAGE }, 0 },
    { "va/range", { EL2_VA(ASID_OTHER) | NUM(1), A | TG_4K }, T_A | T_NEXT },
    { "vaa", { EL2_VAA, A }, T_A },
    { "broadcast/va", { 0, 0, EL2, S1, ANY, A, PAGE }, T_A },
    { "broadcast/alle2", { 0, 0, EL2 | EL20, S1, ANY }, T_EL2 },
    { "broadcast/el20-asid", { 0, 0, EL20, S1, ASID }, 0 },
    { "broadcast/el20-va", { 0, 0, EL20, S1, ASID, A, PAGE }, 0 },
    { "broadcast/el20-vmall", { 0, 0, EL20, S1, ANY }, 0 },
};

static void test_world(const Case *c, bool e2h)
{
    Fixture *f = setup(BTM HYP, e2h ? CR2_E2H : 0);
    Translation t[ARRAY_SIZE(translations)];
    uint64_t pgd[2][3] = {};
    uint32_t dropped = 0;
    int n = ARRAY_SIZE(t);

    if (!e2h) {
        n--; /* without ASIDs, all CDs are the same */
    }
    memcpy(t, translations, sizeof(t));
    for (int i = 0; i < n; i++) {
        uint64_t *p = &pgd[t[i].dev][t[i].ssid], cd;

        if (!*p) {
            *p = qsmmu_pgd_alloc(&f->smmu);
            cd = qsmmu_write_cd(&f->smmu, &f->tab[t[i].dev], t[i].ssid, *p,
                                t[i].ssid == 1 ? ASID : ASID_PRIVATE);
            if (t[i].ssid != 1) {
                qtest_writeq(f->qts, cd, qtest_readq(f->qts, cd) | CD0_ASET);
            }
        }
        map(f, *p, &t[i], i);
    }
    set_strw(f, 1, 2);

    for (int i = 0; i < n; i++) {
        g_assert_cmphex(dev_read(f, &t[i]), ==, OLD(i));
    }
    for (int i = 0; i < n; i++) {
        qtest_writeq(f->qts, t[i].pte, qtest_readq(f->qts, t[i].pte) -
                     t[i].pa[0] + t[i].pa[1]);
    }
    invalidate(f, &c->inv);
    for (int i = 0; i < n; i++) {
        uint64_t value = dev_read(f, &t[i]);

        if (value == NEW(i)) {
            dropped |= 1 << i;
        } else {
            g_assert_cmphex(value, ==, OLD(i));
        }
    }
    g_assert_cmphex(dropped, ==, c->drops);
    teardown(f);
}

static void test_e2h(const void *data)
{
    test_world(data, true);
}

static void test_el2(const void *data)
{
    test_world(data, false);
}

/* The same ASID and address, first seen by a stream of another world */
static void test_lookup(void)
{
    Fixture *f = setup(HYP, CR2_E2H);
    Translation t[] = {
        { 0, 1, A, 3, QSMMU_PTE_ATTRS },
        { 1, 1, A, 3, QSMMU_PTE_ATTRS },
    };

    set_strw(f, 1, 2);
    for (int i = 0; i < 2; i++) {
        uint64_t pgd = qsmmu_pgd_alloc(&f->smmu);

        map(f, pgd, &t[i], i);
        qsmmu_write_cd(&f->smmu, &f->tab[i], 1, pgd, ASID);
    }
    for (int i = 0; i < 2; i++) {
        g_assert_cmphex(dev_read(f, &t[i]), ==, OLD(i));
    }
    teardown(f);
}

/* Two ranges with E2H, one without, whatever the CD says */
static void test_ranges(void)
{
    for (int e2h = 0; e2h < 2; e2h++) {
        Fixture *f = setup(HYP, e2h ? CR2_E2H : 0);
        Translation t = { 1, 1, UPPER, 3, QSMMU_PTE_ATTRS };
        uint64_t pgd = qsmmu_pgd_alloc(&f->smmu), cd, cd0;
        QSMMUEvent evt;

        map(f, pgd, &t, 0);
        cd = qsmmu_write_cd(&f->smmu, &f->tab[1], 1,
                            qsmmu_pgd_alloc(&f->smmu), ASID);
        cd0 = qtest_readq(f->qts, cd) & ~QSMMU_CD0_EPD1;
        qtest_writeq(f->qts, cd, cd0 | CD0_T1SZ(25) | CD0_TG1_4K);
        qtest_writeq(f->qts, cd + 16, pgd);
        set_strw(f, 1, 2);
        if (e2h) {
            g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
        } else {
            g_assert_cmphex(dev_access(f, &t), ==, SVATD_ST_FAULT);
            g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
            g_assert_cmphex(evt.type, ==, QSMMU_EVT_F_TRANSLATION);
        }
        teardown(f);
    }
}

static void test_strw(void)
{
    for (int strw = 0; strw < 4; strw++) {
        for (int hyp = 0; hyp < 2; hyp++) {
            Fixture *f = setup(hyp ? HYP : "", CR2_E2H);
            Translation t = { 0, 1, A, 3, QSMMU_PTE_ATTRS };
            uint64_t pgd = qsmmu_pgd_alloc(&f->smmu);
            QSMMUEvent evt;

            map(f, pgd, &t, 0);
            qsmmu_write_cd(&f->smmu, &f->tab[0], 1, pgd, ASID);
            set_strw(f, 0, strw);
            if (hyp && (strw & 1)) {
                g_assert_cmphex(dev_access(f, &t), ==, SVATD_ST_FAULT);
                g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
                g_assert_cmphex(evt.type, ==, QSMMU_EVT_C_BAD_STE);
            } else {
                g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
            }
            teardown(f);
        }
    }
}

/* Without Hyp, what is for EL2 is CERROR_ILL */
static void test_illegal(void)
{
    static const uint64_t cmds[] = {
        EL2_ALL, EL2_ASID(ASID), EL2_VA(ASID), EL2_VAA
    };

    for (int i = 0; i < ARRAY_SIZE(cmds); i++) {
        Fixture *f = setup("", 0);

        qtest_writeq(f->qts, f->smmu.cmdq, cmds[i]);
        qtest_writeq(f->qts, f->smmu.cmdq + 8, 0);
        qsmmu_writel(&f->smmu, QSMMU_CMDQ_PROD, 1);
        g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_CMDQ_CONS), ==, 1 << 24);
        g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_GERROR), ==, 1);
        teardown(f);
    }
}

static void test_registers(void)
{
    QTestState *qts = qtest_init("-nodefaults -machine virt,iommu=smmuv3");
    uint64_t base = QSMMU_VIRT_BASE;

    g_assert_false(qtest_readl(qts, base + QSMMU_IDR0) & IDR0_HYP);
    g_assert_true(qtest_readl(qts, base + IDR3) & IDR3_RIL);
    g_assert_cmphex(qtest_readl(qts, base + IIDR), ==, 0);
    qtest_quit(qts);

    qts = qtest_init("-nodefaults -machine virt,iommu=smmuv3 " HYP NO_RIL
                     "-global arm-smmuv3.x-iidr=0x4870043b");
    g_assert_true(qtest_readl(qts, base + QSMMU_IDR0) & IDR0_HYP);
    g_assert_false(qtest_readl(qts, base + IDR3) & IDR3_RIL);
    g_assert_cmphex(qtest_readl(qts, base + IIDR), ==, 0x4870043b);
    qtest_writel(qts, base + CR2, CR2_E2H);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, CR2_E2H);
    qtest_writel(qts, base + QSMMU_CR0, QSMMU_CR0_SMMUEN);
    qtest_writel(qts, base + CR2, 0);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, CR2_E2H);
    qtest_writel(qts, base + QSMMU_CR0, 0);
    qtest_writel(qts, base + CR2, 0);
    g_assert_cmphex(qtest_readl(qts, base + CR2), ==, 0);
    qtest_quit(qts);
}

/* Walk cache: is the table that A's last level is in still the old one? */

static const Case walk_cases[] = {
    { "va-leaf", { NH_VA(ASID), A | LEAF }, false },
    { "va", { NH_VA(ASID), A }, true },
    { "va-same-table", { NH_VA(ASID), A_NEXT }, true },
    { "va-next-table", { NH_VA(ASID), A + BLOCK }, false },
    { "va-other-asid", { NH_VA(ASID_OTHER), A }, false },
    { "va-ttl3", { NH_VA(ASID), A | TG_4K | TTL(3) }, true },
    { "va-ttl2", { NH_VA(ASID), A | TG_4K | TTL(2) }, false },
    { "va-range", { NH_VA(ASID) | NUM(3), (A - 2 * PAGE) | TG_4K }, true },
    { "va-range-leaf", { NH_VA(ASID) | NUM(3), (A - 2 * PAGE) | TG_4K | LEAF },
      false },
    { "va-64k", { NH_VA(ASID), (A & ~0xffffull) | 3 << 10 | TTL(3) }, false },
    { "vaa", { NH_VAA, A }, true },
    { "vaa-leaf", { NH_VAA, A | LEAF }, false },
    { "asid", { NH_ASID(ASID) }, true },
    { "asid-other", { NH_ASID(ASID_OTHER) }, false },
    { "nh-all", { NH_ALL }, true },
    { "nsnh-all", { NSNH_ALL }, true },
    { "s12-vmall", { S12_VMALL }, true },
    { "el2-all", { EL2_ALL }, false },
    { "broadcast/va", { 0, 0, EL10, S1, ASID, A, PAGE }, true },
    { "broadcast/va-leaf", { 0, 0, EL10, S1, ASID, A, PAGE, true }, false },
    { "broadcast/va-other", { 0, 0, EL10, S1, ASID_OTHER, A, PAGE }, false },
    { "broadcast/va-ttl3", { 0, 0, EL10, S1, ASID, A, PAGE, false, 1, 3 },
      true },
    { "broadcast/va-ttl2", { 0, 0, EL10, S1, ASID, A, PAGE, false, 1, 2 },
      false },
    { "broadcast/range-leaf", { 0, 0, EL10, S1, ASID, A, 2 * PAGE, true, 1 },
      false },
    { "broadcast/range", { 0, 0, EL10, S1, ASID, A_NEXT, 2 * PAGE, false, 1 },
      true },
    { "broadcast/vaa", { 0, 0, EL10, S1, ANY, A, PAGE }, true },
    { "broadcast/asid", { 0, 0, EL10, S1, ASID }, true },
    { "broadcast/vmall", { 0, 0, EL10, S1, ANY }, true },
    { "broadcast/el20-vmall", { 0, 0, EL20, S1, ANY }, false },
};

/*
 * Have A lead to a new page by way of a new table. Then see which table the
 * next walk uses. Returns true if it is the new one.
 */
static bool walks_new_table(Fixture *f, const Inv *inv)
{
    const Inv leaf = { NH_VA(ASID), A | LEAF };
    Translation t = { 0, 1, A, 3, QSMMU_PTE_ATTRS };
    uint64_t pgd = qsmmu_pgd_alloc(&f->smmu), table, desc, l2_desc, value;

    map(f, pgd, &t, 0);
    qsmmu_write_cd(&f->smmu, &f->tab[0], 1, pgd, ASID);
    g_assert_cmphex(dev_read(f, &t), ==, OLD(0));

    table = qsmmu_alloc(&f->smmu, PAGE);
    desc = qtest_readq(f->qts, t.pte) - t.pa[0] + t.pa[1];
    qtest_writeq(f->qts, table + (t.pte & (PAGE - 1)), desc);
    l2_desc = qtest_readq(f->qts, pgd + (A >> 30 & 0x1ff) * 8);
    l2_desc = (l2_desc & ~QSMMU_PTE_TABLE) + (A >> 21 & 0x1ff) * 8;
    qtest_writeq(f->qts, l2_desc, table | QSMMU_PTE_TABLE);

    invalidate(f, inv);
    invalidate(f, &leaf); /* of the translation, or there will be no walk */
    value = dev_read(f, &t);
    if (value != NEW(0)) {
        g_assert_cmphex(value, ==, OLD(0));
    }
    return value == NEW(0);
}

static void test_walk(const void *data)
{
    const Case *c = data;
    Fixture *f = setup(BTM HYP WALK_CACHE, 0);

    g_assert_cmpint(walks_new_table(f, &c->inv), ==, c->drops);
    if (!c->drops) {
        g_assert_cmpuint(counter(f, SMMUV3_COUNTER_WALK_CACHE_HIT), ==, 1);
    }
    teardown(f);
}

static void test_walk_off(void)
{
    const Inv leaf = { NH_VA(ASID), A | LEAF };
    Fixture *f = setup("", 0);

    g_assert_true(walks_new_table(f, &leaf));
    g_assert_cmpuint(counter(f, SMMUV3_COUNTER_WALK_CACHE_HIT), ==, 0);
    teardown(f);
}

/* A table that forbids writes does so in each walk */
static void test_walk_aptable(void)
{
    Fixture *f = setup(WALK_CACHE, 0);
    Translation t = { 0, 1, A, 3, QSMMU_PTE_ATTRS };
    uint64_t pgd = qsmmu_pgd_alloc(&f->smmu), l1_desc;

    map(f, pgd, &t, 0);
    qsmmu_write_cd(&f->smmu, &f->tab[0], 1, pgd, ASID);
    l1_desc = pgd + (A >> 30 & 0x1ff) * 8;
    qtest_writeq(f->qts, l1_desc, qtest_readq(f->qts, l1_desc) | 2ull << 61);
    for (int i = 0; i < 2; i++) {
        g_assert_cmphex(dev_read(f, &t), ==, OLD(0));
        qsmmu_cmd(&f->smmu, NH_VA(ASID), A | LEAF);
    }
    g_assert_cmpuint(counter(f, SMMUV3_COUNTER_WALK_CACHE_HIT), ==, 0);
    teardown(f);
}

/* Without RIL there are neither ranges nor hints */
static void test_ril(void)
{
    static const struct {
        Inv inv;
        bool a, next;
    } cases[] = {
        { { NH_VA(ASID) | NUM(1), A | TG_4K }, true, false },
        { { NH_VA(ASID), A | TG_4K | TTL(2) }, true, false },
        { { 0, 0, EL10, S1, ASID, A, PAGE, true, 1, 2 }, true, false },
        { { 0, 0, EL10, S1, ASID, A, 2 * PAGE, true, 1 }, false, false },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup(BTM NO_RIL, 0);
        Translation t[] = {
            { 0, 1, A, 3, QSMMU_PTE_ATTRS },
            { 0, 1, A_NEXT, 3, QSMMU_PTE_ATTRS },
        };
        uint64_t pgd = qsmmu_pgd_alloc(&f->smmu);

        qsmmu_write_cd(&f->smmu, &f->tab[0], 1, pgd, ASID);
        for (int j = 0; j < 2; j++) {
            map(f, pgd, &t[j], j);
            g_assert_cmphex(dev_read(f, &t[j]), ==, OLD(j));
            qtest_writeq(f->qts, t[j].pte, qtest_readq(f->qts, t[j].pte) -
                         t[j].pa[0] + t[j].pa[1]);
        }
        invalidate(f, &cases[i].inv);
        g_assert_cmpint(dev_read(f, &t[0]) == NEW(0), ==, cases[i].a);
        g_assert_cmpint(dev_read(f, &t[1]) == NEW(1), ==, cases[i].next);
        teardown(f);
    }
}

static void add_cases(const char *prefix, const Case *cases, int n,
                      void (*test)(const void *))
{
    for (int i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", prefix,
                                                cases[i].name);

        qtest_add_data_func(path, &cases[i], test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/smmuv3-hyp/registers", test_registers);
    qtest_add_func("/smmuv3-hyp/strw", test_strw);
    qtest_add_func("/smmuv3-hyp/illegal", test_illegal);
    qtest_add_func("/smmuv3-hyp/ranges", test_ranges);
    qtest_add_func("/smmuv3-hyp/lookup", test_lookup);
    add_cases("/smmuv3-hyp/e2h", el1_cases, ARRAY_SIZE(el1_cases), test_e2h);
    add_cases("/smmuv3-hyp/el2", el1_cases, ARRAY_SIZE(el1_cases), test_el2);
    add_cases("/smmuv3-hyp/e2h", e2h_cases, ARRAY_SIZE(e2h_cases), test_e2h);
    add_cases("/smmuv3-hyp/el2", el2_cases, ARRAY_SIZE(el2_cases), test_el2);
    add_cases("/smmuv3-walk-cache", walk_cases, ARRAY_SIZE(walk_cases),
              test_walk);
    qtest_add_func("/smmuv3-walk-cache/off", test_walk_off);
    qtest_add_func("/smmuv3-walk-cache/aptable", test_walk_aptable);
    qtest_add_func("/smmuv3-ril", test_ril);

    return g_test_run();
}
