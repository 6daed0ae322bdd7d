// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing: what the CPU changes in its mappings, a device
 * must obey from the moment the system call returns. Whether the SMMU learns
 * it by command or by the CPUs' broadcast TLB maintenance makes no difference.
 *
 * Each case goes alike: the device accesses memory, so that the SMMU's TLB holds
 * its translations; the CPU changes the mapping; the device accesses again. A
 * translation that survived the change shows as old data, as an access that
 * should have been refused, or as a refusal that should be over; the message
 * then begins with "stale access". Pages that a stale translation could reach
 * are kept from being freed wherever the device may write to them, so that a
 * failing test does not corrupt the machine it runs on.
 *
 * Few translations are used at a time, lest the TLB forget them by itself. An
 * SMMU that serves page faults for the device is welcome, but not needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"

#ifndef MADV_FREE
#define MADV_FREE	8
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* Places looked at in an area; with small pages, one in each page */
#define SAMPLES		16

/* What is stored there, or'ed with the number of the place */
#define OLD		0x01d0000000000000ULL
#define NEW		0x2e30000000000000ULL
#define BY_DEVICE	0xde50000000000000ULL	/* allowed */
#define SNEAKED		0x5ea0000000000000ULL	/* not allowed */

/* By then a free-running operation has met every change many times */
#define STALE_MS	5000

/* What a huge page may have to be tested: not the 512M of 64K pages */
#define MAX_HUGE	(64UL << 20)
#define HUGETLB_PAGES	4	/* as many as a test takes, with copies */

enum backing { ANON, SHARED, THP, HUGETLB };

/* Memory and how to get at it */
struct area {
	enum backing backing;
	char *addr;
	size_t size;
	size_t step;	/* from one sample to the next */
	int fd;		/* SHARED: the file, which keeps the pages */
};

static size_t page_size;

static __u64 load(const void *p)
{
	return __atomic_load_n((const __u64 *)p, __ATOMIC_ACQUIRE);
}

static void store(void *p, __u64 value)
{
	__atomic_store_n((__u64 *)p, value, __ATOMIC_RELEASE);
}

static char *sample(const struct area *a, unsigned int i)
{
	return a->addr + i * a->step;
}

static void cpu_store(const struct area *a, __u64 value)
{
	unsigned int i;

	for (i = 0; i < SAMPLES; i++)
		store(sample(a, i), value | i);
}

/* How many samples the CPU finds different from what is expected */
static unsigned int cpu_differs(const struct area *a, __u64 value)
{
	unsigned int i, n = 0;

	for (i = 0; i < SAMPLES; i++)
		n += load(sample(a, i)) != (value | i);
	return n;
}

/*
 * Memory
 */
static size_t thp_size(void)
{
	size_t size = 0;
	FILE *f;

	f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "r");
	if (!f)
		return 0;
	if (fscanf(f, "%zu", &size) != 1)
		size = 0;
	fclose(f);
	return size <= MAX_HUGE ? size : 0;
}

/* With fewer free pages than a test takes, the kernel kills who wants one */
static size_t hugetlb_size(void)
{
	size_t kb = 0, free = 0;
	char line[128];
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "HugePages_Free: %zu", &free) != 1 &&
		    sscanf(line, "Hugepagesize: %zu kB", &kb) == 1)
			break;
	fclose(f);
	return free >= HUGETLB_PAGES && kb * 1024 <= MAX_HUGE ? kb * 1024 : 0;
}

/* Address space for an area, aligned to its size; nothing is mapped there */
static char *reserve(size_t size)
{
	char *p;

	p = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	return (char *)(((unsigned long)p + size - 1) & -size);
}

/* Map new memory at a->addr: NULL, or why that is impossible */
static const char *map_area(struct area *a, __u64 value)
{
	int flags = MAP_FIXED;
	size_t i;

	a->fd = -1;
	switch (a->backing) {
	case SHARED:
		flags |= MAP_SHARED;
		a->fd = memfd_create("sva", 0);
		if (a->fd < 0 || ftruncate(a->fd, a->size))
			return "no memfd";
		break;
	case HUGETLB:
		flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
		break;
	default:
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	}
	if (mmap(a->addr, a->size, PROT_READ | PROT_WRITE, flags, a->fd, 0) != a->addr)
		return a->backing == HUGETLB ? "no free huge page (vm.nr_hugepages)" : "no memory";
	if (a->backing == THP)
		madvise(a->addr, a->size, MADV_HUGEPAGE);
	else if (a->backing == ANON)
		madvise(a->addr, a->size, MADV_NOHUGEPAGE);
	/* Every page is present and dirty: the device needs no fault */
	for (i = 0; i < a->size; i += page_size)
		store(a->addr + i, 0);
	if (a->backing == THP && madvise(a->addr, a->size, MADV_COLLAPSE))
		return "no transparent huge page to be had";
	cpu_store(a, value);
	return NULL;
}

/* A new area of its own: NULL, or why that is impossible */
static const char *new_area(struct area *a, enum backing kind, __u64 value)
{
	a->backing = kind;
	switch (kind) {
	case THP:
		a->size = thp_size();
		if (!a->size)
			return "no transparent huge pages of a size to test";
		break;
	case HUGETLB:
		a->size = hugetlb_size();
		if (!a->size)
			return "too few free hugetlb pages (vm.nr_hugepages), or too large";
		break;
	default:
		a->size = SAMPLES * page_size;
	}
	a->step = a->size / SAMPLES;
	a->addr = reserve(a->size);
	if (!a->addr)
		return "no address space";
	return map_area(a, value);
}

