// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing under pressure: too little of something, memory that
 * breaks, moves or is taken back, CPUs that go and come, while the device works. Its
 * accesses get an answer, what they wrote is there, whoever asks for too much is told
 * or killed and nobody else, and afterwards everything is as before.
 *
 * Mainline's faults of a process that is killed use what is freed: "iommu: Leave a
 * group of page faults to its handler", "iommu: Let no page fault use a bond that is
 * gone". What else fails on mainline is said at the case.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"
#include "sva_watch.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

/* The first number that follows @name in a file, or -1. Without @name: the first */
static long __printf(2, 3) get(const char *name, const char *format, ...)
{
	char path[PATH_MAX], word[64];
	long value = -1;
	va_list args;
	FILE *f;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (!name) {
		if (fscanf(f, "%ld", &value) != 1)
			value = -1;
	} else {
		while (fscanf(f, "%63s", word) == 1) {
			if (strcmp(word, name))
				continue;
			if (fscanf(f, "%ld", &value) != 1)
				value = -1;
			break;
		}
	}
	fclose(f);
	return value;
}

/*
 * Memory control groups
 */
#define GROUP_LIMIT	(24 * MB)

FIXTURE(memcg)
{
	struct common c;
	struct other o;
	char root[64];
	char group[96];
	bool mounted;
};

FIXTURE_SETUP(memcg)
{
	strcpy(self->root, "/sys/fs/cgroup");
	if (!start(_metadata, &self->c))
		return;
	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	if (get(NULL, "/sys/fs/cgroup/cgroup.max.depth") < 0 &&
	    access("/sys/fs/cgroup/cgroup.controllers", F_OK)) {
		if (mount("none", self->root, "cgroup2", 0, NULL))
			SKIP(return, "no control groups");
		self->mounted = true;
	}
	if (put("+memory", "%s/cgroup.subtree_control", self->root))
		SKIP(return, "no memory control groups");
	snprintf(self->group, sizeof(self->group), "%s/sva_pressure", self->root);
	ASSERT_EQ(0, mkdir(self->group, 0755));
}

FIXTURE_TEARDOWN(memcg)
{
	other_end(&self->o, SIGKILL);
	if (self->group[0]) {
		double end = now() + SVA_TIMEOUT_MS / 1e3;

		/* Until the last of the group's processes is gone */
		while (rmdir(self->group) && errno == EBUSY && now() < end)
			usleep(1000);
		EXPECT_NE(0, access(self->group, F_OK));
	}
	if (self->mounted)
		umount2(self->root, MNT_DETACH);
	finish(_metadata, &self->c);
}

/* Joins the group and lets the device write to @size bytes that nobody has touched */
static void device_allocates(struct other *o, const char *group, size_t size)
{
	struct sva_queue q;
	char *p;
	int ret;

	p = untouched(size);
	if (!p || put("0", "%s/cgroup.procs", group) || sva_queue_init(&q))
		_exit(1);
	ret = sva_fill(&q, 0, p, TAG, size, NULL);
	if (!say(o->to, ret == SVATD_ST_OK ? 'r' : 'f'))
		_exit(2);
	pause();
}

/* What the device makes the kernel allocate is charged to the process that has it */
TEST_F_TIMEOUT(memcg, charged, 60)
{
	size_t size = 8 * MB;
	long anon;
	int ret;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret)
		device_allocates(&self->o, self->group, size);
	ASSERT_TRUE(hear(self->o.from, 'r'));
	/* The last changes are not in the statistics at once, up to 64 for each CPU */
	anon = get("anon", "%s/memory.stat", self->group);
	EXPECT_LE((long)size / 2, anon);
	EXPECT_GT((long)size * 2, anon);
	EXPECT_LE((long)size, get(NULL, "%s/memory.current", self->group));
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
}

static void set_limit(struct __test_metadata *_metadata, const char *group)
{
	char limit[32];

	snprintf(limit, sizeof(limit), "%lu", GROUP_LIMIT);
	ASSERT_EQ(0, put(limit, "%s/memory.max", group));
	put("0", "%s/memory.swap.max", group);
}

