/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM arm_smmu_v3

#if !defined(_ARM_SMMU_V3_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _ARM_SMMU_V3_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

struct arm_smmu_device;

/* A domain has asid now, instead of old. 0 is none */
DECLARE_EVENT_CLASS(arm_smmu_asid,
	TP_PROTO(struct arm_smmu_device *smmu, u32 old, u32 asid),
	TP_ARGS(smmu, old, asid),
	TP_STRUCT__entry(
		__string(smmu, dev_name(smmu->dev))
		__field(u32, old)
		__field(u32, asid)
	),
	TP_fast_assign(
		__assign_str(smmu);
		__entry->old = old;
		__entry->asid = asid;
	),
	TP_printk("%s old=%u asid=%u", __get_str(smmu), __entry->old,
		  __entry->asid)
);

#define DEFINE_ASID_EVENT(name)						\
	DEFINE_EVENT(arm_smmu_asid, arm_smmu_asid_##name,		\
		     TP_PROTO(struct arm_smmu_device *smmu, u32 old, u32 asid), \
		     TP_ARGS(smmu, old, asid))

/* An SVA domain took the CPUs' ASID, and gave it back */
DEFINE_ASID_EVENT(share);
DEFINE_ASID_EVENT(free);
/* An SVA domain could not have old, the CPUs' ASID; 0 if none can be pinned */
DEFINE_ASID_EVENT(fallback);
/* An S1 domain was moved, because a process has its old ASID */
DEFINE_ASID_EVENT(move);

#endif /* _ARM_SMMU_V3_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE arm-smmu-v3-trace
#include <trace/define_trace.h>
