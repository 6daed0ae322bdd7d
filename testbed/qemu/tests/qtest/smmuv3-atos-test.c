/*
 * QTest testcase for address translation operations of the SMMUv3 model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * There is no device: all lookups are for StreamIDs that no function has, in
 * tables that the test writes. Each fault code is asked for once, and what a
 * lookup leaves in the TLB is seen by changing a descriptor without telling.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "libqtest.h"
#include "hw/arm/smmuv3-counters.h"
#include "smmuv3-utils.h"

#define IDR0_ATOS       (1 << 15)
#define CR2             0x2c
#define GATOS_CTRL      0x100
#define GATOS_SID       0x108
#define   SSID_VALID    (1ull << 52)
#define   SSID(x)       (SSID_VALID | (uint64_t)(x) << 32)
#define GATOS_ADDR      0x110
#define   HTTUI         (1ull << 6)
#define   READ          (1ull << 8)
#define   WRITE         0ull
#define   PRIV          (1ull << 9)
#define   USER          0ull
#define   TYPE(x)       ((uint64_t)(x) << 10)
#define   S1            TYPE(1)
#define   S2            TYPE(2)
#define   S12           TYPE(3)
#define GATOS_PAR       0x118

/* PAR of a fault */
#define FAULT(code)     (1ull | (uint64_t)(code) << 4)
#define REASON(x)       ((uint64_t)(x) << 1)
#define   BY_CD         REASON(1)
#define   BY_TT         REASON(2)
#define   BY_IN         REASON(3)
#define INV_REQ         0xff
#define INV_STAGE       0xfe
/* ... and of a page and a block of 2 MB: Normal memory, Inner Shareable */
#define PAR_ATTR        (0xffull << 56 | 3ull << 8)
#define PAGE_AT(pa)     (PAR_ATTR | (pa))
#define BLOCK_AT(pa)    (PAR_ATTR | (pa) | 1ull << 11 | 1ull << 20)

#define STE_S2          6
#define STE_NESTED      7
#define STE2_S2VMID(x)  ((uint64_t)(x) << 0)
/* 4 KB granules, 40 bits in, 44 out, from level 1 on; AArch64, record faults */
#define STE2_S2         (24ull << 32 | 1ull << 38 | 4ull << 48 | 1ull << 51 | \
                         1ull << 58)
#define S2_RO           (1ull << 6)
#define S2_RW           (3ull << 6)
#define CD0_HD          (1ull << 42)
#define PTE_DBM         (1ull << 51)

#define SID             0x42
#define SID_NESTED      0x43
#define SID_S2          0x44
#define SID_NONE        0x1ff
#define ASID            5
#define PAGE            0x1000ull
#define A               0x1234567000ull
#define BLOCK           0x1240000000ull

typedef struct Fixture {
    QTestState *qts;
    QSMMU smmu;
    QSMMUCDTable tab;
    uint64_t pgd;
    uint64_t cd;
    uint64_t pa;
    uint64_t pte;
} Fixture;

static uint64_t lookup(Fixture *f, uint64_t sid, uint64_t addr)
{
    uint64_t base = f->smmu.base;

    qtest_writeq(f->qts, base + GATOS_SID, sid);
    qtest_writeq(f->qts, base + GATOS_ADDR, addr);
    qsmmu_writel(&f->smmu, GATOS_CTRL, 1);
    g_assert_cmphex(qsmmu_readl(&f->smmu, GATOS_CTRL), ==, 0);
    return qtest_readq(f->qts, base + GATOS_PAR);
}

/* SubstreamID 1 of SID, A -> pa, privileged reads unless told otherwise */
#define ASK(f, addr)    lookup(f, SID | SSID(1), addr)
#define READ_A          (A | S1 | READ | PRIV)

static void teardown(Fixture *f)
{
    QSMMUEvent evt;

    /* Lookups record nothing, whatever CD.R and STE.S2R say */
    g_assert_false(qsmmu_pop_event(&f->smmu, &evt));
    qtest_quit(f->qts);
    g_free(f);
}

