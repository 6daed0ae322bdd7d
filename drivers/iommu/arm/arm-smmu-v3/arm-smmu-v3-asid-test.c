// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the ASIDs of an SMMU
 */
#include <kunit/device.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/mmu_context.h>
#include <linux/sched/mm.h>

#include "arm-smmu-v3.h"

#define ASID_BITS	8
#define MAX_ASID	((1 << ASID_BITS) - 1)

struct asid_test {
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
	for (i = 0; i < ARRAY_SIZE(t->domain); i++)
		t->domain[i].smmu = &t->smmu;
	test->priv = t;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	t->mm = current->mm;
	return 0;
}

static void asid_test_exit(struct kunit *test)
{
	struct asid_test *t = test->priv;

	if (!t)
		return;
	xa_destroy(&t->smmu.asid_map);
	xa_destroy(&t->other.asid_map);
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

static unsigned int asid_test_pins(struct asid_test *t)
{
	return refcount_read(&t->mm->context.pinned);
}

/* Private ASIDs are taken from the top, and never twice */
static void asid_test_private(struct kunit *test)
{
	int kpti = arm64_kernel_unmapped_at_el0() ? 1 : 0;
	struct asid_test *t = test->priv;
	int i;

	for (i = 1; i <= MAX_ASID; i++) {
		struct arm_smmu_domain *d = &t->domain[i];

		KUNIT_ASSERT_EQ(test, arm_smmu_alloc_private_asid(&t->smmu, d),
				0);
		KUNIT_EXPECT_PTR_EQ(test,
				    xa_load(&t->smmu.asid_map, d->cd.asid), d);
		/* All even ones first, where the CPUs have the odd ones */
		if (kpti)
			KUNIT_EXPECT_EQ(test, d->cd.asid & 1,
					i > MAX_ASID / 2);
		else
			KUNIT_EXPECT_EQ(test, d->cd.asid, MAX_ASID + 1 - i);
	}
	/* A domain that gets none is left as it was */
	KUNIT_EXPECT_EQ(test,
			arm_smmu_alloc_private_asid(&t->smmu,
						    &t->domain[MAX_ASID + 1]),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, t->domain[MAX_ASID + 1].cd.asid, 0);

	/* What is given back can be had again, and nothing else */
	arm_smmu_free_asid(&t->domain[7], NULL);
	KUNIT_EXPECT_EQ(test,
			arm_smmu_alloc_private_asid(&t->smmu,
						    &t->domain[MAX_ASID + 1]),
			0);
	KUNIT_EXPECT_EQ(test, t->domain[MAX_ASID + 1].cd.asid,
			t->domain[7].cd.asid);
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

	arm_smmu_free_asid(a, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->other.asid_map, asid), b);
	arm_smmu_free_asid(b, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

/* Without BTM nothing is pinned */
static void asid_test_no_btm(struct kunit *test)
{
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, d->btm_invalidation);
	KUNIT_EXPECT_NE(test, d->cd.asid, 0);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	arm_smmu_free_asid(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
}

static void asid_test_share(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *d = &t->domain[1];

	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), 0);
	KUNIT_EXPECT_TRUE(test, d->btm_invalidation);
	KUNIT_EXPECT_EQ(test, d->cd.asid, asid);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), d);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);

	arm_smmu_free_asid(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

/* Whoever has the number already keeps it, and the pin is given back */
static void asid_test_collision(struct kunit *test)
{
	u32 asid = asid_test_enable_btm(test);
	struct asid_test *t = test->priv;
	struct arm_smmu_domain *a = &t->domain[1], *b = &t->domain[2];

	/* A private domain */
	KUNIT_ASSERT_EQ(test, xa_insert(&t->smmu.asid_map, asid, a, GFP_KERNEL),
			0);
	a->cd.asid = asid;
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, b, t->mm), 0);
	KUNIT_EXPECT_FALSE(test, b->btm_invalidation);
	KUNIT_EXPECT_NE(test, b->cd.asid, asid);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, asid), a);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
	arm_smmu_free_asid(b, t->mm);
	arm_smmu_free_asid(a, NULL);

	/* Another SVA domain of the same mm */
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, a, t->mm), 0);
	KUNIT_ASSERT_EQ(test, arm_smmu_share_asid(&t->smmu, b, t->mm), 0);
	KUNIT_EXPECT_TRUE(test, a->btm_invalidation);
	KUNIT_EXPECT_FALSE(test, b->btm_invalidation);
	KUNIT_EXPECT_NE(test, b->cd.asid, asid);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	arm_smmu_free_asid(b, t->mm);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 1);
	arm_smmu_free_asid(a, t->mm);
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
	KUNIT_EXPECT_FALSE(test, d->btm_invalidation);
	KUNIT_EXPECT_NE(test, d->cd.asid, 0);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->smmu.asid_map, d->cd.asid), d);
	arm_smmu_free_asid(d, t->mm);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->smmu.asid_map));

	/* Nor a private ASID */
	for (i = 1; i <= MAX_ASID; i++)
		KUNIT_ASSERT_EQ(test,
				arm_smmu_alloc_private_asid(&t->smmu,
							    &t->domain[i]), 0);
	d = &t->domain[MAX_ASID + 1];
	KUNIT_EXPECT_EQ(test, arm_smmu_share_asid(&t->smmu, d, t->mm), -EBUSY);
	KUNIT_EXPECT_FALSE(test, d->btm_invalidation);
	KUNIT_EXPECT_EQ(test, d->cd.asid, 0);
	KUNIT_EXPECT_EQ(test, asid_test_pins(t), 0);
}

static struct kunit_case asid_test_cases[] = {
	KUNIT_CASE(asid_test_private),
	KUNIT_CASE(asid_test_two_smmus),
	KUNIT_CASE(asid_test_no_btm),
	KUNIT_CASE(asid_test_share),
	KUNIT_CASE(asid_test_collision),
	KUNIT_CASE(asid_test_no_pin),
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
