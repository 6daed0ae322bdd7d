/*
 * QTest testcase for several SMMUv3 in the virt machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One device has the machine's own SMMU, another one, behind a root port, has
 * the SMMU that the user gave to that port. Neither knows of the other.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "hw/pci/pci_regs.h"
#include "qemu/units.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define MACHINE         "-machine virt,gic-version=3,iommu=smmuv3 -nodefaults "
#define PORT            "-device pcie-root-port,id=rp1,addr=2 "
#define SMMU            "-device arm-smmuv3,primary-bus=rp1"
#define ENDPOINT        "-device sva-testdev,bus=rp1 "

/* The first that the platform bus gives away */
#define SECOND_BASE     0x0c000000ull

#define PORT_DEVFN      QPCI_DEVFN(2, 0)
#define SECOND_BUS      1
#define SECOND_SID      (SECOND_BUS << 8)

#define SLOT            SVATD_Q_SLOT(0)
#define PAGE            0x1000ull
#define VA              0x3654321000ull

#define IDR0_S2P        (1 << 0)
#define IDR0_S1P        (1 << 1)
#define IDR0_BTM        (1 << 5)
#define IDR0_ASID16     (1 << 12)

typedef struct Dev {
    QPCIDevice *pci;
    uint64_t queue;
    uint32_t sid;
    QSMMU smmu;
    uint64_t pgd;
} Dev;

typedef struct Fixture {
    QTestState *qts;
    QGenericPCIBus bus;
    Dev dev[2];
} Fixture;

static void setup_dev(Fixture *f, Dev *dev, uint32_t sid)
{
    uint64_t ctrl;

    dev->sid = sid;
    /* libqos computes addresses in ECAM, so that a bus number fits in, too */
    dev->pci = qpci_device_find(&f->bus.bus, sid);
    g_assert_nonnull(dev->pci);
    qpci_device_enable(dev->pci);
    ctrl = qpci_iomap(dev->pci, SVATD_BAR_CTRL, NULL).addr;
    dev->queue = qpci_iomap(dev->pci, SVATD_BAR_QUEUES, NULL).addr;
    qtest_writel(f->qts, ctrl + SVATD_QCTL(0) + SVATD_QCTL_CTL,
                 SVATD_QCTL_CTL_ENABLE);
}

/* Bus number and memory window, as firmware or a kernel would choose them */
static void setup_port(Fixture *f)
{
    QPCIDevice *port = qpci_device_find(&f->bus.bus, PORT_DEVFN);
    QPCIBus *bus = &f->bus.bus;
    uint64_t base;

    g_assert_nonnull(port);
    bus->mmio_alloc_ptr = ROUND_UP(bus->mmio_alloc_ptr, 64 * MiB);
    base = bus->mmio_alloc_ptr;
    qpci_config_writeb(port, PCI_SECONDARY_BUS, SECOND_BUS);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, SECOND_BUS);
    qpci_config_writew(port, PCI_MEMORY_BASE, base >> 16);
    qpci_config_writew(port, PCI_MEMORY_LIMIT, (base + 64 * MiB - 1) >> 16);
    qpci_device_enable(port);
    g_free(port);
}

static Fixture *setup(const char *props)
{
    Fixture *f = g_new0(Fixture, 1);

    f->qts = qtest_initf(MACHINE "-device sva-testdev,addr=1 " PORT SMMU
                         "%s " ENDPOINT, props);
    qpci_init_generic(&f->bus, f->qts, NULL, false);
    setup_dev(f, &f->dev[0], QPCI_DEVFN(1, 0));
    setup_port(f);
    setup_dev(f, &f->dev[1], SECOND_SID);
    return f;
}

static void teardown(Fixture *f)
{
    for (int i = 0; i < ARRAY_SIZE(f->dev); i++) {
        g_free(f->dev[i].pci);
    }
    qtest_quit(f->qts);
    g_free(f);
}

