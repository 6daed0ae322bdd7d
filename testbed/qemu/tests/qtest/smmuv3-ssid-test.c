/*
 * QTest testcase for SubstreamIDs, and for invalidation, in the SMMUv3 model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test takes the guest's place: it writes the SMMU's structures and has
 * sva-testdev read and write through them, with and without a PASID. What an
 * invalidation must not remove is tested as well as what it must: the model is
 * there to find drivers that forget one.
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define NUM_DEVS        2
#define NO_SSID         (-1)

#define SSIDSIZE        16
#define VA              0x3654321000ull
#define PAGE            0x1000ull
#define BLOCK           0x200000ull

/* Not a value that any page holds */
#define NO_VALUE        (~0ull)

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
    Dev dev[NUM_DEVS];
} Fixture;

/* sva-testdev: one operation at a time, in slot 0 of queue 0 */

static void dev_bind(Fixture *f, Dev *dev, int ssid)
{
    uint64_t qctl = dev->ctrl.addr + SVATD_QCTL(0);
    uint32_t ctl = ssid == NO_SSID ? 0 : SVATD_QCTL_CTL_PASID;

    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, 0);
    g_assert_cmphex(qtest_readl(f->qts, qctl + SVATD_QCTL_STATE), ==, 0);
    qtest_writel(f->qts, qctl + SVATD_QCTL_PASID, ssid == NO_SSID ? 0 : ssid);
    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, ctl);
    qtest_writel(f->qts, qctl + SVATD_QCTL_CTL, ctl | SVATD_QCTL_CTL_ENABLE);
}

/* Returns SVATD_STATUS_*; FADDR and VALUE are in the slot */
static uint32_t dev_run(Fixture *f, Dev *dev, uint32_t op)
{
    uint64_t slot = dev->queues.addr + SVATD_Q_SLOT(0);
    uint32_t status;

    qtest_writel(f->qts, slot + SVATD_SLOT_CMD, op);
    for (int i = 0; i < 10000; i++) {
        status = qtest_readl(f->qts, slot + SVATD_SLOT_STATUS);
        if ((status & SVATD_STATUS_CODE) != SVATD_ST_RUNNING) {
            return status;
        }
        qtest_clock_step(f->qts, 1000000);
    }
    g_assert_not_reached();
}

static uint64_t dev_slot_readq(Fixture *f, Dev *dev, uint64_t reg)
{
    return qtest_readq(f->qts, dev->queues.addr + SVATD_Q_SLOT(0) + reg);
}

static void dev_slot_writeq(Fixture *f, Dev *dev, uint64_t reg, uint64_t val)
{
    qtest_writeq(f->qts, dev->queues.addr + SVATD_Q_SLOT(0) + reg, val);
}

/* One read of 64 bits: a poll that ends at once, as no value is allowed */
static uint32_t dev_read(Fixture *f, Dev *dev, int ssid, uint64_t va)
{
    dev_bind(f, dev, ssid);
    dev_slot_writeq(f, dev, SVATD_SLOT_SRC, va);
    dev_slot_writeq(f, dev, SVATD_SLOT_LEN, 8);
    dev_slot_writeq(f, dev, SVATD_SLOT_STRIDE, 8);
    dev_slot_writeq(f, dev, SVATD_SLOT_ARG, NO_VALUE);
    dev_slot_writeq(f, dev, SVATD_SLOT_ARG2, NO_VALUE);
    return dev_run(f, dev, SVATD_OP_POLL);
}

/* One write of 64 bits */
static uint32_t dev_write(Fixture *f, Dev *dev, int ssid, uint64_t va,
                          uint64_t val)
{
    dev_bind(f, dev, ssid);
    dev_slot_writeq(f, dev, SVATD_SLOT_DST, va);
    dev_slot_writeq(f, dev, SVATD_SLOT_LEN, 8);
    dev_slot_writeq(f, dev, SVATD_SLOT_ARG, val);
    return dev_run(f, dev, SVATD_OP_FILL);
}

/* Expectations */

static void expect_no_event(Fixture *f)
{
    QSMMUEvent evt;

    g_assert_false(qsmmu_pop_event(&f->smmu, &evt));
}

static void expect_read(Fixture *f, Dev *dev, int ssid, uint64_t va,
                        uint64_t value)
{
    uint32_t status = dev_read(f, dev, ssid, va);

    g_assert_cmphex(status, ==, SVATD_ST_MISMATCH);
    g_assert_cmphex(dev_slot_readq(f, dev, SVATD_SLOT_VALUE), ==, value);
    expect_no_event(f);
}

static void expect_fault(Fixture *f, Dev *dev, uint32_t status, bool write,
                         uint64_t va)
{
    g_assert_cmphex(status, ==,
                    SVATD_ST_FAULT | (write ? SVATD_STATUS_WRITE : 0));
    g_assert_cmphex(dev_slot_readq(f, dev, SVATD_SLOT_FADDR), ==, va);
}

/*
 * The access ends in one event, which is returned. QEMU may have split the
 * access, so the event can come once more for a later part of the 64 bits.
 */
static QSMMUEvent expect_event(Fixture *f, Dev *dev, int ssid, bool write,
                               uint64_t va, uint8_t type)
{
    uint32_t status = write ? dev_write(f, dev, ssid, va, 0)
                            : dev_read(f, dev, ssid, va);
    QSMMUEvent evt, part;

    expect_fault(f, dev, status, write, va);
    g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
    g_assert_cmphex(evt.type, ==, type);
    g_assert_cmphex(evt.sid, ==, dev->sid);

    switch (type) {
    case QSMMU_EVT_F_STREAM_DISABLED:
        /* Does not tell */
        g_assert_false(evt.ssv);
        g_assert_cmphex(evt.ssid, ==, 0);
        break;
    case QSMMU_EVT_C_BAD_SUBSTREAMID:
        /* Has no SSV: the SubstreamID is always valid */
        g_assert_false(evt.ssv);
        g_assert_cmphex(evt.ssid, ==, ssid == NO_SSID ? 0 : ssid);
        break;
    default:
        g_assert_cmpint(evt.ssv, ==, ssid != NO_SSID);
        g_assert_cmphex(evt.ssid, ==, ssid == NO_SSID ? 0 : ssid);
        break;
    }

    while (qsmmu_pop_event(&f->smmu, &part)) {
        g_assert_cmphex(part.type, ==, evt.type);
        g_assert_cmphex(part.sid, ==, evt.sid);
        g_assert_cmphex(part.ssid, ==, evt.ssid);
        g_assert_cmphex(part.addr - evt.addr, <, 8);
    }
    return evt;
}

