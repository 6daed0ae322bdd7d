// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing: a page that becomes writable, or accessible, without
 * anybody but the local CPU being told.
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
 *
 * The fixtures gained and twice are about rights that nobody is told of at all: what
 * hardware changes in an entry, and what one mapping of a page gains by way of
 * another. If the device's faults are served they are repaired there; if not, the
 * device has to fault until software makes up for it, no earlier and no later.
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
#include "sva_smmu.h"
#include "sva_testdev.h"

#ifndef MADV_FREE
#define MADV_FREE		8
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_COLD
#define MADV_COLD		20
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB		4
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT		26
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

#define KIB		1024UL
#define MIB		(1024 * KIB)
#define GIB		(1024 * MIB)

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
	bool hugetlb;	/* pages of a file of huge pages */
	bool huge;	/* an entry that is more than a page */
	bool served;	/* the kernel serves the device's faults */
	bool httu;	/* the SMMU marks pages young and dirty; not if they are served */
};

FIXTURE(local)
{
	struct area a;
};

static void open_area(struct __test_metadata *_metadata, struct area *a)
{
	char *untouched, *clean;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	find_cpus();
	run_on(0);
	ret = sva_queue_init(&a->q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	bounce = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, bounce);
	store(bounce, 0);
	untouched = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	ASSERT_NE(MAP_FAILED, untouched);
	a->served = sva_fill(&a->q, 0, untouched, 0, 8, NULL) == SVATD_ST_OK;
	munmap(untouched, page_size);
	a->fd = memfd_create("sva", 0);
	ASSERT_LE(0, a->fd);
	ASSERT_EQ(0, ftruncate(a->fd, page_size));
	clean = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	ASSERT_NE(MAP_FAILED, clean);
	ASSERT_EQ(0, load(clean));
	a->httu = !a->served && sva_fill(&a->q, 0, clean, 0, 8, NULL) == SVATD_ST_OK;
	munmap(clean, page_size);
	close(a->fd);
	a->fd = -1;
	a->size = SAMPLES * page_size;
	a->step = page_size;
}

FIXTURE_SETUP(local)
{
	open_area(_metadata, &self->a);
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
	if (!a->served && !a->httu)
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

/*
 * Pages that the device has only tried to write: it may have cached what forbade
 * that, as it may anything that it has met
 */
TEST_F_TIMEOUT(local, written_only, 60)
{
	struct area *a = &self->a;
	unsigned int i;
	__u64 sum = 0;
	long faults;

	a->fd = memfd_create("sva", 0);
	ASSERT_LE(0, a->fd);
	ASSERT_EQ(0, ftruncate(a->fd, a->size));
	ASSERT_TRUE(map(a, page_size, MAP_SHARED));
	for (i = 0; i < SAMPLES; i++)
		sum += load(sample(a, i));
	ASSERT_EQ(0, sum);
	for (i = 0; i < SAMPLES; i++) {
		if (!a->served && !a->httu)
			ASSERT_EQ(SVATD_ST_FAULT, sva_fill(&a->q, 0, sample(a, i), 0, 8, NULL));
		run_on(i + 1);
		faults = page_faults();
		store(sample(a, i), BY_CPU | i);
		if (page_faults() == faults)
			SKIP(return, BY_HARDWARE);
		device_writes(_metadata, a, i);
	}
}

/* An SMMU that can do what such a CPU does is told to (CD.HD) */
TEST_F_TIMEOUT(local, dirty_by_smmu, 60)
{
	struct smmu smmu = { };
	unsigned int httu;

	if (smmu_map(&smmu, smmu_find(sva_device())))
		SKIP(return, "the SMMU's registers cannot be read: no /dev/mem");
	httu = smmu_httu(&smmu);
	smmu_unmap(&smmu);
	if (httu < 2)
		SKIP(return, "the SMMU does not set the dirty state");
	EXPECT_TRUE(self->a.httu || self->a.served);
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

/*
 * Rights that are gained unnoticed. The CPU's TLB is of no use as a witness: what it
 * does about an old entry, and when, is the CPU's affair.
 */
static bool write_number(const char *path, unsigned long n)
{
	char line[32];

	snprintf(line, sizeof(line), "%lu", n);
	return write_line(path, line);
}

/* At least two free pages of a size, or one of the largest */
static bool have_huge_pages(size_t size)
{
	char path[2][96], line[32];
	const char *name[2] = { "free", "nr" };
	unsigned long value[2], want = size < GIB ? 2 : 1;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]),
			 "/sys/kernel/mm/hugepages/hugepages-%zukB/%s_hugepages", size >> 10,
			 name[i]);
		if (!read_line(path[i], line, sizeof(line)))
			return false;
		value[i] = strtoul(line, NULL, 10);
	}
	if (value[0] >= want)
		return true;
	return write_number(path[1], value[1] + want) && read_line(path[0], line, sizeof(line)) &&
	       strtoul(line, NULL, 10) >= want;
}