/* Enable an SMMU, with a stream table for its device; all but VA faults */
static void setup_smmu(Fixture *f, int n)
{
    Dev *dev = &f->dev[n];
    QSMMUCDTable tab;

    qsmmu_init(&dev->smmu, f->qts, n ? SECOND_BASE : QSMMU_VIRT_BASE,
               QSMMU_VIRT_RAM + (n + 1) * 16 * MiB);
    dev->pgd = qsmmu_pgd_alloc(&dev->smmu);
    qsmmu_cdtable_init(&dev->smmu, &tab, QSMMU_CD_LINEAR, 0);
    qsmmu_write_cd(&dev->smmu, &tab, 0, dev->pgd, 1);
    qsmmu_write_ste_s1(&dev->smmu, dev->sid, &tab, 0);
}

/* Have VA lead to a new page that holds @value, and tell nobody */
static void map_page(Fixture *f, int n, uint64_t value)
{
    QSMMU *smmu = &f->dev[n].smmu;
    uint64_t pa = qsmmu_alloc(smmu, PAGE);

    qtest_writeq(f->qts, pa, value);
    qsmmu_map(smmu, f->dev[n].pgd, VA, pa, 3, QSMMU_PTE_ATTRS);
}

static uint32_t dev_access(Fixture *f, int n, uint64_t addr)
{
    uint64_t slot = f->dev[n].queue + SLOT;

    /* A poll ends at the first value, as none is allowed */
    qtest_writeq(f->qts, slot + SVATD_SLOT_SRC, addr);
    qtest_writeq(f->qts, slot + SVATD_SLOT_LEN, 8);
    qtest_writeq(f->qts, slot + SVATD_SLOT_STRIDE, 8);
    qtest_writel(f->qts, slot + SVATD_SLOT_CMD, SVATD_OP_POLL);
    qtest_clock_step(f->qts, 1000);
    return qtest_readl(f->qts, slot + SVATD_SLOT_STATUS);
}

static void expect_read(Fixture *f, int n, uint64_t addr, uint64_t value)
{
    g_assert_cmphex(dev_access(f, n, addr), ==, SVATD_ST_MISMATCH);
    g_assert_cmphex(qtest_readq(f->qts, f->dev[n].queue + SLOT +
                                SVATD_SLOT_VALUE), ==, value);
}

/* Both translate the same address, each in its own way */
static void test_dma(void)
{
    Fixture *f = setup("");
    QSMMUEvent evt;

    for (int n = 0; n < 2; n++) {
        setup_smmu(f, n);
        map_page(f, n, 0xa0 + n);
    }
    for (int n = 0; n < 2; n++) {
        expect_read(f, n, VA, 0xa0 + n);
        g_assert_false(qsmmu_pop_event(&f->dev[n].smmu, &evt));
    }

    /* Faults are reported where they happen */
    for (int n = 0; n < 2; n++) {
        g_assert_cmphex(dev_access(f, n, VA + PAGE), ==, SVATD_ST_FAULT);
        g_assert_false(qsmmu_pop_event(&f->dev[!n].smmu, &evt));
        g_assert_true(qsmmu_pop_event(&f->dev[n].smmu, &evt));
        g_assert_cmphex(evt.type, ==, QSMMU_EVT_F_TRANSLATION);
        g_assert_cmphex(evt.sid, ==, f->dev[n].sid);
    }
    teardown(f);
}

/* While one is off, and lets all pass, the other one translates */
static void test_bypass(void)
{
    for (int on = 0; on < 2; on++) {
        Fixture *f = setup("");

        setup_smmu(f, on);
        map_page(f, on, 0xa0);
        qtest_writeq(f->qts, QSMMU_VIRT_RAM, 0xb1);
        expect_read(f, on, VA, 0xa0);
        g_assert_cmphex(dev_access(f, on, QSMMU_VIRT_RAM), ==, SVATD_ST_FAULT);
        expect_read(f, !on, QSMMU_VIRT_RAM, 0xb1);
        teardown(f);
    }
}