/*
 * Keep the pages of an area allocated, whoever unmaps them: a pipe refers to
 * them for as long as the process lives.
 */
static int hold(const struct area *a)
{
	unsigned int i, n = a->step == page_size ? SAMPLES : 1;
	struct iovec iov;
	int fds[2];

	if (pipe(fds))
		return -errno;
	for (i = 0; i < n; i++) {
		iov.iov_base = sample(a, i);
		iov.iov_len = 8;
		if (vmsplice(fds[1], &iov, 1, 0) != 8)
			return -errno;
	}
	return 0;
}

/*
 * What the device sees and may do
 */

/* A page of the test's own, for the device to copy to */
static __u64 *bounce;

static int device_load(struct sva_queue *q, const void *p, __u64 *value)
{
	int code = sva_copy(q, 0, bounce, p, 8, NULL);

	*value = load(bounce);
	return code;
}

/* Let the device read and write everything, so that it is in the SMMU's TLB */
static void prime(struct __test_metadata *_metadata, struct sva_queue *q,
		  const struct area *a, __u64 value)
{
	unsigned int i;
	__u64 seen;

	for (i = 0; i < SAMPLES; i++) {
		ASSERT_EQ(SVATD_ST_OK, device_load(q, sample(a, i), &seen));
		ASSERT_EQ(value | i, seen);
		ASSERT_EQ(SVATD_ST_OK, sva_fill(q, 0, sample(a, i), value | i, 8, NULL));
	}
}

static void prime_read(struct __test_metadata *_metadata, struct sva_queue *q,
		       const struct area *a, __u64 value)
{
	unsigned int i;
	__u64 seen;

	for (i = 0; i < SAMPLES; i++) {
		ASSERT_EQ(SVATD_ST_OK, device_load(q, sample(a, i), &seen));
		ASSERT_EQ(value | i, seen);
	}
}

/* The device has to read this everywhere */
static void expect_reads(struct __test_metadata *_metadata, struct sva_queue *q,
			 const struct area *a, __u64 value, const char *after)
{
	unsigned int i, stale = 0, refused = 0;
	__u64 seen, first = 0;

	for (i = 0; i < SAMPLES; i++) {
		if (device_load(q, sample(a, i), &seen) != SVATD_ST_OK) {
			refused++;
		} else if (seen != (value | i)) {
			if (!stale++)
				first = seen;
		}
	}
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: after %s the device reads %#llx, and %u more of %u are wrong",
		       after, first, stale - 1, SAMPLES);
	}
	EXPECT_EQ(0, refused) {
		TH_LOG("stale access: after %s the device may not read %u of %u places",
		       after, refused, SAMPLES);
	}
}

/* The device has to be able to write everywhere, to where the CPU reads */
static void expect_writes(struct __test_metadata *_metadata, struct sva_queue *q,
			  const struct area *a, const char *after)
{
	unsigned int i, refused = 0, lost = 0;

	for (i = 0; i < SAMPLES; i++) {
		if (sva_fill(q, 0, sample(a, i), BY_DEVICE | i, 8, NULL) != SVATD_ST_OK)
			refused++;
		else if (load(sample(a, i)) != (BY_DEVICE | i))
			lost++;
	}
	EXPECT_EQ(0, refused) {
		TH_LOG("stale access: after %s the device may not write %u of %u places",
		       after, refused, SAMPLES);
	}
	EXPECT_EQ(0, lost) {
		TH_LOG("stale access: after %s %u of %u writes went elsewhere", after, lost,
		       SAMPLES);
	}
}

static void expect_no_read(struct __test_metadata *_metadata, struct sva_queue *q,
			   const struct area *a, const char *after)
{
	unsigned int i, stale = 0;
	__u64 seen, first = 0;

	for (i = 0; i < SAMPLES; i++) {
		if (device_load(q, sample(a, i), &seen) == SVATD_ST_FAULT)
			continue;
		if (!stale++)
			first = seen;
	}
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: after %s the device still reads %u of %u places, first %#llx",
		       after, stale, SAMPLES, first);
	}
}

static void expect_no_write(struct __test_metadata *_metadata, struct sva_queue *q,
			    const struct area *a, const char *after)
{
	unsigned int i, stale = 0;

	for (i = 0; i < SAMPLES; i++)
		if (sva_fill(q, 0, sample(a, i), SNEAKED | i, 8, NULL) != SVATD_ST_FAULT)
			stale++;
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: after %s the device still writes %u of %u places",
		       after, stale, SAMPLES);
	}
}

static __u32 rounds(const struct sva_queue *q, unsigned int slot)
{
	return __atomic_load_n((__u32 *)((char *)q->page + SVATD_Q_SLOT(slot) +
					 SVATD_SLOT_COUNT), __ATOMIC_RELAXED);
}

/*
 * What the device does without end is refused. On a slow host that may take its time,
 * in which the device does not go on.
 */
static bool refused(struct sva_queue *q, unsigned int slot)
{
	unsigned int waited;
	__u32 before;
	int status;

	for (waited = 0; waited < SVA_TIMEOUT_MS; waited += STALE_MS) {
		before = rounds(q, slot);
		status = sva_wait(q, slot, STALE_MS, NULL);
		if (status != -ETIMEDOUT)
			return status == SVATD_ST_FAULT;
		if (rounds(q, slot) - before > 8)
			return false;
	}
	return false;
}

