// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing: the page faults of a device whose accesses can
 * stall. One that the CPU could make as well is served, however the memory came
 * to be away, and the access finds the right data; any other ends with a status
 * and the address. None is lost, whatever the process does meanwhile: unmap, move
 * pages, fault a thousand times at once, or die.
 *
 * On a machine that serves no faults of the device what needs them is skipped;
 * the rest holds there as well.
 *
 * SVA_FAULT_ACCESSES is the number of accesses that a storm must see, or it
 * fails (none; it ends at 400000), SVA_FAULT_SECONDS how long it may take for
 * them (60, or 300 if they are asked for).
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define PAGES		16		/* of most areas */
#define TAG		0x7a6700000000ULL
#define OTHER		0x07e400000000ULL

/* By then an access has ended, unless it never will */
#define LOST_MS		SVA_TIMEOUT_MS
/* By then one that never ends by itself has met every change */
#define STALE_MS	SVA_TIMEOUT_MS

static size_t page_size;

static __u64 load(const void *p)
{
	return __atomic_load_n((const __u64 *)p, __ATOMIC_ACQUIRE);
}

static void store(void *p, __u64 value)
{
	__atomic_store_n((__u64 *)p, value, __ATOMIC_RELEASE);
}

static __u64 add(__u64 *p, __u64 n)
{
	return __atomic_add_fetch(p, n, __ATOMIC_ACQ_REL);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *env = getenv(name);

	return env ? strtoul(env, NULL, 0) : otherwise;
}

static __u32 queue_reg(const struct sva_queue *q, unsigned int offset)
{
	return __atomic_load_n((__u32 *)((char *)q->page + offset), __ATOMIC_RELAXED);
}

static unsigned int stalled_now(const struct sva_queue *q)
{
	return __builtin_popcount(queue_reg(q, SVATD_Q_STALLED));
}

static char *map(size_t size, int prot, int flags, int fd)
{
	char *p = mmap(NULL, size, prot, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Memory that nobody has touched, in pages of the smallest size */
static char *untouched(size_t size)
{
	char *p = map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1);

	if (p)
		madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

/* In how many places is something else? */
static size_t differs(const void *p, size_t size, __u64 value)
{
	size_t i, n = 0;

	for (i = 0; i < size; i += 8)
		n += load((const char *)p + i) != value;
	return n;
}

static void fill(void *p, size_t size, __u64 value)
{
	size_t i;

	for (i = 0; i < size; i += 8)
		store((char *)p + i, value);
}

/* A file with data that is in no page table; the device is to read it first */
static int new_file(size_t size, __u64 value)
{
	int fd = memfd_create("sva", 0);
	size_t i;

	if (fd < 0)
		return -1;
	for (i = 0; i < size; i += 8) {
		if (pwrite(fd, &value, 8, i) != 8) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

/*
 * The kernel log
 */
struct kmsg {
	unsigned int lines;	/* all */
	unsigned int smmu;	/* of the SMMU's */
	unsigned int bad;	/* that tell of trouble */
};

static int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

static void kmsg_read(int fd, struct kmsg *k)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "Oops", "INFO: task", "list_del corruption",
		"CMD_SYNC timeout", "CMDQ timeout", "does not come to rest",
	};
	char line[1024];
	unsigned int i;
	ssize_t len;

	memset(k, 0, sizeof(*k));
	for (;;) {
		len = read(fd, line, sizeof(line) - 1);
		if (len < 0 && errno == EPIPE) {
			/* More than the buffer holds: a flood */
			ksft_print_msg("the kernel log overflowed\n");
			k->lines += 10000;
			k->smmu += 10000;
			continue;
		}
		if (len <= 0)
			return;
		line[len] = '\0';
		k->lines++;
		k->smmu += !!strstr(line, "arm-smmu-v3");
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			if (strstr(line, bad[i])) {
				ksft_print_msg("kernel log: %s", line);
				k->bad++;
			}
		}
	}
}

static bool queues_return_to(long expected)
{
	long is = -1;
	int ms;

	for (ms = 0; ms < SVA_TIMEOUT_MS; ms++) {
		if (sva_device_attr("available_instances", &is))
			return false;
		if (is == expected)
			return true;
		usleep(1000);
	}
	ksft_print_msg("%ld queues available, %ld before\n", is, expected);
	return false;
}

/*
 * What is common to all cases: a queue, and whether the device's faults are served
 * at all. Returns false if the test is to be skipped.
 */
static bool start(struct __test_metadata *_metadata, struct sva_queue *q, bool *served)
{
	long queues;
	int ret;
	char *p;

	page_size = sysconf(_SC_PAGESIZE);
	ret = sva_queue_init(q);
	/* Busy with what, when there are queues? */
	ASSERT_FALSE(ret == -EBUSY && !sva_device_attr("available_instances", &queues) && queues);
	if (ret && sva_skip_reason(ret))
		SKIP(return false, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	p = untouched(page_size);
	ASSERT_NE(NULL, p);
	ret = sva_fill(q, 0, p, TAG, 8, NULL);
	ASSERT_TRUE(ret == SVATD_ST_OK || ret == SVATD_ST_FAULT) {
		TH_LOG("neither served nor refused: %d", ret);
	}
	*served = ret == SVATD_ST_OK;
	munmap(p, page_size);
	return true;
}

#define NOT_SERVED	"faults of this device are not served"

/* The access at @addr ended there, and was no other */
static void expect_fault(struct __test_metadata *_metadata, const struct sva_result *res,
			 const void *addr, bool is_write)
{
	ASSERT_EQ(SVATD_ST_FAULT, res->code) {
		TH_LOG("%s instead of a fault at %p", sva_status_name(res->code), addr);
	}
	EXPECT_EQ(sva_addr(addr), res->faddr);
	EXPECT_EQ(is_write, res->write);
}

FIXTURE(fault)
{
	struct sva_queue q;
	bool served;
};

FIXTURE_SETUP(fault)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
}

FIXTURE_TEARDOWN(fault)
{
	sva_queue_close(&self->q);
}

/*
 * Served faults
 */
TEST_F_TIMEOUT(fault, anon_read, 120)
{
	size_t size = PAGES * page_size;
	char *from, *to;
	__u32 stalls;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	from = untouched(size);
	to = untouched(size);
	ASSERT_TRUE(from && to);
	fill(to, size, TAG);
	stalls = queue_reg(&self->q, SVATD_Q_STALLS);
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, to, from, size, NULL));
	EXPECT_EQ(0, differs(to, size, 0));
	/* The zero page is there, and read-only: the same again to write */
	EXPECT_LE(PAGES, queue_reg(&self->q, SVATD_Q_STALLS) - stalls);
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, from, TAG, size, NULL));
	EXPECT_EQ(0, differs(from, size, TAG));
	EXPECT_LE(2 * PAGES, queue_reg(&self->q, SVATD_Q_STALLS) - stalls);
	EXPECT_EQ(0, queue_reg(&self->q, SVATD_Q_STALLED));
}

TEST_F_TIMEOUT(fault, anon_write, 120)
{
	size_t size = PAGES * page_size;
	struct sva_result res;
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(size);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, TAG, size, &res));
	EXPECT_EQ(size, res.count);
	EXPECT_EQ(0, differs(p, size, TAG));
}

TEST_F_TIMEOUT(fault, anon_atomic, 120)
{
	struct sva_result res;
	unsigned int i;
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(PAGES * page_size);
	ASSERT_NE(NULL, p);
	for (i = 0; i < PAGES; i++) {
		__u64 *word = (__u64 *)(p + i * page_size);

		ASSERT_EQ(SVATD_ST_OK, sva_atomic_add(&self->q, 0, word, 5, &res));
		EXPECT_EQ(0, res.value);
		ASSERT_EQ(SVATD_ST_OK, sva_atomic_add(&self->q, 0, word, 2, &res));
		EXPECT_EQ(5, res.value);
		EXPECT_EQ(7, load(word));
	}
}

/* By interrupt, which comes when the fault has been served */
TEST_F_TIMEOUT(fault, wakes_up, 120)
{
	struct sva_op op = {
		.cmd = SVATD_OP_FILL | SVATD_CMD_IRQ,
		.len = 8,
		.arg = TAG,
	};
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(page_size);
	ASSERT_NE(NULL, p);
	op.dst = sva_addr(p);
	sva_submit(&self->q, 0, &op);
	ASSERT_EQ(SVATD_ST_OK, sva_wait_irq(&self->q, 0, SVA_TIMEOUT_MS, NULL));
	EXPECT_EQ(TAG, load(p));
}