/* Each has its own IOTLB and commands, even for the same ASID */
static void test_invalidate(void)
{
    for (int n = 0; n < 2; n++) {
        Fixture *f = setup("");

        for (int i = 0; i < 2; i++) {
            setup_smmu(f, i);
            map_page(f, i, 0xa0 + i);
            expect_read(f, i, VA, 0xa0 + i);
            map_page(f, i, 0xb0 + i);
            expect_read(f, i, VA, 0xa0 + i);
        }
        qsmmu_tlbi_nsnh_all(&f->dev[n].smmu);
        expect_read(f, n, VA, 0xb0 + n);
        expect_read(f, !n, VA, 0xa0 + !n);
        teardown(f);
    }
}

/* -global is for both, and a property of the second for that one alone */
static void test_properties(void)
{
    const uint32_t mask = IDR0_S1P | IDR0_S2P | IDR0_BTM | IDR0_ASID16;
    static const struct {
        const char *global, *second;
        uint32_t idr0[2], ssidsize[2];
    } cases[] = {
        { "", "", { IDR0_S1P | IDR0_S2P | IDR0_ASID16,
                    IDR0_S1P | IDR0_S2P | IDR0_ASID16 }, { 0, 0 } },
        { "-global arm-smmuv3.btm=on -global arm-smmuv3.ssidsize=8", "",
          { IDR0_S1P | IDR0_S2P | IDR0_ASID16 | IDR0_BTM,
            IDR0_S1P | IDR0_S2P | IDR0_ASID16 | IDR0_BTM }, { 8, 8 } },
        { "-global arm-smmuv3.btm=on -global arm-smmuv3.ssidsize=8",
          ",btm=off,ssidsize=5,x-asid-bits=8,stage=1",
          { IDR0_S1P | IDR0_S2P | IDR0_ASID16 | IDR0_BTM, IDR0_S1P },
          { 8, 5 } },
        { "", ",btm=on,ssidsize=20",
          { IDR0_S1P | IDR0_S2P | IDR0_ASID16,
            IDR0_S1P | IDR0_S2P | IDR0_ASID16 | IDR0_BTM }, { 0, 20 } },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        QTestState *qts = qtest_initf(MACHINE "%s " PORT SMMU "%s",
                                      cases[i].global, cases[i].second);

        for (int n = 0; n < 2; n++) {
            uint64_t base = n ? SECOND_BASE : QSMMU_VIRT_BASE;

            g_assert_cmphex(qtest_readl(qts, base + QSMMU_IDR0) & mask, ==,
                            cases[i].idr0[n]);
            g_assert_cmpuint(QSMMU_IDR1_SSIDSIZE(
                                 qtest_readl(qts, base + QSMMU_IDR1)), ==,
                             cases[i].ssidsize[n]);
        }
        qtest_quit(qts);
    }
}