/* A queue, and the page to copy to: false if the test is to be skipped */
static bool start(struct __test_metadata *_metadata, struct sva_queue *q)
{
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	ret = sva_queue_init(q);
	if (ret && sva_skip_reason(ret))
		SKIP(return false, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	bounce = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, bounce);
	store(bounce, 0);
	return true;
}

/*
 * Changes to a whole area, for each kind of memory
 */
FIXTURE(coherence)
{
	struct sva_queue q;
	struct area a;
};

FIXTURE_VARIANT(coherence)
{
	enum backing backing;
};

FIXTURE_VARIANT_ADD(coherence, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(coherence, shared) { .backing = SHARED };
FIXTURE_VARIANT_ADD(coherence, thp) { .backing = THP };
FIXTURE_VARIANT_ADD(coherence, hugetlb) { .backing = HUGETLB };

FIXTURE_SETUP(coherence)
{
	const char *problem;

	if (!start(_metadata, &self->q))
		return;
	problem = new_area(&self->a, variant->backing, OLD);
	if (problem)
		SKIP(return, "%s", problem);
}

FIXTURE_TEARDOWN(coherence)
{
	sva_queue_close(&self->q);
}

TEST_F_TIMEOUT(coherence, munmap, 120)
{
	prime(_metadata, &self->q, &self->a, OLD);
	ASSERT_EQ(0, hold(&self->a));
	ASSERT_EQ(0, munmap(self->a.addr, self->a.size));
	expect_no_read(_metadata, &self->q, &self->a, "munmap");
	expect_no_write(_metadata, &self->q, &self->a, "munmap");
}

TEST_F_TIMEOUT(coherence, munmap_and_mmap, 120)
{
	const char *problem;

	prime(_metadata, &self->q, &self->a, OLD);
	ASSERT_EQ(0, hold(&self->a));
	ASSERT_EQ(0, munmap(self->a.addr, self->a.size));
	problem = map_area(&self->a, NEW);
	if (problem)
		SKIP(return, "%s", problem);
	expect_reads(_metadata, &self->q, &self->a, NEW, "munmap and mmap");
	expect_writes(_metadata, &self->q, &self->a, "munmap and mmap");
}

TEST_F_TIMEOUT(coherence, mmap_over, 120)
{
	const char *problem;

	prime(_metadata, &self->q, &self->a, OLD);
	ASSERT_EQ(0, hold(&self->a));
	problem = map_area(&self->a, NEW);
	if (problem)
		SKIP(return, "%s", problem);
	expect_reads(_metadata, &self->q, &self->a, NEW, "mmap over it");
	expect_writes(_metadata, &self->q, &self->a, "mmap over it");
}

TEST_F_TIMEOUT(coherence, mprotect_none, 120)
{
	prime(_metadata, &self->q, &self->a, OLD);
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_NONE));
	expect_no_read(_metadata, &self->q, &self->a, "mprotect(PROT_NONE)");
	expect_no_write(_metadata, &self->q, &self->a, "mprotect(PROT_NONE)");
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, cpu_differs(&self->a, OLD));
	cpu_store(&self->a, NEW);
	expect_reads(_metadata, &self->q, &self->a, NEW, "mprotect() back");
	expect_writes(_metadata, &self->q, &self->a, "mprotect() back");
}

/* With a write running: it must end by itself */
TEST_F_TIMEOUT(coherence, mprotect_read, 120)
{
	unsigned int i, changed = 0;
	__u64 seen;

	prime(_metadata, &self->q, &self->a, OLD);
	sva_hammer_start(&self->q, 1, self->a.addr, self->a.size, self->a.step, BY_DEVICE);
	ASSERT_EQ(0, sva_wait_count(&self->q, 1, 2 * SAMPLES));
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ));
	EXPECT_TRUE(refused(&self->q, 1)) {
		TH_LOG("stale access: after mprotect(PROT_READ) the device goes on writing");
		sva_stop(&self->q, 1, NULL);
	}
	expect_no_write(_metadata, &self->q, &self->a, "mprotect(PROT_READ)");
	for (i = 0; i < SAMPLES; i++) {
		changed += load(sample(&self->a, i)) != BY_DEVICE;
		/* Reading was not taken away */
		EXPECT_EQ(SVATD_ST_OK, device_load(&self->q, sample(&self->a, i), &seen));
	}
	EXPECT_EQ(0, changed) {
		TH_LOG("stale access: data changed after mprotect(PROT_READ)");
	}
}

/* More rights than before: the device's refusal must not outlive them */
TEST_F_TIMEOUT(coherence, mprotect_write, 120)
{
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ));
	prime_read(_metadata, &self->q, &self->a, OLD);
	expect_no_write(_metadata, &self->q, &self->a, "mprotect(PROT_READ)");
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ | PROT_WRITE));
	cpu_store(&self->a, NEW);
	expect_reads(_metadata, &self->q, &self->a, NEW, "mprotect(PROT_WRITE)");
	expect_writes(_metadata, &self->q, &self->a, "mprotect(PROT_WRITE)");
}

