/*
 * QTest testcase for ATS, delayed broadcasts and stalls in the SMMUv3 model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A page holds what tells it from others, page tables are made to lead
 * elsewhere, and a device reads: what it finds tells where its translation came
 * from. With ATS that may be the ATC, which nothing clears but CMD_ATC_INV.
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qnum.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "hw/pci/pci_regs.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define CR0_ATSCHK      (1 << 4)
#define CR2             0x2c
#define IDR0_ATS        (1 << 10)
#define IDR0_STALL_MODEL(x) (((x) >> 24) & 3)
#define STE1_S1STALLD   (1ull << 27)
#define STE1_EATS(x)    ((uint64_t)(x) << 28)
#define CD0_ASET        (1ull << 47)

#define CMD_ATC_INV     0x40
#define CMD_RESUME      0x44
#define CMD_STALL_TERM  0x45
#define CMD0_G          (1ull << 9)
#define CMD0_SSV(ssid)  (1ull << 11 | (uint64_t)(ssid) << 12)
#define CMD0_RETRY      (1ull << 12)
#define CMD0_ABORT      (1ull << 13)
#define CMD0_SID(sid)   ((uint64_t)(sid) << 32)
#define ATC_INV_ALL     52

#define PAGE            0x1000ull
#define A               0x3654321000ull
#define A_NEXT          (A + PAGE)
#define UNMAPPED        (A + 0x40 * PAGE)
#define BLOCK_VA        0x1200000000ull
#define PASIDS          3               /* 1 and 2, and none */
#define EVENTQ_ENTRIES  64

#define DEVFN           QPCI_DEVFN(1, 0)
/* A queue per PASID, and more for stalls */
#define QUEUES          8

typedef struct Fixture {
    QTestState *qts;
    QGenericPCIBus bus;
    QPCIDevice *pci;
    QPCIBar ctrl, queues;
    QSMMU smmu;
    QSMMUCDTable tab;
    char *path;                         /* of the SMMU */
    uint64_t pgd[PASIDS];
    uint64_t pte[PASIDS], next_pte[PASIDS];
    uint64_t old[PASIDS], new[PASIDS], next[PASIDS];
} Fixture;

/* What pages hold */
#define OLD(p)          (0xa00ull + (p))
#define NEW(p)          (0xb00ull + (p))
#define NEXT(p)         (0xc00ull + (p))

/* The SMMU as a QOM object */

static uint64_t counter(Fixture *f, const char *name)
{
    g_autofree char *prop = g_strdup_printf("counter-%s", name);
    QDict *rsp = qtest_qmp(f->qts, "{ 'execute': 'qom-get', 'arguments': "
                           "{ 'path': %s, 'property': %s } }", f->path, prop);
    uint64_t value = qnum_get_uint(qobject_to(QNum, qdict_get(rsp, "return")));

    qobject_unref(rsp);
    return value;
}

/* TLBI ASIDE1IS, in the EL1&0 regime, stage 1 */
static void broadcast_asid(Fixture *f, int asid)
{
    QSMMUBroadcast tlbi = { QSMMU_EL10, 1, QSMMU_ANY, asid };

    qsmmu_broadcast(&f->smmu, &tlbi);
}

static void dsb(Fixture *f)
{
    qtest_qmp_assert_success(f->qts, "{ 'execute': 'qom-set', 'arguments': "
                             "{ 'path': %s, 'property': 'x-dsb-inject', "
                             "'value': true } }", f->path);
}

/* The device */

static uint64_t ats_ctrl(Fixture *f)
{
    uint64_t base = f->bus.ecam_alloc_ptr + (DEVFN << 12);
    unsigned int pos = PCI_CFG_SPACE_SIZE;
    uint32_t header;

    for (;;) {
        header = qtest_readl(f->qts, base + pos);
        if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_ATS) {
            return base + pos + PCI_ATS_CTRL;
        }
        pos = PCI_EXT_CAP_NEXT(header);
        g_assert_cmpuint(pos, !=, 0);
    }
}

static void ats_enable(Fixture *f, bool enable)
{
    qtest_writew(f->qts, ats_ctrl(f), enable ? PCI_ATS_CTRL_ENABLE : 0);
}

static uint64_t queue_reg(Fixture *f, int q, unsigned int reg)
{
    return f->queues.addr + q * SVATD_QUEUE_STRIDE + reg;
}

static uint64_t slot_reg(Fixture *f, int q, int slot, unsigned int reg)
{
    return queue_reg(f, q, SVATD_Q_SLOT(slot) + reg);
}

static uint32_t qctl_read(Fixture *f, int q, unsigned int reg)
{
    return qtest_readl(f->qts, f->ctrl.addr + SVATD_QCTL(q) + reg);
}

static void qctl_write(Fixture *f, int q, unsigned int reg, uint32_t val)
{
    qtest_writel(f->qts, f->ctrl.addr + SVATD_QCTL(q) + reg, val);
}

/* Queue @q works with PASID @pasid, 0: with none */
static void queue_start(Fixture *f, int q, int pasid)
{
    qctl_write(f, q, SVATD_QCTL_CTL, 0);
    qctl_write(f, q, SVATD_QCTL_PASID, pasid);
    qctl_write(f, q, SVATD_QCTL_CTL, SVATD_QCTL_CTL_ENABLE |
               (pasid ? SVATD_QCTL_CTL_PASID : 0));
}

static void step(Fixture *f)
{
    qtest_clock_step(f->qts, 1000000);
}

/* Begin to read (or write) eight bytes */
static void begin(Fixture *f, int q, int slot, uint64_t va, bool write)
{
    qtest_writeq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_SRC), va);
    qtest_writeq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_DST), va);
    qtest_writeq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_LEN), 8);
    qtest_writeq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_STRIDE), 8);
    qtest_writeq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_ARG), ~0ull);
    qtest_writeq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_ARG2), ~0ull);
    qtest_writel(f->qts, slot_reg(f, q, slot, SVATD_SLOT_CMD),
                 write ? SVATD_OP_FILL : SVATD_OP_POLL);
    step(f);
}

static uint32_t status(Fixture *f, int q, int slot)
{
    return qtest_readl(f->qts, slot_reg(f, q, slot, SVATD_SLOT_STATUS));
}

static uint64_t value(Fixture *f, int q, int slot)
{
    return qtest_readq(f->qts, slot_reg(f, q, slot, SVATD_SLOT_VALUE));
}

static uint32_t try_access(Fixture *f, int q, uint64_t va, bool write)
{
    begin(f, q, 0, va, write);
    return status(f, q, 0);
}

/* Read a value; @from_atc: whether the translation has to be in the ATC */
static uint64_t read_as(Fixture *f, int q, uint64_t va, bool from_atc)
{
    g_assert_cmphex(try_access(f, q, va, false), ==,
                    SVATD_ST_MISMATCH | (from_atc ? SVATD_STATUS_ATC : 0));
    return value(f, q, 0);
}

static void expect_event(Fixture *f, uint8_t type, uint64_t addr)
{
    QSMMUEvent evt;

    g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
    g_assert_cmphex(evt.type, ==, type);
    g_assert_cmphex(evt.sid, ==, DEVFN);
    g_assert_cmphex(evt.addr, ==, addr);
    g_assert_false(evt.stall);
}

static void expect_no_event(Fixture *f)
{
    QSMMUEvent evt;

    g_assert_false(qsmmu_pop_event(&f->smmu, &evt));
}

static void write_ste(Fixture *f, uint64_t ste1)
{
    qsmmu_write_ste_s1(&f->smmu, DEVFN, &f->tab, QSMMU_S1DSS_SSID0);
    qtest_writeq(f->qts, qsmmu_ste_addr(&f->smmu, DEVFN) + 8,
                 QSMMU_STE1_S1DSS(QSMMU_S1DSS_SSID0) | ste1);
}