/* Run QEMU until it has written the device tree, or says why it does not */
static int dump_dtb(const char *args, const char *file, char **err)
{
    g_autofree char *cmd = g_strdup_printf("%s -accel qtest -display none %s "
                                           "-machine dumpdtb=%s",
                                           getenv("QTEST_QEMU_BINARY"), args,
                                           file);
    int status;

    g_assert_true(g_spawn_command_line_sync(cmd, NULL, err, &status, NULL));
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Entry @n of an iommu-map: these buses and no others, StreamID = RID */
static bool is_entry(const uint32_t *cells, int n, int first, int end)
{
    const uint32_t *entry = cells + 4 * n;

    return ldl_be_p(&entry[0]) == first << 8 &&
           ldl_be_p(&entry[2]) == first << 8 &&
           ldl_be_p(&entry[3]) == (end - first) << 8;
}

/* RIDs of the buses that Linux finds behind the port lead to its SMMU */
static void test_iommu_map(void)
{
    static const struct {
        const char *args;
        int first, last;
    } cases[] = {
        { PORT SMMU, 1, 1 },
        /* In the order of slots, not of the command line */
        { PORT SMMU " -device pcie-root-port,id=rp3,addr=3,chassis=3", 1, 1 },
        { PORT SMMU " -device pcie-root-port,id=rp3,addr=1,chassis=3", 2, 2 },
        /* Depth first */
        { PORT SMMU " -device pcie-root-port,id=rp3,addr=1,chassis=3 "
          "-device pcie-pci-bridge,bus=rp3", 3, 3 },
        { PORT SMMU " -device pcie-pci-bridge,bus=rp1", 1, 2 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *args = g_strconcat(MACHINE, cases[i].args, NULL);
        g_autofree char *file = NULL, *dtb = NULL;
        int first = cases[i].first, end = cases[i].last + 1, found = 0;
        gsize len;

        close(g_file_open_tmp("qtest-dtb-XXXXXX", &file, NULL));
        g_assert_cmpint(dump_dtb(args, file, NULL), ==, 0);
        g_assert_true(g_file_get_contents(file, &dtb, &len, NULL));
        unlink(file);

        /* Properties are aligned; there is nothing else that looks like it */
        for (gsize at = 0; at + 12 * 4 <= len; at += 4) {
            const uint32_t *cells = (const uint32_t *)(dtb + at);

            if (is_entry(cells, 0, 0, first) &&
                is_entry(cells, 1, first, end) &&
                is_entry(cells, 2, end, 256)) {
                g_assert_cmphex(cells[1], ==, cells[9]);
                g_assert_cmphex(cells[1], !=, cells[5]);
                found++;
            }
        }
        g_assert_cmpint(found, ==, 1);
    }
}

/* One more root complex may have an SMMU as well; the device tree lacks both */
static void test_root_complex(void)
{
    QTestState *qts = qtest_init(MACHINE "-device pxb-pcie,id=rp1,bus_nr=32 "
                                 SMMU);

    g_assert_cmpint(qtest_readl(qts, SECOND_BASE) & IDR0_S1P, !=, 0);
    qtest_quit(qts);
}

/* What cannot be is refused, with a message that says why */
static void test_refused(void)
{
    static const struct {
        const char *args, *error;
    } cases[] = {
        { MACHINE SMMU, "'rp1' not found" },
        { MACHINE SMMU " " PORT, "'rp1' not found" },
        { MACHINE PORT ENDPOINT SMMU, "must come before the devices" },
        { MACHINE PORT SMMU " " SMMU, "has an SMMU already" },
        { MACHINE "-device arm-smmuv3", "id of a root port" },
        { MACHINE "-device arm-smmuv3,primary-bus=pcie.0",
          "id of a root port" },
        { MACHINE "-device pci-bridge,id=rp1,chassis_nr=1 " SMMU,
          "id of a root port" },
        { "-machine virt,gic-version=3 -nodefaults " PORT SMMU,
          "an SMMU of its own" },
        { MACHINE "-machine default-bus-bypass-iommu=on " PORT SMMU,
          "an SMMU of its own" },
        { MACHINE PORT SMMU ",btm=off,x-btm-deaf=on", "needs btm=on" },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *err = NULL;

        g_assert_cmpint(dump_dtb(cases[i].args, "/dev/null", &err), ==, 1);
        g_assert_nonnull(strstr(err, cases[i].error));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("smmuv3-multi/dma", test_dma);
    qtest_add_func("smmuv3-multi/bypass", test_bypass);
    qtest_add_func("smmuv3-multi/invalidate", test_invalidate);
    qtest_add_func("smmuv3-multi/properties", test_properties);
    qtest_add_func("smmuv3-multi/iommu-map", test_iommu_map);
    qtest_add_func("smmuv3-multi/root-complex", test_root_complex);
    qtest_add_func("smmuv3-multi/refused", test_refused);
    return g_test_run();
}
