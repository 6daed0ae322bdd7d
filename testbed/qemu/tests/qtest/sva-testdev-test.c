/*
 * QTest testcase for sva-testdev
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The device by itself: its registers, operations, errors and messages. All
 * accesses are to guest physical memory, but for those that an SMMU has to
 * end. What an SMMU does to them is tested in smmuv3-ssid-test.c.
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/generic-pcihost.h"
#include "hw/pci/pci_regs.h"
#include "hw/pci/pcie_regs.h"
#include "qobject/qdict.h"
#include "standard-headers/misc/uacce/sva_testdev.h"
#include "smmuv3-utils.h"

#define MACHINE         "-machine virt,gic-version=3 -nodefaults "
#define MACHINE_SMMU    "-machine virt,gic-version=3,iommu=smmuv3 -nodefaults "

#define DEVFN           QPCI_DEVFN(1, 0)
#define LATENCY_NS      1000    /* the default */

#define PAGE            0x1000ull
#define BURST           0x10000ull      /* bytes at a time */
#define UART            0x09000000ull
#define RAM_A           (QSMMU_VIRT_RAM + 0x1000000ull)
#define RAM_B           (QSMMU_VIRT_RAM + 0x2000000ull)
#define RAM_SMMU        (QSMMU_VIRT_RAM + 0x3000000ull)

/* Two values for POLL, and one that it is not told of */
#define V1              0x1111222233334444ull
#define V2              0x5555666677778888ull
#define V_OTHER         0x9999aaaabbbbccccull

typedef struct Fixture {
    QTestState *qts;
    QGenericPCIBus bus;
    QPCIDevice *pci;
    uint64_t ctrl;
    uint64_t queues;
} Fixture;

typedef struct Args {
    uint64_t src, dst, len, arg, arg2, stride;
} Args;

/* Registers */

static uint64_t qctl(Fixture *f, unsigned int q, uint64_t reg)
{
    return f->ctrl + SVATD_QCTL(q) + reg;
}

static uint64_t queue(Fixture *f, unsigned int q)
{
    return f->queues + (uint64_t)q * SVATD_QUEUE_STRIDE;
}

static uint64_t slot(Fixture *f, unsigned int q, unsigned int n)
{
    return queue(f, q) + SVATD_Q_SLOT(n);
}

static uint32_t done(Fixture *f, unsigned int q)
{
    return qtest_readl(f->qts, queue(f, q) + SVATD_Q_DONE);
}

static uint32_t state(Fixture *f, unsigned int q)
{
    return qtest_readl(f->qts, qctl(f, q, SVATD_QCTL_STATE));
}

static void set_ctl(Fixture *f, unsigned int q, uint32_t ctl)
{
    qtest_writel(f->qts, qctl(f, q, SVATD_QCTL_CTL), ctl);
}

static uint32_t status(Fixture *f, uint64_t s)
{
    return qtest_readl(f->qts, s + SVATD_SLOT_STATUS);
}

/* Operations: arm, trigger, wait */

static void arm(Fixture *f, uint64_t s, Args a)
{
    qtest_writeq(f->qts, s + SVATD_SLOT_SRC, a.src);
    qtest_writeq(f->qts, s + SVATD_SLOT_DST, a.dst);
    qtest_writeq(f->qts, s + SVATD_SLOT_LEN, a.len);
    qtest_writeq(f->qts, s + SVATD_SLOT_ARG, a.arg);
    qtest_writeq(f->qts, s + SVATD_SLOT_ARG2, a.arg2);
    qtest_writeq(f->qts, s + SVATD_SLOT_STRIDE, a.stride);
}

static void trigger(Fixture *f, uint64_t s, uint32_t cmd)
{
    qtest_writel(f->qts, s + SVATD_SLOT_CMD, cmd);
}

static uint32_t run(Fixture *f, uint64_t s, uint32_t cmd, Args a)
{
    arm(f, s, a);
    trigger(f, s, cmd);
    for (int i = 0; i < 1000; i++) {
        if (status(f, s) != SVATD_ST_RUNNING) {
            return status(f, s);
        }
        qtest_clock_step(f->qts, LATENCY_NS);
    }
    g_assert_not_reached();
}

/* A POLL of one value that is there: it runs until something ends it */
static void start_poll(Fixture *f, uint64_t s)
{
    qtest_writeq(f->qts, RAM_A, V1);
    arm(f, s, (Args) { .src = RAM_A, .len = 8, .arg = V1, .arg2 = V1,
                       .stride = 8 });
    trigger(f, s, SVATD_OP_POLL);
    qtest_clock_step(f->qts, LATENCY_NS);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_RUNNING);
}

#define expect_slot(f, s, st, faddr, value, count) do { \
        g_assert_cmphex(status(f, s), ==, st); \
        g_assert_cmphex(qtest_readq((f)->qts, (s) + SVATD_SLOT_FADDR), ==, \
                        faddr); \
        g_assert_cmphex(qtest_readq((f)->qts, (s) + SVATD_SLOT_VALUE), ==, \
                        value); \
        g_assert_cmphex(qtest_readq((f)->qts, (s) + SVATD_SLOT_COUNT), ==, \
                        count); \
    } while (0)

/* The clock goes on, and the operation does not */
static void expect_still(Fixture *f, uint64_t s)
{
    uint64_t count = qtest_readq(f->qts, s + SVATD_SLOT_COUNT);

    qtest_clock_step(f->qts, 10 * LATENCY_NS);
    g_assert_cmpuint(qtest_readq(f->qts, s + SVATD_SLOT_COUNT), ==, count);
}

static void expect_progress(Fixture *f, uint64_t s)
{
    uint64_t count = qtest_readq(f->qts, s + SVATD_SLOT_COUNT);

    qtest_clock_step(f->qts, LATENCY_NS);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_RUNNING);
    g_assert_cmpuint(qtest_readq(f->qts, s + SVATD_SLOT_COUNT), >, count);
}

/* Setup */

static void map_device(Fixture *f)
{
    qpci_device_enable(f->pci);
    f->ctrl = qpci_iomap(f->pci, SVATD_BAR_CTRL, NULL).addr;
    f->queues = qpci_iomap(f->pci, SVATD_BAR_QUEUES, NULL).addr;
}

static Fixture *setup_machine(const char *machine, const char *props)
{
    Fixture *f = g_new0(Fixture, 1);

    f->qts = qtest_initf("%s -device sva-testdev,addr=1%s", machine, props);
    qpci_init_generic(&f->bus, f->qts, NULL, false);
    f->pci = qpci_device_find(&f->bus.bus, DEVFN);
    g_assert_nonnull(f->pci);
    map_device(f);
    return f;
}

/* Queue 0 is enabled */
static Fixture *setup(void)
{
    Fixture *f = setup_machine(MACHINE, "");

    set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);
    return f;
}

static void teardown(Fixture *f)
{
    g_free(f->pci);
    qtest_quit(f->qts);
    g_free(f);
}

/* Identification and configuration */

