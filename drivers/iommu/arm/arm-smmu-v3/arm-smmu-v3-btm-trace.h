/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM arm_smmu_v3

#if !defined(_ARM_SMMU_V3_BTM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _ARM_SMMU_V3_BTM_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

struct arm_smmu_device;

/* A CPU changed an address space: one TLBI command and CMD_SYNC if not shared */
TRACE_EVENT(arm_smmu_inv_mm,
	TP_PROTO(struct arm_smmu_device *smmu, u32 asid, bool shared,
		 unsigned long start, size_t size),
	TP_ARGS(smmu, asid, shared, start, size),
	TP_STRUCT__entry(
		__string(smmu, dev_name(smmu->dev))
		__field(u32, asid)
		__field(bool, shared)
		__field(unsigned long, start)
		__field(size_t, size)
	),
	TP_fast_assign(
		__assign_str(smmu);
		__entry->asid = asid;
		__entry->shared = shared;
		__entry->start = start;
		__entry->size = size;
	),
	TP_printk("%s asid=%u shared=%d start=0x%lx size=0x%zx",
		  __get_str(smmu), __entry->asid, __entry->shared,
		  __entry->start, __entry->size)
);

/* Obeyed: 1, not obeyed: 0, cannot be told: an error. kind: the last one tried */
TRACE_EVENT(arm_smmu_btm_check,
	TP_PROTO(struct arm_smmu_device *smmu, unsigned int cpu,
		 const char *kind, int result),
	TP_ARGS(smmu, cpu, kind, result),
	TP_STRUCT__entry(
		__string(smmu, dev_name(smmu->dev))
		__field(unsigned int, cpu)
		__string(kind, kind)
		__field(int, result)
	),
	TP_fast_assign(
		__assign_str(smmu);
		__entry->cpu = cpu;
		__assign_str(kind);
		__entry->result = result;
	),
	TP_printk("%s cpu=%u kind=\"%s\" result=%d", __get_str(smmu),
		  __entry->cpu, __get_str(kind), __entry->result)
);

#endif /* _ARM_SMMU_V3_BTM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE arm-smmu-v3-btm-trace
#include <trace/define_trace.h>
