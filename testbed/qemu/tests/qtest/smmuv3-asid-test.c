/*
 * QTest testcase for the size of ASIDs in the SMMUv3 model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IHI 0070: with IDR0.ASID16 = 0, a CD whose ASID has more than 8 bits is
 * illegal. A command, or a broadcast, that names such an ASID need not drop
 * anything; that it only counts the lower 8 bits would be too much.
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define MACHINE         "-machine virt,gic-version=3,iommu=smmuv3 -nodefaults "
#define IDR0_ASID16     (1 << 12)
#define IDR0_VMID16     (1 << 18)
#define IDR3            0xc
#define IDR3_FWB        (1 << 8)

#define DEVFN           QPCI_DEVFN(1, 0)
#define SLOT            SVATD_Q_SLOT(0)

#define VA              0x3654321000ull
#define OLD             0xa1ull
#define NEW             0xb2ull

typedef struct Fixture {
    QTestState *qts;
    QGenericPCIBus bus;
    QPCIDevice *pci;
    uint64_t queue;
    QSMMU smmu;
    QSMMUCDTable tab;
    uint64_t pgd;
} Fixture;

static Fixture *setup(const char *args)
{
    Fixture *f = g_new0(Fixture, 1);
    uint64_t ctrl;

    f->qts = qtest_initf(MACHINE "-device sva-testdev,addr=1 %s", args);
    qpci_init_generic(&f->bus, f->qts, NULL, false);
    f->pci = qpci_device_find(&f->bus.bus, DEVFN);
    g_assert_nonnull(f->pci);
    qpci_device_enable(f->pci);
    ctrl = qpci_iomap(f->pci, SVATD_BAR_CTRL, NULL).addr;
    f->queue = qpci_iomap(f->pci, SVATD_BAR_QUEUES, NULL).addr;
    qtest_writel(f->qts, ctrl + SVATD_QCTL(0) + SVATD_QCTL_CTL,
                 SVATD_QCTL_CTL_ENABLE);

    /* CR2.PTM: hear broadcasts; without BTM, there is no such bit */
    qtest_writel(f->qts, QSMMU_VIRT_BASE + 0x2c, 0);
    qsmmu_init(&f->smmu, f->qts, QSMMU_VIRT_BASE, QSMMU_VIRT_RAM);
    f->pgd = qsmmu_pgd_alloc(&f->smmu);
    qsmmu_cdtable_init(&f->smmu, &f->tab, QSMMU_CD_LINEAR, 0);
    qsmmu_write_ste_s1(&f->smmu, DEVFN, &f->tab, 0);
    return f;
}

static void teardown(Fixture *f)
{
    g_free(f->pci);
    qtest_quit(f->qts);
    g_free(f);
}

static void set_asid(Fixture *f, uint16_t asid)
{
    qsmmu_write_cd(&f->smmu, &f->tab, 0, f->pgd, asid);
    qsmmu_cfgi_cd(&f->smmu, DEVFN, 0);
}

/* Have VA lead to a page that holds @value, and tell nobody */
static void map_page(Fixture *f, uint64_t value)
{
    uint64_t pa = qsmmu_alloc(&f->smmu, 4096);

    qtest_writeq(f->qts, pa, value);
    qsmmu_map(&f->smmu, f->pgd, VA, pa, 3, QSMMU_PTE_ATTRS);
}

/* One access; returns the status */
static uint32_t dev_access(Fixture *f)
{
    uint64_t slot = f->queue + SLOT;

    /* A poll ends at the first value, as none is allowed */
    qtest_writeq(f->qts, slot + SVATD_SLOT_SRC, VA);
    qtest_writeq(f->qts, slot + SVATD_SLOT_LEN, 8);
    qtest_writeq(f->qts, slot + SVATD_SLOT_STRIDE, 8);
    qtest_writel(f->qts, slot + SVATD_SLOT_CMD, SVATD_OP_POLL);
    qtest_clock_step(f->qts, 1000);
    return qtest_readl(f->qts, slot + SVATD_SLOT_STATUS);
}

static void expect_read(Fixture *f, uint64_t value)
{
    g_assert_cmphex(dev_access(f), ==, SVATD_ST_MISMATCH);
    g_assert_cmphex(qtest_readq(f->qts, f->queue + SLOT + SVATD_SLOT_VALUE),
                    ==, value);
}