static void test_id(void)
{
    static const struct {
        const char *props;
        uint32_t queues, pasid_bits;
    } cases[] = {
        { "", 64, 16 },
        { ",queues=1,pasid-bits=0", 1, 0 },
        { ",queues=1024,pasid-bits=20", SVATD_MAX_QUEUES, 20 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup_machine(MACHINE, cases[i].props);
        uint32_t caps = cases[i].queues |
                        cases[i].pasid_bits << SVATD_CAPS_PASID_SHIFT;
        uint32_t last = cases[i].queues - 1;

        g_assert_cmphex(qpci_config_readw(f->pci, PCI_VENDOR_ID), ==,
                        SVATD_PCI_VENDOR_ID);
        g_assert_cmphex(qpci_config_readw(f->pci, PCI_DEVICE_ID), ==,
                        SVATD_PCI_DEVICE_ID);

        /* Read-only, all of them */
        for (int round = 0; round < 2; round++) {
            g_assert_cmphex(qtest_readl(f->qts, f->ctrl + SVATD_ID), ==,
                            SVATD_ID_VALUE);
            g_assert_cmphex(qtest_readl(f->qts, f->ctrl + SVATD_VERSION), ==,
                            SVATD_VERSION_VALUE);
            g_assert_cmphex(qtest_readl(f->qts, f->ctrl + SVATD_CAPS), ==,
                            caps);
            qtest_writel(f->qts, f->ctrl + SVATD_ID, ~0u);
            qtest_writel(f->qts, f->ctrl + SVATD_VERSION, ~0u);
            qtest_writel(f->qts, f->ctrl + SVATD_CAPS, ~0u);
        }

        /* The last queue is there, and none behind it */
        set_ctl(f, last, SVATD_QCTL_CTL_ENABLE);
        g_assert_cmphex(run(f, slot(f, last, SVATD_NUM_SLOTS - 1),
                            SVATD_OP_NOP, (Args) {}), ==, SVATD_ST_OK);
        set_ctl(f, last + 1, SVATD_QCTL_CTL_ENABLE);
        g_assert_cmphex(qtest_readl(f->qts, qctl(f, last + 1,
                                                 SVATD_QCTL_CTL)), ==, 0);
        teardown(f);
    }
}

/* libqos reaches the first 256 bytes alone */
static uint64_t config_addr(Fixture *f, unsigned int offset)
{
    return f->bus.ecam_alloc_ptr + (DEVFN << 12) + offset;
}

static uint32_t config_readl(Fixture *f, unsigned int offset)
{
    return qtest_readl(f->qts, config_addr(f, offset));
}

static unsigned int find_ext_cap(Fixture *f, uint16_t id)
{
    unsigned int pos = PCI_CFG_SPACE_SIZE;

    while (pos) {
        uint32_t header = config_readl(f, pos);

        if (PCI_EXT_CAP_ID(header) == id) {
            return pos;
        }
        pos = PCI_EXT_CAP_NEXT(header);
    }
    return 0;
}

static void test_pci_caps(void)
{
    static const unsigned int bits[] = { 0, 1, 16, 20 };

    for (int i = 0; i < ARRAY_SIZE(bits); i++) {
        g_autofree char *props = g_strdup_printf(",pasid-bits=%u", bits[i]);
        Fixture *f = setup_machine(MACHINE, props);
        uint8_t exp = qpci_find_capability(f->pci, PCI_CAP_ID_EXP, 0);
        unsigned int pasid = find_ext_cap(f, PCI_EXT_CAP_ID_PASID);
        uint32_t cap;

        g_assert_cmphex(exp, !=, 0);
        g_assert_cmphex(config_readl(f, exp + PCI_EXP_DEVCAP2) &
                        PCI_EXP_DEVCAP2_EETLPP, !=, 0);
        g_assert_cmphex(find_ext_cap(f, PCI_EXT_CAP_ID_ATS), ==, 0);
        g_assert_cmphex(find_ext_cap(f, PCI_EXT_CAP_ID_PRI), ==, 0);

        if (bits[i]) {
            g_assert_cmphex(pasid, !=, 0);
            cap = config_readl(f, pasid + PCI_PASID_CAP);
            /* Neither Execute nor Privileged, and not enabled */
            g_assert_cmphex(cap, ==, bits[i] << 8);
            qtest_writew(f->qts, config_addr(f, pasid + PCI_PASID_CTRL),
                         0xffff);
            cap = config_readl(f, pasid + PCI_PASID_CAP);
            g_assert_cmphex(cap, ==, bits[i] << 8 |
                            PCI_PASID_CTRL_ENABLE << 16);
        } else {
            g_assert_cmphex(pasid, ==, 0);
        }
        teardown(f);
    }
}

static void test_msix_size(void)
{
    static const struct {
        const char *props;
        int vectors;
    } cases[] = {
        { ",queues=1", 1 }, { ",queues=3", 3 }, { ",queues=64", 64 },
        { ",queues=65", 64 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        Fixture *f = setup_machine(MACHINE, cases[i].props);

        g_assert_cmpint(qpci_msix_table_size(f->pci), ==, cases[i].vectors);
        teardown(f);
    }
}

/* Hot-plugged, so that what is refused ends nothing but the command */
static void test_properties(void)
{
    static const struct {
        const char *prop;
        int value;
        const char *error;
    } cases[] = {
        { "queues", 0, "sva-testdev: queues must be 1 to 1024" },
        { "queues", 1025, "sva-testdev: queues must be 1 to 1024" },
        { "pasid-bits", 21, "sva-testdev: pasid-bits must be 0 to 20" },
        { "pasid-bits", 255, "sva-testdev: pasid-bits must be 0 to 20" },
        { "latency-ns", 0, "sva-testdev: latency-ns must not be 0" },
        { "pasid-bits", 20, NULL },
    };
    QTestState *qts = qtest_init(MACHINE "-device pcie-root-port,id=rp");

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        QDict *rsp = qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments': {"
                               " 'driver': 'sva-testdev', 'bus': 'rp',"
                               " 'id': 'dev', %s: %d } }",
                               cases[i].prop, cases[i].value);

        if (cases[i].error) {
            g_assert_true(qdict_haskey(rsp, "error"));
            g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"),
                                          "desc"), ==, cases[i].error);
        } else {
            g_assert_true(qdict_haskey(rsp, "return"));
        }
        qobject_unref(rsp);
    }
    qtest_quit(qts);
}

/* Operations that end well */

static void test_nop(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    g_assert_cmphex(status(f, s), ==, SVATD_ST_IDLE);
    g_assert_cmphex(run(f, s, SVATD_OP_NOP, (Args) {}), ==, SVATD_ST_OK);
    expect_slot(f, s, SVATD_ST_OK, 0, 0, 0);
    g_assert_cmphex(done(f, 0), ==, 1);
    g_assert_cmphex(qtest_readl(f->qts, s + SVATD_SLOT_CMD), ==,
                    SVATD_OP_NOP);
    teardown(f);
}

/* Nothing happens before latency-ns have passed */
static void test_latency(void)
{
    Fixture *f = setup_machine(MACHINE, ",latency-ns=5000");
    uint64_t s = slot(f, 0, 0);

    set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);
    arm(f, s, (Args) { .dst = RAM_A, .len = 8, .arg = V1 });
    trigger(f, s, SVATD_OP_FILL);
    qtest_clock_step(f->qts, 4999);
    expect_slot(f, s, SVATD_ST_RUNNING, 0, 0, 0);
    g_assert_cmphex(state(f, 0), ==, SVATD_QCTL_STATE_BUSY);
    g_assert_cmphex(done(f, 0), ==, 0);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A), ==, 0);

    qtest_clock_step(f->qts, 1);
    expect_slot(f, s, SVATD_ST_OK, 0, 0, 8);
    g_assert_cmphex(state(f, 0), ==, 0);
    g_assert_cmphex(done(f, 0), ==, 1);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A), ==, V1);

    /* Between two bursts, too */
    arm(f, s, (Args) { .dst = RAM_A, .len = 2 * BURST, .arg = V2 });
    trigger(f, s, SVATD_OP_FILL);
    qtest_clock_step(f->qts, 9999);
    expect_slot(f, s, SVATD_ST_RUNNING, 0, 0, BURST);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + BURST - 8), ==, V2);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + BURST), ==, 0);
    qtest_clock_step(f->qts, 1);
    expect_slot(f, s, SVATD_ST_OK, 0, 0, 2 * BURST);
    teardown(f);
}