/* Read all of it, so that it is there; nobody has written to it */
static bool is_clean(const struct area *a)
{
	unsigned int i;
	__u64 sum = 0;

	for (i = 0; i < SAMPLES; i++)
		sum += load(sample(a, i));
	return !sum;
}

/* Pages of a file: had they been written they would be dirty at once */
static bool map_clean_file(struct area *a)
{
	a->fd = memfd_create("sva", 0);
	return a->fd >= 0 && !ftruncate(a->fd, a->size) && map(a, page_size, MAP_SHARED) &&
	       is_clean(a);
}

static bool map_clean_contiguous(struct area *a)
{
	return map_contiguous(a) && make_clean(a);
}

static bool map_clean_thp(struct area *a)
{
	a->huge = true;
	return map_thp(a) && make_clean(a);
}

/* hugetlb makes an entry dirty where it may be written: so first it may not */
static bool clean_hugetlb(struct area *a)
{
	return !mprotect(a->addr, a->size, PROT_READ) && is_clean(a) &&
	       !mprotect(a->addr, a->size, PROT_READ | PROT_WRITE);
}

/* @size bytes of a file of huge pages, of which the first is looked at */
static bool map_clean_hugetlb(struct area *a, size_t huge, size_t size)
{
	if (!have_huge_pages(huge))
		return false;
	a->fd = memfd_create("sva", MFD_HUGETLB | __builtin_ctzl(huge) << MFD_HUGE_SHIFT);
	a->size = size;
	if (a->fd < 0 || ftruncate(a->fd, size) || !map(a, size, MAP_SHARED | MAP_NORESERVE))
		return false;
	a->hugetlb = true;
	a->huge = true;
	a->step = huge / SAMPLES;
	return clean_hugetlb(a);
}

/* Whether the device cannot write, however often it tries */
static bool device_faults(struct area *a, unsigned int i)
{
	unsigned int faults = 0;

	while (faults < TRIES &&
	       sva_fill(&a->q, 0, sample(a, i), BY_DEVICE | i, 8, NULL) == SVATD_ST_FAULT)
		faults++;
	return faults == TRIES;
}

/*
 * What software can do once the page is dirty: take the right to write away, with a
 * broadcast, and give it back. (To a page that is dirty by then, or the SMMU might
 * have walked in between.)
 */
static void renew(struct __test_metadata *_metadata, struct area *a)
{
	unsigned int i;

	for (i = 0; i < SAMPLES; i++)
		store(sample(a, i), BY_CPU | i);
	ASSERT_EQ(0, mprotect(a->addr, a->size, PROT_READ));
	ASSERT_EQ(0, mprotect(a->addr, a->size, PROT_READ | PROT_WRITE));
	/* A table that was shared is not there any more */
	for (i = 0; i < SAMPLES; i++)
		store(sample(a, i), BY_CPU | i);
}

FIXTURE(gained)
{
	struct area a;
};

FIXTURE_VARIANT(gained)
{
	bool (*map)(struct area *a);
	size_t huge;
};

