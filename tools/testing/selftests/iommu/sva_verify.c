// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does this machine's SMMU obey the CPUs' broadcast TLB maintenance? For whoever has
 * to decide on arm_smmu_v3.btm, on the machine and with the firmware in question:
 * the table of Documentation/arch/arm64/smmu-btm.rst, carried out.
 *
 * A device reads and writes a page, so that the SMMU's TLB holds its translation.
 * The CPU changes the mapping, and the device accesses the same address again. This
 * is done for each kind of change, each size of page and from each CPU in turn. Every
 * page that the device may have a translation of stays allocated, to this program, so
 * that an access that should not have been possible does no damage and is found.
 *
 * That the TLB does hold a translation is shown, too: the kernel marks all pages of
 * the process old, without invalidation (/proc/self/clear_refs). If the device can
 * still read, and the page does not become young by that, nobody has walked. (Huge
 * pages of hugetlb are not marked.)
 *
 * Meanwhile a bystander, a process that has nothing to do with the device, takes the
 * memory that is free and looks for changes in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "kselftest.h"
#include "sva_device.h"
#include "sva_smmu.h"
#include "sva_testdev.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT		1
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB		4
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT		26
#endif

#define MIB			(1024 * 1024UL)
#define MAX_PAGE		(64 * MIB)	/* larger ones are too large to be tested */
#define MAX_DEVICES		64
#define MAX_KINDS		8
#define NAME_LEN		128
#define TEXT_LEN		256
#define TRIES			200	/* of an access that is allowed */
#define HOLD_TRIES		16
#define HANG_SECONDS		300	/* without one change in that time */
#define SHOWN			8	/* places where an SMMU does not obey */

/* Exit status */
enum { OBEYS, DISOBEYS, CANNOT_TELL, USAGE };

static const char * const verdicts[] = { "obeys", "does not obey", "cannot tell" };

enum change { REMAP, UNMAP, PROTECT, PROTECT_BACK, FORK, NR_CHANGES };

static const char * const change_names[] = {
	[REMAP] = "mmap_over",
	[UNMAP] = "munmap",
	[PROTECT] = "mprotect_read",
	[PROTECT_BACK] = "mprotect_back",
	[FORK] = "fork_and_store",
};

/* Pages of one size, as they can be had */
struct kind {
	char name[24];
	size_t size;
	enum { SMALL, THP, HUGETLB } way;
};

/* What was done on one CPU, with one kind of page and of change */
struct result {
	unsigned long rounds;
	bool wrong;
	bool absent;		/* there is no such page */
	char what[TEXT_LEN];
};

/* Of one device, written by the process that has it */
struct report {
	char error[TEXT_LEN];	/* why there is nothing to report, or no more */
	bool shares;		/* the kernel said that the process has an ASID of the CPUs' */
	bool falls_back;	/* ... that it has not */
	unsigned int held[MAX_KINDS];	/* of HOLD_TRIES; of hugetlb nobody can tell */
	bool hold_asked;	/* ... and one could */
	unsigned long progress;
	struct result result[];	/* [cpu][kind][change] */
};

struct bystander {
	pid_t pid;
	size_t bytes;
	unsigned int passes;
	unsigned long progress;
	unsigned long wrong;
	unsigned long early;	/* of them, before anything was tested */
	__u64 addr, expected, found;	/* of the first */
	__u64 *bait;		/* a page that the device's process can write to as well */
};

struct tested {
	char path[NAME_LEN];
	char smmu[SMMU_NAME_LEN];
	const struct sva_device_ops *ops;
	const char *skip;	/* why it is of no use */
	struct report *report;
	unsigned long damage;	/* found by the bystander while this was tested */
};

struct verdict {
	int code;
	char why[TEXT_LEN];
};

static struct {
	const char *devices[MAX_DEVICES];
	unsigned int nr_devices;
	unsigned long rounds;
	unsigned long seconds;
	unsigned long mib;
	bool limit;
	bool json;
	bool list;
	bool bait;
} options = { .rounds = 1000 };

static struct tested tested[MAX_DEVICES];
static unsigned int nr_tested;
static struct kind kinds[MAX_KINDS];
static unsigned int nr_kinds;
static int *cpus;
static unsigned int nr_cpus;
static size_t page_size;
static struct bystander *by;

static __u64 load(const void *p)
{
	return __atomic_load_n((const __u64 *)p, __ATOMIC_ACQUIRE);
}

static void store(void *p, __u64 value)
{
	__atomic_store_n((__u64 *)p, value, __ATOMIC_RELEASE);
}

static unsigned long count(unsigned long *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static unsigned long seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void *shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "sva_verify: no memory\n");
		exit(CANNOT_TELL);
	}
	return p;
}

static struct result *result_of(struct report *r, unsigned int cpu, unsigned int kind,
				enum change change)
{
	return &r->result[(cpu * nr_kinds + kind) * NR_CHANGES + change];
}

/* The first number in a file that @format finds */
static unsigned long file_number(const char *path, const char *format)
{
	unsigned long n = 0;
	char line[256];
	FILE *f = fopen(path, "r");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, format, &n) == 1)
			break;
	fclose(f);
	return n;
}

/*
 * The bystander
 */
#define CHUNK		MIB
#define WORDS		(CHUNK / sizeof(__u64))

static __u64 pattern(const __u64 *p)
{
	return (unsigned long)p * 0x9e3779b97f4a7c15ULL;
}

static size_t available(void)
{
	return file_number("/proc/meminfo", "MemAvailable: %lu kB") * 1024;
}

static __u64 *take_chunk(void)
{
	__u64 *p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (p == MAP_FAILED)
		return NULL;
	for (i = 0; i < WORDS; i++)
		p[i] = pattern(p + i);
	return p;
}

static void check_words(__u64 *p, size_t n)
{
	size_t i;
	__u64 found;

	for (i = 0; i < n; i++) {
		found = load(p + i);
		if (found == pattern(p + i))
			continue;
		if (!by->wrong) {
			by->addr = (unsigned long)(p + i);
			by->expected = pattern(p + i);
			by->found = found;
		}
		__atomic_add_fetch(&by->wrong, 1, __ATOMIC_RELEASE);
		store(p + i, pattern(p + i));
	}
	__atomic_add_fetch(&by->progress, 1, __ATOMIC_RELEASE);
}

/*
 * Takes what is free, up to a reserve for the rest of the machine, looks at it all
 * again and again, and exchanges some of it in between: pages that others have given
 * back are those that a stale translation leads to. If memory becomes short, it is
 * the first to be killed.
 */