/* Lengths and offsets for pages, 64 bits, and what one burst does */
static const struct {
    uint64_t len, src, dst;
} bulk[] = {
    { 0, 0, 0 },
    { 8, 0, 0 },
    { 8, 3, 5 },
    { 8, PAGE - 4, PAGE - 1 },
    { 4096, 0, 0 },
    { 4104, 8, 2040 },
    { 65536, 0, 0 },
    { 65544, 1, 4095 },
    { 204800, 4000, 7 },
};

#define BULK_MAX        (256 * 1024)

static void test_fill(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);
    g_autofree uint8_t *want = g_malloc(BULK_MAX);
    g_autofree uint8_t *got = g_malloc(BULK_MAX);

    for (int i = 0; i < ARRAY_SIZE(bulk); i++) {
        memset(want, 0xee, BULK_MAX);
        qtest_memset(f->qts, RAM_A, 0xee, BULK_MAX);
        for (uint64_t n = 0; n < bulk[i].len; n++) {
            want[bulk[i].dst + n] = V1 >> (n % 8) * 8;
        }
        run(f, s, SVATD_OP_FILL,
            (Args) { .dst = RAM_A + bulk[i].dst, .len = bulk[i].len,
                     .arg = V1 });
        expect_slot(f, s, SVATD_ST_OK, 0, 0, bulk[i].len);
        qtest_memread(f->qts, RAM_A, got, BULK_MAX);
        g_assert_cmpmem(got, BULK_MAX, want, BULK_MAX);
    }
    teardown(f);
}

static void test_copy_compare(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);
    g_autofree uint8_t *data = g_malloc(BULK_MAX);
    g_autofree uint8_t *want = g_malloc(BULK_MAX);
    g_autofree uint8_t *got = g_malloc(BULK_MAX);

    for (int i = 0; i < BULK_MAX; i++) {
        data[i] = i * 2654435761u >> 24;
    }
    qtest_memwrite(f->qts, RAM_A, data, BULK_MAX);

    for (int i = 0; i < ARRAY_SIZE(bulk); i++) {
        uint64_t len = bulk[i].len;
        Args args = {
            .src = RAM_A + bulk[i].src, .dst = RAM_B + bulk[i].dst,
            .len = len,
        };

        memset(want, 0xee, BULK_MAX);
        qtest_memset(f->qts, RAM_B, 0xee, BULK_MAX);
        memcpy(want + bulk[i].dst, data + bulk[i].src, len);
        run(f, s, SVATD_OP_COPY, args);
        expect_slot(f, s, SVATD_ST_OK, 0, 0, len);
        qtest_memread(f->qts, RAM_B, got, BULK_MAX);
        g_assert_cmpmem(got, BULK_MAX, want, BULK_MAX);

        run(f, s, SVATD_OP_COMPARE, args);
        expect_slot(f, s, SVATD_ST_OK, 0, 0, len);

        /* Differences: behind the end, at the last byte, in the middle */
        qtest_writeb(f->qts, args.dst + len, ~got[bulk[i].dst + len]);
        run(f, s, SVATD_OP_COMPARE, args);
        expect_slot(f, s, SVATD_ST_OK, 0, 0, len);
        for (uint64_t at = len; at; at /= 2) {
            uint64_t off = at - 1;

            qtest_writeb(f->qts, args.dst + off,
                         ~data[bulk[i].src + off]);
            run(f, s, SVATD_OP_COMPARE, args);
            expect_slot(f, s, SVATD_ST_MISMATCH, args.src + off,
                        data[bulk[i].src + off], off);
        }
    }
    teardown(f);
}

static void test_atomic_add(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    qtest_writeq(f->qts, RAM_A + 8, 0xffffffffull);
    run(f, s, SVATD_OP_ATOMIC_ADD, (Args) { .dst = RAM_A + 8, .arg = 2 });
    expect_slot(f, s, SVATD_ST_OK, 0, 0xffffffffull, 1);
    run(f, s, SVATD_OP_ATOMIC_ADD,
        (Args) { .dst = RAM_A + 8, .arg = -0x100000002ull });
    expect_slot(f, s, SVATD_ST_OK, 0, 0x100000001ull, 1);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + 8), ==, ~0ull);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A), ==, 0);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + 16), ==, 0);
    teardown(f);
}

static void test_poll(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    /* Both values are good, and what the stride leaves out is not read */
    for (int i = 0; i < 8; i++) {
        qtest_writeq(f->qts, RAM_A + i * 16, i & 1 ? V1 : V2);
        qtest_writeq(f->qts, RAM_A + i * 16 + 8, V_OTHER);
    }
    qtest_writeq(f->qts, RAM_A + 128, V_OTHER);
    arm(f, s, (Args) { .src = RAM_A, .len = 128, .arg = V1, .arg2 = V2,
                       .stride = 16 });
    trigger(f, s, SVATD_OP_POLL);
    for (int i = 0; i < 5; i++) {
        expect_progress(f, s);
    }
    g_assert_cmphex(done(f, 0), ==, 0);

    qtest_writeq(f->qts, RAM_A + 5 * 16, V_OTHER);
    qtest_clock_step(f->qts, LATENCY_NS);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_MISMATCH);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_FADDR), ==,
                    RAM_A + 5 * 16);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_VALUE), ==, V_OTHER);
    g_assert_cmpuint(qtest_readq(f->qts, s + SVATD_SLOT_COUNT) % 8, ==, 6);
    g_assert_cmphex(done(f, 0), ==, 1);
    expect_still(f, s);
    teardown(f);
}

static void test_hammer(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    arm(f, s, (Args) { .dst = RAM_A + 8, .len = 48, .arg = V1, .stride = 16 });
    trigger(f, s, SVATD_OP_HAMMER);
    for (int i = 0; i < 5; i++) {
        expect_progress(f, s);
        for (int n = 0; n < 10; n++) {
            bool hit = n == 1 || n == 3 || n == 5;

            g_assert_cmphex(qtest_readq(f->qts, RAM_A + n * 8), ==,
                            hit ? V1 : 0);
            qtest_writeq(f->qts, RAM_A + n * 8, 0);
        }
    }
    trigger(f, s, SVATD_OP_STOP);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_STOPPED);
    expect_still(f, s);
    for (int n = 0; n < 10; n++) {
        g_assert_cmphex(qtest_readq(f->qts, RAM_A + n * 8), ==, 0);
    }
    teardown(f);
}

/* Errors */

/* They end at once: the clock stands */
static void test_bad_cmd(void)
{
    static const uint32_t cmds[] = {
        0, 9, 0xff, SVATD_CMD_IRQ,
        SVATD_OP_NOP | 0x200, SVATD_OP_NOP | 1u << 31,
    };
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 3);

    for (int i = 0; i < ARRAY_SIZE(cmds); i++) {
        g_assert_cmphex(done(f, 0), ==, 0);
        trigger(f, s, cmds[i]);
        expect_slot(f, s, SVATD_ST_BAD_CMD, 0, 0, 0);
        g_assert_cmphex(done(f, 0), ==, 1 << 3);
        g_assert_cmphex(state(f, 0), ==, 0);
        qtest_writel(f->qts, queue(f, 0) + SVATD_Q_DONE, 1 << 3);
    }
    teardown(f);
}