FIXTURE_VARIANT_ADD(gained, small)		{ .map = map_clean_file };
FIXTURE_VARIANT_ADD(gained, contiguous)		{ .map = map_clean_contiguous };
FIXTURE_VARIANT_ADD(gained, thp)		{ .map = map_clean_thp };
FIXTURE_VARIANT_ADD(gained, hugetlb_64k)	{ .huge = 64 * KIB };
FIXTURE_VARIANT_ADD(gained, hugetlb_2m)		{ .huge = 2 * MIB };
FIXTURE_VARIANT_ADD(gained, hugetlb_32m)	{ .huge = 32 * MIB };
FIXTURE_VARIANT_ADD(gained, hugetlb_1g)		{ .huge = GIB };

FIXTURE_SETUP(gained)
{
	bool ok;

	open_area(_metadata, &self->a);
	if (_metadata->exit_code == KSFT_SKIP)
		return;
	ok = variant->map ? variant->map(&self->a) :
	     map_clean_hugetlb(&self->a, variant->huge, variant->huge);
	if (!ok)
		SKIP(return, "no pages of this kind to be had");
}

FIXTURE_TEARDOWN(gained)
{
	sva_queue_close(&self->a.q);
}

/*
 * The CPU writes to pages that are clean. If it takes a fault for that, software
 * marks them dirty and the device is told. If it marks them by itself
 * (FEAT_HAFDBS) nobody is, and an SMMU that cannot do the same (HTTU) keeps its
 * entry. With @noted software has a look in between, and sets the dirty state that it
 * finds in a bit of its own: afterwards a fault of the device leaves it nothing to do.
 */
static void cpu_dirties(struct __test_metadata *_metadata, struct area *a, bool noted)
{
	unsigned int i, lost = 0;
	bool by_hardware;
	long faults;

	for (i = 0; i < SAMPLES; i++)
		device_reads_only(_metadata, a, i);
	run_on(1);
	faults = page_faults();
	for (i = 0; i < SAMPLES; i++)
		store(sample(a, i), BY_CPU | i);
	by_hardware = page_faults() == faults;
	/* To the hardware this is the same as PROT_READ | PROT_WRITE */
	if (noted)
		ASSERT_EQ(0, mprotect(a->addr, a->size, PROT_WRITE));
	if (!by_hardware || a->served || a->httu) {
		for (i = 0; i < SAMPLES; i++)
			device_writes(_metadata, a, i);
		return;
	}

	for (i = 0; i < SAMPLES; i++)
		lost += device_faults(a, i);
	TH_LOG("made dirty by hardware: the device cannot write to %u of %u pages", lost, SAMPLES);
	/* mprotect() invalidates huge pages whatever there is to change */
	EXPECT_EQ(noted && a->huge ? 0 : SAMPLES, lost);
	renew(_metadata, a);
	for (i = 0; i < SAMPLES; i++)
		device_writes(_metadata, a, i);
}

TEST_F_TIMEOUT(gained, dirty, 120)
{
	cpu_dirties(_metadata, &self->a, false);
}

TEST_F_TIMEOUT(gained, dirty_noted, 120)
{
	cpu_dirties(_metadata, &self->a, true);
}

/*
 * Pages that software marks old, to see whether they are used. An old entry is in no
 * TLB, and an access makes it young: if a device cannot, not until the CPU does.
 */
TEST_F_TIMEOUT(gained, old, 120)
{
	unsigned int i, lost = 0;
	int code;

	if (self->a.hugetlb)
		SKIP(return, "hugetlb pages do not grow old");
	for (i = 0; i < SAMPLES; i++)
		store(sample(&self->a, i), BY_CPU | i);
	for (i = 0; i < SAMPLES; i++)
		ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->a.q, 0, bounce, sample(&self->a, i), 8,
						NULL));
	ASSERT_EQ(0, madvise(self->a.addr, self->a.size, MADV_COLD));
	for (i = 0; i < SAMPLES; i++) {
		code = sva_copy(&self->a.q, 0, bounce, sample(&self->a, i), 8, NULL);
		lost += code == SVATD_ST_FAULT;
		if (code == SVATD_ST_OK)
			EXPECT_EQ(BY_CPU | i, load(bounce));
	}
	TH_LOG("marked old: the device cannot read %u of %u pages", lost, SAMPLES);
	EXPECT_EQ(self->a.served || self->a.httu ? 0 : SAMPLES, lost);
	for (i = 0; i < SAMPLES; i++) {
		EXPECT_EQ(BY_CPU | i, load(sample(&self->a, i)));
		EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->a.q, 0, bounce, sample(&self->a, i), 8,
						NULL));
		device_writes(_metadata, &self->a, i);
	}
}

