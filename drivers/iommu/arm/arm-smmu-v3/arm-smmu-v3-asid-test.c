// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the ASIDs of an SMMU
 */
#include <kunit/device.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/io-pgtable.h>
#include <linux/kthread.h>
#include <linux/mmu_context.h>
#include <linux/sched/mm.h>

#include "arm-smmu-v3.h"

#define ASID_BITS	8
#define MAX_ASID	((1 << ASID_BITS) - 1)

#define NUM_CDS		4

/* A device with a CD table, and what the fake SMMU may have cached of it */
struct asid_test_master {
	struct arm_smmu_master master;
	struct arm_smmu_stream stream;
	struct arm_smmu_cd cds[NUM_CDS];
	struct arm_smmu_cd cached[NUM_CDS];
};

/* A domain in use: an RID with ATS, a PASID of the same device, another's */
#define NUM_ATTACHED	3

struct asid_test_move {
	struct arm_smmu_domain *domain;
	struct asid_test_master master[2];
	struct arm_smmu_master_domain attached[NUM_ATTACHED];
	struct io_pgtable pgtable;
	/* ASIDs that the IOTLB may have entries of */
	DECLARE_BITMAP(filled, 1 << 16);
	struct {
		u32 op, id;
	} cmds[16];
	int num_cmds;
	int failing_alloc;
};

struct asid_test {
	struct asid_test_move move;
	struct arm_smmu_device smmu;
	struct arm_smmu_device other;
	struct mm_struct *mm;
	/* Index 0 is not used: no domain has ASID 0 */
	struct arm_smmu_domain domain[MAX_ASID + 2];
};

static void asid_test_init_smmu(struct arm_smmu_device *smmu,
				struct device *dev)
{
	smmu->dev = dev;
	smmu->asid_bits = ASID_BITS;
	xa_init_flags(&smmu->asid_map, XA_FLAGS_ALLOC1);
	mutex_init(&smmu->asid_lock);
}

static int asid_test_init(struct kunit *test)
{
	struct asid_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct device *dev = kunit_device_register(test, "smmu");
	int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	asid_test_init_smmu(&t->smmu, dev);
	asid_test_init_smmu(&t->other, dev);
	test->priv = t;
	for (i = 0; i < ARRAY_SIZE(t->domain); i++) {
		struct arm_smmu_invs *invs = arm_smmu_invs_alloc(0);

		KUNIT_ASSERT_NOT_NULL(test, invs);
		t->domain[i].smmu = &t->smmu;
		t->domain[i].stage = ARM_SMMU_DOMAIN_SVA;
		INIT_LIST_HEAD(&t->domain[i].devices);
		RCU_INIT_POINTER(t->domain[i].invs, invs);
	}

	/* Nobody would drop the thread's reference when it ends: take it over */
	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	t->mm = current->mm;
	kthread_unuse_mm(t->mm);
	return 0;
}

static void asid_test_exit(struct kunit *test)
{
	struct asid_test *t = test->priv;
	int i;

	if (!t)
		return;
	for (i = 0; i < ARRAY_SIZE(t->domain); i++)
		kfree(rcu_dereference_protected(t->domain[i].invs, true));
	xa_destroy(&t->smmu.asid_map);
	xa_destroy(&t->other.asid_map);
	if (t->mm)
		mmput(t->mm);
}

/* The CPUs' ASID of the test's mm, with an SMMU that hears of it; or skip */
static u32 asid_test_enable_btm(struct kunit *test)
{
	struct asid_test *t = test->priv;
	unsigned long asid = arm64_mm_context_get(t->mm);

	if (!asid)
		kunit_skip(test, "the CPUs have no ASID to pin");
	arm64_mm_context_put(t->mm);
	t->smmu.features |= ARM_SMMU_FEAT_BTM;
	t->other.features |= ARM_SMMU_FEAT_BTM;
	t->smmu.asid_bits = 16;
	t->other.asid_bits = 16;
	return asid;
}

static int asid_test_alloc(struct asid_test *t, struct arm_smmu_domain *d)
{
	return arm_smmu_alloc_private_asid(&t->smmu, d, &d->cd.asid);
}

static void asid_test_free(struct arm_smmu_domain *d, struct mm_struct *mm)
{
	mutex_lock(&d->smmu->asid_lock);
	arm_smmu_free_asid(d, mm);
	mutex_unlock(&d->smmu->asid_lock);
}

