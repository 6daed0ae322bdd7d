// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ASIDs of an SMMU
 *
 * The TLB entries of a stage 1 domain are tagged with its ASID. An SMMU has one
 * space of ASIDs, smmu->asid_map, with two kinds in it:
 *
 *  private - chosen here. CD.ASET is 1: the CPUs' broadcasts by ASID need not
 *            invalidate its entries, and the driver invalidates by command.
 *  shared  - the one that the CPUs use for an mm, pinned for as long as a CD has
 *            it. CD.ASET is 0: when the CPUs broadcast a TLB invalidation for the
 *            mm, the SMMU obeys it as well (IHI0070 3.17).
 *
 * ASET takes no part in a lookup. Were a private and a shared ASID the same
 * number, one domain would translate with the other's entries, so the map holds
 * both kinds. A private ASID may have the number of an mm that is not bound:
 * the CPUs' broadcasts then invalidate too much, never too little.
 *
 * Entries of the map that no domain owns, reserved ones and values, belong to
 * others and stay where they are.
 */
#include <linux/device.h>
#include <linux/mmu_context.h>
#include <linux/xarray.h>
#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include "arm-smmu-v3.h"

#define CREATE_TRACE_POINTS
#include "arm-smmu-v3-trace.h"

/**
 * arm_smmu_alloc_private_asid() - Enter a domain under a private ASID
 * @smmu: SMMU of the domain
 * @smmu_domain: domain, which may be in use under another ASID
 * @asid: the ASID. Not for @smmu_domain->cd.asid of a domain in use: it may be
 *	  written even if the allocation fails
 *
 * Where ASIDs are shared, private ones come from the upper half of the space
 * first, because the CPUs allocate theirs upwards. That is above 255 where the
 * CPUs have ASIDs of 8 bits and the SMMU has 16.
 *
 * Context: Process context, sleeps. The xarray's own lock is enough.
 * Return: 0, -EBUSY if no ASID is left, or -ENOMEM.
 */
int arm_smmu_alloc_private_asid(struct arm_smmu_device *smmu,
				struct arm_smmu_domain *smmu_domain, u32 *asid)
{
	u32 last = (1 << smmu->asid_bits) - 1;
	int ret = -EBUSY;

	if (smmu->features & ARM_SMMU_FEAT_BTM)
		ret = xa_alloc(&smmu->asid_map, asid, smmu_domain,
			       XA_LIMIT(last / 2 + 1, last), GFP_KERNEL);
	if (ret == -EBUSY)
		ret = xa_alloc(&smmu->asid_map, asid, smmu_domain,
			       XA_LIMIT(1, last), GFP_KERNEL);
	return ret;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_alloc_private_asid);

/*
 * Move an S1 domain to another ASID, while its devices do DMA and CPUs unmap from
 * it. The CPUs choose the ASID of a process, so the S1 domain has to give it up.
 *
 *  1. Publish an array with both ASIDs. The new one is clear in the TLB, because
 *     it was in no array.
 *  2. Write the new ASID to each CD. CFGI_CD + SYNC wait for the translations in
 *     flight with the old CD (IHI0070 3.21, 4.3.3).
 *  3. Nothing can fill the old ASID any more: clear it.
 *  4. Publish an array with the new ASID alone. Who has loaded an earlier array
 *     over-invalidates the process that gets the old ASID.
 *
 * So a CD never has an ASID that invalidations miss:
 *
 *  [CPU0]                               | [CPU1]
 *  change IOPTE                         | arm_smmu_move_s1_domain()
 *  arm_smmu_domain_inv_range() {        |   invs = { old, new };  // step 1
 *    smp_mb();                          |   arm_smmu_write_entry() {
 *    invs = rcu_dereference();          |     dma_wmb();
 *    ...                                |     CD = new;           // step 2
 *
 * Either CPU0 sees both ASIDs, or its smp_mb() precedes the publication of the
 * array and thereby the CD: an SMMU that reads the new ASID reads the changed
 * IOPTE as well. Step 3 clears what the old ASID was filled with before.
 *
 * On success the caller replaces the entry of the old ASID in smmu->asid_map. A
 * failure leaves everything as it was.
 */
static int arm_smmu_move_s1_domain(struct arm_smmu_device *smmu,
				   struct arm_smmu_domain *smmu_domain)
{
	struct arm_smmu_master_domain *master_domain;
	struct arm_smmu_invs *invs, *both, *moved;
	u32 old_asid = smmu_domain->cd.asid;
	struct arm_smmu_cd target;
	u32 new_asid;
	size_t i;
	int ret;

	/* Keeps masters from attaching and detaching */
	lockdep_assert_held(&smmu->asid_lock);

	ret = arm_smmu_alloc_private_asid(smmu, smmu_domain, &new_asid);
	if (ret)
		return ret;

	invs = rcu_dereference_protected(smmu_domain->invs,
					 lockdep_is_held(&smmu->asid_lock));
	both = arm_smmu_invs_replace_asid(invs, old_asid, new_asid, true);
	moved = arm_smmu_invs_replace_asid(invs, old_asid, new_asid, false);
	if (!both || !moved) {
		kfree(moved);
		kfree(both);
		xa_erase(&smmu->asid_map, new_asid);
		return -ENOMEM;
	}

	arm_smmu_invs_publish(&smmu_domain->invs, invs, both);

	smmu_domain->cd.asid = new_asid;
	list_for_each_entry(master_domain, &smmu_domain->devices, devices_elm) {
		struct arm_smmu_master *master = master_domain->master;
		ioasid_t ssid = master_domain->ssid;

		arm_smmu_make_s1_cd(&target, master, smmu_domain);
		arm_smmu_write_cd_entry(master, ssid,
					arm_smmu_get_cd_ptr(master, ssid),
					&target);
	}

