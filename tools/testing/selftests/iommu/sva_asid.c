// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing and the ASIDs of the SMMU. With broadcast TLB
 * maintenance a bound process has the same ASID in the SMMU as on the CPUs, for
 * as long as it is bound, and in every SMMU; without, and where that cannot be
 * had, it has a private one. What happens is read from the tracepoints
 * arm_smmu_v3:arm_smmu_asid_*. In every case each process must reach its own
 * memory and no other, and every ASID must be given back.
 *
 * Some cases want more than the usual machine: two devices behind one SMMU or
 * behind two; CPUs with ASIDs of 8 bits, so that they run out and roll over in
 * a moment, and a device with 320 queues.
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
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_smmu.h"
#include "sva_testdev.h"

/* More than there can be ASIDs of 8 bits, to bind at once */
#define MANY_PROCESSES	320
/* Up to here a test can use up the ASIDs of the CPUs */
#define FEW_ASIDS	256

#define STORM_SECONDS	10
#define NEW_BINDERS	4
#define OLD_BINDERS	2
#define FORKERS		2

#define ROLLOVER_BOUND	8
/* Of so many new processes one shows how far the CPUs' ASIDs have come */
#define SHOW_EVERY	8
#define THREADS		8
#define THREAD_ROUNDS	50

/* The same in every process, and in no mapping of its own accord */
#define ADDRESS		((char *)0x1000000000)
#define BUF_PAGES	3

#define MAX_DEVICES	8

static size_t page_size;

/* Shared by a test and its children */
struct shared {
	unsigned int ready;
	unsigned int stop;
	unsigned int refused;
	unsigned int bad;
	unsigned int rounds;
	unsigned int forks;
};

struct device {
	char path[64];
	char smmu[SMMU_NAME_LEN];
};

static void add(unsigned int *p)
{
	__atomic_fetch_add(p, 1, __ATOMIC_ACQ_REL);
}

static unsigned int get(unsigned int *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/*
 * Wait until *@p, one of @shared, has reached @value: true, or false if a child
 * failed, or after a long while.
 */
static bool reached(struct shared *shared, unsigned int *p, unsigned int value)
{
	int ms;

	for (ms = 0; ms < 6 * SVA_TIMEOUT_MS && !get(&shared->bad); ms += 10) {
		if (get(p) >= value)
			return true;
		usleep(10000);
	}
	return false;
}

static unsigned int find_devices(struct device d[MAX_DEVICES])
{
	unsigned int i, n = 0;
	glob_t found;

	if (glob("/dev/sva_testdev-*", 0, NULL, &found))
		return 0;
	for (i = 0; i < found.gl_pathc && n < MAX_DEVICES; i++) {
		snprintf(d[n].path, sizeof(d[n].path), "%s", found.gl_pathv[i]);
		if (smmu_name(d[n].path, d[n].smmu))
			n++;
	}
	globfree(&found);
	return n;
}

/* Data that tells which process it belongs to, and when it was stored */
static __u64 tag(unsigned int id, unsigned int round)
{
	return 0x5a00000000000000ULL | (__u64)id << 24 | (round & 0xffffff);
}

static int new_page(char *addr, __u64 value)
{
	__u64 *p = (__u64 *)addr;
	size_t i;

	if (mmap(p, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) != p)
		return -1;
	for (i = 0; i < page_size / sizeof(*p); i++)
		p[i] = value;
	return 0;
}

/* The buffer of a process: a page that is renewed, one to copy to, one to poll */
static int new_buffer(unsigned int id)
{
	return new_page(ADDRESS, tag(id, 0)) || new_page(ADDRESS + page_size, 0) ||
	       new_page(ADDRESS + 2 * page_size, tag(id, 0));
}

/*
 * Let the device copy a page, renew the page, and let it copy again: neither
 * the data of another process nor that from before may be found. Returns
 * NULL, or what is wrong.
 */
static const char *use_buffer(struct sva_queue *q, unsigned int id, unsigned int round)
{
	char *copy = ADDRESS + page_size;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		__u64 value = tag(id, 2 * round + i);

		if (new_page(ADDRESS, value))
			return "no memory";
		memset(copy, 0, page_size);
		if (sva_copy(q, 0, copy, ADDRESS, page_size, NULL) != SVATD_ST_OK)
			return "the device cannot copy";
		if (memcmp(copy, ADDRESS, page_size)) {
			value = *(__u64 *)copy;
			return value >> 24 == tag(id, 0) >> 24 ?
			       "stale access: the device reads data from before" :
			       "stale access: the device reads another process's data";
		}
	}
	return NULL;
}