static void expect_silent_abort(Fixture *f, Dev *dev, int ssid, uint64_t va)
{
    expect_fault(f, dev, dev_read(f, dev, ssid, va), false, va);
    expect_no_event(f);
    expect_fault(f, dev, dev_write(f, dev, ssid, va, 0), true, va);
    expect_no_event(f);
}

/* Setup */

static Fixture *setup(const char *args)
{
    Fixture *f = g_new0(Fixture, 1);

    f->qts = qtest_initf("-machine virt,gic-version=3,iommu=smmuv3 "
                         "-nodefaults -device sva-testdev,addr=1 "
                         "-device sva-testdev,addr=2 %s", args);
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
        g_assert_cmphex(qtest_readl(f->qts, dev->ctrl.addr + SVATD_ID), ==,
                        SVATD_ID_VALUE);
    }
    return f;
}

static Fixture *setup_ssid(void)
{
    return setup("-global arm-smmuv3.ssidsize=16");
}

static void teardown(Fixture *f)
{
    for (int i = 0; i < NUM_DEVS; i++) {
        g_free(f->dev[i].pci);
    }
    qtest_quit(f->qts);
    g_free(f);
}

/* A page that begins with @value */
static uint64_t new_page(Fixture *f, uint64_t value)
{
    uint64_t page = qsmmu_alloc(&f->smmu, PAGE);

    qtest_writeq(f->qts, page, value);
    return page;
}

/* A page table that has a page with @value at VA */
static uint64_t new_pgd(Fixture *f, uint64_t value)
{
    uint64_t pgd = qsmmu_pgd_alloc(&f->smmu);

    qsmmu_map(&f->smmu, pgd, VA, new_page(f, value), 3, QSMMU_PTE_ATTRS);
    return pgd;
}

/* Change some bits of the CD at @cd in memory */
static void change_cd0(Fixture *f, uint64_t cd, uint64_t clear, uint64_t set)
{
    qtest_writeq(f->qts, cd, (qtest_readq(f->qts, cd) & ~clear) | set);
}

/* Registers */

static void test_idr(void)
{
    static const struct {
        const char *args;
        uint32_t cd2l, ssidsize, oas;
    } cases[] = {
        { "", 0, 0, 4 },
        { "-global arm-smmuv3.ssidsize=1", QSMMU_IDR0_CD2L, 1, 4 },
        { "-global arm-smmuv3.ssidsize=20", QSMMU_IDR0_CD2L, 20, 4 },
        { "-global arm-smmuv3.oas=32", 0, 0, 0 },
        { "-global arm-smmuv3.oas=36", 0, 0, 1 },
        { "-global arm-smmuv3.oas=40", 0, 0, 2 },
        { "-global arm-smmuv3.oas=42", 0, 0, 3 },
        { "-global arm-smmuv3.oas=44", 0, 0, 4 },
        { "-global arm-smmuv3.oas=48", 0, 0, 5 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup(cases[i].args);
        uint32_t idr0 = qsmmu_readl(&f->smmu, QSMMU_IDR0);
        uint32_t idr1 = qsmmu_readl(&f->smmu, QSMMU_IDR1);
        uint32_t idr5 = qsmmu_readl(&f->smmu, QSMMU_IDR5);

        g_assert_cmphex(idr0 & QSMMU_IDR0_CD2L, ==, cases[i].cd2l);
        g_assert_cmpuint(QSMMU_IDR1_SSIDSIZE(idr1), ==, cases[i].ssidsize);
        g_assert_cmpuint(QSMMU_IDR5_OAS(idr5), ==, cases[i].oas);
        teardown(f);
    }
}

/* Translations that work */

static void test_no_ssid(void)
{
    Fixture *f = setup("");
    Dev *dev = &f->dev[0];
    QSMMUCDTable tab;

    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 0);
    qsmmu_write_cd(&f->smmu, &tab, 0, new_pgd(f, 0xa0), 1);
    qsmmu_write_ste_s1(&f->smmu, dev->sid, &tab, 0);
    expect_read(f, dev, NO_SSID, VA, 0xa0);
    g_assert_cmphex(dev_write(f, dev, NO_SSID, VA, 0xa1), ==, SVATD_ST_OK);
    expect_read(f, dev, NO_SSID, VA, 0xa1);

    /* ssidsize is 0: no SubstreamID is good */
    expect_event(f, dev, 0, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);
    expect_event(f, dev, 5, true, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);

    /* ... and no table of CDs */
    tab.cdmax = 1;
    qsmmu_write_ste_s1(&f->smmu, dev->sid, &tab, QSMMU_S1DSS_SSID0);
    qsmmu_cfgi_ste(&f->smmu, dev->sid);
    expect_event(f, dev, NO_SSID, false, VA, QSMMU_EVT_C_BAD_STE);
    teardown(f);
}