	/* A domain that is attached nowhere has no entry, and nothing to clear */
	for (i = 0; i != both->num_invs; i++)
		if (both->inv[i].type == INV_TYPE_S1_ASID &&
		    both->inv[i].id == old_asid)
			arm_smmu_inv_flush_iotlb_tag(&both->inv[i]);

	arm_smmu_invs_publish(&smmu_domain->invs, both, moved);
	trace_arm_smmu_asid_move(smmu, old_asid, new_asid);
	return 0;
}

/* Let @smmu_domain have @asid, and move an S1 domain that has it already */
static int arm_smmu_take_asid(struct arm_smmu_device *smmu,
			      struct arm_smmu_domain *smmu_domain, u32 asid)
{
	struct arm_smmu_domain *holder;
	int ret;

	/* No domain leaves the map while it is held */
	mutex_lock(&smmu->asid_lock);
	ret = xa_insert(&smmu->asid_map, asid, smmu_domain, GFP_KERNEL);
	if (ret == -EBUSY) {
		/* NULL where the index is reserved */
		holder = xa_load(&smmu->asid_map, asid);
		if (holder && !xa_is_value(holder) &&
		    holder->stage == ARM_SMMU_DOMAIN_S1)
			ret = arm_smmu_move_s1_domain(smmu, holder);
		/* In place of an entry, which allocates nothing and cannot fail */
		if (!ret)
			xa_store(&smmu->asid_map, asid, smmu_domain,
				 GFP_KERNEL);
	}
	if (!ret) {
		smmu_domain->cd.asid = asid;
		smmu_domain->cd.shared = true;
	}
	mutex_unlock(&smmu->asid_lock);
	return ret;
}

/* To see that no pin is left takes more processes than a KUnit test can have */
VISIBLE_IF_KUNIT unsigned long arm_smmu_pin_asid(struct mm_struct *mm)
{
	KUNIT_STATIC_STUB_REDIRECT(arm_smmu_pin_asid, mm);
	return arm64_mm_context_get(mm);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_pin_asid);

/**
 * arm_smmu_share_asid() - Give an SVA domain the CPUs' ASID of its mm
 * @smmu: SMMU of the domain
 * @smmu_domain: domain that nobody else sees yet
 * @mm: address space of the domain
 *
 * On success smmu_domain->cd.shared tells whether the ASID is shared. It is
 * private where the SMMU does not take part in broadcast TLB maintenance;
 * where the CPUs have no ASID left to pin; where the number belongs to another
 * SVA domain, or to an S1 domain that cannot be moved, or is reserved. The user
 * does not notice: the domain is invalidated by command instead.
 *
 * The pin precedes every CD with the ASID, which local TLB maintenance relies
 * on: see __flush_tlb_may_stay_local().
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
		return arm_smmu_alloc_private_asid(smmu, smmu_domain,
						   &smmu_domain->cd.asid);

	asid = arm_smmu_pin_asid(mm);
	if (asid) {
		if (!arm_smmu_take_asid(smmu, smmu_domain, asid)) {
			trace_arm_smmu_asid_share(smmu, 0, asid);
			return 0;
		}
		arm64_mm_context_put(mm);
	}

	ret = arm_smmu_alloc_private_asid(smmu, smmu_domain,
					  &smmu_domain->cd.asid);
	if (ret)
		return ret;

	trace_arm_smmu_asid_fallback(smmu, asid, smmu_domain->cd.asid);
	if (!smmu->asid_fallback) {
		smmu->asid_fallback = true;
		dev_notice(smmu->dev,
			   "not every process can share its ASID: some are invalidated by command\n");
	}
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_share_asid);

/**
 * arm_smmu_free_asid() - Give back the ASID of a domain
 * @smmu_domain: domain whose ASID is in no CD any more
 * @mm: address space of an SVA domain, otherwise NULL
 *
 * The caller has seen to it that no TLB entry with the ASID is left. After this
 * the SMMU's other domains may take the number, and after the CPUs' next
 * rollover another process.
 *
 * An SVA domain gives its ASID back when the mm dies, and nothing more when it is
 * freed later.
 *
 * Context: Process context. Caller holds smmu->asid_lock, so that nobody moves
 * the domain meanwhile, and keeps @mm from being freed.
 */
void arm_smmu_free_asid(struct arm_smmu_domain *smmu_domain,
			struct mm_struct *mm)
{
	struct arm_smmu_device *smmu = smmu_domain->smmu;
	struct arm_smmu_invs *invs =
		rcu_dereference_protected(smmu_domain->invs,
					  lockdep_is_held(&smmu->asid_lock));
	size_t i;

	lockdep_assert_held(&smmu->asid_lock);

	if (!smmu_domain->cd.asid)
		return;
	xa_erase(&smmu->asid_map, smmu_domain->cd.asid);
	if (smmu_domain->cd.shared) {
		trace_arm_smmu_asid_free(smmu, smmu_domain->cd.asid, 0);
		arm64_mm_context_put(mm);
	}
	/* No domain has ASID 0 */
	smmu_domain->cd.asid = 0;
	smmu_domain->cd.shared = false;

	/*
	 * Attach and detach look for that in the array of a dead process. Changed
	 * in place, because it must not fail; there is one entry of an ASID, so
	 * the order stays. Whoever is notified meanwhile invalidates the old ASID,
	 * which is clear, or ASID 0. Pairs with __arm_smmu_domain_inv_range().
	 */
	for (i = 0; i != invs->num_invs; i++)
		if (invs->inv[i].type == INV_TYPE_S1_ASID)
			WRITE_ONCE(invs->inv[i].id, 0);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_free_asid);