static int complain(struct shared *shared, unsigned int id, const char *problem)
{
	ksft_print_msg("process %u: %s\n", id, problem);
	add(&shared->bad);
	return 1;
}

/* In a child: what the parent does not want to share with it, it loses */
static pid_t fork_child(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static unsigned int wait_children(pid_t *pid, unsigned int n)
{
	unsigned int i, failed = 0;
	int status;

	for (i = 0; i < n; i++)
		failed += waitpid(pid[i], &status, 0) != pid[i] || status;
	return failed;
}

FIXTURE(asid)
{
	struct asid_trace trace;
	struct shared *shared;
	struct device devices[MAX_DEVICES];
	unsigned int nr_devices;
	long queues;
	bool btm;
};

FIXTURE_SETUP(asid)
{
	struct sva_queue q;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	self->trace.pipe = -1;
	ret = asid_trace_open(&self->trace);
	if (ret == -ENOENT)
		SKIP(return, "no tracepoints arm_smmu_v3:arm_smmu_asid_* in this kernel");
	ASSERT_EQ(0, ret);
	ret = sva_queue_init(&q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	sva_queue_close(&q);
	asid_trace_update(&self->trace);
	/* Without BTM there is nothing to share, nor to fall back from */
	self->btm = self->trace.shares + self->trace.fallbacks;

	self->nr_devices = find_devices(self->devices);
	ASSERT_EQ(0, sva_device_attr("available_instances", &self->queues));
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
}

FIXTURE_TEARDOWN(asid)
{
	bool settled = true;

	/* Whatever the test was, and however it ended: nothing may be left */
	if (self->shared) {
		add(&self->shared->stop);
		settled = asid_trace_settle(&self->trace, SVA_TIMEOUT_MS);
	}
	asid_trace_close(&self->trace);
	EXPECT_TRUE(settled);
}

/* However often a process is bound to a device, it has one ASID there */
TEST_F_TIMEOUT(asid, one_per_process, 60)
{
	struct sva_queue q[4];
	unsigned int i, shares;

	if (!self->btm)
		SKIP(return, "broadcast TLB maintenance is off: no ASID is shared");
	shares = self->trace.shares;
	ASSERT_EQ(0, new_buffer(1));
	for (i = 0; i < ARRAY_SIZE(q); i++)
		ASSERT_EQ(0, sva_queue_init(&q[i]));
	asid_trace_update(&self->trace);
	EXPECT_EQ(shares + 1, self->trace.shares);
	for (i = 0; i < ARRAY_SIZE(q); i++) {
		EXPECT_EQ(NULL, use_buffer(&q[i], 1, i));
		asid_trace_update(&self->trace);
		EXPECT_EQ(1, asid_trace_live(&self->trace));
		sva_queue_close(&q[i]);
	}
	EXPECT_TRUE(asid_trace_settle(&self->trace, SVA_TIMEOUT_MS));
	EXPECT_EQ(shares + 1, self->trace.shares);
}

/* Find two devices, behind the same SMMU or behind two */
static bool find_pair(struct device *d, unsigned int n, bool same_smmu, unsigned int *a,
		      unsigned int *b)
{
	for (*a = 0; *a < n; ++*a)
		for (*b = *a + 1; *b < n; ++*b)
			if (!strcmp(d[*a].smmu, d[*b].smmu) == same_smmu)
				return true;
	return false;
}

/* Both devices at work in the same memory; then one by one they leave it */
static void use_pair(struct __test_metadata *_metadata, struct asid_trace *t,
		     struct sva_queue *q, unsigned int *live)
{
	unsigned int i, round;
	struct sva_result res;

	for (i = 0; i < 2; i++)
		sva_poll_start(&q[i], 1, ADDRESS + 2 * page_size, page_size, 8, tag(1, 0),
			       tag(1, 0));
	for (round = 0; round < 8; round++)
		EXPECT_EQ(NULL, use_buffer(&q[round % 2], 1, round));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&q[i], 1, &res));
		EXPECT_LT(0, res.count);
	}
	asid_trace_update(t);
	live[0] = asid_trace_live(t);
	sva_queue_close(&q[0]);
	asid_trace_update(t);
	live[1] = asid_trace_live(t);
	EXPECT_EQ(NULL, use_buffer(&q[1], 1, round));
	sva_queue_close(&q[1]);
	EXPECT_TRUE(asid_trace_settle(t, SVA_TIMEOUT_MS));
}