/* The device goes on beyond the limit, and the process that has it is killed */
static void exceed_limit(struct __test_metadata *_metadata, struct other *o, const char *group)
{
	int ret = other_start(o);

	ASSERT_LE(0, ret);
	if (!ret)
		device_allocates(o, group, 4 * GROUP_LIMIT);
	ret = other_end(o, 0);
	EXPECT_TRUE(WIFSIGNALED(ret) && WTERMSIG(ret) == SIGKILL) {
		TH_LOG("status %#x", ret);
	}
}

/* Nobody else is killed. Its accesses are answered, so that its queue comes back */
TEST_F_TIMEOUT(memcg, limit, 120)
{
	struct other near = {};
	int ret;

	set_limit(_metadata, self->group);
	ret = other_start(&near);
	ASSERT_LE(0, ret);
	if (!ret)
		neighbour(&near);
	ASSERT_TRUE(hear(near.from, 'r'));
	exceed_limit(_metadata, &self->o, self->group);
	EXPECT_EQ(1, get("oom_kill", "%s/memory.events", self->group));
	EXPECT_EQ(0, other_end(&near, 0));
}

/*
 * Two in the group: the one whose device has all the memory is killed, not the one
 * that happens to allocate. An other's fault may be what notices.
 */
TEST_F_TIMEOUT(memcg, limit_of_two, 120)
{
	struct other small = {};
	int ret;

	set_limit(_metadata, self->group);
	ret = other_start(&small);
	ASSERT_LE(0, ret);
	if (!ret)
		device_allocates(&small, self->group, MB);
	ASSERT_TRUE(hear(small.from, 'r'));
	exceed_limit(_metadata, &self->o, self->group);
	EXPECT_EQ(0, kill(small.pid, 0));
	EXPECT_EQ(0, waitpid(small.pid, NULL, WNOHANG));
	EXPECT_EQ(SIGKILL, other_end(&small, SIGKILL));
}

/*
 * Memory that the kernel does not get, at random
 */
FIXTURE(failing)
{
	struct common c;
	struct other o;
};

FIXTURE_VARIANT(failing)
{
	const char *what;
	const char *percent;
};

/* Of a fault: the group, and what maps the page */
FIXTURE_VARIANT_ADD(failing, slab)
{
	.what = "failslab", .percent = "20",
};

/* The page itself, and its tables */
FIXTURE_VARIANT_ADD(failing, pages)
{
	.what = "fail_page_alloc", .percent = "20",
};

#define FAULT_ATTR(attr)	"/sys/kernel/debug/%s/" attr, variant->what

/* Lets allocations of all kernel threads fail: that of the event queue, and workers */
static unsigned int kernel_threads_fail(const char *yes)
{
	char path[PATH_MAX], exe[16];
	unsigned int i, found = 0;
	glob_t all;

	if (glob("/proc/[0-9]*", 0, NULL, &all))
		return 0;
	for (i = 0; i < all.gl_pathc; i++) {
		/* Only user space has an executable */
		snprintf(path, sizeof(path), "%s/exe", all.gl_pathv[i]);
		if (readlink(path, exe, sizeof(exe)) < 0 && errno == ENOENT)
			found += !put(yes, "%s/make-it-fail", all.gl_pathv[i]);
	}
	globfree(&all);
	return found;
}

FIXTURE_SETUP(failing)
{
	if (!start(_metadata, &self->c))
		return;
	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	if (put("Y", FAULT_ATTR("task-filter")))
		SKIP(return, "no fault injection");
	ASSERT_EQ(0, put("0", FAULT_ATTR("probability")));
	ASSERT_EQ(0, put("1", FAULT_ATTR("interval")));
	ASSERT_EQ(0, put("-1", FAULT_ATTR("times")));
	ASSERT_EQ(0, put("0", FAULT_ATTR("space")));
	ASSERT_EQ(0, put("0", FAULT_ATTR("verbose")));
	ASSERT_EQ(0, put("N", FAULT_ATTR("ignore-gfp-wait")));
	put("N", FAULT_ATTR("ignore-gfp-highmem"));
	put("0", FAULT_ATTR("min-order"));
}

FIXTURE_TEARDOWN(failing)
{
	put("0", FAULT_ATTR("probability"));
	put("N", FAULT_ATTR("task-filter"));
	kernel_threads_fail("0");
	other_end(&self->o, SIGKILL);
	finish(_metadata, &self->c);
}

/*
 * Each access is answered: it was done, or ended in a fault and says where. What is
 * said to be written is written.
 */