/* MADV_DONTNEED; of a shared file, which keeps its pages, punching a hole */
TEST_F_TIMEOUT(coherence, discard, 120)
{
	const char *what = self->a.fd < 0 ? "MADV_DONTNEED" : "FALLOC_FL_PUNCH_HOLE";
	unsigned int i, read = 0, lost = 0;
	__u64 seen;

	prime(_metadata, &self->q, &self->a, OLD);
	ASSERT_EQ(0, hold(&self->a));
	if (self->a.fd < 0) {
		ASSERT_EQ(0, madvise(self->a.addr, self->a.size, MADV_DONTNEED));
	} else {
		ASSERT_EQ(0, fallocate(self->a.fd,
				       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				       self->a.size));
	}
	/* Either there is no page, or the fault was served and it is a new one */
	for (i = 0; i < SAMPLES; i++) {
		if (device_load(&self->q, sample(&self->a, i), &seen) == SVATD_ST_OK && seen)
			read++;
		if (sva_fill(&self->q, 0, sample(&self->a, i), SNEAKED, 8, NULL) == SVATD_ST_OK &&
		    load(sample(&self->a, i)) != SNEAKED)
			lost++;
	}
	EXPECT_EQ(0, read) {
		TH_LOG("stale access: after %s the device reads old data", what);
	}
	EXPECT_EQ(0, lost) {
		TH_LOG("stale access: after %s the device writes to the old page", what);
	}
	cpu_store(&self->a, NEW);
	expect_reads(_metadata, &self->q, &self->a, NEW, what);
	expect_writes(_metadata, &self->q, &self->a, what);
}

TEST_F_TIMEOUT(coherence, mremap, 120)
{
	struct area moved = self->a, old = self->a;
	const char *problem;

	moved.addr = reserve(moved.size);
	ASSERT_NE(NULL, moved.addr);
	prime(_metadata, &self->q, &self->a, OLD);
	ASSERT_EQ(moved.addr, mremap(old.addr, old.size, moved.size,
				     MREMAP_MAYMOVE | MREMAP_FIXED, moved.addr));
	expect_no_read(_metadata, &self->q, &old, "mremap");
	expect_no_write(_metadata, &self->q, &old, "mremap");
	EXPECT_EQ(0, cpu_differs(&moved, OLD)) {
		TH_LOG("stale access: after mremap the device wrote by the old address");
	}
	cpu_store(&moved, OLD);
	expect_reads(_metadata, &self->q, &moved, OLD, "mremap");
	expect_writes(_metadata, &self->q, &moved, "mremap");
	/* Something else where it was */
	problem = map_area(&old, NEW);
	if (problem)
		SKIP(return, "%s", problem);
	expect_reads(_metadata, &self->q, &old, NEW, "mremap and mmap");
}

/*
 * Copy on write
 */
FIXTURE(cow)
{
	struct sva_queue q;
	struct area a;
	int to_child[2];
};

FIXTURE_VARIANT(cow)
{
	enum backing backing;
};

FIXTURE_VARIANT_ADD(cow, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(cow, thp) { .backing = THP };
FIXTURE_VARIANT_ADD(cow, hugetlb) { .backing = HUGETLB };

FIXTURE_SETUP(cow)
{
	const char *problem;

	if (!start(_metadata, &self->q))
		return;
	problem = new_area(&self->a, variant->backing, OLD);
	if (problem)
		SKIP(return, "%s", problem);
	ASSERT_EQ(0, pipe(self->to_child));
}

FIXTURE_TEARDOWN(cow)
{
	sva_queue_close(&self->q);
}

static void tell(int fd, char what)
{
	if (write(fd, &what, 1) != 1)
		_exit(KSFT_FAIL);
}

static char hear(int fd)
{
	char what = 0;

	return read(fd, &what, 1) == 1 ? what : 0;
}

/* The parent writes: it gets new pages, and so must its device */
TEST_F_TIMEOUT(cow, parent_writes, 120)
{
	unsigned int i, lost = 0;
	int status;
	pid_t pid;

	prime(_metadata, &self->q, &self->a, OLD);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		hear(self->to_child[0]);
		_exit(cpu_differs(&self->a, OLD));
	}
	/*
	 * What the device writes from now on must not get to the child. (Served
	 * as a fault, the write does what one by the CPU would do.)
	 */
	for (i = 0; i < SAMPLES; i++)
		sva_fill(&self->q, 0, sample(&self->a, i), SNEAKED | i, 8, NULL);
	tell(self->to_child[1], 'c');
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("stale access: after fork the parent's device wrote to the child's pages");
	}

	/* Again, now with a child that stays while the CPU writes */
	cpu_store(&self->a, OLD);
	prime(_metadata, &self->q, &self->a, OLD);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		hear(self->to_child[0]);
		_exit(cpu_differs(&self->a, OLD));
	}
	prime_read(_metadata, &self->q, &self->a, OLD);
	cpu_store(&self->a, NEW);
	expect_reads(_metadata, &self->q, &self->a, NEW, "a write by the parent");
	for (i = 0; i < SAMPLES; i++) {
		if (sva_fill(&self->q, 0, sample(&self->a, i), BY_DEVICE | i, 8, NULL) !=
		    SVATD_ST_OK || load(sample(&self->a, i)) != (BY_DEVICE | i))
			lost++;
	}
	EXPECT_EQ(0, lost) {
		TH_LOG("stale access: after a write by the parent the device may not write");
	}
	tell(self->to_child[1], 'c');
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("stale access: the parent's device wrote to the child's pages");
	}
}