static Fixture *setup(const char *args)
{
    Fixture *f = g_new0(Fixture, 1);

    f->qts = qtest_initf("-machine virt,gic-version=3,iommu=smmuv3 -m 256M "
                         "-nodefaults -global arm-smmuv3.atos=on "
                         "-global arm-smmuv3.x-counters=on "
                         "-global arm-smmuv3.ssidsize=4 %s", args);
    qtest_writel(f->qts, QSMMU_VIRT_BASE + CR2, 0);
    qsmmu_init(&f->smmu, f->qts, QSMMU_VIRT_BASE, QSMMU_VIRT_RAM);
    qsmmu_cdtable_init(&f->smmu, &f->tab, QSMMU_CD_LINEAR, 2);
    f->pgd = qsmmu_pgd_alloc(&f->smmu);
    f->cd = qsmmu_write_cd(&f->smmu, &f->tab, 1, f->pgd, ASID);
    qsmmu_write_ste_s1(&f->smmu, SID, &f->tab, QSMMU_S1DSS_TERMINATE);
    f->pa = qsmmu_alloc(&f->smmu, PAGE);
    f->pte = qsmmu_map(&f->smmu, f->pgd, A, f->pa, 3, QSMMU_PTE_ATTRS);
    return f;
}

static void test_registers(void)
{
    uint64_t base = QSMMU_VIRT_BASE;
    Fixture *f;
    QTestState *qts;

    qts = qtest_init("-nodefaults -machine virt,iommu=smmuv3");
    g_assert_false(qtest_readl(qts, base + QSMMU_IDR0) & IDR0_ATOS);
    qtest_writeq(qts, base + GATOS_SID, ~0ull);
    qtest_writel(qts, base + GATOS_CTRL, 1);
    g_assert_cmphex(qtest_readq(qts, base + GATOS_SID), ==, 0);
    g_assert_cmphex(qtest_readl(qts, base + GATOS_CTRL), ==, 0);
    qtest_quit(qts);

    f = setup("");
    g_assert_true(qsmmu_readl(&f->smmu, QSMMU_IDR0) & IDR0_ATOS);
    /* What is RES0, with four bits of SubstreamID */
    qtest_writeq(f->qts, base + GATOS_SID, ~0ull);
    g_assert_cmphex(qtest_readq(f->qts, base + GATOS_SID), ==,
                    SSID(0xf) | 0xffffffff);
    qtest_writeq(f->qts, base + GATOS_ADDR, ~0ull);
    g_assert_cmphex(qtest_readq(f->qts, base + GATOS_ADDR), ==, ~0x3full);
    /* By halves; PAR is read-only */
    qsmmu_writel(&f->smmu, GATOS_SID, SID);
    qsmmu_writel(&f->smmu, GATOS_SID + 4, SSID(1) >> 32);
    g_assert_cmphex(qtest_readq(f->qts, base + GATOS_SID), ==, SID | SSID(1));
    qsmmu_writel(&f->smmu, GATOS_ADDR + 4, A >> 32);
    qsmmu_writel(&f->smmu, GATOS_ADDR, (uint32_t)READ_A);
    qsmmu_writel(&f->smmu, GATOS_CTRL, 1);
    qtest_writeq(f->qts, base + GATOS_PAR, 0);
    g_assert_cmphex(qsmmu_readl(&f->smmu, GATOS_PAR + 4), ==,
                    PAGE_AT(f->pa) >> 32);
    g_assert_cmphex(qsmmu_readl(&f->smmu, GATOS_PAR), ==,
                    (uint32_t)PAGE_AT(f->pa));
    /* RUN is ignored while the SMMU is disabled, and so is a 0 */
    qsmmu_writel(&f->smmu, QSMMU_CR0, 0);
    g_assert_cmphex(lookup(f, SID_NONE, READ_A), ==, PAGE_AT(f->pa));
    qsmmu_writel(&f->smmu, QSMMU_CR0, 1);
    qsmmu_writel(&f->smmu, GATOS_CTRL, 0);
    g_assert_cmphex(qtest_readq(f->qts, base + GATOS_PAR), ==, PAGE_AT(f->pa));
    qsmmu_writel(&f->smmu, GATOS_CTRL, 1);
    g_assert_cmphex(qtest_readq(f->qts, base + GATOS_PAR), ==,
                    FAULT(QSMMU_EVT_C_BAD_STE));
    qtest_quit(f->qts);
    g_free(f);
}