TEST_F_TIMEOUT(failing, answered, 120)
{
	unsigned int round, slot, i, written = 0, failed = 0;
	size_t size = 32 * page_size;
	struct sva_result res;
	struct sva_queue q;
	int ret;
	char *p;

	ASSERT_EQ(0, sva_queue_init(&q));
	p = untouched(SVATD_NUM_SLOTS * size);
	ASSERT_NE(NULL, p);
	ASSERT_LT(4, kernel_threads_fail("1"));
	ASSERT_EQ(0, put(variant->percent, FAULT_ATTR("probability")));
	for (round = 0; round < 16; round++) {
		ASSERT_EQ(0, madvise(p, SVATD_NUM_SLOTS * size, MADV_DONTNEED));
		for (slot = 0; slot < SVATD_NUM_SLOTS; slot++) {
			struct sva_op op = {
				.cmd = SVATD_OP_FILL,
				.dst = sva_addr(p + slot * size),
				.len = size,
				.arg = TAG + round,
			};

			sva_submit(&q, slot, &op);
		}
		for (slot = 0; slot < SVATD_NUM_SLOTS; slot++) {
			ret = sva_wait(&q, slot, SVA_TIMEOUT_MS, &res);
			ASSERT_TRUE(ret == SVATD_ST_OK || ret == SVATD_ST_FAULT) {
				TH_LOG("%s", ret < 0 ? strerror(-ret) : sva_status_name(ret));
			}
			failed += ret == SVATD_ST_FAULT;
			/* With so many pages hardly any gets to its end: what it came to counts */
			if (ret == SVATD_ST_FAULT)
				EXPECT_EQ(sva_addr(p + slot * size) + res.count, res.faddr);
			for (i = 0; i < res.count / page_size; i++)
				ASSERT_EQ(TAG + round, *(__u64 *)(p + slot * size + i * page_size));
			written += i;
		}
	}
	ASSERT_EQ(0, put("0", FAULT_ATTR("probability")));
	ksft_print_msg("%u pages written, %u accesses ended in a fault\n", written, failed);
	EXPECT_LT(0, failed);
	EXPECT_LT(0, written);
	/* Then it goes on */
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&q, 0, p, TAG, SVATD_NUM_SLOTS * size, NULL));
	sva_queue_close(&q);
}

/* All that a process has is given back, if it is killed meanwhile */
TEST_F_TIMEOUT(failing, killed, 120)
{
	unsigned int round;
	int ret;

	ASSERT_LT(4, kernel_threads_fail("1"));
	ASSERT_EQ(0, put(variant->percent, FAULT_ATTR("probability")));
	for (round = 0; round < 8; round++) {
		ret = other_start(&self->o);
		ASSERT_LE(0, ret);
		if (!ret) {
			struct sva_queue q;
			char *p = untouched(SVATD_NUM_SLOTS * MB);

			if (!p || sva_queue_init(&q))
				_exit(1);
			say(self->o.to, 'r');
			for (;;) {
				hammer(&q, p, MB);
				usleep(1000);
				for (ret = 0; ret < SVATD_NUM_SLOTS; ret++)
					sva_stop(&q, ret, NULL);
				madvise(p, SVATD_NUM_SLOTS * MB, MADV_DONTNEED);
			}
		}
		ASSERT_TRUE(hear(self->o.from, 'r'));
		usleep(20000);
		EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	}
	ASSERT_EQ(0, put("0", FAULT_ATTR("probability")));
}

/*
 * Too little of something. Pins of ASIDs are sva_asid's subject.
 */
FIXTURE(exhausted)
{
	struct common c;
};

FIXTURE_SETUP(exhausted)
{
	start(_metadata, &self->c);
}

FIXTURE_TEARDOWN(exhausted)
{
	finish(_metadata, &self->c);
}

