// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Shared Virtual Addressing costs the process that uses it: instructions,
 * time, and commands to the SMMU per munmap(), mprotect() and madvise(), when
 * the process is bound to a device and when it is not. The device does nothing
 * meanwhile. With -l, the same of what happens once or seldom in the life of a
 * process: binding it, fork() and exec() of it, its end, and a store that the
 * kernel answers with TLB maintenance of one CPU.
 *
 *	sva_cost [-d DEVICE] [-m unbound|bound] [-n REPEATS] [-t THREADS]
 *		 [-s PAGES] [-b SMMU_BASE] [-l] [--json]
 *
 * DEVICE is anything whose open() binds the process: /dev/sva_testdev-N, the
 * character device of any other uacce accelerator, or /dev/uioN of
 * uio_pci_generic_sva.
 *
 * Instructions, user and kernel, are counted by the PMU on one CPU. Commands
 * are counted by the advance of SMMU_CMDQ_PROD, read through /dev/mem (which
 * wants CONFIG_STRICT_DEVMEM=n, and an SMMU that nobody else uses meanwhile; on
 * Tegra241 also arm_smmu_v3.bypass_vcmdq=1, as commands have other queues there).
 * So is whether the SMMU obeys the CPUs' broadcasts. What cannot be told on a
 * machine is printed as "-", or null.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kselftest.h"
#include "sva_smmu.h"
#include "sva_testdev.h"

/* UACCE_DEV_SVA of <misc/uacce/uacce.h>, whose BIT() user space has not */
#define UACCE_SVA	0x1

#define WARM_UP		5
#define COLLAPSE_TRIES	100
#define MAX_THREADS	64

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

enum action { MUNMAP, MPROTECT, MADVISE, BIND, UNBIND, FORK, EXEC, EXIT, LOCAL };

static const struct operation {
	const char *name;
	enum action action;
	bool thp;
} operations[] = {
	{ "munmap", MUNMAP, false },
	{ "mprotect", MPROTECT, false },
	{ "madvise", MADVISE, false },
	{ "munmap_thp", MUNMAP, true },
	{ "mprotect_thp", MPROTECT, true },
	{ "madvise_thp", MADVISE, true },
};

/*
 * Of a process that is not bound yet, or once more of one that is. What children
 * do counts as well, up to their end.
 */
static const struct operation life[] = {
	{ "bind", BIND, false },
	{ "unbind", UNBIND, false },
	{ "fork", FORK, false },
	{ "exec", EXEC, false },
	{ "exit", EXIT, false },
	{ "local_flush", LOCAL, false },
};

static const unsigned int sizes[] = { 1, 16, 64, 512, 4096 };

/* Of one operation: what was counted */
struct sample {
	double instructions;
	double ns;
};

/* Of all repeats: means, but where it says otherwise */
struct cost {
	double commands;
	double total_commands;	/* sum */
	double instructions;
	double median;		/* of the instructions */
	double spread;		/* their maximum - minimum */
	double ns;		/* median: an interrupt takes longer than the rest */
};

static struct {
	const char *device;
	unsigned int repeats;
	unsigned int threads;
	unsigned int pages;	/* or 0 for all of sizes[] */
	bool unbound;
	bool bound;
	bool json;
	bool life;
} options = { .repeats = 50, .threads = 1, .unbound = true, .bound = true };

static size_t page_size;
static size_t thp_size;
static struct smmu smmu;
static bool have_pmu;
/* What is counted when nothing is done */
static double pmu_overhead;
static bool first_row = true;

#define complain(fmt, ...) fprintf(stderr, "sva_cost: " fmt "\n", ##__VA_ARGS__)

#define die(status, fmt, ...) do {		\
	complain(fmt, ##__VA_ARGS__);		\
	exit(status);				\
} while (0)

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void smmu_open(__u64 base)
{
	int ret;

	if (!base) {
		complain("commands are not counted: no SMMUv3 found (-b SMMU_BASE)");
		return;
	}
	ret = smmu_map(&smmu, base);
	if (ret)
		complain("commands are not counted: the SMMU at %#llx cannot be mapped: %s", base,
			 strerror(-ret));
}

/*
 * Instructions
 */