static unsigned int asid_test_pins(struct asid_test *t)
{
	return refcount_read(&t->mm->context.pinned);
}

/* Private ASIDs keep to the upper half if some are shared, and are unique */
static void asid_test_private(struct kunit *test)
{
	struct asid_test *t = test->priv;
	u32 asid;
	int i;

	KUNIT_ASSERT_EQ(test, asid_test_alloc(t, &t->domain[1]), 0);
	KUNIT_EXPECT_EQ(test, t->domain[1].cd.asid, 1);
	asid_test_free(&t->domain[1], NULL);

	t->smmu.features |= ARM_SMMU_FEAT_BTM;
	for (i = 1; i <= MAX_ASID; i++) {
		struct arm_smmu_domain *d = &t->domain[i];

		KUNIT_ASSERT_EQ(test, asid_test_alloc(t, d), 0);
		KUNIT_EXPECT_PTR_EQ(test,
				    xa_load(&t->smmu.asid_map, d->cd.asid), d);
		/* The lower half when the upper is full, and never 0 */
		KUNIT_EXPECT_EQ(test, d->cd.asid,
				i <= 128 ? i + 127 : i - 128);
	}
	KUNIT_EXPECT_EQ(test, asid_test_alloc(t, &t->domain[MAX_ASID + 1]),
			-EBUSY);

	/* What is given back can be had again, and nothing else */
	asid = t->domain[7].cd.asid;
	asid_test_free(&t->domain[7], NULL);
	KUNIT_EXPECT_EQ(test, t->domain[7].cd.asid, 0);
	KUNIT_EXPECT_EQ(test, asid_test_alloc(t, &t->domain[MAX_ASID + 1]), 0);
	KUNIT_EXPECT_EQ(test, t->domain[MAX_ASID + 1].cd.asid, asid);

	/* Giving it back twice does not take it from the new owner */
	asid_test_free(&t->domain[7], NULL);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid),
			    &t->domain[MAX_ASID + 1]);
}

/* An ASID of one SMMU means nothing to another */
static void asid_test_two_smmus(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *a = &t->domain[1], *b = &t->domain[2];

	b->smmu = &t->other;
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, a, t->mm), 0);
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->other, b, t->mm), 0);
	KUNIT_EXPECT_EQ(test, a->cd.asid, asid);
	KUNIT_EXPECT_EQ(test, b->cd.asid, asid);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 2);

	asid_test_free(a, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->other.asid_map, asid), b);
	asid_test_free(b, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

/* Without BTM nothing is pinned */
static void asid_test_no_btm(struct kunit *test)
{
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, d->cd.shared);
	KUNIT_EXPECT_NE(test, d->cd.asid, 0);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	asid_test_free(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
}

static void asid_test_share(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_TRUE(test, d->cd.shared);
	KUNIT_EXPECT_EQ(test, d->cd.asid, asid);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), d);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);

	/* Once when the mm dies, and again when the domain is freed */
	asid_test_free(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	asid_test_free(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

/* An index that others have reserved, and one that holds a value, stay theirs */
static void asid_test_reserved(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];

	KUNIT_ASSERT_EQ(test, xa_reserve(&t->smmu.asid_map, asid, GFP_KERNEL),
			0);
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, d->cd.shared);
	KUNIT_EXPECT_NE(test, d->cd.asid, asid);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	asid_test_free(d, t->mm);
	KUNIT_EXPECT_EQ(test, xa_insert(&t->smmu.asid_map, asid,
					xa_mk_value(1), GFP_KERNEL), -EBUSY);
	xa_release(&t->smmu.asid_map, asid);

	KUNIT_ASSERT_EQ(test, xa_insert(&t->smmu.asid_map, asid,
					xa_mk_value(1), GFP_KERNEL), 0);
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, d->cd.shared);
	KUNIT_EXPECT_NE(test, d->cd.asid, asid);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	asid_test_free(d, t->mm);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid),
			    xa_mk_value(1));
}