static void __noreturn stand_by(size_t limit)
{
	size_t reserve = available() / 8 + 64 * MIB, max = available() / CHUNK, n = 0, i;
	__u64 **chunk;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open("/proc/self/oom_score_adj", O_WRONLY);
	if (fd < 0 || write(fd, "1000", 4) != 4)
		_exit(1);
	close(fd);
	setpriority(PRIO_PROCESS, 0, 19);
	if (limit && limit / CHUNK < max)
		max = limit / CHUNK;
	chunk = calloc(max + 1, sizeof(*chunk));
	if (!chunk)
		_exit(1);
	for (i = 0; i < page_size / 8; i++)
		store(by->bait + i, pattern(by->bait + i));
	for (;;) {
		while (n < max && available() > reserve) {
			chunk[n] = take_chunk();
			if (!chunk[n])
				break;
			n++;
			by->bytes = n * CHUNK;
			__atomic_add_fetch(&by->progress, 1, __ATOMIC_RELEASE);
		}
		for (i = 0; i < n; i++)
			check_words(chunk[i], WORDS);
		check_words(by->bait, page_size / 8);
		__atomic_add_fetch(&by->passes, 1, __ATOMIC_RELEASE);
		for (i = by->passes % 16; i < n; i += 16) {
			munmap(chunk[i], CHUNK);
			chunk[i] = take_chunk();
			if (!chunk[i])
				chunk[i] = chunk[--n];
			__atomic_add_fetch(&by->progress, 1, __ATOMIC_RELEASE);
		}
	}
}

/* Wait until it has looked at everything from now on. If it is dead, or hangs, pid is 0 */
static void bystander_looks(void)
{
	unsigned long last = 0, since = seconds();
	unsigned int want = by->passes + 2;

	while (__atomic_load_n(&by->passes, __ATOMIC_ACQUIRE) < want) {
		if (!by->pid || waitpid(by->pid, NULL, WNOHANG)) {
			by->pid = 0;
			return;
		}
		if (count(&by->progress) != last) {
			last = count(&by->progress);
			since = seconds();
		}
		if (seconds() - since > HANG_SECONDS) {
			kill(by->pid, SIGKILL);
			by->pid = 0;
			return;
		}
		usleep(10000);
	}
}

/*
 * The process that has the device
 */
struct worker {
	struct sva_device dev;
	struct report *r;
	struct result *res;
	const struct kind *kind;
	char *space;		/* where A is: no two tests use the same */
	char *window;		/* address A */
	char *keep;		/* where the two pages are kept, and looked at */
	int fd;
	__u64 serial;
};

/*
 * Two pages of a kind to change between: false if there are none. They are kept, and
 * the addresses are not used again, until the device is closed: an SMMU that does not
 * obey may hold translations of them.
 */
