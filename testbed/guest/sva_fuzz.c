// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random sequences of what changes address spaces and who shares them: bind, unbind,
 * map, unmap, protect, move, advise, fork, exec, exit. After each step the device
 * may do what the process may, and nothing else, and both find the same values.
 *
 *	sva-fuzz [-s SEED] [-n STEPS] [-c CASES] [-v]
 *
 * Prints KTAP, a case per seed. A seed gives the same steps each time, though not
 * the same reclaim and scheduling.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sva_testdev.h"

#define PAGE		4096UL
#define ARENA_PAGES	4096UL		/* eight blocks */
#define ARENA		(64UL << 30)
#define BLOCK		(2UL << 20)
#define MAX_RANGE	1024UL
#define QUEUES		3
#define MAX_DEPTH	3		/* of forks and execs */
#define PROBES		6		/* after each step */
#define STUCK		77		/* exit status: the device or the kernel hangs */
#define WRONG		78

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* What the process may do with a page */
enum may { NOTHING, READ, WRITE };

/* What the arena is made of */
static char *arena;
static unsigned char may[ARENA_PAGES];
/* Mapped with MAP_SHARED: relatives see the same, and only who has mapped it may write */
enum shared { OWN = 1, FOREIGN };
static unsigned char shared[ARENA_PAGES];
static struct sva_queue queue[QUEUES] = { { -1, NULL }, { -1, NULL }, { -1, NULL } };
static uint64_t bounce[8] __attribute__((aligned(64)));
static uint64_t rng;
static unsigned int steps, step, depth;
static bool verbose;
static uint64_t serial;

/* The last steps, for whoever has to find out */
#define HISTORY	12
static char history[HISTORY][96];

static uint64_t random64(void)
{
	/* xorshift64*, which is good enough, and the same everywhere */
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return rng * 0x2545f4914f6cdd1dULL;
}

static unsigned long below(unsigned long n)
{
	return (random64() >> 20) % n;
}

__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
	char *line = history[step % HISTORY];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(history[0]), fmt, ap);
	va_end(ap);
	if (verbose)
		printf("# %d %u: %s\n", getpid(), step, line);
}

__attribute__((format(printf, 2, 3), noreturn))
static void fail(int status, const char *fmt, ...)
{
	va_list ap;

	printf("# pid %d, depth %u, step %u of %u: ", getpid(), depth, step, steps);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	for (unsigned int i = step > HISTORY ? step - HISTORY + 1 : 0; i <= step; i++)
		printf("#   %u: %s\n", i, history[i % HISTORY]);
	fflush(stdout);
	_exit(status);
}

static char *at(unsigned long page)
{
	return arena + page * PAGE;
}

/* A word in the page that the CPU writes and the device reads; not the first one */
static uint64_t *word(unsigned long page)
{
	return (uint64_t *)(at(page) + (page * 40 % PAGE & ~7UL));
}

static void range(unsigned long *first, unsigned long *n)
{
	switch (below(4)) {
	case 0:		/* a block of PMD size, or more */
		*first = below(ARENA_PAGES * PAGE / BLOCK) * (BLOCK / PAGE);
		*n = BLOCK / PAGE * (1 + below(2));
		break;
	case 1:		/* a contiguous set, maybe */
		*first = below(ARENA_PAGES / 16) * 16;
		*n = 16 * (1 + below(4));
		break;
	default:
		*first = below(ARENA_PAGES);
		*n = 1 + below(below(2) ? 8 : MAX_RANGE);
	}
	if (*first + *n > ARENA_PAGES)
		*n = ARENA_PAGES - *first;
}

static void set(unsigned long first, unsigned long n, enum may m)
{
	memset(may + first, m, n);
}

/* Write pages of a range that may be written, all or some */
static void touch(unsigned long first, unsigned long n)
{
	unsigned long every = below(3) ? 1 : 1 + below(8);

	for (unsigned long p = first; p < first + n; p += every)
		if (may[p] == WRITE && shared[p] != FOREIGN)
			*word(p) = ++serial << 16 | depth;
}