/*
 * Whether the SMMU of this device should listen, and whether it does; or -1. Whoever
 * knows the machine says so: SVA_LISTENS is a list of SMMUs' addresses. Otherwise
 * all that is left is to believe the SMMU.
 */
static int listens(const struct device *d, bool *does)
{
	const char *known = getenv("SVA_LISTENS");
	__u64 base = smmu_find(d->path);
	struct smmu smmu;
	char *end;

	if (smmu_map(&smmu, base))
		return -1;
	*does = smmu_listens(&smmu);
	smmu_unmap(&smmu);
	if (!known)
		return *does;
	while (*known) {
		if (strtoull(known, &end, 16) == base && end != known)
			return 1;
		known = end + (*end != '\0');
	}
	return 0;
}

/* Also if one of them has to be told by command what the other hears */
TEST_F_TIMEOUT(asid, same_in_two_smmus, 60)
{
	unsigned int i, a, b, n, shares, live[2];
	struct sva_queue q[2];
	bool does[2];
	int on[2];

	if (!find_pair(self->devices, self->nr_devices, false, &a, &b))
		SKIP(return, "no two sva-testdevs behind different SMMUs");
	on[0] = listens(&self->devices[a], &does[0]);
	on[1] = listens(&self->devices[b], &does[1]);
	if (on[0] < 0 || on[1] < 0)
		SKIP(return, "which SMMU listens cannot be told: no /dev/mem");
	EXPECT_EQ(on[0], does[0]);
	EXPECT_EQ(on[1], does[1]);
	n = on[0] + on[1];
	shares = self->trace.shares;
	ASSERT_EQ(0, new_buffer(1));
	ASSERT_EQ(0, sva_queue_init_on(&q[0], self->devices[a].path));
	ASSERT_EQ(0, sva_queue_init_on(&q[1], self->devices[b].path));
	asid_trace_update(&self->trace);
	EXPECT_EQ(shares + n, self->trace.shares);
	if (n) {
		EXPECT_EQ(n, self->trace.nr_smmus);
		EXPECT_NE(0, self->trace.last);
		for (i = 0; i < self->trace.nr_smmus; i++)
			EXPECT_EQ(1, self->trace.live[i][self->trace.last]);
	}
	use_pair(_metadata, &self->trace, q, live);
	EXPECT_EQ(n, live[0]);
	EXPECT_EQ(on[1], live[1]);
}

TEST_F_TIMEOUT(asid, one_for_two_devices, 60)
{
	unsigned int i, a, b, shares, live[2];
	struct sva_queue q[2];

	if (!find_pair(self->devices, self->nr_devices, true, &a, &b))
		SKIP(return, "no two sva-testdevs behind the same SMMU");
	shares = self->trace.shares;
	ASSERT_EQ(0, new_buffer(1));
	ASSERT_EQ(0, sva_queue_init_on(&q[0], self->devices[a].path));
	ASSERT_EQ(0, sva_queue_init_on(&q[1], self->devices[b].path));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(NULL, use_buffer(&q[i], 1, i));
	use_pair(_metadata, &self->trace, q, live);
	EXPECT_EQ(self->btm ? shares + 1 : 0, self->trace.shares);
	EXPECT_EQ(self->btm ? 1 : 0, live[0]);
	EXPECT_EQ(self->btm ? 1 : 0, live[1]);
}