/* @cd0: bits to add to the CDs */
static Fixture *setup(const char *args, uint64_t ste1, uint64_t cd0)
{
    Fixture *f = g_new0(Fixture, 1);
    uint64_t cd;

    f->qts = qtest_initf("-machine virt,gic-version=3,iommu=smmuv3 -m 256M "
                         "-nodefaults -global arm-smmuv3.x-iotlb-size=100000 "
                         "-global arm-smmuv3.ssidsize=4 %s", args);
    f->path = qsmmu_find(f->qts);
    qtest_writel(f->qts, QSMMU_VIRT_BASE + CR2, 0);     /* PTM=0 */
    qpci_init_generic(&f->bus, f->qts, NULL, false);
    qsmmu_init(&f->smmu, f->qts, QSMMU_VIRT_BASE, QSMMU_VIRT_RAM);
    qsmmu_writel(&f->smmu, QSMMU_CR0, CR0_ATSCHK |
                 qsmmu_readl(&f->smmu, QSMMU_CR0));

    f->pci = qpci_device_find(&f->bus.bus, DEVFN);
    g_assert_nonnull(f->pci);
    qpci_device_enable(f->pci);
    f->ctrl = qpci_iomap(f->pci, SVATD_BAR_CTRL, NULL);
    f->queues = qpci_iomap(f->pci, SVATD_BAR_QUEUES, NULL);

    qsmmu_cdtable_init(&f->smmu, &f->tab, QSMMU_CD_LINEAR, 4);
    for (int p = 0; p < PASIDS; p++) {
        f->pgd[p] = qsmmu_pgd_alloc(&f->smmu);
        f->old[p] = qsmmu_alloc(&f->smmu, PAGE);
        f->new[p] = qsmmu_alloc(&f->smmu, PAGE);
        f->next[p] = qsmmu_alloc(&f->smmu, PAGE);
        qtest_writeq(f->qts, f->old[p], OLD(p));
        qtest_writeq(f->qts, f->new[p], NEW(p));
        qtest_writeq(f->qts, f->next[p], NEXT(p));
        f->pte[p] = qsmmu_map(&f->smmu, f->pgd[p], A, f->old[p], 3,
                              QSMMU_PTE_ATTRS);
        f->next_pte[p] = qsmmu_map(&f->smmu, f->pgd[p], A_NEXT, f->next[p], 3,
                                   QSMMU_PTE_ATTRS);
        cd = qsmmu_write_cd(&f->smmu, &f->tab, p, f->pgd[p], 10 + p);
        qtest_writeq(f->qts, cd, qtest_readq(f->qts, cd) | cd0);
        queue_start(f, p, p);
    }
    write_ste(f, ste1);
    return f;
}

static void teardown(Fixture *f)
{
    g_free(f->pci);
    qtest_quit(f->qts);
    g_free(f->path);
    g_free(f);
}

static void make_new(Fixture *f, int p)
{
    qtest_writeq(f->qts, f->pte[p], f->new[p] | QSMMU_PTE_ATTRS |
                 QSMMU_PTE_PAGE);
}

#define DEV_ATS "-device sva-testdev,addr=1,ats=on"
#define SMMU_ATS "-global arm-smmuv3.ats=on "

static Fixture *setup_ats(const char *args)
{
    g_autofree char *all = g_strdup_printf(SMMU_ATS "%s", args);
    Fixture *f = setup(all, STE1_EATS(1), 0);

    g_assert_true(qsmmu_readl(&f->smmu, QSMMU_IDR0) & IDR0_ATS);
    ats_enable(f, true);
    return f;
}

static void atc_inv(Fixture *f, uint64_t cmd0, uint64_t va, unsigned int size)
{
    qsmmu_cmd(&f->smmu, CMD_ATC_INV | CMD0_SID(DEVFN) | cmd0, va | size);
}

/* An entry stays when the page tables and the IOTLB have forgotten it */
static void test_atc(void)
{
    Fixture *f = setup_ats(DEV_ATS);

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    g_assert_cmphex(read_as(f, 1, A, true), ==, OLD(1));
    g_assert_cmpuint(counter(f, "ats-request"), ==, 1);
    g_assert_cmpuint(counter(f, "ats-translated"), ==, 2);
    g_assert_cmpuint(qtest_readl(f->qts, queue_reg(f, 1, SVATD_Q_ATC_HITS)),
                     ==, 1);
    g_assert_cmpuint(qtest_readl(f->qts, queue_reg(f, 1, SVATD_Q_ATC_MISSES)),
                     ==, 1);

    make_new(f, 1);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(read_as(f, 1, A, true), ==, OLD(1));
    atc_inv(f, CMD0_SSV(1), A, 0);
    g_assert_cmphex(read_as(f, 1, A, false), ==, NEW(1));
    g_assert_cmphex(read_as(f, 1, A, true), ==, NEW(1));
    g_assert_cmpuint(qtest_readl(f->qts, f->ctrl.addr + SVATD_ATC_ENTRIES), ==,
                     1);
    g_assert_cmpuint(qtest_readl(f->qts, f->ctrl.addr + SVATD_ATC_INVS), ==, 1);
    g_assert_cmpuint(qtest_readl(f->qts, f->ctrl.addr + SVATD_ATC_DROPS), ==,
                     1);
    expect_no_event(f);
    teardown(f);
}

/* What CMD_ATC_INV names goes, all else stays */
static void test_atc_inv(void)
{
    static const struct {
        uint64_t cmd0, va;
        unsigned int size;
        unsigned int goes;              /* a bit per PASID, 0 is none */
        bool next_goes;
    } cases[] = {
        { CMD0_SSV(1), A, 0, 0x2, false },
        { CMD0_SSV(2), A, 0, 0x4, false },
        { CMD0_SSV(1), A, 1, 0x2, false },
        { CMD0_SSV(1), A_NEXT, 0, 0, true },
        { CMD0_SSV(1), A, 2, 0x2, true },
        { CMD0_SSV(1), A & ~0xffffull, 4, 0x2, true },
        { CMD0_SSV(1), 0, ATC_INV_ALL, 0x2, true },
        { CMD0_SSV(3), 0, ATC_INV_ALL, 0, false },
        { CMD0_SSV(3) | CMD0_G, A, 0, 0x6, false },
        { CMD0_SSV(1) | CMD0_G, A, 0, 0x6, false },
        { 0, A, 0, 0x7, false },
        { CMD0_G, A, 0, 0x7, false },   /* G is ignored without SSV */
        { 0, 0, ATC_INV_ALL, 0x7, true },
        { 0, UNMAPPED, 0, 0, false },
    };
    Fixture *f = setup_ats(DEV_ATS);

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        atc_inv(f, 0, 0, ATC_INV_ALL);
        for (int p = 0; p < PASIDS; p++) {
            read_as(f, p, A, false);
            read_as(f, p, A, true);
        }
        read_as(f, 1, A_NEXT, false);
        /* A page of an aligned pair begins at an odd number: A & A_NEXT */
        atc_inv(f, cases[i].cmd0, cases[i].va, cases[i].size);
        for (int p = 0; p < PASIDS; p++) {
            read_as(f, p, A, !(cases[i].goes & (1 << p)));
        }
        read_as(f, 1, A_NEXT, !cases[i].next_goes);
    }

    /* To another function, or while the SMMU is off: nothing happens */
    qsmmu_cmd(&f->smmu, CMD_ATC_INV | CMD0_SID(DEVFN + 1), ATC_INV_ALL);
    read_as(f, 1, A, true);
    teardown(f);
}

/* One entry per block, and an invalidation inside of it is enough */
static void test_atc_block(void)
{
    Fixture *f = setup_ats(DEV_ATS);
    uint64_t pa = qsmmu_alloc(&f->smmu, 2 << 20);

    qtest_writeq(f->qts, pa + 0x5000, 0x55);
    qsmmu_map(&f->smmu, f->pgd[1], BLOCK_VA, pa, 2, QSMMU_PTE_ATTRS);
    read_as(f, 1, BLOCK_VA, false);
    g_assert_cmphex(read_as(f, 1, BLOCK_VA + 0x5000, true), ==, 0x55);
    atc_inv(f, CMD0_SSV(1), BLOCK_VA + 0x7000, 0);
    read_as(f, 1, BLOCK_VA, false);
    teardown(f);
}

/* A read-only translation is of no use for a write */
static void test_atc_permission(void)
{
    Fixture *f = setup_ats(DEV_ATS);

    qtest_writeq(f->qts, f->pte[1], f->old[1] | QSMMU_PTE_ATTRS |
                 QSMMU_PTE_PAGE | QSMMU_PTE_RO);
    read_as(f, 1, A, false);
    g_assert_cmphex(try_access(f, 1, A, true), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_WRITE);
    expect_event(f, QSMMU_EVT_F_PERMISSION, A);
    read_as(f, 1, A, true);

    /* Made writable: the device has to ask again, and needs no invalidation */
    qtest_writeq(f->qts, f->pte[1], f->old[1] | QSMMU_PTE_ATTRS |
                 QSMMU_PTE_PAGE);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(try_access(f, 1, A, true), ==, SVATD_ST_OK);
    g_assert_cmphex(qtest_readq(f->qts, f->old[1]), ==, ~0ull);
    teardown(f);
}