/* In the child, which has a queue of its own: 0, or what went wrong */
static int child_writes(struct area *a)
{
	struct sva_queue q;
	unsigned int i;
	int bad = 0;
	__u64 seen;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bounce = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bounce == MAP_FAILED || sva_queue_init(&q))
		return 3;
	store(bounce, 0);
	/* The CPU first: fork leaves its entries marked as not accessed */
	if (cpu_differs(a, OLD))
		return 2;
	for (i = 0; i < SAMPLES; i++)
		if (device_load(&q, sample(a, i), &seen) != SVATD_ST_OK || seen != (OLD | i))
			return 2;
	cpu_store(a, NEW);
	for (i = 0; i < SAMPLES; i++)
		if (device_load(&q, sample(a, i), &seen) != SVATD_ST_OK || seen != (NEW | i))
			bad = 1;
	return bad;
}

/* The child writes: its device follows it, and the parent's stays */
TEST_F_TIMEOUT(cow, child_writes, 120)
{
	int status;
	pid_t pid;

	prime(_metadata, &self->q, &self->a, OLD);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(child_writes(&self->a));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("%s (status %#x)", WEXITSTATUS(status) == 1 ?
		       "stale access: after the child's write its device reads the old page" :
		       "the child failed", status);
	}
	expect_reads(_metadata, &self->q, &self->a, OLD, "a write by the child");
	EXPECT_EQ(0, cpu_differs(&self->a, OLD));
}

/*
 * Single pages
 */
FIXTURE(page)
{
	struct sva_queue q;
	struct area a;
};

FIXTURE_SETUP(page)
{
	if (!start(_metadata, &self->q))
		return;
	self->a.backing = ANON;
	self->a.fd = -1;
	self->a.step = page_size;
	self->a.size = SAMPLES * page_size;
	self->a.addr = reserve(self->a.size);
	ASSERT_NE(NULL, self->a.addr);
}

FIXTURE_TEARDOWN(page)
{
	sva_queue_close(&self->q);
}

/* The zero page, before the first write to anonymous memory */
TEST_F_TIMEOUT(page, zero_page, 120)
{
	struct area *a = &self->a;
	unsigned int i;
	__u64 seen;

	ASSERT_EQ(a->addr, mmap(a->addr, a->size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, madvise(a->addr, a->size, MADV_NOHUGEPAGE));
	for (i = 0; i < SAMPLES; i++) {
		ASSERT_EQ(0, load(sample(a, i)));
		ASSERT_EQ(SVATD_ST_OK, device_load(&self->q, sample(a, i), &seen));
		ASSERT_EQ(0, seen);
	}
	cpu_store(a, NEW);
	expect_reads(_metadata, &self->q, a, NEW, "the first write");
	expect_writes(_metadata, &self->q, a, "the first write");
}

/* A private mapping of a file, of which the CPU's write makes a copy */
TEST_F_TIMEOUT(page, private_file, 120)
{
	struct area *a = &self->a, file = self->a;

	file.backing = SHARED;
	file.addr = reserve(file.size);
	ASSERT_NE(NULL, file.addr);
	ASSERT_EQ(NULL, map_area(&file, OLD));
	ASSERT_EQ(a->addr, mmap(a->addr, a->size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_FIXED, file.fd, 0));
	ASSERT_EQ(0, cpu_differs(a, OLD));
	prime_read(_metadata, &self->q, a, OLD);
	cpu_store(a, NEW);
	expect_reads(_metadata, &self->q, a, NEW, "a write to a private mapping");
	expect_writes(_metadata, &self->q, a, "a write to a private mapping");
	EXPECT_EQ(0, cpu_differs(&file, OLD));
}

/*
 * A page alone in its page table, which is freed with it, and the next at the same
 * address. Others get their tables in between, so that the next has another one.
 */
#define LONELY		((char *)0x1000000000)
#define TABLE_SPAN	(512UL << 20)	/* of a table with pages of 64K, the largest */
#define LONELIES	64

TEST_F_TIMEOUT(page, new_table, 120)
{
	__u64 seen, *page = (__u64 *)LONELY;
	unsigned int i, round;

	for (round = 0; round < SAMPLES; round++) {
		for (i = round ? LONELIES : 1; i--; ) {
			char *p = LONELY + i * TABLE_SPAN;

			ASSERT_EQ(p, mmap(p, page_size, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
					  -1, 0));
			store(p, NEW | round << 8 | i);
		}
		EXPECT_EQ(SVATD_ST_OK, device_load(&self->q, page, &seen)) {
			TH_LOG("stale access: the device does not find the new page table");
		}
		EXPECT_EQ(NEW | round << 8, seen) {
			TH_LOG("stale access: the device reads %#llx by way of an old table", seen);
		}
		for (i = round ? LONELIES : 1; i--; )
			munmap(LONELY + i * TABLE_SPAN, page_size);
	}
}

/*
 * The same page, made writable in place: its owner is alone with it again, so
 * the CPU's fault only upgrades the entry, and need not tell other CPUs.
 */
TEST_F_TIMEOUT(page, upgrade_in_place, 120)
{
	struct area *a = &self->a;
	int status;
	pid_t pid;

	ASSERT_EQ(NULL, map_area(a, OLD));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	/* Read-only still, from the fork */
	prime_read(_metadata, &self->q, a, OLD);
	cpu_store(a, NEW);
	expect_reads(_metadata, &self->q, a, NEW, "an upgrade in place");
	expect_writes(_metadata, &self->q, a, "an upgrade in place");
}

/*
 * After MADV_FREE a page may go as long as nobody writes to it. A write by the
 * device through an entry from before would not be noticed, and be lost.
 */
TEST_F_TIMEOUT(page, madv_free, 120)
{
	unsigned int i, lost = 0, written = 0;
	struct area *a = &self->a;
	bool ok[SAMPLES];
	cpu_set_t cpu;

	/* Pages on their way to the LRU lists, on other CPUs, would not go */
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);

	ASSERT_EQ(NULL, map_area(a, OLD));
	prime(_metadata, &self->q, a, OLD);
	ASSERT_EQ(0, madvise(a->addr, a->size, MADV_FREE));
	for (i = 0; i < SAMPLES; i++) {
		ok[i] = sva_fill(&self->q, 0, sample(a, i), BY_DEVICE | i, 8, NULL) == SVATD_ST_OK;
		written += ok[i];
	}
	if (written && madvise(a->addr, a->size, MADV_PAGEOUT))
		SKIP(return, "no MADV_PAGEOUT to tell lost writes by: %s", strerror(errno));
	for (i = 0; i < SAMPLES; i++)
		lost += ok[i] && load(sample(a, i)) != (BY_DEVICE | i);
	EXPECT_EQ(0, lost) {
		TH_LOG("stale access: after MADV_FREE %u writes by the device were lost", lost);
	}
	cpu_store(a, NEW);
	expect_reads(_metadata, &self->q, a, NEW, "MADV_FREE");
	expect_writes(_metadata, &self->q, a, "MADV_FREE");
}