/* Every slot at once, each in memory of its own */
TEST_F_TIMEOUT(fault, all_slots, 120)
{
	size_t size = 64 * page_size;
	struct sva_op op = { .cmd = SVATD_OP_FILL, .len = size };
	struct sva_result res;
	unsigned int i;
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(SVATD_NUM_SLOTS * size);
	ASSERT_NE(NULL, p);
	for (i = 0; i < SVATD_NUM_SLOTS; i++) {
		op.dst = sva_addr(p + i * size);
		op.arg = TAG | i;
		sva_submit(&self->q, i, &op);
	}
	for (i = 0; i < SVATD_NUM_SLOTS; i++) {
		EXPECT_EQ(SVATD_ST_OK, sva_wait(&self->q, i, LOST_MS, &res));
		EXPECT_EQ(size, res.count);
		EXPECT_EQ(0, differs(p + i * size, size, TAG | i));
	}
}

/* All slots at the same page: whoever comes second finds it there */
TEST_F_TIMEOUT(fault, same_page, 120)
{
	struct sva_op op = { .cmd = SVATD_OP_ATOMIC_ADD, .len = 8, .arg = 1 };
	unsigned int i, round;
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(64 * page_size);
	ASSERT_NE(NULL, p);
	for (round = 0; round < 64; round++) {
		op.dst = sva_addr(p + round * page_size);
		for (i = 0; i < SVATD_NUM_SLOTS; i++)
			sva_submit(&self->q, i, &op);
		for (i = 0; i < SVATD_NUM_SLOTS; i++)
			ASSERT_EQ(SVATD_ST_OK, sva_wait(&self->q, i, LOST_MS, NULL));
		EXPECT_EQ(SVATD_NUM_SLOTS, load(p + round * page_size));
	}
}

/* Each side has its own copy, whoever writes first, and by whatever device */
TEST_F_TIMEOUT(fault, cow_after_fork, 120)
{
	size_t size = PAGES * page_size;
	int to_child[2], to_parent[2], status;
	struct sva_queue q;
	char *p, *to, byte;
	pid_t pid;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(size);
	to = untouched(size);
	ASSERT_TRUE(p && to);
	fill(p, size, TAG);
	/* The parent's device has it in its TLB, writable */
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, TAG, size, NULL));
	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (sva_queue_init(&q))
			_exit(2);
		/* The upper half is the child's to write first */
		if (sva_fill(&q, 0, p + size / 2, OTHER, size / 2, NULL) != SVATD_ST_OK)
			_exit(3);
		if (write(to_parent[1], "c", 1) != 1 || read(to_child[0], &byte, 1) != 1)
			_exit(4);
		/* The parent's device has written meanwhile */
		if (sva_copy(&q, 0, to, p, size, NULL) != SVATD_ST_OK)
			_exit(5);
		if (differs(to, size / 2, TAG) || differs(to + size / 2, size / 2, OTHER))
			_exit(6);
		if (differs(p, size / 2, TAG) || differs(p + size / 2, size / 2, OTHER))
			_exit(7);
		sva_queue_close(&q);
		_exit(0);
	}
	ASSERT_EQ(1, read(to_parent[0], &byte, 1));
	EXPECT_EQ(0, differs(p, size, TAG));
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, to, p, size, NULL));
	EXPECT_EQ(0, differs(to, size, TAG));
	/* The lower half is the parent's */
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, OTHER + 1, size / 2, NULL));
	EXPECT_EQ(0, differs(p, size / 2, OTHER + 1));
	ASSERT_EQ(1, write(to_child[1], "p", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, differs(p, size / 2, OTHER + 1));
	EXPECT_EQ(0, differs(p + size / 2, size / 2, TAG));
}

static size_t thp_size(void)
{
	size_t size = 0;
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "r");

	if (!f)
		return 0;
	if (fscanf(f, "%zu", &size) != 1)
		size = 0;
	fclose(f);
	return size;
}

/* Served by a huge page: one fault */
TEST_F_TIMEOUT(fault, huge_page, 120)
{
	size_t size = thp_size();
	__u32 stalls;
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	if (!size || size > 64 << 20)
		SKIP(return, "no transparent huge pages of a size to test");
	p = map(2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE, -1);
	ASSERT_NE(NULL, p);
	p = (char *)(((unsigned long)p + size - 1) & -size);
	ASSERT_EQ(0, madvise(p, size, MADV_HUGEPAGE));
	stalls = queue_reg(&self->q, SVATD_Q_STALLS);
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, TAG, size, NULL));
	EXPECT_EQ(0, differs(p, size, TAG));
	stalls = queue_reg(&self->q, SVATD_Q_STALLS) - stalls;
	/* Or, when memory is fragmented, one for each page */
	EXPECT_TRUE(stalls == 1 || stalls == size / page_size) {
		TH_LOG("%u stalls", stalls);
	}
}

/* A file that nobody has read before, at least not through this mapping */
FIXTURE(file)
{
	struct sva_queue q;
	bool served;
	size_t size;
	int fd;
};

FIXTURE_VARIANT(file)
{
	int flags;
};

FIXTURE_VARIANT_ADD(file, private) { .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(file, shared) { .flags = MAP_SHARED };

FIXTURE_SETUP(file)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
	self->size = PAGES * page_size;
	self->fd = new_file(self->size, TAG);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(file)
{
	sva_queue_close(&self->q);
}

TEST_F_TIMEOUT(file, read, 120)
{
	char *p = map(self->size, PROT_READ, variant->flags, self->fd);
	char *to = untouched(self->size);

	if (!self->served)
		SKIP(return, NOT_SERVED);
	ASSERT_TRUE(p && to);
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, to, p, self->size, NULL));
	EXPECT_EQ(0, differs(to, self->size, TAG));
}

TEST_F_TIMEOUT(file, write, 120)
{
	char *p = map(self->size, PROT_READ | PROT_WRITE, variant->flags, self->fd);
	__u64 expected = variant->flags == MAP_SHARED ? OTHER : TAG;
	char *buf = malloc(self->size);

	if (!self->served)
		SKIP(return, NOT_SERVED);
	ASSERT_TRUE(p && buf);
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, OTHER, self->size, NULL));
	EXPECT_EQ(0, differs(p, self->size, OTHER));
	ASSERT_EQ(self->size, pread(self->fd, buf, self->size, 0));
	EXPECT_EQ(0, differs(buf, self->size, expected));
}

/* Read first, so that the write finds a page that it may not change */
TEST_F_TIMEOUT(file, read_then_write, 120)
{
	char *p = map(self->size, PROT_READ | PROT_WRITE, variant->flags, self->fd);
	__u64 expected = variant->flags == MAP_SHARED ? OTHER : TAG;
	char *to = untouched(self->size);

	if (!self->served)
		SKIP(return, NOT_SERVED);
	ASSERT_TRUE(p && to);
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, to, p, self->size, NULL));
	EXPECT_EQ(0, differs(to, self->size, TAG));
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, OTHER, self->size, NULL));
	EXPECT_EQ(0, differs(p, self->size, OTHER));
	ASSERT_EQ(self->size, pread(self->fd, to, self->size, 0));
	EXPECT_EQ(0, differs(to, self->size, expected));
}

/* The part that is in the file is served, the page after it is not */
TEST_F_TIMEOUT(file, beyond_the_end, 120)
{
	size_t size = self->size;
	char *p = map(size + page_size, PROT_READ | PROT_WRITE, variant->flags, self->fd);
	struct sva_result res;
	char *to = untouched(size + page_size);

	ASSERT_TRUE(p && to);
	if (!self->served) {
		fill(to, size + page_size, 1);
		load(p);
	}
	sva_copy(&self->q, 0, to, p + size, page_size, &res);
	expect_fault(_metadata, &res, p + size, false);
	sva_fill(&self->q, 0, p + size, OTHER, page_size, &res);
	expect_fault(_metadata, &res, p + size, true);
	if (!self->served)
		SKIP(return, NOT_SERVED);
	sva_copy(&self->q, 0, to, p, size + page_size, &res);
	expect_fault(_metadata, &res, p + size, false);
	EXPECT_EQ(size, res.count);
	EXPECT_EQ(0, differs(to, size, TAG));
}

