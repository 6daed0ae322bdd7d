// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ask an SMMU whether it obeys the CPUs' broadcast TLB maintenance
 *
 * SMMU_IDR0.BTM tells what the SMMU is able to do, not whether broadcasts reach
 * it: that is up to the interconnect and to firmware. An SMMU with address
 * translation operations (SMMU_IDR0.ATOS) can be asked. A lookup is "permitted to
 * use and insert" TLB entries as a transaction is (IHI0070 chapter 9), so:
 *
 *  1. map a page, look it up: the answer is its address;
 *  2. clear the descriptor, tell nobody, look it up: if the answer is still the
 *     address, it can only come from the TLB, which therefore holds the entry;
 *  3. TLBI + DSB on the CPU in question, look it up: a fault if it was obeyed.
 *
 * The lookups are for a StreamID that no device has, and a SubstreamID, so that
 * no transaction reaches the page, with an ASID that is tagged as shared.
 *
 * An answer after step 3 proves that the TLBI was lost. A fault may have another
 * reason: the SMMU is free to drop an entry at any time, and another process may
 * use the same ASID. So each kind of TLBI is tried several times, and all have to
 * be obeyed. Nothing is learned about the caches of TBUs that take no part in
 * these operations, or about TLBIs that are lost now and then.
 *
 * The hotplug state runs it on each CPU that is online, and on each that comes
 * later, before user space runs there. As a CD may have a shared ASID by then and
 * CR2.PTM cannot be changed, a CPU that comes later and is not obeyed is refused.
 */
#include <linux/cpuhotplug.h>
#include <linux/io-pgtable.h>
#include <linux/iopoll.h>
#include <linux/mmu_context.h>
#include <asm/tlbflush.h>

#include "arm-smmu-v3.h"

#define CREATE_TRACE_POINTS
#include "arm-smmu-v3-btm-trace.h"

#define BTM_CHECK_IOVA		SZ_1G
#define BTM_CHECK_SSID		1
/* Each kind of TLBI has to be obeyed this often */
#define BTM_CHECK_ROUNDS	8
/* An entry may be dropped before the TLBI: try again */
#define BTM_CHECK_HOLD_TRIES	8
#define BTM_CHECK_TIMEOUT_US	10000

enum btm_tlbi {
	BTM_TLBI_VA,
	BTM_TLBI_VA_LAST,
	BTM_TLBI_ASID,
	BTM_TLBI_RANGE,
	BTM_TLBI_RANGE_LAST,
	BTM_TLBI_NUM
};

static const char * const btm_tlbi_names[] = {
	[BTM_TLBI_VA]		= "VA",
	[BTM_TLBI_VA_LAST]	= "VA, last level",
	[BTM_TLBI_ASID]		= "ASID",
	[BTM_TLBI_RANGE]	= "range",
	[BTM_TLBI_RANGE_LAST]	= "range, last level",
};

struct btm_check {
	struct arm_smmu_device *smmu;
	/* Not a device: the StreamID, its CD table and the tables of one CD */
	struct arm_smmu_master master;
	struct arm_smmu_stream stream;
	struct arm_smmu_domain domain;
	phys_addr_t page;
};

static bool btm_check = true;
module_param(btm_check, bool, 0444);
MODULE_PARM_DESC(btm_check,
		 "Where the SMMU can be asked, do not rely on broadcast TLB maintenance unless it obeys each CPU.");

static int btm_cpuhp_state;
static DEFINE_MUTEX(btm_cpuhp_lock);

/* Invalidation is what the check is about: the tables send none */
static void btm_check_no_flush(void *cookie)
{
}

static void btm_check_no_flush_walk(unsigned long iova, size_t size,
				    size_t granule, void *cookie)
{
}

static void btm_check_no_add_page(struct iommu_iotlb_gather *gather,
				  unsigned long iova, size_t granule,
				  void *cookie)
{
}

static const struct iommu_flush_ops btm_check_flush_ops = {
	.tlb_flush_all	= btm_check_no_flush,
	.tlb_flush_walk	= btm_check_no_flush_walk,
	.tlb_add_page	= btm_check_no_add_page,
};

