// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing by many processes at once, and by processes that
 * end in the middle of DMA: each works in its own address space only, and
 * leaves nothing behind.
 *
 * What is looked at afterwards: the device's free queues, that new processes
 * can bind, and the kernel log. A leaked PASID shows when there are few of
 * them (QEMU: -global arm-smmuv3.ssidsize=8).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"

#define PROCESSES	64
#define ROUNDS		16
#define BIND_CYCLES	300

/* The same in every process, and in no mapping of its own accord */
#define ADDRESS		((char *)0x1000000000)
#define BUF_PAGES	4

/*
 * What the kernel may say about the SMMU while processes die with DMA running.
 * Their contexts are quiet by then: the bound allows for stray events only.
 */
#define MAX_SMMU_LINES	12

static size_t page_size;
static size_t buf_size;

/* Shared by a test and its children */
struct shared {
	unsigned int ready;
	unsigned int go;
	unsigned int bad;
};

static struct shared *shared_new(void)
{
	void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Wait until *p has reached @value: true, or false after a long while */
static bool reached(unsigned int *p, unsigned int value)
{
	int ms;

	for (ms = 0; ms < 3 * SVA_TIMEOUT_MS; ms++) {
		if (__atomic_load_n(p, __ATOMIC_ACQUIRE) >= value)
			return true;
		usleep(1000);
	}
	return false;
}

static void add(unsigned int *p)
{
	__atomic_fetch_add(p, 1, __ATOMIC_ACQ_REL);
}

/* All queues given back: those of a killed process follow a moment later */
static bool queues_return_to(long expected)
{
	long now = -1;
	int ms;

	for (ms = 0; ms < SVA_TIMEOUT_MS; ms += 10) {
		if (sva_device_attr("available_instances", &now))
			return false;
		if (now == expected)
			return true;
		usleep(10000);
	}
	ksft_print_msg("%ld queues available, %ld before\n", now, expected);
	return false;
}

/* The kernel log from here on; -1 if it cannot be read */
static int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* Is what the kernel said since kmsg_open() acceptable? */
static bool kmsg_clean(int fd)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "Oops", "Call trace:", "INFO: task", "list_del corruption",
		"CMD_SYNC timeout", "evtq overrun", "EVTQ overflow",
	};
	unsigned int i, smmu = 0;
	bool clean = true;
	char line[1024];
	ssize_t len;

	if (fd < 0)
		return true;
	for (;;) {
		len = read(fd, line, sizeof(line) - 1);
		if (len < 0 && errno == EPIPE) {
			ksft_print_msg("the kernel log overflowed\n");
			clean = false;
			continue;
		}
		if (len <= 0)
			break;
		line[len] = '\0';
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			if (strstr(line, bad[i])) {
				ksft_print_msg("kernel log: %s", line);
				clean = false;
			}
		}
		if (strstr(line, "arm-smmu-v3"))
			smmu++;
	}
	close(fd);
	if (smmu > MAX_SMMU_LINES) {
		ksft_print_msg("%u lines of the SMMU's in the kernel log\n", smmu);
		clean = false;
	}
	return clean;
}

FIXTURE(process)
{
	struct shared *shared;
	long queues;
	int kmsg;
};