/* The file becomes shorter below accesses that never end by themselves */
TEST_F_TIMEOUT(file, truncated, 120)
{
	char *p = map(self->size, PROT_READ | PROT_WRITE,
		      variant->flags | (self->served ? 0 : MAP_POPULATE), self->fd);
	struct sva_result res;

	ASSERT_NE(NULL, p);
	sva_poll_start(&self->q, 0, p, self->size, page_size, TAG, TAG);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 2 * PAGES));
	ASSERT_EQ(0, ftruncate(self->fd, page_size));
	EXPECT_EQ(SVATD_ST_FAULT, sva_wait(&self->q, 0, STALE_MS, &res)) {
		TH_LOG("stale access: after ftruncate() the device goes on reading");
		sva_stop(&self->q, 0, NULL);
	}
	EXPECT_LE(sva_addr(p + page_size), res.faddr);
	EXPECT_GT(sva_addr(p + self->size), res.faddr);
}

/*
 * Refused: a status and the address, and never a hang
 */
FIXTURE(refused)
{
	struct sva_queue q;
	bool served;
	char *p;	/* PAGES, all there */
	char *good;	/* a page, there */
};

FIXTURE_SETUP(refused)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
	self->p = untouched(PAGES * page_size);
	self->good = untouched(page_size);
	ASSERT_TRUE(self->p && self->good);
	fill(self->p, PAGES * page_size, TAG);
	fill(self->good, page_size, OTHER);
}

FIXTURE_TEARDOWN(refused)
{
	sva_queue_close(&self->q);
}

/* Both ways, and by each kind of operation */
static void expect_refused(struct __test_metadata *_metadata, struct sva_queue *q,
			   char *p, char *good, bool only_writes)
{
	struct sva_result res;

	if (!only_writes) {
		sva_copy(q, 0, good, p, 8, &res);
		expect_fault(_metadata, &res, p, false);
		sva_compare(q, 0, p, good, 8, &res);
		expect_fault(_metadata, &res, p, false);
		sva_poll_start(q, 0, p, 8, 8, TAG, TAG);
		sva_wait(q, 0, LOST_MS, &res);
		expect_fault(_metadata, &res, p, false);
		EXPECT_EQ(0, res.count);
	}
	sva_fill(q, 0, p, OTHER, 8, &res);
	expect_fault(_metadata, &res, p, true);
	sva_atomic_add(q, 0, (__u64 *)p, 1, &res);
	expect_fault(_metadata, &res, p, true);
	sva_hammer_start(q, 0, p, 8, 8, OTHER);
	sva_wait(q, 0, LOST_MS, &res);
	expect_fault(_metadata, &res, p, true);
	EXPECT_EQ(0, res.count);
}

TEST_F_TIMEOUT(refused, hole, 120)
{
	char *hole = self->p + PAGES / 2 * page_size;
	struct sva_result res;

	ASSERT_EQ(0, munmap(hole, page_size));
	expect_refused(_metadata, &self->q, hole, self->good, false);
	/* What was before it is done */
	sva_fill(&self->q, 0, self->p, OTHER, PAGES * page_size, &res);
	expect_fault(_metadata, &res, hole, true);
	EXPECT_EQ(PAGES / 2 * page_size, res.count);
	EXPECT_EQ(0, differs(self->p, PAGES / 2 * page_size, OTHER));
	EXPECT_EQ(0, differs(hole + page_size, (PAGES / 2 - 1) * page_size, TAG));
}

TEST_F_TIMEOUT(refused, read_only, 120)
{
	ASSERT_EQ(0, mprotect(self->p, page_size, PROT_READ));
	expect_refused(_metadata, &self->q, self->p, self->good, true);
	EXPECT_EQ(0, differs(self->p, page_size, TAG));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->good, self->p, 8, NULL));
	EXPECT_EQ(TAG, load(self->good));
}

/* The same where there is no page yet */
TEST_F_TIMEOUT(refused, read_only_untouched, 120)
{
	ASSERT_EQ(0, madvise(self->p, page_size, MADV_DONTNEED));
	ASSERT_EQ(0, mprotect(self->p, page_size, PROT_READ));
	expect_refused(_metadata, &self->q, self->p, self->good, true);
	EXPECT_EQ(0, differs(self->p, page_size, 0));
}

TEST_F_TIMEOUT(refused, prot_none, 120)
{
	ASSERT_EQ(0, mprotect(self->p, page_size, PROT_NONE));
	expect_refused(_metadata, &self->q, self->p, self->good, false);
	ASSERT_EQ(0, mprotect(self->p, page_size, PROT_READ));
	EXPECT_EQ(0, differs(self->p, page_size, TAG));
}

/* Nowhere, in the kernel's half, and where no table walk can get to */
TEST_F_TIMEOUT(refused, no_address_of_a_process, 120)
{
	static const __u64 addr[] = { 0, 0x1000, 1ULL << 47, 1ULL << 48, 1ULL << 52,
				      1ULL << 63, ~0ULL - 0xfff };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(addr); i++)
		expect_refused(_metadata, &self->q, (char *)addr[i], self->good, false);
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p, OTHER, page_size, NULL));
}

/*
 * Below a mapping that grows down. The kernel looks for a mapping that has the
 * address (iommu_sva_handle_mm()), so a device does not make the stack grow; that
 * takes a CPU.
 */
TEST_F_TIMEOUT(refused, below_the_stack, 120)
{
	size_t room = 2 << 20;
	char *p, *stack;

	/* The gap that the kernel keeps below */
	p = map(2 * room, PROT_NONE, MAP_PRIVATE, -1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p, 2 * room));
	stack = mmap(p + room, page_size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_EQ(p + room, stack);
	store(stack, TAG);
	expect_refused(_metadata, &self->q, stack - page_size, self->good, false);
	store(stack - page_size, TAG);
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->good, stack - page_size, 8, NULL));
	EXPECT_EQ(TAG, load(self->good));
	if (self->served) {
		/* It is part of the mapping now, whether touched or not */
		store(stack - 3 * page_size, TAG);
		EXPECT_EQ(SVATD_ST_OK,
			  sva_fill(&self->q, 0, stack - 2 * page_size, OTHER, 8, NULL));
		EXPECT_EQ(OTHER, load(stack - 2 * page_size));
	}
}

/*
 * A page that user space is to provide. The fault would have to be given up and
 * tried again later; iommu_sva_handle_mm() does not allow that (it passes no
 * FAULT_FLAG_ALLOW_RETRY), so it is refused, and nobody is told. Once the page
 * is there it is as any other.
 */
TEST_F_TIMEOUT(refused, userfaultfd, 120)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_copy copy = { .len = page_size };
	struct uffd_msg msg;
	char *p;
	int fd;

	fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	p = untouched(PAGES * page_size);
	ASSERT_NE(NULL, p);
	reg.range.start = sva_addr(p);
	reg.range.len = PAGES * page_size;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	expect_refused(_metadata, &self->q, p, self->good, false);
	EXPECT_EQ(-1, read(fd, &msg, sizeof(msg)));
	EXPECT_EQ(EAGAIN, errno);

	fill(self->good, page_size, TAG);
	copy.src = sva_addr(self->good);
	copy.dst = sva_addr(p);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->good + 8, p, 8, NULL));
	EXPECT_EQ(TAG, load(self->good + 8));
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, OTHER, 8, NULL));
	EXPECT_EQ(OTHER, load(p));
	close(fd);
}

/*
 * Pages that the kernel takes away by itself
 */
FIXTURE(away)
{
	struct sva_queue q;
	bool served;
	int pagemap;
};

FIXTURE_SETUP(away)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
	self->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_LE(0, self->pagemap);
}

FIXTURE_TEARDOWN(away)
{
	sva_queue_close(&self->q);
}

#define PM_PRESENT	0x8000000000000000ULL
#define PM_SWAPPED	0x4000000000000000ULL
#define PM_PFN		0x007fffffffffffffULL

static __u64 pagemap(int fd, const void *p)
{
	__u64 entry = 0;

	if (pread(fd, &entry, 8, (unsigned long)p / page_size * 8) != 8)
		return 0;
	return entry;
}