static void test_bad_arg(void)
{
    const uint64_t top = -8ull;
    const struct {
        uint32_t cmd;
        Args args;
    } cases[] = {
        { SVATD_OP_COPY, { .src = top, .dst = RAM_B, .len = 9 } },
        { SVATD_OP_COPY, { .src = RAM_A, .dst = top, .len = 9 } },
        { SVATD_OP_COPY, { .src = RAM_A, .dst = RAM_B, .len = ~0ull } },
        { SVATD_OP_COMPARE, { .src = top, .dst = RAM_B, .len = 9 } },
        { SVATD_OP_COMPARE, { .src = RAM_A, .dst = top, .len = 9 } },
        { SVATD_OP_FILL, { .dst = RAM_A, .len = 9 } },
        { SVATD_OP_FILL, { .dst = top, .len = 16 } },
        { SVATD_OP_ATOMIC_ADD, { .dst = RAM_A + 4 } },
        { SVATD_OP_POLL, { .src = RAM_A + 4, .len = 8, .stride = 8 } },
        { SVATD_OP_POLL, { .src = RAM_A, .len = 12, .stride = 8 } },
        { SVATD_OP_POLL, { .src = RAM_A, .len = 0, .stride = 8 } },
        { SVATD_OP_POLL, { .src = RAM_A, .len = 8, .stride = 0 } },
        { SVATD_OP_POLL, { .src = RAM_A, .len = 8, .stride = 12 } },
        { SVATD_OP_POLL, { .src = RAM_A, .len = 8, .stride = top } },
        { SVATD_OP_POLL, { .src = top, .len = 16, .stride = 8 } },
        { SVATD_OP_HAMMER, { .dst = RAM_A + 4, .len = 8, .stride = 8 } },
        { SVATD_OP_HAMMER, { .dst = RAM_A, .len = 12, .stride = 8 } },
        { SVATD_OP_HAMMER, { .dst = RAM_A, .len = 0, .stride = 8 } },
        { SVATD_OP_HAMMER, { .dst = RAM_A, .len = 8, .stride = 0 } },
        { SVATD_OP_HAMMER, { .dst = RAM_A, .len = 8, .stride = 12 } },
        { SVATD_OP_HAMMER, { .dst = RAM_A, .len = 8, .stride = top } },
        { SVATD_OP_HAMMER, { .dst = top, .len = 16, .stride = 8 } },
    };
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        arm(f, s, cases[i].args);
        trigger(f, s, cases[i].cmd);
        expect_slot(f, s, SVATD_ST_BAD_ARG, 0, 0, 0);
        g_assert_cmphex(done(f, 0), ==, 1);
        g_assert_cmphex(state(f, 0), ==, 0);
        qtest_writel(f->qts, queue(f, 0) + SVATD_Q_DONE, 1);
    }

    /* Up to the last byte, a range does not wrap: nothing is there, though */
    run(f, s, SVATD_OP_FILL, (Args) { .dst = top, .len = 8 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, top, 0, 0);
    teardown(f);
}

static void test_disabled(void)
{
    Fixture *f = setup_machine(MACHINE, "");
    uint64_t s = slot(f, 0, 0);

    for (int i = 0; i < 2; i++) {
        g_assert_cmphex(qtest_readl(f->qts, queue(f, 0) + SVATD_Q_INFO), ==,
                        0);
        for (uint32_t op = SVATD_OP_NOP; op <= SVATD_OP_HAMMER; op++) {
            arm(f, s, (Args) { .src = RAM_A, .dst = RAM_B, .len = 8,
                               .stride = 8, .arg = V1 });
            trigger(f, s, op);
            expect_slot(f, s, SVATD_ST_DISABLED, 0, 0, 0);
            g_assert_cmphex(state(f, 0), ==, 0);
        }
        qtest_clock_step(f->qts, 10 * LATENCY_NS);
        g_assert_cmphex(qtest_readq(f->qts, RAM_B), ==, 0);

        /* Again, after it has been enabled */
        set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);
        g_assert_cmphex(qtest_readl(f->qts, queue(f, 0) + SVATD_Q_INFO), ==,
                        SVATD_Q_INFO_ENABLED);
        set_ctl(f, 0, 0);
    }
    teardown(f);
}