/*
 * Is the page translated? As for an unprivileged read. 1, 0 after a translation
 * fault, or a negative error if neither can be told.
 */
static int btm_check_lookup(struct btm_check *check)
{
	void __iomem *base = check->smmu->base;
	u32 ctrl;
	u64 par;

	if (readl_relaxed(base + ARM_SMMU_GATOS_CTRL) & GATOS_CTRL_RUN)
		return -EBUSY;
	writeq_relaxed(FIELD_PREP(GATOS_SID_STREAMID, check->stream.id) |
		       GATOS_SID_SSID_VALID |
		       FIELD_PREP(GATOS_SID_SUBSTREAMID, BTM_CHECK_SSID),
		       base + ARM_SMMU_GATOS_SID);
	writeq_relaxed(BTM_CHECK_IOVA | GATOS_ADDR_TYPE_S1 | GATOS_ADDR_RNW,
		       base + ARM_SMMU_GATOS_ADDR);
	/* After what was written to the descriptor, which the SMMU may walk */
	writel(GATOS_CTRL_RUN, base + ARM_SMMU_GATOS_CTRL);
	if (readl_poll_timeout(base + ARM_SMMU_GATOS_CTRL, ctrl,
			       !(ctrl & GATOS_CTRL_RUN), 1,
			       BTM_CHECK_TIMEOUT_US))
		return -ETIMEDOUT;

	par = readq_relaxed(base + ARM_SMMU_GATOS_PAR);
	if (!(par & GATOS_PAR_FAULT))
		return (par & GATOS_PAR_ADDR) == check->page ? 1 : -EIO;
	return FIELD_GET(GATOS_PAR_FAULTCODE, par) == EVT_ID_TRANSLATION_FAULT ?
	       0 : -EIO;
}

static int btm_check_map(struct btm_check *check)
{
	struct io_pgtable_ops *ops = check->domain.pgtbl_ops;
	size_t mapped = 0;

	return ops->map_pages(ops, BTM_CHECK_IOVA, check->page, PAGE_SIZE, 1,
			      IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE,
			      GFP_KERNEL, &mapped);
}

static void btm_check_unmap(struct btm_check *check)
{
	struct io_pgtable_ops *ops = check->domain.pgtbl_ops;

	ops->unmap_pages(ops, BTM_CHECK_IOVA, PAGE_SIZE, 1, NULL);
}

/* By command, which is obeyed */
static void btm_check_clear_asid(struct btm_check *check)
{
	struct arm_smmu_inv inv = {
		.smmu = check->smmu,
		.type = INV_TYPE_S1_ASID,
		.id = check->domain.cd.asid,
		.nsize_opcode = check->smmu->features & ARM_SMMU_FEAT_E2H ?
				CMDQ_OP_TLBI_EL2_ASID : CMDQ_OP_TLBI_NH_ASID,
	};

	arm_smmu_inv_flush_iotlb_tag(&inv);
}

/* As the kernel does it for a process, on this CPU */
static void btm_check_tlbi(enum btm_tlbi kind, u16 asid)
{
	dsb(ishst);
	switch (kind) {
	case BTM_TLBI_VA:
		__tlbi_level_asid(vae1is, BTM_CHECK_IOVA, 3, asid);
		break;
	case BTM_TLBI_VA_LAST:
		__tlbi_level_asid(vale1is, BTM_CHECK_IOVA, 3, asid);
		break;
	case BTM_TLBI_ASID:
		__tlbi(aside1is, FIELD_PREP(TLBIR_ASID_MASK, asid));
		break;
	case BTM_TLBI_RANGE:
		__tlbi_range(rvae1is, BTM_CHECK_IOVA, asid, 0, 0, 3,
			     lpa2_is_enabled());
		break;
	case BTM_TLBI_RANGE_LAST:
		__tlbi_range(rvale1is, BTM_CHECK_IOVA, asid, 0, 0, 3,
			     lpa2_is_enabled());
		break;
	default:
		break;
	}
	__tlbi_sync_s1ish_kernel();
}