/*
 * An ASID is the process's, not the open file's: it is given back when the
 * process is gone, though another one still has the device open.
 */
TEST_F_TIMEOUT(asid, given_back_at_exit, 60)
{
	unsigned int frees;
	int fds[2], status;
	pid_t binder;
	char c;

	if (!self->btm)
		SKIP(return, "broadcast TLB maintenance is off: no ASID is shared");
	asid_trace_update(&self->trace);
	frees = self->trace.frees;
	ASSERT_EQ(0, asid_trace_live(&self->trace));
	ASSERT_EQ(0, pipe(fds));
	binder = fork_child();
	ASSERT_LE(0, binder);
	if (!binder) {
		struct sva_queue q;

		if (new_buffer(1) || sva_queue_init(&q) || use_buffer(&q, 1, 0))
			_exit(1);
		/* The heir of the file, with a memory of its own, outlives the binder */
		if (!fork()) {
			close(fds[1]);
			_exit(read(fds[0], &c, 1) != 0);
		}
		_exit(0);
	}
	close(fds[0]);
	ASSERT_EQ(binder, waitpid(binder, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_TRUE(asid_trace_settle(&self->trace, SVA_TIMEOUT_MS));
	EXPECT_EQ(frees + 1, self->trace.frees);
	close(fds[1]);
}

/* Bind; tell; use the device again when all others are bound as well */
static int one_of_many(unsigned int id, struct shared *shared, int go)
{
	const char *problem;
	struct sva_queue q;
	char c;
	int ret;

	if (new_buffer(id))
		return complain(shared, id, "no memory");
	ret = sva_queue_init(&q);
	if (ret) {
		add(&shared->refused);
		add(&shared->ready);
		/* The SMMU has no ASID left, nothing else may be wrong */
		return ret == -EBUSY ? 0 : complain(shared, id, strerror(-ret));
	}
	problem = use_buffer(&q, id, 0);
	add(&shared->ready);
	/* Until the other end is closed: sleep, so that the others can work */
	if (read(go, &c, 1))
		return complain(shared, id, "not told to go on");
	if (!problem)
		problem = use_buffer(&q, id, 1);
	return problem ? complain(shared, id, problem) : 0;
}

TEST_F_TIMEOUT(asid, more_processes_than_pins, 300)
{
	unsigned long asids = cpu_asids();
	struct smmu smmu = { };
	pid_t pid[MANY_PROCESSES];
	unsigned int i, shares, fallbacks;
	struct sva_queue q;
	bool asid16;
	int go[2];

	if (!asids)
		SKIP(return, "the number of the CPUs' ASIDs is not in the kernel log any more");
	if (asids > FEW_ASIDS)
		SKIP(return, "%lu ASIDs are more than can be pinned (QEMU: -cpu ...,x-asid-bits=8)",
		     asids);
	if (self->queues < MANY_PROCESSES)
		SKIP(return, "the device has %ld queues free, %d are needed", self->queues,
		     MANY_PROCESSES);
	if (smmu_map(&smmu, smmu_find(sva_device())))
		SKIP(return, "the size of the SMMU's ASIDs cannot be read: no /dev/mem");
	asid16 = smmu_asid16(&smmu);
	smmu_unmap(&smmu);

	shares = self->trace.shares;
	fallbacks = self->trace.fallbacks;
	ASSERT_EQ(0, pipe(go));
	for (i = 0; i < MANY_PROCESSES; i++) {
		pid[i] = fork_child();
		ASSERT_LE(0, pid[i]);
		if (!pid[i]) {
			close(go[1]);
			_exit(one_of_many(i, self->shared, go[0]));
		}
	}
	EXPECT_TRUE(reached(self->shared, &self->shared->ready, MANY_PROCESSES));
	asid_trace_update(&self->trace);
	shares = self->trace.shares - shares;
	fallbacks = self->trace.fallbacks - fallbacks;
	TH_LOG("of %d processes %u share their ASID, %u have a private one, %u are refused",
	       MANY_PROCESSES, shares, fallbacks, self->shared->refused);
	EXPECT_EQ(asid16, self->shared->refused == 0);
	if (self->btm) {
		EXPECT_EQ(MANY_PROCESSES, shares + fallbacks + self->shared->refused);
		EXPECT_LT(0, shares);
		/* The other half is for processes that are not bound */
		EXPECT_GE(asids / 2, shares);
		EXPECT_EQ(shares, asid_trace_live(&self->trace));
		EXPECT_LE(asid16, fallbacks);
	}
	close(go[1]);
	EXPECT_EQ(0, wait_children(pid, MANY_PROCESSES));
	close(go[0]);
	EXPECT_EQ(0, self->shared->bad);
	EXPECT_TRUE(asid_trace_settle(&self->trace, SVA_TIMEOUT_MS));

	/* Whoever comes next has a pin again */
	shares = self->trace.shares;
	ASSERT_EQ(0, sva_queue_init(&q));
	sva_queue_close(&q);
	asid_trace_update(&self->trace);
	if (!self->btm || self->trace.collisions)
		return;
	EXPECT_EQ(shares + 1, self->trace.shares);
}

/*
 * Storms
 */
static int bind_once(unsigned int id, struct shared *shared)
{
	const char *problem;
	struct sva_queue q;
	int ret;

	if (new_buffer(id))
		return complain(shared, id, "no memory");
	ret = sva_queue_init(&q);
	if (ret)
		return complain(shared, id, strerror(-ret));
	problem = use_buffer(&q, id, get(&shared->rounds));
	if (problem)
		return complain(shared, id, problem);
	add(&shared->rounds);
	/* Every other is ended by exit while it is bound */
	if (id % 2)
		sva_queue_close(&q);
	return 0;
}

/* A new process each */
static int new_binder(unsigned int id, struct shared *shared)
{
	pid_t pid;

	while (!get(&shared->stop)) {
		pid = fork_child();
		if (pid < 0)
			return 1;
		if (!pid)
			_exit(bind_once(id, shared));
		if (wait_children(&pid, 1))
			return 1;
	}
	return 0;
}

/* The same process again and again, which keeps its ASID, or gets a new one */
static int old_binder(unsigned int id, struct shared *shared)
{
	while (!get(&shared->stop)) {
		int ret = bind_once(id | 1, shared);

		if (ret)
			return ret;
	}
	return 0;
}

static int forker(struct shared *shared)
{
	pid_t pid;

	while (!get(&shared->stop)) {
		pid = fork_child();
		if (pid < 0)
			return 1;
		if (!pid)
			_exit(0);
		if (wait_children(&pid, 1))
			return 1;
		add(&shared->forks);
	}
	return 0;
}

TEST_F_TIMEOUT(asid, storms, 120)
{
	pid_t pid[NEW_BINDERS + OLD_BINDERS + FORKERS];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork_child();
		ASSERT_LE(0, pid[i]);
		if (pid[i])
			continue;
		if (i < NEW_BINDERS)
			_exit(new_binder(2 * i + (i & 1), self->shared));
		if (i < NEW_BINDERS + OLD_BINDERS)
			_exit(old_binder(2 * i, self->shared));
		_exit(forker(self->shared));
	}
	for (i = 0; i < 10 * STORM_SECONDS; i++) {
		usleep(100000);
		asid_trace_update(&self->trace);
	}
	add(&self->shared->stop);
	EXPECT_EQ(0, wait_children(pid, ARRAY_SIZE(pid)));
	EXPECT_EQ(0, self->shared->bad);
	EXPECT_LT(0, self->shared->rounds);
	EXPECT_LT(0, self->shared->forks);
	EXPECT_TRUE(asid_trace_settle(&self->trace, SVA_TIMEOUT_MS));
	TH_LOG("%u binds, %u other processes: %u ASIDs shared, %u fell back", self->shared->rounds,
	       self->shared->forks, self->trace.shares, self->trace.fallbacks);
	EXPECT_LE(self->btm ? self->shared->rounds : 0, self->trace.shares + self->trace.fallbacks);
}

/* Bound for the whole time, and renewing its memory; the first also reads it */
static int stay_bound(unsigned int id, struct shared *shared)
{
	unsigned int round = 0;
	struct sva_result res;
	const char *problem;
	struct sva_queue q;
	int ret;

	if (new_buffer(id))
		return complain(shared, id, "no memory");
	ret = sva_queue_init(&q);
	if (ret)
		return complain(shared, id, strerror(-ret));
	/* One is enough: emulated devices that read all the time slow CPUs down */
	if (!id)
		sva_poll_start(&q, 1, ADDRESS + 2 * page_size, page_size, 8, tag(id, 0),
			       tag(id, 0));
	do {
		problem = use_buffer(&q, id, round);
		if (problem)
			return complain(shared, id, problem);
		if (!round++)
			add(&shared->ready);
		add(&shared->rounds);
		usleep(20000);
	} while (!get(&shared->stop));
	problem = use_buffer(&q, id, round);
	if (problem)
		return complain(shared, id, problem);
	if (!id && sva_stop(&q, 1, &res) != SVATD_ST_STOPPED)
		return complain(shared, id, "the device's reads did not go on");
	return 0;
}

TEST_F_TIMEOUT(asid, rollover, 600)
{
	unsigned long asids = cpu_asids();
	pid_t pid[ROLLOVER_BOUND], child;
	unsigned int i, before, wraps, every, forks;
	int status;

	if (!asids)
		SKIP(return, "the number of the CPUs' ASIDs is not in the kernel log any more");
	if (asids > FEW_ASIDS && !getenv("SVA_ASID_ROLLOVER"))
		SKIP(return, "%lu ASIDs take minutes to use up (SVA_ASID_ROLLOVER=1 does it)",
		     asids);

	for (i = 0; i < ROLLOVER_BOUND; i++) {
		pid[i] = fork_child();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			_exit(stay_bound(i, self->shared));
	}
	ASSERT_TRUE(reached(self->shared, &self->shared->ready, ROLLOVER_BOUND));
	before = get(&self->shared->rounds);
	asid_trace_update(&self->trace);
	wraps = self->trace.wraps;

	/* Now and then a process shows how far the CPUs have come */
	every = asids / 16;
	forks = asids > FEW_ASIDS ? asids + asids / 4 : 4 * asids;
	for (i = 0; i < forks; i++) {
		child = fork_child();
		ASSERT_LE(0, child);
		if (!child)
			_exit(i % every ? 0 : bind_once(1000 + i / every, self->shared));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		if (i % every == 0)
			asid_trace_update(&self->trace);
	}
	/* ... and after it */
	before = get(&self->shared->rounds) - before;
	i = get(&self->shared->rounds);
	EXPECT_TRUE(reached(self->shared, &self->shared->rounds, i + 2 * ROLLOVER_BOUND));
	asid_trace_update(&self->trace);
	add(&self->shared->stop);
	EXPECT_EQ(0, wait_children(pid, ROLLOVER_BOUND));
	EXPECT_EQ(0, self->shared->bad);
	if (self->btm) {
		EXPECT_LE(wraps + 1, self->trace.wraps);
		TH_LOG("%u rollovers, %u uses of bound memory meanwhile", self->trace.wraps - wraps,
		       before);
	}
}

/* Processes that come and go, the CPUs' rollovers meanwhile counted by their ASIDs */
static unsigned int count_rollovers(struct asid_trace *t, struct shared *shared,
				    unsigned int forks)
{
	unsigned int i, last = 0, n = 0;
	pid_t child;

	for (i = 0; i < forks && !get(&shared->bad); i++) {
		child = fork_child();
		if (!child)
			_exit(i % SHOW_EVERY ? 0 : bind_once(2 * i + 1001, shared));
		if (child < 0 || wait_children(&child, 1)) {
			add(&shared->bad);
			break;
		}
		if (i % SHOW_EVERY)
			continue;
		asid_trace_update(t);
		/* New processes have higher and higher ASIDs until these are used up */
		n += t->last < last;
		last = t->last;
	}
	return n;
}

/* However many processes are bound, the others do not run out of ASIDs all the time */
TEST_F_TIMEOUT(asid, rollovers_with_all_pins, 600)
{
	unsigned int fallbacks, frees, none, all, n = 0;
	unsigned long asids = cpu_asids();
	pid_t pid[MANY_PROCESSES];
	int go[2];

	if (!asids)
		SKIP(return, "the number of the CPUs' ASIDs is not in the kernel log any more");
	if (asids > FEW_ASIDS)
		SKIP(return, "%lu ASIDs are more than can be pinned (QEMU: -cpu ...,x-asid-bits=8)",
		     asids);
	if (!self->btm)
		SKIP(return, "broadcast TLB maintenance is off: no ASID is shared");
	if (self->queues < MANY_PROCESSES)
		SKIP(return, "the device has %ld queues free, %d are needed", self->queues,
		     MANY_PROCESSES);

	none = count_rollovers(&self->trace, self->shared, 4 * asids);
	/* All pins but one, which is for those that show the rollovers */
	ASSERT_EQ(0, pipe(go));
	fallbacks = self->trace.fallbacks;
	while (n < MANY_PROCESSES && self->trace.fallbacks == fallbacks) {
		pid[n] = fork_child();
		ASSERT_LE(0, pid[n]);
		if (!pid[n]) {
			close(go[1]);
			_exit(one_of_many(n, self->shared, go[0]));
		}
		ASSERT_TRUE(reached(self->shared, &self->shared->ready, ++n));
		asid_trace_update(&self->trace);
	}
	ASSERT_EQ(fallbacks + 1, self->trace.fallbacks);
	ASSERT_LT(2, n);
	frees = self->trace.frees;
	kill(pid[--n], SIGKILL);
	ASSERT_EQ(1, wait_children(&pid[n], 1));
	kill(pid[--n], SIGKILL);
	ASSERT_EQ(1, wait_children(&pid[n], 1));
	while (self->trace.frees == frees) {
		usleep(10000);
		asid_trace_update(&self->trace);
	}
	all = count_rollovers(&self->trace, self->shared, 4 * asids);
	TH_LOG("of %lu ASIDs none was pinned: %u rollovers; %u were: %u", asids, none, n, all);
	EXPECT_LT(0, none);
	/* One more may come of where the counting begins */
	EXPECT_GE(2 * none + 1, all);
	close(go[1]);
	EXPECT_EQ(0, wait_children(pid, n));
	close(go[0]);
	EXPECT_EQ(0, self->shared->bad);
}

/* The function call interrupts of a CPU so far */
static unsigned long function_calls(int cpu)
{
	char line[4096], *p;
	unsigned long n = 0;
	FILE *f;

	f = fopen("/proc/interrupts", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		p = strchr(line, ':');
		if (!p++ || !strstr(p, "Function call"))
			continue;
		do {
			n = strtoul(p, &p, 10);
		} while (cpu--);
		break;
	}
	fclose(f);
	return n;
}

/*
 * Pinning an ASID interrupts all CPUs: what a CPU did before to a page table is
 * visible to the SMMU then, without a barrier in local TLB maintenance. That is no
 * more to be seen from here than the interrupts, as an emulated CPU keeps its stores
 * in order; testbed/model has the argument.
 */
#define PINS	16

TEST_F_TIMEOUT(asid, pinning_interrupts_cpus, 60)
{
	unsigned int i, told = 0;
	unsigned long before;
	cpu_set_t set, one;
	struct sva_queue q;
	pid_t child;
	int cpu[2], n = 0;

	if (!self->btm)
		SKIP(return, "broadcast TLB maintenance is off: no ASID is shared");
	CPU_ZERO(&set);
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	/* /proc/interrupts has no numbers: let CPUs be counted from 0 */
	for (i = 0; i < CPU_SETSIZE && n < 2 && CPU_ISSET(i, &set); i++)
		cpu[n++] = i;
	if (n < 2)
		SKIP(return, "a single CPU");
	CPU_ZERO(&one);
	CPU_SET(cpu[0], &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		CPU_ZERO(&one);
		CPU_SET(cpu[1], &one);
		sched_setaffinity(0, sizeof(one), &one);
		add(&self->shared->ready);
		/* Idle CPUs might be told in another way */
		while (!get(&self->shared->stop))
			;
		_exit(0);
	}
	ASSERT_TRUE(reached(self->shared, &self->shared->ready, 1));
	for (i = 0; i < PINS; i++) {
		before = function_calls(cpu[1]);
		ASSERT_EQ(0, sva_queue_init(&q));
		told += function_calls(cpu[1]) != before;
		sva_queue_close(&q);
	}
	add(&self->shared->stop);
	EXPECT_EQ(0, wait_children(&child, 1));
	/*
	 * There are others now and then, but not that often; and one that is being
	 * taken serves for the next as well
	 */
	EXPECT_LE(PINS * 3 / 4, told);
}

/*
 * Threads that unmap memory which the device used, all at once
 */
struct worker {
	pthread_t thread;
	struct sva_queue *q;
	pthread_barrier_t *barrier;
	unsigned int id;
	unsigned int stale;
	unsigned int failed;
};

static void *unmap_at_once(void *arg)
{
	struct worker *w = arg;
	char *page = ADDRESS + (4 + 4 * w->id) * page_size, *copy = page + 2 * page_size;
	unsigned int i;

	for (i = 0; i < THREAD_ROUNDS; i++) {
		if (new_page(page, tag(w->id, i)) || (!i && new_page(copy, 0)))
			w->failed++;
		*(__u64 *)copy = 0;
		if (sva_copy(w->q, w->id, copy, page, 8, NULL) != SVATD_ST_OK)
			w->failed++;
		w->stale += *(__u64 *)copy != tag(w->id, i);
		pthread_barrier_wait(w->barrier);
		/* The main thread looks at the SMMU's queue */
		pthread_barrier_wait(w->barrier);
		if (munmap(page, page_size))
			w->failed++;
		pthread_barrier_wait(w->barrier);
		/* ... and looks again */
		pthread_barrier_wait(w->barrier);
	}
	return NULL;
}

TEST_F_TIMEOUT(asid, threads_that_unmap_send_no_command, 120)
{
	unsigned int i, commands = 0, stale = 0, failed = 0, fallbacks;
	struct worker w[THREADS];
	pthread_barrier_t barrier;
	struct sva_result res;
	struct smmu smmu = { };
	struct sva_queue q;

	if (smmu_map(&smmu, smmu_find(sva_device())))
		SKIP(return, "the SMMU's commands cannot be counted: no /dev/mem");
	fallbacks = self->trace.fallbacks;
	ASSERT_EQ(0, new_buffer(100));
	ASSERT_EQ(0, sva_queue_init(&q));
	asid_trace_update(&self->trace);
	if (self->trace.fallbacks != fallbacks) {
		sva_queue_close(&q);
		SKIP(return, "this process could not share its ASID");
	}
	EXPECT_EQ(NULL, use_buffer(&q, 100, 0));
	if (sva_queue_has_ats(&q)) {
		sva_queue_close(&q);
		SKIP(return, "the device has ATS, and its ATC is told by command");
	}
	sva_poll_start(&q, THREADS, ADDRESS + 2 * page_size, page_size, 8, tag(100, 0),
		       tag(100, 0));
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (i = 0; i < THREADS; i++) {
		w[i] = (struct worker) { .q = &q, .barrier = &barrier, .id = i };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, unmap_at_once, &w[i]));
	}
	for (i = 0; i < THREAD_ROUNDS; i++) {
		__u32 prod;

		pthread_barrier_wait(&barrier);
		prod = smmu_cmdq_prod(&smmu);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		commands += smmu_cmdq_advance(&smmu, prod, smmu_cmdq_prod(&smmu));
		pthread_barrier_wait(&barrier);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		stale += w[i].stale;
		failed += w[i].failed;
	}
	EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&q, THREADS, &res));
	EXPECT_LT(0, res.count);
	sva_queue_close(&q);
	smmu_unmap(&smmu);
	EXPECT_EQ(0, failed);
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: %u times the device read data from before", stale);
	}
	TH_LOG("%u commands for %u munmap() of %u threads", commands, THREADS * THREAD_ROUNDS,
	       THREADS);
	EXPECT_EQ(self->btm, commands == 0);
}

TEST_HARNESS_MAIN