#define SWAP_PAGES	256

TEST_F_TIMEOUT(away, swapped_out, 120)
{
	size_t size = SWAP_PAGES * page_size;
	unsigned int i, round, swapped = 0;
	char *p, *to;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	p = untouched(size);
	to = untouched(size);
	ASSERT_TRUE(p && to);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < SWAP_PAGES; i++)
			fill(p + i * page_size, page_size, TAG | round << 16 | i);
		/* Through an entry of its TLB it would read other data later */
		ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, to, p, size, NULL));
		if (madvise(p, size, MADV_PAGEOUT))
			SKIP(return, "no MADV_PAGEOUT: %s", strerror(errno));
		for (i = 0; i < SWAP_PAGES; i++)
			swapped += !!(pagemap(self->pagemap, p + i * page_size) & PM_SWAPPED);
		if (!swapped)
			SKIP(return, "nothing is swapped out: no swap space (zram)?");
		if (round % 2) {
			/* To write, each second word: the others must come back */
			for (i = 0; i < SWAP_PAGES; i++)
				ASSERT_EQ(SVATD_ST_OK,
					  sva_fill(&self->q, i % SVATD_NUM_SLOTS,
						   p + i * page_size, OTHER | i, 8, NULL));
			for (i = 0; i < SWAP_PAGES; i++) {
				EXPECT_EQ(OTHER | i, load(p + i * page_size));
				EXPECT_EQ(0, differs(p + i * page_size + 8, page_size - 8,
						     TAG | round << 16 | i));
			}
			continue;
		}
		fill(to, size, 0);
		ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, to, p, size, NULL));
		for (i = 0; i < SWAP_PAGES; i++)
			EXPECT_EQ(0, differs(to + i * page_size, page_size,
					     TAG | round << 16 | i));
	}
	ksft_print_msg("%u pages were swapped out and back in by the device\n", swapped);
}

/*
 * While it compacts, memory moves away below accesses that never end. Each finds
 * the page at its new place, or waits for it.
 */
#define COMPACT_SIZE	(128UL << 20)
#define COMPACT_ROUNDS	4
#define COMPACT_SECONDS	20		/* after that no other round begins */
#define COMPACT_SLOTS	8

TEST_F_TIMEOUT(away, compaction, 300)
{
	__u64 *pfn, entry, accesses = 0, bad = 0;
	size_t size = COMPACT_SIZE;
	unsigned int i, round, moved = 0, pages = COMPACT_SIZE / page_size;
	double begin = now();
	struct sva_result res;
	char *p;
	int fd;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	fd = open("/proc/sys/vm/compact_memory", O_WRONLY);
	if (fd < 0)
		SKIP(return, "no compaction: %s", strerror(errno));
	pfn = calloc(pages, sizeof(*pfn));
	ASSERT_NE(NULL, pfn);
	for (round = 0; round < COMPACT_ROUNDS && now() - begin < COMPACT_SECONDS; round++) {
		p = untouched(size);
		ASSERT_NE(NULL, p);
		/* Every 8th page stays, which leaves holes all over the memory */
		for (i = 0; i < pages; i++)
			store(p + i * page_size, TAG);
		for (i = 0; i < pages; i++) {
			if (i % 8)
				madvise(p + i * page_size, page_size, MADV_DONTNEED);
			else
				pfn[i] = pagemap(self->pagemap, p + i * page_size) & PM_PFN;
		}
		if (!pfn[0])
			SKIP(return, "may not see where pages are");
		for (i = 0; i < COMPACT_SLOTS; i += 2) {
			sva_poll_start(&self->q, i, p, size, 8 * page_size, TAG, TAG);
			sva_hammer_start(&self->q, i + 1, p + 8, size - 8, 8 * page_size, OTHER);
		}
		/* The TLB has all of it */
		for (i = 0; i < COMPACT_SLOTS; i++)
			ASSERT_EQ(0, sva_wait_count(&self->q, i, pages / 8));
		ASSERT_EQ(1, write(fd, "1", 1));
		for (i = 0; i < pages; i += 8) {
			entry = pagemap(self->pagemap, p + i * page_size);
			moved += (entry & PM_PRESENT) && (entry & PM_PFN) != pfn[i];
			/* Seen by the device and lost by the move? */
			bad += load(p + i * page_size + 8) != OTHER;
			store(p + i * page_size + 8, TAG);
		}
		/* And the device writes to where they are now */
		for (i = 1; i < COMPACT_SLOTS; i += 2) {
			sva_peek(&self->q, i, &res);
			ASSERT_EQ(0, sva_wait_count(&self->q, i,
						    res.count + pages / 4));
		}
		for (i = 0; i < COMPACT_SLOTS; i++) {
			EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&self->q, i, &res)) {
				TH_LOG("slot %u: %s at %#llx, found %#llx", i,
				       sva_status_name(res.code), res.faddr, res.value);
			}
			accesses += res.count;
		}
		for (i = 0; i < pages; i += 8)
			bad += load(p + i * page_size) != TAG ||
			       load(p + i * page_size + 8) != OTHER;
		munmap(p, size);
	}
	ksft_print_msg("%u pages moved below %llu accesses, %u stalled\n", moved, accesses,
		       queue_reg(&self->q, SVATD_Q_STALLS));
	EXPECT_EQ(0, bad);
	if (!moved && !bad)
		SKIP(return, "compaction moved no page");
}

/*
 * A storm: threads take memory away and put other memory there, and the device
 * works in it without pause. Each access has one status that is right, and
 * values that it may find. One that finds something else was made with a
 * translation that should be gone: stale. One that does not end: lost.
 */
#define STORM_THREADS	8
#define STORM_SLOTS	4	/* of each thread */
#define STORM_PAGES	16
/* Of the accesses that are wanted, one in so many has to be served a fault */
#define STORM_FAULTS	50

enum storm { SHARED_FILE, ANON, FREE_RUN };

struct storm_thread {
	pthread_t thread;
	struct sva_queue *q;
	bool served;
	unsigned int id;
	char *window;		/* STORM_PAGES */
	char *window2;
	int fd;			/* SHARED_FILE: two sets, for the window in turns */
	char *file;		/* both, mapped elsewhere */
	pthread_barrier_t *begin;
	bool *stop;
	__u64 *total;
	__u64 rounds;
	__u64 accesses;
	unsigned int stale;
	unsigned int lost;
	unsigned int failed;
};

static __u64 storm_tag(const struct storm_thread *t, unsigned int turn)
{
	return (turn ? TAG : OTHER) | t->id << 8;
}

static void storm_count(struct storm_thread *t, __u64 n)
{
	t->accesses += n;
	add(t->total, n);
}

static bool in_window(const struct storm_thread *t, __u64 addr)
{
	return addr - sva_addr(t->window) < STORM_PAGES * page_size;
}

/*
 * The pages of a file in turns: word 0 is read, word 1 written by the device. The
 * file keeps them, so that a stale translation does not corrupt the machine.
 */
static void storm_file(struct storm_thread *t)
{
	size_t size = STORM_PAGES * page_size;
	int populate = t->served ? 0 : MAP_POPULATE;
	unsigned int turn = t->rounds % 2, i;
	struct sva_result res;
	char *p;

	for (i = 0; i < STORM_PAGES; i++)
		store(t->file + turn * size + i * page_size + 8, 0);
	if (mmap(t->window, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | populate,
		 t->fd, turn * size) != t->window) {
		t->failed++;
		return;
	}
	for (i = 0; i < STORM_SLOTS; i += 2) {
		sva_poll_start(t->q, i, t->window, size, page_size,
			       storm_tag(t, turn), storm_tag(t, turn));
		sva_hammer_start(t->q, i + 1, t->window + 8, size - 8, page_size,
				 storm_tag(t, turn));
	}
	for (i = 0; i < STORM_SLOTS; i++) {
		switch (sva_wait_count(t->q, i, 2 * STORM_PAGES)) {
		case 0:
			break;
		case -EPIPE:
			t->stale++;	/* old data, or a refusal */
			break;
		default:
			t->lost++;
		}
	}
	if (munmap(t->window, size))
		t->failed++;
	for (i = 0; i < STORM_SLOTS; i++) {
		switch (sva_wait(t->q, i, STALE_MS, &res)) {
		case SVATD_ST_FAULT:
			if (!in_window(t, res.faddr) || res.write != i % 2)
				t->failed++;
			break;
		default:
			/* Other data found, or not found that it is unmapped */
			t->stale++;
			sva_stop(t->q, i, NULL);
		}
		storm_count(t, res.count + 1);
	}
	for (i = 0; i < STORM_PAGES; i++) {
		p = t->file + turn * size + i * page_size;
		if (load(p) != storm_tag(t, turn) || load(p + 8) != storm_tag(t, turn))
			t->stale++;
		/* Word 1 of the other set was left alone */
		p = t->file + !turn * size + i * page_size;
		if (t->rounds && load(p + 8) != storm_tag(t, !turn))
			t->stale++;
	}
}