/* A request that is denied is no event; the access that follows is */
static void test_ats_fault(void)
{
    Fixture *f = setup_ats(DEV_ATS);

    g_assert_cmphex(try_access(f, 1, UNMAPPED, false), ==, SVATD_ST_FAULT);
    expect_event(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED);
    expect_no_event(f);
    g_assert_cmpuint(counter(f, "ats-request"), ==, 1);
    g_assert_cmpuint(counter(f, "ats-translated"), ==, 0);
    teardown(f);
}

/* STE.EATS says whether requests and translated accesses are allowed */
static void test_eats(void)
{
    Fixture *f = setup_ats(DEV_ATS);

    read_as(f, 1, A, false);
    write_ste(f, STE1_EATS(0));
    /* The STE is still cached */
    read_as(f, 1, A, true);
    expect_no_event(f);
    qsmmu_cfgi_ste(&f->smmu, DEVFN);

    g_assert_cmphex(try_access(f, 1, A, false), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_ATC);
    expect_event(f, QSMMU_EVT_F_TRANSL_FORBIDDEN, f->old[1]);
    /* A request is refused; the device goes on without */
    read_as(f, 1, A_NEXT, false);
    expect_event(f, QSMMU_EVT_F_BAD_ATS_TREQ, A_NEXT);
    expect_no_event(f);

    /* Unless nobody checks */
    qsmmu_writel(&f->smmu, QSMMU_CR0,
                 qsmmu_readl(&f->smmu, QSMMU_CR0) & ~CR0_ATSCHK);
    g_assert_cmphex(read_as(f, 1, A, true), ==, OLD(1));
    expect_no_event(f);

    /* Split-stage ATS is not implemented */
    write_ste(f, STE1_EATS(2));
    qsmmu_cfgi_ste(&f->smmu, DEVFN);
    g_assert_cmphex(try_access(f, 2, A, false), ==, SVATD_ST_FAULT);
    expect_event(f, QSMMU_EVT_F_BAD_ATS_TREQ, A);
    expect_event(f, QSMMU_EVT_C_BAD_STE, 0);

    /* An STE that aborts does so silently */
    qsmmu_writel(&f->smmu, QSMMU_CR0,
                 qsmmu_readl(&f->smmu, QSMMU_CR0) | CR0_ATSCHK);
    qsmmu_write_ste(&f->smmu, DEVFN, QSMMU_STE0_V |
                    QSMMU_STE0_CONFIG(QSMMU_STE_ABORT), STE1_EATS(1));
    qsmmu_cfgi_ste(&f->smmu, DEVFN);
    g_assert_cmphex(try_access(f, 1, A, false), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_ATC);
    g_assert_cmphex(try_access(f, 2, A, false), ==, SVATD_ST_FAULT);
    expect_no_event(f);

    /* One that lets all pass lets only untranslated accesses pass */
    qsmmu_write_ste(&f->smmu, DEVFN, QSMMU_STE0_V |
                    QSMMU_STE0_CONFIG(QSMMU_STE_BYPASS), STE1_EATS(1));
    qsmmu_cfgi_ste(&f->smmu, DEVFN);
    g_assert_cmphex(try_access(f, 1, A, false), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_ATC);
    expect_event(f, QSMMU_EVT_F_TRANSL_FORBIDDEN, f->old[1]);
    g_assert_cmphex(read_as(f, 0, f->next[2], false), ==, NEXT(2));
    expect_event(f, QSMMU_EVT_F_BAD_ATS_TREQ, f->next[2]);
    expect_no_event(f);
    teardown(f);
}

/* SMMUEN=0: neither is allowed */
static void test_ats_smmuen(void)
{
    Fixture *f = setup_ats(DEV_ATS);

    read_as(f, 1, A, false);
    qsmmu_writel(&f->smmu, QSMMU_CR0,
                 qsmmu_readl(&f->smmu, QSMMU_CR0) & ~QSMMU_CR0_SMMUEN);
    g_assert_cmphex(try_access(f, 1, A, false), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_ATC);
    expect_event(f, QSMMU_EVT_F_TRANSL_FORBIDDEN, f->old[1]);
    g_assert_cmphex(read_as(f, 0, f->next[2], false), ==, NEXT(2));
    expect_event(f, QSMMU_EVT_F_BAD_ATS_TREQ, f->next[2]);
    expect_no_event(f);
    teardown(f);
}

/* Without IDR0.ATS all is as if EATS were 0 */
static void test_no_ats(void)
{
    Fixture *f = setup(DEV_ATS, STE1_EATS(1), 0);

    g_assert_false(qsmmu_readl(&f->smmu, QSMMU_IDR0) & IDR0_ATS);
    ats_enable(f, true);
    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    expect_event(f, QSMMU_EVT_F_BAD_ATS_TREQ, A);
    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    teardown(f);
}

/* What the device does until ATS is on, and when it is turned off */
static void test_ats_enable(void)
{
    Fixture *f = setup_ats(DEV_ATS);

    g_assert_true(qtest_readl(f->qts, f->ctrl.addr + SVATD_CAPS) &
                  SVATD_CAPS_ATS);
    read_as(f, 1, A, false);
    ats_enable(f, false);
    read_as(f, 1, A, false);
    read_as(f, 1, A, false);
    g_assert_cmpuint(counter(f, "ats-request"), ==, 1);
    ats_enable(f, true);
    read_as(f, 1, A, false);
    read_as(f, 1, A, true);
    teardown(f);
}

/* A full ATC is emptied */
static void test_atc_size(void)
{
    Fixture *f = setup_ats(DEV_ATS ",x-atc-size=1");

    read_as(f, 1, A, false);
    read_as(f, 1, A, true);
    read_as(f, 1, A_NEXT, false);
    read_as(f, 1, A, false);
    teardown(f);
}

/*
 * T2: the ATC is filled again from an IOTLB entry that a broadcast is about to
 * drop. Who waits for the broadcast first is safe.
 */
static void test_delay(const void *data)
{
    bool wait = GPOINTER_TO_INT(data);
    Fixture *f = setup_ats("-global arm-smmuv3.btm=on "
                           "-global arm-smmuv3.x-btm-delay=on "
                           DEV_ATS ",x-ats-refill=on");

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    make_new(f, 1);
    broadcast_asid(f, 11);
    g_assert_cmpuint(counter(f, "broadcast-asid"), ==, 1);
    g_assert_cmpuint(counter(f, "drop-broadcast"), ==, 0);
    if (wait) {
        dsb(f);
        g_assert_cmpuint(counter(f, "drop-broadcast"), ==, 1);
    }
    atc_inv(f, CMD0_SSV(1), A, 0);
    dsb(f);
    g_assert_cmpuint(counter(f, "drop-broadcast"), ==, 1);
    g_assert_cmphex(read_as(f, 1, A, true), ==, wait ? NEW(1) : OLD(1));

    /* One DSB completes all that came before */
    broadcast_asid(f, 10);
    broadcast_asid(f, 11);
    broadcast_asid(f, 12);
    dsb(f);
    g_assert_cmpuint(counter(f, "drop-broadcast"), ==, wait ? 2 : 1);
    dsb(f);
    teardown(f);
}

/* Stalls */

#define DEV "-device sva-testdev,addr=1"

static Fixture *setup_stall(const char *args)
{
    g_autofree char *all =
        g_strdup_printf("-global arm-smmuv3.stall-model=0 %s", args);
    Fixture *f = setup(all, 0, QSMMU_CD0_S);

    g_assert_cmphex(IDR0_STALL_MODEL(qsmmu_readl(&f->smmu, QSMMU_IDR0)), ==, 0);
    return f;
}

static uint16_t expect_stall(Fixture *f, uint8_t type, uint64_t addr, bool rnw)
{
    QSMMUEvent evt;

    g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
    g_assert_cmphex(evt.type, ==, type);
    g_assert_cmphex(evt.sid, ==, DEVFN);
    g_assert_cmphex(evt.addr, ==, addr);
    g_assert_true(evt.stall);
    g_assert_true(evt.rnw == rnw);
    return evt.stag;
}

static void resume(Fixture *f, uint32_t sid, uint16_t stag, uint64_t action)
{
    qsmmu_cmd(&f->smmu, CMD_RESUME | CMD0_SID(sid) | action, stag);
    step(f);
}

