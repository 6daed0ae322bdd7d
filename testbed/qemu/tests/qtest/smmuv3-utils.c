/*
 * Drive an SMMUv3 from a qtest: stream table, CD tables, page tables, queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "smmuv3-utils.h"

#define STRTAB_LOG2SIZE     9           /* two buses */
#define QUEUE_LOG2SIZE      6
#define QUEUE_PTR_MASK      ((2u << QUEUE_LOG2SIZE) - 1)
#define QUEUE_INDEX(p)      ((p) & ((1u << QUEUE_LOG2SIZE) - 1))

#define STE_SIZE            (QSMMU_STE_WORDS * 8)
#define CD_SIZE             (QSMMU_CD_WORDS * 8)
#define L1CD_SIZE           8
#define CMD_SIZE            16
#define EVT_SIZE            32

#define CMD_CFGI_STE        0x03
#define CMD_CFGI_STE_RANGE  0x04
#define CMD_CFGI_CD         0x05
#define CMD_CFGI_CD_ALL     0x06
#define CMD_TLBI_NH_ALL     0x10
#define CMD_TLBI_NH_ASID    0x11
#define CMD_TLBI_NH_VA      0x12
#define CMD_TLBI_NH_VAA     0x13
#define CMD_TLBI_NSNH_ALL   0x30

/* 39 bits of input with 4 KB pages: walks start at level 1 */
#define PGD_T0SZ            25
#define PGD_START_LEVEL     1

uint32_t qsmmu_readl(QSMMU *s, uint64_t reg)
{
    return qtest_readl(s->qts, s->base + reg);
}

void qsmmu_writel(QSMMU *s, uint64_t reg, uint32_t val)
{
    qtest_writel(s->qts, s->base + reg, val);
}

uint64_t qsmmu_alloc(QSMMU *s, uint64_t size)
{
    uint64_t addr;

    size = pow2ceil(MAX(size, 4096));
    addr = ROUND_UP(s->next, size);
    s->next = addr + size;
    return addr;
}

void qsmmu_init(QSMMU *s, QTestState *qts, uint64_t base, uint64_t ram)
{
    uint32_t cr0 = QSMMU_CR0_CMDQEN | QSMMU_CR0_EVENTQEN | QSMMU_CR0_SMMUEN;

    s->qts = qts;
    s->base = base;
    s->next = ram;
    s->strtab = qsmmu_alloc(s, STE_SIZE << STRTAB_LOG2SIZE);
    s->cmdq = qsmmu_alloc(s, CMD_SIZE << QUEUE_LOG2SIZE);
    s->evtq = qsmmu_alloc(s, EVT_SIZE << QUEUE_LOG2SIZE);

    qtest_writeq(qts, base + QSMMU_STRTAB_BASE, s->strtab);
    qsmmu_writel(s, QSMMU_STRTAB_BASE_CFG, STRTAB_LOG2SIZE);
    qtest_writeq(qts, base + QSMMU_CMDQ_BASE, s->cmdq | QUEUE_LOG2SIZE);
    qtest_writeq(qts, base + QSMMU_EVENTQ_BASE, s->evtq | QUEUE_LOG2SIZE);
    qsmmu_writel(s, QSMMU_CR0, cr0);
    g_assert_cmphex(qsmmu_readl(s, QSMMU_CR0ACK), ==, cr0);
}

static void qsmmu_write_words(QSMMU *s, uint64_t addr, const uint64_t *words,
                              int n)
{
    for (int i = 0; i < n; i++) {
        qtest_writeq(s->qts, addr + i * 8, words[i]);
    }
}

/* Stream table */

uint64_t qsmmu_ste_addr(QSMMU *s, uint32_t sid)
{
    g_assert_cmpuint(sid, <, 1u << STRTAB_LOG2SIZE);
    return s->strtab + sid * STE_SIZE;
}

void qsmmu_write_ste(QSMMU *s, uint32_t sid, uint64_t ste0, uint64_t ste1)
{
    uint64_t ste[QSMMU_STE_WORDS] = { ste0, ste1 };

    qsmmu_write_words(s, qsmmu_ste_addr(s, sid), ste, QSMMU_STE_WORDS);
}

void qsmmu_write_ste_s1(QSMMU *s, uint32_t sid, const QSMMUCDTable *tab,
                        unsigned s1dss)
{
    qsmmu_write_ste(s, sid,
                    QSMMU_STE0_V | QSMMU_STE0_CONFIG(QSMMU_STE_S1) |
                    QSMMU_STE0_S1FMT(tab->fmt) |
                    QSMMU_STE0_S1CDMAX(tab->cdmax) | tab->base,
                    QSMMU_STE1_S1DSS(s1dss));
}

/* CD tables */

/* log2 of the number of CDs in a leaf */
static unsigned qsmmu_cdtable_split(const QSMMUCDTable *tab)
{
    return tab->fmt == QSMMU_CD_4K_L2 ? 6 : 10;
}