static int pmu_open(bool children)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.disabled = 1,
		.pinned = 1,
		.exclude_hv = 1,
	};

	/* A child is not counted for its parent, so count all that this CPU does */
	return syscall(__NR_perf_event_open, &attr, children ? -1 : 0,
		       children ? sched_getcpu() : -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static void pmu_start(int fd)
{
	if (fd < 0)
		return;
	ioctl(fd, PERF_EVENT_IOC_RESET, 0);
	ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
}

static double pmu_stop(int fd)
{
	__u64 count;

	if (fd < 0)
		return 0;
	ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
	/* A pinned event in error state reads as end of file */
	if (read(fd, &count, sizeof(count)) != sizeof(count))
		die(KSFT_SKIP, "the PMU cannot count instructions all the time");
	return count;
}

/*
 * Operations
 */

/* Reserve address space for one operation, so that no neighbour merges */
static char *reserve(size_t size)
{
	size_t align = thp_size > page_size ? thp_size : page_size;
	char *p;

	p = mmap(NULL, size + 2 * align, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		die(1, "no address space: %m");
	return (char *)(((unsigned long)p + 2 * align - 1) & -align);
}

static void prepare(const struct operation *op, char *addr, size_t size)
{
	size_t i;

	if (mmap(addr, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != addr)
		die(1, "mmap of %zu bytes: %m", size);
	madvise(addr, size, op->thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (i = 0; i < size; i += page_size)
		__atomic_store_n(addr + i, 1, __ATOMIC_RELAXED);
	/* Now and then there is none to be had at once */
	for (i = 0; op->thp && madvise(addr, size, MADV_COLLAPSE); i++) {
		if (i == COLLAPSE_TRIES)
			die(1, "no transparent huge pages: %m");
		usleep(1000);
	}
}

/* Of an operation of life[]: the child that is to end, and how to tell it; the bond */
static pid_t child;
static int go[2];
static int bond;

static int wait_child(void)
{
	int status;

	return waitpid(child, &status, 0) != child || status;
}

/* A child that ends when it is told to, bound if this process is */
static void prepare_exit(bool bound)
{
	int ready[2];
	char c = 0;

	if (pipe(go) || pipe(ready))
		die(1, "pipe: %m");
	child = fork();
	if (child < 0)
		die(1, "fork: %m");
	if (!child) {
		close(go[1]);
		if (bound && open(options.device, O_RDWR) < 0)
			_exit(1);
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		_exit(read(go[0], &c, 1) != 0);
	}
	close(go[0]);
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		die(1, "the child cannot be bound");
	close(ready[0]);
}

static void prepare_life(const struct operation *op, char *addr, bool bound)
{
	int fd;

	switch (op->action) {
	case UNBIND:
		bond = open(options.device, O_RDWR);
		if (bond < 0)
			die(1, "%s: %m", options.device);
		break;
	case EXIT:
		prepare_exit(bound);
		break;
	case LOCAL:
		/* Clean and mapped read-only, until it is stored to */
		fd = memfd_create("sva_cost", 0);
		if (fd < 0 || ftruncate(fd, page_size) ||
		    mmap(addr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 0) != addr)
			die(1, "memfd: %m");
		close(fd);
		(void)__atomic_load_n(addr, __ATOMIC_RELAXED);
		break;
	default:
		break;
	}
}

/* The system call alone, as little as possible around it */
static int perform(const struct operation *op, char *addr, size_t size)
{
	switch (op->action) {
	case BIND:
		bond = open(options.device, O_RDWR);
		return bond < 0;
	case UNBIND:
		return close(bond);
	case FORK:
		child = fork();
		if (!child)
			_exit(0);
		return child < 0 || wait_child();
	case EXEC:
		child = vfork();
		if (!child) {
			execl("/proc/self/exe", "sva_cost", "--nothing", NULL);
			_exit(1);
		}
		return child < 0 || wait_child();
	case EXIT:
		close(go[1]);
		return wait_child();
	case LOCAL:
		__atomic_store_n(addr, 1, __ATOMIC_RELAXED);
		return 0;
	case MUNMAP:
		return munmap(addr, size);
	case MPROTECT:
		return mprotect(addr, size, PROT_READ);
	default:
		return madvise(addr, size, MADV_DONTNEED);
	}
}

/* Without an operation: what measuring itself counts */
static struct sample measure(int pmu, const struct operation *op, char *addr, size_t size)
{
	struct sample s;
	double start;
	int ret = 0;

	pmu_start(pmu);
	start = now_ns();
	if (op)
		ret = perform(op, addr, size);
	s.ns = now_ns() - start;
	s.instructions = pmu_stop(pmu) - pmu_overhead;
	if (ret)
		die(1, "%s: %m", op->name);
	return s;
}

static void pmu_calibrate(void)
{
	int i, fd = pmu_open(false);
	double least = 0;

	if (fd < 0) {
		complain("instructions are not counted: no PMU: %m");
		return;
	}
	for (i = 0; i < 100; i++) {
		struct sample s = measure(fd, NULL, NULL, 0);

		if (!i || s.instructions < least)
			least = s.instructions;
	}
	close(fd);
	if (!least) {
		complain("instructions are not counted: the PMU finds none");
		return;
	}
	have_pmu = true;
	pmu_overhead = least;
}

/* What remains after the operation goes, and the address space is as before */
static void clean_up(char *addr, size_t size)
{
	if (mmap(addr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
		 -1, 0) != addr)
		die(1, "mmap: %m");
}

static int compare_instructions(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;

	return (x->instructions > y->instructions) - (x->instructions < y->instructions);
}

static int compare_ns(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

static void evaluate(struct cost *cost, struct sample *s, unsigned int n)
{
	unsigned int i;

	qsort(s, n, sizeof(*s), compare_ns);
	cost->ns = (s[(n - 1) / 2].ns + s[n / 2].ns) / 2;
	qsort(s, n, sizeof(*s), compare_instructions);
	for (i = 0; i < n; i++)
		cost->instructions += s[i].instructions / n;
	cost->median = (s[(n - 1) / 2].instructions + s[n / 2].instructions) / 2;
	cost->spread = s[n - 1].instructions - s[0].instructions;
	cost->commands = cost->total_commands / n;
}

static struct sample *new_samples(unsigned int n)
{
	struct sample *s = calloc(n, sizeof(*s));

	if (!s)
		die(1, "no memory for %u samples", n);
	return s;
}

/* The page allocator's batches blur small operations: repeat them more often */
static unsigned int repeats(size_t size)
{
	return size <= 64 * page_size ? 8 * options.repeats : options.repeats;
}

/* One thread; commands are counted around each operation */
static struct cost cost_alone(const struct operation *op, size_t size, bool bound)
{
	unsigned int i, n = options.life ? options.repeats : repeats(size);
	struct sample *samples = new_samples(n);
	int pmu = have_pmu ? pmu_open(options.life) : -1;
	char *addr = reserve(size);
	struct cost cost = {};

	for (i = 0; i < WARM_UP + n; i++) {
		__u32 prod;
		struct sample s;

		if (options.life)
			prepare_life(op, addr, bound);
		else
			prepare(op, addr, size);
		prod = smmu_cmdq_prod(&smmu);
		s = measure(pmu, op, addr, size);
		if (i >= WARM_UP) {
			if (smmu.regs)
				cost.total_commands += smmu_cmdq_advance(&smmu, prod,
								 smmu_cmdq_prod(&smmu));
			samples[i - WARM_UP] = s;
		}
		clean_up(addr, size);
		if (op->action == BIND)
			close(bond);
	}
	evaluate(&cost, samples, n);
	free(samples);
	munmap(addr, size);
	if (pmu >= 0)
		close(pmu);
	return cost;
}

struct worker {
	pthread_t thread;
	const struct operation *op;
	size_t size;
	pthread_barrier_t *barrier;
	struct sample *samples;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	int pmu = have_pmu ? pmu_open(false) : -1;
	char *addr = reserve(w->size);
	unsigned int i;

	for (i = 0; i < WARM_UP + options.repeats; i++) {
		struct sample s;

		prepare(w->op, addr, w->size);
		pthread_barrier_wait(w->barrier);
		/* The main thread looks at CMDQ_PROD */
		pthread_barrier_wait(w->barrier);
		s = measure(pmu, w->op, addr, w->size);
		if (i >= WARM_UP)
			w->samples[i - WARM_UP] = s;
		pthread_barrier_wait(w->barrier);
		/* ... and looks again */
		pthread_barrier_wait(w->barrier);
		clean_up(addr, w->size);
	}
	if (pmu >= 0)
		close(pmu);
	return NULL;
}

/* All threads at once; commands are counted over all of them */
static struct cost cost_threads(const struct operation *op, size_t size)
{
	unsigned int i, n = options.repeats * options.threads;
	struct sample *samples = new_samples(n);
	struct worker w[MAX_THREADS];
	pthread_barrier_t barrier;
	struct cost cost = {};

	pthread_barrier_init(&barrier, NULL, options.threads + 1);
	for (i = 0; i < options.threads; i++) {
		w[i] = (struct worker) {
			.op = op,
			.size = size,
			.barrier = &barrier,
			.samples = samples + i * options.repeats,
		};
		if (pthread_create(&w[i].thread, NULL, work, &w[i]))
			die(1, "cannot create %u threads", options.threads);
	}
	for (i = 0; i < WARM_UP + options.repeats; i++) {
		__u32 prod;

		pthread_barrier_wait(&barrier);
		prod = smmu_cmdq_prod(&smmu);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		if (smmu.regs && i >= WARM_UP)
			cost.total_commands += smmu_cmdq_advance(&smmu, prod,
								 smmu_cmdq_prod(&smmu));
		pthread_barrier_wait(&barrier);
	}
	for (i = 0; i < options.threads; i++)
		pthread_join(w[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	evaluate(&cost, samples, n);
	free(samples);
	return cost;
}

/*
 * Output
 */
static const char *number(char *buf, size_t size, bool have, double value, int digits)
{
	if (have)
		snprintf(buf, size, "%.*f", digits, value);
	else
		snprintf(buf, size, "%s", options.json ? "null" : "-");
	return buf;
}

static const char *btm(const char *on, const char *off, const char *unknown)
{
	if (!smmu.regs)
		return unknown;
	return smmu_listens(&smmu) ? on : off;
}

static void print_row(const struct operation *op, unsigned int pages, bool bound,
		      const struct cost *c)
{
	char commands[32], total[32], instructions[32], median[32], spread[32], ns[32];

	number(commands, sizeof(commands), smmu.regs, c->commands, 2);
	number(total, sizeof(total), smmu.regs, c->total_commands, 0);
	number(instructions, sizeof(instructions), have_pmu, c->instructions, 1);
	number(median, sizeof(median), have_pmu, c->median, 1);
	number(spread, sizeof(spread), have_pmu, c->spread, 0);
	number(ns, sizeof(ns), true, c->ns, 0);

	if (options.json) {
		printf("%s\n  {\"op\": \"%s\", \"pages\": %u, \"bound\": %s, \"threads\": %u, ",
		       first_row ? "[" : ",", op->name, pages, bound ? "true" : "false",
		       options.threads);
		printf("\"page_size\": %zu, \"btm\": %s, ", page_size,
		       btm("true", "false", "null"));
		printf("\"commands\": %s, \"total_commands\": %s, ", commands, total);
		printf("\"instructions\": %s, \"median\": %s, ", instructions, median);
		printf("\"spread\": %s, \"ns\": %s}", spread, ns);
	} else {
		printf("%-14s %6u %6s %9s %9s %13s %11s %9s %9s\n", op->name, pages,
		       bound ? "yes" : "no", commands, total, instructions, median, spread, ns);
	}
	first_row = false;
	fflush(stdout);
}

static void print_head(void)
{
	if (options.json)
		return;
	printf("# page size %zu, %u repeats, %u threads, broadcast TLB maintenance %s\n",
	       page_size, options.repeats, options.threads, btm("on", "off", "-"));
	printf("# per operation, but total: all commands; ns: median\n");
	printf("%-14s %6s %6s %9s %9s %13s %11s %9s %9s\n", "# operation", "pages", "bound",
	       "commands", "total", "instructions", "median", "spread", "ns");
}

static void run_life(bool bound)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(life); i++) {
		struct cost cost = cost_alone(&life[i], page_size, bound);

		print_row(&life[i], 1, bound, &cost);
	}
}

static void run_all(bool bound)
{
	unsigned int i, j, n = options.pages ? 1 : ARRAY_SIZE(sizes);

	for (i = 0; i < ARRAY_SIZE(operations); i++) {
		const struct operation *op = &operations[i];

		for (j = 0; j < n; j++) {
			unsigned int pages = options.pages ?: sizes[j];
			size_t size = pages * page_size;
			struct cost cost;

			if (op->thp && (!thp_size || size % thp_size))
				continue;
			/* Many threads: their memory must exist at once */
			if (options.threads > 1 && !options.pages && pages > 512)
				continue;
			cost = options.threads > 1 ? cost_threads(op, size) :
						     cost_alone(op, size, bound);
			print_row(op, pages, bound, &cost);
		}
	}
}

/* A uacce device without SVA opens, but binds nothing; uio has no such flags */
static bool device_binds(const char *device)
{
	const char *name = strrchr(device, '/');
	unsigned int flags;
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/uacce/%s/flags", name ? name + 1 : device);
	f = fopen(path, "r");
	if (!f)
		return true;
	if (fscanf(f, "%u", &flags) != 1)
		flags = 0;
	fclose(f);
	return flags & UACCE_SVA;
}

/* Both in a process of its own, so that they differ in nothing else */
static void run_process(bool bound)
{
	const char *path = bound ? options.device : "/dev/null";
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die(1, "fork: %m");
	if (!pid) {
		int fd = open(path, O_RDWR);

		if (fd < 0)
			die(sva_skip_reason(-errno) ? KSFT_SKIP : 1, "%s: %m", path);
		if (options.life)
			run_life(bound);
		else
			run_all(bound);
		close(fd);
		exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		die(1, "waitpid: %m");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	first_row = false;
}

static void __noreturn help(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: sva_cost [-d DEVICE] [-m unbound|bound] [-n REPEATS] [-t THREADS]\n"
		"                [-s PAGES] [-b SMMU_BASE] [-l] [--json]\n"
		"  -d  what to bind to: a uacce device or a /dev/uioN of uio_pci_generic_sva\n"
		"      (default: the first /dev/sva_testdev-N)\n"
		"  -m  measure only this; default: both, unbound first\n"
		"  -n  how often each operation is measured (50); 8 times that up to 64 pages\n"
		"  -t  threads that do it at once (1)\n"
		"  -s  only this size, in pages (default: 1 to 4096, to 512 with threads)\n"
		"  -b  physical address of the SMMU's registers, if it is not found\n"
		"  -l  bind, unbind, fork, exec, exit, and a flush of one CPU's TLB instead\n"
		"  --json  a list of records instead of a table\n");
	exit(status);
}

static void parse(int argc, char **argv, __u64 *base)
{
	static const struct option longopts[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "nothing", no_argument, NULL, 'x' },
		{},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "d:m:n:t:s:b:ljh", longopts, NULL)) != -1) {
		switch (opt) {
		case 'd':
			options.device = optarg;
			break;
		case 'm':
			options.bound = !strcmp(optarg, "bound");
			options.unbound = !strcmp(optarg, "unbound");
			if (!options.bound && !options.unbound)
				help(1);
			break;
		case 'n':
			options.repeats = atoi(optarg);
			break;
		case 't':
			options.threads = atoi(optarg);
			break;
		case 's':
			options.pages = atoi(optarg);
			if (!options.pages)
				help(1);
			break;
		case 'b':
			*base = strtoull(optarg, NULL, 0);
			break;
		case 'l':
			options.life = true;
			break;
		case 'j':
			options.json = true;
			break;
		case 'x':
			/* What exec() starts */
			exit(0);
		case 'h':
			help(0);
		default:
			help(1);
		}
	}
	if (optind != argc || !options.repeats || !options.threads ||
	    options.threads > MAX_THREADS || (options.life && options.threads > 1))
		help(1);
}

static void find_thp(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "r");

	if (!f)
		return;
	if (fscanf(f, "%zu", &thp_size) != 1)
		thp_size = 0;
	fclose(f);
}

int main(int argc, char **argv)
{
	__u64 base = 0;
	cpu_set_t cpu;

	page_size = sysconf(_SC_PAGESIZE);
	parse(argc, argv, &base);
	if (!options.device)
		options.device = sva_device();
	if (options.bound || options.life) {
		if (!options.device)
			die(KSFT_SKIP, "no device to bind to (-d DEVICE), no /dev/sva_testdev-N");
		if (access(options.device, R_OK | W_OK))
			die(KSFT_SKIP, "%s: %m", options.device);
		if (!device_binds(options.device))
			die(KSFT_SKIP, "%s does not share address spaces", options.device);
	}
	find_thp();
	smmu_open(base ? base : smmu_find(options.device));

	/* One thread stays on one CPU; many shall run where they can */
	if (options.threads == 1) {
		CPU_ZERO(&cpu);
		CPU_SET(sched_getcpu(), &cpu);
		sched_setaffinity(0, sizeof(cpu), &cpu);
	}
	pmu_calibrate();

	print_head();
	if (options.unbound)
		run_process(false);
	if (options.bound)
		run_process(true);
	if (options.json)
		printf("%s\n", first_row ? "[]" : "\n]");
	return 0;
}