/* Wait for all slots, asleep: the CPUs have other things to do */
static void storm_wait(struct storm_thread *t, struct sva_result res[STORM_SLOTS])
{
	unsigned int i, running = (1 << STORM_SLOTS) - 1;

	while (1) {
		for (i = 0; i < STORM_SLOTS; i++)
			if (running & 1 << i && sva_wait(t->q, i, 0, &res[i]) >= 0)
				running &= ~(1 << i);
		if (!running)
			return;
		if (!sva_wait_wakeup(t->q, LOST_MS))
			continue;
		for (i = 0; i < STORM_SLOTS; i++) {
			if (running & 1 << i) {
				t->lost++;
				sva_stop(t->q, i, &res[i]);
			}
		}
		return;
	}
}

/*
 * An operation on the window, a part by each slot. Its outcome is known: all of it
 * is done, or the first access of each slot faults.
 */
static bool storm_op(struct storm_thread *t, unsigned int cmd, __u64 arg, unsigned int expected)
{
	size_t part = STORM_PAGES * page_size / STORM_SLOTS;
	struct sva_op op = {
		.cmd = cmd | SVATD_CMD_IRQ,
		.len = part,
		.arg = arg,
	};
	struct sva_result res[STORM_SLOTS];
	unsigned int i, wrong = 0;
	char *p;

	for (i = 0; i < STORM_SLOTS; i++) {
		op.src = sva_addr(t->window + i * part);
		op.dst = cmd == SVATD_OP_FILL ? op.src : sva_addr(t->window2 + i * part);
		sva_submit(t->q, i, &op);
	}
	storm_wait(t, res);
	for (i = 0; i < STORM_SLOTS; i++) {
		p = t->window + i * part;
		if (res[i].code != expected)
			wrong++;
		else if (expected == SVATD_ST_FAULT && res[i].faddr != sva_addr(p))
			wrong++;
		/* None crosses a page; a copy reads and writes */
		storm_count(t, res[i].count / page_size * (1 + (cmd == SVATD_OP_COPY)) +
			       (res[i].code == SVATD_ST_FAULT));
	}
	t->stale += wrong;
	return !wrong;
}

/* One word of each cache line is enough: the device writes whole pages */
static size_t storm_differs(const char *p, size_t size, __u64 value)
{
	size_t i, n = 0;

	for (i = 0; i < size; i += 64)
		n += load(p + i) != value;
	return n;
}

/* Memory that is new each time, and freed for the other threads to take */
static void storm_anon(struct storm_thread *t)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
			  (t->served ? 0 : MAP_POPULATE);
	size_t size = STORM_PAGES * page_size;
	__u64 tag = TAG | t->id << 24 | (t->rounds & 0xffffff);

	if (mmap(t->window, size, PROT_READ | PROT_WRITE, flags, -1, 0) != t->window ||
	    mmap(t->window2, size, PROT_READ | PROT_WRITE, flags, -1, 0) != t->window2) {
		t->failed++;
		return;
	}
	if (storm_op(t, SVATD_OP_FILL, tag, SVATD_ST_OK) && storm_differs(t->window, size, tag))
		t->stale++;
	if (storm_op(t, SVATD_OP_COPY, 0, SVATD_ST_OK) && storm_differs(t->window2, size, tag))
		t->stale++;
	if (madvise(t->window, size / 2, MADV_DONTNEED))
		t->failed++;
	if (!t->served)
		fill(t->window, size / 2, 0);
	if (storm_op(t, SVATD_OP_COPY, 0, SVATD_ST_OK) &&
	    (storm_differs(t->window2, size / 2, 0) ||
	     storm_differs(t->window2 + size / 2, size / 2, tag)))
		t->stale++;
	if (munmap(t->window, size))
		t->failed++;
	storm_op(t, SVATD_OP_COPY, 0, SVATD_ST_FAULT);
	storm_op(t, SVATD_OP_FILL, tag, SVATD_ST_FAULT);
	/* By an access to a page that was another thread's before? */
	if (storm_differs(t->window2, size / 2, 0) ||
	    storm_differs(t->window2 + size / 2, size / 2, tag))
		t->stale++;
	if (munmap(t->window2, size))
		t->failed++;
}

/*
 * Accesses that never end, in memory that is discarded below them. Whoever's page
 * it is next: nobody else's tag may be in it.
 */
