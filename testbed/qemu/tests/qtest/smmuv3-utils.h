/*
 * Drive an SMMUv3 from a qtest: stream table, CD tables, page tables, queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A small driver in the place of a guest's. It writes what it is told to,
 * valid or not, and invalidates nothing by itself. Structures are arrays of
 * 64-bit words, little-endian in memory; fields are named as in IHI 0070.
 */
#ifndef TESTS_QTEST_SMMUV3_UTILS_H
#define TESTS_QTEST_SMMUV3_UTILS_H

#include "libqtest.h"

/* The virt machine */
#define QSMMU_VIRT_BASE         0x09050000
#define QSMMU_VIRT_RAM          0x40000000
/* Nothing answers here */
#define QSMMU_VIRT_HOLE         0x2000000000ull

/* Registers */
#define QSMMU_IDR0              0x00
#define   QSMMU_IDR0_CD2L       (1 << 19)
#define QSMMU_IDR1              0x04
#define   QSMMU_IDR1_SSIDSIZE(x) (((x) >> 6) & 0x1f)
#define QSMMU_IDR5              0x14
#define   QSMMU_IDR5_OAS(x)     ((x) & 0x7)
#define QSMMU_CR0               0x20
#define   QSMMU_CR0_SMMUEN      (1 << 0)
#define   QSMMU_CR0_EVENTQEN    (1 << 2)
#define   QSMMU_CR0_CMDQEN      (1 << 3)
#define QSMMU_CR0ACK            0x24
#define QSMMU_GERROR            0x60
#define QSMMU_GERRORN           0x64
#define QSMMU_STRTAB_BASE       0x80
#define QSMMU_STRTAB_BASE_CFG   0x88
#define QSMMU_CMDQ_BASE         0x90
#define QSMMU_CMDQ_PROD         0x98
#define QSMMU_CMDQ_CONS         0x9c
#define QSMMU_EVENTQ_BASE       0xa0
#define QSMMU_EVENTQ_PROD       0x100a8
#define QSMMU_EVENTQ_CONS       0x100ac
/* OVFLG in PROD, OVACKFLG in CONS */
#define   QSMMU_EVENTQ_OVERFLOW (1u << 31)

/* STE */
#define QSMMU_STE_WORDS         8
#define QSMMU_STE0_V            (1ull << 0)
#define QSMMU_STE0_CONFIG(x)    ((uint64_t)(x) << 1)
#define   QSMMU_STE_ABORT       0
#define   QSMMU_STE_BYPASS      4
#define   QSMMU_STE_S1          5
#define QSMMU_STE0_S1FMT(x)     ((uint64_t)(x) << 4)
#define QSMMU_STE0_S1CDMAX(x)   ((uint64_t)(x) << 59)
#define QSMMU_STE1_S1DSS(x)     ((uint64_t)(x) << 0)

typedef enum QSMMUS1Fmt {
    QSMMU_CD_LINEAR,
    QSMMU_CD_4K_L2,
    QSMMU_CD_64K_L2,
} QSMMUS1Fmt;

enum {
    QSMMU_S1DSS_TERMINATE,
    QSMMU_S1DSS_BYPASS,
    QSMMU_S1DSS_SSID0,
    QSMMU_S1DSS_RESERVED,
};

/* CD */
#define QSMMU_CD_WORDS          8
#define QSMMU_CD0_T0SZ(x)       ((uint64_t)(x) << 0)
#define QSMMU_CD0_T0SZ_MASK     0x3full
#define QSMMU_CD0_EPD0          (1ull << 14)
#define QSMMU_CD0_EPD1          (1ull << 30)
#define QSMMU_CD0_V             (1ull << 31)
#define QSMMU_CD0_IPS(x)        ((uint64_t)(x) << 32)
#define QSMMU_CD0_IPS_MASK      (7ull << 32)
#define QSMMU_CD0_AA64          (1ull << 41)
#define QSMMU_CD0_HA            (1ull << 43)
#define QSMMU_CD0_S             (1ull << 44)
#define QSMMU_CD0_R             (1ull << 45)
#define QSMMU_CD0_A             (1ull << 46)
#define QSMMU_CD0_ASID(x)       ((uint64_t)(x) << 48)

#define QSMMU_L1CD_V            (1ull << 0)

/* VMSAv8-64, 4 KB granule */
#define QSMMU_PTE_TABLE         0x3ull
#define QSMMU_PTE_PAGE          0x3ull
#define QSMMU_PTE_BLOCK         0x1ull
#define QSMMU_PTE_USER          (1ull << 6)
#define QSMMU_PTE_RO            (1ull << 7)
#define QSMMU_PTE_SH_IS         (3ull << 8)
#define QSMMU_PTE_AF            (1ull << 10)
#define QSMMU_PTE_NG            (1ull << 11)
/* What user memory has, read-write */
#define QSMMU_PTE_ATTRS \
    (QSMMU_PTE_USER | QSMMU_PTE_SH_IS | QSMMU_PTE_AF | QSMMU_PTE_NG)

/* Events */
enum {
    QSMMU_EVT_C_BAD_STREAMID    = 0x02,
    QSMMU_EVT_F_STE_FETCH       = 0x03,
    QSMMU_EVT_C_BAD_STE         = 0x04,
    QSMMU_EVT_F_BAD_ATS_TREQ    = 0x05,
    QSMMU_EVT_F_STREAM_DISABLED = 0x06,
    QSMMU_EVT_F_TRANSL_FORBIDDEN = 0x07,
    QSMMU_EVT_C_BAD_SUBSTREAMID = 0x08,
    QSMMU_EVT_F_CD_FETCH        = 0x09,
    QSMMU_EVT_C_BAD_CD          = 0x0a,
    QSMMU_EVT_F_WALK_EABT       = 0x0b,
    QSMMU_EVT_F_TRANSLATION     = 0x10,
    QSMMU_EVT_F_ADDR_SIZE       = 0x11,
    QSMMU_EVT_F_ACCESS          = 0x12,
    QSMMU_EVT_F_PERMISSION      = 0x13,
};

