// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing: a page that becomes writable without anybody but
 * the local CPU being told.
 *
 * When a page-table entry only gains rights, a CPU that still has the old one
 * in its TLB takes a fault too many and helps itself, so kernels spare the other
 * CPUs the invalidation (arm64: TLBF_NOBROADCAST). A device cannot help itself:
 * if its SMMU keeps the old entry, its writes fault for ever. Each case here has
 * the device read a page that it may not write, has the CPU write to the page,
 * and then has the device write, again and again if need be. (If it stalls, it is
 * the SMMU that tries again and again, and no end is an error.) The CPU that writes
 * is each time another than the one before, as the local CPU is not the one that
 * the SMMU would listen to by accident.
 *
 * Not all of these are kept local by every kernel; none of them may be.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"

#ifndef MADV_FREE
#define MADV_FREE		8
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

/* Places looked at in an area; with small pages, one in each page */
#define SAMPLES		16

/* How often the device may try. With an entry that stays, it never succeeds */
#define TRIES		200

#define MTHP		"/sys/kernel/mm/transparent_hugepage/hugepages-64kB/"
#define MTHP_SIZE	(64UL << 10)

/* Huge pages larger than this are too large to be tested */
#define MAX_HUGE	(64UL << 20)

#define BY_CPU		0x2e30000000000000ULL
#define BY_DEVICE	0xde50000000000000ULL

static size_t page_size;
static __u64 *bounce;
static int cpus[2];

static __u64 load(const void *p)
{
	return __atomic_load_n((const __u64 *)p, __ATOMIC_ACQUIRE);
}

static void store(void *p, __u64 value)
{
	__atomic_store_n((__u64 *)p, value, __ATOMIC_RELEASE);
}

/* Two CPUs to take turns; the same twice if there is one only */
static void find_cpus(void)
{
	cpu_set_t allowed;
	int cpu, n = 0;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpus[n++] = cpu;
	if (n < 2)
		cpus[1] = cpus[0];
}

static void run_on(int turn)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpus[turn % 2], &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static long page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* A queue, and the memory that it is used on */
struct area {
	struct sva_queue q;
	char *addr;
	size_t size;
	size_t step;	/* from one sample to the next */
	int fd;
	bool served;	/* the kernel serves the device's faults */
};

FIXTURE(local)
{
	struct area a;
};

FIXTURE_SETUP(local)
{
	char *untouched;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	find_cpus();
	run_on(0);
	ret = sva_queue_init(&self->a.q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	bounce = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, bounce);
	store(bounce, 0);
	untouched = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	ASSERT_NE(MAP_FAILED, untouched);
	self->a.served = sva_fill(&self->a.q, 0, untouched, 0, 8, NULL) == SVATD_ST_OK;
	munmap(untouched, page_size);
	self->a.fd = -1;
	self->a.size = SAMPLES * page_size;
	self->a.step = page_size;
}

FIXTURE_TEARDOWN(local)
{
	sva_queue_close(&self->a.q);
}

static char *sample(const struct area *a, unsigned int i)
{
	return a->addr + i * a->step;
}

/* Map a->size at a multiple of @align: false, with errno, if there is none */
static bool map(struct area *a, size_t align, int flags)
{
	char *p;

	p = mmap(NULL, a->size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p == MAP_FAILED)
		return false;
	a->addr = (char *)(((unsigned long)p + align - 1) & -align);
	a->step = a->size / SAMPLES;
	return mmap(a->addr, a->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, a->fd,
		    0) != MAP_FAILED;
}

/* Small pages, private and dirty */
static bool map_small(struct area *a)
{
	unsigned int i;

	if (!map(a, page_size, MAP_PRIVATE | MAP_ANONYMOUS) ||
	    madvise(a->addr, a->size, MADV_NOHUGEPAGE))
		return false;
	for (i = 0; i < SAMPLES; i++)
		store(sample(a, i), i);
	return true;
}