static void test_success(void)
{
    Fixture *f = setup("");
    uint64_t pa = qsmmu_alloc(&f->smmu, 0x200000);

    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    g_assert_cmphex(ASK(f, A | S1 | WRITE | PRIV), ==, PAGE_AT(f->pa));
    g_assert_cmphex(ASK(f, A | S1 | READ | USER), ==, PAGE_AT(f->pa));
    qsmmu_map(&f->smmu, f->pgd, BLOCK, pa, 2, QSMMU_PTE_ATTRS);
    g_assert_cmphex(ASK(f, (BLOCK + 5 * PAGE) | S1 | READ | PRIV), ==,
                    BLOCK_AT(pa));
    teardown(f);
}

/* Faults of configuration, each of them once, and their priorities */
static void test_config(void)
{
    Fixture *f = setup("");
    uint64_t ste = qsmmu_ste_addr(&f->smmu, SID), ste0, ste1, cd0;

    g_assert_cmphex(ASK(f, A | TYPE(0) | READ), ==, FAULT(INV_REQ));
    g_assert_cmphex(ASK(f, A | S2 | READ), ==, FAULT(INV_REQ)); /* has SSID */
    g_assert_cmphex(lookup(f, SID, A | S2 | READ), ==, FAULT(INV_STAGE));
    g_assert_cmphex(ASK(f, A | S12 | READ), ==, FAULT(INV_STAGE));
    g_assert_cmphex(lookup(f, 1u << 20, READ_A), ==,
                    FAULT(QSMMU_EVT_C_BAD_STREAMID));
    g_assert_cmphex(lookup(f, SID_NONE, READ_A), ==,
                    FAULT(QSMMU_EVT_C_BAD_STE));
    g_assert_cmphex(lookup(f, SID, READ_A), ==,
                    FAULT(QSMMU_EVT_F_STREAM_DISABLED));
    g_assert_cmphex(lookup(f, SID | SSID(9), READ_A), ==,
                    FAULT(QSMMU_EVT_C_BAD_SUBSTREAMID));
    /* INV_STAGE comes first */
    g_assert_cmphex(lookup(f, SID | SSID(9), A | S12 | READ), ==,
                    FAULT(INV_STAGE));
    g_assert_cmphex(lookup(f, SID | SSID(2), READ_A), ==,
                    FAULT(QSMMU_EVT_C_BAD_CD));

    ste0 = qtest_readq(f->qts, ste);
    ste1 = qtest_readq(f->qts, ste + 8);
    qtest_writeq(f->qts, ste, QSMMU_STE0_V |
                 QSMMU_STE0_CONFIG(QSMMU_STE_BYPASS));
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(INV_STAGE));
    qtest_writeq(f->qts, ste, QSMMU_STE0_V |
                 QSMMU_STE0_CONFIG(QSMMU_STE_ABORT));
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(INV_STAGE));
    /* What is illegal is so before the stage is looked at */
    qtest_writeq(f->qts, ste, ste0 | QSMMU_STE0_S1CDMAX(31));
    g_assert_cmphex(ASK(f, A | S12 | READ), ==, FAULT(QSMMU_EVT_C_BAD_STE));
    qtest_writeq(f->qts, ste, (ste0 & ~0xfffffffffffc0ull) | QSMMU_VIRT_HOLE);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_CD_FETCH));
    qtest_writeq(f->qts, ste, ste0);
    /* Without SubstreamID, past stage 1 */
    qtest_writeq(f->qts, ste + 8, ste1 | QSMMU_STE1_S1DSS(QSMMU_S1DSS_BYPASS));
    g_assert_cmphex(lookup(f, SID, READ_A), ==, PAGE_AT(A));
    g_assert_cmphex(lookup(f, SID, 1ull << 50 | S1 | READ), ==,
                    FAULT(QSMMU_EVT_F_ADDR_SIZE));
    qtest_writeq(f->qts, ste + 8, ste1);

    cd0 = qtest_readq(f->qts, f->cd);
    qtest_writeq(f->qts, f->cd, cd0 & ~QSMMU_CD0_V);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_C_BAD_CD));
    qtest_writeq(f->qts, f->cd, cd0);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));

    qtest_writeq(f->qts, f->smmu.base + QSMMU_STRTAB_BASE, QSMMU_VIRT_HOLE);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_STE_FETCH));
    qtest_writeq(f->qts, f->smmu.base + QSMMU_STRTAB_BASE, f->smmu.strtab);
    teardown(f);

    /* The machine's SMMU had stage 1 alone */
    f = setup("-machine virt-9.0");
    g_assert_cmphex(lookup(f, SID, A | S2 | READ), ==, FAULT(INV_REQ));
    g_assert_cmphex(ASK(f, A | S12 | READ), ==, FAULT(INV_REQ));
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    teardown(f);
}