/*
 * Transparent huge pages that come and go
 */
FIXTURE(thp)
{
	struct sva_queue q;
	struct area a;
};

FIXTURE_SETUP(thp)
{
	const char *problem;

	if (!start(_metadata, &self->q))
		return;
	problem = new_area(&self->a, THP, OLD);
	if (problem)
		SKIP(return, "%s", problem);
}

FIXTURE_TEARDOWN(thp)
{
	sva_queue_close(&self->q);
}

/* Small pages become a huge one, while the device reads them */
TEST_F_TIMEOUT(thp, collapse, 120)
{
	struct area *a = &self->a;
	struct sva_result res;
	unsigned int i;
	int code;

	a->backing = ANON;
	ASSERT_EQ(NULL, map_area(a, OLD));
	for (i = 0; i < SAMPLES; i++)
		store(sample(a, i) + 8, OLD);
	prime(_metadata, &self->q, a, OLD);
	sva_poll_start(&self->q, 1, a->addr + 8, a->size - 8, a->step, OLD, OLD);
	ASSERT_EQ(0, sva_wait_count(&self->q, 1, 2 * SAMPLES));
	ASSERT_EQ(0, madvise(a->addr, a->size, MADV_HUGEPAGE));
	if (madvise(a->addr, a->size, MADV_COLLAPSE)) {
		sva_stop(&self->q, 1, NULL);
		SKIP(return, "no MADV_COLLAPSE: %s", strerror(errno));
	}
	/* While the pages were moved there was nothing to read */
	code = sva_stop(&self->q, 1, &res);
	EXPECT_TRUE(code == SVATD_ST_STOPPED || code == SVATD_ST_FAULT) {
		TH_LOG("stale access: during the collapse the device read %#llx", res.value);
	}
	cpu_store(a, NEW);
	expect_reads(_metadata, &self->q, a, NEW, "MADV_COLLAPSE");
	/* A write could hit a page that is free by now: not if reads go astray */
	if (_metadata->exit_code == KSFT_PASS)
		expect_writes(_metadata, &self->q, a, "MADV_COLLAPSE");
}

/* One page in the middle of the huge page */
#define MIDDLE		5

/* After the change, the rest of the huge page is as it was */
static void expect_rest(struct __test_metadata *_metadata, struct sva_queue *q,
			const struct area *a)
{
	unsigned int i;
	__u64 seen;

	for (i = 0; i < SAMPLES; i++) {
		if (i == MIDDLE)
			continue;
		EXPECT_EQ(SVATD_ST_OK, device_load(q, sample(a, i), &seen));
		EXPECT_EQ(OLD | i, seen);
		EXPECT_EQ(OLD | i, load(sample(a, i)));
	}
}

TEST_F_TIMEOUT(thp, split_by_munmap, 120)
{
	struct area *a = &self->a;
	__u64 seen;

	prime(_metadata, &self->q, a, OLD);
	ASSERT_EQ(0, hold(a));
	ASSERT_EQ(0, munmap(sample(a, MIDDLE), page_size));
	EXPECT_EQ(SVATD_ST_FAULT, device_load(&self->q, sample(a, MIDDLE), &seen)) {
		TH_LOG("stale access: after munmap of a part the device reads %#llx there", seen);
	}
	EXPECT_EQ(SVATD_ST_FAULT,
		  sva_fill(&self->q, 0, sample(a, MIDDLE), SNEAKED, 8, NULL)) {
		TH_LOG("stale access: after munmap of a part the device writes there");
	}
	expect_rest(_metadata, &self->q, a);
}

TEST_F_TIMEOUT(thp, split_by_mprotect, 120)
{
	struct area *a = &self->a;

	prime(_metadata, &self->q, a, OLD);
	ASSERT_EQ(0, mprotect(sample(a, MIDDLE), page_size, PROT_READ));
	EXPECT_EQ(SVATD_ST_FAULT,
		  sva_fill(&self->q, 0, sample(a, MIDDLE), SNEAKED, 8, NULL)) {
		TH_LOG("stale access: after mprotect of a part the device writes there");
	}
	EXPECT_EQ(OLD | MIDDLE, load(sample(a, MIDDLE)));
	expect_rest(_metadata, &self->q, a);
}