/* 1 if obeyed, 0 if not, -ENOENT if the TLB holds nothing, or another error */
static int btm_check_round(struct btm_check *check, enum btm_tlbi kind)
{
	int tries, ret;

	for (tries = 0; tries != BTM_CHECK_HOLD_TRIES; tries++) {
		ret = btm_check_map(check);
		if (ret)
			return ret;
		ret = btm_check_lookup(check);
		btm_check_unmap(check);
		if (ret != 1)
			return ret < 0 ? ret : -EIO;

		ret = btm_check_lookup(check);
		if (ret < 0)
			return ret;
		if (!ret)
			continue;

		btm_check_tlbi(kind, check->domain.cd.asid);
		ret = btm_check_lookup(check);
		return ret < 0 ? ret : !ret;
	}
	return -ENOENT;
}

/* A StreamID that no device has, the last if possible, whose STE aborts */
static int btm_check_take_sid(struct btm_check *check)
{
	struct arm_smmu_device *smmu = check->smmu;
	u32 sid = smmu->features & ARM_SMMU_FEAT_2_LVL_STRTAB ?
		  smmu->strtab_cfg.l2.num_l1_ents * STRTAB_NUM_L2_STES :
		  smmu->strtab_cfg.linear.num_ents;
	struct arm_smmu_ste abort = {};
	int ret;

	lockdep_assert_held(&smmu->streams_mutex);

	arm_smmu_make_abort_ste(&abort);
	while (sid--) {
		if (sid >> smmu->sid_bits || arm_smmu_find_master(smmu, sid))
			continue;
		ret = arm_smmu_init_sid_strtab(smmu, sid);
		if (ret)
			return ret;
		if (!memcmp(arm_smmu_get_step_for_sid(smmu, sid), &abort,
			    sizeof(abort))) {
			check->stream.id = sid;
			return 0;
		}
	}
	return -EBUSY;
}

/*
 * One that the CPUs can name, from the upper half of theirs, as they allocate
 * upwards. The entry keeps it from domains; a process that has it meanwhile is
 * invalidated by command.
 */
static int btm_check_take_asid(struct btm_check *check)
{
	u64 mmfr0 = read_sanitised_ftr_reg(SYS_ID_AA64MMFR0_EL1);
	int shift = ID_AA64MMFR0_EL1_ASIDBITS_SHIFT;
	u32 bits = cpuid_feature_extract_unsigned_field(mmfr0, shift) ? 16 : 8;

	return xa_alloc(&check->smmu->asid_map, &check->domain.cd.asid,
			xa_mk_value(0),
			XA_LIMIT(1 << (bits - 1), (1 << bits) - 1), GFP_KERNEL);
}

static int btm_check_make_tables(struct btm_check *check)
{
	struct arm_smmu_device *smmu = check->smmu;
	struct arm_smmu_master *master = &check->master;
	struct io_pgtable_cfg cfg = {
		.pgsize_bitmap	= PAGE_SIZE,
		.ias		= min(48, VA_BITS),
		.oas		= smmu->oas,
		.coherent_walk	= true,
		.tlb		= &btm_check_flush_ops,
		.iommu_dev	= smmu->dev,
	};
	struct arm_smmu_ste ste;
	struct arm_smmu_cd cd;
	int ret;

	check->domain.pgtbl_ops = alloc_io_pgtable_ops(ARM_64_LPAE_S1, &cfg,
						       &check->domain);
	if (!check->domain.pgtbl_ops)
		return -ENOMEM;
	ret = arm_smmu_alloc_cd_tables(master);
	if (ret) {
		free_io_pgtable_ops(check->domain.pgtbl_ops);
		return ret;
	}

	arm_smmu_make_s1_cd(&cd, master, &check->domain);
	/* The ASID is one of the CPUs': broadcasts that name it count */
	cd.data[0] &= cpu_to_le64(~CTXDESC_CD_0_ASET);
	arm_smmu_write_cd_entry(master, BTM_CHECK_SSID,
				arm_smmu_get_cd_ptr(master, BTM_CHECK_SSID),
				&cd);
	/* Without a SubstreamID nothing is translated */
	arm_smmu_make_cdtable_ste(&ste, master, false,
				  STRTAB_STE_1_S1DSS_TERMINATE);
	arm_smmu_install_ste_for_dev(master, &ste);
	return 0;
}