void qsmmu_cdtable_init(QSMMU *s, QSMMUCDTable *tab, QSMMUS1Fmt fmt,
                        unsigned cdmax)
{
    uint64_t size;

    tab->fmt = fmt;
    tab->cdmax = cdmax;
    if (fmt == QSMMU_CD_LINEAR) {
        size = CD_SIZE << cdmax;
    } else {
        unsigned split = qsmmu_cdtable_split(tab);

        size = L1CD_SIZE << (cdmax > split ? cdmax - split : 0);
    }
    tab->base = qsmmu_alloc(s, size);
}

uint64_t qsmmu_l1cd_addr(QSMMUCDTable *tab, uint32_t ssid)
{
    g_assert_cmpint(tab->fmt, !=, QSMMU_CD_LINEAR);
    return tab->base + (ssid >> qsmmu_cdtable_split(tab)) * L1CD_SIZE;
}

uint64_t qsmmu_cd_addr(QSMMU *s, QSMMUCDTable *tab, uint32_t ssid)
{
    uint64_t leaf = tab->base;

    if (tab->fmt != QSMMU_CD_LINEAR) {
        unsigned split = qsmmu_cdtable_split(tab);
        uint64_t l1cd_addr = qsmmu_l1cd_addr(tab, ssid);
        uint64_t l1cd = qtest_readq(s->qts, l1cd_addr);

        if (!(l1cd & QSMMU_L1CD_V)) {
            l1cd = qsmmu_alloc(s, CD_SIZE << split) | QSMMU_L1CD_V;
            qtest_writeq(s->qts, l1cd_addr, l1cd);
        }
        leaf = l1cd & ~QSMMU_L1CD_V;
        ssid &= (1u << split) - 1;
    }
    return leaf + ssid * CD_SIZE;
}

uint64_t qsmmu_write_cd(QSMMU *s, QSMMUCDTable *tab, uint32_t ssid,
                        uint64_t pgd, uint16_t asid)
{
    uint64_t addr = qsmmu_cd_addr(s, tab, ssid);
    uint64_t cd[QSMMU_CD_WORDS] = {
        QSMMU_CD0_T0SZ(PGD_T0SZ) | QSMMU_CD0_EPD1 | QSMMU_CD0_V |
        QSMMU_CD0_IPS(4) | QSMMU_CD0_AA64 | QSMMU_CD0_R | QSMMU_CD0_A |
        QSMMU_CD0_ASID(asid),
        pgd,
    };

    qsmmu_write_words(s, addr, cd, QSMMU_CD_WORDS);
    return addr;
}

/* Page tables */

uint64_t qsmmu_pgd_alloc(QSMMU *s)
{
    return qsmmu_alloc(s, 4096);
}

uint64_t qsmmu_map(QSMMU *s, uint64_t pgd, uint64_t va, uint64_t pa, int level,
                   uint64_t attrs)
{
    uint64_t table = pgd, pte_addr, pte;

    for (int l = PGD_START_LEVEL; ; l++) {
        pte_addr = table + extract64(va, 12 + 9 * (3 - l), 9) * 8;
        if (l == level) {
            break;
        }
        pte = qtest_readq(s->qts, pte_addr);
        if (!pte) {
            pte = qsmmu_alloc(s, 4096) | QSMMU_PTE_TABLE;
            qtest_writeq(s->qts, pte_addr, pte);
        }
        table = pte & ~QSMMU_PTE_TABLE;
    }

    pte = level == 3 ? QSMMU_PTE_PAGE : QSMMU_PTE_BLOCK;
    qtest_writeq(s->qts, pte_addr, pa | attrs | pte);
    return pte_addr;
}

/* Commands */

void qsmmu_cmd(QSMMU *s, uint64_t cmd0, uint64_t cmd1)
{
    uint32_t prod = qsmmu_readl(s, QSMMU_CMDQ_PROD);
    uint64_t cmd[] = { cmd0, cmd1 };

    qsmmu_write_words(s, s->cmdq + QUEUE_INDEX(prod) * CMD_SIZE, cmd, 2);
    prod = (prod + 1) & QUEUE_PTR_MASK;
    qsmmu_writel(s, QSMMU_CMDQ_PROD, prod);

    /* No error in the upper half, and nothing left to do */
    g_assert_cmphex(qsmmu_readl(s, QSMMU_CMDQ_CONS), ==, prod);
    g_assert_cmphex(qsmmu_readl(s, QSMMU_GERROR), ==,
                    qsmmu_readl(s, QSMMU_GERRORN));
}

void qsmmu_cfgi_ste(QSMMU *s, uint32_t sid)
{
    qsmmu_cmd(s, CMD_CFGI_STE | (uint64_t)sid << 32, 1);
}

void qsmmu_cfgi_ste_range(QSMMU *s, uint32_t sid, unsigned range)
{
    qsmmu_cmd(s, CMD_CFGI_STE_RANGE | (uint64_t)sid << 32, range);
}