FIXTURE_SETUP(process)
{
	struct rlimit no_core = { };
	struct sva_queue q;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	buf_size = BUF_PAGES * page_size;
	ret = sva_queue_init(&q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	sva_queue_close(&q);
	setrlimit(RLIMIT_CORE, &no_core);
	self->shared = shared_new();
	ASSERT_NE(NULL, self->shared);
	ASSERT_EQ(0, sva_device_attr("available_instances", &self->queues));
	self->kmsg = kmsg_open();
	if (self->kmsg < 0)
		ksft_print_msg("cannot read the kernel log: not checked\n");
}

FIXTURE_TEARDOWN(process)
{
}

/* Data that tells which process and which page it belongs to */
static __u64 tag(unsigned int id, unsigned int page)
{
	return 0x5a00000000000000ULL | (__u64)id << 16 | page;
}

static void *buffer_at(char *addr)
{
	void *p;

	p = mmap(addr, buf_size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_FIXED_NOREPLACE,
		 -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void tag_buffer(void *buf, unsigned int id)
{
	__u64 *p = buf;
	size_t i;

	for (i = 0; i < buf_size / sizeof(*p); i++)
		p[i] = tag(id, i * sizeof(*p) / page_size);
}

/*
 * One of many: keep a poll over the first half of the buffer running, and copy
 * that half to the other, again and again. Never may there be another's data.
 */
static int one_of_many(unsigned int id, struct shared *shared)
{
	char *half = ADDRESS + buf_size / 2;
	struct sva_result res;
	struct sva_queue q;
	int i, ret = 1;

	if (!buffer_at(ADDRESS))
		return 2;
	if (sva_queue_init(&q))
		return 3;
	tag_buffer(ADDRESS, id);
	add(&shared->ready);
	if (!reached(&shared->go, 1))
		return 4;

	sva_poll_start(&q, 1, ADDRESS, 2 * page_size, page_size / 4, tag(id, 0),
		       tag(id, 1));
	for (i = 0; i < ROUNDS; i++) {
		memset(half, 0, buf_size / 2);
		if (sva_copy(&q, 0, half, ADDRESS, buf_size / 2, NULL) != SVATD_ST_OK ||
		    memcmp(half, ADDRESS, buf_size / 2) ||
		    sva_compare(&q, 0, half, ADDRESS, buf_size / 2, NULL) != SVATD_ST_OK)
			goto out;
	}
	if (sva_stop(&q, 1, &res) != SVATD_ST_STOPPED || !res.count)
		goto out;
	ret = 0;
out:
	if (ret)
		add(&shared->bad);
	/* Stay until all are through, so that all are bound at once */
	add(&shared->ready);
	if (!reached(&shared->ready, 2 * PROCESSES))
		return 5;
	return ret;
}

TEST_F_TIMEOUT(process, many_at_once, 300)
{
	unsigned int i, failed = 0;
	pid_t pid[PROCESSES];
	long now;
	int status;

	if (self->queues < PROCESSES)
		SKIP(return, "the device has %ld queues free, %d are needed",
		     self->queues, PROCESSES);

	for (i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(one_of_many(i, self->shared));
		}
	}
	ASSERT_TRUE(reached(&self->shared->ready, PROCESSES));
	ASSERT_EQ(0, sva_device_attr("available_instances", &now));
	EXPECT_EQ(self->queues - PROCESSES, now);
	add(&self->shared->go);
	for (i = 0; i < PROCESSES; i++) {
		ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
		if (status) {
			TH_LOG("process %u: status %#x", i, status);
			failed++;
		}
	}
	EXPECT_EQ(0, failed);
	EXPECT_EQ(0, self->shared->bad);
	EXPECT_TRUE(queues_return_to(self->queues));
	EXPECT_TRUE(kmsg_clean(self->kmsg));
}

/* Bind, use, unbind: in one process, whose PASID and ASID stay */
TEST_F_TIMEOUT(process, bind_again_and_again, 300)
{
	struct sva_queue q;
	char *buf;
	int i;

	buf = buffer_at(ADDRESS);
	ASSERT_NE(NULL, buf);
	tag_buffer(buf, 1);
	for (i = 0; i < BIND_CYCLES; i++) {
		ASSERT_EQ(0, sva_queue_init(&q));
		ASSERT_EQ(SVATD_ST_OK,
			  sva_copy(&q, i % SVATD_NUM_SLOTS, buf + page_size, buf, page_size, NULL));
		sva_queue_close(&q);
	}
	EXPECT_TRUE(queues_return_to(self->queues));
	EXPECT_TRUE(kmsg_clean(self->kmsg));
}

static int bind_once(unsigned int id)
{
	struct sva_queue q;

	if (!buffer_at(ADDRESS))
		return 2;
	tag_buffer(ADDRESS, id);
	if (sva_queue_init(&q))
		return 3;
	if (sva_copy(&q, 0, ADDRESS + page_size, ADDRESS, page_size, NULL) != SVATD_ST_OK)
		return 4;
	/* The page of another process, from an IOTLB entry left behind? */
	return *(__u64 *)(ADDRESS + page_size) != tag(id, 0);
}

/* The same by a new process each, at the same addresses, with other data */
TEST_F_TIMEOUT(process, bind_by_new_processes, 300)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < BIND_CYCLES; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(bind_once(i));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status) {
			TH_LOG("process %d of %d", i, BIND_CYCLES);
		}
	}
	EXPECT_TRUE(queues_return_to(self->queues));
	EXPECT_TRUE(kmsg_clean(self->kmsg));
}