static void btm_check_free_tables(struct btm_check *check)
{
	struct arm_smmu_ste ste;

	arm_smmu_make_abort_ste(&ste);
	arm_smmu_install_ste_for_dev(&check->master, &ste);
	/* CFGI_STE has removed the CD too: nothing fills the TLB any more */
	btm_check_clear_asid(check);
	arm_smmu_free_cd_tables(&check->master);
	free_io_pgtable_ops(check->domain.pgtbl_ops);
}

static int btm_check_kinds(struct btm_check *check, const char **kind)
{
	int i, round, ret;

	for (i = 0; i != BTM_TLBI_NUM; i++) {
		if (i >= BTM_TLBI_RANGE && !system_supports_tlb_range())
			break;
		*kind = btm_tlbi_names[i];
		for (round = 0; round != BTM_CHECK_ROUNDS; round++) {
			ret = btm_check_round(check, i);
			if (ret != 1)
				return ret;
			btm_check_clear_asid(check);
		}
	}
	return 1;
}

/*
 * Does @smmu obey the CPU that this runs on? 1 if it does, 0 if it does not obey
 * TLBIs of @kind, or a negative error if that cannot be told. Leaves no trace but
 * perhaps a leaf of the stream table, all of whose STEs abort.
 */
static int btm_check_this_cpu(struct arm_smmu_device *smmu, const char **kind)
{
	struct btm_check *check __free(kfree) = kzalloc_obj(*check);
	struct page *page;
	int ret;

	page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!check || !page) {
		ret = -ENOMEM;
		goto out_page;
	}
	check->smmu = smmu;
	check->page = page_to_phys(page);
	check->stream.master = &check->master;
	check->master.smmu = smmu;
	check->master.dev = smmu->dev;
	check->master.streams = &check->stream;
	check->master.num_streams = 1;
	check->master.ssid_bits = 1;
	check->master.stall_enabled = smmu->features & ARM_SMMU_FEAT_STALL_FORCE;

	/* Keeps devices with the StreamID away, and the registers to ourselves */
	mutex_lock(&smmu->streams_mutex);
	ret = btm_check_take_sid(check);
	if (ret)
		goto out_unlock;
	ret = btm_check_take_asid(check);
	if (ret)
		goto out_unlock;
	ret = btm_check_make_tables(check);
	if (!ret) {
		ret = btm_check_kinds(check, kind);
		btm_check_free_tables(check);
	}
	xa_erase(&smmu->asid_map, check->domain.cd.asid);
out_unlock:
	mutex_unlock(&smmu->streams_mutex);
out_page:
	if (page)
		__free_page(page);
	return ret;
}

/* On each CPU, in its own hotplug thread: it does not migrate */
static int btm_check_cpu_online(unsigned int cpu, struct hlist_node *node)
{
	struct arm_smmu_device *smmu =
		hlist_entry(node, struct arm_smmu_device, btm_node);
	const char *kind = "";
	int ret;

	/* After arm_smmu_device_shutdown() there is nobody to ask */
	if (!(readl_relaxed(smmu->base + ARM_SMMU_CR0ACK) & CR0_SMMUEN))
		return 0;

	ret = btm_check_this_cpu(smmu, &kind);
	trace_arm_smmu_btm_check(smmu, cpu, kind, ret);
	if (!ret) {
		dev_err(smmu->dev, "CPU%u: TLBI by %s is not obeyed\n", cpu,
			kind);
		return -EREMOTEIO;
	}
	if (ret < 0)
		smmu->btm_unsure = ret;
	else
		smmu->btm_cpus++;
	return 0;
}