static void map_unmapped(Fixture *f, int p)
{
    qsmmu_map(&f->smmu, f->pgd[p], UNMAPPED, f->old[p], 3, QSMMU_PTE_ATTRS);
}

static void test_stall_retry(void)
{
    Fixture *f = setup_stall(DEV);
    uint16_t stag;

    g_assert_cmphex(try_access(f, 1, UNMAPPED, false), ==, SVATD_ST_RUNNING);
    stag = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, true);
    g_assert_cmpuint(counter(f, "stall-held"), ==, 1);
    g_assert_cmphex(qtest_readl(f->qts, queue_reg(f, 1, SVATD_Q_STALLED)), ==,
                    1);

    /* Others go on: another slot, another queue */
    begin(f, 1, 1, A, false);
    g_assert_cmphex(status(f, 1, 1), ==, SVATD_ST_MISMATCH);
    g_assert_cmphex(read_as(f, 2, A, false), ==, OLD(2));

    /* Answers that are not for it */
    resume(f, DEVFN, stag + 1, CMD0_ABORT);
    resume(f, DEVFN + 1, stag, CMD0_ABORT);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_RUNNING);

    /* It is not tried again before it is told to */
    map_unmapped(f, 1);
    step(f);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_RUNNING);
    resume(f, DEVFN, stag, CMD0_RETRY);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_MISMATCH);
    g_assert_cmphex(value(f, 1, 0), ==, OLD(1));
    g_assert_cmpuint(counter(f, "stall"), ==, 1);
    g_assert_cmpuint(counter(f, "stall-retry"), ==, 1);
    g_assert_cmpuint(counter(f, "stall-held"), ==, 0);
    g_assert_cmpuint(qtest_readl(f->qts, queue_reg(f, 1, SVATD_Q_STALLS)), ==,
                     1);
    expect_no_event(f);

    /* The tag is history */
    resume(f, DEVFN, stag, CMD0_RETRY);
    teardown(f);
}

/* Retried too early it stalls again, as a new one */
static void test_stall_again(void)
{
    Fixture *f = setup_stall(DEV);
    uint16_t stag, again;

    try_access(f, 1, UNMAPPED, true);
    stag = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, false);
    resume(f, DEVFN, stag, CMD0_RETRY);
    again = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, false);
    map_unmapped(f, 1);
    resume(f, DEVFN, again, CMD0_RETRY);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_OK);
    g_assert_cmphex(qtest_readq(f->qts, f->old[1]), ==, ~0ull);
    teardown(f);
}

/* Both ways to terminate are aborts: IDR0.TERM_MODEL is 1 */
static void test_stall_terminate(const void *data)
{
    uint64_t action = GPOINTER_TO_INT(data) ? CMD0_ABORT : 0;
    Fixture *f = setup_stall(DEV);
    uint16_t stag;

    try_access(f, 1, UNMAPPED, true);
    stag = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, false);
    resume(f, DEVFN, stag, action);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_FAULT | SVATD_STATUS_WRITE);
    g_assert_cmphex(qtest_readq(f->qts, slot_reg(f, 1, 0, SVATD_SLOT_FADDR)),
                    ==, UNMAPPED);
    g_assert_cmpuint(counter(f, "stall-term"), ==, 1);
    expect_no_event(f);
    teardown(f);
}

/* A read-only page stalls a write, and lets reads pass */
static void test_stall_permission(void)
{
    Fixture *f = setup_stall(DEV);
    uint16_t stag;

    qtest_writeq(f->qts, f->pte[1], f->old[1] | QSMMU_PTE_ATTRS |
                 QSMMU_PTE_PAGE | QSMMU_PTE_RO);
    read_as(f, 1, A, false);
    try_access(f, 1, A, true);
    stag = expect_stall(f, QSMMU_EVT_F_PERMISSION, A, false);
    qtest_writeq(f->qts, f->pte[1], f->old[1] | QSMMU_PTE_ATTRS |
                 QSMMU_PTE_PAGE);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    resume(f, DEVFN, stag, CMD0_RETRY);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_OK);
    teardown(f);
}

static int stall_many(Fixture *f)
{
    int n = 0;

    for (int q = PASIDS; q < QUEUES; q++) {
        queue_start(f, q, 1);
        for (int slot = 0; slot < SVATD_NUM_SLOTS; slot++, n++) {
            begin(f, q, slot, UNMAPPED, false);
        }
    }
    return n;
}

static void expect_all(Fixture *f, uint32_t expected)
{
    for (int q = PASIDS; q < QUEUES; q++) {
        for (int slot = 0; slot < SVATD_NUM_SLOTS; slot++) {
            g_assert_cmphex(status(f, q, slot), ==, expected);
        }
    }
    g_assert_cmpuint(counter(f, "stall-held"), ==, 0);
}

/*
 * More stalls than the event queue, or the SMMU, has room for: those that found
 * none are not lost.
 */
static void test_stall_full(const void *data)
{
    int max = GPOINTER_TO_INT(data);
    g_autofree char *args = g_strdup_printf(
        DEV " -global arm-smmuv3.x-stall-max=%d", max);
    Fixture *f = setup_stall(args);
    int n = stall_many(f), seen = 0;
    QSMMUEvent evt;

    g_assert_cmpuint(counter(f, "stall-held"), ==, n);
    g_assert_cmpuint(counter(f, "stall"), ==, MIN(EVENTQ_ENTRIES, max));
    g_assert_cmpuint(counter(f, "stall-wait"), ==,
                     n - MIN(EVENTQ_ENTRIES, max));
    g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_GERROR), ==, 0);

    map_unmapped(f, 1);
    while (qsmmu_pop_event(&f->smmu, &evt)) {
        g_assert_cmphex(evt.type, ==, QSMMU_EVT_F_TRANSLATION);
        g_assert_true(evt.stall);
        resume(f, DEVFN, evt.stag, CMD0_RETRY);
        seen++;
    }
    expect_all(f, SVATD_ST_MISMATCH);
    /* They needed no event any more */
    g_assert_cmpint(seen, ==, MIN(EVENTQ_ENTRIES, max));
    teardown(f);
}

/* Without an event queue they wait until there is one */
static void test_stall_eventqen(void)
{
    Fixture *f = setup_stall(DEV);
    uint32_t cr0 = qsmmu_readl(&f->smmu, QSMMU_CR0);

    qsmmu_writel(&f->smmu, QSMMU_CR0, cr0 & ~QSMMU_CR0_EVENTQEN);
    try_access(f, 1, UNMAPPED, false);
    g_assert_cmpuint(counter(f, "stall-wait"), ==, 1);
    expect_no_event(f);
    qsmmu_writel(&f->smmu, QSMMU_CR0, cr0);
    step(f);
    expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, true);
    teardown(f);
}

/* CMD_STALL_TERM ends all of a stream, events or none; so does SMMUEN=0 */
static void test_stall_term(const void *data)
{
    Fixture *f = setup_stall(DEV);

    stall_many(f);
    qsmmu_cmd(&f->smmu, CMD_STALL_TERM | CMD0_SID(DEVFN + 1), 0);
    step(f);
    g_assert_cmpuint(counter(f, "stall-term"), ==, 0);
    if (GPOINTER_TO_INT(data)) {
        qsmmu_writel(&f->smmu, QSMMU_CR0, QSMMU_CR0_CMDQEN);
    } else {
        qsmmu_cmd(&f->smmu, CMD_STALL_TERM | CMD0_SID(DEVFN), 0);
    }
    step(f);
    expect_all(f, SVATD_ST_FAULT);
    teardown(f);
}

/* A queue that is disabled is busy until the SMMU lets go */
static void test_stall_disable(void)
{
    Fixture *f = setup_stall(DEV);
    uint16_t stag;

    try_access(f, 1, UNMAPPED, false);
    stag = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, true);
    qctl_write(f, 1, SVATD_QCTL_CTL, SVATD_QCTL_CTL_PASID);
    g_assert_cmphex(qctl_read(f, 1, SVATD_QCTL_STATE), ==,
                    SVATD_QCTL_STATE_BUSY);
    /* Not to be enabled, or given to another PASID, meanwhile */
    qctl_write(f, 1, SVATD_QCTL_PASID, 2);
    qctl_write(f, 1, SVATD_QCTL_CTL, SVATD_QCTL_CTL_ENABLE);
    g_assert_cmphex(qctl_read(f, 1, SVATD_QCTL_PASID), ==, 1);
    g_assert_cmphex(qctl_read(f, 1, SVATD_QCTL_CTL), ==, SVATD_QCTL_CTL_PASID);

    map_unmapped(f, 1);
    resume(f, DEVFN, stag, CMD0_RETRY);
    g_assert_cmphex(qctl_read(f, 1, SVATD_QCTL_STATE), ==, 0);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_STOPPED);
    teardown(f);
}