static void test_formats(const void *data)
{
    static const uint32_t ssids[] = {
        0, 1, 63, 64, 65, 1023, 1024, 1025, 4096, 65535,
    };
    QSMMUS1Fmt fmt = GPOINTER_TO_UINT(data);
    Fixture *f = setup_ssid();
    Dev *dev = &f->dev[0];

    /* 3 is below, 16 above what a leaf of either size holds */
    for (int cdmax = 3; cdmax <= SSIDSIZE; cdmax += 13) {
        QSMMUCDTable tab;

        qsmmu_cdtable_init(&f->smmu, &tab, fmt, cdmax);
        for (int i = 0; i < ARRAY_SIZE(ssids) && !(ssids[i] >> cdmax); i++) {
            qsmmu_write_cd(&f->smmu, &tab, ssids[i],
                           new_pgd(f, 0xa00 + i), 1 + i);
        }
        qsmmu_write_ste_s1(&f->smmu, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);
        qsmmu_cfgi_ste(&f->smmu, dev->sid);
        qsmmu_tlbi_nh_all(&f->smmu);

        for (int i = 0; i < ARRAY_SIZE(ssids); i++) {
            if (ssids[i] >> cdmax) {
                expect_event(f, dev, ssids[i], false, VA,
                             QSMMU_EVT_C_BAD_SUBSTREAMID);
                continue;
            }
            expect_read(f, dev, ssids[i], VA, 0xa00 + i);
            g_assert_cmphex(dev_write(f, dev, ssids[i], VA, 0xb00 + i), ==,
                            SVATD_ST_OK);
        }
        for (int i = 0; i < ARRAY_SIZE(ssids) && !(ssids[i] >> cdmax); i++) {
            expect_read(f, dev, ssids[i], VA, 0xb00 + i);
        }
        expect_event(f, dev, NO_SSID, false, VA, QSMMU_EVT_F_STREAM_DISABLED);
    }
    teardown(f);
}

static void test_s1dss(void)
{
    Fixture *f = setup_ssid();
    Dev *dev = &f->dev[0];
    uint64_t pa = new_page(f, 0xb0);
    QSMMUCDTable tab;

    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_64K_L2, SSIDSIZE);
    qsmmu_write_cd(&f->smmu, &tab, 0, new_pgd(f, 0xa0), 1);
    qsmmu_write_cd(&f->smmu, &tab, 1, new_pgd(f, 0xa1), 2);

    for (int s1dss = 0; s1dss <= QSMMU_S1DSS_RESERVED; s1dss++) {
        qsmmu_write_ste_s1(&f->smmu, dev->sid, &tab, s1dss);
        qsmmu_cfgi_ste(&f->smmu, dev->sid);

        switch (s1dss) {
        case QSMMU_S1DSS_BYPASS:
            expect_read(f, dev, NO_SSID, pa, 0xb0);
            expect_read(f, dev, 0, VA, 0xa0);
            break;
        case QSMMU_S1DSS_SSID0:
            expect_read(f, dev, NO_SSID, VA, 0xa0);
            expect_event(f, dev, 0, false, VA, QSMMU_EVT_F_STREAM_DISABLED);
            break;
        default: /* what is reserved terminates too */
            expect_event(f, dev, NO_SSID, true, VA,
                         QSMMU_EVT_F_STREAM_DISABLED);
            expect_read(f, dev, 0, VA, 0xa0);
            break;
        }
        expect_read(f, dev, 1, VA, 0xa1);
    }
    teardown(f);
}

/* A reserved S1Fmt is linear; the size of the table aligns its address */
static void test_constrained(void)
{
    Fixture *f = setup_ssid();
    Dev *dev = &f->dev[0];
    QSMMUCDTable tab;

    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 4);
    qsmmu_write_cd(&f->smmu, &tab, 9, new_pgd(f, 0xa9), 1);
    qsmmu_write_ste(&f->smmu, dev->sid,
                    QSMMU_STE0_V | QSMMU_STE0_CONFIG(QSMMU_STE_S1) |
                    QSMMU_STE0_S1FMT(3) | QSMMU_STE0_S1CDMAX(4) |
                    (tab.base + 64), 0);
    expect_read(f, dev, 9, VA, 0xa9);
    teardown(f);
}

/* Faults */

static void test_ste_faults(void)
{
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    Dev *dev = &f->dev[0];
    uint64_t s1 = QSMMU_STE0_V | QSMMU_STE0_CONFIG(QSMMU_STE_S1);
    uint64_t pa = new_page(f, 0xb0);
    QSMMUEvent evt;
    QSMMUCDTable tab;

    qsmmu_cdtable_init(s, &tab, QSMMU_CD_LINEAR, 4);
    qsmmu_write_cd(s, &tab, 0, new_pgd(f, 0xa0), 1);
    qsmmu_write_cd(s, &tab, 3, new_pgd(f, 0xa3), 2);

    /* V == 0 */
    expect_event(f, dev, NO_SSID, false, VA, QSMMU_EVT_C_BAD_STE);
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_STE);

    /* Abort: silent, whatever comes */
    qsmmu_write_ste(s, dev->sid, QSMMU_STE0_V |
                    QSMMU_STE0_CONFIG(QSMMU_STE_ABORT), 0);
    expect_silent_abort(f, dev, NO_SSID, VA);
    expect_silent_abort(f, dev, 3, VA);

    /* Bypass: only without a SubstreamID */
    qsmmu_write_ste(s, dev->sid, QSMMU_STE0_V |
                    QSMMU_STE0_CONFIG(QSMMU_STE_BYPASS) |
                    QSMMU_STE0_S1CDMAX(4), 0);
    qsmmu_cfgi_ste(s, dev->sid);
    expect_read(f, dev, NO_SSID, pa, 0xb0);
    expect_event(f, dev, 0, false, pa, QSMMU_EVT_C_BAD_SUBSTREAMID);
    expect_event(f, dev, 3, true, pa, QSMMU_EVT_C_BAD_SUBSTREAMID);

    /* One CD: no SubstreamIDs, and S1DSS and S1Fmt do not count */
    qsmmu_write_ste(s, dev->sid, s1 | tab.base |
                    QSMMU_STE0_S1FMT(QSMMU_CD_64K_L2),
                    QSMMU_STE1_S1DSS(QSMMU_S1DSS_TERMINATE));
    qsmmu_cfgi_ste(s, dev->sid);
    expect_read(f, dev, NO_SSID, VA, 0xa0);
    expect_event(f, dev, 0, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);

    /* Out of the table's range */
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);
    qsmmu_cfgi_ste(s, dev->sid);
    expect_read(f, dev, 3, VA, 0xa3);
    expect_event(f, dev, 16, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);
    expect_event(f, dev, 0xfffff, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);

    /* S1CDMax > SSIDSIZE */
    tab.cdmax = SSIDSIZE + 1;
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);
    qsmmu_cfgi_ste(s, dev->sid);
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_STE);
    expect_event(f, dev, NO_SSID, false, VA, QSMMU_EVT_C_BAD_STE);

    /* S1ContextPtr beyond 44 bits */
    qsmmu_write_ste(s, dev->sid, s1 | 1ull << 44 | QSMMU_STE0_S1CDMAX(4), 0);
    qsmmu_cfgi_ste(s, dev->sid);
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_STE);

    /* No such StreamID; a stream table out of memory */
    qsmmu_writel(s, QSMMU_STRTAB_BASE_CFG, 2);
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_STREAMID);
    qsmmu_writel(s, QSMMU_STRTAB_BASE_CFG, 8);
    qtest_writeq(f->qts, s->base + QSMMU_STRTAB_BASE, QSMMU_VIRT_HOLE);
    evt = expect_event(f, dev, 3, false, VA, QSMMU_EVT_F_STE_FETCH);
    g_assert_cmphex(evt.addr2, ==, QSMMU_VIRT_HOLE + dev->sid * 64);
    teardown(f);
}