static void storm_free_run_start(struct storm_thread *t)
{
	size_t size = STORM_PAGES * page_size;

	if (mmap(t->window, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != t->window)
		t->failed++;
	sva_hammer_start(t->q, 0, t->window, size, page_size, storm_tag(t, 0));
	sva_poll_start(t->q, 1, t->window, size, page_size, storm_tag(t, 0), 0);
	sva_poll_start(t->q, 2, t->window + 8, size - 8, page_size, 0, 0);
	sva_hammer_start(t->q, 3, t->window + 16, size - 16, page_size,
			 storm_tag(t, 1));
}

static void storm_free_run(struct storm_thread *t)
{
	unsigned int page = t->rounds % STORM_PAGES, n = 1 + t->rounds / 3 % (STORM_PAGES - page);
	char *p = t->window + page * page_size;
	struct sva_result res;
	__u64 sum = 0;
	unsigned int i;

	if (t->rounds % 4) {
		if (madvise(p, n * page_size, MADV_DONTNEED))
			t->failed++;
	} else if (mmap(p, n * page_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p) {
		t->failed++;
	}
	for (i = 0; i < STORM_SLOTS; i++) {
		sva_peek(t->q, i, &res);
		sum += res.count;
		if (res.code != SVATD_ST_RUNNING) {
			t->stale++;
			ksft_print_msg("slot %u: %s at %#llx, found %#llx\n", i,
				       sva_status_name(res.code), res.faddr, res.value);
		}
	}
	storm_count(t, sum - t->accesses);
}

static void storm_free_run_stop(struct storm_thread *t)
{
	struct sva_result res;
	unsigned int i;
	__u64 sum = 0;

	for (i = 0; i < STORM_SLOTS; i++) {
		switch (sva_stop(t->q, i, &res)) {
		case SVATD_ST_STOPPED:
			break;
		case SVATD_ST_MISMATCH:
		case SVATD_ST_FAULT:
			t->stale++;
			break;
		default:
			t->lost++;
		}
		sum += res.count;
	}
	storm_count(t, sum - t->accesses);
}

static bool storm_over(const struct storm_thread *t)
{
	return __atomic_load_n(t->stop, __ATOMIC_ACQUIRE) || t->failed || t->lost || t->stale;
}

/*
 * All begin at once, and map nothing but at addresses of their own: no stack of a
 * thread may come to lie where the device is to find nothing.
 */
static void *storm_anon_thread(void *arg)
{
	struct storm_thread *t = arg;

	pthread_barrier_wait(t->begin);
	for (; !storm_over(t); t->rounds++)
		storm_anon(t);
	return NULL;
}

static void *storm_file_thread(void *arg)
{
	struct storm_thread *t = arg;

	pthread_barrier_wait(t->begin);
	for (; !storm_over(t); t->rounds++)
		storm_file(t);
	return NULL;
}

static void *storm_free_run_thread(void *arg)
{
	struct storm_thread *t = arg;

	pthread_barrier_wait(t->begin);
	storm_free_run_start(t);
	for (; !storm_over(t); t->rounds++)
		storm_free_run(t);
	storm_free_run_stop(t);
	return NULL;
}

FIXTURE(storm)
{
	struct sva_queue q[STORM_THREADS];
	bool served;
};

FIXTURE_VARIANT(storm)
{
	enum storm kind;
};

FIXTURE_VARIANT_ADD(storm, file) { .kind = SHARED_FILE };
FIXTURE_VARIANT_ADD(storm, anon) { .kind = ANON };
FIXTURE_VARIANT_ADD(storm, free_run) { .kind = FREE_RUN };

FIXTURE_SETUP(storm)
{
	unsigned int i;

	if (!start(_metadata, &self->q[0], &self->served))
		return;
	for (i = 1; i < STORM_THREADS; i++)
		ASSERT_EQ(0, sva_queue_init(&self->q[i]));
	if (variant->kind == FREE_RUN && !self->served)
		SKIP(return, NOT_SERVED);
}

FIXTURE_TEARDOWN(storm)
{
	unsigned int i;

	for (i = 0; i < STORM_THREADS; i++)
		sva_queue_close(&self->q[i]);
}

static __u64 storm_reg(struct sva_queue *q, unsigned int offset)
{
	unsigned int i;
	__u64 sum = 0;

	for (i = 0; i < STORM_THREADS; i++)
		sum += queue_reg(&q[i], offset);
	return sum;
}

TEST_F_TIMEOUT(storm, unmaps, 900)
{
	static void *(*const body[])(void *) = {
		[SHARED_FILE] = storm_file_thread,
		[ANON] = storm_anon_thread,
		[FREE_RUN] = storm_free_run_thread,
	};
	/* How many there are in what time is the machine's business, if nobody asked */
	bool asked = getenv("SVA_FAULT_ACCESSES");
	__u64 wanted = number("SVA_FAULT_ACCESSES", 400000), total = 0, rounds = 0;
	unsigned long limit = number("SVA_FAULT_SECONDS", asked ? 300 : 60);
	__u64 faults = self->served ? wanted / STORM_FAULTS : 0;
	size_t size = STORM_PAGES * page_size;
	struct storm_thread t[STORM_THREADS] = {};
	unsigned int i, turn, page, stale = 0, lost = 0;
	bool stop = false, end = false;
	pthread_barrier_t barrier;
	double begin;
	__u64 stalls;

	for (i = 0; i < STORM_THREADS; i++) {
		t[i].q = &self->q[i];
		t[i].served = self->served;
		t[i].id = i + 1;
		t[i].begin = &barrier;
		t[i].stop = &stop;
		t[i].total = &total;
		t[i].window = map(size, PROT_NONE, MAP_PRIVATE, -1);
		t[i].window2 = map(size, PROT_NONE, MAP_PRIVATE, -1);
		ASSERT_TRUE(t[i].window && t[i].window2);
		if (variant->kind != SHARED_FILE)
			continue;
		t[i].fd = memfd_create("sva", 0);
		ASSERT_LE(0, t[i].fd);
		ASSERT_EQ(0, ftruncate(t[i].fd, 2 * size));
		t[i].file = map(2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, t[i].fd);
		ASSERT_NE(NULL, t[i].file);
		for (turn = 0; turn < 2; turn++)
			for (page = 0; page < STORM_PAGES; page++)
				store(t[i].file + turn * size + page * page_size,
				      storm_tag(&t[i], turn));
	}
	stalls = storm_reg(self->q, SVATD_Q_STALLS);
	ASSERT_EQ(0, pthread_barrier_init(&barrier, NULL, STORM_THREADS + 1));
	for (i = 0; i < STORM_THREADS; i++)
		ASSERT_EQ(0, pthread_create(&t[i].thread, NULL, body[variant->kind], &t[i]));
	begin = now();
	pthread_barrier_wait(&barrier);
	while (!end) {
		usleep(10000);
		end = now() - begin > limit ||
		      (__atomic_load_n(&total, __ATOMIC_ACQUIRE) >= wanted &&
		       storm_reg(self->q, SVATD_Q_STALLS) - stalls >= faults);
		for (i = 0; i < STORM_THREADS; i++)
			end |= t[i].stale | t[i].lost | t[i].failed;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < STORM_THREADS; i++) {
		pthread_join(t[i].thread, NULL);
		rounds += t[i].rounds;
		stale += t[i].stale;
		lost += t[i].lost;
		EXPECT_EQ(0, t[i].failed);
	}
	stalls = storm_reg(self->q, SVATD_Q_STALLS) - stalls;
	ksft_print_msg("%.1f s: %llu accesses, %llu stalled, %llu rounds, %u stale, %u lost\n",
		       now() - begin, total, stalls, rounds, stale, lost);
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: %u", stale);
	}
	EXPECT_EQ(0, lost);
	EXPECT_LE(asked ? wanted : 1, total);
	EXPECT_LE(asked ? faults : self->served, stalls);
	EXPECT_EQ(0, storm_reg(self->q, SVATD_Q_STALLED));
}

/*
 * A thousand accesses of one process stall at once. The page faults of another
 * are served meanwhile.
 */
#define CROWD_QUEUES	63
#define CROWD_SIZE	(64UL << 10)	/* of each slot; a page at least */
#define CROWD_BALLAST	(192UL << 20)
#define CROWD_SAMPLES	30
#define CROWD_SECONDS	20		/* after that no other sample is taken */

struct crowd {
	unsigned int ready;
	unsigned int stop;
	unsigned int stalled;	/* most that were seen at once */
	__u64 accesses;
};

struct crowd_lock {
	char *p;
	struct crowd *shared;
};

/* Hold the mmap_lock for as long as that is possible, again and again */
static void *crowd_lock(void *arg)
{
	struct crowd_lock *l = arg;
	int prot = PROT_READ;

	while (!__atomic_load_n(&l->shared->stop, __ATOMIC_ACQUIRE)) {
		mprotect(l->p, CROWD_BALLAST, prot);
		prot ^= PROT_WRITE;
	}
	return NULL;
}

static void crowd_process(struct crowd *shared)
{
	static struct sva_queue q[CROWD_QUEUES];
	size_t size = CROWD_SIZE, i, slot;
	struct crowd_lock l = { .shared = shared };
	struct sva_result res;
	pthread_t thread;
	unsigned int n;
	char *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (i = 0; i < CROWD_QUEUES; i++)
		if (sva_queue_init(&q[i]))
			_exit(2);
	l.p = untouched(CROWD_BALLAST);
	p = untouched(CROWD_QUEUES * SVATD_NUM_SLOTS * size);
	if (!l.p || !p)
		_exit(3);
	for (i = 0; i < CROWD_BALLAST; i += page_size)
		store(l.p + i, 1);
	if (pthread_create(&thread, NULL, crowd_lock, &l))
		_exit(4);
	for (i = 0; i < CROWD_QUEUES; i++)
		for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
			sva_hammer_start(&q[i], slot, p + (i * SVATD_NUM_SLOTS + slot) * size,
					 size, page_size, TAG);
	while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
		madvise(p, CROWD_QUEUES * SVATD_NUM_SLOTS * size, MADV_DONTNEED);
		for (i = 0, n = 0; i < CROWD_QUEUES; i++)
			n += stalled_now(&q[i]);
		if (n > shared->stalled)
			shared->stalled = n;
		__atomic_store_n(&shared->ready, 1, __ATOMIC_RELEASE);
	}
	pthread_join(thread, NULL);
	for (i = 0; i < CROWD_QUEUES; i++) {
		for (slot = 0; slot < SVATD_NUM_SLOTS; slot++) {
			if (sva_stop(&q[i], slot, &res) != SVATD_ST_STOPPED)
				_exit(5);
			shared->accesses += res.count;
		}
	}
	_exit(0);
}

FIXTURE(crowd)
{
	struct sva_queue q;
	bool served;
	struct crowd *shared;
};

FIXTURE_SETUP(crowd)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
	self->shared = (struct crowd *)map(page_size, PROT_READ | PROT_WRITE, MAP_SHARED, -1);
	ASSERT_NE(NULL, self->shared);
}

FIXTURE_TEARDOWN(crowd)
{
	sva_queue_close(&self->q);
}

static bool crowd_ready(struct crowd *shared)
{
	int ms;

	for (ms = 0; ms < 3 * LOST_MS; ms++) {
		if (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE))
			return true;
		usleep(1000);
	}
	return false;
}