static void do_map(void)
{
	unsigned long first, n;
	int prot = PROT_READ | PROT_WRITE, flags = MAP_FIXED, fd = -1, kind = below(8);
	void *p;

	range(&first, &n);
	if (kind < 5) {
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	} else if (kind == 5) {
		flags |= MAP_SHARED | MAP_ANONYMOUS;
	} else {
		fd = memfd_create("fuzz", 0);
		if (fd < 0 || ftruncate(fd, n * PAGE))
			fail(STUCK, "memfd: %m");
		flags |= kind == 6 ? MAP_PRIVATE : MAP_SHARED;
	}
	note("mmap(%lu, %lu, %#x)", first, n, flags);
	p = mmap(at(first), n * PAGE, prot, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED) {
		if (errno != ENOMEM)
			fail(STUCK, "mmap: %m");
		return;
	}
	set(first, n, WRITE);
	memset(shared + first, flags & MAP_SHARED ? OWN : 0, n);
	if (below(3) == 0)
		madvise(p, n * PAGE, MADV_HUGEPAGE);
	touch(first, n);
}

static void do_unmap(void)
{
	unsigned long first, n;

	range(&first, &n);
	note("munmap(%lu, %lu)", first, n);
	if (munmap(at(first), n * PAGE)) {
		if (errno != ENOMEM)
			fail(STUCK, "munmap: %m");
		return;
	}
	set(first, n, NOTHING);
	memset(shared + first, 0, n);
}

/* From the first page that is mapped in one piece, or nothing */
static bool mapped_run(unsigned long *first, unsigned long *n)
{
	unsigned char vec[MAX_RANGE * 2];
	unsigned long i;

	range(first, n);
	for (i = 0; i < *n; i++)
		if (mincore(at(*first + i), PAGE, vec))
			break;
	*n = i;
	return i;
}

static void do_protect(void)
{
	static const struct {
		int prot;
		enum may may;
	} kinds[] = {
		{ PROT_NONE, NOTHING },
		{ PROT_READ, READ },
		{ PROT_READ | PROT_WRITE, WRITE },
	};
	unsigned long first, n;
	unsigned int k = below(4);

	k = k == 3 ? 2 : k;
	if (!mapped_run(&first, &n))
		return;
	note("mprotect(%lu, %lu, %#x)", first, n, kinds[k].prot);
	if (mprotect(at(first), n * PAGE, kinds[k].prot)) {
		if (errno != ENOMEM && errno != EACCES)
			fail(STUCK, "mprotect: %m");
		return;
	}
	set(first, n, kinds[k].may);
	touch(first, n);
}

static void do_move(void)
{
	unsigned long first, n, to, i;
	void *p;

	if (!mapped_run(&first, &n))
		return;
	to = below(ARENA_PAGES - n + 1);
	if (below(2))
		to &= ~(BLOCK / PAGE - 1);
	/* mremap() takes a range that is all alike only, and no overlap */
	for (i = 1; i < n; i++)
		if (may[first + i] != may[first] || shared[first + i] != shared[first])
			break;
	n = i;
	if (to + n > ARENA_PAGES || (to < first + n && first < to + n))
		return;
	note("mremap(%lu, %lu, to %lu)", first, n, to);
	p = mremap(at(first), n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to));
	if (p == MAP_FAILED) {
		/* Several mappings; the target may have gone nevertheless */
		if (errno != EFAULT && errno != ENOMEM && errno != EINVAL)
			fail(STUCK, "mremap: %m");
		munmap(at(to), n * PAGE);
		munmap(at(first), n * PAGE);
		set(to, n, NOTHING);
		set(first, n, NOTHING);
		memset(shared + to, 0, n);
		memset(shared + first, 0, n);
		return;
	}
	memcpy(may + to, may + first, n);
	memcpy(shared + to, shared + first, n);
	set(first, n, NOTHING);
	memset(shared + first, 0, n);
	touch(to, n);
}