/* Another SVA domain that has the number keeps it, and the pin is given back */
static void asid_test_collision(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *a = &t->domain[1], *b = &t->domain[2];

	/* One of a process that found no pin */
	KUNIT_ASSERT_EQ(test, xa_insert(&t->smmu.asid_map, asid, a, GFP_KERNEL),
			0);
	a->cd.asid = asid;
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, b, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, b->cd.shared);
	KUNIT_EXPECT_NE(test, b->cd.asid, asid);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), a);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	asid_test_free(b, t->mm);
	asid_test_free(a, NULL);

	/* Another SVA domain of the same mm */
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, a, t->mm), 0);
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, b, t->mm), 0);
	KUNIT_EXPECT_TRUE(test, a->cd.shared);
	KUNIT_EXPECT_FALSE(test, b->cd.shared);
	KUNIT_EXPECT_NE(test, b->cd.asid, asid);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	asid_test_free(b, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	asid_test_free(a, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
}

static unsigned long asid_test_pin_nothing(struct mm_struct *mm)
{
	return 0;
}

/* More processes than pins: no error to the user, and nothing to unpin later */
static void asid_test_no_pin(struct kunit *test)
{
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[MAX_ASID];
	int i;

	kunit_activate_static_stub(test, arm_smmu_pin_asid,
				   asid_test_pin_nothing);
	t->smmu.features |= ARM_SMMU_FEAT_BTM;
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, d->cd.shared);
	KUNIT_EXPECT_NE(test, d->cd.asid, 0);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, d->cd.asid), d);
	asid_test_free(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));

	/* Nor a private ASID */
	for (i = 1; i <= MAX_ASID; i++)
		KUNIT_ASSERT_EQ(test, asid_test_alloc(t, &t->domain[i]), 0);
	d = &t->domain[MAX_ASID + 1];
	KUNIT_EXPECT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), -EBUSY);
	KUNIT_EXPECT_FALSE(test, d->cd.shared);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

static u32 asid_test_cd_asid(struct arm_smmu_cd *cd)
{
	return FIELD_GET(CTXDESC_CD_0_ASID, le64_to_cpu(cd->data[0]));
}

static bool asid_test_in_array(struct asid_test *t, u32 asid)
{
	struct arm_smmu_invs *invs =
		rcu_dereference_protected(t->move.domain->invs, true);
	size_t i;

	for (i = 0; i != invs->num_invs; i++)
		if (invs->inv[i].type == INV_TYPE_S1_ASID &&
		    invs->inv[i].id == asid)
			return invs->inv[i].users == NUM_ATTACHED;
	return false;
}

/* Whether the SMMU may walk page tables by this CD */
static bool asid_test_cd_walks(struct arm_smmu_cd *cd)
{
	u64 val = le64_to_cpu(cd->data[0]);

	return (val & CTXDESC_CD_0_V) && !(val & CTXDESC_CD_0_TCR_EPD0);
}

static void asid_test_check_cd(struct kunit *test, struct arm_smmu_cd *cd)
{
	struct asid_test *t = test->priv;
	u32 asid = asid_test_cd_asid(cd);

	/* ASID 0 is nobody's. Any other may hit the TLB entries of its owner */
	if (asid)
		KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid),
				    t->move.domain);
	if (!asid_test_cd_walks(cd))
		return;
	KUNIT_EXPECT_TRUE(test, asid_test_in_array(t, asid));
	__set_bit(asid, t->move.filled);
}

/*
 * What has to hold whenever an unmap may load the array, and whatever the SMMU
 * does on its own: it may read CDs and fill its IOTLB at any time.
 */
static void asid_test_invariants(struct kunit *test)
{
	struct asid_test *t = test->priv;
	unsigned long asid;
	int i;

	for (i = 0; i != NUM_ATTACHED; i++) {
		struct arm_smmu_master_domain *md = &t->move.attached[i];
		struct asid_test_master *m =
			container_of(md->master, typeof(*m), master);

		asid_test_check_cd(test, &m->cds[md->ssid]);
		asid_test_check_cd(test, &m->cached[md->ssid]);
	}
	for_each_set_bit(asid, t->move.filled, 1 << 16) {
		KUNIT_EXPECT_TRUE(test, asid_test_in_array(t, asid));
		KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid),
				    t->move.domain);
	}
}

/* The fake SMMU obeys what it is told, once it is told to, and nothing else */
static void asid_test_command(struct kunit *test, u32 op, u32 id)
{
	struct asid_test *t = test->priv;

	KUNIT_ASSERT_LT(test, t->move.num_cmds, ARRAY_SIZE(t->move.cmds));
	t->move.cmds[t->move.num_cmds].op = op;
	t->move.cmds[t->move.num_cmds++].id = id;
}