/* Nothing is there, or no memory */
static void test_bus(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);
    uint64_t hole = QSMMU_VIRT_HOLE;
    uint64_t mmio[] = { UART, slot(f, 0, 1) };

    run(f, s, SVATD_OP_COPY, (Args) { .src = hole, .dst = RAM_A, .len = 8 });
    expect_slot(f, s, SVATD_ST_BUS, hole, 0, 0);
    run(f, s, SVATD_OP_COPY,
        (Args) { .src = RAM_A, .dst = hole + 16, .len = 4096 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, hole + 16, 0, 0);
    run(f, s, SVATD_OP_COMPARE,
        (Args) { .src = RAM_A, .dst = hole, .len = 16 });
    expect_slot(f, s, SVATD_ST_BUS, hole, 0, 0);
    run(f, s, SVATD_OP_FILL, (Args) { .dst = hole, .len = 16 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, hole, 0, 0);
    run(f, s, SVATD_OP_POLL, (Args) { .src = hole, .len = 8, .stride = 8 });
    expect_slot(f, s, SVATD_ST_BUS, hole, 0, 0);
    run(f, s, SVATD_OP_HAMMER, (Args) { .dst = hole, .len = 8, .stride = 8 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, hole, 0, 0);

    run(f, s, SVATD_OP_ATOMIC_ADD, (Args) { .dst = hole, .arg = 1 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, hole, 0, 0);

    /* A device's registers are no memory, not even its own */
    for (int i = 0; i < ARRAY_SIZE(mmio); i++) {
        run(f, s, SVATD_OP_COPY,
            (Args) { .src = mmio[i], .dst = RAM_A, .len = 8 });
        expect_slot(f, s, SVATD_ST_BUS, mmio[i], 0, 0);
        run(f, s, SVATD_OP_FILL,
            (Args) { .dst = mmio[i], .len = 8, .arg = SVATD_OP_NOP });
        expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, mmio[i], 0, 0);
        run(f, s, SVATD_OP_POLL,
            (Args) { .src = mmio[i], .len = 8, .stride = 8 });
        expect_slot(f, s, SVATD_ST_BUS, mmio[i], 0, 0);
        run(f, s, SVATD_OP_ATOMIC_ADD, (Args) { .dst = mmio[i], .arg = 1 });
        expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, mmio[i], 0, 0);
    }
    g_assert_cmphex(status(f, slot(f, 0, 1)), ==, SVATD_ST_IDLE);
    g_assert_cmphex(done(f, 0), ==, 1);
    teardown(f);
}

/* What the SMMU ends: one page is mapped, the next is a hole */
static void test_fault(void)
{
    const uint64_t va = 0x3654321000ull, hole = va + PAGE;
    Fixture *f = setup_machine(MACHINE_SMMU, "");
    uint64_t s = slot(f, 0, 0);
    QSMMUCDTable tab;
    QSMMU smmu;
    uint64_t pgd;

    qsmmu_init(&smmu, f->qts, QSMMU_VIRT_BASE, RAM_SMMU);
    pgd = qsmmu_pgd_alloc(&smmu);
    qsmmu_map(&smmu, pgd, va, RAM_A, 3, QSMMU_PTE_ATTRS);
    qsmmu_cdtable_init(&smmu, &tab, QSMMU_CD_LINEAR, 0);
    qsmmu_write_cd(&smmu, &tab, 0, pgd, 1);
    qsmmu_write_ste_s1(&smmu, DEVFN, &tab, 0);
    set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);

    run(f, s, SVATD_OP_FILL, (Args) { .dst = va, .len = PAGE, .arg = V1 });
    expect_slot(f, s, SVATD_ST_OK, 0, 0, PAGE);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + PAGE - 8), ==, V1);

    /* What came before the hole is done; COUNT tells */
    run(f, s, SVATD_OP_FILL,
        (Args) { .dst = hole - 24, .len = 48, .arg = V2 });
    expect_slot(f, s, SVATD_ST_FAULT | SVATD_STATUS_WRITE, hole, 0, 24);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + PAGE - 8), ==, V2);
    run(f, s, SVATD_OP_COPY,
        (Args) { .src = hole - 24, .dst = va, .len = 48 });
    expect_slot(f, s, SVATD_ST_FAULT, hole, 0, 24);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A + 16), ==, V2);
    run(f, s, SVATD_OP_COPY,
        (Args) { .src = va, .dst = hole - 8, .len = 16 });
    expect_slot(f, s, SVATD_ST_FAULT | SVATD_STATUS_WRITE, hole, 0, 8);
    run(f, s, SVATD_OP_COMPARE,
        (Args) { .src = va, .dst = hole - 8, .len = 16 });
    expect_slot(f, s, SVATD_ST_FAULT, hole, 0, 8);

    run(f, s, SVATD_OP_ATOMIC_ADD, (Args) { .dst = hole, .arg = 1 });
    expect_slot(f, s, SVATD_ST_FAULT | SVATD_STATUS_WRITE, hole, 0, 0);
    run(f, s, SVATD_OP_POLL,
        (Args) { .src = hole - 16, .len = 32, .stride = 8, .arg = V2 });
    expect_slot(f, s, SVATD_ST_FAULT, hole, 0, 2);
    run(f, s, SVATD_OP_HAMMER,
        (Args) { .dst = hole - 16, .len = 32, .stride = 8, .arg = V1 });
    expect_slot(f, s, SVATD_ST_FAULT | SVATD_STATUS_WRITE, hole, 0, 2);

    /* Mapped, but read-only */
    qsmmu_map(&smmu, pgd, hole + PAGE, RAM_A, 3,
              QSMMU_PTE_ATTRS | QSMMU_PTE_RO);
    run(f, s, SVATD_OP_COPY,
        (Args) { .src = hole + PAGE, .dst = va + 8, .len = 8 });
    expect_slot(f, s, SVATD_ST_OK, 0, 0, 8);
    run(f, s, SVATD_OP_COPY,
        (Args) { .src = va, .dst = hole + PAGE, .len = 8 });
    expect_slot(f, s, SVATD_ST_FAULT | SVATD_STATUS_WRITE, hole + PAGE, 0, 0);

    /* Mapped, but nothing is there */
    qsmmu_map(&smmu, pgd, hole, QSMMU_VIRT_HOLE, 3, QSMMU_PTE_ATTRS);
    run(f, s, SVATD_OP_FILL, (Args) { .dst = hole + 8, .len = 8 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, hole + 8, 0, 0);
    teardown(f);
}

static void test_bus_master(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);
    uint16_t cmd = qpci_config_readw(f->pci, PCI_COMMAND);

    qtest_writeq(f->qts, RAM_A, V1);
    start_poll(f, slot(f, 0, 1));
    qpci_config_writew(f->pci, PCI_COMMAND, cmd & ~PCI_COMMAND_MASTER);
    qtest_clock_step(f->qts, LATENCY_NS);
    g_assert_cmphex(status(f, slot(f, 0, 1)), ==, SVATD_ST_BUS);

    run(f, s, SVATD_OP_COPY, (Args) { .src = RAM_A, .dst = RAM_B, .len = 8 });
    expect_slot(f, s, SVATD_ST_BUS, RAM_A, 0, 0);
    run(f, s, SVATD_OP_FILL, (Args) { .dst = RAM_A, .len = 8, .arg = V2 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, RAM_A, 0, 0);
    run(f, s, SVATD_OP_ATOMIC_ADD, (Args) { .dst = RAM_A, .arg = 1 });
    expect_slot(f, s, SVATD_ST_BUS | SVATD_STATUS_WRITE, RAM_A, 0, 0);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A), ==, V1);
    g_assert_cmphex(qtest_readq(f->qts, RAM_B), ==, 0);

    qpci_config_writew(f->pci, PCI_COMMAND, cmd);
    run(f, s, SVATD_OP_COPY, (Args) { .src = RAM_A, .dst = RAM_B, .len = 8 });
    expect_slot(f, s, SVATD_ST_OK, 0, 0, 8);
    g_assert_cmphex(qtest_readq(f->qts, RAM_B), ==, V1);
    teardown(f);
}

/* Slots and queues */

static void test_done(void)
{
    Fixture *f = setup();
    uint64_t reg = queue(f, 0) + SVATD_Q_DONE;

    for (int n = 0; n < SVATD_NUM_SLOTS; n++) {
        run(f, slot(f, 0, n), SVATD_OP_NOP, (Args) {});
    }
    g_assert_cmphex(done(f, 0), ==, 0xffff);
    qtest_writel(f->qts, reg, 0);
    g_assert_cmphex(done(f, 0), ==, 0xffff);
    qtest_writel(f->qts, reg, 0x8001);
    g_assert_cmphex(done(f, 0), ==, 0x7ffe);
    qtest_writel(f->qts, reg, 0x8001);
    g_assert_cmphex(done(f, 0), ==, 0x7ffe);

    /* The status stays, and the bit comes again */
    g_assert_cmphex(status(f, slot(f, 0, 15)), ==, SVATD_ST_OK);
    run(f, slot(f, 0, 15), SVATD_OP_NOP, (Args) {});
    g_assert_cmphex(done(f, 0), ==, 0xfffe);
    qtest_writel(f->qts, reg, ~0u);
    g_assert_cmphex(done(f, 0), ==, 0);
    teardown(f);
}

static void test_stop(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 7);

    /* Nothing runs: nothing happens, neither before an operation nor after */
    trigger(f, s, SVATD_OP_STOP);
    expect_slot(f, s, SVATD_ST_IDLE, 0, 0, 0);
    run(f, s, SVATD_OP_NOP, (Args) {});
    qtest_writel(f->qts, queue(f, 0) + SVATD_Q_DONE, 1 << 7);
    trigger(f, s, SVATD_OP_STOP);
    expect_slot(f, s, SVATD_ST_OK, 0, 0, 0);
    g_assert_cmphex(done(f, 0), ==, 0);

    start_poll(f, s);
    g_assert_cmphex(state(f, 0), ==, SVATD_QCTL_STATE_BUSY);
    trigger(f, s, SVATD_OP_STOP);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_STOPPED);
    g_assert_cmpuint(qtest_readq(f->qts, s + SVATD_SLOT_COUNT), >, 0);
    g_assert_cmphex(done(f, 0), ==, 1 << 7);
    g_assert_cmphex(state(f, 0), ==, 0);
    expect_still(f, s);

    /* Before the first access, too */
    arm(f, s, (Args) { .dst = RAM_B, .len = 8, .arg = V1 });
    trigger(f, s, SVATD_OP_FILL);
    trigger(f, s, SVATD_OP_STOP);
    expect_slot(f, s, SVATD_ST_STOPPED, 0, 0, 0);
    expect_still(f, s);
    g_assert_cmphex(qtest_readq(f->qts, RAM_B), ==, 0);
    g_assert_cmphex(run(f, s, SVATD_OP_NOP, (Args) {}), ==, SVATD_ST_OK);
    teardown(f);
}