/* The first size that /proc/meminfo or sysfs names, or 0 */
static size_t read_size(const char *path, const char *format, size_t unit)
{
	char line[128];
	size_t size = 0;
	FILE *f;

	f = fopen(path, "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, format, &size) == 1)
			break;
	fclose(f);
	size *= unit;
	return size <= MAX_HUGE ? size : 0;
}

/* A transparent huge page of the largest size */
static bool map_thp(struct area *a)
{
	size_t i;

	a->size = read_size("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "%zu", 1);
	if (!a->size || !map(a, a->size, MAP_PRIVATE | MAP_ANONYMOUS) ||
	    madvise(a->addr, a->size, MADV_HUGEPAGE))
		return false;
	for (i = 0; i < a->size; i += page_size)
		store(a->addr + i, 0);
	return !madvise(a->addr, a->size, MADV_COLLAPSE);
}

static bool map_hugetlb(struct area *a)
{
	a->size = read_size("/proc/meminfo", "Hugepagesize: %zu kB", 1024);
	if (!a->size || !map(a, a->size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB))
		return false;
	store(a->addr, 0);
	return true;
}

static long mthp_allocs(void)
{
	size_t n = read_size(MTHP "stats/anon_fault_alloc", "%zu", 1);

	return n;
}

static bool read_line(const char *path, char *line, int size)
{
	FILE *f = fopen(path, "r");
	bool ok;

	if (!f)
		return false;
	ok = fgets(line, size, f);
	fclose(f);
	return ok;
}

static bool write_line(const char *path, const char *line)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return false;
	ok = fputs(line, f) >= 0;
	return !fclose(f) && ok;
}

/* Sixteen pages in a row, which arm64 marks contiguous */
static bool map_contiguous(struct area *a)
{
	long before = mthp_allocs();
	char setting[16], was[64];
	const char *chosen;

	a->size = MTHP_SIZE;
	if (page_size * SAMPLES != MTHP_SIZE ||
	    !map(a, MTHP_SIZE, MAP_PRIVATE | MAP_ANONYMOUS) ||
	    madvise(a->addr, a->size, MADV_HUGEPAGE) ||
	    !read_line(MTHP "enabled", was, sizeof(was)))
		return false;
	/* "always inherit [madvise] never" */
	chosen = strchr(was, '[');
	if (!chosen || sscanf(chosen, "[%15[a-z]]", setting) != 1 ||
	    !write_line(MTHP "enabled", "madvise"))
		return false;
	store(a->addr, 0);
	return write_line(MTHP "enabled", setting) && mthp_allocs() > before;
}

/* A child that comes and goes leaves the parent's pages read-only */
static bool fork_once(void)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(0);
	return pid > 0 && waitpid(pid, &status, 0) == pid;
}

/* Clean, so read-only to an SMMU that cannot mark them dirty, but the CPU's */
static bool make_clean(struct area *a)
{
	unsigned int i;
	__u64 sum = 0;

	if (madvise(a->addr, a->size, MADV_FREE))
		return false;
	/* Accessed, on the other hand */
	for (i = 0; i < SAMPLES; i++)
		sum += load(sample(a, i));
	return sum != BY_CPU;
}

static void device_reads_only(struct __test_metadata *_metadata, struct area *a,
			      unsigned int i)
{
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&a->q, 0, bounce, sample(a, i), 8, NULL));
	ASSERT_EQ(load(sample(a, i)), load(bounce));
	/* Else the case tests nothing; but if it is served it is no such page then */
	if (!a->served)
		ASSERT_EQ(SVATD_ST_FAULT, sva_fill(&a->q, 0, sample(a, i), 0, 8, NULL));
}

static void device_writes(struct __test_metadata *_metadata, struct area *a,
			  unsigned int i)
{
	unsigned int faults = 0;
	int code;

	do {
		code = sva_fill(&a->q, 0, sample(a, i), BY_DEVICE | i, 8, NULL);
	} while (code == SVATD_ST_FAULT && ++faults < TRIES);
	ASSERT_EQ(0, faults) {
		TH_LOG("stale access: the CPU may write to page %u, the device faults %s%u times",
		       i, faults < TRIES ? "" : "for ever: ", faults);
	}
	ASSERT_EQ(SVATD_ST_OK, code);
	ASSERT_EQ(BY_DEVICE | i, load(sample(a, i))) {
		TH_LOG("stale access: the device wrote elsewhere");
	}
}