/* Who asks for one queue too many is refused; those that there are work */
TEST_F_TIMEOUT(exhausted, queues, 60)
{
	struct sva_queue *q, more;
	__u64 word = 0;
	long i, is = -1;

	q = calloc(self->c.queues, sizeof(*q));
	ASSERT_NE(NULL, q);
	for (i = 0; i < self->c.queues; i++)
		ASSERT_EQ(0, sva_queue_init(&q[i]));
	EXPECT_EQ(-EBUSY, sva_queue_init(&more));
	EXPECT_EQ(0, sva_device_attr("available_instances", &is));
	EXPECT_EQ(0, is);
	for (i = 0; i < self->c.queues; i++) {
		EXPECT_EQ(SVATD_ST_OK, sva_fill(&q[i], 0, &word, TAG + i, 8, NULL));
		EXPECT_EQ(TAG + i, __atomic_load_n(&word, __ATOMIC_ACQUIRE));
	}
	sva_queue_close(&q[0]);
	EXPECT_EQ(0, sva_queue_init(&q[0]));
	for (i = 0; i < self->c.queues; i++)
		sva_queue_close(&q[i]);
	free(q);
}

/* An open() that finds no descriptor takes no queue and no PASID */
TEST_F(exhausted, descriptors)
{
	struct rlimit before, none;
	struct sva_queue q;
	unsigned int i;
	long is = -1;

	/* From here on there is none */
	ASSERT_EQ(0, sva_queue_init(&q));
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	none = before;
	none.rlim_cur = q.fd;
	sva_queue_close(&q);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	for (i = 0; i < 1000; i++)
		EXPECT_EQ(-EMFILE, sva_queue_init(&q));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
	EXPECT_EQ(0, sva_device_attr("available_instances", &is));
	EXPECT_EQ(self->c.queues, is);
}

static void have_a_bond(struct other *o)
{
	struct sva_queue q;
	int ret = sva_queue_init(&q);

	if (!say(o->to, ret == -ENOSPC ? 'p' : ret == -EBUSY ? 'q' : ret ? 'e' : 'r'))
		_exit(1);
	pause();
}

/*
 * One process too many is told so. When others end it is let in: a PASID lasts as
 * long as the address space, and no longer.
 */
TEST_F_TIMEOUT(exhausted, pasids, 120)
{
	long i, full = -1, left;
	struct other *o;
	char said = 0;
	int ret;

	o = calloc(self->c.queues + 1, sizeof(*o));
	ASSERT_NE(NULL, o);
	for (i = 0; i <= self->c.queues; i++) {
		ret = other_start(&o[i]);
		ASSERT_LE(0, ret);
		if (!ret)
			have_a_bond(&o[i]);
		ASSERT_EQ(1, read(o[i].from, &said, 1));
		if (said != 'r') {
			full = i;
			break;
		}
	}
	left = full < 0 ? self->c.queues : full;
	for (i = 0; i <= left; i++)
		if (i % 2)
			other_end(&o[i], SIGKILL);
	if (said == 'p') {
		/* As many as are gone can come */
		for (i = 1; i < left; i += 2) {
			double end = now() + SVA_TIMEOUT_MS / 1e3;

			do {
				ret = other_start(&o[i]);
				ASSERT_LE(0, ret);
				if (!ret)
					have_a_bond(&o[i]);
				ASSERT_EQ(1, read(o[i].from, &said, 1));
				if (said == 'r')
					break;
				/* An address space goes a little after its process */
				other_end(&o[i], SIGKILL);
				usleep(1000);
			} while (now() < end);
			EXPECT_EQ('r', said);
		}
		said = 'p';
	}
	for (i = 0; i <= left; i++)
		other_end(&o[i], SIGKILL);
	free(o);
	if (said == 'q')
		SKIP(return, "there are more PASIDs than queues");
	EXPECT_EQ('p', said);
}

/*
 * Memory that breaks, or moves, under the device
 */
FIXTURE(page)
{
	struct common c;
	struct sva_queue q;
	char *p;
	size_t size;
	bool balanced;	/* by the test alone */
};

FIXTURE_VARIANT(page)
{
	bool huge, hugetlb;
};

FIXTURE_VARIANT_ADD(page, small)
{
};

FIXTURE_VARIANT_ADD(page, thp)
{
	.huge = true,
};

FIXTURE_VARIANT_ADD(page, hugetlb)
{
	.hugetlb = true,
};