static void test_cdtable_faults(const void *data)
{
    QSMMUS1Fmt fmt = GPOINTER_TO_UINT(data);
    unsigned split = fmt == QSMMU_CD_4K_L2 ? 6 : 10;
    uint32_t ssid = (5 << split) + 7, other = 9 << split;
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    Dev *dev = &f->dev[0];
    QSMMUCDTable tab, hole = { fmt, SSIDSIZE, QSMMU_VIRT_HOLE };
    QSMMUEvent evt;

    qsmmu_cdtable_init(s, &tab, fmt, SSIDSIZE);
    qsmmu_write_cd(s, &tab, ssid, new_pgd(f, 0xa5), 1);
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_SSID0);
    expect_read(f, dev, ssid, VA, 0xa5);

    /* L1CD.V == 0, also where a transaction without SubstreamID meets it */
    expect_event(f, dev, other, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);
    expect_event(f, dev, NO_SSID, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);

    /* A CD that is not valid, in a leaf that is there */
    expect_event(f, dev, ssid + 1, false, VA, QSMMU_EVT_C_BAD_CD);

    /* L2Ptr beyond 44 bits */
    qtest_writeq(f->qts, qsmmu_l1cd_addr(&tab, other),
                 1ull << 44 | QSMMU_L1CD_V);
    expect_event(f, dev, other, false, VA, QSMMU_EVT_C_BAD_SUBSTREAMID);

    /* A leaf out of memory; low bits of L2Ptr do not count */
    qtest_writeq(f->qts, qsmmu_l1cd_addr(&tab, other),
                 (QSMMU_VIRT_HOLE + (64 << split) / 2) | QSMMU_L1CD_V);
    evt = expect_event(f, dev, other + 2, true, VA, QSMMU_EVT_F_CD_FETCH);
    g_assert_cmphex(evt.addr2, ==, QSMMU_VIRT_HOLE + 2 * 64);

    /* A first level out of memory */
    qsmmu_write_ste_s1(s, dev->sid, &hole, QSMMU_S1DSS_SSID0);
    qsmmu_cfgi_ste(s, dev->sid);
    evt = expect_event(f, dev, ssid, false, VA, QSMMU_EVT_F_CD_FETCH);
    g_assert_cmphex(evt.addr2, ==, QSMMU_VIRT_HOLE + 5 * 8);
    teardown(f);
}

static void test_cd_faults(void)
{
    static const struct {
        uint64_t clear, set;
    } bad[] = {
        { .clear = QSMMU_CD0_V },
        { .clear = QSMMU_CD0_AA64 },
        { .clear = QSMMU_CD0_A },      /* IDR0.TERM_MODEL == 1 */
        { .set = QSMMU_CD0_S },        /* IDR0.STALL_MODEL == 1 */
        { .set = QSMMU_CD0_HA },       /* IDR0.HTTU == 0 */
        { .clear = QSMMU_CD0_T0SZ_MASK, .set = QSMMU_CD0_T0SZ(15) },
        { .clear = QSMMU_CD0_T0SZ_MASK, .set = QSMMU_CD0_T0SZ(40) },
    };
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    Dev *dev = &f->dev[0];
    QSMMUCDTable tab, hole = { QSMMU_CD_LINEAR, SSIDSIZE, QSMMU_VIRT_HOLE };
    uint64_t pgd = new_pgd(f, 0xa3), cd;
    QSMMUEvent evt;

    qsmmu_cdtable_init(s, &tab, QSMMU_CD_LINEAR, SSIDSIZE);
    qsmmu_write_cd(s, &tab, 0, pgd, 1);
    cd = qsmmu_write_cd(s, &tab, 3, pgd, 1);
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);

    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        qsmmu_write_cd(s, &tab, 3, pgd, 1);
        change_cd0(f, cd, bad[i].clear, bad[i].set);
        expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_CD);
        expect_event(f, dev, 3, true, VA, QSMMU_EVT_C_BAD_CD);
    }

    /* TTB0 beyond 44 bits, and within them beyond IPS */
    qsmmu_write_cd(s, &tab, 3, 1ull << 44, 1);
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_CD);
    qsmmu_write_cd(s, &tab, 3, 1ull << 36, 1);
    change_cd0(f, cd, QSMMU_CD0_IPS_MASK, QSMMU_CD0_IPS(1));
    expect_event(f, dev, 3, false, VA, QSMMU_EVT_C_BAD_CD);

    /* The other one was good all the time */
    expect_read(f, dev, 0, VA, 0xa3);

    /* IPS may say more than there is, and even something reserved */
    for (int ips = 5; ips <= 7; ips++) {
        qsmmu_write_cd(s, &tab, 3, pgd, 1);
        change_cd0(f, cd, QSMMU_CD0_IPS_MASK, QSMMU_CD0_IPS(ips));
        qsmmu_cfgi_cd(s, dev->sid, 3);
        expect_read(f, dev, 3, VA, 0xa3);
    }

    /* A table out of memory */
    qsmmu_write_ste_s1(s, dev->sid, &hole, QSMMU_S1DSS_TERMINATE);
    qsmmu_cfgi_ste(s, dev->sid);
    evt = expect_event(f, dev, 3, false, VA, QSMMU_EVT_F_CD_FETCH);
    g_assert_cmphex(evt.addr2, ==, QSMMU_VIRT_HOLE + 3 * 64);
    teardown(f);
}