/* There is nothing to undo, but a CPU that was refused goes this way */
static int btm_check_cpu_offline(unsigned int cpu, struct hlist_node *node)
{
	return 0;
}

static const char *btm_check_reason(int err)
{
	switch (err) {
	case -ENOENT:
		return "a lookup leaves nothing in the TLB";
	case -ETIMEDOUT:
		return "a lookup does not end";
	case -EIO:
		return "a lookup has an unexpected result";
	case -EBUSY:
		return "no StreamID, no ASID or no register is free";
	default:
		return "no memory";
	}
}

static void btm_check_remove(void *data)
{
	struct arm_smmu_device *smmu = data;

	cpuhp_state_remove_instance_nocalls(btm_cpuhp_state, &smmu->btm_node);
}

static int btm_check_all_cpus(struct arm_smmu_device *smmu)
{
	int ret;

	mutex_lock(&btm_cpuhp_lock);
	if (!btm_cpuhp_state) {
		ret = cpuhp_setup_state_multi(CPUHP_AP_ONLINE_DYN,
					      "iommu/arm-smmu-v3:btm",
					      btm_check_cpu_online,
					      btm_check_cpu_offline);
		if (ret > 0)
			btm_cpuhp_state = ret;
	}
	mutex_unlock(&btm_cpuhp_lock);
	if (!btm_cpuhp_state)
		return ret;
	return cpuhp_state_add_instance(btm_cpuhp_state, &smmu->btm_node);
}

/**
 * arm_smmu_btm_check() - See whether broadcasts of the CPUs reach an SMMU
 * @smmu: SMMU that is enabled, with CR2.PTM = 0 if it has %ARM_SMMU_FEAT_BTM
 *
 * Clears %ARM_SMMU_FEAT_BTM if one does not, and logs the outcome. CPUs that come
 * online later are refused if the SMMU does not obey them. CR2.PTM stays 0, and
 * the broadcasts that do reach the SMMU invalidate more than is needed.
 *
 * Context: Process context, sleeps, before devices are attached. Takes
 * smmu->streams_mutex, within the lock of CPU hotplug.
 * Return: 0, or the error of devm_add_action_or_reset().
 */
int arm_smmu_btm_check(struct arm_smmu_device *smmu)
{
	const char *why = NULL;
	int ret;

	if (!(smmu->features & ARM_SMMU_FEAT_BTM))
		return 0;

	if (!btm_check)
		why = "arm_smmu_v3.btm_check is off";
	else if (!(readl_relaxed(smmu->base + ARM_SMMU_IDR0) & IDR0_ATOS))
		why = "the SMMU has no address translation operations";
	else if (!smmu->ssid_bits)
		why = "the SMMU has no SubstreamIDs";
	if (!why) {
		ret = btm_check_all_cpus(smmu);
		if (ret == -EREMOTEIO) {
			smmu->features &= ~ARM_SMMU_FEAT_BTM;
			dev_warn(smmu->dev,
				 "broadcast TLB maintenance off: broadcasts do not reach the SMMU\n");
			return 0;
		}
		if (ret)
			why = btm_check_reason(ret);
		else if (smmu->btm_unsure)
			why = btm_check_reason(smmu->btm_unsure);
		if (!ret) {
			ret = devm_add_action_or_reset(smmu->dev,
						       btm_check_remove, smmu);
			if (ret)
				return ret;
		}
	}

	dev_info(smmu->dev, "broadcast TLB maintenance on\n");
	if (why)
		dev_info(smmu->dev, "broadcasts not verified: %s\n", why);
	else
		dev_info(smmu->dev, "broadcasts verified on %u CPUs\n",
			 smmu->btm_cpus);
	return 0;
}

/**
 * arm_smmu_btm_check_exit() - Undo what the first arm_smmu_btm_check() set up
 *
 * Context: Process context. No SMMU is bound any more.
 */
void arm_smmu_btm_check_exit(void)
{
	if (btm_cpuhp_state)
		cpuhp_remove_multi_state(btm_cpuhp_state);
}