static void set_pte(Fixture *f, uint64_t pte)
{
    qtest_writeq(f->qts, f->pte, pte);
    qsmmu_tlbi_nh_asid(&f->smmu, ASID);
}

/* Faults of stage 1's walk; CD.R = 0 makes no difference */
static void test_walk(void)
{
    Fixture *f = setup("");
    uint64_t pte = qtest_readq(f->qts, f->pte), table;

    for (int i = 0; i < 2; i++) {
        set_pte(f, 0);
        g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_TRANSLATION));
        set_pte(f, pte & ~QSMMU_PTE_AF);
        g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_ACCESS));
        set_pte(f, pte | QSMMU_PTE_RO);
        g_assert_cmphex(ASK(f, A | S1 | WRITE | PRIV), ==,
                        FAULT(QSMMU_EVT_F_PERMISSION));
        g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
        set_pte(f, pte | 1ull << 46);
        g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_ADDR_SIZE));
        /* EL0 may not, EL1 may; which is not what the TLB is told */
        set_pte(f, pte & ~QSMMU_PTE_USER);
        g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
        g_assert_cmphex(ASK(f, A | S1 | READ | USER), ==,
                        FAULT(QSMMU_EVT_F_PERMISSION));
        g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
        /* Beyond the input range */
        g_assert_cmphex(ASK(f, 1ull << 40 | S1 | READ | PRIV), ==,
                        FAULT(QSMMU_EVT_F_TRANSLATION));
        qtest_writeq(f->qts, f->cd, qtest_readq(f->qts, f->cd) & ~QSMMU_CD0_R);
    }
    table = qtest_readq(f->qts, f->pgd + (A >> 30) * 8);
    qtest_writeq(f->qts, f->pgd + (A >> 30) * 8,
                 QSMMU_VIRT_HOLE | QSMMU_PTE_TABLE);
    qsmmu_tlbi_nh_asid(&f->smmu, ASID);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_WALK_EABT));
    qtest_writeq(f->qts, f->pgd + (A >> 30) * 8, table);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    teardown(f);
}

/* HTTU is done for a lookup as for a transaction, unless it says HTTUI */
static void test_httu(void)
{
    Fixture *f = setup("-global arm-smmuv3.httu=2");
    uint64_t pte = qtest_readq(f->qts, f->pte), clean;

    clean = (pte & ~QSMMU_PTE_AF) | QSMMU_PTE_RO | PTE_DBM;
    qtest_writeq(f->qts, f->cd, qtest_readq(f->qts, f->cd) | QSMMU_CD0_HA |
                 CD0_HD);
    set_pte(f, clean);
    g_assert_cmphex(ASK(f, READ_A | HTTUI), ==, PAGE_AT(f->pa));
    g_assert_cmphex(ASK(f, A | S1 | WRITE | PRIV | HTTUI), ==,
                    PAGE_AT(f->pa));
    g_assert_cmphex(qtest_readq(f->qts, f->pte), ==, clean);
    /* And nothing came into the TLB that says accessed or dirty */
    g_assert_cmpuint(qsmmu_readl(&f->smmu, SMMUV3_COUNTERS + 4 *
                                 SMMUV3_COUNTER_IOTLB_HIT), ==, 0);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    g_assert_cmphex(qtest_readq(f->qts, f->pte), ==, clean | QSMMU_PTE_AF);
    g_assert_cmphex(ASK(f, A | S1 | WRITE | PRIV), ==, PAGE_AT(f->pa));
    g_assert_cmphex(qtest_readq(f->qts, f->pte), ==,
                    (clean | QSMMU_PTE_AF) & ~QSMMU_PTE_RO);
    /* Read-only is read-only */
    set_pte(f, pte | QSMMU_PTE_RO);
    g_assert_cmphex(ASK(f, A | S1 | WRITE | PRIV | HTTUI), ==,
                    FAULT(QSMMU_EVT_F_PERMISSION));
    teardown(f);
}