/* SVATD_OP_STOP waits likewise */
static void test_stall_stop(void)
{
    Fixture *f = setup_stall(DEV);
    uint16_t stag;

    try_access(f, 1, UNMAPPED, false);
    stag = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, true);
    qtest_writel(f->qts, slot_reg(f, 1, 0, SVATD_SLOT_CMD), SVATD_OP_STOP);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_RUNNING);
    resume(f, DEVFN, stag, CMD0_ABORT);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_STOPPED);
    teardown(f);
}

/* With both: a request never stalls, the access that follows does */
static void test_stall_ats(void)
{
    Fixture *f = setup("-global arm-smmuv3.stall-model=0 " SMMU_ATS DEV_ATS,
                       STE1_EATS(1), QSMMU_CD0_S);
    uint16_t stag;

    ats_enable(f, true);
    g_assert_cmphex(try_access(f, 1, UNMAPPED, false), ==, SVATD_ST_RUNNING);
    stag = expect_stall(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED, true);
    expect_no_event(f);
    map_unmapped(f, 1);
    resume(f, DEVFN, stag, CMD0_RETRY);
    g_assert_cmphex(status(f, 1, 0), ==, SVATD_ST_MISMATCH);
    read_as(f, 1, UNMAPPED, true);
    teardown(f);
}

static void expect_overflow(Fixture *f, bool prod, bool cons)
{
    uint32_t p = qsmmu_readl(&f->smmu, QSMMU_EVENTQ_PROD);
    uint32_t c = qsmmu_readl(&f->smmu, QSMMU_EVENTQ_CONS);

    g_assert_true(!!(p & QSMMU_EVENTQ_OVERFLOW) == prod);
    g_assert_true(!!(c & QSMMU_EVENTQ_OVERFLOW) == cons);
    g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_GERROR), ==, 0);
}

/* Events of terminated accesses are lost, which shows once */
static void test_overflow(void)
{
    Fixture *f = setup(DEV, 0, 0);
    int n = 0;

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < EVENTQ_ENTRIES; i++) {
            try_access(f, 1, UNMAPPED, false);
        }
        expect_overflow(f, round, round);
        try_access(f, 1, UNMAPPED, false);
        try_access(f, 1, UNMAPPED, false);
        expect_overflow(f, !round, round);
        for (n = 0; n < EVENTQ_ENTRIES; n++) {
            expect_event(f, QSMMU_EVT_F_TRANSLATION, UNMAPPED);
        }
        expect_no_event(f);
        qsmmu_writel(&f->smmu, QSMMU_EVENTQ_CONS,
                     qsmmu_readl(&f->smmu, QSMMU_EVENTQ_PROD));
        expect_overflow(f, !round, !round);
    }
    teardown(f);
}

/* Which configurations are legal depends on IDR0.STALL_MODEL */
static void test_stall_config(void)
{
    static const struct {
        int model;
        uint64_t cd_s, s1stalld;
        uint8_t event;
        bool stall;
    } cases[] = {
        { 0, 0, 0, QSMMU_EVT_F_TRANSLATION, false },
        { 0, QSMMU_CD0_S, 0, QSMMU_EVT_F_TRANSLATION, true },
        { 0, 0, STE1_S1STALLD, QSMMU_EVT_F_TRANSLATION, false },
        { 0, QSMMU_CD0_S, STE1_S1STALLD, QSMMU_EVT_C_BAD_CD, false },
        { 1, 0, 0, QSMMU_EVT_F_TRANSLATION, false },
        { 1, QSMMU_CD0_S, 0, QSMMU_EVT_C_BAD_CD, false },
        { 1, 0, STE1_S1STALLD, QSMMU_EVT_C_BAD_STE, false },
        { 2, 0, 0, QSMMU_EVT_C_BAD_CD, false },
        { 2, QSMMU_CD0_S, 0, QSMMU_EVT_F_TRANSLATION, true },
        { 2, QSMMU_CD0_S, STE1_S1STALLD, QSMMU_EVT_C_BAD_STE, false },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *args = g_strdup_printf(
            DEV " -global arm-smmuv3.stall-model=%d", cases[i].model);
        Fixture *f = setup(args, cases[i].s1stalld, cases[i].cd_s);
        uint32_t expected = SVATD_ST_FAULT;
        QSMMUEvent evt;

        if (cases[i].stall) {
            expected = SVATD_ST_RUNNING;
        }
        g_assert_cmphex(try_access(f, 1, UNMAPPED, false), ==, expected);
        g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
        g_assert_cmphex(evt.type, ==, cases[i].event);
        g_assert_true(evt.stall == cases[i].stall);
        teardown(f);
    }
}

/*
 * What an SMMU may do but need not: each test is run with the property that has
 * it do so, and without, where the same mistake of the driver goes unnoticed.
 */

#define CMD_SYNC        0x46
#define CMD_TLBI_NH_ASID 0x11
#define ON(prop)        "-global arm-smmuv3." prop "=on "
#define CD0_HD          (1ull << 42)
#define PTE_DBM         (1ull << 51)
#define PTE_CONT        (1ull << 52)
#define APTABLE_RO      (2ull << 61)

static void cmd_sync(Fixture *f)
{
    qsmmu_cmd(&f->smmu, CMD_SYNC, 0);
}

static Fixture *setup_may(bool on, const char *prop)
{
    g_autofree char *all = g_strdup_printf("%s" DEV, on ? prop : "");

    return setup(all, 0, 0);
}

static void make_next_new(Fixture *f, int p)
{
    qtest_writeq(f->qts, f->next_pte[p], f->new[p] | QSMMU_PTE_ATTRS |
                 QSMMU_PTE_PAGE);
}

/* Consumed at once, and without effect until CMD_SYNC */
static void test_cmd_delay(const void *data)
{
    int mode = GPOINTER_TO_INT(data);
    g_autofree char *prop =
        g_strdup_printf("-global arm-smmuv3.x-cmd-delay=%d ", mode);
    Fixture *f = setup_may(true, prop);

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    make_new(f, 1);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    g_assert_cmpuint(counter(f, "cmd-tlbi-nh-asid"), ==, 1);
    g_assert_cmpuint(counter(f, "drop-cmd"), ==, !mode);
    g_assert_cmphex(read_as(f, 1, A, false), ==, mode ? OLD(1) : NEW(1));

    /* This comes in after the command was consumed, and stays */
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEXT(1));
    make_next_new(f, 1);
    cmd_sync(f);
    g_assert_cmphex(read_as(f, 1, A, false), ==, NEW(1));
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEXT(1));

    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    cmd_sync(f);
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEW(1));
    teardown(f);
}

/*
 * A CD gets other tables. Without a CMD_SYNC between CFGI and TLBI, the TLB is
 * filled by way of the old ones again.
 */
static void test_cmd_reorder(const void *data)
{
    int how = GPOINTER_TO_INT(data);
    bool reorder = how & 1, sync = how & 2;
    g_autofree char *prop =
        g_strdup_printf(ON("x-prefetch") "-global arm-smmuv3.x-cmd-delay=%d ",
                        reorder ? 2 : 1);
    Fixture *f = setup_may(true, prop);

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    qsmmu_write_cd(&f->smmu, &f->tab, 1, f->pgd[2], 11);
    qsmmu_cfgi_cd(&f->smmu, DEVFN, 1);
    if (sync) {
        cmd_sync(f);
    }
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    cmd_sync(f);
    g_assert_cmphex(read_as(f, 1, A, false), ==,
                    reorder && !sync ? OLD(1) : OLD(2));
    teardown(f);
}

/* The same between the TLBI and CMD_ATC_INV */
static void test_cmd_reorder_atc(const void *data)
{
    bool sync = data;
    Fixture *f = setup_ats("-global arm-smmuv3.x-cmd-delay=2 "
                           DEV_ATS ",x-ats-refill=on");

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    make_new(f, 1);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    if (sync) {
        cmd_sync(f);
    }
    atc_inv(f, CMD0_SSV(1), A, 0);
    cmd_sync(f);
    g_assert_cmphex(read_as(f, 1, A, true), ==, sync ? NEW(1) : OLD(1));
    teardown(f);
}