/*
 * The CPU writes to page after page. False if that caused no fault: then the
 * CPU marked the pages dirty by itself (FEAT_HAFDBS), and no software was there
 * to tell an SMMU that cannot do the same.
 */
static bool upgrade_each(struct __test_metadata *_metadata, struct area *a)
{
	long before, faults = 0;
	unsigned int i;

	for (i = 0; i < SAMPLES; i++) {
		device_reads_only(_metadata, a, i);
		run_on(i + 1);
		before = page_faults();
		store(sample(a, i), BY_CPU | i);
		faults += page_faults() - before;
		if (faults)
			device_writes(_metadata, a, i);
	}
	return faults;
}

/* The same for pages that one write makes writable all at once */
static bool upgrade_all(struct __test_metadata *_metadata, struct area *a)
{
	unsigned int i;
	long faults;

	for (i = 0; i < SAMPLES; i++)
		device_reads_only(_metadata, a, i);
	run_on(1);
	faults = page_faults();
	store(sample(a, SAMPLES / 2), BY_CPU);
	faults = page_faults() - faults;
	for (i = 0; faults && i < SAMPLES; i++)
		device_writes(_metadata, a, i);
	return faults;
}

#define BY_HARDWARE "the CPU sets dirty bits by itself"

/* A file's page that was read, and then is written: the commonest case */
TEST_F_TIMEOUT(local, shared_file, 60)
{
	__u64 sum = 0;
	unsigned int i;

	self->a.fd = memfd_create("sva", 0);
	ASSERT_LE(0, self->a.fd);
	ASSERT_EQ(0, ftruncate(self->a.fd, self->a.size));
	ASSERT_TRUE(map(&self->a, page_size, MAP_SHARED));
	/* Pages that are clean: had they been written, they were so at once */
	for (i = 0; i < SAMPLES; i++)
		sum += load(sample(&self->a, i));
	ASSERT_EQ(0, sum);
	if (!upgrade_each(_metadata, &self->a))
		SKIP(return, BY_HARDWARE);
}

/* Pages that belong to the process alone again */
TEST_F_TIMEOUT(local, after_fork, 60)
{
	ASSERT_TRUE(map_small(&self->a));
	ASSERT_TRUE(fork_once());
	ASSERT_TRUE(upgrade_each(_metadata, &self->a));
}

TEST_F_TIMEOUT(local, clean, 60)
{
	ASSERT_TRUE(map_small(&self->a));
	ASSERT_TRUE(make_clean(&self->a));
	if (!upgrade_each(_metadata, &self->a))
		SKIP(return, BY_HARDWARE);
}

/* Not writable at once, as that needs a fault for each page that was shared */
TEST_F_TIMEOUT(local, mprotect_and_back, 60)
{
	ASSERT_TRUE(map_small(&self->a));
	ASSERT_TRUE(fork_once());
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ));
	device_reads_only(_metadata, &self->a, 0);
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ | PROT_WRITE));
	ASSERT_TRUE(upgrade_each(_metadata, &self->a));
}

/* Back to what it was, with no write by the CPU in between */
TEST_F_TIMEOUT(local, mprotect_alone, 60)
{
	unsigned int i;

	ASSERT_TRUE(map_small(&self->a));
	run_on(1);
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ));
	for (i = 0; i < SAMPLES; i++)
		device_reads_only(_metadata, &self->a, i);
	run_on(2);
	ASSERT_EQ(0, mprotect(self->a.addr, self->a.size, PROT_READ | PROT_WRITE));
	for (i = 0; i < SAMPLES; i++)
		device_writes(_metadata, &self->a, i);
}

TEST_F_TIMEOUT(local, thp_after_fork, 60)
{
	if (!map_thp(&self->a))
		SKIP(return, "no transparent huge page to be had");
	ASSERT_TRUE(fork_once());
	ASSERT_TRUE(upgrade_all(_metadata, &self->a));
}