/* Streams with stage 2: IPA 1 GB on is where all structures and pages are */
static uint64_t setup_s2(Fixture *f)
{
    uint64_t vttb = qsmmu_alloc(&f->smmu, 2 * PAGE); /* 40 bits: 2 tables */
    uint64_t ste2 = STE2_S2 | STE2_S2VMID(7), ste, l2;

    l2 = qsmmu_alloc(&f->smmu, PAGE);
    qtest_writeq(f->qts, vttb + 8, l2 | QSMMU_PTE_TABLE);
    for (int i = 0; i < 64; i++) {
        qtest_writeq(f->qts, l2 + i * 8, (QSMMU_VIRT_RAM + i * 0x200000ull) |
                     S2_RW | QSMMU_PTE_AF | QSMMU_PTE_SH_IS | QSMMU_PTE_BLOCK);
    }
    for (int sid = SID_NESTED; sid <= SID_S2; sid++) {
        ste = qsmmu_ste_addr(&f->smmu, sid);
        qtest_writeq(f->qts, ste + 16, ste2);
        qtest_writeq(f->qts, ste + 24, vttb);
    }
    qtest_writeq(f->qts, qsmmu_ste_addr(&f->smmu, SID_S2), QSMMU_STE0_V |
                 QSMMU_STE0_CONFIG(STE_S2));
    qtest_writeq(f->qts, qsmmu_ste_addr(&f->smmu, SID_NESTED), QSMMU_STE0_V |
                 QSMMU_STE0_CONFIG(STE_NESTED) |
                 QSMMU_STE0_S1CDMAX(f->tab.cdmax) | f->tab.base);
    return l2;
}

static uint64_t l2_slot(uint64_t l2, uint64_t ipa)
{
    return l2 + ((ipa - QSMMU_VIRT_RAM) >> 21) * 8;
}