/* More than there are queues: refused, and nothing is lost by that */
TEST_F_TIMEOUT(process, queues_run_out, 300)
{
	struct sva_queue *q, extra;
	long i;

	q = calloc(self->queues, sizeof(*q));
	ASSERT_NE(NULL, q);
	for (i = 0; i < self->queues; i++) {
		int ret = sva_queue_open(&q[i]);

		if (ret == -EMFILE) {
			while (i--)
				sva_queue_close(&q[i]);
			SKIP(return, "may not open %ld files", self->queues);
		}
		ASSERT_EQ(0, ret);
	}
	for (i = 0; i < 10; i++)
		EXPECT_GT(0, sva_queue_open(&extra));
	for (i = 0; i < self->queues; i++)
		sva_queue_close(&q[i]);
	EXPECT_TRUE(queues_return_to(self->queues));
	ASSERT_EQ(0, sva_queue_init(&extra));
	sva_queue_close(&extra);
	EXPECT_TRUE(kmsg_clean(self->kmsg));
}

/*
 * The ways for a process to end
 */
#define VICTIMS		8
#define DEATH_ROUNDS	4
#define MIB		0x100000UL
#define MAX_MEMORY_MIB	4096	/* to use up all of it */

FIXTURE(death)
{
	struct shared *shared;
	long queues;
	int kmsg;
};

FIXTURE_VARIANT(death)
{
	enum { EXIT, KILL, EXEC, SEGFAULT, UNMAP_AND_EXIT, FORK_AND_EXIT, OUT_OF_MEMORY } way;
};

FIXTURE_VARIANT_ADD(death, exit) { .way = EXIT };
FIXTURE_VARIANT_ADD(death, kill) { .way = KILL };
FIXTURE_VARIANT_ADD(death, exec) { .way = EXEC };
FIXTURE_VARIANT_ADD(death, segfault) { .way = SEGFAULT };
FIXTURE_VARIANT_ADD(death, unmap_and_exit) { .way = UNMAP_AND_EXIT };
FIXTURE_VARIANT_ADD(death, fork_and_exit) { .way = FORK_AND_EXIT };
FIXTURE_VARIANT_ADD(death, out_of_memory) { .way = OUT_OF_MEMORY };

FIXTURE_SETUP(death)
{
	struct rlimit no_core = { };
	struct sva_queue q;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	buf_size = BUF_PAGES * page_size;
	ret = sva_queue_init(&q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	sva_queue_close(&q);
	setrlimit(RLIMIT_CORE, &no_core);
	ASSERT_EQ(0, sva_device_attr("available_instances", &self->queues));
	self->kmsg = kmsg_open();
	if (self->kmsg < 0)
		ksft_print_msg("cannot read the kernel log: not checked\n");
}

FIXTURE_TEARDOWN(death)
{
}

static bool file_says_0(const char *path)
{
	int c = EOF;
	FILE *f;

	f = fopen(path, "r");
	if (f) {
		c = fgetc(f);
		fclose(f);
	}
	return c == '0';
}

/* NULL, or why not all memory of this machine can be used up */
static const char *no_use_up_memory(void)
{
	struct sysinfo info;

	if (sysinfo(&info) ||
	    (info.totalram + info.totalswap) / MIB * info.mem_unit > MAX_MEMORY_MIB)
		return "too much memory to use up all of it";
	if (!file_says_0("/proc/sys/vm/overcommit_memory"))
		return "vm.overcommit_memory is not 0: memory may be refused";
	if (!file_says_0("/proc/sys/vm/panic_on_oom"))
		return "vm.panic_on_oom is set";
	return NULL;
}

/* Take memory until the kernel puts an end to it, and to nobody else */
static void use_up_memory(void)
{
	const size_t size = 16UL << 20;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	char *p;

	if (fd < 0 || write(fd, "1000", 4) != 4)
		return;
	while (1) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return;
		/* Soon over */
		madvise(p, size, MADV_HUGEPAGE);
		memset(p, 1, size);
	}
}