/* How long does a fault take? The longest, and the mean, in seconds */
static bool crowd_measure(struct sva_queue *q, double *mean, double *longest)
{
	char *p = untouched(CROWD_SAMPLES * page_size);
	double begin, took, sum = 0;
	unsigned int i;

	*longest = 0;
	for (i = 0; p && i < CROWD_SAMPLES && sum < CROWD_SECONDS; i++) {
		begin = now();
		if (sva_fill(q, 0, p + i * page_size, TAG | i, 8, NULL) != SVATD_ST_OK ||
		    load(p + i * page_size) != (TAG | i))
			return false;
		took = now() - begin;
		sum += took;
		if (took > *longest)
			*longest = took;
	}
	*mean = sum / i;
	munmap(p, CROWD_SAMPLES * page_size);
	return p;
}

TEST_F_TIMEOUT(crowd, does_not_starve_others, 300)
{
	double alone, among, longest, ignored;
	int status;
	long queues;
	pid_t pid;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	ASSERT_EQ(0, sva_device_attr("available_instances", &queues));
	if (queues < CROWD_QUEUES)
		SKIP(return, "the device has %ld queues free, %d are needed", queues,
		     CROWD_QUEUES);
	ASSERT_TRUE(crowd_measure(&self->q, &alone, &ignored));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		crowd_process(self->shared);
	ASSERT_TRUE(crowd_ready(self->shared));
	EXPECT_TRUE(crowd_measure(&self->q, &among, &longest));
	__atomic_store_n(&self->shared->stop, 1, __ATOMIC_RELEASE);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ksft_print_msg("up to %u stalled at once, of %llu accesses\n", self->shared->stalled,
		       self->shared->accesses);
	ksft_print_msg("a fault of another process: %.2f ms, at most %.2f ms, alone %.2f ms\n",
		       among * 1e3, longest * 1e3, alone * 1e3);
	/* Else it was no crowd */
	EXPECT_LE(CROWD_QUEUES * SVATD_NUM_SLOTS / 2, self->shared->stalled);
	EXPECT_GT(LOST_MS / 1e3, longest);
	EXPECT_TRUE(queues_return_to(queues));
}

/*
 * A process that faults outside its mappings as fast as it can
 */
#define FLOOD_QUEUES	4
#define FLOOD_FAULTS	60000
#define FLOOD_SECONDS	20		/* enough, even with less faults */
/*
 * In 5 seconds the kernel may tell of 10 events, in 7 lines each, 10 times that
 * events were lost, and how much it has kept to itself
 */
#define FLOOD_LINES	100
#define FLOOD_INTERVAL	5

FIXTURE(flood)
{
	struct sva_queue q;
	bool served;
	int kmsg;
};

FIXTURE_SETUP(flood)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
	self->kmsg = kmsg_open();
	if (self->kmsg < 0)
		SKIP(return, "cannot read the kernel log: %s", strerror(errno));
}

FIXTURE_TEARDOWN(flood)
{
	sva_queue_close(&self->q);
}

TEST_F_TIMEOUT(flood, kernel_log, 120)
{
	struct sva_op op = { .cmd = SVATD_OP_FILL, .len = 8 };
	struct sva_queue q[FLOOD_QUEUES];
	unsigned int i, slot, lost = 0, wrong = 0;
	struct sva_result res;
	double begin, took;
	__u64 faults = 0;
	struct kmsg k;

	for (i = 0; i < FLOOD_QUEUES; i++)
		ASSERT_EQ(0, sva_queue_init(&q[i]));
	op.dst = 0x1000;	/* nothing is mapped that low */
	for (begin = now(); faults < FLOOD_FAULTS && now() - begin < FLOOD_SECONDS;) {
		for (i = 0; i < FLOOD_QUEUES; i++)
			for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
				sva_submit(&q[i], slot, &op);
		for (i = 0; i < FLOOD_QUEUES; i++) {
			for (slot = 0; slot < SVATD_NUM_SLOTS; slot++) {
				if (sva_wait(&q[i], slot, LOST_MS, &res) < 0)
					lost++;
				else if (res.code != SVATD_ST_FAULT || res.faddr != op.dst)
					wrong++;
				faults++;
			}
		}
	}
	EXPECT_EQ(0, lost);
	EXPECT_EQ(0, wrong);
	for (i = 0; i < FLOOD_QUEUES; i++)
		sva_queue_close(&q[i]);
	kmsg_read(self->kmsg, &k);
	took = now() - begin;
	ksft_print_msg("%llu faults in %.1f s, %u lines in the kernel log, %u of the SMMU's\n",
		       faults, took, k.lines, k.smmu);
	EXPECT_EQ(0, k.bad);
	EXPECT_GE(FLOOD_LINES * (2 + (unsigned int)took / FLOOD_INTERVAL), k.lines);
}

/*
 * Ends with accesses stalled
 */
#define END_QUEUES	4
#define END_ROUNDS	8
#define END_SLOT_SIZE	(256 * page_size)
/* How long the driver waits before it gives the device up */
#define QUIESCE_SECONDS	5

FIXTURE(end)
{
	struct sva_queue q;
	bool served;
	struct crowd *shared;
	long queues;
	int kmsg;
};

FIXTURE_VARIANT(end)
{
	enum { EXIT, KILL, EXEC, CLOSE, STOP, UNMAP } way;
};

FIXTURE_VARIANT_ADD(end, exit) { .way = EXIT };
FIXTURE_VARIANT_ADD(end, kill) { .way = KILL };
FIXTURE_VARIANT_ADD(end, exec) { .way = EXEC };
FIXTURE_VARIANT_ADD(end, close) { .way = CLOSE };
FIXTURE_VARIANT_ADD(end, stop) { .way = STOP };
FIXTURE_VARIANT_ADD(end, unmap) { .way = UNMAP };

FIXTURE_SETUP(end)
{
	if (!start(_metadata, &self->q, &self->served))
		return;
	ASSERT_EQ(0, sva_device_attr("available_instances", &self->queues));
	self->shared = (struct crowd *)map(page_size, PROT_READ | PROT_WRITE, MAP_SHARED, -1);
	ASSERT_NE(NULL, self->shared);
	self->kmsg = kmsg_open();
	if (self->kmsg < 0)
		ksft_print_msg("cannot read the kernel log: not checked\n");
}

FIXTURE_TEARDOWN(end)
{
	sva_queue_close(&self->q);
}

/* Returns 0, or which step went wrong */
static int end_process(struct crowd *shared, int way)
{
	char *const argv[] = { "sva_fault", "--idle", NULL };
	size_t size = END_SLOT_SIZE, i, slot;
	static struct sva_queue q[END_QUEUES];
	struct crowd_lock l = { .shared = shared };
	struct sva_result res;
	pthread_t thread;
	double begin;
	char *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	l.p = untouched(CROWD_BALLAST);
	p = untouched(END_QUEUES * SVATD_NUM_SLOTS * size);
	if (!l.p || !p)
		return 2;
	for (i = 0; i < CROWD_BALLAST / 4; i += page_size)
		store(l.p + i, 1);
	for (i = 0; i < END_QUEUES; i++)
		if (sva_queue_init(&q[i]))
			return 3;
	/* Faults take their time, so that there are always some */
	if (pthread_create(&thread, NULL, crowd_lock, &l))
		return 4;
	for (i = 0; i < END_QUEUES; i++)
		for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
			sva_hammer_start(&q[i], slot, p + (i * SVATD_NUM_SLOTS + slot) * size,
					 size, page_size, TAG);
	for (begin = now(); now() - begin < 0.02;) {
		shared->stalled = 0;
		for (i = 0; i < END_QUEUES; i++)
			shared->stalled += stalled_now(&q[i]);
		if (shared->stalled > END_QUEUES * SVATD_NUM_SLOTS / 2)
			break;
	}
	__atomic_store_n(&shared->ready, 1, __ATOMIC_RELEASE);

	switch (way) {
	case EXIT:
		_exit(0);
	case KILL:
		while (1)
			pause();
	case EXEC:
		execv("/proc/self/exe", argv);
		return 5;
	case CLOSE:
		for (i = 0; i < END_QUEUES; i++)
			sva_queue_close(&q[i]);
		break;
	case STOP:
		for (i = 0; i < END_QUEUES; i++) {
			if (sva_queue_stop(&q[i]))
				return 6;
			/* None is left, and each slot has ended */
			if (stalled_now(&q[i]))
				return 7;
			for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
				if (sva_wait(&q[i], slot, 0, &res) < 0 ||
				    (res.code != SVATD_ST_STOPPED && res.code != SVATD_ST_FAULT))
					return 8;
			/* And it can be used again */
			if (sva_queue_start(&q[i]) ||
			    sva_fill(&q[i], 0, l.p, OTHER, 8, &res) == -ETIMEDOUT)
				return 9;
		}
		break;
	case UNMAP:
		if (munmap(p, END_QUEUES * SVATD_NUM_SLOTS * size))
			return 10;
		for (i = 0; i < END_QUEUES; i++)
			for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
				if (sva_wait(&q[i], slot, LOST_MS, &res) != SVATD_ST_FAULT)
					return 11;
		break;
	}
	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	return 0;
}