static void test_s2(void)
{
    Fixture *f = setup("");
    uint64_t l2, ipa, far, where, old, cd = f->cd, pte;
    uint64_t nested = SID_NESTED | SSID(1);

    /* Each in a block of its own: the page, the CDs, the page tables */
    far = qsmmu_alloc(&f->smmu, 0x200000);
    qtest_writeq(f->qts, f->pte, far | QSMMU_PTE_ATTRS | QSMMU_PTE_PAGE);
    l2 = setup_s2(f);
    qsmmu_tlbi_nsnh_all(&f->smmu);

    ipa = far + 3 * PAGE;
    g_assert_cmphex(lookup(f, SID_S2, ipa | S2 | READ | PRIV), ==,
                    BLOCK_AT(far));
    g_assert_cmphex(lookup(f, SID_S2, ipa | S1 | READ | PRIV), ==,
                    FAULT(INV_STAGE));
    g_assert_cmphex(lookup(f, SID_S2, ipa | S12 | READ | PRIV), ==,
                    FAULT(INV_STAGE));
    g_assert_cmphex(lookup(f, SID_S2, 0x10000000 | S2 | READ | PRIV), ==,
                    FAULT(QSMMU_EVT_F_TRANSLATION) | BY_IN);
    g_assert_cmphex(lookup(f, SID_S2, 1ull << 50 | S2 | READ | PRIV), ==,
                    FAULT(QSMMU_EVT_F_ADDR_SIZE));

    /* VA to IPA, IPA to PA, VA to PA */
    g_assert_cmphex(lookup(f, nested, READ_A), ==, PAGE_AT(far));
    g_assert_cmphex(lookup(f, SID_NESTED, ipa | S2 | READ | PRIV), ==,
                    BLOCK_AT(far));
    g_assert_cmphex(lookup(f, nested, A | S12 | READ | PRIV), ==,
                    PAGE_AT(far));

    /* Stage 2 does not let the page through, or not for writes */
    where = l2_slot(l2, far);
    old = qtest_readq(f->qts, where);
    qtest_writeq(f->qts, where, 0);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(lookup(f, nested, A | S12 | READ | PRIV), ==,
                    FAULT(QSMMU_EVT_F_TRANSLATION) | BY_IN | far);
    g_assert_cmphex(lookup(f, nested, READ_A), ==, PAGE_AT(far));
    qtest_writeq(f->qts, where, (old & ~S2_RW) | S2_RO);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(lookup(f, nested, A | S12 | WRITE | PRIV), ==,
                    FAULT(QSMMU_EVT_F_PERMISSION) | BY_IN | far);
    qtest_writeq(f->qts, where, old);

    /* Stage 1's own faults have no reason */
    pte = qtest_readq(f->qts, f->pte);
    qtest_writeq(f->qts, f->pte, 0);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(lookup(f, nested, A | S12 | READ | PRIV), ==,
                    FAULT(QSMMU_EVT_F_TRANSLATION));
    qtest_writeq(f->qts, f->pte, pte);

    /* What leads to the page is not let through: the page tables, the CDs */
    f->pgd = qsmmu_alloc(&f->smmu, 0x200000);
    qtest_writeq(f->qts, f->pgd, 0);
    where = l2_slot(l2, f->pgd);
    old = qtest_readq(f->qts, where);
    f->cd = qsmmu_write_cd(&f->smmu, &f->tab, 1, f->pgd, ASID);
    g_assert_cmphex(f->cd, ==, cd);
    qtest_writeq(f->qts, where, 0);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(lookup(f, nested, A | S12 | READ | PRIV), ==,
                    FAULT(QSMMU_EVT_F_TRANSLATION) | BY_TT | f->pgd);
    g_assert_cmphex(lookup(f, nested, READ_A), ==,
                    FAULT(QSMMU_EVT_F_WALK_EABT));
    qtest_writeq(f->qts, where, old);
    qsmmu_cdtable_init(&f->smmu, &f->tab, QSMMU_CD_LINEAR, 2);
    f->tab.base = qsmmu_alloc(&f->smmu, 0x200000);
    qtest_writeq(f->qts, qsmmu_ste_addr(&f->smmu, SID_NESTED), QSMMU_STE0_V |
                 QSMMU_STE0_CONFIG(STE_NESTED) |
                 QSMMU_STE0_S1CDMAX(f->tab.cdmax) | f->tab.base);
    qtest_writeq(f->qts, l2_slot(l2, f->tab.base), 0);
    qsmmu_tlbi_nsnh_all(&f->smmu);
    g_assert_cmphex(lookup(f, nested, A | S12 | READ | PRIV), ==,
                    FAULT(QSMMU_EVT_F_TRANSLATION) | BY_CD |
                    ((f->tab.base + 64) & ~0xfffull));
    g_assert_cmphex(lookup(f, nested, READ_A), ==,
                    FAULT(QSMMU_EVT_F_CD_FETCH));
    teardown(f);
}

/* Lookups use the TLB, and fill it */
static void test_tlb(void)
{
    Fixture *f = setup("");
    uint64_t pte = qtest_readq(f->qts, f->pte);

    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qtest_writeq(f->qts, f->pte, 0);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    g_assert_cmphex(ASK(f, A | S1 | WRITE | PRIV), ==, PAGE_AT(f->pa));
    qsmmu_tlbi_nh_asid(&f->smmu, ASID + 1);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qsmmu_tlbi_nh_asid(&f->smmu, ASID);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_TRANSLATION));
    /* A fault is not cached */
    qtest_writeq(f->qts, f->pte, pte);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    teardown(f);

    f = setup("-global arm-smmuv3.x-atos-no-fill=on");
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qtest_writeq(f->qts, f->pte, 0);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_F_TRANSLATION));
    teardown(f);
}