static void do_advise(void)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_COLLAPSE, MADV_MERGEABLE, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
	};
	int advice = advices[below(sizeof(advices) / sizeof(advices[0]))];
	unsigned long first, n;

	if (!mapped_run(&first, &n))
		return;
	note("madvise(%lu, %lu, %d)", first, n, advice);
	madvise(at(first), n * PAGE, advice);
	if (below(2))
		touch(first, n);
}

static void do_touch(void)
{
	unsigned long first, n;

	range(&first, &n);
	note("touch(%lu, %lu)", first, n);
	touch(first, n);
}

static void do_bind(void)
{
	struct sva_queue *q = &queue[below(QUEUES)];
	int ret;

	if (q->fd >= 0) {
		note("unbind %td", q - queue);
		sva_queue_close(q);
		return;
	}
	note("bind %td", q - queue);
	ret = sva_queue_init(q);
	if (ret && ret != -EBUSY)
		fail(STUCK, "bind: %s", strerror(-ret));
	if (ret)
		q->fd = -1;
}

static void run_child(void);

/* The queues are the parent's, and so is what it shares; all else is a copy */
static void adopt(void)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		if (queue[i].fd >= 0)
			close(queue[i].fd);
		queue[i] = (struct sva_queue){ -1, NULL };
	}
	for (unsigned long p = 0; p < ARENA_PAGES; p++)
		if (shared[p])
			shared[p] = FOREIGN;
	depth++;
	steps = 5 + below(steps / 3 + 1);
	step = 0;
}

static void reap(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		fail(STUCK, "waitpid: %m");
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		fail(WRONG, "child %d: signal %d", pid, WTERMSIG(status));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		fail(WEXITSTATUS(status), "child %d: status %d", pid, WEXITSTATUS(status));
}

static void do_fork(void)
{
	uint64_t seed = random64();
	int how = below(4);
	pid_t pid;

	if (depth >= MAX_DEPTH)
		return;
	note("fork, %s", how == 0 ? "exec" : how == 1 ? "kill" : "wait");
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		fail(STUCK, "fork: %m");
	if (!pid) {
		rng = seed | 1;
		adopt();
		if (how == 0) {
			char s[32], n[16], d[16];

			snprintf(s, sizeof(s), "%" PRIu64, rng);
			snprintf(n, sizeof(n), "%u", steps);
			snprintf(d, sizeof(d), "%u", depth);
			execl("/proc/self/exe", "sva-fuzz", "-s", s, "-n", n, "-d", d, NULL);
			fail(STUCK, "exec: %m");
		}
		run_child();
	}
	if (how == 1) {
		usleep(below(20000));
		kill(pid, SIGKILL);
	} else {
		/* What fork() made read-only is written while the child lives */
		touch(0, ARENA_PAGES);
	}
	reap(pid);
}

static struct sva_queue *any_queue(void)
{
	unsigned int i = below(QUEUES);

	for (unsigned int k = 0; k < QUEUES; k++, i = (i + 1) % QUEUES)
		if (queue[i].fd >= 0)
			return &queue[i];
	return NULL;
}

static void check(struct sva_queue *q, unsigned long page, bool write)
{
	struct sva_result res;
	uint64_t found, before = 0;
	int code;

	/* The CPU's word in the meantime, and in a page that fork() did not share */
	bounce[0] = 0x5a5a;
	if (shared[page] == FOREIGN)
		write = false;
	else if (may[page] == WRITE && below(2))
		*word(page) = ++serial << 16 | depth;
	if (may[page] != NOTHING && write)
		before = *(volatile uint64_t *)word(page);
	if (write)
		code = sva_atomic_add(q, 0, (__u64 *)word(page), 1, &res);
	else
		code = sva_copy(q, 0, bounce, word(page), 8, &res);
	if (code == SVATD_ST_FAULT)
		return;		/* not there, for the moment: the device may not be served */
	if (code != SVATD_ST_OK)
		fail(STUCK, "page %lu, %s: %s", page, write ? "write" : "read",
		     code < 0 ? "timeout" : sva_status_name(code));
	if (may[page] < (write ? WRITE : READ))
		fail(WRONG, "the device could %s page %lu", write ? "write" : "read", page);
	if (shared[page] == FOREIGN)
		return;		/* may have changed since */
	found = *(volatile uint64_t *)word(page);
	if (write && found != before + 1)
		fail(WRONG, "page %lu: %#" PRIx64 " plus 1 by the device is %#" PRIx64, page, before, found);
	if (!write && found != bounce[0])
		fail(WRONG, "page %lu: the device reads %#" PRIx64 ", the CPU %#" PRIx64, page, bounce[0], found);
}