TEST_F_TIMEOUT(local, thp_clean, 60)
{
	if (!map_thp(&self->a))
		SKIP(return, "no transparent huge page to be had");
	ASSERT_TRUE(make_clean(&self->a));
	if (!upgrade_all(_metadata, &self->a))
		SKIP(return, BY_HARDWARE);
}

TEST_F_TIMEOUT(local, hugetlb_after_fork, 60)
{
	if (!map_hugetlb(&self->a))
		SKIP(return, "no free huge page (vm.nr_hugepages)");
	ASSERT_TRUE(fork_once());
	ASSERT_TRUE(upgrade_all(_metadata, &self->a));
}

/* The first write unfolds the block, the others find single pages */
TEST_F_TIMEOUT(local, contiguous_after_fork, 60)
{
	if (!map_contiguous(&self->a))
		SKIP(return, "no contiguous pages to be had (" MTHP ")");
	ASSERT_TRUE(fork_once());
	ASSERT_TRUE(upgrade_each(_metadata, &self->a));
}

/* A write marks the whole block dirty, which stays folded */
TEST_F_TIMEOUT(local, contiguous_clean, 60)
{
	if (!map_contiguous(&self->a))
		SKIP(return, "no contiguous pages to be had (" MTHP ")");
	ASSERT_TRUE(make_clean(&self->a));
	if (!upgrade_all(_metadata, &self->a))
		SKIP(return, BY_HARDWARE);
}

/*
 * While no device is bound, nothing keeps an invalidation from being local: the
 * SMMU must have forgotten the process when it was unbound.
 */
TEST_F_TIMEOUT(local, between_two_binds, 60)
{
	unsigned int i;

	ASSERT_TRUE(map_small(&self->a));
	ASSERT_TRUE(fork_once());
	for (i = 0; i < SAMPLES; i++)
		device_reads_only(_metadata, &self->a, i);
	sva_queue_close(&self->a.q);
	for (i = 0; i < SAMPLES; i++) {
		run_on(i);
		store(sample(&self->a, i), BY_CPU | i);
	}
	ASSERT_EQ(0, sva_queue_init(&self->a.q));
	for (i = 0; i < SAMPLES; i++)
		device_writes(_metadata, &self->a, i);
}

/* Write-protect the area; a write then undoes that without asking anybody */
static bool uffd_protect(struct area *a, bool protect, int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)a->addr, .len = a->size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = reg.range,
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (*uffd < 0) {
		*uffd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
		if (*uffd < 0 || ioctl(*uffd, UFFDIO_API, &api) ||
		    ioctl(*uffd, UFFDIO_REGISTER, &reg))
			return false;
	}
	return !ioctl(*uffd, UFFDIO_WRITEPROTECT, &wp);
}

#define NO_UFFD "no asynchronous write protection by userfaultfd"

TEST_F_TIMEOUT(local, userfaultfd, 60)
{
	int uffd = -1;

	ASSERT_TRUE(map_small(&self->a));
	if (!uffd_protect(&self->a, true, &uffd))
		SKIP(return, NO_UFFD);
	ASSERT_TRUE(upgrade_each(_metadata, &self->a));
}

/* Shared pages go by the way of a file system that wants to know of writes */
TEST_F_TIMEOUT(local, userfaultfd_shared, 60)
{
	unsigned int i;
	int uffd = -1;

	ASSERT_TRUE(map(&self->a, page_size, MAP_SHARED | MAP_ANONYMOUS));
	for (i = 0; i < SAMPLES; i++)
		store(sample(&self->a, i), i);
	if (!uffd_protect(&self->a, true, &uffd))
		SKIP(return, NO_UFFD);
	ASSERT_TRUE(upgrade_each(_metadata, &self->a));
}

