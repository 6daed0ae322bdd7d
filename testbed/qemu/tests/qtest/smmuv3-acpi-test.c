/*
 * QTest testcase for what ACPI says of the SMMUv3s of the virt machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The tables are read as firmware does, from fw_cfg and with buses numbered,
 * and the IORT is compared with ARM DEN 0049.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-utils.h"

#define MACHINE         "-machine virt,gic-version=3,iommu=smmuv3 -nodefaults "
#define TWO             "-device pcie-root-port,id=rp1,addr=2 " \
                        "-device arm-smmuv3,primary-bus=rp1 "
#define PORT_DEVFN      QPCI_DEVFN(2, 0)
#define SECOND_BUS      3
#define SECOND_BASE     0x0c000000ull

/* SPIs of the machine's SMMU, and of the platform bus, as GSIs */
#define GSI             (32 + 74)
#define SECOND_GSI      (32 + 112)

#define FW_CFG_DATA     0x09020000ull
#define FW_CFG_CTL      0x09020008ull
#define FW_CFG_FILE_DIR 0x19
#define FW_CFG_ENTRY    64              /* size, select, reserved, name[56] */

/* What is used of it; the rest is padding */
#define TABLES_SIZE     0x6000

typedef enum NodeType {
    NODE_ITS = 0,
    NODE_RC = 2,
    NODE_SMMUV3 = 4,
} NodeType;

#define RC_ATS          (1 << 0)
#define RC_PASID        (1 << 2)
#define SMMU_COHACC     (1 << 0)
#define SMMU_HTTU(x)    ((x) << 1)

/* fw_cfg is big-endian, whatever the CPU is */
static void fw_cfg_read(QTestState *qts, uint16_t key, uint8_t *buf,
                        size_t size)
{
    qtest_writew(qts, FW_CFG_CTL, bswap16(key));
    for (size_t i = 0; i < size; i += 8) {
        stq_le_p(buf + i, qtest_readq(qts, FW_CFG_DATA));
    }
}

static uint8_t *read_tables(QTestState *qts)
{
    uint8_t *tables = g_malloc(TABLES_SIZE);
    uint8_t dir[4 + 64 * FW_CFG_ENTRY + 4];

    fw_cfg_read(qts, FW_CFG_FILE_DIR, dir, sizeof(dir));
    g_assert_cmpuint(ldl_be_p(dir), <=, 64);
    for (int i = 0; i < ldl_be_p(dir); i++) {
        uint8_t *file = dir + 4 + i * FW_CFG_ENTRY;

        if (!strcmp((char *)file + 8, "etc/acpi/tables")) {
            fw_cfg_read(qts, lduw_be_p(file + 4), tables, TABLES_SIZE);
            return tables;
        }
    }
    g_assert_not_reached();
}

/* The first table of this name */
static uint8_t *find_table(uint8_t *tables, const char *name)
{
    for (size_t i = 0; i < TABLES_SIZE - 8;) {
        uint32_t size = ldl_le_p(tables + i + 4);

        if (!memcmp(tables + i, name, 4)) {
            g_assert_cmpuint(i + size, <=, TABLES_SIZE);
            return tables + i;
        }
        g_assert_cmpuint(size, >, 0);
        i += size;
    }
    g_assert_not_reached();
}

/* The @n-th node of this type, counted from 0; NULL if there is none */
static uint8_t *find_node(uint8_t *iort, NodeType type, int n)
{
    uint32_t nodes = ldl_le_p(iort + 36), offset = ldl_le_p(iort + 40);

    while (nodes--) {
        uint8_t *node = iort + offset;

        offset += lduw_le_p(node + 1);
        g_assert_cmpuint(offset, <=, ldl_le_p(iort + 4));
        if (node[0] == type && !n--) {
            return node;
        }
    }
    g_assert_cmpuint(offset, ==, ldl_le_p(iort + 4));
    return NULL;
}

static void expect_smmu(uint8_t *iort, int n, uint64_t base, uint32_t gsi,
                        uint32_t flags)
{
    uint8_t *node = find_node(iort, NODE_SMMUV3, n);

    g_assert_nonnull(node);
    g_assert_cmphex(ldq_le_p(node + 16), ==, base);
    g_assert_cmphex(ldl_le_p(node + 24), ==, flags);
    g_assert_cmphex(ldl_le_p(node + 40), ==, 0);        /* generic */
    g_assert_cmpuint(ldl_le_p(node + 44), ==, gsi);     /* event queue */
    g_assert_cmpuint(ldl_le_p(node + 48), ==, gsi + 1); /* PRI queue */
    g_assert_cmpuint(ldl_le_p(node + 52), ==, gsi + 3); /* GERROR */
    g_assert_cmpuint(ldl_le_p(node + 56), ==, gsi + 2); /* CMD_SYNC */
}

static void expect_rc(uint8_t *iort, uint8_t revision, uint32_t ats,
                      uint16_t pasid_width)
{
    uint8_t *node = find_node(iort, NODE_RC, 0);

    g_assert_null(find_node(iort, NODE_RC, 1));
    g_assert_cmphex(node[3], ==, revision);
    g_assert_cmphex(ldl_le_p(node + 24), ==, ats);
    g_assert_cmpuint(lduw_le_p(node + 33), ==, pasid_width);
}

/*
 * The Root Complex's RID @rid leads to the @n-th SMMU, as StreamID, or past all
 * to the ITS (-1), as no bridge has a bus of this number
 */