void qsmmu_cfgi_cd(QSMMU *s, uint32_t sid, uint32_t ssid)
{
    qsmmu_cmd(s, CMD_CFGI_CD | (uint64_t)ssid << 12 | (uint64_t)sid << 32, 1);
}

void qsmmu_cfgi_cd_all(QSMMU *s, uint32_t sid)
{
    qsmmu_cmd(s, CMD_CFGI_CD_ALL | (uint64_t)sid << 32, 0);
}

void qsmmu_tlbi_nh_all(QSMMU *s)
{
    qsmmu_cmd(s, CMD_TLBI_NH_ALL, 0);
}

void qsmmu_tlbi_nsnh_all(QSMMU *s)
{
    qsmmu_cmd(s, CMD_TLBI_NSNH_ALL, 0);
}

void qsmmu_tlbi_nh_asid(QSMMU *s, uint16_t asid)
{
    qsmmu_cmd(s, CMD_TLBI_NH_ASID | (uint64_t)asid << 48, 0);
}

static void qsmmu_tlbi_va(QSMMU *s, uint64_t cmd0, uint64_t va, QSMMURange r)
{
    qsmmu_cmd(s, cmd0 | r.num << 12 | r.scale << 20,
              va | r.ttl << 8 | r.tg << 10);
}

void qsmmu_tlbi_nh_va(QSMMU *s, uint16_t asid, uint64_t va, QSMMURange range)
{
    qsmmu_tlbi_va(s, CMD_TLBI_NH_VA | (uint64_t)asid << 48, va, range);
}

void qsmmu_tlbi_nh_vaa(QSMMU *s, uint64_t va, QSMMURange range)
{
    qsmmu_tlbi_va(s, CMD_TLBI_NH_VAA, va, range);
}

/* Broadcasts */

char *qsmmu_find(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'qom-list', 'arguments': "
                           "{ 'path': '/machine/unattached' } }");
    QListEntry *entry;
    char *path = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *prop = qobject_to(QDict, qlist_entry_obj(entry));

        if (!strcmp(qdict_get_str(prop, "type"), "child<arm-smmuv3>")) {
            g_assert_null(path);
            path = g_strdup_printf("/machine/unattached/%s",
                                   qdict_get_str(prop, "name"));
        }
    }
    qobject_unref(rsp);
    g_assert_nonnull(path);
    return path;
}

void qsmmu_broadcast(QSMMU *s, const QSMMUBroadcast *tlbi)
{
    g_autofree char *path = qsmmu_find(s->qts);
    QDict *args = qdict_new();

    qdict_put_bool(args, "secure", tlbi->secure);
    qdict_put_int(args, "regimes", tlbi->regimes);
    qdict_put_int(args, "stages", tlbi->stages);
    if (tlbi->vmid != QSMMU_ANY) {
        qdict_put_int(args, "vmid", tlbi->vmid);
    }
    if (tlbi->asid != QSMMU_ANY) {
        qdict_put_int(args, "asid", tlbi->asid);
    }
    if (tlbi->size) {
        qdict_put(args, "base", qnum_from_uint(tlbi->base));
        qdict_put(args, "size", qnum_from_uint(tlbi->size));
        qdict_put_bool(args, "leaf", tlbi->leaf);
        qdict_put_int(args, "tg", tlbi->tg);
        qdict_put_int(args, "ttl", tlbi->ttl);
    }
    qtest_qmp_assert_success(s->qts, "{ 'execute': 'qom-set', 'arguments': "
                             "{ 'path': %s, 'property': 'x-btm-inject', "
                             "'value': %p } }", path, args);
}

/* Events */

bool qsmmu_pop_event(QSMMU *s, QSMMUEvent *evt)
{
    uint32_t cons = qsmmu_readl(s, QSMMU_EVENTQ_CONS);
    uint64_t addr = s->evtq + QUEUE_INDEX(cons) * EVT_SIZE;
    uint64_t word[4];

    if (!((cons ^ qsmmu_readl(s, QSMMU_EVENTQ_PROD)) & QUEUE_PTR_MASK)) {
        return false;
    }

    for (int i = 0; i < ARRAY_SIZE(word); i++) {
        word[i] = qtest_readq(s->qts, addr + i * 8);
    }
    *evt = (QSMMUEvent) {
        .type = extract64(word[0], 0, 8),
        .ssv = extract64(word[0], 11, 1),
        .ssid = extract64(word[0], 12, 20),
        .sid = extract64(word[0], 32, 32),
        .rnw = extract64(word[1], 35, 1),
        .class = extract64(word[1], 40, 2),
        .stall = extract64(word[1], 31, 1),
        .stag = extract64(word[1], 0, 16),
        .addr = word[2],
        .addr2 = word[3],
    };
    qsmmu_writel(s, QSMMU_EVENTQ_CONS, ((cons + 1) & QUEUE_PTR_MASK) |
                 (cons & QSMMU_EVENTQ_OVERFLOW));
    return true;
}