TEST_F_TIMEOUT(local, userfaultfd_undone, 60)
{
	int uffd = -1;
	unsigned int i;

	ASSERT_TRUE(map_small(&self->a));
	if (!uffd_protect(&self->a, true, &uffd))
		SKIP(return, NO_UFFD);
	for (i = 0; i < SAMPLES; i++)
		device_reads_only(_metadata, &self->a, i);
	run_on(1);
	ASSERT_TRUE(uffd_protect(&self->a, false, &uffd));
	/* That made the pages writable again, or left it to the next write */
	for (i = 0; i < SAMPLES; i++)
		store(sample(&self->a, i), BY_CPU | i);
	for (i = 0; i < SAMPLES; i++)
		device_writes(_metadata, &self->a, i);
}

/* By another process, on a CPU that may never have run this one */
TEST_F_TIMEOUT(local, by_another_process, 60)
{
	int to_child[2], from_child[2], status, mem;
	__u64 value = BY_CPU;
	char path[32], byte;
	unsigned int i;
	pid_t pid;

	ASSERT_TRUE(map_small(&self->a));
	snprintf(path, sizeof(path), "/proc/%d/mem", getpid());
	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(from_child));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_on(1);
		/* Its own view of the pages must not make them shared */
		munmap(self->a.addr, self->a.size);
		mem = open(path, O_RDWR);
		for (i = 0; i < SAMPLES; i++) {
			if (write(from_child[1], "r", 1) != 1 || read(to_child[0], &byte, 1) != 1)
				_exit(2);
			if (pwrite(mem, &value, 8, (unsigned long)sample(&self->a, i)) != 8)
				_exit(3);
		}
		if (write(from_child[1], "r", 1) != 1)
			_exit(2);
		_exit(0);
	}
	close(from_child[1]);
	ASSERT_EQ(1, read(from_child[0], &byte, 1));
	for (i = 0; i < SAMPLES; i++) {
		device_reads_only(_metadata, &self->a, i);
		ASSERT_EQ(1, write(to_child[1], "g", 1));
		ASSERT_EQ(1, read(from_child[0], &byte, 1)) {
			TH_LOG("/proc/PID/mem cannot be written");
		}
		EXPECT_EQ(BY_CPU, load(sample(&self->a, i)));
		device_writes(_metadata, &self->a, i);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
}

/*
 * Two CPUs that write at once: one of them finds, after its fault, that the
 * other has done the work already, and removes what it takes for a stale entry
 * of its own only.
 */
#define RACE_ROUNDS	16

struct racer {
	pthread_t thread;
	pthread_barrier_t *barrier;
	struct area *a;
	int turn;
};

static void *racer(void *arg)
{
	struct racer *r = arg;
	unsigned int i;

	run_on(r->turn);
	for (i = 0; i < SAMPLES; i++) {
		pthread_barrier_wait(r->barrier);
		store(sample(r->a, i) + 8 * r->turn, BY_CPU | i);
		pthread_barrier_wait(r->barrier);
		pthread_barrier_wait(r->barrier);
	}
	return NULL;
}

TEST_F_TIMEOUT(local, two_cpus_at_once, 120)
{
	pthread_barrier_t barrier;
	struct racer r[2] = {};
	unsigned int i, round;

	ASSERT_TRUE(map_small(&self->a));
	pthread_barrier_init(&barrier, NULL, 3);
	for (round = 0; round < RACE_ROUNDS; round++) {
		ASSERT_TRUE(fork_once());
		device_reads_only(_metadata, &self->a, 0);
		for (i = 0; i < 2; i++) {
			r[i].barrier = &barrier;
			r[i].a = &self->a;
			r[i].turn = i;
			ASSERT_EQ(0, pthread_create(&r[i].thread, NULL, racer, &r[i]));
		}
		for (i = 0; i < SAMPLES; i++) {
			sva_copy(&self->a.q, 0, bounce, sample(&self->a, i), 8, NULL);
			pthread_barrier_wait(&barrier);
			pthread_barrier_wait(&barrier);
			device_writes(_metadata, &self->a, i);
			pthread_barrier_wait(&barrier);
		}
		for (i = 0; i < 2; i++)
			pthread_join(r[i].thread, NULL);
	}
	pthread_barrier_destroy(&barrier);
}

TEST_HARNESS_MAIN