static bool make_pages(struct worker *w, const struct kind *kind)
{
	size_t size = kind->size;
	unsigned int flags = 0;
	char *space;

	if (kind->way == HUGETLB)
		flags = MFD_HUGETLB | __builtin_ctzl(size) << MFD_HUGE_SHIFT;
	w->kind = kind;
	w->fd = memfd_create("sva_verify", flags | MFD_CLOEXEC);
	if (w->fd < 0 || ftruncate(w->fd, 2 * size))
		return false;
	space = mmap(NULL, (5 + nr_cpus * NR_CHANGES + HOLD_TRIES) * size, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (space == MAP_FAILED)
		return false;
	w->keep = (char *)(((unsigned long)space + size - 1) & -size);
	w->space = w->keep + 2 * size;
	w->window = w->space;
	if (mmap(w->keep, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, w->fd, 0) ==
	    MAP_FAILED)
		return false;
	if (kind->way == THP) {
		size_t i;

		for (i = 0; i < 2 * size; i += page_size)
			store(w->keep + i, 0);
		if (madvise(w->keep, 2 * size, MADV_COLLAPSE))
			return false;
	}
	store(w->keep, 0);
	store(w->keep + size, 0);
	return true;
}

/*
 * The kernel does not mark locked pages old. A CPU whose TLB says otherwise does not make
 * them young again, and the device could not access them for as long.
 */
static void keep_young(struct worker *w)
{
	/* If it may not be locked, that is unlikely enough */
	syscall(__NR_mlock2, w->window, w->kind->size, MLOCK_ONFAULT);
}

/* Nothing is at A, and nothing else gets the address */
static bool reserve(struct worker *w)
{
	return mmap(w->window, w->kind->size, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Map a page of the two at A, with something in it, and writable and dirty */
static bool place(struct worker *w, unsigned int page, __u64 value)
{
	if (mmap(w->window, w->kind->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, w->fd,
		 page * w->kind->size) == MAP_FAILED)
		return false;
	keep_young(w);
	store(w->window, value);
	return true;
}

static __u64 kept(const struct worker *w, unsigned int page)
{
	return load(w->keep + page * w->kind->size);
}

static __printf(2, 3) bool wrong(struct worker *w, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(w->res->what, sizeof(w->res->what), format, args);
	va_end(args);
	w->res->wrong = true;
	return false;
}

static __printf(2, 3) bool give_up(struct worker *w, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(w->r->error, sizeof(w->r->error), format, args);
	va_end(args);
	return false;
}

/*
 * An access that is allowed. It may be refused for a while, as the kernel can put a page
 * elsewhere at any time; the CPU repairs that. An entry in the TLB that is stale, it does
 * not.
 */
static void touch(struct worker *w, bool writable)
{
	__u64 value = load(w->window);

	if (writable)
		store(w->window, value);
}

static bool may_read_if(struct worker *w, bool writable, __u64 expected, const char *when)
{
	unsigned int i;
	__u64 seen = 0;
	int ret = -EFAULT;

	for (i = 0; i < TRIES && ret == -EFAULT; i++) {
		if (i)
			touch(w, writable);
		ret = sva_device_read(&w->dev, w->window, &seen);
	}
	if (ret == -EFAULT)
		return wrong(w, "%s the device may not read, although the CPU may", when);
	if (ret)
		return give_up(w, "the device cannot read: %s", strerror(-ret));
	if (seen != expected)
		return wrong(w, "%s the device reads %#llx, not %#llx", when, seen, expected);
	return true;
}

static bool may_read(struct worker *w, __u64 expected, const char *when)
{
	return may_read_if(w, true, expected, when);
}

/* The CPU must not write there, either */
static bool may_read_alone(struct worker *w, __u64 expected, const char *when)
{
	return may_read_if(w, false, expected, when);
}

static bool may_write(struct worker *w, const char *when)
{
	__u64 value = ++w->serial;
	unsigned int i;
	int ret = -EFAULT;

	for (i = 0; i < TRIES && ret == -EFAULT; i++) {
		if (i)
			touch(w, true);
		ret = sva_device_write(&w->dev, w->window, value);
	}
	if (ret == -EFAULT)
		return wrong(w, "%s the device may not write, although the CPU may", when);
	if (ret)
		return give_up(w, "the device cannot write: %s", strerror(-ret));
	if (load(w->window) != value)
		return wrong(w, "%s the device writes to another page", when);
	return true;
}

static bool must_not_read(struct worker *w, const char *when)
{
	__u64 seen = 0;
	int ret = sva_device_read(&w->dev, w->window, &seen);

	if (!ret)
		return wrong(w, "%s the device still reads %#llx", when, seen);
	return ret == -EFAULT || give_up(w, "the device's refusal: %s", strerror(-ret));
}

static bool must_not_write(struct worker *w, unsigned int page, const char *when)
{
	__u64 before = kept(w, page);
	int ret = sva_device_write(&w->dev, w->window, ++w->serial);

	if (!ret || kept(w, page) != before)
		return wrong(w, "%s the device still writes%s", when,
			     kept(w, page) != before ? " to the old page" : "");
	return ret == -EFAULT || give_up(w, "the device's refusal: %s", strerror(-ret));
}

/* The device reads and writes, so that the TLB has the translation */
static bool prime(struct worker *w)
{
	return may_read(w, load(w->window), "before the change") &&
	       may_write(w, "before the change");
}

static bool try_remap(struct worker *w)
{
	static const char when[] = "after mmap() of another page over it";
	__u64 value = ++w->serial;

	if (!place(w, 0, ++w->serial) || !prime(w))
		return false;
	if (!place(w, 1, value))
		return false;
	return may_read(w, value, when) && may_write(w, when);
}

static bool try_unmap(struct worker *w)
{
	static const char when[] = "after munmap()";

	if (!place(w, 0, ++w->serial) || !prime(w))
		return false;
	if (munmap(w->window, w->kind->size))
		return false;
	return must_not_read(w, when) && must_not_write(w, 0, when);
}

static bool try_protect(struct worker *w)
{
	static const char when[] = "after mprotect(PROT_READ)";

	if (!place(w, 0, ++w->serial) || !prime(w))
		return false;
	if (mprotect(w->window, w->kind->size, PROT_READ))
		return false;
	return must_not_write(w, 0, when) && may_read_alone(w, kept(w, 0), when);
}

static bool try_protect_back(struct worker *w)
{
	static const char when[] = "after mprotect(PROT_READ)";
	static const char after[] = "after mprotect(PROT_READ | PROT_WRITE)";

	if (!place(w, 0, ++w->serial) || !prime(w))
		return false;
	if (mprotect(w->window, w->kind->size, PROT_READ) ||
	    !may_read_alone(w, kept(w, 0), when))
		return false;
	if (mprotect(w->window, w->kind->size, PROT_READ | PROT_WRITE))
		return false;
	return may_write(w, after);
}

/* The child keeps the page that was shared, and looks whether it changes */
static bool try_fork(struct worker *w)
{
	static const char when[] = "after fork() and a store";
	static const char child[] = "after fork()";
	size_t size = w->kind->size;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, status = 0, ends[2];
	__u64 value, seen;
	bool ok, lost;
	pid_t pid;

	if (w->kind->way == HUGETLB)
		flags |= MAP_HUGETLB | __builtin_ctzl(size) << MFD_HUGE_SHIFT;
	if (mmap(w->window, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
		return false;
	keep_young(w);
	if (w->kind->way == THP)
		madvise(w->window, size, MADV_HUGEPAGE);
	value = ++w->serial;
	store(w->window, value);
	if (w->kind->way == THP && madvise(w->window, size, MADV_COLLAPSE))
		return false;
	if (!may_read(w, value, "before the change") ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
		return false;
	pid = fork();
	if (pid < 0) {
		close(ends[0]);
		close(ends[1]);
		return give_up(w, "fork: %s", strerror(errno));
	}
	if (!pid) {
		close(ends[1]);
		seen = load(w->window);
		send(ends[0], &seen, sizeof(seen), MSG_NOSIGNAL);
		/* Ends as well when the parent is gone */
		recv(ends[0], &seen, sizeof(seen), 0);
		_exit(load(w->window) != value);
	}
	close(ends[0]);
	/* Some kernels lose huge pages in fork(): that is nobody's access */
	lost = recv(ends[1], &seen, sizeof(seen), 0) != sizeof(seen) ||
	       (w->kind->way == HUGETLB && !seen);
	/* In every other round what is held is what fork() left, not what was before */
	ok = lost || !(value % 2) || may_read_alone(w, value, child);
	store(w->window, ++w->serial);
	ok = ok && may_read(w, w->serial, when) && may_write(w, when);
	close(ends[1]);
	if (waitpid(pid, &status, 0) != pid)
		return give_up(w, "waitpid: %s", strerror(errno));
	/* It was killed, for want of memory or of huge pages: that is not, either */
	if (ok && (lost || !WIFEXITED(status))) {
		errno = ENOMEM;
		return false;
	}
	if (ok && status)
		ok = wrong(w, "%s the device writes to the child's page", when);
	return ok;
}

static bool (* const tries[])(struct worker *w) = {
	[REMAP] = try_remap,
	[UNMAP] = try_unmap,
	[PROTECT] = try_protect,
	[PROTECT_BACK] = try_protect_back,
	[FORK] = try_fork,
};

/* What smaps says of the mapping at A, in kB: -1 if nothing */
static long smaps_of(const struct worker *w, const char *format)
{
	unsigned long start, kb;
	bool here = false;
	char line[512];
	long ret = -1;
	FILE *f;

	f = fopen("/proc/self/smaps", "r");
	if (!f)
		return -1;
	while (ret < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%*x %*4c", &start) == 1 && strchr(line, '-'))
			here = start == (unsigned long)w->window;
		else if (here && sscanf(line, format, &kb) == 1)
			ret = kb;
	}
	fclose(f);
	return ret;
}

/* Has anybody walked to the page at A since it was marked old? */
static bool is_young(const struct worker *w)
{
	return smaps_of(w, "Referenced: %lu kB");
}

/* The device can read at A, and nobody has walked for that: 1, or 0 */
static int read_without_walk(struct worker *w)
{
	__u64 seen;
	int ret;

	/* The page that is copied to is mapped anew, and so is not old */
	madvise(w->dev.bounce, page_size, MADV_DONTNEED);
	store(w->dev.bounce, 0);
	ret = sva_device_read(&w->dev, w->window, &seen);
	return !ret && seen == w->serial && !is_young(w);
}

/*
 * Is a translation still held when walks would leave a trace, or fail? That the question
 * is a good one is seen from another page, which the device has not accessed before.
 */
static bool ask_whether_held(struct worker *w, unsigned int kind)
{
	char *here = w->space + nr_cpus * NR_CHANGES * w->kind->size, *other;
	unsigned int i, held = 0, blind = 0;
	int fd;

	/* Not next to it: smaps would show the two as one mapping */
	other = here + w->kind->size;

	fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	w->res = result_of(w->r, 0, kind, REMAP);
	for (i = 0; i < HOLD_TRIES; i++) {
		w->window = here;
		if (!place(w, 0, ++w->serial) || !prime(w))
			break;
		other += w->kind->size;
		w->window = other;
		if (place(w, 1, w->serial) && write(fd, "1", 1) == 1 && !is_young(w)) {
			blind += read_without_walk(w);
			w->window = here;
			held += read_without_walk(w);
			w->window = other;
		}
		reserve(w);
		__atomic_add_fetch(&w->r->progress, 1, __ATOMIC_RELEASE);
	}
	w->window = here;
	close(fd);
	/* Nothing was invalidated yet: it is the device, or its operations */
	if (!i && w->res->wrong) {
		w->res->wrong = false;
		return give_up(w, "%.200s", w->res->what);
	}
	/* What looks held without ever having been accessed, an SMMU may have guessed */
	w->r->hold_asked |= blind < HOLD_TRIES;
	w->r->held[kind] = held > blind ? held - blind : 0;
	return !w->r->error[0] && !w->res->wrong;
}

static bool run_on(struct worker *w, int cpu)
{
	cpu_set_t *set = CPU_ALLOC(cpu + 1);
	size_t size = CPU_ALLOC_SIZE(cpu + 1);
	int ret = -1;

	if (set) {
		CPU_ZERO_S(size, set);
		CPU_SET_S(cpu, size, set);
		ret = sched_setaffinity(0, size, set);
		CPU_FREE(set);
	}
	return !ret || give_up(w, "cannot run on CPU %d: %s", cpu, strerror(errno));
}

static void try_all(struct worker *w, unsigned int kind, unsigned long rounds)
{
	unsigned int cpu, change;
	unsigned long i;

	for (cpu = 0; cpu < nr_cpus; cpu++) {
		if (!run_on(w, cpus[cpu]))
			return;
		for (change = 0; change < NR_CHANGES; change++) {
			w->res = result_of(w->r, cpu, kind, change);
			w->window = w->space + (cpu * NR_CHANGES + change) * w->kind->size;
			for (i = 0; i < rounds && !w->res->wrong && !w->res->absent; i++) {
				errno = 0;
				if (!tries[change](w) && !w->res->wrong) {
					if (!w->r->error[0] && w->kind->way == SMALL)
						give_up(w, "%s: %s", change_names[change],
							strerror(errno));
					if (w->r->error[0])
						return;
					/* Huge pages may be used up by others */
					if (!w->res->rounds)
						w->res->absent = true;
					break;
				}
				w->res->rounds++;
				__atomic_add_fetch(&w->r->progress, 1, __ATOMIC_RELEASE);
			}
			/* What may be stale stays */
			if (!w->res->wrong)
				reserve(w);
		}
	}
}

/* Copy a page that the device may read to one that it may write: 0, or -errno */
static int copy_page(struct worker *w, char *dst, const char *src)
{
	unsigned int i;
	int ret = -EFAULT;

	/* The kernel can have marked one of them old, see may_read_if() */
	for (i = 0; i < TRIES && ret == -EFAULT; i++) {
		store(dst, load(src + 8));
		ret = sva_device_copy(&w->dev, dst, src, page_size);
	}
	return ret;
}

/*
 * Is it a device that copies, and that is refused what it may not do? The pages are
 * new, so that no TLB has anything of them: whatever is wrong here is wrong with the
 * device or its operations, and is no news of the SMMU.
 */
static bool is_of_use(struct worker *w)
{
	char *src, *dst, *only_read, *hole;
	__u64 seen = 0;
	unsigned int i;
	size_t n;
	int ret;

	src = mmap(NULL, 4 * page_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (src == MAP_FAILED)
		return give_up(w, "no memory");
	dst = src + page_size;
	only_read = dst + page_size;
	hole = only_read + page_size;
	if (mprotect(src, 2 * page_size, PROT_READ | PROT_WRITE) ||
	    mprotect(only_read, page_size, PROT_READ) || load(only_read))
		return give_up(w, "mprotect: %s", strerror(errno));
	/* Once more after the refusals, which the device has to survive */
	for (i = 0; i < 2; i++) {
		for (n = 0; n < page_size; n += 8)
			store(src + n, pattern((__u64 *)(src + n)) + i);
		ret = copy_page(w, dst, src);
		if (ret)
			return give_up(w, "not tested, as the device does not copy%s: %s",
				       i ? " after a refusal" : "", strerror(-ret));
		if (memcmp(dst, src, page_size))
			return give_up(w, "not tested, as the device does not copy what there is");
		ret = sva_device_read(&w->dev, hole, &seen);
		if (ret == -EFAULT)
			ret = sva_device_write(&w->dev, hole, 1);
		if (ret == -EFAULT)
			ret = sva_device_write(&w->dev, only_read, 1);
		if (!ret || load(only_read))
			return give_up(w, "not tested, as the device may do what nobody may");
		if (ret != -EFAULT)
			return give_up(w, "not tested, as the device takes a refusal for: %s",
				       strerror(-ret));
	}
	return true;
}

static void use_bait(struct worker *w)
{
	__u64 *last = by->bait + page_size / 8 - 1;

	if (sva_device_write(&w->dev, last, load(last)) ||
	    sva_device_write(&w->dev, by->bait + 1, 0x5ea0000000000000ULL))
		give_up(w, "the device cannot write to the bait");
}

/* Whether the kernel lets this process have an ASID of the CPUs', where it says so */
static void trace_self(struct asid_trace *t)
{
	char path[PATH_MAX], pid[16];
	int fd, len;

	if (asid_trace_open(t))
		return;
	/* Of this process alone */
	snprintf(path, sizeof(path), "%s/set_event_pid", t->instance);
	len = snprintf(pid, sizeof(pid), "%d", getpid());
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, pid, len) != len)
		asid_trace_close(t);
	if (fd >= 0)
		close(fd);
}

static bool any_wrong(const struct report *r)
{
	unsigned int i;

	for (i = 0; i < nr_cpus * nr_kinds * NR_CHANGES; i++)
		if (r->result[i].wrong)
			return true;
	return false;
}

static void __noreturn work(const struct tested *t, unsigned long rounds, bool first)
{
	struct worker w = { .r = t->report };
	struct asid_trace trace;
	const char *reason;
	unsigned int i;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	trace_self(&trace);
	ret = sva_device_open(&w.dev, t->path);
	if (ret) {
		reason = sva_skip_reason(ret);
		give_up(&w, "%s: %s%s%s", t->path, strerror(-ret), reason ? ": " : "",
			reason ? reason : "");
		asid_trace_close(&trace);
		_exit(0);
	}
	if (trace.pipe >= 0) {
		asid_trace_update(&trace);
		w.r->shares |= trace.shares;
		w.r->falls_back |= trace.fallbacks;
		asid_trace_close(&trace);
	}
	is_of_use(&w);
	/*
	 * If it does not obey, no larger pages: for those the kernel moves others, and then
	 * not even a page that stays allocated is where the device writes to.
	 */
	for (i = 0; i < nr_kinds && !w.r->error[0] && !any_wrong(w.r); i++) {
		if (!make_pages(&w, &kinds[i]) || !place(&w, 0, 1) ||
		    (kinds[i].way == THP && smaps_of(&w, "ShmemPmdMapped: %lu kB") <= 0)) {
			unsigned int cpu, change;

			for (cpu = 0; cpu < nr_cpus; cpu++)
				for (change = 0; change < NR_CHANGES; change++)
					result_of(w.r, cpu, i, change)->absent = true;
			continue;
		}
		/* One that is wrong before anything has changed is of no use */
		if (!first || ask_whether_held(&w, i))
			try_all(&w, i, rounds);
	}
	/* What is under way must not get to pages that are somebody else's next */
	ret = sva_device_quiesce(&w.dev);
	if (ret)
		give_up(&w, "%s does not come to rest: %s", t->path, strerror(-ret));
	if (options.bait && !w.r->error[0])
		use_bait(&w);
	sva_device_close(&w.dev);
	_exit(0);
}

/* Let a process use the device, and wait for it by its progress */
static void test_once(struct tested *t, unsigned long rounds, bool first)
{
	unsigned long last = 0, since = seconds();
	bool killed = false;
	int status = 0;
	pid_t pid, got;

	fflush(stdout);
	pid = fork();
	if (!pid)
		work(t, rounds, first);
	if (pid < 0) {
		snprintf(t->report->error, TEXT_LEN, "fork: %s", strerror(errno));
		return;
	}
	while (!(got = waitpid(pid, &status, WNOHANG))) {
		if (count(&t->report->progress) != last) {
			last = count(&t->report->progress);
			since = seconds();
		}
		if (seconds() - since > HANG_SECONDS) {
			/* Not even that: it hangs in the kernel */
			if (kill(pid, SIGKILL) || killed)
				return;
			killed = true;
			snprintf(t->report->error, TEXT_LEN, "%.100s: no progress for %d s",
				 t->path, HANG_SECONDS);
			since = seconds();
		}
		usleep(10000);
	}
	if (got != pid || (status && !t->report->error[0]))
		snprintf(t->report->error, TEXT_LEN, "the process that used %.100s ended with %#x",
			 t->path, status);
}

/*
 * What there is
 */
static void find_cpus(void)
{
	size_t size;
	cpu_set_t *set;
	int max = sysconf(_SC_NPROCESSORS_CONF), cpu;

	max = max < CPU_SETSIZE ? CPU_SETSIZE : max;
	set = CPU_ALLOC(max);
	size = CPU_ALLOC_SIZE(max);
	cpus = calloc(max, sizeof(*cpus));
	if (!set || !cpus || sched_getaffinity(0, size, set)) {
		fprintf(stderr, "sva_verify: which CPUs there are: %s\n", strerror(errno));
		exit(CANNOT_TELL);
	}
	for (cpu = 0; cpu < max; cpu++)
		if (CPU_ISSET_S(cpu, size, set))
			cpus[nr_cpus++] = cpu;
	CPU_FREE(set);
}

static void add_kind(int way, size_t size, const char *what)
{
	struct kind *k = &kinds[nr_kinds];

	if (nr_kinds == MAX_KINDS || !size || size > MAX_PAGE)
		return;
	k->way = way;
	k->size = size;
	if (size < MIB)
		snprintf(k->name, sizeof(k->name), "%zuK%s", size >> 10, what);
	else
		snprintf(k->name, sizeof(k->name), "%zuM%s", size >> 20, what);
	nr_kinds++;
}

/* Pages of hugetlb if some are free: to take them from others is not our affair */
static void find_kinds(void)
{
	unsigned long kb;
	char path[PATH_MAX];
	glob_t found;
	size_t i;

	add_kind(SMALL, page_size, "");
	add_kind(THP, file_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "%lu"),
		 " thp");
	if (glob("/sys/kernel/mm/hugepages/hugepages-*kB", 0, NULL, &found))
		return;
	for (i = 0; i < found.gl_pathc; i++) {
		snprintf(path, sizeof(path), "%s/free_hugepages", found.gl_pathv[i]);
		if (sscanf(strrchr(found.gl_pathv[i], '/'), "/hugepages-%lukB", &kb) == 1 &&
		    file_number(path, "%lu") >= 4)
			add_kind(HUGETLB, kb * 1024, " hugetlb");
	}
	globfree(&found);
}

/* A device that is known, or why it is of no use */
static void add_device(const char *path, const char *skip)
{
	struct tested *t = &tested[nr_tested];
	const char *dev = strrchr(path, ':');

	if (nr_tested == MAX_DEVICES)
		return;
	snprintf(t->path, sizeof(t->path), "%s", path);
	t->ops = sva_device_find(path);
	t->skip = skip;
	if (!t->ops && !skip)
		t->skip = "nobody has written operations for it (sva_device.h)";
	if (t->ops && t->ops->untested && !options.nr_devices && !skip)
		t->skip = "its operations have never run on hardware: -d uses it all the same";
	if (!smmu_name(dev ? dev + 1 : path, t->smmu)) {
		t->smmu[0] = '\0';
		t->skip = "it is behind no SMMU";
	}
	nr_tested++;
}

static void find_devices(void)
{
	char path[NAME_LEN], line[NAME_LEN];
	const char *name;
	glob_t found;
	size_t i;

	if (options.nr_devices) {
		for (i = 0; i < options.nr_devices; i++)
			add_device(options.devices[i], NULL);
		return;
	}
	if (!glob("/sys/class/uacce/*", 0, NULL, &found)) {
		for (i = 0; i < found.gl_pathc; i++) {
			name = strrchr(found.gl_pathv[i], '/') + 1;
			snprintf(path, sizeof(path), "/sys/class/uacce/%.64s/flags", name);
			snprintf(line, sizeof(line), "/dev/%.64s", name);
			add_device(line, file_number(path, "%lu") & 1 ? NULL :
				   "it does not share address spaces");
		}
		globfree(&found);
	}
	if (!glob("/sys/class/uio/*", 0, NULL, &found)) {
		for (i = 0; i < found.gl_pathc; i++) {
			name = strrchr(found.gl_pathv[i], '/') + 1;
			snprintf(path, sizeof(path), "/sys/class/uio/%.64s/device/pasid", name);
			snprintf(line, sizeof(line), "/dev/%.64s", name);
			/* Others give no address space to a device */
			if (!access(path, F_OK))
				add_device(line, NULL);
		}
		globfree(&found);
	}
}

/* Whether the SMMU is to obey, and who says so */
struct state {
	char dev[NAME_LEN];
	char text[TEXT_LEN];
	const char *source;
	bool known, on;
};

/* The last that the kernel logged of it, which nobody else can have written */
static bool state_from_log(struct state *s)
{
	static const char said[] = "broadcast TLB maintenance ";
	char line[8192], want[NAME_LEN + 3];
	bool found = false;
	const char *p, *q;
	ssize_t len;
	int fd;

	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return false;
	/* After the driver's name: the device's may end another's */
	snprintf(want, sizeof(want), " %s: ", s->dev);
	/* EPIPE: there were more records once */
	while ((len = read(fd, line, sizeof(line) - 1)) > 0 || (len < 0 && errno == EPIPE)) {
		line[len > 0 ? len : 0] = '\0';
		/* Of the kernel, not of a program: facility 0 */
		if (strtoul(line, NULL, 10) > 7)
			continue;
		p = strchr(line, ';');
		q = p ? strstr(p, want) : NULL;
		if (!q || strncmp(q + strlen(want), said, strlen(said)))
			continue;
		q += strlen(want) + strlen(said);
		s->on = !strncmp(q, "on", 2);
		snprintf(s->text, sizeof(s->text), "%.*s", (int)strcspn(q, "\n"), q);
		found = true;
	}
	close(fd);
	return found;
}

static bool state_from_registers(struct state *s, const char *smmu)
{
	struct smmu regs;
	__u64 base;

	if (sscanf(smmu, "smmu3.%llx", &base) != 1 || smmu_map(&regs, base))
		return false;
	s->on = smmu_listens(&regs);
	snprintf(s->text, sizeof(s->text), "%s", s->on ? "on" : "off");
	smmu_unmap(&regs);
	return true;
}

static bool state_from_parameter(struct state *s)
{
	char text[64] = "";
	FILE *f = fopen("/sys/module/arm_smmu_v3/parameters/btm", "r");

	if (!f) {
		snprintf(s->text, sizeof(s->text), "off: this kernel has no arm_smmu_v3.btm");
		return true;
	}
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	snprintf(s->text, sizeof(s->text), "off: not asked for by arm_smmu_v3.btm");
	/* Asked for is not all: then it is not known */
	return text[0] == 'N';
}

static struct state smmu_state(const char *smmu)
{
	char link[PATH_MAX], target[PATH_MAX];
	struct state s = {};
	ssize_t len;

	snprintf(link, sizeof(link), "/sys/class/iommu/%.64s/device", smmu);
	len = readlink(link, target, sizeof(target) - 1);
	if (len > 0) {
		target[len] = '\0';
		snprintf(s.dev, sizeof(s.dev), "%.*s", NAME_LEN - 1,
			 strrchr(target, '/') ? strrchr(target, '/') + 1 : target);
	}
	if (s.dev[0] && state_from_log(&s))
		s.source = "kernel log";
	else if (state_from_registers(&s, smmu))
		s.source = "SMMU_CR2";
	else if (state_from_parameter(&s))
		s.source = "module parameter";
	s.known = s.source;
	if (!s.known)
		snprintf(s.text, sizeof(s.text), "not known");
	return s;
}

/*
 * What comes of it
 */
static struct verdict judge(const char *smmu, const struct state *s)
{
	unsigned int i, n, cpu, kind, change, wrongs = 0, devices = 0, tests = 0;
	struct verdict v = { .code = CANNOT_TELL };
	bool private = false, unknown = false, rounds_missing = false, asked = false, held = true;
	unsigned long damage = 0;
	const char *skip = NULL, *failed = NULL;
	bool tried[MAX_KINDS] = {};

	for (i = 0; i < nr_tested; i++) {
		struct tested *t = &tested[i];

		if (strcmp(t->smmu, smmu))
			continue;
		if (t->skip) {
			skip = t->skip;
			continue;
		}
		/* Another device will do, if there is one */
		if (!t->report->progress && t->report->error[0] && !t->damage &&
		    !any_wrong(t->report)) {
			failed = t->report->error;
			continue;
		}
		devices++;
		damage += t->damage;
		asked |= t->report->hold_asked;
		private |= t->report->falls_back;
		unknown |= !t->report->shares && !t->report->falls_back;
		for (n = 0; n < nr_kinds; n++)
			held &= kinds[n].way == HUGETLB || t->report->held[n] ||
				result_of(t->report, 0, n, REMAP)->absent;
		for (cpu = 0; cpu < nr_cpus; cpu++)
			for (kind = 0; kind < nr_kinds; kind++)
				for (change = 0; change < NR_CHANGES; change++) {
					struct result *r = result_of(t->report, cpu, kind, change);

					tests += r->rounds != 0;
					tried[kind] |= r->rounds;
					rounds_missing |= !kind && !r->rounds && !r->wrong;
					if (r->wrong && !wrongs++)
						snprintf(v.why, sizeof(v.why),
							 "CPU %d, %.23s page: %.200s", cpus[cpu],
							 kinds[kind].name, r->what);
				}
		if (t->report->error[0] && !wrongs)
			snprintf(v.why, sizeof(v.why), "%s", t->report->error);
	}
	if (wrongs) {
		v.code = DISOBEYS;
	} else if (damage) {
		v.code = DISOBEYS;
		snprintf(v.why, sizeof(v.why),
			 "memory of another process was changed: %lu words, first at %#llx: %#llx, not %#llx",
			 damage, by->addr, by->found, by->expected);
	} else if (!devices && failed) {
		snprintf(v.why, sizeof(v.why), "%s", failed);
	} else if (!devices) {
		snprintf(v.why, sizeof(v.why), "no device behind it that can be used%s%s",
			 skip ? ": " : "", skip ? skip : "");
	} else if (v.why[0]) {
		/* said above */
	} else if (!tests || rounds_missing) {
		snprintf(v.why, sizeof(v.why), "not everything could be tried");
	} else {
		const char *but = NULL;

		if (!s->known)
			but = "whether broadcasts are relied on is not known (kernel log)";
		else if (!s->on)
			but = "it is told by command: broadcast TLB maintenance";
		else if (private)
			but = "the process got no ASID of the CPUs', and was told by command";
		else if (unknown)
			but = "whether the process has the CPUs' ASID is not known (tracefs)";
		else if (!held && asked)
			but = "no TLB held what was to be invalidated";
		else if (!held)
			but = "whether a TLB held anything cannot be seen (/proc/self/clear_refs)";
		else if (!by->pid || !by->bytes)
			but = "the bystander had no memory, or was killed for want of it (-m)";
		else if (by->early)
			but = "memory of another process was changed before the test";
		else if (nr_cpus < sysconf(_SC_NPROCESSORS_ONLN))
			but = "this program may not run on each CPU (taskset, cpuset)";
		if (but)
			snprintf(v.why, sizeof(v.why), "nothing is wrong, but %s%s%.120s", but,
				 s->known && !s->on ? " " : "", s->known && !s->on ? s->text : "");
		else
			v.code = OBEYS;
		for (kind = 0; !but && kind < nr_kinds; kind++) {
			n = strlen(v.why);
			if (!tried[kind])
				snprintf(v.why + n, sizeof(v.why) - n, "%s%.23s",
					 n ? ", " : "there were no pages of ", kinds[kind].name);
		}
	}
	if (v.code == DISOBEYS && (private || (s->known && !s->on))) {
		n = strlen(v.why);
		snprintf(v.why + n, sizeof(v.why) - n, ", although it is told by command");
	}
	return v;
}

static void json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void json_device(struct tested *t)
{
	unsigned int cpu, kind, change, n = 0;

	printf("{\"device\": ");
	json_string(t->path);
	printf(", \"kind\": ");
	json_string(t->ops ? t->ops->name : "");
	if (t->skip) {
		printf(", \"skipped\": ");
		json_string(t->skip);
		printf("}");
		return;
	}
	printf(", \"asid\": \"%s\", \"error\": ", t->report->falls_back ? "private" :
	       t->report->shares ? "shared" : "unknown");
	json_string(t->report->error);
	printf(", \"bystander_words_changed\": %lu, \"held\": {", t->damage);
	for (kind = 0; kind < nr_kinds; kind++) {
		printf("%s\"%s\": ", kind ? ", " : "", kinds[kind].name);
		if (kinds[kind].way == HUGETLB)
			printf("null");
		else
			printf("%u", t->report->held[kind]);
	}
	printf("}, \"tests\": [");
	for (cpu = 0; cpu < nr_cpus; cpu++)
		for (kind = 0; kind < nr_kinds; kind++)
			for (change = 0; change < NR_CHANGES; change++) {
				struct result *r = result_of(t->report, cpu, kind, change);

				printf("%s\n    {\"cpu\": %d, \"page\": \"%s\", ", n++ ? "," : "",
				       cpus[cpu], kinds[kind].name);
				printf("\"change\": \"%s\", \"rounds\": %lu, \"wrong\": ",
				       change_names[change], r->rounds);
				if (r->wrong)
					json_string(r->what);
				else
					printf("null");
				printf("}");
			}
	printf("]}");
}

static void print_device(struct tested *t)
{
	unsigned int cpu, kind, change, shown = 0, wrongs = 0;

	printf("  %s", t->path);
	if (t->skip) {
		printf(": not used, %s\n", t->skip);
		return;
	}
	printf(" (%s)%s\n", t->ops->name, t->report->falls_back ?
	       ", whose process has an ASID of its own" : t->report->shares ?
	       ", whose process has the CPUs' ASID" : "");
	if (!t->report->progress && !any_wrong(t->report)) {
		printf("    %s\n", t->report->error);
		return;
	}
	printf("    %-14s %8s", "page", "held");
	for (change = 0; change < NR_CHANGES; change++)
		printf(" %14s", change_names[change]);
	printf("\n");
	for (kind = 0; kind < nr_kinds; kind++) {
		printf("    %-14s ", kinds[kind].name);
		if (kinds[kind].way == HUGETLB)
			printf("%8s", "-");
		else
			printf("%5u/%2u", t->report->held[kind], HOLD_TRIES);
		for (change = 0; change < NR_CHANGES; change++) {
			unsigned long rounds = 0, wrong = 0;
			char text[48];

			for (cpu = 0; cpu < nr_cpus; cpu++) {
				struct result *r = result_of(t->report, cpu, kind, change);

				rounds += r->rounds;
				wrong += r->wrong;
			}
			if (wrong)
				snprintf(text, sizeof(text), "%lu of %u CPUs", wrong, nr_cpus);
			else
				snprintf(text, sizeof(text), "%lu", rounds);
			printf(" %14s", text);
		}
		printf("\n");
	}
	for (cpu = 0; cpu < nr_cpus; cpu++)
		for (kind = 0; kind < nr_kinds; kind++)
			for (change = 0; change < NR_CHANGES; change++) {
				struct result *r = result_of(t->report, cpu, kind, change);

				if (!r->wrong || ++wrongs > SHOWN)
					continue;
				printf("    CPU %d, %s page, round %lu: %s\n", cpus[cpu],
				       kinds[kind].name, r->rounds, r->what);
				shown++;
			}
	if (wrongs > shown)
		printf("    and %u more (--json)\n", wrongs - shown);
	if (t->report->error[0])
		printf("    %s\n", t->report->error);
}

/* Which SMMUs are asked for: all, or those of the devices that were named */
static bool is_asked_for(const char *smmu)
{
	unsigned int i;

	for (i = 0; i < nr_tested; i++)
		if (!strcmp(tested[i].smmu, smmu))
			return true;
	return !options.nr_devices;
}

static void print_bystander_json(void)
{
	printf("],\n \"bystander\": {\"mib\": %zu, \"passes\": %u, ", by->bytes / MIB, by->passes);
	printf("\"words_changed\": %lu, \"killed\": %s}}\n", by->wrong,
	       by->passes && !by->pid ? "true" : "false");
}

static int print_all(void)
{
	unsigned int i, nr[3] = {}, n = 0, first = 1;
	struct utsname uts;
	const char *name;
	glob_t found;
	int ret;

	uname(&uts);
	ret = glob("/sys/class/iommu/smmu3.*", 0, NULL, &found);
	if (options.json) {
		printf("{\"kernel\": ");
		json_string(uts.release);
		printf(", \"cpus\": %u, \"smmus\": [", nr_cpus);
	} else {
		printf("Linux %s, %u CPUs\n", uts.release, nr_cpus);
	}
	for (i = 0; !ret && i < found.gl_pathc; i++) {
		struct state s;
		struct verdict v;
		unsigned int d;

		name = strrchr(found.gl_pathv[i], '/') + 1;
		if (!is_asked_for(name))
			continue;
		s = smmu_state(name);
		if (!options.list)
			v = judge(name, &s);
		n++;
		if (options.json) {
			printf("%s\n {\"smmu\": ", n > 1 ? "," : "");
			json_string(name);
			printf(", \"name\": ");
			json_string(s.dev);
			printf(", \"btm\": ");
			json_string(s.text);
			printf(", \"btm_from\": ");
			json_string(s.known ? s.source : "");
			if (!options.list) {
				printf(", \"verdict\": \"%s\", \"why\": ", verdicts[v.code]);
				json_string(v.why);
			}
			printf(", \"devices\": [");
		} else {
			printf("SMMU %s (%s): broadcast TLB maintenance %s%s%s%s\n", name, s.dev,
			       s.text, s.known ? " (" : "", s.known ? s.source : "",
			       s.known ? ")" : "");
		}
		for (d = 0, first = 1; d < nr_tested; d++) {
			if (strcmp(tested[d].smmu, name))
				continue;
			if (options.list && options.json) {
				printf("%s", first ? "" : ", ");
				json_string(tested[d].path);
			} else if (options.list) {
				printf("  %s: %s\n", tested[d].path,
				       tested[d].skip ? tested[d].skip : tested[d].ops->name);
			} else if (options.json) {
				printf("%s\n  ", first ? "" : ",");
				json_device(&tested[d]);
			} else {
				print_device(&tested[d]);
			}
			first = 0;
		}
		if (options.json)
			printf("]}");
		if (options.list)
			continue;
		nr[v.code]++;
		if (!options.json)
			printf("  %s%s%s\n", verdicts[v.code], v.why[0] ? ": " : "", v.why);
	}
	if (!ret)
		globfree(&found);
	if (options.json)
		print_bystander_json();
	else if (!options.list && by->passes)
		printf("Bystander: %zu MiB, looked at %u times, %lu words changed%s\n",
		       by->bytes / MIB, by->passes, by->wrong, by->pid ? "" : "; killed");
	if (!options.json)
		for (i = 0; i < nr_tested; i++)
			if (!tested[i].smmu[0])
				printf("%s: not used, %s\n", tested[i].path, tested[i].skip);
	if (!n && !options.json)
		printf("cannot tell: there is no SMMUv3%s\n", options.nr_devices ?
		       " that these devices are behind" : "");
	if (options.list)
		return OBEYS;
	if (nr[DISOBEYS])
		return DISOBEYS;
	return nr[CANNOT_TELL] || !n ? CANNOT_TELL : OBEYS;
}

static void __noreturn help(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: sva_verify [-d DEVICE]... [-n ROUNDS] [-t SECONDS] [-m MIB] [--json] [--list]\n"
		"  -d  a device to use, and to judge its SMMU alone; default: all that are known, but\n"
		"      those whose operations have never run on hardware\n"
		"  -n  rounds of each change, on each CPU, with each size of page (1000)\n"
		"  -t  go on for as long, in rounds of that many\n"
		"  -m  what the bystander may take (default: 7/8 of what is available - 64 MiB)\n"
		"  --json  everything, for programs\n"
		"  --list  the SMMUs and devices there are; nothing is tested\n"
		"  --bait  test the test: let the device change memory of the bystander's\n"
		"Exit status: 0 every SMMU obeys, 1 one does not, 2 of one it cannot be told, 3 usage\n");
	exit(status);
}

static unsigned long parse_number(char opt, const char *text, unsigned long min, unsigned long max)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || n < min || n > max) {
		fprintf(stderr, "sva_verify: -%c %s: no such number, it is from %lu to %lu\n",
			opt, text, min, max);
		exit(USAGE);
	}
	return n;
}

static void parse(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "list", no_argument, NULL, 'l' },
		{ "bait", no_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "d:n:t:m:h", longopts, NULL)) != -1) {
		switch (opt) {
		case 'd':
			if (options.nr_devices == MAX_DEVICES || strlen(optarg) >= NAME_LEN) {
				fprintf(stderr, "sva_verify: -d: too many, or too long\n");
				exit(USAGE);
			}
			if (!sva_device_find(optarg)) {
				fprintf(stderr, "sva_verify: -d %s: no device that is known%s\n",
					optarg, access(strchr(optarg, '/') ? strchr(optarg, '/') :
						       optarg, F_OK) ? ", and there is none" : "");
				exit(USAGE);
			}
			options.devices[options.nr_devices++] = optarg;
			break;
		case 'n':
			options.rounds = parse_number(opt, optarg, 1, 100000000);
			break;
		case 't':
			options.seconds = parse_number(opt, optarg, 1, 100000000);
			break;
		case 'm':
			options.mib = parse_number(opt, optarg, 1, 1UL << 30);
			break;
		case 'j':
			options.json = true;
			break;
		case 'l':
			options.list = true;
			break;
		case 'b':
			options.bait = true;
			break;
		case 'h':
			help(0);
		default:
			help(USAGE);
		}
	}
	if (optind != argc) {
		fprintf(stderr, "sva_verify: %s: unknown argument\n", argv[optind]);
		help(USAGE);
	}
}