/* Illegal commands are found when they are consumed */
static void test_cmd_delay_illegal(void)
{
    Fixture *f = setup_may(true, "-global arm-smmuv3.x-cmd-delay=2 ");
    uint32_t prod = qsmmu_readl(&f->smmu, QSMMU_CMDQ_PROD);

    /* CMD_CFGI_STE with SSec=1 */
    qtest_writeq(f->qts, f->smmu.cmdq + prod * 16, 0x3 | 1ull << 10);
    qtest_writeq(f->qts, f->smmu.cmdq + prod * 16 + 8, 1);
    qsmmu_writel(&f->smmu, QSMMU_CMDQ_PROD, prod + 1);
    g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_CMDQ_CONS), ==,
                    prod | 1 << 24);
    g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_GERROR) ^
                    qsmmu_readl(&f->smmu, QSMMU_GERRORN), ==, 1);
    teardown(f);
}

/* A broadcast drops what is older than it, at the DSB */
static void test_delay_order(void)
{
    Fixture *f = setup_may(true, ON("btm") ON("x-btm-delay"));

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    make_new(f, 1);
    broadcast_asid(f, 11);
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEXT(1));
    make_next_new(f, 1);
    dsb(f);
    g_assert_cmphex(read_as(f, 1, A, false), ==, NEW(1));
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEXT(1));
    teardown(f);
}

/* An invalidation that comes before what it is for */
static void test_prefetch_inv(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, ON("x-prefetch"));

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    make_new(f, 1);
    g_assert_cmphex(read_as(f, 1, A, false), ==, on ? OLD(1) : NEW(1));
    g_assert_cmpint(counter(f, "prefetch") > 0, ==, on);

    /* In the right order it is fine */
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    g_assert_cmphex(read_as(f, 1, A, false), ==, NEW(1));
    teardown(f);
}

/* The order "TLBI, store, DSB" */
static void test_prefetch_btm(const void *data)
{
    bool on = data;
    g_autofree char *prop = g_strdup_printf(ON("btm") ON("x-btm-delay") "%s",
                                            on ? ON("x-prefetch") : "");
    Fixture *f = setup_may(true, prop);

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    broadcast_asid(f, 11);
    make_new(f, 1);
    dsb(f);
    g_assert_cmphex(read_as(f, 1, A, false), ==, on ? OLD(1) : NEW(1));
    broadcast_asid(f, 11);
    dsb(f);
    g_assert_cmphex(read_as(f, 1, A, false), ==, NEW(1));
    teardown(f);
}

/* A page and a PASID that no device has ever used */
static void test_prefetch_walk(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, ON("x-prefetch"));

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    for (int i = 0; i < 200; i++) {
        step(f);
    }
    make_next_new(f, 1);
    make_new(f, 2);
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, on ? NEXT(1) : NEW(1));
    g_assert_cmphex(read_as(f, 2, A, false), ==, on ? OLD(2) : NEW(2));
    teardown(f);
}

/* A page becomes part of a block, and nobody says so */
static void test_overlap_block(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, ON("x-overlap"));
    uint64_t block = qsmmu_alloc(&f->smmu, 0x200000);

    qtest_writeq(f->qts, block + (A & 0x1fffff), NEW(1));
    qtest_writeq(f->qts, block + (A & 0x1fffff) + PAGE, NEXT(2));
    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    qsmmu_map(&f->smmu, f->pgd[1], A & ~0x1fffffull, block, 2,
              QSMMU_PTE_ATTRS);
    g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEXT(2));
    g_assert_cmphex(read_as(f, 1, A, false), ==, on ? OLD(1) : NEW(1));
    g_assert_cmpint(counter(f, "conflict") > 0, ==, on);
    qsmmu_tlbi_nh_va(&f->smmu, 11, A, (QSMMURange) {});
    g_assert_cmphex(read_as(f, 1, A, false), ==, NEW(1));
    teardown(f);
}

/* One of the contiguous descriptors changes */
static void test_overlap_contig(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, ON("x-overlap"));
    uint64_t pages = qsmmu_alloc(&f->smmu, 16 * PAGE), pte = 0;

    for (int i = 0; i < 16; i++) {
        qtest_writeq(f->qts, pages + i * PAGE, 0x100 + i);
        pte = qsmmu_map(&f->smmu, f->pgd[1], BLOCK_VA + i * PAGE,
                        pages + i * PAGE, 3, QSMMU_PTE_ATTRS | PTE_CONT);
    }
    g_assert_cmphex(read_as(f, 1, BLOCK_VA + PAGE, false), ==, 0x101);
    qtest_writeq(f->qts, pte, f->new[1] | QSMMU_PTE_ATTRS | QSMMU_PTE_PAGE);
    g_assert_cmphex(read_as(f, 1, BLOCK_VA + 15 * PAGE, false), ==,
                    on ? 0x10f : NEW(1));
    /* The entry goes with any of its addresses */
    qsmmu_tlbi_nh_va(&f->smmu, 11, BLOCK_VA + 3 * PAGE, (QSMMURange) {});
    g_assert_cmphex(read_as(f, 1, BLOCK_VA + 15 * PAGE, false), ==, NEW(1));
    teardown(f);
}

/* A page becomes writable, and nobody says so */
static void test_fault_fill(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, ON("x-fault-fill"));
    uint64_t pte = f->old[1] | QSMMU_PTE_ATTRS | QSMMU_PTE_PAGE;

    qtest_writeq(f->qts, f->pte[1], pte | QSMMU_PTE_RO);
    g_assert_cmphex(try_access(f, 1, A, true), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_WRITE);
    expect_event(f, QSMMU_EVT_F_PERMISSION, A);
    qtest_writeq(f->qts, f->pte[1], pte);
    g_assert_cmphex(try_access(f, 1, A, true), ==,
                    on ? SVATD_ST_FAULT | SVATD_STATUS_WRITE : SVATD_ST_OK);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    g_assert_cmphex(try_access(f, 1, A, true), ==, SVATD_ST_OK);
    teardown(f);
}

/* AP[1] and APTable */
static void test_unprivileged(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, ON("x-unprivileged"));
    uint64_t l1 = f->pgd[2] + (A >> 30 & 0x1ff) * 8;

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    qtest_writeq(f->qts, f->next_pte[1], qtest_readq(f->qts, f->next_pte[1]) &
                 ~QSMMU_PTE_USER);
    if (on) {
        g_assert_cmphex(try_access(f, 1, A_NEXT, false), ==, SVATD_ST_FAULT);
        expect_event(f, QSMMU_EVT_F_PERMISSION, A_NEXT);
    } else {
        g_assert_cmphex(read_as(f, 1, A_NEXT, false), ==, NEXT(1));
    }

    /* What reading has cached does not let writes pass */
    qtest_writeq(f->qts, l1, qtest_readq(f->qts, l1) | APTABLE_RO);
    g_assert_cmphex(read_as(f, 2, A, false), ==, OLD(2));
    g_assert_cmphex(try_access(f, 2, A, true), ==,
                    SVATD_ST_FAULT | SVATD_STATUS_WRITE);
    expect_event(f, QSMMU_EVT_F_PERMISSION, A);
    teardown(f);
}

/* The Access flag and the dirty state, by hardware */
static void test_httu(const void *data)
{
    int httu = GPOINTER_TO_INT(data);
    g_autofree char *args = g_strdup_printf("-global arm-smmuv3.httu=%d " DEV,
                                            httu);
    Fixture *f = setup(args, 0, httu ? QSMMU_CD0_HA |
                                       (httu > 1 ? CD0_HD : 0) : 0);
    uint64_t pte = f->old[1] | QSMMU_PTE_ATTRS | QSMMU_PTE_PAGE;
    uint64_t clean = pte | QSMMU_PTE_RO | PTE_DBM;

    g_assert_cmphex(qsmmu_readl(&f->smmu, QSMMU_IDR0) >> 6 & 3, ==, httu);
    qtest_writeq(f->qts, f->pte[1], pte & ~QSMMU_PTE_AF);
    if (httu) {
        g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
        g_assert_cmphex(qtest_readq(f->qts, f->pte[1]), ==, pte);
    } else {
        g_assert_cmphex(try_access(f, 1, A, false), ==, SVATD_ST_FAULT);
        expect_event(f, QSMMU_EVT_F_ACCESS, A);
        g_assert_cmphex(qtest_readq(f->qts, f->pte[1]), ==,
                        pte & ~QSMMU_PTE_AF);
    }

    qtest_writeq(f->qts, f->pte[1], clean);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    g_assert_cmphex(qtest_readq(f->qts, f->pte[1]), ==, clean);
    if (httu > 1) {
        g_assert_cmphex(try_access(f, 1, A, true), ==, SVATD_ST_OK);
        g_assert_cmphex(qtest_readq(f->qts, f->pte[1]), ==,
                        clean & ~QSMMU_PTE_RO);
        /* It is dirty now, as far as the TLB knows */
        qtest_writeq(f->qts, f->pte[1], clean);
        g_assert_cmphex(try_access(f, 1, A, true), ==, SVATD_ST_OK);
        g_assert_cmphex(qtest_readq(f->qts, f->pte[1]), ==, clean);
    } else {
        g_assert_cmphex(try_access(f, 1, A, true), ==,
                        SVATD_ST_FAULT | SVATD_STATUS_WRITE);
        expect_event(f, QSMMU_EVT_F_PERMISSION, A);
    }
    teardown(f);
}