TEST_F_TIMEOUT(thp, split_by_dontneed, 120)
{
	struct area *a = &self->a;
	char *p = sample(a, MIDDLE);
	__u64 seen;

	prime(_metadata, &self->q, a, OLD);
	ASSERT_EQ(0, hold(a));
	ASSERT_EQ(0, madvise(p, page_size, MADV_DONTNEED));
	if (device_load(&self->q, p, &seen) == SVATD_ST_OK) {
		EXPECT_EQ(0, seen) {
			TH_LOG("stale access: after MADV_DONTNEED the device reads old data");
		}
	}
	store(p, NEW);
	EXPECT_EQ(SVATD_ST_OK, device_load(&self->q, p, &seen));
	EXPECT_EQ(NEW, seen) {
		TH_LOG("stale access: after MADV_DONTNEED and a write the device reads %#llx",
		       seen);
	}
	expect_rest(_metadata, &self->q, a);
}

/*
 * Many threads that unmap while the device reads
 */
#define THREADS		8
#define THREAD_ROUNDS	40

struct unmapper {
	pthread_t thread;
	unsigned int slot;
	struct sva_queue *q;
	char *window;	/* 4 pages */
	int fd;		/* 8 pages: two sets that take turns in the window */
	unsigned int stale;
	unsigned int failed;
};

static __u64 turn_value(const struct unmapper *u, unsigned int turn)
{
	return (turn ? NEW : OLD) | u->slot;
}

static void *unmapper(void *arg)
{
	struct unmapper *u = arg;
	size_t size = 4 * page_size;
	unsigned int i, page, turn;

	for (i = 0; i < THREAD_ROUNDS && !u->stale && !u->failed; i++) {
		turn = i % 2;
		if (mmap(u->window, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, u->fd,
			 turn * size) != u->window) {
			u->failed++;
			break;
		}
		for (page = 0; page < 4; page++)
			store(u->window + page * page_size, turn_value(u, turn));
		sva_poll_start(u->q, u->slot, u->window, size, page_size, turn_value(u, turn),
			       turn_value(u, turn));
		switch (sva_wait_count(u->q, u->slot, 8)) {
		case 0:
			break;
		case -EPIPE:
			/* Ended already, and without a reason: old data, or a refusal */
			u->stale++;
			break;
		default:
			u->failed++;
		}
		if (munmap(u->window, size))
			u->failed++;
		if (!refused(u->q, u->slot))
			u->stale++;
	}
	sva_stop(u->q, u->slot, NULL);
	return NULL;
}

FIXTURE(threads)
{
	struct sva_queue q;
};

FIXTURE_SETUP(threads)
{
	start(_metadata, &self->q);
}

FIXTURE_TEARDOWN(threads)
{
	sva_queue_close(&self->q);
}

TEST_F_TIMEOUT(threads, unmap_while_device_reads, 300)
{
	struct unmapper u[THREADS] = {};
	unsigned int i;

	for (i = 0; i < THREADS; i++) {
		u[i].slot = i;
		u[i].q = &self->q;
		u[i].window = reserve(4 * page_size);
		ASSERT_NE(NULL, u[i].window);
		u[i].fd = memfd_create("sva", 0);
		ASSERT_LE(0, u[i].fd);
		ASSERT_EQ(0, ftruncate(u[i].fd, 8 * page_size));
	}
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&u[i].thread, NULL, unmapper, &u[i]));
	for (i = 0; i < THREADS; i++) {
		pthread_join(u[i].thread, NULL);
		EXPECT_EQ(0, u[i].stale) {
			TH_LOG("stale access: thread %u unmapped, and the device went on reading",
			       i);
		}
		EXPECT_EQ(0, u[i].failed);
	}
}

/*
 * Processes that end with DMA running, whose queue lives on because somebody
 * else holds the file. (These need the SMMU to be told by command, even with
 * broadcasts: the kernel sends no TLBI for an mm that nobody uses any more.)
 */
FIXTURE(teardown)
{
	struct area a;
};

FIXTURE_VARIANT(teardown)
{
	enum { EXIT, KILL, EXEC } way;
};

FIXTURE_VARIANT_ADD(teardown, exit) { .way = EXIT };
FIXTURE_VARIANT_ADD(teardown, kill) { .way = KILL };
FIXTURE_VARIANT_ADD(teardown, exec) { .way = EXEC };

FIXTURE_SETUP(teardown)
{
	struct sva_queue q;

	if (!start(_metadata, &q))
		return;
	sva_queue_close(&q);
	ASSERT_EQ(NULL, new_area(&self->a, SHARED, OLD));
}

FIXTURE_TEARDOWN(teardown)
{
}