/* Start reads and writes that never end, then end in the way wanted */
static void victim(unsigned int id, int way, struct shared *shared)
{
	char *const argv[] = { "sva_process", "--idle", NULL };
	struct sva_queue q;
	unsigned int slot;
	__u64 *p = (__u64 *)ADDRESS;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGSEGV, SIG_DFL);
	if (!buffer_at(ADDRESS) || sva_queue_init(&q))
		_exit(2);
	/* Copy on write would be a fault, and rightly be logged */
	madvise(ADDRESS, buf_size, MADV_DONTFORK);
	tag_buffer(p, id);
	for (slot = 0; slot < 4; slot++)
		sva_hammer_start(&q, slot, (char *)p + slot * 8, 2 * page_size, page_size,
				 tag(id, 0));
	for (; slot < 8; slot++)
		sva_poll_start(&q, slot, p + 2 * page_size / 8, page_size, 8,
			       tag(id, 2), tag(id, 2));
	for (slot = 0; slot < 8; slot++)
		if (sva_wait_count(&q, slot, 2))
			_exit(3);
	add(&shared->ready);
	if (!reached(&shared->go, 1))
		_exit(4);

	switch (way) {
	case EXIT:
		_exit(0);
	case KILL:
		pause();
		break;
	case EXEC:
		/* The queue stays open, bound to an mm that is gone */
		execv("/proc/self/exe", argv);
		break;
	case SEGFAULT:
		__atomic_store_n((int *)ADDRESS - 1, 0, __ATOMIC_RELAXED);
		break;
	case UNMAP_AND_EXIT:
		munmap(q.page, page_size);
		_exit(0);
	case FORK_AND_EXIT:
		/* The child keeps the file open for a while */
		if (!fork()) {
			usleep(50000);
			_exit(0);
		}
		_exit(0);
	case OUT_OF_MEMORY:
		use_up_memory();
		break;
	}
	_exit(5);
}

TEST_F_TIMEOUT(death, in_the_middle_of_dma, 300)
{
	/* Each takes all memory that there is */
	unsigned int victims = variant->way == OUT_OF_MEMORY ? 1 : VICTIMS;
	unsigned int rounds = variant->way == OUT_OF_MEMORY ? 1 : DEATH_ROUNDS;
	unsigned int round, i;
	pid_t pid[VICTIMS];
	int status;

	if (self->queues < victims)
		SKIP(return, "the device has %ld queues free, %d are needed",
		     self->queues, victims);
	if (variant->way == OUT_OF_MEMORY && no_use_up_memory())
		SKIP(return, "%s", no_use_up_memory());

	for (round = 0; round < rounds; round++) {
		struct shared *shared = shared_new();

		ASSERT_NE(NULL, shared);
		for (i = 0; i < victims; i++) {
			pid[i] = fork();
			ASSERT_LE(0, pid[i]);
			if (!pid[i])
				victim(round * victims + i, variant->way, shared);
		}
		ASSERT_TRUE(reached(&shared->ready, victims));
		add(&shared->go);
		for (i = 0; i < victims; i++) {
			if (variant->way == KILL)
				kill(pid[i], SIGKILL);
			ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
			switch (variant->way) {
			case KILL:
			case OUT_OF_MEMORY:
				EXPECT_EQ(SIGKILL, WTERMSIG(status));
				break;
			case SEGFAULT:
				EXPECT_EQ(SIGSEGV, WTERMSIG(status));
				break;
			default:
				EXPECT_EQ(0, status);
			}
		}
		munmap(shared, sizeof(*shared));
		EXPECT_TRUE(queues_return_to(self->queues));

		/* Whoever comes next is not disturbed */
		pid[0] = fork();
		ASSERT_LE(0, pid[0]);
		if (!pid[0])
			_exit(bind_once(1000 + round));
		ASSERT_EQ(pid[0], waitpid(pid[0], &status, 0));
		ASSERT_EQ(0, status);
	}
	/* Out of memory, the kernel says where, as it does in trouble */
	EXPECT_TRUE(variant->way == OUT_OF_MEMORY || kmsg_clean(self->kmsg));
}

int main(int argc, char **argv)
{
	/* What a victim becomes by exec: it lives on without its old mm */
	if (argc == 2 && !strcmp(argv[1], "--idle")) {
		usleep(50000);
		return 0;
	}
	return test_harness_run(argc, argv);
}
