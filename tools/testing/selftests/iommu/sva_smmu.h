/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests of Shared Virtual Addressing can see of an SMMUv3: how many
 * commands it was sent, and what became of its ASIDs and the CPUs'.
 */
#ifndef SELFTESTS_IOMMU_SVA_SMMU_H
#define SELFTESTS_IOMMU_SVA_SMMU_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#define SMMU_NAME_LEN		64

/* More than one machine has */
#define MAX_SMMUS		8
#define MAX_ASIDS		65536

/**
 * struct smmu - the registers of an SMMU
 * @regs: page 0, or NULL when it is not mapped
 */
struct smmu {
	char *regs;
};

unsigned long cpu_asids(void);
bool smmu_name(const char *device, char name[SMMU_NAME_LEN]);
__u64 smmu_find(const char *device);
int smmu_map(struct smmu *smmu, __u64 base);
void smmu_unmap(struct smmu *smmu);
bool smmu_asid16(const struct smmu *smmu);
unsigned int smmu_httu(const struct smmu *smmu);
bool smmu_listens(const struct smmu *smmu);
__u32 smmu_cmdq_prod(const struct smmu *smmu);
__u32 smmu_cmdq_advance(const struct smmu *smmu, __u32 from, __u32 to);

/**
 * struct asid_trace - what the tracepoints arm_smmu_v3:arm_smmu_asid_* said
 * @instance: directory of the tracing instance
 * @pipe: its trace_pipe, or -1
 * @has_move: the kernel moves the ASIDs of stage 1 domains
 * @line: what was read and not evaluated
 * @len: bytes in @line
 * @shares: SVA domains that took the CPUs' ASID
 * @frees: SVA domains that gave it back
 * @fallbacks: SVA domains that took a private ASID instead
 * @collisions: of them, those where the CPUs' ASID was another domain's
 * @moves: stage 1 domains that left their ASID to an SVA domain
 * @wraps: times that the CPUs' ASIDs went down to less than half, as they do
 *	   at a rollover if all processes that bind are new
 * @last: the CPUs' ASID that was wanted last
 * @errors: events that contradict those before, or were lost
 * @smmus: names of the SMMUs
 * @nr_smmus: number of them
 * @live: per SMMU, a byte per ASID: it is shared now
 */
struct asid_trace {
	char instance[128];
	int pipe;
	bool has_move;
	char line[512];
	size_t len;
	unsigned int shares;
	unsigned int frees;
	unsigned int fallbacks;
	unsigned int collisions;
	unsigned int moves;
	unsigned int wraps;
	unsigned int last;
	unsigned int errors;
	char smmus[MAX_SMMUS][SMMU_NAME_LEN];
	unsigned int nr_smmus;
	unsigned char (*live)[MAX_ASIDS];
};

int asid_trace_open(struct asid_trace *t);
void asid_trace_update(struct asid_trace *t);
unsigned int asid_trace_live(const struct asid_trace *t);
bool asid_trace_settle(struct asid_trace *t, int timeout_ms);
void asid_trace_close(struct asid_trace *t);

#endif /* SELFTESTS_IOMMU_SVA_SMMU_H */