TEST_F_TIMEOUT(end, with_accesses_stalled, 300)
{
	unsigned int i, stalled = 0;
	double took, longest = 0;
	struct kmsg k = {};
	int status;
	pid_t pid;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	for (i = 0; i < END_ROUNDS; i++) {
		char *p;

		memset(self->shared, 0, sizeof(*self->shared));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(end_process(self->shared, variant->way));
		ASSERT_TRUE(crowd_ready(self->shared));
		took = now();
		if (variant->way == KILL)
			kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(variant->way == KILL ? SIGKILL : 0, status) {
			TH_LOG("status %#x", status);
		}
		EXPECT_TRUE(queues_return_to(self->queues));
		took = now() - took;
		if (took > longest)
			longest = took;
		stalled += self->shared->stalled;

		/* Whoever is left, and whoever comes next, is served */
		p = untouched(PAGES * page_size);
		ASSERT_NE(NULL, p);
		EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, TAG, PAGES * page_size, NULL));
		EXPECT_EQ(0, differs(p, PAGES * page_size, TAG));
		munmap(p, PAGES * page_size);
	}
	if (self->kmsg >= 0)
		kmsg_read(self->kmsg, &k);
	ksft_print_msg("%u stalled in %u rounds, gone after %.3f s at most; log lines: %u\n",
		       stalled, END_ROUNDS, longest, k.smmu);
	EXPECT_LT(END_ROUNDS, stalled);
	EXPECT_GT(QUIESCE_SECONDS, longest);
	EXPECT_EQ(0, k.bad);
	/* An access that outlived its PASID would be an event */
	EXPECT_EQ(0, k.smmu);
}

/*
 * Two devices of different kinds in one process: what one of them gives up is
 * none of the other's business
 */
#define MIXED_ROUNDS	50

struct mixed {
	char path[2][64];
	struct sva_queue q[2];
	bool ats[2];
};

FIXTURE(mixed)
{
	struct mixed m;
	bool served;
};

/* Who comes second may share a domain with the first, or may not */
FIXTURE_VARIANT(mixed)
{
	unsigned int first;
};

FIXTURE_VARIANT_ADD(mixed, in_order) { .first = 0 };
FIXTURE_VARIANT_ADD(mixed, reversed) { .first = 1 };

static void mixed_open(struct __test_metadata *_metadata, struct mixed *m, unsigned int i)
{
	ASSERT_EQ(0, setenv("SVA_TESTDEV", m->path[i], 1));
	ASSERT_EQ(0, sva_queue_init(&m->q[i]));
}

FIXTURE_SETUP(mixed)
{
	unsigned int i;
	glob_t found;
	size_t n;

	if (!start(_metadata, &self->m.q[0], &self->served))
		return;
	sva_queue_close(&self->m.q[0]);
	n = glob("/dev/sva_testdev-*", 0, NULL, &found) ? 0 : found.gl_pathc;
	if (n < 2)
		SKIP(return, "there is one sva-testdev only");
	for (i = 0; i < 2; i++)
		snprintf(self->m.path[i], sizeof(self->m.path[i]), "%s", found.gl_pathv[i]);
	mixed_open(_metadata, &self->m, variant->first);
	mixed_open(_metadata, &self->m, !variant->first);
}

FIXTURE_TEARDOWN(mixed)
{
	sva_queue_close(&self->m.q[0]);
	sva_queue_close(&self->m.q[1]);
}

/* Both read a page, which goes: each has to notice */
static void mixed_round(struct __test_metadata *_metadata, struct mixed *m,
			unsigned int which)
{
	char *p = untouched(PAGES * page_size);
	struct sva_result res;
	int i;

	ASSERT_NE(NULL, p);
	fill(p, PAGES * page_size, TAG);
	for (i = 0; i < 2; i++)
		if (which & 1 << i)
			sva_poll_start(&m->q[i], 0, p, PAGES * page_size, page_size, TAG, TAG);
	for (i = 0; i < 2; i++)
		if (which & 1 << i)
			ASSERT_EQ(0, sva_wait_count(&m->q[i], 0, 4 * PAGES));
	ASSERT_EQ(0, munmap(p, PAGES * page_size));
	for (i = 0; i < 2; i++) {
		if (!(which & 1 << i))
			continue;
		EXPECT_EQ(SVATD_ST_FAULT, sva_wait(&m->q[i], 0, LOST_MS, &res)) {
			TH_LOG("stale access: %s, found %#llx by device %d",
			       sva_status_name(res.code), res.value, i);
			sva_stop(&m->q[i], 0, NULL);
		}
		m->ats[i] |= queue_reg(&m->q[i], SVATD_Q_ATC_HITS) != 0;
	}
}

TEST_F_TIMEOUT(mixed, unmap, 300)
{
	unsigned int i;

	for (i = 0; i < MIXED_ROUNDS; i++)
		mixed_round(_metadata, &self->m, 3);
	ksft_print_msg("ATS: %d and %d\n", self->m.ats[0], self->m.ats[1]);
}

/* The one goes and comes back while the other is at work, and vice versa */
TEST_F_TIMEOUT(mixed, one_leaves, 300)
{
	unsigned int i, leaves;
	struct sva_result res;
	char *p;

	p = untouched(PAGES * page_size);
	ASSERT_NE(NULL, p);
	fill(p, PAGES * page_size, TAG);
	for (i = 0; i < MIXED_ROUNDS; i++) {
		leaves = i % 2;
		sva_poll_start(&self->m.q[!leaves], 1, p, PAGES * page_size, page_size, TAG, OTHER);
		sva_poll_start(&self->m.q[leaves], 1, p, PAGES * page_size, page_size, TAG, OTHER);
		ASSERT_EQ(0, sva_wait_count(&self->m.q[leaves], 1, PAGES));
		sva_queue_close(&self->m.q[leaves]);
		mixed_round(_metadata, &self->m, 1 << !leaves);
		mixed_open(_metadata, &self->m, leaves);
		mixed_round(_metadata, &self->m, 3);
		ASSERT_EQ(SVATD_ST_STOPPED, sva_stop(&self->m.q[!leaves], 1, &res));
		EXPECT_LT(0, res.count);
	}
}

/* The faults of both, at the same pages */
TEST_F_TIMEOUT(mixed, faults, 300)
{
	size_t size = 64 * page_size;
	struct sva_op op = { .cmd = SVATD_OP_FILL, .len = size };
	unsigned int i, slot, round;
	struct sva_result res;
	char *p;

	if (!self->served)
		SKIP(return, NOT_SERVED);
	for (round = 0; round < MIXED_ROUNDS; round++) {
		p = untouched(size);
		ASSERT_NE(NULL, p);
		op.dst = sva_addr(p);
		op.arg = TAG | round;
		for (slot = 0; slot < 4; slot++)
			for (i = 0; i < 2; i++)
				sva_submit(&self->m.q[i], slot, &op);
		for (slot = 0; slot < 4; slot++) {
			for (i = 0; i < 2; i++) {
				EXPECT_EQ(SVATD_ST_OK,
					  sva_wait(&self->m.q[i], slot, LOST_MS, &res)) {
					TH_LOG("device %u: %s at %#llx", i,
					       sva_status_name(res.code), res.faddr);
				}
			}
		}
		EXPECT_EQ(0, differs(p, size, TAG | round));
		munmap(p, size);
	}
}

int main(int argc, char **argv)
{
	/* What a process becomes by exec */
	if (argc == 2 && !strcmp(argv[1], "--idle"))
		return 0;
	return test_harness_run(argc, argv);
}