typedef struct QSMMUEvent {
    uint8_t type;
    bool ssv;
    uint32_t ssid;
    uint32_t sid;
    bool rnw;
    uint8_t class;
    bool stall;
    uint16_t stag;
    uint64_t addr;       /* InputAddr */
    uint64_t addr2;      /* FetchAddr, or IPA */
} QSMMUEvent;

/* Range invalidation: 0 is CMD_TLBI without a range */
typedef struct QSMMURange {
    uint8_t tg;
    uint8_t ttl;
    uint8_t num;
    uint8_t scale;
} QSMMURange;

/* A TLBI of a CPU's: struct ARMTLBBroadcast in target/arm/tlb-broadcast.h */
#define QSMMU_EL10              1
#define QSMMU_EL20              2
#define QSMMU_EL2               4
#define QSMMU_EL3               8
#define QSMMU_ANY               (-1)

typedef struct QSMMUBroadcast {
    uint8_t regimes;
    uint8_t stages;
    int vmid;            /* or QSMMU_ANY */
    int asid;            /* or QSMMU_ANY */
    uint64_t base;
    uint64_t size;       /* 0: all addresses */
    bool leaf;
    uint8_t tg;
    uint8_t ttl;
    bool secure;
} QSMMUBroadcast;

typedef struct QSMMUCDTable {
    QSMMUS1Fmt fmt;
    unsigned cdmax;      /* S1CDMax */
    uint64_t base;       /* S1ContextPtr */
} QSMMUCDTable;

typedef struct QSMMU {
    QTestState *qts;
    uint64_t base;
    uint64_t strtab;
    uint64_t cmdq;
    uint64_t evtq;
    uint64_t next;       /* memory from here on is free */
} QSMMU;

/*
 * qsmmu_init: enable the SMMU at @base, with a linear stream table of invalid
 * STEs and empty queues, in the zeroed memory that starts at @ram.
 */
void qsmmu_init(QSMMU *s, QTestState *qts, uint64_t base, uint64_t ram);

uint32_t qsmmu_readl(QSMMU *s, uint64_t reg);
void qsmmu_writel(QSMMU *s, uint64_t reg, uint32_t val);

/* Zeroed memory, aligned to its size, at least to a page; never freed */
uint64_t qsmmu_alloc(QSMMU *s, uint64_t size);

/* Where the STE of @sid lies, and writing it (all of it) */
uint64_t qsmmu_ste_addr(QSMMU *s, uint32_t sid);
void qsmmu_write_ste(QSMMU *s, uint32_t sid, uint64_t ste0, uint64_t ste1);
/* An STE for stage 1 with the CDs of @tab */
void qsmmu_write_ste_s1(QSMMU *s, uint32_t sid, const QSMMUCDTable *tab,
                        unsigned s1dss);

void qsmmu_cdtable_init(QSMMU *s, QSMMUCDTable *tab, QSMMUS1Fmt fmt,
                        unsigned cdmax);
/* Address of the L1CD that leads to @ssid; two-level tables only */
uint64_t qsmmu_l1cd_addr(QSMMUCDTable *tab, uint32_t ssid);
/* Address of the CD of @ssid; allocates the leaf table if there is none */
uint64_t qsmmu_cd_addr(QSMMU *s, QSMMUCDTable *tab, uint32_t ssid);
/* A CD for @pgd and @asid that records faults; returns where it was written */
uint64_t qsmmu_write_cd(QSMMU *s, QSMMUCDTable *tab, uint32_t ssid,
                        uint64_t pgd, uint16_t asid);

/*
 * Page tables of 4 KB pages for 39 bits of input. qsmmu_map() writes one leaf
 * descriptor at @level (2 or 3) and returns where it is.
 */
uint64_t qsmmu_pgd_alloc(QSMMU *s);
uint64_t qsmmu_map(QSMMU *s, uint64_t pgd, uint64_t va, uint64_t pa, int level,
                   uint64_t attrs);

/* Have one command executed; it must not fail */
void qsmmu_cmd(QSMMU *s, uint64_t cmd0, uint64_t cmd1);
void qsmmu_cfgi_ste(QSMMU *s, uint32_t sid);
/* The 2^(@range + 1) StreamIDs around @sid; range 31 is CMD_CFGI_ALL */
void qsmmu_cfgi_ste_range(QSMMU *s, uint32_t sid, unsigned range);
void qsmmu_cfgi_cd(QSMMU *s, uint32_t sid, uint32_t ssid);
void qsmmu_cfgi_cd_all(QSMMU *s, uint32_t sid);
void qsmmu_tlbi_nh_all(QSMMU *s);
void qsmmu_tlbi_nh_asid(QSMMU *s, uint16_t asid);
void qsmmu_tlbi_nh_va(QSMMU *s, uint16_t asid, uint64_t va, QSMMURange range);
void qsmmu_tlbi_nh_vaa(QSMMU *s, uint64_t va, QSMMURange range);
void qsmmu_tlbi_nsnh_all(QSMMU *s);

/* The machine's own SMMU as a QOM object, to be freed */
char *qsmmu_find(QTestState *qts);
/* Let it hear what the decoder of CPU instructions would tell it */
void qsmmu_broadcast(QSMMU *s, const QSMMUBroadcast *tlbi);

/* Take the oldest event out of the queue; false if there is none */
bool qsmmu_pop_event(QSMMU *s, QSMMUEvent *evt);

#endif /* TESTS_QTEST_SMMUV3_UTILS_H */