static void asid_test_sync_cd(struct arm_smmu_master *master, int ssid,
			      bool leaf)
{
	struct asid_test_master *m = container_of(master, typeof(*m), master);
	struct kunit *test = kunit_get_current_test();

	asid_test_invariants(test);
	KUNIT_ASSERT_LT(test, ssid, NUM_CDS);
	asid_test_command(test, CMDQ_OP_CFGI_CD, m->stream.id);
	m->cached[ssid] = m->cds[ssid];
	asid_test_invariants(test);
}

static void asid_test_flush_tag(struct arm_smmu_inv *inv)
{
	struct kunit *test = kunit_get_current_test();
	struct asid_test *t = test->priv;

	asid_test_invariants(test);
	KUNIT_EXPECT_EQ(test, inv->type, INV_TYPE_S1_ASID);
	KUNIT_EXPECT_PTR_EQ(test, inv->smmu, &t->smmu);
	asid_test_command(test, inv->nsize_opcode, inv->id);
	__clear_bit(inv->id, t->move.filled);
	asid_test_invariants(test);
}

static void asid_test_domain_inv(struct arm_smmu_domain *domain)
{
	struct arm_smmu_invs *invs =
		rcu_dereference_protected(domain->invs, true);
	size_t i;

	for (i = 0; i != invs->num_invs; i++)
		if (invs->inv[i].type == INV_TYPE_S1_ASID)
			asid_test_flush_tag(&invs->inv[i]);
}

static void asid_test_start_smmu(struct kunit *test)
{
	kunit_activate_static_stub(test, arm_smmu_domain_inv,
				   asid_test_domain_inv);
	kunit_activate_static_stub(test, arm_smmu_sync_cd, asid_test_sync_cd);
	kunit_activate_static_stub(test, arm_smmu_inv_flush_iotlb_tag,
				   asid_test_flush_tag);
}

/* Attach the domain to RID and PASID 2 of SID 0, PASID 1 of SID 1 */
static void asid_test_attach(struct kunit *test, struct arm_smmu_domain *d)
{
	static const struct { u8 sid, ssid; } where[NUM_ATTACHED] = {
		{ 0, IOMMU_NO_PASID }, { 0, 2 }, { 1, 1 },
	};
	struct asid_test *t = test->priv;
	struct asid_test_move *move = &t->move;
	struct arm_smmu_invs *invs;
	int i;

	move->domain = d;
	for (i = 0; i != ARRAY_SIZE(move->master); i++) {
		struct asid_test_master *m = &move->master[i];

		m->stream.id = i;
		m->master.smmu = &t->smmu;
		m->master.streams = &m->stream;
		m->master.num_streams = 1;
		m->master.cd_table.s1fmt = STRTAB_STE_0_S1FMT_LINEAR;
		m->master.cd_table.linear.table = m->cds;
		m->master.cd_table.linear.num_ents = NUM_CDS;
	}
	for (i = 0; i != NUM_ATTACHED; i++) {
		struct asid_test_master *m = &move->master[where[i].sid];
		struct arm_smmu_master_domain *md = &move->attached[i];

		md->master = &m->master;
		md->domain = &d->domain;
		md->ssid = where[i].ssid;
		list_add_tail(&md->devices_elm, &d->devices);
		mutex_lock(&t->smmu.asid_lock);
		if (d->stage == ARM_SMMU_DOMAIN_S1)
			arm_smmu_make_s1_cd(&m->cds[md->ssid], &m->master, d);
		else
			arm_smmu_make_sva_cd(&m->cds[md->ssid], &m->master,
					     t->mm, d->cd.asid, d->cd.shared);
		mutex_unlock(&t->smmu.asid_lock);
		m->cached[md->ssid] = m->cds[md->ssid];
	}

	invs = arm_smmu_invs_alloc(2);
	KUNIT_ASSERT_NOT_NULL(test, invs);
	invs->inv[0] = (struct arm_smmu_inv){
		.smmu = &t->smmu,
		.type = INV_TYPE_S1_ASID,
		.size_opcode = CMDQ_OP_TLBI_NH_VA,
		.nsize_opcode = CMDQ_OP_TLBI_NH_ASID,
		.broadcast = d->cd.shared,
		.id = d->cd.asid,
		.users = NUM_ATTACHED,
	};
	invs->inv[1] = (struct arm_smmu_inv){
		.smmu = &t->smmu,
		.type = INV_TYPE_ATS,
		.size_opcode = CMDQ_OP_ATC_INV,
		.nsize_opcode = CMDQ_OP_ATC_INV,
		.id = 0,
		.users = 1,
	};
	invs->has_ats = true;
	kfree(rcu_replace_pointer(d->invs, invs, true));

	asid_test_start_smmu(test);
	asid_test_invariants(test);
}