/* Structures that become valid, and L1CDs, need commands as well */
static void test_config_cache(const void *data)
{
    bool on = data;
    Fixture *f = setup_may(on, "-global arm-smmuv3.ssidsize=7 "
                           ON("x-config-cache"));
    QSMMUCDTable tab;

    if (!on) {
        teardown(f);
        f = setup("-global arm-smmuv3.ssidsize=7 " DEV, 0, 0);
    }
    queue_start(f, 3, 5);
    g_assert_cmphex(try_access(f, 3, A, false), ==, SVATD_ST_FAULT);
    expect_event(f, QSMMU_EVT_C_BAD_CD, 0);
    qsmmu_write_cd(&f->smmu, &f->tab, 5, f->pgd[1], 15);
    if (on) {
        g_assert_cmphex(try_access(f, 3, A, false), ==, SVATD_ST_FAULT);
        expect_event(f, QSMMU_EVT_C_BAD_CD, 0);
        qsmmu_cfgi_cd(&f->smmu, DEVFN, 4);
        g_assert_cmphex(try_access(f, 3, A, false), ==, SVATD_ST_FAULT);
        expect_event(f, QSMMU_EVT_C_BAD_CD, 0);
        qsmmu_cfgi_cd(&f->smmu, DEVFN, 5);
    }
    g_assert_cmphex(read_as(f, 3, A, false), ==, OLD(1));

    /* A table of two levels; the command for the STE is for all CDs of it */
    qsmmu_cdtable_init(&f->smmu, &tab, QSMMU_CD_4K_L2, 7);
    qsmmu_write_ste_s1(&f->smmu, DEVFN, &tab, QSMMU_S1DSS_SSID0);
    qsmmu_cfgi_ste(&f->smmu, DEVFN);
    queue_start(f, 3, 65);
    g_assert_cmphex(try_access(f, 3, A, false), ==, SVATD_ST_FAULT);
    expect_event(f, QSMMU_EVT_C_BAD_SUBSTREAMID, 0);
    qsmmu_write_cd(&f->smmu, &tab, 65, f->pgd[2], 16);
    if (on) {
        qsmmu_cfgi_cd(&f->smmu, DEVFN, 65); /* Leaf=1 */
        g_assert_cmphex(try_access(f, 3, A, false), ==, SVATD_ST_FAULT);
        expect_event(f, QSMMU_EVT_C_BAD_SUBSTREAMID, 0);
        qsmmu_cmd(&f->smmu, 0x5 | 64ull << 12 | CMD0_SID(DEVFN), 0);
    }
    g_assert_cmphex(read_as(f, 3, A, false), ==, OLD(2));
    teardown(f);
}

/*
 * A write that was translated before an invalidation and arrives later: the
 * completion of the invalidation waits for it
 */
static void test_posted(const void *data)
{
    int how = GPOINTER_TO_INT(data);
    bool drain = how & 1, btm = how & 2;
    g_autofree char *args =
        g_strdup_printf(ON("btm") ON("x-btm-delay") "%s" DEV ",x-posted=on,"
                        "latency-ns=100000000", drain ? "" : ON("x-no-drain"));
    Fixture *f = setup(args, 0, 0);

    /* One write to A, which is on its way then */
    begin(f, 1, 0, A, true);
    qtest_writel(f->qts, slot_reg(f, 1, 1, SVATD_SLOT_CMD), SVATD_OP_STOP);
    qtest_writeq(f->qts, slot_reg(f, 1, 1, SVATD_SLOT_DST), A);
    qtest_writeq(f->qts, slot_reg(f, 1, 1, SVATD_SLOT_LEN), 8);
    qtest_writeq(f->qts, slot_reg(f, 1, 1, SVATD_SLOT_STRIDE), 8);
    qtest_writeq(f->qts, slot_reg(f, 1, 1, SVATD_SLOT_ARG), 0x77);
    qtest_writel(f->qts, slot_reg(f, 1, 1, SVATD_SLOT_CMD), SVATD_OP_HAMMER);
    qtest_clock_step(f->qts, 101000000);
    qtest_writeq(f->qts, f->old[1], OLD(1));
    make_new(f, 1);
    if (btm) {
        broadcast_asid(f, 11);
        dsb(f);
    } else {
        qsmmu_tlbi_nh_asid(&f->smmu, 11);
        cmd_sync(f);
    }
    g_assert_cmphex(qtest_readq(f->qts, f->old[1]), ==,
                    drain ? 0x77 : OLD(1));
    /* The page is somebody else's now */
    qtest_writeq(f->qts, f->old[1], 1);
    qtest_clock_step(f->qts, 200000000);
    g_assert_cmphex(qtest_readq(f->qts, f->old[1]), ==, drain ? 1 : 0x77);
    g_assert_cmphex(qtest_readq(f->qts, f->new[1]), ==, 0x77);
    teardown(f);
}

static uint64_t audit(Fixture *f)
{
    QDict *rsp = qtest_qmp(f->qts, "{ 'execute': 'qom-get', 'arguments': "
                           "{ 'path': %s, 'property': 'audit' } }", f->path);
    const char *report = qdict_get_str(rsp, "return");
    uint64_t differs = counter(f, "audit-differs");

    g_assert_cmpint(!*report, ==, !differs);
    qobject_unref(rsp);
    return differs;
}