/* fork() makes private pages read-only, for good: a right that is lost, in order */
TEST_F_TIMEOUT(local, fork_under_dma, 60)
{
	unsigned int i, lost = 0;
	int code;

	ASSERT_TRUE(map_small(&self->a));
	for (i = 0; i < SAMPLES; i++)
		device_writes(_metadata, &self->a, i);
	ASSERT_TRUE(fork_once());
	for (i = 0; i < SAMPLES; i++) {
		code = sva_fill(&self->a.q, 0, sample(&self->a, i), BY_DEVICE | i, 8, NULL);
		lost += code == SVATD_ST_FAULT;
	}
	TH_LOG("after fork(): the device cannot write to %u of %u pages", lost, SAMPLES);
	EXPECT_EQ(self->a.served ? 0 : SAMPLES, lost);
	for (i = 0; i < SAMPLES; i++) {
		store(sample(&self->a, i), BY_CPU | i);
		device_writes(_metadata, &self->a, i);
	}
}

/*
 * A huge page that is mapped twice. Large mappings of hugetlb that are aligned share a
 * table, so that what one gains the other has: unnoticed, as a TLBI names an address
 * and an ASID.
 */
FIXTURE(twice)
{
	struct area a;
	int to_child[2];
	int from_child[2];
	pid_t child;
};

FIXTURE_VARIANT(twice)
{
	size_t huge;
	size_t size;
	bool processes;
};

FIXTURE_VARIANT_ADD(twice, areas_64k)	{ .huge = 64 * KIB, .size = 128 * KIB };
FIXTURE_VARIANT_ADD(twice, areas_2m)	{ .huge = 2 * MIB, .size = 4 * MIB };
FIXTURE_VARIANT_ADD(twice, areas_2m_one_table) { .huge = 2 * MIB, .size = GIB };
FIXTURE_VARIANT_ADD(twice, areas_32m)	{ .huge = 32 * MIB, .size = 64 * MIB };
FIXTURE_VARIANT_ADD(twice, areas_1g)	{ .huge = GIB, .size = GIB };
FIXTURE_VARIANT_ADD(twice, processes_64k) {
	.huge = 64 * KIB, .size = 128 * KIB, .processes = true };
FIXTURE_VARIANT_ADD(twice, processes_2m) {
	.huge = 2 * MIB, .size = 4 * MIB, .processes = true };
FIXTURE_VARIANT_ADD(twice, processes_2m_one_table) {
	.huge = 2 * MIB, .size = GIB, .processes = true };
FIXTURE_VARIANT_ADD(twice, processes_32m) {
	.huge = 32 * MIB, .size = 64 * MIB, .processes = true };
FIXTURE_VARIANT_ADD(twice, processes_1g) {
	.huge = GIB, .size = GIB, .processes = true };

FIXTURE_SETUP(twice)
{
	open_area(_metadata, &self->a);
	if (_metadata->exit_code == KSFT_SKIP)
		return;
	if (!map_clean_hugetlb(&self->a, variant->huge, variant->size))
		SKIP(return, "no huge pages of this size to be had");
	/* A page to tell by whether there is one table: read in one mapping alone */
	if (variant->size > variant->huge)
		ASSERT_EQ(0, load(self->a.addr + variant->huge));
}

FIXTURE_TEARDOWN(twice)
{
	sva_queue_close(&self->a.q);
}