FIXTURE_SETUP(page)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	self->q.fd = -1;
	self->q.page = NULL;
	if (!start(_metadata, &self->c))
		return;
	self->size = variant->huge || variant->hugetlb ? 2 * MB : page_size;
	if (variant->hugetlb) {
		self->p = mmap(NULL, self->size, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB,
			       -1, 0);
		if (self->p == MAP_FAILED)
			SKIP(return, "no huge pages");
	} else {
		/* Its neighbours stay where they are */
		self->p = untouched(4 * MB);
		ASSERT_NE(NULL, self->p);
		self->p = (char *)(((unsigned long)self->p + 2 * MB - 1) & -(2 * MB));
		madvise(self->p, self->size, variant->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	}
	*self->p = 1;
	ASSERT_EQ(0, sva_queue_init(&self->q));
}

FIXTURE_TEARDOWN(page)
{
	/* Or it goes on to take pages from a device whose faults are not served */
	if (self->balanced)
		put("0", "/proc/sys/kernel/numa_balancing");
	sva_queue_close(&self->q);
	finish(_metadata, &self->c);
}

/* Can the kernel read it for us? */
static int readable(const char *p)
{
	int there[2], ret;

	if (pipe(there))
		return -errno;
	ret = write(there[1], p, 1) == 1 ? 0 : -errno;
	close(there[0]);
	close(there[1]);
	return ret;
}

static void ignore(int sig)
{
}

/*
 * The page is found to be broken. From then on an access ends in a fault, and none
 * reaches the page, which is not the process's any more.
 */
TEST_F_TIMEOUT(page, poisoned, 60)
{
	struct sigaction bus = { .sa_handler = ignore };
	struct sva_result res;
	__u64 word = 0;

	/* The kernel tells who has the page */
	ASSERT_EQ(0, sigaction(SIGBUS, &bus, NULL));
	sva_hammer_start(&self->q, 0, self->p, page_size, 64, TAG);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 1000));
	if (madvise(self->p, page_size, MADV_HWPOISON)) {
		sva_stop(&self->q, 0, NULL);
		SKIP(return, "no memory failure: %s", strerror(errno));
	}
	EXPECT_EQ(SVATD_ST_FAULT, sva_wait(&self->q, 0, SVA_TIMEOUT_MS, &res));
	EXPECT_EQ(sva_addr(self->p), res.faddr & ~(page_size - 1));
	EXPECT_EQ(SVATD_ST_FAULT, sva_fill(&self->q, 0, self->p, TAG, 8, NULL));
	EXPECT_NE(0, readable(self->p));
	/* The rest of the process can be used */
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, &word, TAG, 8, NULL));
	EXPECT_EQ(TAG, __atomic_load_n(&word, __ATOMIC_ACQUIRE));
	/* And so can the address, with another page */
	if (!variant->hugetlb) {
		ASSERT_EQ(self->p, mmap(self->p, page_size, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		*self->p = 1;
		EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p, TAG, 8, NULL));
		EXPECT_EQ(TAG, *(__u64 *)self->p);
	}
}

/* Moves pages until told to stop. What it does may fail now and then */
struct mover {
	char *p;
	size_t size;
	int (*move)(struct mover *m);
	unsigned long moved;
	unsigned int stop, round;
	long seen;
};

static void *mover_thread(void *arg)
{
	struct mover *m = arg;

	while (!__atomic_load_n(&m->stop, __ATOMIC_ACQUIRE)) {
		if (!m->move(m))
			__atomic_add_fetch(&m->moved, 1, __ATOMIC_RELEASE);
		m->round++;
	}
	return NULL;
}

/*
 * The device counts in a word of the page while that moves: it may be told to wait, or
 * to come again, but none of what it was told to have added may be lost, and none added
 * twice.
 */
