// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preloaded by sva-run: bind the address space of an unmodified program, and of
 * each of its children, to sva-testdev; see to it that the SMMU has what is about
 * to change, and that it has lost what has gone.
 *
 * The program must not notice. A queue lives as long as its page is mapped, so no
 * descriptor is left open, there is no thread, no signal and no output. What is
 * bound depends on a page that fork() wipes: a child, however it came to be,
 * finds it empty and binds itself at the first call that leads here; vfork()
 * shares it, as it shares the address space; exec() runs the constructor again.
 * Unbound, the library maps the same pages and leaves it at that.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <misc/uacce/sva_testdev.h>
#include <misc/uacce/uacce.h>

#include "sva_run.h"

#define PAGE		4096UL
#define WINDOW		128	/* pages looked at at once */
#define MAX_WINDOWS	16	/* of a range */
#define PRESENT		(1ULL << 63)	/* in /proc/self/pagemap */
#define MAX_READS	32	/* pages of a range that the device reads */
#define MAX_GONE	4	/* of them, those that it is asked for later */
#define SWEEP_MS	500	/* between two sweeps of what is mapped */
#define SWEEP_RANGES	128	/* mappings that one sweep reads */
#define EVERY_CALL	128	/* from here on it looks only now and then: */
#define LOOK_MS		50
#define WAIT_MS		2000	/* for the device */

/* Wiped in a child by MADV_WIPEONFORK */
struct state {
	char *queue;		/* the queue page, NULL if not bound */
	bool tried;
	unsigned int slots;	/* in use, one bit each */
	uint64_t swept;		/* when, in ms */
	uint64_t looked;
	unsigned int calls;	/* that changed mappings */
};

/* Pages of a range that the device has read */
struct seen {
	unsigned int count;
	unsigned long page[MAX_GONE];
};

static struct state *state;
static struct sva_counters *counters;
static const char *device;
/* The program has unmapped what belongs to the library */
static bool lost;

extern int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static void bind_self(void)
{
	char *page;
	int fd, err;

	state->tried = true;
	count(&counters->processes, 1);
	if (!device) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (page != MAP_FAILED)
			madvise(page, PAGE, MADV_DONTFORK);
		return;
	}
	fd = open(device, O_RDWR | O_CLOEXEC);
	page = MAP_FAILED;
	if (fd >= 0 && !ioctl(fd, UACCE_CMD_START_Q))
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    UACCE_QFRT_MMIO * PAGE);
	err = errno;
	if (fd >= 0)
		close(fd);	/* the mapping keeps the queue */
	if (page != MAP_FAILED) {
		state->queue = page;
		count(&counters->bound, 1);
	} else if (err == EBUSY) {
		count(&counters->busy, 1);
	} else {
		count(&counters->refused, 1);
		counters->last_error = err;
	}
}

/* The queue page if this address space is bound; try to, if nobody has yet */
static char *bound(void)
{
	int err = errno;

	if (!state || lost)
		return NULL;
	if (!__atomic_exchange_n(&state->tried, true, __ATOMIC_ACQ_REL))
		bind_self();
	errno = err;
	return state->queue;
}

static uint32_t *reg32(char *queue, unsigned int slot, unsigned int offset)
{
	return (uint32_t *)(queue + SVATD_Q_SLOT(slot) + offset);
}

static uint64_t *reg64(char *queue, unsigned int slot, unsigned int offset)
{
	return (uint64_t *)(queue + SVATD_Q_SLOT(slot) + offset);
}

/*
 * Let the device compare a range with itself, page by page.
 * Returns SVATD_ST_*, or SVATD_ST_RUNNING if there was no slot or no end to it.
 */
static unsigned int device_read(char *queue, unsigned long addr, unsigned long len)
{
	unsigned int slot, code, spins = 0;
	uint64_t deadline;

	for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
		if (!(__atomic_fetch_or(&state->slots, 1U << slot, __ATOMIC_ACQUIRE) & 1U << slot))
			break;
	if (slot == SVATD_NUM_SLOTS)
		return SVATD_ST_RUNNING;

	__atomic_store_n(reg64(queue, slot, SVATD_SLOT_SRC), addr, __ATOMIC_RELAXED);
	__atomic_store_n(reg64(queue, slot, SVATD_SLOT_DST), addr, __ATOMIC_RELAXED);
	__atomic_store_n(reg64(queue, slot, SVATD_SLOT_LEN), len, __ATOMIC_RELAXED);
	/* What the program has written is in memory before the device looks */
	asm volatile("dsb sy" ::: "memory");
	__atomic_store_n(reg32(queue, slot, SVATD_SLOT_CMD), SVATD_OP_COMPARE, __ATOMIC_RELAXED);

	deadline = now_ms() + WAIT_MS;
	do {
		code = __atomic_load_n(reg32(queue, slot, SVATD_SLOT_STATUS), __ATOMIC_RELAXED) &
		       SVATD_STATUS_CODE;
		if (code != SVATD_ST_RUNNING)
			break;
		if (!(++spins % 64))
			sched_yield();
	} while (now_ms() < deadline);

	/* One that still runs, a stalled access for instance, keeps its slot */
	if (code != SVATD_ST_RUNNING)
		__atomic_fetch_and(&state->slots, ~(1U << slot), __ATOMIC_RELEASE);
	return code;
}