static struct arm_smmu_domain *asid_test_attach_s1(struct kunit *test, u32 asid)
{
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];

	d->stage = ARM_SMMU_DOMAIN_S1;
	d->cd.asid = asid;
	d->pgtbl_ops = &t->move.pgtable.ops;
	KUNIT_ASSERT_EQ(test, xa_insert(&t->smmu.asid_map, asid, d, GFP_KERNEL),
			0);
	asid_test_attach(test, d);
	return d;
}

/* A domain in use makes way, step by step */
static void asid_test_move(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *sva = &t->domain[2];
	struct arm_smmu_domain *s1 = asid_test_attach_s1(test, asid);
	struct arm_smmu_invs *invs;
	int i;

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, sva, t->mm), 0);
	KUNIT_EXPECT_TRUE(test, sva->cd.shared);
	KUNIT_EXPECT_EQ(test, sva->cd.asid, asid);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), sva);
	KUNIT_EXPECT_NE(test, s1->cd.asid, asid);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, s1->cd.asid), s1);

	/* Each CD, then the old ASID: no command more */
	KUNIT_EXPECT_EQ(test, t->move.num_cmds, NUM_ATTACHED + 1);
	for (i = 0; i != NUM_ATTACHED; i++)
		KUNIT_EXPECT_EQ(test, t->move.cmds[i].op, CMDQ_OP_CFGI_CD);
	KUNIT_EXPECT_EQ(test, t->move.cmds[i].op, CMDQ_OP_TLBI_NH_ASID);
	KUNIT_EXPECT_EQ(test, t->move.cmds[i].id, asid);

	/* The process's ASID is in no CD of the domain, nor is it invalidated */
	asid_test_invariants(test);
	KUNIT_EXPECT_FALSE(test, asid_test_in_array(t, asid));
	KUNIT_EXPECT_FALSE(test, test_bit(asid, t->move.filled));
	invs = rcu_dereference_protected(s1->invs, true);
	KUNIT_EXPECT_EQ(test, invs->num_invs, 2);
	KUNIT_EXPECT_EQ(test, invs->inv[1].type, INV_TYPE_ATS);
	KUNIT_EXPECT_TRUE(test, invs->has_ats);

	asid_test_free(sva, t->mm);
	asid_test_free(s1, NULL);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

/* Another ASID than the last: where the S1 domain is by now */
static unsigned long asid_test_pin_where_s1_is(struct mm_struct *mm)
{
	struct asid_test *t = kunit_get_current_test()->priv;

	return arm64_mm_context_get(mm) ? t->move.domain->cd.asid : 0;
}

/* ... and once more, while the first process is bound and when it has gone */
static void asid_test_move_again(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *s1 = asid_test_attach_s1(test, asid);
	struct arm_smmu_domain *sva = &t->domain[2];
	int i;

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, sva, t->mm), 0);
	kunit_activate_static_stub(test, arm_smmu_pin_asid,
				   asid_test_pin_where_s1_is);
	for (i = 3; i <= 4; i++) {
		u32 old_asid = s1->cd.asid;

		t->move.num_cmds = 0;
		KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu,
							  &t->domain[i],
							  t->mm), 0);
		KUNIT_EXPECT_TRUE(test, t->domain[i].cd.shared);
		KUNIT_EXPECT_EQ(test, t->domain[i].cd.asid, old_asid);
		KUNIT_EXPECT_NE(test, s1->cd.asid, old_asid);
		KUNIT_EXPECT_EQ(test, t->move.num_cmds, NUM_ATTACHED + 1);
		asid_test_invariants(test);
		KUNIT_EXPECT_FALSE(test, asid_test_in_array(t, old_asid));
		KUNIT_EXPECT_FALSE(test, test_bit(old_asid, t->move.filled));
		if (i == 3)
			asid_test_free(sva, t->mm);
	}
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 2);
	asid_test_free(&t->domain[3], t->mm);
	asid_test_free(&t->domain[4], t->mm);
	asid_test_free(s1, NULL);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