static void count_while_moved(struct __test_metadata *_metadata, struct sva_queue *q,
			      struct mover *m, unsigned long moves, bool served)
{
	__u64 *word = (__u64 *)m->p, added = 0, faults = 0;
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	struct sva_result res;
	pthread_t thread;
	int ret;

	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
	ASSERT_EQ(0, pthread_create(&thread, NULL, mover_thread, m));
	while ((__atomic_load_n(&m->moved, __ATOMIC_ACQUIRE) < moves || added < 200) &&
	       now() < end) {
		ret = sva_atomic_add(q, 0, word, 1, &res);
		if (ret == SVATD_ST_OK) {
			EXPECT_EQ(added, res.value);
			added++;
		} else {
			ASSERT_EQ(SVATD_ST_FAULT, ret);
			faults++;
			/* Mapped again, unless it is about to be */
			__atomic_add_fetch(word, 0, __ATOMIC_ACQ_REL);
		}
	}
	__atomic_store_n(&m->stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(added, __atomic_load_n(word, __ATOMIC_ACQUIRE));
	if (served)
		EXPECT_EQ(0, faults);
	ksft_print_msg("moved %lu times, added %llu, %llu faults\n", m->moved,
		       (unsigned long long)added, (unsigned long long)faults);
	EXPECT_LE(moves, m->moved);
	EXPECT_LE(200, added);
}

/* The page is about to break: what is in it moves to another */
static int soft_offline(struct mover *m)
{
	return madvise(m->p, page_size, MADV_SOFT_OFFLINE);
}

TEST_F_TIMEOUT(page, soft_offline, 120)
{
	struct mover m = { .p = self->p, .size = self->size, .move = soft_offline };

	if (madvise(self->p, page_size, MADV_SOFT_OFFLINE))
		SKIP(return, "no soft offline: %s", strerror(errno));
	/* Each of them takes a huge page for good */
	count_while_moved(_metadata, &self->q, &m, variant->hugetlb ? 2 : 8, self->c.served);
}

/* From one node to another and back */
static int move_node(struct mover *m)
{
	int node = m->round % 2, status = -1;
	void *page = m->p;

	if (syscall(SYS_move_pages, 0, 1, &page, &node, &status, MPOL_MF_MOVE))
		return -1;
	return status == node ? 0 : -1;
}

TEST_F_TIMEOUT(page, moved_between_nodes, 120)
{
	struct mover m = { .p = self->p, .size = self->size, .move = move_node };

	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "one node");
	count_while_moved(_metadata, &self->q, &m, 100, self->c.served);
}

#define MEMORY		"/sys/devices/system/memory/memory%ld/"

/* The block of memory that has the page, or -1 */
static long block_of(const char *p)
{
	FILE *f = fopen("/sys/devices/system/memory/block_size_bytes", "r");
	unsigned long size;
	__u64 entry;
	int fd, ret;

	ret = f ? fscanf(f, "%lx", &size) : 0;
	if (f)
		fclose(f);
	fd = open("/proc/self/pagemap", O_RDONLY);
	if (ret != 1 || fd < 0)
		return -1;
	ret = pread(fd, &entry, 8, (unsigned long)p / page_size * 8);
	close(fd);
	if (ret != 8 || !(entry & 1ULL << 63))
		return -1;
	return (entry & ((1ULL << 55) - 1)) * page_size / size;
}

/* The block stays offline: what a device still writes there is nobody's */
static int offline_block(struct mover *m)
{
	long block = block_of(m->p);

	if (m->moved == 2 || block < 0 || put("offline", MEMORY "state", block)) {
		usleep(1000);
		return -1;
	}
	return 0;
}

/*
 * The memory that has the page is taken out of use, and then it is removed for good. The
 * page is elsewhere before: in such memory again, as the kernel takes that first for what
 * can be moved.
 */
TEST_F_TIMEOUT(page, memory_removed, 120)
{
	struct mover m = { .p = self->p, .size = self->size, .move = offline_block };
	long block = block_of(self->p);
	unsigned int i;
	double end;
	glob_t all;

	if (glob("/sys/devices/system/memory/memory*/firmware_node/eject", 0, NULL, &all))
		SKIP(return, "no memory that can be removed");
	for (i = 0; i < all.gl_pathc; i++)
		put("online_movable", "%.*sstate",
		    (int)(strstr(all.gl_pathv[i], "firmware_node") - all.gl_pathv[i]),
		    all.gl_pathv[i]);
	globfree(&all);
	ASSERT_NE(-ENOENT, put("", MEMORY "firmware_node/eject", block));
	count_while_moved(_metadata, &self->q, &m, 2, self->c.served);
	if (!__test_passed(_metadata))
		return;

	block = block_of(self->p);
	sva_hammer_start(&self->q, 0, self->p, page_size, 64, TAG);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 1000));
	end = now() + SVA_TIMEOUT_MS / 1e3;
	ASSERT_EQ(0, put("1", MEMORY "firmware_node/eject", block));
	while (block_of(self->p) == block && now() < end)
		usleep(10000);
	while (put("", MEMORY "state", block) != -ENOENT && now() < end)
		usleep(10000);
	EXPECT_EQ(-ENOENT, put("", MEMORY "state", block));
	EXPECT_NE(block, block_of(self->p));
	if (self->c.served)
		EXPECT_EQ(0, sva_wait_count(&self->q, 0, 1000));
	sva_stop(&self->q, 0, NULL);
	*self->p = 1;
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p, TAG + 1, 8, NULL));
	EXPECT_EQ(TAG + 1, *(__u64 *)self->p);
}