static void test_disable(void)
{
    Fixture *f = setup();

    set_ctl(f, 1, SVATD_QCTL_CTL_ENABLE);
    start_poll(f, slot(f, 0, 0));
    start_poll(f, slot(f, 0, 15));
    start_poll(f, slot(f, 1, 0));
    run(f, slot(f, 0, 4), SVATD_OP_NOP, (Args) {});
    g_assert_cmphex(state(f, 0), ==, SVATD_QCTL_STATE_BUSY);

    set_ctl(f, 0, 0);
    g_assert_cmphex(state(f, 0), ==, 0);
    g_assert_cmphex(status(f, slot(f, 0, 0)), ==, SVATD_ST_STOPPED);
    g_assert_cmphex(status(f, slot(f, 0, 15)), ==, SVATD_ST_STOPPED);
    g_assert_cmphex(status(f, slot(f, 0, 4)), ==, SVATD_ST_OK);
    g_assert_cmphex(status(f, slot(f, 0, 1)), ==, SVATD_ST_IDLE);
    g_assert_cmphex(done(f, 0), ==, 0x8011);
    expect_still(f, slot(f, 0, 0));
    expect_still(f, slot(f, 0, 15));

    /* The other queue takes no notice */
    g_assert_cmphex(state(f, 1), ==, SVATD_QCTL_STATE_BUSY);
    expect_progress(f, slot(f, 1, 0));
    teardown(f);
}

static void test_enable_clears(void)
{
    static const uint64_t regs[] = {
        SVATD_SLOT_SRC, SVATD_SLOT_DST, SVATD_SLOT_LEN, SVATD_SLOT_ARG,
        SVATD_SLOT_ARG2, SVATD_SLOT_STRIDE, SVATD_SLOT_FADDR,
        SVATD_SLOT_VALUE, SVATD_SLOT_COUNT,
    };
    Fixture *f = setup();

    qtest_writeq(f->qts, RAM_A, V1);
    for (int n = 0; n < SVATD_NUM_SLOTS; n++) {
        run(f, slot(f, 0, n), SVATD_OP_POLL,
            (Args) { .src = RAM_A, .dst = RAM_B, .len = 8, .arg = V2,
                     .arg2 = V2, .stride = 8 });
        expect_slot(f, slot(f, 0, n), SVATD_ST_MISMATCH, RAM_A, V1, 1);
    }

    /* It is enabled already */
    set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);
    g_assert_cmphex(done(f, 0), ==, 0xffff);
    expect_slot(f, slot(f, 0, 0), SVATD_ST_MISMATCH, RAM_A, V1, 1);

    set_ctl(f, 0, 0);
    g_assert_cmphex(done(f, 0), ==, 0xffff);
    expect_slot(f, slot(f, 0, 0), SVATD_ST_MISMATCH, RAM_A, V1, 1);

    set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);
    g_assert_cmphex(done(f, 0), ==, 0);
    for (int n = 0; n < SVATD_NUM_SLOTS; n++) {
        uint64_t s = slot(f, 0, n);

        g_assert_cmphex(qtest_readl(f->qts, s + SVATD_SLOT_CMD), ==, 0);
        g_assert_cmphex(status(f, s), ==, SVATD_ST_IDLE);
        for (int i = 0; i < ARRAY_SIZE(regs); i++) {
            g_assert_cmphex(qtest_readq(f->qts, s + regs[i]), ==, 0);
        }
    }
    teardown(f);
}

/* All at once, in two queues, each with its own arguments and result */
static void test_independent(void)
{
    Fixture *f = setup();

    set_ctl(f, 1, SVATD_QCTL_CTL_ENABLE);
    for (int i = 0; i < 2 * SVATD_NUM_SLOTS; i++) {
        uint64_t s = slot(f, i / SVATD_NUM_SLOTS, i % SVATD_NUM_SLOTS);

        qtest_writeq(f->qts, RAM_A + i * PAGE, i);
        arm(f, s, (Args) { .src = RAM_A + i * PAGE, .len = 8, .arg = i,
                           .arg2 = i, .stride = 8 });
        trigger(f, s, SVATD_OP_POLL);
    }
    for (int i = 0; i < 2 * SVATD_NUM_SLOTS; i++) {
        expect_progress(f, slot(f, i / SVATD_NUM_SLOTS, i % SVATD_NUM_SLOTS));
    }

    /* They end one after the other */
    for (int i = 0; i < 2 * SVATD_NUM_SLOTS; i++) {
        unsigned int q = i / SVATD_NUM_SLOTS, n = i % SVATD_NUM_SLOTS;

        g_assert_cmphex(state(f, q), ==, SVATD_QCTL_STATE_BUSY);
        qtest_writeq(f->qts, RAM_A + i * PAGE, V1 + i);
        qtest_clock_step(f->qts, LATENCY_NS);
        g_assert_cmphex(status(f, slot(f, q, n)), ==, SVATD_ST_MISMATCH);
        g_assert_cmphex(qtest_readq(f->qts, slot(f, q, n) + SVATD_SLOT_FADDR),
                        ==, RAM_A + i * PAGE);
        g_assert_cmphex(qtest_readq(f->qts, slot(f, q, n) + SVATD_SLOT_VALUE),
                        ==, V1 + i);
        g_assert_cmphex(done(f, q), ==, (2u << n) - 1);
        if (i + 1 < 2 * SVATD_NUM_SLOTS) {
            expect_progress(f, slot(f, (i + 1) / SVATD_NUM_SLOTS,
                                    (i + 1) % SVATD_NUM_SLOTS));
        }
    }
    g_assert_cmphex(state(f, 0), ==, 0);
    g_assert_cmphex(state(f, 1), ==, 0);
    teardown(f);
}

static void test_running_ignores(void)
{
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    start_poll(f, s);
    arm(f, s, (Args) { ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull });
    trigger(f, s, SVATD_OP_NOP);
    trigger(f, s, 0xff);
    g_assert_cmphex(qtest_readl(f->qts, s + SVATD_SLOT_CMD), ==,
                    SVATD_OP_POLL);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_SRC), ==, RAM_A);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_DST), ==, 0);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_LEN), ==, 8);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_ARG), ==, V1);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_ARG2), ==, V1);
    g_assert_cmphex(qtest_readq(f->qts, s + SVATD_SLOT_STRIDE), ==, 8);
    expect_progress(f, s);
    g_assert_cmphex(done(f, 0), ==, 0);

    /* Only this one: its neighbour can be written */
    g_assert_cmphex(run(f, slot(f, 0, 1), SVATD_OP_NOP, (Args) {}), ==,
                    SVATD_ST_OK);
    teardown(f);
}

