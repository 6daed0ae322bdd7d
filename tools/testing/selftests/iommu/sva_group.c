// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing and several functions: of one IOMMU group or of
 * several, with and without ATS, and one that has no PASID. A process opens and
 * closes them in each order. Every open has to succeed, whichever function was
 * first; every device has to obey the CPU's changes for as long as it is open;
 * and a process that no ATC is behind costs the SMMU no command if that listens
 * to broadcasts, whatever it was bound to before.
 */
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "kselftest_harness.h"
#include "sva_smmu.h"
#include "sva_testdev.h"

#define MAX_FUNCTIONS	3

/* Commands of others, such as of the console's device, may be among them */
#define TRIES		20

struct function {
	char path[64];
	char group[64];
	bool ats;
	struct sva_queue q;
};

FIXTURE(group)
{
	struct function fn[MAX_FUNCTIONS];
	unsigned int nr;
	struct smmu smmu;
	size_t page_size;
};

static const unsigned int permutations[][MAX_FUNCTIONS] = {
	{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
};

static bool group_of(const char *path, char *group, size_t size)
{
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/sys/class/uacce/%s/device/iommu_group",
		 strrchr(path, '/') + 1);
	len = readlink(link, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = 0;
	snprintf(group, size, "%.60s", strrchr(target, '/') + 1);
	return true;
}

FIXTURE_SETUP(group)
{
	glob_t found;
	size_t i;
	int ret;

	self->page_size = sysconf(_SC_PAGESIZE);
	if (glob("/dev/sva_testdev-*", 0, NULL, &found) || found.gl_pathc < 2)
		SKIP(return, "needs two functions /dev/sva_testdev-N");
	for (i = 0; i < found.gl_pathc && self->nr < MAX_FUNCTIONS; i++) {
		struct function *fn = &self->fn[self->nr];
		char page[64] = {};
		char copy[64] = {};

		snprintf(fn->path, sizeof(fn->path), "%s", found.gl_pathv[i]);
		ASSERT_TRUE(group_of(fn->path, fn->group, sizeof(fn->group)));
		ret = sva_queue_init_on(&fn->q, fn->path);
		if (ret && sva_skip_reason(ret))
			SKIP(return, "%s", sva_skip_reason(ret));
		ASSERT_EQ(0, ret)
			TH_LOG("%s: open alone: %s", fn->path, strerror(-ret));
		ASSERT_EQ(SVATD_ST_OK, sva_copy(&fn->q, 0, copy, page, sizeof(copy), NULL));
		fn->ats = sva_queue_has_ats(&fn->q);
		sva_queue_close(&fn->q);
		ksft_print_msg("%s: group %s, %s ATS\n", fn->path, fn->group,
			       fn->ats ? "with" : "without");
		self->nr++;
	}
	globfree(&found);
	smmu_map(&self->smmu, smmu_find(self->fn[0].path));
}

FIXTURE_TEARDOWN(group)
{
	smmu_unmap(&self->smmu);
}

/* Each of the @n open functions reads a page, which is then taken away */
static const char *use(struct function **fn, unsigned int n, size_t page_size)
{
	char *page, *copy;
	unsigned int i;
	const char *bad = NULL;

	page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	copy = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || copy == MAP_FAILED)
		return "no memory";
	memset(page, 0x5a, page_size);
	memset(copy, 0, page_size);
	for (i = 0; i < n && !bad; i++) {
		memset(copy, 0, page_size);
		if (sva_copy(&fn[i]->q, 0, copy, page, page_size, NULL) != SVATD_ST_OK)
			bad = "a device cannot copy";
		else if (memcmp(copy, page, page_size))
			bad = "a device copies something else";
	}
	munmap(page, page_size);
	for (i = 0; i < n && !bad; i++)
		if (sva_copy(&fn[i]->q, 0, copy, page, page_size, NULL) == SVATD_ST_OK)
			bad = "stale access: a device reads a page that is gone";
	munmap(copy, page_size);
	return bad;
}

/* What a munmap() of a page that was touched costs in commands, at the least */
static unsigned int commands(struct smmu *smmu, size_t page_size)
{
	unsigned int i, least = UINT_MAX;

	for (i = 0; i < TRIES && least; i++) {
		char *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		__u32 prod;

		if (page == MAP_FAILED)
			return UINT_MAX;
		*page = 1;
		prod = smmu_cmdq_prod(smmu);
		munmap(page, page_size);
		prod = smmu_cmdq_advance(smmu, prod, smmu_cmdq_prod(smmu));
		least = prod < least ? prod : least;
	}
	return least;
}

/* Has any function of the group of @fn an ATC? All are attached with it */
static bool ats_behind(const struct function *all, unsigned int nr, const struct function *fn)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (all[i].ats && !strcmp(all[i].group, fn->group))
			return true;
	return false;
}

/* Every order of open, and of close */
TEST_F_TIMEOUT(group, orders, 120)
{
	unsigned int o, c, i, j, n;

	for (o = 0; o < ARRAY_SIZE(permutations); o++)
		for (c = 0; c < ARRAY_SIZE(permutations); c++) {
			struct function *open[MAX_FUNCTIONS];

			for (i = 0, n = 0; i < MAX_FUNCTIONS; i++) {
				struct function *fn = &self->fn[permutations[o][i]];

				if (permutations[o][i] >= self->nr)
					continue;
				ASSERT_EQ(0, sva_queue_init_on(&fn->q, fn->path))
					TH_LOG("orders %u %u: %s", o, c, fn->path);
				open[n++] = fn;
				ASSERT_EQ(NULL, use(open, n, self->page_size));
			}
			for (i = 0; i < MAX_FUNCTIONS; i++) {
				struct function *fn = &self->fn[permutations[c][i]];

				if (permutations[c][i] >= self->nr)
					continue;
				sva_queue_close(&fn->q);
				for (j = 0; open[j] != fn; j++)
					;
				open[j] = open[--n];
				ASSERT_EQ(NULL, use(open, n, self->page_size));
			}
		}
}

/*
 * Without an ATC behind it a process costs no command. One that has come and gone
 * makes no difference.
 */
TEST_F_TIMEOUT(group, commands, 120)
{
	unsigned int o, i, left, prod;
	struct function *fn;

	if (!self->smmu.regs)
		SKIP(return, "/dev/mem does not show the SMMU's registers");
	if (!smmu_listens(&self->smmu))
		SKIP(return, "the SMMU does not listen to broadcasts");
	for (left = 0; left < self->nr; left++) {
		if (ats_behind(self->fn, self->nr, &self->fn[left]))
			continue;
		for (o = 0; o < ARRAY_SIZE(permutations); o++) {
			for (i = 0; i < MAX_FUNCTIONS; i++) {
				fn = &self->fn[permutations[o][i]];
				if (permutations[o][i] < self->nr)
					ASSERT_EQ(0, sva_queue_init_on(&fn->q, fn->path));
			}
			for (i = 0; i < self->nr; i++)
				if (i != left)
					sva_queue_close(&self->fn[i].q);
			prod = commands(&self->smmu, self->page_size);
			sva_queue_close(&self->fn[left].q);
			EXPECT_EQ(0, prod)
				TH_LOG("%s, the last of order %u", self->fn[left].path, o);
		}
		return;
	}
	SKIP(return, "each group has a function with ATS");
}

TEST_HARNESS_MAIN