/* Hand a file to another process */
static int send_fd(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = { .iov_base = "f", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

static int receive_fd(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(sock, &msg, 0) != 1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/* Write for ever, give the file away, and go */
static void leaver(const struct area *a, int sock, int way)
{
	char *const argv[] = { "sva_coherence", "--idle", NULL };
	struct sva_queue q;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sva_queue_init(&q))
		_exit(2);
	cpu_store(a, OLD);
	sva_hammer_start(&q, 1, a->addr, a->size, a->step, SNEAKED);
	if (sva_wait_count(&q, 1, 4 * SAMPLES))
		_exit(3);
	if (send_fd(sock, q.fd))
		_exit(4);
	if (way == EXIT)
		_exit(0);
	if (way == EXEC)
		execv("/proc/self/exe", argv);
	pause();
	_exit(5);
}

TEST_F_TIMEOUT(teardown, with_dma_running, 120)
{
	unsigned int ms, changed = 0;
	int sock[2], fd, status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		leaver(&self->a, sock[1], variant->way);
	close(sock[1]);
	fd = receive_fd(sock[0]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(SNEAKED, load(self->a.addr));
	if (variant->way == KILL)
		kill(pid, SIGKILL);
	/* By exit as by exec, its end of the socket is closed */
	EXPECT_EQ(0, read(sock[0], &byte, 1));
	if (variant->way != EXEC)
		ASSERT_EQ(pid, waitpid(pid, &status, 0));

	/* The mm is gone. Whoever gets its pages must have them alone */
	cpu_store(&self->a, NEW);
	for (ms = 0; ms < 300 && !changed; ms += 10) {
		usleep(10000);
		changed = cpu_differs(&self->a, NEW);
	}
	EXPECT_EQ(0, changed) {
		TH_LOG("stale access: the device still writes for a process that is gone");
	}
	if (variant->way == EXEC) {
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	close(fd);
}

/*
 * A process so big that the kernel frees its first pages, and gives them to
 * others, long before it has taken down the last page table. No CPU uses the
 * ASID any more, so nobody sends a TLBI for them.
 */
#define DYING_PAGES	512			/* of each area that the device writes to */
#define MIB		0x100000UL
#define DYING_SIZE	(256 * MIB)
#define MAX_MEMORY	(1024 * MIB)
#define SPARE_SIZE	(64 * MIB)		/* left free, so that nobody is killed */
#define CHUNK_SIZE	MIB

FIXTURE(dying)
{
};

FIXTURE_SETUP(dying)
{
	struct sva_queue q;

	if (start(_metadata, &q))
		sva_queue_close(&q);
}

FIXTURE_TEARDOWN(dying)
{
}

static size_t free_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : info.freeram * info.mem_unit;
}

/* Take memory, as others would: each page zeroed, and its second word set */
static char *take(size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_NOHUGEPAGE);
	for (i = 0; i < size; i += page_size)
		store(p + i + 8, 1);
	return p;
}

static void dying_process(int ready)
{
	size_t size = DYING_PAGES * page_size;
	struct sva_queue q;
	char *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sva_queue_init(&q))
		_exit(2);
	p = take(DYING_SIZE);
	if (!p)
		_exit(3);
	/*
	 * It is unmapped from the lowest address up: what the device has cached
	 * there becomes free first. Above, it has time to fetch translations.
	 */
	sva_hammer_start(&q, 1, p, size, page_size, SNEAKED);
	sva_hammer_start(&q, 2, p + DYING_SIZE / 4, size, page_size, SNEAKED);
	if (sva_wait_count(&q, 1, 2 * DYING_PAGES) || sva_wait_count(&q, 2, 2 * DYING_PAGES))
		_exit(4);
	/* From here on it runs only when nobody else wants the CPU */
	if (nice(19) < 0)
		_exit(5);
	if (write(ready, "r", 1) != 1)
		_exit(6);
	pause();
	_exit(7);
}

/*
 * Takes what becomes free while the process dies, and looks for what the device has
 * written there. That may be the taker's own page tables: so it is another process.
 */
enum { NOTHING, CHANGED, TOO_LATE };

static int taker(pid_t dying, int gone, size_t size)
{
	char *chunks[64];
	size_t i, n = 0, changed = 0;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(gone, F_SETFL, O_NONBLOCK);
	/* Leave so little that whatever is free from now on was the process's */
	if (size > SPARE_SIZE)
		take(size - SPARE_SIZE);
	kill(dying, SIGKILL);
	/* Its end is closed when its memory is gone */
	while (read(gone, &byte, 1)) {
		if (n < ARRAY_SIZE(chunks) && free_memory() > SPARE_SIZE) {
			chunks[n] = take(CHUNK_SIZE);
			n += !!chunks[n];
		} else {
			usleep(100);
		}
	}
	for (i = 0; i < n * CHUNK_SIZE; i += page_size)
		changed += load(chunks[i / CHUNK_SIZE] + i % CHUNK_SIZE) != 0;
	if (changed)
		ksft_print_msg("the device wrote to %zu pages of others\n", changed);
	/* Page tables are few where pages are large */
	return changed ? CHANGED : n <= 32 ? TOO_LATE : NOTHING;
}

TEST_F_TIMEOUT(dying, big_process, 120)
{
	int pipefd[2], status;
	pid_t pid, other;
	cpu_set_t cpu;
	size_t size;
	char byte;

	ASSERT_EQ(0, pipe(pipefd));
	/* All on one CPU, so that the memory is taken as it becomes free */
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpu), &cpu));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		dying_process(pipefd[1]);
	close(pipefd[1]);
	ASSERT_EQ(1, read(pipefd[0], &byte, 1));
	size = free_memory();
	if (size > MAX_MEMORY) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		SKIP(return, "too much memory to use all of it: %zu MB free", size >> 20);
	}
	other = fork();
	ASSERT_LE(0, other);
	if (!other)
		_exit(taker(pid, pipefd[0], size));
	ASSERT_EQ(other, waitpid(other, &status, 0));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != CHANGED) {
		TH_LOG("stale access: the device wrote to others, for a dead process");
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == TOO_LATE)
		SKIP(return, "it was gone before its memory could be taken");
}

int main(int argc, char **argv)
{
	/* What a process becomes by exec */
	if (argc == 2 && !strcmp(argv[1], "--idle")) {
		sleep(60);
		return 0;
	}
	return test_harness_run(argc, argv);
}
