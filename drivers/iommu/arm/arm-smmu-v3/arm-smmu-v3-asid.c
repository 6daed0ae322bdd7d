// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ASIDs of an SMMU
 *
 * The TLB entries of a stage 1 domain are tagged with its ASID. An SMMU has one
 * space of ASIDs, smmu->asid_map, with two kinds in it:
 *
 *  private - chosen here. CD.ASET is 1: the CPUs' broadcasts by ASID may pass
 *            its entries by, and the domain invalidates by command.
 *  shared  - the one that the CPUs use for an mm, pinned for as long as the
 *            domain lives. CD.ASET is 0: when the CPUs broadcast a TLB
 *            invalidation for the mm, the SMMU obeys it as well (IHI0070 3.17).
 *
 * ASET takes no part in a lookup. Were a private and a shared ASID the same
 * number, one domain would translate with the other's entries, so the map holds
 * both kinds. A private ASID may have the number of an mm that is not bound:
 * the CPUs' broadcasts then invalidate too much, never too little.
 */
#include <linux/device.h>
#include <linux/mmu_context.h>
#include <linux/xarray.h>
#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include "arm-smmu-v3.h"

#define CREATE_TRACE_POINTS
#include "arm-smmu-v3-trace.h"

/*
 * Take the highest free ASID of @last, @last - @step, ... *@asid is written
 * before the map shows the domain to arm_smmu_share_asid().
 */
static int arm_smmu_insert_asid(struct arm_smmu_device *smmu,
				struct arm_smmu_domain *smmu_domain, u32 *asid,
				int last, int step)
{
	int ret = -EBUSY;

	for (; last > 0 && ret == -EBUSY; last -= step) {
		*asid = last;
		ret = xa_insert(&smmu->asid_map, last, smmu_domain, GFP_KERNEL);
	}
	if (ret)
		*asid = 0;
	return ret;
}

/**
 * arm_smmu_reserve_private_asid() - Enter a domain under one more private ASID
 * @smmu: SMMU of the domain
 * @smmu_domain: domain, which may be in use
 * @asid: the ASID, or 0 on failure
 *
 * Where ASIDs are shared, private ones keep out of the way of processes: under
 * KPTI they are even, as the CPUs' user ASIDs are odd, and in any case as high
 * as possible, because the CPUs allocate upwards. That is above 255 where they
 * have ASIDs of 8 bits and the SMMU has 16. The search is as long as there are
 * private ASIDs, and runs once in the life of a domain.
 *
 * Context: Process context, sleeps. The xarray's own lock is enough.
 * Return: 0, -EBUSY if no ASID is left, or -ENOMEM.
 */
int arm_smmu_reserve_private_asid(struct arm_smmu_device *smmu,
				  struct arm_smmu_domain *smmu_domain,
				  u32 *asid)
{
	int last = (1 << smmu->asid_bits) - 1;
	int ret = -EBUSY;

	if (!(smmu->features & ARM_SMMU_FEAT_BTM))
		return xa_alloc(&smmu->asid_map, asid, smmu_domain,
				XA_LIMIT(1, last), GFP_KERNEL);

	if (arm64_kernel_unmapped_at_el0())
		ret = arm_smmu_insert_asid(smmu, smmu_domain, asid, last - 1,
					   2);
	if (ret == -EBUSY)
		ret = arm_smmu_insert_asid(smmu, smmu_domain, asid, last, 1);
	return ret;
}

/**
 * arm_smmu_alloc_private_asid() - Give a domain an ASID of its own
 * @smmu: SMMU of the domain
 * @smmu_domain: domain that nobody else sees yet
 *
 * Context: Process context, sleeps.
 * Return: 0, -EBUSY if no ASID is left, or -ENOMEM.
 */
int arm_smmu_alloc_private_asid(struct arm_smmu_device *smmu,
				struct arm_smmu_domain *smmu_domain)
{
	return arm_smmu_reserve_private_asid(smmu, smmu_domain,
					     &smmu_domain->cd.asid);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_alloc_private_asid);

/* The CPUs' ASID of @mm, pinned; 0 if no pin is left. KUnit replaces it */
VISIBLE_IF_KUNIT unsigned long arm_smmu_pin_asid(struct mm_struct *mm)
{
	KUNIT_STATIC_STUB_REDIRECT(arm_smmu_pin_asid, mm);
	return arm64_mm_context_get(mm);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_pin_asid);