static void test_walk_faults(void)
{
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    Dev *dev = &f->dev[0];
    uint64_t pgd = new_pgd(f, 0xa0), cd;
    QSMMUCDTable tab;
    QSMMUEvent evt;

    enum { NONE, RO, NO_AF, FAR_PAGE };
    uint64_t va[] = {
        [NONE] = VA + PAGE, [RO] = VA + 2 * PAGE, [NO_AF] = VA + 3 * PAGE,
        [FAR_PAGE] = VA + 4 * PAGE,
    };
    uint64_t far_table = 0x1000000000ull, hole_table = 0x1040000000ull;

    qsmmu_map(s, pgd, va[RO], new_page(f, 0xa1), 3,
              QSMMU_PTE_ATTRS | QSMMU_PTE_RO);
    qsmmu_map(s, pgd, va[NO_AF], new_page(f, 0xa2), 3,
              QSMMU_PTE_ATTRS & ~QSMMU_PTE_AF);
    qsmmu_map(s, pgd, va[FAR_PAGE], 1ull << 44, 3, QSMMU_PTE_ATTRS);
    /* Level 1 entries whose next-level tables lie beyond IPS, or nowhere */
    qsmmu_map(s, pgd, far_table, 1ull << 44, 1, QSMMU_PTE_TABLE);
    qsmmu_map(s, pgd, hole_table, QSMMU_VIRT_HOLE, 1, QSMMU_PTE_TABLE);

    qsmmu_cdtable_init(s, &tab, QSMMU_CD_64K_L2, SSIDSIZE);
    cd = qsmmu_write_cd(s, &tab, 0, pgd, 1);
    qsmmu_write_cd(s, &tab, 3000, pgd, 1);
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_SSID0);

    for (int i = 0; i < 4; i++) {
        int ssid = i & 1 ? 3000 : NO_SSID;
        bool write = i & 2;

        evt = expect_event(f, dev, ssid, write, va[NONE],
                           QSMMU_EVT_F_TRANSLATION);
        g_assert_cmphex(evt.addr, ==, va[NONE]);
        g_assert_cmpint(evt.rnw, ==, !write);
        g_assert_cmpint(evt.class, ==, 2);

        evt = expect_event(f, dev, ssid, write, va[NO_AF],
                           QSMMU_EVT_F_ACCESS);
        g_assert_cmphex(evt.addr, ==, va[NO_AF]);

        evt = expect_event(f, dev, ssid, write, va[FAR_PAGE],
                           QSMMU_EVT_F_ADDR_SIZE);
        g_assert_cmphex(evt.addr, ==, va[FAR_PAGE]);

        evt = expect_event(f, dev, ssid, write, far_table,
                           QSMMU_EVT_F_ADDR_SIZE);
        g_assert_cmphex(evt.addr, ==, far_table);

        evt = expect_event(f, dev, ssid, write, hole_table,
                           QSMMU_EVT_F_WALK_EABT);
        g_assert_cmphex(evt.addr, ==, hole_table);
        g_assert_cmphex(evt.addr2, ==, QSMMU_VIRT_HOLE);

        /* Beyond what TTB0 covers; TTB1 is disabled */
        expect_event(f, dev, ssid, write, 1ull << 39,
                     QSMMU_EVT_F_TRANSLATION);
        expect_event(f, dev, ssid, write, -PAGE, QSMMU_EVT_F_TRANSLATION);

        /* First without, then with a translation in the TLB */
        evt = expect_event(f, dev, ssid, true, va[RO],
                           QSMMU_EVT_F_PERMISSION);
        g_assert_cmphex(evt.addr, ==, va[RO]);
        g_assert_false(evt.rnw);
        expect_read(f, dev, ssid, va[RO], 0xa1);
    }

    /* R == 0: faults are not recorded */
    change_cd0(f, cd, QSMMU_CD0_R, 0);
    qsmmu_cfgi_cd(s, dev->sid, 0);
    expect_silent_abort(f, dev, NO_SSID, va[NONE]);
    expect_silent_abort(f, dev, NO_SSID, va[NO_AF]);
    expect_silent_abort(f, dev, NO_SSID, va[FAR_PAGE]);
    expect_read(f, dev, NO_SSID, VA, 0xa0);
    expect_event(f, dev, 3000, false, va[NONE], QSMMU_EVT_F_TRANSLATION);
    teardown(f);
}

/* An output address of 46 bits: is there nothing, or may there be nothing? */
static void test_oas(void)
{
    static const struct {
        const char *args;
        uint64_t ips;
        bool good;
    } cases[] = {
        { "", 4, false },
        { "", 5, false },
        { "-global arm-smmuv3.oas=48", 4, false },
        { "-global arm-smmuv3.oas=48", 5, true },
        { "-global arm-smmuv3.oas=48", 6, true },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup(cases[i].args);
        uint64_t pgd = qsmmu_pgd_alloc(&f->smmu), cd;
        Dev *dev = &f->dev[0];
        QSMMUCDTable tab;

        qsmmu_map(&f->smmu, pgd, VA, 1ull << 45, 3, QSMMU_PTE_ATTRS);
        qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_LINEAR, 0);
        cd = qsmmu_write_cd(&f->smmu, &tab, 0, pgd, 1);
        change_cd0(f, cd, QSMMU_CD0_IPS_MASK, QSMMU_CD0_IPS(cases[i].ips));
        qsmmu_write_ste_s1(&f->smmu, dev->sid, &tab, 0);

        if (cases[i].good) {
            g_assert_cmphex(dev_read(f, dev, NO_SSID, VA), ==, SVATD_ST_BUS);
            expect_no_event(f);
        } else {
            expect_event(f, dev, NO_SSID, false, VA, QSMMU_EVT_F_ADDR_SIZE);
        }
        teardown(f);
    }
}

/*
 * What Linux does when a process exits: no walks, no events. Translations in
 * the TLB go with an invalidation, not before.
 */