static void expect_map(uint8_t *iort, uint32_t rid, int n)
{
    uint8_t *rc = find_node(iort, NODE_RC, 0);
    uint8_t *map = rc + ldl_le_p(rc + 12);
    int found = 0;

    for (uint32_t i = 0; i < ldl_le_p(rc + 8); i++, map += 20) {
        uint32_t first = ldl_le_p(map);

        if (rid < first || rid - first > ldl_le_p(map + 4)) {
            continue;
        }
        g_assert_cmphex(ldl_le_p(map + 8), ==, first);
        g_assert_true(iort + ldl_le_p(map + 12) ==
                      (n < 0 ? find_node(iort, NODE_ITS, 0) :
                       find_node(iort, NODE_SMMUV3, n)));
        found++;
    }
    g_assert_cmpint(found, ==, 1);
}

typedef struct Fixture {
    QTestState *qts;
    uint8_t *tables, *iort;
} Fixture;

/* With bus numbers of a firmware's that counts otherwise than Linux, or none */
static void setup(Fixture *f, bool numbered, const char *args)
{
    QGenericPCIBus bus;
    QPCIDevice *port;

    f->qts = qtest_initf(MACHINE "%s", args);
    qpci_init_generic(&bus, f->qts, NULL, false);
    port = qpci_device_find(&bus.bus, PORT_DEVFN);
    if (port && numbered) {
        qpci_config_writeb(port, PCI_SECONDARY_BUS, SECOND_BUS);
        qpci_config_writeb(port, PCI_SUBORDINATE_BUS, SECOND_BUS + 1);
    }
    g_free(port);
    f->tables = read_tables(f->qts);
    f->iort = find_table(f->tables, "IORT");
}

static void teardown(Fixture *f)
{
    qtest_quit(f->qts);
    g_free(f->tables);
}

/* What has no features is described as ever */
static void test_one(void)
{
    Fixture f;

    setup(&f, true, "");
    g_assert_cmpuint(ldl_le_p(f.iort + 36), ==, 3);
    expect_smmu(f.iort, 0, QSMMU_VIRT_BASE, GSI, SMMU_COHACC);
    expect_rc(f.iort, 3, 0, 0);
    expect_map(f.iort, 0, 0);
    expect_map(f.iort, 0xff, 0);
    expect_map(f.iort, 0x100, -1);
    expect_map(f.iort, 0xffff, -1);
    teardown(&f);
}

static void test_features(void)
{
    Fixture f;

    setup(&f, true, "-global arm-smmuv3.ats=on -global arm-smmuv3.ssidsize=16 "
          "-global arm-smmuv3.httu=2");
    expect_smmu(f.iort, 0, QSMMU_VIRT_BASE, GSI, SMMU_COHACC | SMMU_HTTU(2));
    expect_rc(f.iort, 4, RC_ATS | RC_PASID, 16);
    teardown(&f);

    setup(&f, true, "-global arm-smmuv3.x-fw-coherent=off");
    expect_smmu(f.iort, 0, QSMMU_VIRT_BASE, GSI, 0);
    teardown(&f);
}

static void test_two(void)
{
    Fixture f;

    setup(&f, true, TWO);
    g_assert_cmpuint(ldl_le_p(f.iort + 36), ==, 4);
    expect_smmu(f.iort, 0, QSMMU_VIRT_BASE, GSI, SMMU_COHACC);
    expect_smmu(f.iort, 1, SECOND_BASE, SECOND_GSI, SMMU_COHACC);
    expect_map(f.iort, 0, 0);
    expect_map(f.iort, (SECOND_BUS << 8) - 1, 0);
    expect_map(f.iort, SECOND_BUS << 8, 1);
    expect_map(f.iort, ((SECOND_BUS + 2) << 8) - 1, 1);
    expect_map(f.iort, (SECOND_BUS + 2) << 8, -1);
    teardown(&f);

    /* Each says what it has itself; the Root Complex, what one of them has */
    setup(&f, true, "-device pcie-root-port,id=rp1,addr=2 -device arm-smmuv3,"
          "primary-bus=rp1,httu=1,ats=on,ssidsize=20,x-fw-coherent=off");
    expect_smmu(f.iort, 0, QSMMU_VIRT_BASE, GSI, SMMU_COHACC);
    expect_smmu(f.iort, 1, SECOND_BASE, SECOND_GSI, SMMU_HTTU(1));
    expect_rc(f.iort, 4, RC_ATS | RC_PASID, 20);
    teardown(&f);

    /* Nobody has numbered the buses: none is behind it yet */
    setup(&f, false, TWO);
    expect_smmu(f.iort, 1, SECOND_BASE, SECOND_GSI, SMMU_COHACC);
    expect_map(f.iort, 0, 0);
    expect_map(f.iort, 0x100, -1);
    teardown(&f);
}

static bool says_stall(Fixture *f)
{
    uint8_t *dsdt = find_table(f->tables, "DSDT");

    return memmem(dsdt, ldl_le_p(dsdt + 4), "dma-can-stall", 13);
}

/* Where software may choose, and for functions that can wait, alone */
static void test_stall(void)
{
    static const struct {
        const char *args;
        bool says;
    } cases[] = {
        { "-global arm-smmuv3.stall-model=0 -device sva-testdev", true },
        { "-global arm-smmuv3.stall-model=1 -device sva-testdev", false },
        { "-global arm-smmuv3.stall-model=2 -device sva-testdev", false },
        { "-global arm-smmuv3.stall-model=0", false },
        { "-global arm-smmuv3.stall-model=0 -device pcie-root-port,id=rp1 "
          "-device sva-testdev,bus=rp1", true },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture f;

        setup(&f, false, cases[i].args);
        g_assert_cmpint(says_stall(&f), ==, cases[i].says);
        teardown(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3/acpi/one", test_one);
    qtest_add_func("/smmuv3/acpi/features", test_features);
    qtest_add_func("/smmuv3/acpi/two", test_two);
    qtest_add_func("/smmuv3/acpi/stall", test_stall);
    return g_test_run();
}