/* Look where the last step was, and anywhere else, twice: the first look fills the TLB */
static void probe(void)
{
	struct sva_queue *q = any_queue();
	unsigned long page = 0, n = 0;

	if (!q)
		return;
	sscanf(strchr(history[step % HISTORY], '(') ?: "", "(%lu, %lu", &page, &n);
	for (unsigned int i = 0; i < PROBES; i++) {
		unsigned long p = n && i < PROBES / 2 ? page + below(n) : below(ARENA_PAGES);

		check(q, p, below(2));
	}
}

/* Have translations of a whole range before it changes */
static void fill(void)
{
	struct sva_queue *q = any_queue();
	unsigned long first, n;

	if (!q)
		return;
	range(&first, &n);
	for (unsigned long p = first; p < first + n && p < first + 64; p++)
		if (may[p] != NOTHING)
			check(q, p, may[p] == WRITE && below(2));
}

static void one_step(void)
{
	static void (*const what[])(void) = {
		do_map, do_map, do_map, do_unmap, do_unmap, do_protect, do_protect, do_protect,
		do_move, do_advise, do_advise, do_touch, do_touch, do_bind, do_fork,
	};

	history[step % HISTORY][0] = 0;
	if (below(3))
		fill();
	what[below(sizeof(what) / sizeof(what[0]))]();
	probe();
}

static void run_steps(void)
{
	do_bind();
	for (step = 0; step < steps; step++)
		one_step();
}

static void run_child(void)
{
	run_steps();
	fflush(stdout);
	_exit(0);
}

static void place_arena(void)
{
	/* Far below where mmap() puts what has no address of its own */
	arena = mmap((void *)ARENA, ARENA_PAGES * PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (arena != (char *)ARENA)
		fail(STUCK, "arena: %m");
	munmap(arena, ARENA_PAGES * PAGE);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1;
	unsigned int cases = 1, failed = 0;
	int opt, status;
	pid_t pid;

	steps = 300;
	while ((opt = getopt(argc, argv, "s:n:c:d:v")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			steps = strtoul(optarg, NULL, 0);
			break;
		case 'c':
			cases = strtoul(optarg, NULL, 0);
			break;
		case 'd':	/* for itself: a child that did exec() */
			depth = strtoul(optarg, NULL, 0);
			break;
		case 'v':
			verbose = true;
			break;
		default:
			return 2;
		}
	}
	if (depth) {
		rng = seed | 1;
		place_arena();
		run_child();
	}
	printf("KTAP version 1\n1..%u\n", cases);
	for (unsigned int i = 0; i < cases; i++) {
		fflush(stdout);
		pid = fork();
		if (pid < 0)
			return 1;
		if (!pid) {
			rng = (seed + i) * 0x9e3779b97f4a7c15ULL | 1;
			place_arena();
			run_child();
		}
		if (waitpid(pid, &status, 0) != pid)
			return 1;
		if (status) {
			failed++;
			printf("# status %#x; again with: sva-fuzz -s %" PRIu64 " -n %u\n", status, seed + i, steps);
		}
		printf("%sok %u fuzz.seed_%" PRIu64 "\n", status ? "not " : "", i + 1, seed + i);
	}
	return !!failed;
}