#if IS_ENABLED(CONFIG_ARM_SMMU_V3_SVA)
/*
 * A process dies: no CD walks its page table, the TLB is clear, and only then its
 * ASID is given back. What is left of the CDs is nobody's.
 */
static void asid_test_release(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *sva = &t->domain[2];
	int i;

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, sva, t->mm), 0);
	asid_test_attach(test, sva);
	KUNIT_EXPECT_TRUE(test, test_bit(asid, t->move.filled));

	arm_smmu_mm_release(&sva->mmu_notifier, t->mm);
	asid_test_invariants(test);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(t->move.filled, 1 << 16));
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	for (i = 0; i != NUM_ATTACHED; i++) {
		struct arm_smmu_master_domain *md = &t->move.attached[i];
		struct asid_test_master *m =
			container_of(md->master, typeof(*m), master);
		struct arm_smmu_cd *cd = &m->cached[md->ssid];

		/* Valid, so that DMA is refused without a C_BAD_CD */
		KUNIT_EXPECT_TRUE(test, cd->data[0] &
					cpu_to_le64(CTXDESC_CD_0_V));
		KUNIT_EXPECT_FALSE(test, asid_test_cd_walks(cd));
	}

	/* The next owner of the number keeps it when the domain is freed */
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, &t->domain[3],
						  t->mm), 0);
	KUNIT_EXPECT_EQ(test, t->domain[3].cd.asid, asid);
	asid_test_free(sva, t->mm);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid),
			    &t->domain[3]);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	asid_test_free(&t->domain[3], t->mm);
}
#endif

/* A domain that nobody is attached to costs no command */
static void asid_test_move_unattached(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *s1 = &t->domain[1], *sva = &t->domain[2];

	asid_test_start_smmu(test);
	s1->stage = ARM_SMMU_DOMAIN_S1;
	s1->cd.asid = asid;
	KUNIT_ASSERT_EQ(test, xa_insert(&t->smmu.asid_map, asid, s1,
					GFP_KERNEL), 0);
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, sva, t->mm), 0);
	KUNIT_EXPECT_TRUE(test, sva->cd.shared);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), sva);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, s1->cd.asid), s1);
	KUNIT_EXPECT_EQ(test, t->move.num_cmds, 0);

	asid_test_free(s1, NULL);
	asid_test_free(sva, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
}

static struct arm_smmu_invs *
asid_test_failing_replace_asid(struct arm_smmu_invs *invs, u32 old_asid,
			       u32 new_asid, bool keep_old)
{
	struct asid_test *t = kunit_get_current_test()->priv;

	return --t->move.failing_alloc ? arm_smmu_invs_alloc(1) : NULL;
}

/* Without memory or a free ASID all is as before, and the process falls back */
static void asid_test_move_fails(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *sva = &t->domain[2];
	struct arm_smmu_domain *s1 = asid_test_attach_s1(test, asid);
	struct arm_smmu_invs *invs = rcu_dereference_protected(s1->invs, true);
	int i;

	kunit_activate_static_stub(test, arm_smmu_invs_replace_asid,
				   asid_test_failing_replace_asid);
	for (i = 1; i <= 3; i++) {
		unsigned long index;
		int used = 0;
		void *entry;

		if (i == 3) {
			/* Then to be moved to nowhere, while one is free */
			kunit_deactivate_static_stub(test,
						     arm_smmu_invs_replace_asid);
			KUNIT_ASSERT_LE(test, asid, MAX_ASID);
			t->smmu.asid_bits = ASID_BITS;
			for (index = 1; index <= MAX_ASID; index++) {
				int ret = xa_insert(&t->smmu.asid_map, index,
						    sva, GFP_KERNEL);

				KUNIT_ASSERT_EQ(test, ret,
						index == asid ? -EBUSY : 0);
			}
			KUNIT_EXPECT_EQ(test,
					arm_smmu_share_asid(&t->smmu, sva,
							    t->mm), -EBUSY);
			for (index = 1; index <= MAX_ASID; index++)
				if (index != asid)
					xa_erase(&t->smmu.asid_map, index);
		} else {
			t->move.failing_alloc = i;
			KUNIT_ASSERT_EQ(test,
					arm_smmu_share_asid(&t->smmu, sva,
							    t->mm), 0);
			KUNIT_EXPECT_NE(test, sva->cd.asid, asid);
			asid_test_free(sva, t->mm);
		}

		KUNIT_EXPECT_FALSE(test, sva->cd.shared);
		KUNIT_EXPECT_EQ(test, s1->cd.asid, asid);
		KUNIT_EXPECT_PTR_EQ(test, rcu_access_pointer(s1->invs), invs);
		KUNIT_EXPECT_EQ(test, t->move.num_cmds, 0);
		KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
		xa_for_each(&t->smmu.asid_map, index, entry)
			used++;
		KUNIT_EXPECT_EQ(test, used, 1);
		KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), s1);
		asid_test_invariants(test);
	}
}