/*
 * The kernel takes the page away now and then, to see which node uses it. With a fault
 * of the device it counts as used where the handler runs.
 */
static int numa_scan(struct mover *m)
{
	long is = get("numa_pte_updates", "/proc/vmstat");
	bool same = is == m->seen;

	/* Scans are done for who runs */
	m->seen = is;
	return same ? -1 : 0;
}

TEST_F_TIMEOUT(page, numa_balancing, 120)
{
	struct mover m = { .p = self->p, .size = self->size, .move = numa_scan };

	if (variant->hugetlb)
		SKIP(return, "huge pages of hugetlbfs are not balanced");
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "one node");
	self->balanced = !get(NULL, "/proc/sys/kernel/numa_balancing");
	if (put("1", "/proc/sys/kernel/numa_balancing"))
		SKIP(return, "no NUMA balancing");
	put("10", "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms");
	put("10", "/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms");
	put("20", "/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms");
	count_while_moved(_metadata, &self->q, &m, 10, self->c.served);
}

/*
 * CPUs
 */
FIXTURE(cpus)
{
	struct common c;
	struct other o;
};

FIXTURE_SETUP(cpus)
{
	if (!start(_metadata, &self->c))
		return;
	if (access("/sys/devices/system/cpu/cpu1/online", W_OK))
		SKIP(return, "CPUs cannot be taken offline");
}

FIXTURE_TEARDOWN(cpus)
{
	put("1", "/sys/devices/system/cpu/cpu1/online");
	other_end(&self->o, SIGKILL);
	finish(_metadata, &self->c);
}

static void *plug_cpu(void *arg)
{
	unsigned int *rounds = arg;

	while (__atomic_load_n(rounds, __ATOMIC_ACQUIRE)) {
		if (put("0", "/sys/devices/system/cpu/cpu1/online"))
			continue;
		usleep(1000);
		put("1", "/sys/devices/system/cpu/cpu1/online");
		__atomic_sub_fetch(rounds, 1, __ATOMIC_ACQ_REL);
	}
	return NULL;
}

/*
 * A CPU goes and comes, and with it its part in the ASID allocator, while processes
 * come and go and some have bonds. What the device reads is what is mapped: each
 * process reads its own word, unmaps it, and is refused.
 */
TEST_F_TIMEOUT(cpus, rollover, 300)
{
	unsigned int rounds = 40, processes = 0;
	struct sva_queue q;
	pthread_t thread;
	__u64 *mine;

	/* No copy on write: that would end the reads of a device whose faults are not served */
	mine = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mine);
	*mine = TAG;
	ASSERT_EQ(0, sva_queue_init(&q));
	sva_poll_start(&q, 0, mine, 8, 8, TAG, TAG);
	ASSERT_EQ(0, pthread_create(&thread, NULL, plug_cpu, &rounds));
	while (__atomic_load_n(&rounds, __ATOMIC_ACQUIRE) || processes < 600) {
		int status;
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			struct sva_queue other;
			__u64 *word;

			if (processes % 4)
				_exit(0);
			word = (__u64 *)untouched(page_size);
			if (!word || sva_queue_init(&other))
				_exit(1);
			*word = TAG + processes;
			sva_poll_start(&other, 0, word, 8, 8, TAG + processes, TAG + processes);
			if (sva_wait_count(&other, 0, 100))
				_exit(2);
			mprotect(word, page_size, PROT_NONE);
			_exit(sva_wait(&other, 0, SVA_TIMEOUT_MS, NULL) == SVATD_ST_FAULT ? 0 : 3);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		processes++;
	}
	pthread_join(thread, NULL);
	EXPECT_EQ(1, get(NULL, "/sys/devices/system/cpu/cpu1/online"));
	ksft_print_msg("%u processes\n", processes);
	EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&q, 0, NULL));
	sva_queue_close(&q);
}

TEST_HARNESS_MAIN