static void test_reg_access(void)
{
    static const uint64_t rw[] = {
        SVATD_SLOT_SRC, SVATD_SLOT_DST, SVATD_SLOT_LEN, SVATD_SLOT_ARG,
        SVATD_SLOT_ARG2, SVATD_SLOT_STRIDE,
    };
    static const uint64_t ro[] = {
        SVATD_SLOT_FADDR, SVATD_SLOT_VALUE, SVATD_SLOT_COUNT,
    };
    Fixture *f = setup();
    uint64_t s = slot(f, 0, 0);

    for (int i = 0; i < ARRAY_SIZE(rw); i++) {
        uint64_t reg = s + rw[i];

        qtest_writeq(f->qts, reg, V1);
        g_assert_cmphex(qtest_readl(f->qts, reg), ==, (uint32_t)V1);
        g_assert_cmphex(qtest_readl(f->qts, reg + 4), ==, V1 >> 32);
        qtest_writel(f->qts, reg, (uint32_t)V2);
        g_assert_cmphex(qtest_readq(f->qts, reg), ==,
                        V1 >> 32 << 32 | (uint32_t)V2);
        qtest_writel(f->qts, reg + 4, V2 >> 32);
        g_assert_cmphex(qtest_readq(f->qts, reg), ==, V2);
    }
    for (int i = 0; i < ARRAY_SIZE(rw); i++) {
        g_assert_cmphex(qtest_readq(f->qts, s + rw[i]), ==, V2);
    }

    /* The result's registers: halves can be read, and nothing written */
    qtest_writeq(f->qts, RAM_A, V1);
    run(f, s, SVATD_OP_POLL,
        (Args) { .src = RAM_A, .len = 8, .stride = 8 });
    g_assert_cmphex(qtest_readl(f->qts, s + SVATD_SLOT_VALUE), ==,
                    (uint32_t)V1);
    g_assert_cmphex(qtest_readl(f->qts, s + SVATD_SLOT_VALUE + 4), ==,
                    V1 >> 32);
    for (int i = 0; i < ARRAY_SIZE(ro); i++) {
        qtest_writeq(f->qts, s + ro[i], ~0ull);
        qtest_writel(f->qts, s + ro[i], ~0u);
        qtest_writel(f->qts, s + ro[i] + 4, ~0u);
    }
    qtest_writel(f->qts, s + SVATD_SLOT_STATUS, ~0u);
    expect_slot(f, s, SVATD_ST_MISMATCH, RAM_A, V1, 1);
    qtest_writel(f->qts, queue(f, 0) + SVATD_Q_INFO, 0);
    g_assert_cmphex(qtest_readl(f->qts, queue(f, 0) + SVATD_Q_INFO), ==,
                    SVATD_Q_INFO_ENABLED);
    teardown(f);
}

static void test_pasid(void)
{
    const uint32_t both = SVATD_QCTL_CTL_ENABLE | SVATD_QCTL_CTL_PASID;
    Fixture *f = setup_machine(MACHINE, ",pasid-bits=20");
    uint64_t ctl = qctl(f, 2, SVATD_QCTL_CTL);
    uint64_t pasid = qctl(f, 2, SVATD_QCTL_PASID);

    /* 20 bits */
    qtest_writel(f->qts, pasid, ~0u);
    g_assert_cmphex(qtest_readl(f->qts, pasid), ==, 0xfffff);
    qtest_writel(f->qts, pasid, 0x12345);
    qtest_writel(f->qts, ctl, ~0u);
    g_assert_cmphex(qtest_readl(f->qts, ctl), ==, both);

    /* Enabled: no change, not even by the write that disables */
    qtest_writel(f->qts, pasid, 0x54321);
    g_assert_cmphex(qtest_readl(f->qts, pasid), ==, 0x12345);
    qtest_writel(f->qts, ctl, SVATD_QCTL_CTL_ENABLE);
    g_assert_cmphex(qtest_readl(f->qts, ctl), ==, both);
    qtest_writel(f->qts, ctl, 0);
    g_assert_cmphex(qtest_readl(f->qts, ctl), ==, SVATD_QCTL_CTL_PASID);

    /* Disabled: both change */
    qtest_writel(f->qts, ctl, 0);
    qtest_writel(f->qts, pasid, 0x54321);
    g_assert_cmphex(qtest_readl(f->qts, ctl), ==, 0);
    g_assert_cmphex(qtest_readl(f->qts, pasid), ==, 0x54321);

    /* The same, the other way round */
    qtest_writel(f->qts, ctl, SVATD_QCTL_CTL_ENABLE);
    qtest_writel(f->qts, ctl, both);
    g_assert_cmphex(qtest_readl(f->qts, ctl), ==, SVATD_QCTL_CTL_ENABLE);
    g_assert_cmphex(qtest_readl(f->qts, pasid), ==, 0x54321);

    /* Each queue has its own */
    g_assert_cmphex(qtest_readl(f->qts, qctl(f, 1, SVATD_QCTL_PASID)), ==, 0);
    g_assert_cmphex(qtest_readl(f->qts, qctl(f, 3, SVATD_QCTL_CTL)), ==, 0);
    teardown(f);
}

/* MSI-X: messages are writes to RAM */

#define MSG_DATA(v)     (0xabc00000 + (v))
#define MSG_ADDR(v)     (RAM_B + (v) * 4)