/* A thread for another CPU, to be woken up. The caller has migration disabled */
static struct task_struct *asid_test_thread(struct kunit *test,
					    int (*fn)(void *), void *data)
{
	struct task_struct *task = kthread_create(fn, data, "asid_test");

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	kthread_bind(task, cpumask_any_but(cpu_online_mask,
					   raw_smp_processor_id()));
	return task;
}

/* A master that detaches while another thread is sending from an older array */
struct asid_test_fence {
	struct arm_smmu_device *smmu;
	struct arm_smmu_domain *domain;
	struct arm_smmu_invs *new_invs;
	struct completion done;
	bool go;
	bool detached;
};

static int asid_test_detacher(void *data)
{
	struct asid_test_fence *f = data;
	struct arm_smmu_invs *to_unref;

	to_unref = arm_smmu_invs_alloc(1);
	while (!READ_ONCE(f->go))
		cpu_relax();
	mutex_lock(&f->smmu->asid_lock);
	/* Another master attaches */
	arm_smmu_invs_publish(&f->domain->invs,
			      rcu_dereference_protected(f->domain->invs, true),
			      f->new_invs);
	/* That with the ATC detaches */
	if (to_unref) {
		to_unref->inv[0] = (struct arm_smmu_inv){
			.smmu = f->smmu,
			.type = INV_TYPE_ATS,
		};
		arm_smmu_invs_unref(f->new_invs, to_unref);
	}
	WRITE_ONCE(f->detached, true);
	mutex_unlock(&f->smmu->asid_lock);
	kfree(to_unref);
	complete(&f->done);
	return 0;
}

/* Nobody sends ATC_INV from any array after a master is detached */
static void asid_test_fence(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *s1 = asid_test_attach_s1(test, asid);
	struct asid_test_fence f = { .smmu = &t->smmu, .domain = s1 };
	struct arm_smmu_invs *old_invs, *invs;
	unsigned long flags;
	u64 end;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	init_completion(&f.done);
	old_invs = rcu_dereference_protected(s1->invs, true);
	f.new_invs = arm_smmu_invs_alloc(2);
	KUNIT_ASSERT_NOT_NULL(test, f.new_invs);
	memcpy(f.new_invs->inv, old_invs->inv, 2 * sizeof(*old_invs->inv));
	f.new_invs->has_ats = true;
	migrate_disable();
	wake_up_process(asid_test_thread(test, asid_test_detacher, &f));

	/* As long as this thread has the old array, detach does not return */
	rcu_read_lock();
	invs = arm_smmu_invs_read_lock(s1, &flags);
	WRITE_ONCE(f.go, true);
	end = ktime_get_ns() + 200 * NSEC_PER_MSEC;
	while (!READ_ONCE(f.detached) && ktime_get_ns() < end)
		cpu_relax();
	arm_smmu_invs_read_unlock(invs, flags);
	rcu_read_unlock();
	migrate_enable();
	KUNIT_EXPECT_PTR_EQ(test, invs, old_invs);
	KUNIT_EXPECT_GE(test, ktime_get_ns(), end);

	wait_for_completion(&f.done);
	KUNIT_EXPECT_TRUE(test, f.detached);
	KUNIT_EXPECT_EQ(test, f.new_invs->num_invs, 1);
}

struct asid_test_loader {
	struct arm_smmu_domain *domain;
	struct arm_smmu_invs *invs;
	struct completion done;
	bool started;
};

static int asid_test_load(void *data)
{
	struct asid_test_loader *l = data;
	unsigned long flags;

	rcu_read_lock();
	WRITE_ONCE(l->started, true);
	l->invs = arm_smmu_invs_read_lock(l->domain, &flags);
	arm_smmu_invs_read_unlock(l->invs, flags);
	rcu_read_unlock();
	complete(&l->done);
	return 0;
}