static void test_exit(void)
{
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    Dev *dev = &f->dev[0];
    uint64_t pgd = new_pgd(f, 0xa1), cd;
    QSMMUCDTable tab;

    qsmmu_map(s, pgd, VA + PAGE, new_page(f, 0xa2), 3, QSMMU_PTE_ATTRS);
    qsmmu_cdtable_init(s, &tab, QSMMU_CD_64K_L2, SSIDSIZE);
    cd = qsmmu_write_cd(s, &tab, 1, pgd, 7);
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);
    expect_read(f, dev, 1, VA, 0xa1);

    qtest_writeq(f->qts, cd, QSMMU_CD0_EPD0 | QSMMU_CD0_EPD1 | QSMMU_CD0_V |
                 QSMMU_CD0_IPS(4) | QSMMU_CD0_AA64 | QSMMU_CD0_A |
                 QSMMU_CD0_ASID(7));
    qtest_writeq(f->qts, cd + 8, 0);

    /* Not told yet: walks go on */
    expect_read(f, dev, 1, VA + PAGE, 0xa2);
    qsmmu_tlbi_nh_va(s, 7, VA + PAGE, (QSMMURange) {});

    qsmmu_cfgi_cd(s, dev->sid, 1);
    expect_silent_abort(f, dev, 1, VA + PAGE);
    expect_silent_abort(f, dev, 1, 1ull << 39);
    expect_silent_abort(f, dev, 1, -PAGE);
    expect_read(f, dev, 1, VA, 0xa1);

    qsmmu_tlbi_nh_asid(s, 7);
    expect_silent_abort(f, dev, 1, VA);
    teardown(f);
}

/* Invalidation of configurations */

#define CFG_SSIDS   3       /* NO_SSID, 1, 2: indices 0, 1, 2 */

typedef struct CfgTest {
    Fixture *f;
    QSMMUCDTable tab[NUM_DEVS];
    uint64_t pgd[2];        /* 0xa0 and 0xa1 at VA */
    unsigned now;           /* the pgd that all CDs in memory have */
    uint16_t asid;
} CfgTest;

static int cfg_ssid(int i)
{
    return i ? i : NO_SSID;
}

/* Let all CDs in memory point to the other pgd, with ASIDs never seen */
static void cfg_flip(CfgTest *t)
{
    t->now ^= 1;
    for (int d = 0; d < NUM_DEVS; d++) {
        for (int i = 0; i < CFG_SSIDS; i++) {
            qsmmu_write_cd(&t->f->smmu, &t->tab[d], i, t->pgd[t->now],
                           ++t->asid);
        }
    }
}

/* Those in @changed[] (a bit per SubstreamID) see the CDs as they are now */
static void cfg_check(CfgTest *t, const unsigned changed[NUM_DEVS])
{
    for (int d = 0; d < NUM_DEVS; d++) {
        for (int i = 0; i < CFG_SSIDS; i++) {
            bool is_new = changed[d] & (1 << i);

            expect_read(t->f, &t->f->dev[d], cfg_ssid(i), VA,
                        0xa0 + (is_new ? t->now : !t->now));
        }
    }
}

/* Have everything cached again */
static void cfg_settle(CfgTest *t)
{
    static const unsigned all[NUM_DEVS] = { 7, 7 };

    qsmmu_cfgi_ste_range(&t->f->smmu, 0, 31);
    cfg_check(t, all);
}

static void test_cfgi(void)
{
    static const unsigned none[NUM_DEVS] = { 0, 0 };
    CfgTest t = { .f = setup_ssid() };
    QSMMU *s = &t.f->smmu;
    uint32_t sid0 = t.f->dev[0].sid, sid1 = t.f->dev[1].sid;

    t.pgd[0] = new_pgd(t.f, 0xa0);
    t.pgd[1] = new_pgd(t.f, 0xa1);
    for (int d = 0; d < NUM_DEVS; d++) {
        qsmmu_cdtable_init(s, &t.tab[d], QSMMU_CD_64K_L2, SSIDSIZE);
        qsmmu_write_ste_s1(s, t.f->dev[d].sid, &t.tab[d], QSMMU_S1DSS_SSID0);
    }

#define CFGI_CASE(cmd, ...) do {                                        \
        const unsigned changed[NUM_DEVS] = { __VA_ARGS__ };             \
        cfg_flip(&t);                                                   \
        cfg_settle(&t);                                                 \
        cfg_flip(&t);                                                   \
        cfg_check(&t, none);    /* memory changed, nobody knows */      \
        cmd;                                                            \
        cfg_check(&t, changed);                                         \
    } while (0)

    CFGI_CASE(qsmmu_cfgi_cd(s, sid0, 1), 2, 0);
    CFGI_CASE(qsmmu_cfgi_cd(s, sid0, 2), 4, 0);
    /* CD 0 is the one of transactions without a SubstreamID */
    CFGI_CASE(qsmmu_cfgi_cd(s, sid1, 0), 0, 1);
    CFGI_CASE(qsmmu_cfgi_cd(s, sid0, 3), 0, 0);
    CFGI_CASE(qsmmu_cfgi_cd(s, sid0 + 1, 1), 0, 0);
    CFGI_CASE(qsmmu_cfgi_cd_all(s, sid0), 7, 0);
    CFGI_CASE(qsmmu_cfgi_cd_all(s, sid1), 0, 7);
    CFGI_CASE(qsmmu_cfgi_ste(s, sid0), 7, 0);
    CFGI_CASE(qsmmu_cfgi_ste(s, sid1), 0, 7);
    CFGI_CASE(qsmmu_cfgi_ste(s, sid1 + 1), 0, 0);
    CFGI_CASE(qsmmu_cfgi_ste_range(s, sid0, 2), 7, 0);
    CFGI_CASE(qsmmu_cfgi_ste_range(s, sid1, 2), 0, 7);
    CFGI_CASE(qsmmu_cfgi_ste_range(s, 0, 4), 7, 7);
    CFGI_CASE(qsmmu_cfgi_ste_range(s, 0, 31), 7, 7);
    /* Translations and configurations are different things */
    CFGI_CASE(qsmmu_tlbi_nh_all(s), 0, 0);
    CFGI_CASE(qsmmu_tlbi_nsnh_all(s), 0, 0);