/* What is cached and is not in memory any more */
static void test_audit(void)
{
    Fixture *f = setup_ats(ON("x-walk-cache") ON("x-config-cache")
                           ON("x-counters") DEV_ATS);
    uint64_t pte = f->old[1] | QSMMU_PTE_ATTRS | QSMMU_PTE_PAGE;
    uint64_t l1 = f->pgd[1] + (A >> 30 & 0x1ff) * 8, desc;

    g_assert_cmphex(read_as(f, 1, A, false), ==, OLD(1));
    g_assert_cmpuint(audit(f), ==, 0);

    /* In the IOTLB and in the ATC */
    make_new(f, 1);
    g_assert_cmpuint(audit(f), ==, 2);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    g_assert_cmpuint(audit(f), ==, 1);
    g_assert_cmpuint(qsmmu_readl(&f->smmu, 0xe00 + 4 * 49), ==, 1);
    atc_inv(f, CMD0_SSV(1), A, 0);
    g_assert_cmpuint(audit(f), ==, 0);

    /* Less than what is in memory is fine, more is not */
    qtest_writeq(f->qts, f->pte[1], pte | QSMMU_PTE_RO);
    read_as(f, 1, A, false);
    qtest_writeq(f->qts, f->pte[1], pte);
    g_assert_cmpuint(audit(f), ==, 0);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    atc_inv(f, CMD0_SSV(1), A, 0);
    read_as(f, 1, A, false);
    qtest_writeq(f->qts, f->pte[1], pte | QSMMU_PTE_RO);
    g_assert_cmpuint(audit(f), ==, 2);
    /* The Access flag is not what an invalidation is for */
    qtest_writeq(f->qts, f->pte[1], pte & ~QSMMU_PTE_AF);
    g_assert_cmpuint(audit(f), ==, 0);
    qtest_writeq(f->qts, f->pte[1], 0);
    g_assert_cmpuint(audit(f), ==, 2);
    qtest_writeq(f->qts, f->pte[1], pte);

    /* A table is gone: two levels of the walk cache, the IOTLB and the ATC */
    desc = qtest_readq(f->qts, l1);
    qtest_writeq(f->qts, l1, 0);
    g_assert_cmpuint(audit(f), ==, 4);
    qtest_writeq(f->qts, l1, desc);
    g_assert_cmpuint(audit(f), ==, 0);

    /* The CD is another one, with the same tables */
    qsmmu_write_cd(&f->smmu, &f->tab, 1, f->pgd[1], 11);
    g_assert_cmpuint(audit(f), ==, 0);
    qsmmu_write_cd(&f->smmu, &f->tab, 1, f->pgd[1], 17);
    /* It, and translation and tables of an ASID that has no CD */
    g_assert_cmpuint(audit(f), ==, 4);
    qsmmu_tlbi_nh_asid(&f->smmu, 11);
    g_assert_cmpuint(audit(f), ==, 1);
    qsmmu_cfgi_cd(&f->smmu, DEVFN, 1);
    g_assert_cmpuint(audit(f), ==, 0);
    g_assert_cmpuint(counter(f, "drop-full"), ==, 0);
    teardown(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/smmuv3-client/ats/atc", test_atc);
    qtest_add_func("/smmuv3-client/ats/atc-inv", test_atc_inv);
    qtest_add_func("/smmuv3-client/ats/atc-block", test_atc_block);
    qtest_add_func("/smmuv3-client/ats/atc-permission", test_atc_permission);
    qtest_add_func("/smmuv3-client/ats/atc-size", test_atc_size);
    qtest_add_func("/smmuv3-client/ats/fault", test_ats_fault);
    qtest_add_func("/smmuv3-client/ats/eats", test_eats);
    qtest_add_func("/smmuv3-client/ats/smmuen", test_ats_smmuen);
    qtest_add_func("/smmuv3-client/ats/none", test_no_ats);
    qtest_add_func("/smmuv3-client/ats/enable", test_ats_enable);
    qtest_add_data_func("/smmuv3-client/delay/wait", GINT_TO_POINTER(1),
                        test_delay);
    qtest_add_data_func("/smmuv3-client/delay/no-wait", GINT_TO_POINTER(0),
                        test_delay);
    qtest_add_func("/smmuv3-client/stall/retry", test_stall_retry);
    qtest_add_func("/smmuv3-client/stall/again", test_stall_again);
    qtest_add_data_func("/smmuv3-client/stall/terminate", GINT_TO_POINTER(0),
                        test_stall_terminate);
    qtest_add_data_func("/smmuv3-client/stall/abort", GINT_TO_POINTER(1),
                        test_stall_terminate);
    qtest_add_func("/smmuv3-client/stall/permission", test_stall_permission);
    qtest_add_data_func("/smmuv3-client/stall/queue-full",
                        GINT_TO_POINTER(1000), test_stall_full);
    qtest_add_data_func("/smmuv3-client/stall/max", GINT_TO_POINTER(10),
                        test_stall_full);
    qtest_add_func("/smmuv3-client/stall/eventqen", test_stall_eventqen);
    qtest_add_data_func("/smmuv3-client/stall/term", GINT_TO_POINTER(0),
                        test_stall_term);
    qtest_add_data_func("/smmuv3-client/stall/smmuen", GINT_TO_POINTER(1),
                        test_stall_term);
    qtest_add_func("/smmuv3-client/stall/disable", test_stall_disable);
    qtest_add_func("/smmuv3-client/stall/stop", test_stall_stop);
    qtest_add_func("/smmuv3-client/stall/ats", test_stall_ats);
    qtest_add_func("/smmuv3-client/stall/config", test_stall_config);
    qtest_add_func("/smmuv3-client/overflow", test_overflow);
    qtest_add_data_func("/smmuv3-client/may/cmd-delay/0", GINT_TO_POINTER(0),
                        test_cmd_delay);
    qtest_add_data_func("/smmuv3-client/may/cmd-delay/1", GINT_TO_POINTER(1),
                        test_cmd_delay);
    qtest_add_data_func("/smmuv3-client/may/cmd-delay/2", GINT_TO_POINTER(2),
                        test_cmd_delay);
    qtest_add_data_func("/smmuv3-client/may/cfgi-tlbi/in-order",
                        GINT_TO_POINTER(0), test_cmd_reorder);
    qtest_add_data_func("/smmuv3-client/may/cfgi-tlbi/reorder",
                        GINT_TO_POINTER(1), test_cmd_reorder);
    qtest_add_data_func("/smmuv3-client/may/cfgi-tlbi/in-order-sync",
                        GINT_TO_POINTER(2), test_cmd_reorder);
    qtest_add_data_func("/smmuv3-client/may/cfgi-tlbi/reorder-sync",
                        GINT_TO_POINTER(3), test_cmd_reorder);
    qtest_add_data_func("/smmuv3-client/may/tlbi-atc-inv/no-sync",
                        GINT_TO_POINTER(0), test_cmd_reorder_atc);
    qtest_add_data_func("/smmuv3-client/may/tlbi-atc-inv/sync",
                        GINT_TO_POINTER(1), test_cmd_reorder_atc);
    qtest_add_func("/smmuv3-client/may/cmd-delay/illegal",
                   test_cmd_delay_illegal);
    qtest_add_func("/smmuv3-client/may/btm-delay/order", test_delay_order);
    qtest_add_data_func("/smmuv3-client/may/prefetch/invalidation/on",
                        GINT_TO_POINTER(1), test_prefetch_inv);
    qtest_add_data_func("/smmuv3-client/may/prefetch/invalidation/off",
                        GINT_TO_POINTER(0), test_prefetch_inv);
    qtest_add_data_func("/smmuv3-client/may/prefetch/broadcast/on",
                        GINT_TO_POINTER(1), test_prefetch_btm);
    qtest_add_data_func("/smmuv3-client/may/prefetch/broadcast/off",
                        GINT_TO_POINTER(0), test_prefetch_btm);
    qtest_add_data_func("/smmuv3-client/may/prefetch/walk/on",
                        GINT_TO_POINTER(1), test_prefetch_walk);
    qtest_add_data_func("/smmuv3-client/may/prefetch/walk/off",
                        GINT_TO_POINTER(0), test_prefetch_walk);
    qtest_add_data_func("/smmuv3-client/may/overlap/block/on",
                        GINT_TO_POINTER(1), test_overlap_block);
    qtest_add_data_func("/smmuv3-client/may/overlap/block/off",
                        GINT_TO_POINTER(0), test_overlap_block);
    qtest_add_data_func("/smmuv3-client/may/overlap/contiguous/on",
                        GINT_TO_POINTER(1), test_overlap_contig);
    qtest_add_data_func("/smmuv3-client/may/overlap/contiguous/off",
                        GINT_TO_POINTER(0), test_overlap_contig);
    qtest_add_data_func("/smmuv3-client/may/fault-fill/on", GINT_TO_POINTER(1),
                        test_fault_fill);
    qtest_add_data_func("/smmuv3-client/may/fault-fill/off", GINT_TO_POINTER(0),
                        test_fault_fill);
    qtest_add_data_func("/smmuv3-client/may/unprivileged/on",
                        GINT_TO_POINTER(1), test_unprivileged);
    qtest_add_data_func("/smmuv3-client/may/unprivileged/off",
                        GINT_TO_POINTER(0), test_unprivileged);
    qtest_add_data_func("/smmuv3-client/httu/0", GINT_TO_POINTER(0),
                        test_httu);
    qtest_add_data_func("/smmuv3-client/httu/1", GINT_TO_POINTER(1),
                        test_httu);
    qtest_add_data_func("/smmuv3-client/httu/2", GINT_TO_POINTER(2),
                        test_httu);
    qtest_add_data_func("/smmuv3-client/may/config-cache/on",
                        GINT_TO_POINTER(1), test_config_cache);
    qtest_add_data_func("/smmuv3-client/may/config-cache/off",
                        GINT_TO_POINTER(0), test_config_cache);
    qtest_add_data_func("/smmuv3-client/posted/command", GINT_TO_POINTER(1),
                        test_posted);
    qtest_add_data_func("/smmuv3-client/posted/command-no-drain",
                        GINT_TO_POINTER(0), test_posted);
    qtest_add_data_func("/smmuv3-client/posted/broadcast", GINT_TO_POINTER(3),
                        test_posted);
    qtest_add_data_func("/smmuv3-client/posted/broadcast-no-drain",
                        GINT_TO_POINTER(2), test_posted);
    qtest_add_func("/smmuv3-client/audit", test_audit);

    return g_test_run();
}