/* Let @smmu_domain have @asid. An S1 domain that has it already moves away */
static int arm_smmu_take_asid(struct arm_smmu_device *smmu,
			      struct arm_smmu_domain *smmu_domain, u32 asid)
{
	struct arm_smmu_domain *holder;
	int ret;

	/* Until it is unlocked, nobody in the map goes away */
	mutex_lock(&smmu->asid_lock);
	ret = xa_insert(&smmu->asid_map, asid, smmu_domain, GFP_KERNEL);
	if (ret == -EBUSY) {
		holder = xa_load(&smmu->asid_map, asid);
		if (holder->stage == ARM_SMMU_DOMAIN_S1)
			ret = arm_smmu_realloc_s1_domain_asid(smmu, holder);
		/* In place of an entry, which allocates nothing and cannot fail */
		if (!ret)
			xa_store(&smmu->asid_map, asid, smmu_domain,
				 GFP_KERNEL);
	}
	mutex_unlock(&smmu->asid_lock);
	return ret;
}

/**
 * arm_smmu_share_asid() - Give an SVA domain the CPUs' ASID of its mm
 * @smmu: SMMU of the domain
 * @smmu_domain: domain that nobody else sees yet
 * @mm: address space of the domain
 *
 * On success smmu_domain->btm_invalidation tells whether the ASID is shared. It
 * is private where the SMMU does not take part in broadcast TLB maintenance;
 * where the CPUs have no ASID left to pin; where another SVA domain of the same
 * mm has the number, which iommu_sva_bind_device() makes when it cannot attach
 * the existing one; and where an S1 domain has it and cannot be moved. The user
 * does not notice: the domain is invalidated by command instead.
 *
 * The pin precedes every CD with the ASID, which local TLB maintenance relies
 * on: see __flush_tlb_prepare().
 *
 * Context: Process context, sleeps. Takes smmu->asid_lock. The caller keeps @mm
 * from being freed.
 * Return: 0, -EBUSY if no ASID is left, or -ENOMEM.
 */
int arm_smmu_share_asid(struct arm_smmu_device *smmu,
			struct arm_smmu_domain *smmu_domain,
			struct mm_struct *mm)
{
	unsigned long asid;
	int ret;

	if (!(smmu->features & ARM_SMMU_FEAT_BTM))
		return arm_smmu_alloc_private_asid(smmu, smmu_domain);

	asid = arm_smmu_pin_asid(mm);
	if (asid) {
		ret = arm_smmu_take_asid(smmu, smmu_domain, asid);
		if (!ret) {
			smmu_domain->cd.asid = asid;
			smmu_domain->btm_invalidation = true;
			trace_arm_smmu_asid_share(smmu, asid);
			return 0;
		}
		arm64_mm_context_put(mm);
	}

	ret = arm_smmu_alloc_private_asid(smmu, smmu_domain);
	if (ret)
		return ret;
	trace_arm_smmu_asid_fallback(smmu, asid, smmu_domain->cd.asid);
	dev_notice_once(smmu->dev,
			"not every process can share its ASID: some are invalidated by command\n");
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_share_asid);

/**
 * arm_smmu_free_asid() - Give back the ASID of a domain
 * @smmu_domain: domain that is attached nowhere any more
 * @mm: address space of an SVA domain, otherwise NULL
 *
 * The caller has seen to it that no TLB entry with the ASID is left. After this
 * the SMMU's other domains may take the number, and after the CPUs' next
 * rollover another process.
 *
 * Context: Process context, sleeps. Takes smmu->asid_lock, so that nobody moves
 * the domain meanwhile. The caller keeps @mm from being freed.
 */
void arm_smmu_free_asid(struct arm_smmu_domain *smmu_domain,
			struct mm_struct *mm)
{
	struct arm_smmu_device *smmu = smmu_domain->smmu;

	mutex_lock(&smmu->asid_lock);
	xa_erase(&smmu->asid_map, smmu_domain->cd.asid);
	mutex_unlock(&smmu->asid_lock);
	if (smmu_domain->btm_invalidation) {
		trace_arm_smmu_asid_free(smmu, smmu_domain->cd.asid);
		arm64_mm_context_put(mm);
	}
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_free_asid);