static bool mapped(unsigned long page)
{
	unsigned char vec = 0;

	return !syscall(SYS_mincore, page, PAGE, &vec) && (vec & 1);
}

static int proc(const char *path)
{
	return syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
}

/*
 * Let the device read what is there of a range, as pagemap has it: what is not
 * there would be a fault, and where faults are served the program could tell.
 */
static void read_range(char *queue, int pagemap, unsigned long addr, unsigned long len,
		       struct seen *seen)
{
	unsigned long end = addr + len, budget = MAX_READS, n, i, run;
	uint64_t vec[WINDOW];
	ssize_t got;

	for (int w = 0; w < MAX_WINDOWS && addr < end && budget; w++, addr += n * PAGE) {
		n = (end - addr + PAGE - 1) / PAGE;
		if (n > WINDOW)
			n = WINDOW;
		got = syscall(SYS_pread64, pagemap, vec, n * 8, addr / PAGE * 8);
		if (got <= 0)
			return;
		n = got / 8;
		for (i = 0; i < n && budget; i += run) {
			for (run = 0; i + run < n && run < budget && vec[i + run] & PRESENT; run++)
				;
			if (!run) {
				run = 1;
				continue;
			}
			device_read(queue, addr + i * PAGE, run * PAGE);
			count(&counters->translated, run);
			budget -= run;
			if (seen && seen->count < MAX_GONE)
				seen->page[seen->count++] = addr + i * PAGE;
			if (seen && seen->count < MAX_GONE && run > 1)
				seen->page[seen->count++] = addr + (i + run - 1) * PAGE;
		}
	}
}