static void test_idr(void)
{
    static const struct {
        const char *args;
        uint32_t asid16;
    } cases[] = {
        { "", IDR0_ASID16 },
        { "-global arm-smmuv3.x-asid-bits=16", IDR0_ASID16 },
        { "-global arm-smmuv3.x-asid-bits=8", 0 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        QTestState *qts = qtest_initf(MACHINE "%s", cases[i].args);

        g_assert_cmphex(qtest_readl(qts, QSMMU_VIRT_BASE + QSMMU_IDR0) &
                        IDR0_ASID16, ==, cases[i].asid16);
        qtest_quit(qts);
    }
}

static void test_cd(void)
{
    static const struct {
        const char *args;
        uint16_t asid;
        bool good;
    } cases[] = {
        { "", 0xff, true },
        { "", 0x100, true },
        { "", 0xffff, true },
        { "-global arm-smmuv3.x-asid-bits=8", 0, true },
        { "-global arm-smmuv3.x-asid-bits=8", 0xff, true },
        { "-global arm-smmuv3.x-asid-bits=8", 0x100, false },
        { "-global arm-smmuv3.x-asid-bits=8", 0x8001, false },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup(cases[i].args);
        QSMMUEvent evt;

        map_page(f, OLD);
        set_asid(f, cases[i].asid);
        if (cases[i].good) {
            expect_read(f, OLD);
            g_assert_false(qsmmu_pop_event(&f->smmu, &evt));
        } else {
            g_assert_cmphex(dev_access(f), ==, SVATD_ST_FAULT);
            g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
            g_assert_cmphex(evt.type, ==, QSMMU_EVT_C_BAD_CD);
            g_assert_cmphex(evt.sid, ==, DEVFN);
        }
        teardown(f);
    }
}

/* VMIDs likewise: an STE with a longer one is illegal. And IDR3.FWB */
static void test_vmid(void)
{
    static const struct {
        const char *args;
        uint32_t vmid16, fwb;
        uint16_t vmid;
        bool good;
    } cases[] = {
        { "", IDR0_VMID16, 0, 0x100, true },
        { "-global arm-smmuv3.x-vmid-bits=16", IDR0_VMID16, 0, 0xffff, true },
        { "-global arm-smmuv3.x-vmid-bits=8", 0, 0, 0xff, true },
        { "-global arm-smmuv3.x-vmid-bits=8", 0, 0, 0x100, false },
        { "-global arm-smmuv3.s2fwb=on", IDR0_VMID16, IDR3_FWB, 1, true },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup(cases[i].args);
        QSMMUEvent evt;

        g_assert_cmphex(qtest_readl(f->qts, QSMMU_VIRT_BASE + QSMMU_IDR0) &
                        IDR0_VMID16, ==, cases[i].vmid16);
        g_assert_cmphex(qtest_readl(f->qts, QSMMU_VIRT_BASE + IDR3) &
                        IDR3_FWB, ==, cases[i].fwb);
        map_page(f, OLD);
        set_asid(f, 1);
        qtest_writeq(f->qts, qsmmu_ste_addr(&f->smmu, DEVFN) + 16,
                     cases[i].vmid);
        if (cases[i].good) {
            expect_read(f, OLD);
            g_assert_false(qsmmu_pop_event(&f->smmu, &evt));
        } else {
            g_assert_cmphex(dev_access(f), ==, SVATD_ST_FAULT);
            g_assert_true(qsmmu_pop_event(&f->smmu, &evt));
            g_assert_cmphex(evt.type, ==, QSMMU_EVT_C_BAD_STE);
        }
        teardown(f);
    }
}

static void tlbi_asid(Fixture *f, uint16_t asid)
{
    qsmmu_tlbi_nh_asid(&f->smmu, asid);
}

static void tlbi_va(Fixture *f, uint16_t asid)
{
    qsmmu_tlbi_nh_va(&f->smmu, asid, VA, (QSMMURange) {});
}

static void tlbi_range(Fixture *f, uint16_t asid)
{
    qsmmu_tlbi_nh_va(&f->smmu, asid, VA, (QSMMURange) { .tg = 1, .ttl = 3 });
}

/* What the decoder of CPU instructions would make of TLBI ASIDE1IS */
static void tlbi_broadcast(Fixture *f, uint16_t asid)
{
    QSMMUBroadcast tlbi = { QSMMU_EL10, 1, 0, asid };

    qsmmu_broadcast(&f->smmu, &tlbi);
}

/* @data invalidates by ASID: only one with the same 16 bits has an effect */
static void test_tlbi(const void *data)
{
    void (*tlbi)(Fixture *, uint16_t) = data;
    Fixture *f = setup("-global arm-smmuv3.x-asid-bits=8 "
                       "-global arm-smmuv3.btm=on");

    map_page(f, OLD);
    set_asid(f, 0xcd);
    expect_read(f, OLD);
    map_page(f, NEW);
    expect_read(f, OLD);
    tlbi(f, 0x1cd);
    expect_read(f, OLD);
    tlbi(f, 0xcd00);
    expect_read(f, OLD);
    tlbi(f, 0xcd);
    expect_read(f, NEW);
    teardown(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("smmuv3-asid/idr", test_idr);
    qtest_add_func("smmuv3-asid/cd", test_cd);
    qtest_add_func("smmuv3-asid/vmid", test_vmid);
    qtest_add_data_func("smmuv3-asid/tlbi/asid", tlbi_asid, test_tlbi);
    qtest_add_data_func("smmuv3-asid/tlbi/va", tlbi_va, test_tlbi);
    qtest_add_data_func("smmuv3-asid/tlbi/range", tlbi_range, test_tlbi);
    qtest_add_data_func("smmuv3-asid/tlbi/broadcast", tlbi_broadcast,
                        test_tlbi);
    return g_test_run();
}