#undef CFGI_CASE
    teardown(t.f);
}

/* What comes from the STE alone is not touched when CDs are invalidated */
static void test_cfgi_ste_only(void)
{
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    Dev *dev = &f->dev[0];
    uint64_t pa = new_page(f, 0xb0);
    QSMMUCDTable tab;

    qsmmu_cdtable_init(s, &tab, QSMMU_CD_LINEAR, 1);
    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_BYPASS);
    expect_read(f, dev, NO_SSID, pa, 0xb0);

    qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);
    qsmmu_cfgi_cd(s, dev->sid, 0);
    qsmmu_cfgi_cd_all(s, dev->sid);
    expect_read(f, dev, NO_SSID, pa, 0xb0);
    qsmmu_cfgi_ste(s, dev->sid);
    expect_event(f, dev, NO_SSID, false, pa, QSMMU_EVT_F_STREAM_DISABLED);
    teardown(f);
}

/* Invalidation of translations */

/*
 * Two address spaces (ASIDs 1 and 2, SubstreamIDs 1 and 2), each with three
 * pages at VA and a 2 MB block behind. A bit per translation: 0 to 3 are in
 * the first, 4 to 7 in the second.
 */
#define TLB_ENTRIES     4
#define TLB_PAGES       3
#define TLB_BLOCK_VA    ((VA & -BLOCK) + BLOCK)

typedef struct TLBTest {
    Fixture *f;
    uint64_t pgd[2];
    uint64_t pa[2][2 * TLB_ENTRIES];  /* what each maps: [now], [!now] */
    unsigned now;
} TLBTest;

static uint64_t tlb_va(int i)
{
    return i < TLB_PAGES ? VA + i * PAGE : TLB_BLOCK_VA;
}

static uint64_t tlb_value(unsigned now, int i)
{
    return 0xa00 + now * 0x100 + i;
}

/* Let every descriptor in memory map the other page */
static void tlb_flip(TLBTest *t)
{
    t->now ^= 1;
    for (int i = 0; i < 2 * TLB_ENTRIES; i++) {
        int e = i % TLB_ENTRIES;

        qsmmu_map(&t->f->smmu, t->pgd[i / TLB_ENTRIES], tlb_va(e),
                  t->pa[t->now][i], e < TLB_PAGES ? 3 : 2, QSMMU_PTE_ATTRS);
    }
}

/* The translations in @changed are as in memory; the others are stale */
static void tlb_check(TLBTest *t, unsigned changed)
{
    for (int i = 0; i < 2 * TLB_ENTRIES; i++) {
        unsigned now = changed & (1 << i) ? t->now : !t->now;

        expect_read(t->f, &t->f->dev[0], 1 + i / TLB_ENTRIES,
                    tlb_va(i % TLB_ENTRIES), tlb_value(now, i));
    }
}

static void tlb_init(TLBTest *t, Fixture *f)
{
    QSMMU *s = &f->smmu;
    QSMMUCDTable tab;

    *t = (TLBTest) { .f = f };
    qsmmu_cdtable_init(s, &tab, QSMMU_CD_64K_L2, SSIDSIZE);
    for (int a = 0; a < 2; a++) {
        t->pgd[a] = qsmmu_pgd_alloc(s);
        qsmmu_write_cd(s, &tab, 1 + a, t->pgd[a], 1 + a);
    }
    qsmmu_write_ste_s1(s, f->dev[0].sid, &tab, QSMMU_S1DSS_TERMINATE);

    for (int now = 0; now < 2; now++) {
        for (int i = 0; i < 2 * TLB_ENTRIES; i++) {
            bool page = i % TLB_ENTRIES < TLB_PAGES;

            t->pa[now][i] = qsmmu_alloc(s, page ? PAGE : BLOCK);
            qtest_writeq(f->qts, t->pa[now][i], tlb_value(now, i));
        }
    }
}

static void test_tlbi(void)
{
    const QSMMURange none = { 0 };
    const QSMMURange tg4k = { .tg = 1 };
    const QSMMURange tg16k = { .tg = 2 };
    const QSMMURange tg64k = { .tg = 3 };
    const QSMMURange ttl2 = { .tg = 1, .ttl = 2 };
    const QSMMURange ttl3 = { .tg = 1, .ttl = 3 };
    const QSMMURange two = { .tg = 1, .num = 1 };
    const QSMMURange two_ttl2 = { .tg = 1, .num = 1, .ttl = 2 };
    const QSMMURange two_ttl3 = { .tg = 1, .num = 1, .ttl = 3 };
    const QSMMURange four_mb = { .tg = 1, .num = 0, .scale = 10 };
    uint64_t inside = TLB_BLOCK_VA + 5 * PAGE;
    uint32_t sid;
    QSMMU *s;
    TLBTest t;

    tlb_init(&t, setup_ssid());
    s = &t.f->smmu;
    sid = t.f->dev[0].sid;
    tlb_flip(&t);

#define TLBI_CASE(cmd, changed) do {                                    \
        qsmmu_tlbi_nsnh_all(s);                                         \
        tlb_check(&t, 0xff);                                            \
        tlb_flip(&t);                                                   \
        tlb_check(&t, 0);       /* memory changed, the TLB did not */   \
        cmd;                                                            \
        tlb_check(&t, changed);                                         \
    } while (0)

    TLBI_CASE(qsmmu_tlbi_nsnh_all(s), 0xff);
    TLBI_CASE(qsmmu_tlbi_nh_all(s), 0xff);
    TLBI_CASE(qsmmu_tlbi_nh_asid(s, 1), 0x0f);
    TLBI_CASE(qsmmu_tlbi_nh_asid(s, 2), 0xf0);
    TLBI_CASE(qsmmu_tlbi_nh_asid(s, 3), 0);

    /* One address, any size */
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, none), 0x01);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 2, VA + PAGE, none), 0x20);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 3, VA, none), 0);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA + TLB_PAGES * PAGE, none), 0);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, inside, none), 0x08);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, VA + PAGE, none), 0x22);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, inside, none), 0x88);

    /* TG and TTL ask for less */
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, tg4k), 0x01);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, inside, tg4k), 0x08);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA & ~0x3fffull, tg16k), 0);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, VA & ~0xffffull, tg64k), 0);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, ttl3), 0x01);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, ttl2), 0);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, VA, ttl3), 0x11);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, VA, ttl2), 0);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, TLB_BLOCK_VA, ttl2), 0x08);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, TLB_BLOCK_VA, ttl3), 0);

    /* Ranges */
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, two), 0x03);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 2, VA + PAGE, two), 0x60);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, VA, two), 0x33);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, two_ttl3), 0x03);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA, two_ttl2), 0);
    TLBI_CASE(qsmmu_tlbi_nh_va(s, 1, VA & -BLOCK, four_mb), 0x0f);
    TLBI_CASE(qsmmu_tlbi_nh_vaa(s, (VA & -BLOCK) + 2 * BLOCK, four_mb), 0);

    /* Configurations and translations are different things */
    TLBI_CASE(qsmmu_cfgi_cd(s, sid, 1), 0);
    TLBI_CASE(qsmmu_cfgi_cd_all(s, sid), 0);
    TLBI_CASE(qsmmu_cfgi_ste(s, sid), 0);
    TLBI_CASE(qsmmu_cfgi_ste_range(s, 0, 31), 0);