/* Let the device read some of whatever is mapped */
static void sweep(char *queue)
{
	unsigned long from = 0, to = 0, *number = &from;
	char buf[512], perms[5] = "";
	enum { NUMBERS, PERMS, NAME } at = NUMBERS;
	unsigned int nperms = 0, ranges = 0;
	bool dev = false;
	int fd, pagemap, err = errno;
	ssize_t n;

	fd = proc("/proc/self/maps");
	pagemap = proc("/proc/self/pagemap");
	while (fd >= 0 && pagemap >= 0 && ranges < SWEEP_RANGES &&
	       (n = syscall(SYS_read, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			char c = buf[i];

			if (c == '\n') {
				if (perms[0] == 'r' && !dev)
					read_range(queue, pagemap, from, to - from, NULL);
				ranges++;
				from = to = 0;
				number = &from;
				at = NUMBERS;
				nperms = 0;
				dev = false;
			} else if (at == NUMBERS && c == '-') {
				number = &to;
			} else if (at == NUMBERS && c == ' ') {
				at = PERMS;
			} else if (at == NUMBERS) {
				*number = *number << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
			} else if (at == PERMS && nperms < 4) {
				perms[nperms++] = c;
			} else if (at == PERMS) {
				at = NAME;
			} else if (i >= 4 && !memcmp(buf + i - 4, "/dev/", 5)) {
				dev = true;	/* what a driver maps may be no memory */
			}
		}
	}
	if (fd >= 0)
		syscall(SYS_close, fd);
	if (pagemap >= 0)
		syscall(SYS_close, pagemap);
	errno = err;
}

/* A range is about to change */
static void before(const void *addr, size_t len, struct seen *seen)
{
	char *queue = bound();
	int pagemap, err = errno;

	seen->count = 0;
	if (!queue)
		return;
	/* A program that does nothing else must get on */
	if (state->calls++ > EVERY_CALL && now_ms() - state->looked < LOOK_MS)
		return;
	state->looked = now_ms();
	if (now_ms() - state->swept >= SWEEP_MS) {
		state->swept = now_ms();
		sweep(queue);
	}
	pagemap = proc("/proc/self/pagemap");
	if (pagemap >= 0) {
		read_range(queue, pagemap, (unsigned long)addr, len, seen);
		syscall(SYS_close, pagemap);
	}
	errno = err;
}

/*
 * What the device has read before has been unmapped. Another thread may have
 * mapped something there since, even without being seen by mincore(), but hardly
 * between each two of these.
 */
static void gone(const struct seen *seen)
{
	char *queue = seen->count ? bound() : NULL;
	int err = errno, times;
	uint64_t n;

	if (!queue)
		return;
	for (unsigned int i = 0; i < seen->count; i++) {
		for (times = 0; times < 3; times++)
			if (mapped(seen->page[i]) ||
			    device_read(queue, seen->page[i], 8) != SVATD_ST_OK ||
			    mapped(seen->page[i]))
				break;
		count(&counters->checked, 1);
		if (times < 3)
			continue;
		n = __atomic_fetch_add(&counters->stale, 1, __ATOMIC_RELAXED);
		if (n < SVA_RUN_STALE)
			counters->where[n] = seen->page[i];
	}
	errno = err;
}

static bool overlaps(const void *addr, size_t len, const void *page)
{
	return page && (char *)addr < (char *)page + PAGE && (char *)page < (char *)addr + len;
}

/* The program takes away what is the library's: go without, then */
static void yield_to(const void *addr, size_t len)
{
	if (!state || lost)
		return;
	if (overlaps(addr, len, state) || overlaps(addr, len, counters))
		lost = true;
	else if (overlaps(addr, len, state->queue))
		state->queue = NULL;
}

int munmap(void *addr, size_t len)
{
	struct seen seen;
	int ret;

	yield_to(addr, len);
	before(addr, len, &seen);
	ret = syscall(SYS_munmap, addr, len);
	if (!ret)
		gone(&seen);
	return ret;
}

int mprotect(void *addr, size_t len, int prot)
{
	struct seen seen;

	if (!(prot & PROT_READ) || !(prot & PROT_WRITE))
		yield_to(addr, len);
	before(addr, len, &seen);
	return syscall(SYS_mprotect, addr, len, (unsigned long)prot);
}

int madvise(void *addr, size_t len, int advice)
{
	struct seen seen;

	before(addr, len, &seen);
	return syscall(SYS_madvise, addr, len, (long)advice);
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	struct seen seen;

	if (flags & MAP_FIXED) {
		yield_to(addr, len);
		before(addr, len, &seen);
	}
	return (void *)syscall(SYS_mmap, addr, len, (unsigned long)prot, (unsigned long)flags,
			       (long)fd, offset);
}

void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
	__attribute__((alias("mmap")));

void *mremap(void *old, size_t old_len, size_t len, int flags, ...)
{
	struct seen seen;
	void *new = NULL, *ret;
	va_list ap;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(ap, flags);
		new = va_arg(ap, void *);
		va_end(ap);
	}
	yield_to(old, old_len);
	if (flags & MREMAP_FIXED)
		yield_to(new, len);
	before(old, old_len, &seen);
	ret = (void *)syscall(SYS_mremap, old, old_len, len, (unsigned long)flags, new);
	/* Moved, from beginning to end, and not onto itself */
	if (ret != MAP_FAILED && !(flags & MREMAP_DONTUNMAP) &&
	    ((char *)ret + len <= (char *)old || (char *)old + old_len <= (char *)ret))
		gone(&seen);
	return ret;
}

int shmdt(const void *addr)
{
	struct seen seen;
	int ret;

	/* Its size is the kernel's to know */
	before(addr, PAGE, &seen);
	ret = syscall(SYS_shmdt, addr);
	if (!ret)
		gone(&seen);
	return ret;
}

/* A child that fork() did not make, and that has an address space of its own */
struct start {
	int (*fn)(void *arg);
	void *arg;
};

static int start(void *arg)
{
	struct start *s = arg;

	bound();
	return s->fn(s->arg);
}

int clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...)
{
	struct start s = { fn, arg };
	pid_t *ptid, *ctid;
	void *tls;
	va_list ap;

	va_start(ap, arg);
	ptid = va_arg(ap, pid_t *);
	tls = va_arg(ap, void *);
	ctid = va_arg(ap, pid_t *);
	va_end(ap);
	/* The child has a copy of s, unless it shares memory, and is bound then */
	if (!fn || flags & CLONE_VM)
		return __clone(fn, stack, flags, arg, ptid, tls, ctid);
	return __clone(start, stack, flags, &s, ptid, tls, ctid);
}

/* What fork() is about to make read-only should be known to the SMMU as writable */
static void prepare(void)
{
	char *queue = bound();

	if (queue)
		sweep(queue);
}

static void child(void)
{
	bound();
}

static void __attribute__((constructor)) init(void)
{
	const char *path = getenv(SVA_RUN_COUNTERS);
	char *queue;
	void *page;
	int fd;

	if (!path)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	page = mmap(NULL, sizeof(*counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return;
	counters = page;
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || madvise(page, PAGE, MADV_WIPEONFORK))
		return;
	/* The environment may be gone when a child looks */
	device = getenv(SVA_RUN_DEVICE);
	if (device)
		device = strdup(device);
	state = page;
	pthread_atfork(prepare, NULL, child);
	queue = bound();
	if (queue)
		sweep(queue);
}