/* CDs and STEs are cached with x-config-cache, until a command names them */
static void test_config_cache(void)
{
    Fixture *f = setup("-global arm-smmuv3.x-config-cache=on");
    uint64_t cd0 = qtest_readq(f->qts, f->cd);

    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qtest_writeq(f->qts, f->cd, cd0 & ~QSMMU_CD0_V);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qsmmu_cfgi_cd(&f->smmu, SID, 1);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_C_BAD_CD));
    qtest_writeq(f->qts, qsmmu_ste_addr(&f->smmu, SID), 0);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_C_BAD_CD));
    qsmmu_cfgi_ste(&f->smmu, SID);
    g_assert_cmphex(ASK(f, READ_A), ==, FAULT(QSMMU_EVT_C_BAD_STE));
    teardown(f);
}

/* Broadcasts, and which of them are lost */

typedef struct Kind {
    const char *name;
    unsigned int bit;           /* of x-btm-deaf-kinds */
    QSMMUBroadcast tlbi;
} Kind;

static const Kind kinds[] = {
    { "va", 1, { QSMMU_EL10, 1, 0, ASID, A, PAGE } },
    { "val", 2, { QSMMU_EL10, 1, 0, ASID, A, PAGE, true } },
    { "asid", 4, { QSMMU_EL10, 1, 0, ASID } },
    { "range", 8, { QSMMU_EL10, 1, 0, ASID, A, 2 * PAGE } },
    { "range-val", 8, { QSMMU_EL10, 1, 0, ASID, A, 2 * PAGE, true } },
    { "all", 16, { QSMMU_EL10, 1, 0, QSMMU_ANY } },
};

static void heard(const char *args, const Kind *kind, bool expected)
{
    g_autofree char *all = g_strdup_printf("-global arm-smmuv3.btm=on %s",
                                           args);
    Fixture *f = setup(all);

    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qtest_writeq(f->qts, f->pte, 0);
    g_assert_cmphex(ASK(f, READ_A), ==, PAGE_AT(f->pa));
    qsmmu_broadcast(&f->smmu, &kind->tlbi);
    g_assert_cmphex(ASK(f, READ_A), ==, expected ?
                    FAULT(QSMMU_EVT_F_TRANSLATION) : PAGE_AT(f->pa));
    teardown(f);
}

static void test_deaf(const void *data)
{
    const Kind *kind = data;
    g_autofree char *it = g_strdup_printf("-global arm-smmuv3.x-btm-deaf-kinds"
                                          "=%u", kind->bit);
    g_autofree char *others = g_strdup_printf("-global arm-smmuv3."
                                              "x-btm-deaf-kinds=%u",
                                              0x1f & ~kind->bit);

    heard("", kind, true);
    heard(it, kind, false);
    heard(others, kind, true);
    heard("-global arm-smmuv3.x-btm-deaf=on", kind, false);
    /* qtest's are those of vCPU 0 */
    heard("-smp 2 -global arm-smmuv3.x-btm-deaf-cpu=0", kind, false);
    heard("-smp 2 -global arm-smmuv3.x-btm-deaf-cpu=1", kind, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-atos/registers", test_registers);
    qtest_add_func("/smmuv3-atos/success", test_success);
    qtest_add_func("/smmuv3-atos/config", test_config);
    qtest_add_func("/smmuv3-atos/walk", test_walk);
    qtest_add_func("/smmuv3-atos/httu", test_httu);
    qtest_add_func("/smmuv3-atos/stage2", test_s2);
    qtest_add_func("/smmuv3-atos/tlb", test_tlb);
    qtest_add_func("/smmuv3-atos/config-cache", test_config_cache);
    for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-atos/deaf/%s",
                                                kinds[i].name);

        qtest_add_data_func(path, &kinds[i], test_deaf);
    }
    return g_test_run();
}