/* Is the other mapping's table the same? Then it has the entry already */
static bool same_table(const struct area *a, const char *other, size_t huge)
{
	long faults;

	if (a->size == huge)
		return false;
	/* That the table itself is there takes a fault */
	load(other);
	faults = page_faults();
	load(other + huge);
	return page_faults() == faults;
}

/* Where the child says whether it has the parent's table, and then writes when told */
static void other_process(const struct area *a, size_t huge, int in, int out)
{
	char byte = same_table(a, a->addr, huge) ? 's' : 'n';

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run_on(1);
	if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1)
		_exit(2);
	store(a->addr + 8, BY_CPU);
	if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1)
		_exit(3);
	_exit(0);
}

TEST_F_TIMEOUT(twice, written, 120)
{
	struct area *a = &self->a;
	bool one_table = variant->huge == 2 * MIB && variant->size == GIB, same;
	char *other = a->addr, byte = 'g';
	int status;

	if (variant->processes) {
		ASSERT_EQ(0, pipe(self->to_child));
		ASSERT_EQ(0, pipe(self->from_child));
		self->child = fork();
		ASSERT_LE(0, self->child);
		if (!self->child)
			other_process(a, variant->huge, self->to_child[0], self->from_child[1]);
		ASSERT_EQ(1, read(self->from_child[0], &byte, 1));
		same = byte == 's';
	} else {
		/* The device has the second mapping */
		ASSERT_TRUE(map(a, a->size, MAP_SHARED | MAP_NORESERVE));
		a->step = variant->huge / SAMPLES;
		/* An area that may not be written shares no table with one that may */
		if (!one_table)
			ASSERT_TRUE(clean_hugetlb(a));
		same = same_table(a, a->addr, variant->huge);
	}
	ASSERT_EQ(one_table, same);

	device_reads_only(_metadata, a, 0);
	if (variant->processes) {
		ASSERT_EQ(1, write(self->to_child[1], &byte, 1));
		ASSERT_EQ(1, read(self->from_child[0], &byte, 1));
	} else {
		run_on(1);
		store(other + 8, BY_CPU);
	}
	ASSERT_EQ(BY_CPU, load(a->addr + 8));

	if (!a->served && !a->httu) {
		/* Whether the entry of this mapping is clean, or the SMMU's copy of it is */
		EXPECT_TRUE(device_faults(a, 0));
		renew(_metadata, a);
	}
	device_writes(_metadata, a, 0);
	device_writes(_metadata, a, SAMPLES - 1);
	if (variant->processes) {
		ASSERT_EQ(1, write(self->to_child[1], &byte, 1));
		ASSERT_EQ(self->child, waitpid(self->child, &status, 0));
		ASSERT_EQ(0, status);
	}
}

/*
 * SVA_LOCAL_FALLBACK=1: let other processes use up the ASIDs that can be shared, so
 * that the tests' own domains are invalidated by command where others are not.
 */
#define MAX_HOLDERS	256

static pid_t hold_pin(int ready)
{
	struct sva_queue q;
	pid_t pid;
	int ret;

	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Who reads the results waits for no holder */
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	ret = sva_queue_init(&q);
	if (write(ready, ret ? "f" : "r", 1) != 1 || ret)
		_exit(1);
	for (;;)
		pause();
}

static bool hold_all_pins(void)
{
	struct asid_trace trace;
	unsigned int i;
	int ready[2];
	char byte;

	if (asid_trace_open(&trace) || pipe(ready))
		return false;
	for (i = 0; i < MAX_HOLDERS && !trace.fallbacks; i++) {
		if (hold_pin(ready[1]) < 0 || read(ready[0], &byte, 1) != 1 || byte != 'r')
			break;
		asid_trace_update(&trace);
	}
	ksft_print_msg("%u processes share their ASID, others cannot\n", trace.shares);
	asid_trace_close(&trace);
	return trace.fallbacks;
}

int main(int argc, char *argv[])
{
	if (getenv("SVA_LOCAL_FALLBACK") && !hold_all_pins())
		ksft_exit_fail_msg("SVA_LOCAL_FALLBACK: there is still an ASID to be shared\n");
	return test_harness_run(argc, argv);
}