#undef TLBI_CASE
    teardown(t.f);
}

/* Translations belong to an ASID, not to a SubstreamID or StreamID */
static void test_shared_asid(void)
{
    Fixture *f = setup_ssid();
    QSMMU *s = &f->smmu;
    uint64_t pgd = new_pgd(f, 0xa0);
    QSMMUCDTable tab;

    qsmmu_cdtable_init(s, &tab, QSMMU_CD_LINEAR, 2);
    for (int i = 0; i < 3; i++) {
        qsmmu_write_cd(s, &tab, i, pgd, 1);
    }
    for (int d = 0; d < NUM_DEVS; d++) {
        qsmmu_write_ste_s1(s, f->dev[d].sid, &tab, QSMMU_S1DSS_SSID0);
    }

    expect_read(f, &f->dev[0], 1, VA, 0xa0);
    qsmmu_map(s, pgd, VA, new_page(f, 0xa1), 3, QSMMU_PTE_ATTRS);
    expect_read(f, &f->dev[0], 2, VA, 0xa0);
    expect_read(f, &f->dev[0], NO_SSID, VA, 0xa0);
    expect_read(f, &f->dev[1], 1, VA, 0xa0);

    qsmmu_tlbi_nh_va(s, 1, VA, (QSMMURange) {});
    expect_read(f, &f->dev[1], NO_SSID, VA, 0xa1);
    expect_read(f, &f->dev[0], 1, VA, 0xa1);
    teardown(f);
}

/* One translation more than fits empties the IOTLB */
static void test_iotlb_size(void)
{
    for (int room = 0; room < 2; room++) {
        Fixture *f = setup(room ? "-global arm-smmuv3.ssidsize=16 "
                                  "-global arm-smmuv3.x-iotlb-size=4"
                                : "-global arm-smmuv3.ssidsize=16 "
                                  "-global arm-smmuv3.x-iotlb-size=3");
        QSMMU *s = &f->smmu;
        Dev *dev = &f->dev[0];
        uint64_t pgd = new_pgd(f, 0xa0);
        QSMMUCDTable tab;

        qsmmu_cdtable_init(s, &tab, QSMMU_CD_LINEAR, 1);
        qsmmu_write_cd(s, &tab, 1, pgd, 1);
        qsmmu_write_ste_s1(s, dev->sid, &tab, QSMMU_S1DSS_TERMINATE);
        for (int i = 0; i < 4; i++) {
            if (i) {
                qsmmu_map(s, pgd, VA + i * PAGE, new_page(f, 0xa0 + i), 3,
                          QSMMU_PTE_ATTRS);
            }
            expect_read(f, dev, 1, VA + i * PAGE, 0xa0 + i);
        }
        qsmmu_map(s, pgd, VA, new_page(f, 0xb0), 3, QSMMU_PTE_ATTRS);
        expect_read(f, dev, 1, VA, room ? 0xa0 : 0xb0);
        teardown(f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("smmuv3/idr", test_idr);
    qtest_add_func("smmuv3/translate/no-ssid", test_no_ssid);
    qtest_add_data_func("smmuv3/translate/linear",
                        GUINT_TO_POINTER(QSMMU_CD_LINEAR), test_formats);
    qtest_add_data_func("smmuv3/translate/4k-l2",
                        GUINT_TO_POINTER(QSMMU_CD_4K_L2), test_formats);
    qtest_add_data_func("smmuv3/translate/64k-l2",
                        GUINT_TO_POINTER(QSMMU_CD_64K_L2), test_formats);
    qtest_add_func("smmuv3/translate/s1dss", test_s1dss);
    qtest_add_func("smmuv3/translate/constrained", test_constrained);
    qtest_add_func("smmuv3/faults/ste", test_ste_faults);
    qtest_add_data_func("smmuv3/faults/4k-l2",
                        GUINT_TO_POINTER(QSMMU_CD_4K_L2),
                        test_cdtable_faults);
    qtest_add_data_func("smmuv3/faults/64k-l2",
                        GUINT_TO_POINTER(QSMMU_CD_64K_L2),
                        test_cdtable_faults);
    qtest_add_func("smmuv3/faults/cd", test_cd_faults);
    qtest_add_func("smmuv3/faults/walk", test_walk_faults);
    qtest_add_func("smmuv3/faults/oas", test_oas);
    qtest_add_func("smmuv3/faults/exit", test_exit);
    qtest_add_func("smmuv3/inval/cfgi", test_cfgi);
    qtest_add_func("smmuv3/inval/cfgi-ste-only", test_cfgi_ste_only);
    qtest_add_func("smmuv3/inval/tlbi", test_tlbi);
    qtest_add_func("smmuv3/inval/shared-asid", test_shared_asid);
    qtest_add_func("smmuv3/inval/iotlb-size", test_iotlb_size);

    return g_test_run();
}