static bool is_anything_to_test(void)
{
	unsigned int i;

	for (i = 0; i < nr_tested; i++)
		if (!tested[i].skip)
			return true;
	return false;
}

static bool is_finished(const struct tested *t)
{
	return t->skip || t->report->error[0] || t->damage || any_wrong(t->report);
}

static void test_all(void)
{
	unsigned long end = seconds() + options.seconds, before;
	bool first = true, found;
	unsigned int i;

	do {
		found = false;
		for (i = 0; i < nr_tested; i++) {
			struct tested *t = &tested[i];

			if (is_finished(t))
				continue;
			before = count(&by->wrong);
			test_once(t, options.rounds, first);
			bystander_looks();
			t->damage += count(&by->wrong) - before;
			found |= !is_finished(t);
		}
		first = false;
	} while (found && options.seconds && seconds() < end);
}

int main(int argc, char **argv)
{
	unsigned int i;
	int status;
	pid_t pid;

	page_size = sysconf(_SC_PAGESIZE);
	parse(argc, argv);
	find_cpus();
	find_kinds();
	by = shared_memory(sizeof(*by));
	by->bait = shared_memory(page_size);
	find_devices();
	if (options.list)
		return print_all();
	for (i = 0; i < nr_tested; i++)
		tested[i].report = shared_memory(sizeof(struct report) + nr_cpus * nr_kinds *
						 NR_CHANGES * sizeof(struct result));
	if (is_anything_to_test()) {
		pid = fork();
		if (!pid)
			stand_by(options.mib * MIB);
		by->pid = pid > 0 ? pid : 0;
		bystander_looks();
		by->early = count(&by->wrong);
		test_all();
	}
	status = print_all();
	if (by->pid) {
		kill(by->pid, SIGKILL);
		waitpid(by->pid, NULL, 0);
	}
	return status;
}