static void set_vector(Fixture *f, unsigned int v, bool masked)
{
    uint64_t entry = f->pci->msix_table_off + v * PCI_MSIX_ENTRY_SIZE;
    QPCIBar bar = f->pci->msix_table_bar;

    qpci_io_writel(f->pci, bar, entry + PCI_MSIX_ENTRY_LOWER_ADDR,
                   MSG_ADDR(v));
    qpci_io_writel(f->pci, bar, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
    qpci_io_writel(f->pci, bar, entry + PCI_MSIX_ENTRY_DATA, MSG_DATA(v));
    qpci_io_writel(f->pci, bar, entry + PCI_MSIX_ENTRY_VECTOR_CTRL,
                   masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

/* Whether the message of @v, and only that, has come since the last time */
static bool take_message(Fixture *f, unsigned int v)
{
    uint32_t data = qtest_readl(f->qts, MSG_ADDR(v));

    qtest_writel(f->qts, MSG_ADDR(v), 0);
    for (int i = 0; i < 64; i++) {
        g_assert_cmphex(qtest_readl(f->qts, MSG_ADDR(i)), ==, 0);
    }
    if (data) {
        g_assert_cmphex(data, ==, MSG_DATA(v));
    }
    return data;
}

static void test_msix(void)
{
    Fixture *f = setup();
    uint64_t vector = qctl(f, 5, SVATD_QCTL_VECTOR);
    uint64_t s = slot(f, 5, 2);
    uint16_t cmd = qpci_config_readw(f->pci, PCI_COMMAND);

    set_ctl(f, 5, SVATD_QCTL_CTL_ENABLE);
    qtest_writel(f->qts, vector, 9);
    qtest_writel(f->qts, vector, 64);       /* there is no such vector */
    g_assert_cmphex(qtest_readl(f->qts, vector), ==, 9);

    /* Not before MSI-X is enabled, and not later instead */
    run(f, s, SVATD_OP_NOP | SVATD_CMD_IRQ, (Args) {});
    qpci_msix_enable(f->pci);
    for (int v = 0; v < 64; v++) {
        set_vector(f, v, false);
    }
    g_assert_false(take_message(f, 9));

    /* Only with CMD_IRQ, and only at the end */
    run(f, s, SVATD_OP_NOP, (Args) {});
    g_assert_false(take_message(f, 9));
    trigger(f, s, SVATD_OP_NOP | SVATD_CMD_IRQ);
    qtest_clock_step(f->qts, LATENCY_NS - 1);
    g_assert_false(take_message(f, 9));
    qtest_clock_step(f->qts, 1);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_OK);
    g_assert_true(take_message(f, 9));

    /* Whether it ends well or not */
    trigger(f, s, 0xff | SVATD_CMD_IRQ);
    g_assert_true(take_message(f, 9));
    trigger(f, s, 0xff);
    g_assert_false(take_message(f, 9));
    run(f, s, SVATD_OP_FILL | SVATD_CMD_IRQ,
        (Args) { .dst = QSMMU_VIRT_HOLE, .len = 8 });
    g_assert_true(take_message(f, 9));

    /* STOP ends what has CMD_IRQ, or has it not */
    arm(f, s, (Args) { .dst = RAM_A, .len = 8, .stride = 8 });
    trigger(f, s, SVATD_OP_HAMMER | SVATD_CMD_IRQ);
    qtest_clock_step(f->qts, LATENCY_NS);
    g_assert_false(take_message(f, 9));
    trigger(f, s, SVATD_OP_STOP);
    g_assert_true(take_message(f, 9));
    trigger(f, s, SVATD_OP_HAMMER);
    trigger(f, s, SVATD_OP_STOP | SVATD_CMD_IRQ);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_STOPPED);
    g_assert_false(take_message(f, 9));

    /* A queue that is not enabled sends none, whatever ends in it */
    trigger(f, s, SVATD_OP_HAMMER | SVATD_CMD_IRQ);
    set_ctl(f, 5, 0);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_STOPPED);
    g_assert_false(take_message(f, 9));
    trigger(f, s, SVATD_OP_NOP | SVATD_CMD_IRQ);
    g_assert_cmphex(status(f, s), ==, SVATD_ST_DISABLED);
    g_assert_false(take_message(f, 9));
    set_ctl(f, 5, SVATD_QCTL_CTL_ENABLE);
    g_assert_false(take_message(f, 9));

    /* The vector's number survives, and other queues have their own */
    run(f, s, SVATD_OP_NOP | SVATD_CMD_IRQ, (Args) {});
    g_assert_true(take_message(f, 9));
    run(f, slot(f, 0, 2), SVATD_OP_NOP | SVATD_CMD_IRQ, (Args) {});
    g_assert_true(take_message(f, 0));

    /* Masked: it is pending until it is unmasked */
    set_vector(f, 9, true);
    run(f, s, SVATD_OP_NOP | SVATD_CMD_IRQ, (Args) {});
    g_assert_false(take_message(f, 9));
    g_assert_true(qpci_msix_pending(f->pci, 9));
    set_vector(f, 9, false);
    g_assert_true(take_message(f, 9));
    g_assert_false(qpci_msix_pending(f->pci, 9));

    /* A message is an access as well */
    qpci_config_writew(f->pci, PCI_COMMAND, cmd & ~PCI_COMMAND_MASTER);
    run(f, s, SVATD_OP_NOP | SVATD_CMD_IRQ, (Args) {});
    qpci_config_writew(f->pci, PCI_COMMAND, cmd);
    g_assert_false(take_message(f, 9));
    teardown(f);
}

static void test_reset(void)
{
    Fixture *f = setup();
    unsigned int ctrl = find_ext_cap(f, PCI_EXT_CAP_ID_PASID) + PCI_PASID_CTRL;

    qtest_writew(f->qts, config_addr(f, ctrl), PCI_PASID_CTRL_ENABLE);
    g_assert_cmphex(qtest_readw(f->qts, config_addr(f, ctrl)), ==,
                    PCI_PASID_CTRL_ENABLE);
    qtest_writel(f->qts, qctl(f, 1, SVATD_QCTL_PASID), 5);
    qtest_writel(f->qts, qctl(f, 1, SVATD_QCTL_VECTOR), 6);
    set_ctl(f, 1, SVATD_QCTL_CTL_ENABLE | SVATD_QCTL_CTL_PASID);
    arm(f, slot(f, 0, 0), (Args) { .dst = RAM_A, .len = 8, .arg = V1,
                                   .stride = 8 });
    trigger(f, slot(f, 0, 0), SVATD_OP_HAMMER);
    expect_progress(f, slot(f, 0, 0));

    qtest_system_reset(f->qts);
    g_assert_cmphex(qtest_readw(f->qts, config_addr(f, ctrl)), ==, 0);
    map_device(f);
    qtest_writeq(f->qts, RAM_A, 0);
    for (int q = 0; q < 2; q++) {
        for (uint64_t reg = 0; reg < 0x20; reg += 4) {
            g_assert_cmphex(qtest_readl(f->qts, qctl(f, q, reg)), ==, 0);
        }
        g_assert_cmphex(done(f, q), ==, 0);
    }
    expect_slot(f, slot(f, 0, 0), SVATD_ST_IDLE, 0, 0, 0);
    qtest_clock_step(f->qts, 10 * LATENCY_NS);
    g_assert_cmphex(qtest_readq(f->qts, RAM_A), ==, 0);

    /* And it works again */
    set_ctl(f, 0, SVATD_QCTL_CTL_ENABLE);
    trigger(f, slot(f, 0, 0), SVATD_OP_NOP);
    qtest_clock_step(f->qts, LATENCY_NS);
    expect_slot(f, slot(f, 0, 0), SVATD_ST_OK, 0, 0, 0);
    teardown(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("sva-testdev/id", test_id);
    qtest_add_func("sva-testdev/pci-caps", test_pci_caps);
    qtest_add_func("sva-testdev/msix-size", test_msix_size);
    qtest_add_func("sva-testdev/properties", test_properties);
    qtest_add_func("sva-testdev/op/nop", test_nop);
    qtest_add_func("sva-testdev/op/latency", test_latency);
    qtest_add_func("sva-testdev/op/fill", test_fill);
    qtest_add_func("sva-testdev/op/copy-compare", test_copy_compare);
    qtest_add_func("sva-testdev/op/atomic-add", test_atomic_add);
    qtest_add_func("sva-testdev/op/poll", test_poll);
    qtest_add_func("sva-testdev/op/hammer", test_hammer);
    qtest_add_func("sva-testdev/error/bad-cmd", test_bad_cmd);
    qtest_add_func("sva-testdev/error/bad-arg", test_bad_arg);
    qtest_add_func("sva-testdev/error/disabled", test_disabled);
    qtest_add_func("sva-testdev/error/bus", test_bus);
    qtest_add_func("sva-testdev/error/fault", test_fault);
    qtest_add_func("sva-testdev/error/bus-master", test_bus_master);
    qtest_add_func("sva-testdev/slot/done", test_done);
    qtest_add_func("sva-testdev/slot/stop", test_stop);
    qtest_add_func("sva-testdev/slot/independent", test_independent);
    qtest_add_func("sva-testdev/slot/running-ignores", test_running_ignores);
    qtest_add_func("sva-testdev/slot/reg-access", test_reg_access);
    qtest_add_func("sva-testdev/queue/disable", test_disable);
    qtest_add_func("sva-testdev/queue/enable-clears", test_enable_clears);
    qtest_add_func("sva-testdev/queue/pasid", test_pasid);
    qtest_add_func("sva-testdev/msix", test_msix);
    qtest_add_func("sva-testdev/reset", test_reset);

    return g_test_run();
}