/* An array that is replaced between being loaded and being locked is not used */
static void asid_test_fence_reload(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct arm_smmu_domain *s1 = asid_test_attach_s1(test, asid);
	struct asid_test_loader l = { .domain = s1 };
	struct arm_smmu_invs *old_invs, *new_invs;
	struct task_struct *task;
	unsigned long flags;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	init_completion(&l.done);
	old_invs = rcu_dereference_protected(s1->invs, true);
	new_invs = arm_smmu_invs_alloc(2);
	KUNIT_ASSERT_NOT_NULL(test, new_invs);
	memcpy(new_invs->inv, old_invs->inv, 2 * sizeof(*old_invs->inv));
	new_invs->has_ats = true;
	migrate_disable();
	task = asid_test_thread(test, asid_test_load, &l);

	/* Held, so that the other thread loads the array and waits for it */
	write_lock_irqsave(&old_invs->rwlock, flags);
	wake_up_process(task);
	while (!READ_ONCE(l.started))
		cpu_relax();
	mdelay(100);
	rcu_assign_pointer(s1->invs, new_invs);
	write_unlock_irqrestore(&old_invs->rwlock, flags);
	migrate_enable();
	wait_for_completion(&l.done);
	KUNIT_EXPECT_PTR_EQ(test, l.invs, new_invs);
	kfree_rcu(old_invs, rcu);
}

/* A CPU's TLBI covers the entry of a shared ASID, and nothing else */
static void asid_test_broadcast(struct kunit *test)
{
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];
	struct arm_smmu_invs *invs = arm_smmu_invs_alloc(2);
	struct arm_smmu_invs *covered = arm_smmu_invs_alloc(1);

	KUNIT_ASSERT_NOT_NULL(test, invs);
	KUNIT_ASSERT_NOT_NULL(test, covered);
	invs->inv[0] = (struct arm_smmu_inv){
		.smmu = &t->smmu, .type = INV_TYPE_S1_ASID, .users = 1,
	};
	invs->inv[1] = (struct arm_smmu_inv){
		.smmu = &t->smmu, .type = INV_TYPE_ATS,
	};
	KUNIT_EXPECT_TRUE(test, arm_smmu_invs_need_cmds(invs));
	invs->inv[0].broadcast = true;
	covered->inv[0] = invs->inv[0];
	KUNIT_EXPECT_FALSE(test, arm_smmu_invs_need_cmds(invs));
	invs->inv[1].users = 1;
	KUNIT_EXPECT_TRUE(test, arm_smmu_invs_need_cmds(invs));

	/* What the mmu notifier asks is up to date with each array */
	KUNIT_EXPECT_FALSE(test, d->needs_cmds);
	arm_smmu_invs_publish(&d->invs,
			      rcu_dereference_protected(d->invs, true), invs);
	KUNIT_EXPECT_TRUE(test, d->needs_cmds);
	arm_smmu_invs_publish(&d->invs, invs, covered);
	KUNIT_EXPECT_FALSE(test, d->needs_cmds);
}

static struct kunit_case asid_test_cases[] = {
	KUNIT_CASE(asid_test_private),
	KUNIT_CASE(asid_test_two_smmus),
	KUNIT_CASE(asid_test_no_btm),
	KUNIT_CASE(asid_test_share),
	KUNIT_CASE(asid_test_reserved),
	KUNIT_CASE(asid_test_collision),
	KUNIT_CASE(asid_test_no_pin),
	KUNIT_CASE(asid_test_move),
	KUNIT_CASE(asid_test_move_again),
#if IS_ENABLED(CONFIG_ARM_SMMU_V3_SVA)
	KUNIT_CASE(asid_test_release),
#endif
	KUNIT_CASE(asid_test_move_unattached),
	KUNIT_CASE(asid_test_move_fails),
	KUNIT_CASE(asid_test_fence),
	KUNIT_CASE(asid_test_fence_reload),
	KUNIT_CASE(asid_test_broadcast),
	{}
};

static struct kunit_suite asid_test_suite = {
	.name = "arm-smmu-v3-asid",
	.init = asid_test_init,
	.exit = asid_test_exit,
	.test_cases = asid_test_cases,
};

kunit_test_suite(asid_test_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_DESCRIPTION("KUnit tests of the arm-smmu-v3 driver's ASIDs");
MODULE_LICENSE("GPL");
