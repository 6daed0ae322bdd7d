// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing while memory runs out: each allocation on the way
 * of a system call is made to fail in turn (/proc/self/fail-nth), in a process
 * of its own each time. The call then succeeds in another way, or it returns
 * ENOMEM; and afterwards the same process binds to the device as if nothing had
 * been. When all are gone, no queue is left, and no ASID is shared.
 *
 * A leaked pin of an ASID shows as one process less that can pin one, if the
 * CPUs' ASIDs are few. SVA_FAIL_NTH_PINS=0 in the environment saves the time that
 * it takes to start that many.
 *
 * This is best run with a kernel that checks itself (lockdep, KASAN, kmemleak),
 * and with panic_on_warn. FAULT_INJECTION_STACKTRACE_FILTER has to be off.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_smmu.h"
#include "sva_testdev.h"
#include "sva_vfio.h"

/* More than there are allocations on any way */
#define MAX_NTH		400

/* Domains in the way of processes, so that most meet one */
#define DOMAINS		180
#define TRIES		10
#define SWEEPS		8

/* Up to here a test can use up the ASIDs of the CPUs */
#define FEW_ASIDS	256

/* What a child tells of a call in which an allocation failed */
struct outcome {
	int ret;	/* of the call */
	bool reached;	/* there were that many allocations */
	int after;	/* whether all went well afterwards: 0, or a step */
};

static size_t page_size;
static struct outcome *outcome;

static bool write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
	close(fd);
	return ok;
}

/* Any allocation may fail, and the log stays quiet */
static bool enable_failures(void)
{
#define DEBUGFS "/sys/kernel/debug/"
	if (!write_file(DEBUGFS "failslab/ignore-gfp-wait", "N"))
		return false;
	write_file(DEBUGFS "failslab/verbose", "0");
	write_file(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N");
	write_file(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N");
	write_file(DEBUGFS "fail_page_alloc/min-order", "0");
	write_file(DEBUGFS "fail_page_alloc/verbose", "0");
	return true;
}

/* Let allocation @nth from now on fail */
static void fail(int fd, unsigned int nth)
{
	char buf[16];

	snprintf(buf, sizeof(buf), "%u", nth);
	if (pwrite(fd, buf, strlen(buf), 0) < 0)
		_exit(10);
}

/* No failures any more: true if there was one. These calls may be hit, too */
static bool failed(int fd)
{
	char buf[16] = "";
	ssize_t n;

	n = pread(fd, buf, sizeof(buf) - 1, 0);
	while (pwrite(fd, "0", 1, 0) != 1)
		n = -1;
	return n > 0 && !atoi(buf);
}

/*
 * The calls in which allocations fail. Each leaves the queue open or closed,
 * and returns 0 or a negative errno.
 */
static int bind_queue(struct sva_queue *q)
{
	return sva_queue_open(q);
}

static int start_and_map(struct sva_queue *q)
{
	int ret = sva_queue_start(q);

	return ret ? ret : sva_queue_map(q);
}

/* Cannot fail, whatever else does */
static int unbind(struct sva_queue *q)
{
	sva_queue_close(q);
	return 0;
}

static int bind_again(struct sva_queue *q)
{
	struct sva_queue second;
	int ret = sva_queue_open(&second);

	sva_queue_close(&second);
	return ret;
}

/* The path of another device, behind the same SMMU if there is one */
static const char *second_device(void)
{
	const char *first = sva_device();
	static char path[PATH_MAX];
	glob_t found;
	size_t i;

	if (path[0])
		return path;
	if (!first || glob("/dev/sva_testdev-*", 0, NULL, &found))
		return NULL;
	for (i = 0; i < found.gl_pathc && !path[0]; i++)
		if (strcmp(found.gl_pathv[i], first))
			snprintf(path, sizeof(path), "%s", found.gl_pathv[i]);
	globfree(&found);
	return path[0] ? path : NULL;
}

static int bind_elsewhere(struct sva_queue *q)
{
	int fd = open(second_device(), O_RDWR);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* Everything as if nothing had been: 0, or the step that went wrong */
static int works(struct sva_queue *q)
{
	__u64 *p;

	sva_queue_close(q);
	if (sva_queue_init(q))
		return 1;
	p = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 2;
	p[0] = 0x5ea5;
	p[1] = 0;
	if (sva_copy(q, 0, &p[1], &p[0], 8, NULL) != SVATD_ST_OK || p[1] != 0x5ea5)
		return 3;
	/* With what the device knows of the page gone, it must not read it */
	munmap(p, page_size);
	if (sva_fill(q, 0, p, 0, 8, NULL) != SVATD_ST_FAULT)
		return 4;
	return 0;
}

/* What there is when nobody is bound */
struct sweep {
	struct asid_trace trace;
	long queues;
	long pins;
};

FIXTURE(fail_nth)
{
	struct sweep s;
};

FIXTURE_VARIANT(fail_nth)
{
	int (*call)(struct sva_queue *q);
	bool open;	/* the process has a queue before */
	bool second;	/* needs another device */
	bool pins;	/* count them before and after */
};

FIXTURE_VARIANT_ADD(fail_nth, bind) { .call = bind_queue, .pins = true };
FIXTURE_VARIANT_ADD(fail_nth, start_and_map) { .call = start_and_map, .open = true };
FIXTURE_VARIANT_ADD(fail_nth, unbind) { .call = unbind, .open = true };
FIXTURE_VARIANT_ADD(fail_nth, bind_again) { .call = bind_again, .open = true };
FIXTURE_VARIANT_ADD(fail_nth, second_device) {
	.call = bind_elsewhere, .open = true, .second = true
};

/* False if the test is to be skipped */
static bool start(struct __test_metadata *_metadata, struct sweep *s)
{
	struct sva_queue q;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	s->trace.pipe = -1;
	ret = sva_queue_init(&q);
	if (ret && sva_skip_reason(ret))
		SKIP(return false, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	sva_queue_close(&q);
	if (access("/proc/self/fail-nth", W_OK) || !enable_failures())
		SKIP(return false, "no fault injection in this kernel (FAILSLAB)");
	/* A kernel that shares no ASIDs has no events of them */
	ret = asid_trace_open(&s->trace);
	if (ret != -ENOENT)
		ASSERT_EQ(0, ret);
	ASSERT_EQ(0, sva_device_attr("available_instances", &s->queues));
	outcome = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);
	ASSERT_NE(MAP_FAILED, outcome);
	return true;
}

FIXTURE_SETUP(fail_nth)
{
	if (start(_metadata, &self->s) && variant->second && !second_device())
		SKIP(return, "no second sva-testdev on this machine");
}

FIXTURE_TEARDOWN(fail_nth)
{
	asid_trace_close(&self->s.trace);
}

/* A process in which allocation @nth of the call fails */
static void child(int (*call)(struct sva_queue *q), bool open_before, unsigned int nth)
{
	struct sva_queue q = { .fd = -1 };
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open("/proc/self/fail-nth", O_RDWR);
	if (fd < 0 || (open_before && sva_queue_open(&q)))
		_exit(11);
	/* So that no page fault on the way has anything to allocate */
	outcome->ret = -ENODATA;
	access(sva_device(), F_OK);
	if (second_device())
		access(second_device(), F_OK);
	failed(fd);
	fail(fd, nth);
	outcome->ret = call(&q);
	outcome->reached = failed(fd);
	outcome->after = works(&q);
	sva_queue_close(&q);
	_exit(0);
}

/* True if nothing of the processes is left */
static bool nothing_left(struct __test_metadata *_metadata, struct sweep *s)
{
	long queues = -1;
	int ms;

	for (ms = 0; ms < SVA_TIMEOUT_MS; ms += 10) {
		if (!sva_device_attr("available_instances", &queues) && queues == s->queues)
			break;
		usleep(10000);
	}
	EXPECT_EQ(s->queues, queues);
	return queues == s->queues &&
	       (s->trace.pipe < 0 || asid_trace_settle(&s->trace, SVA_TIMEOUT_MS));
}

static void run_child(struct __test_metadata *_metadata, struct sweep *s,
		      int (*call)(struct sva_queue *q), bool open_before, unsigned int nth)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		child(call, open_before, nth);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(0, outcome->after) {
		TH_LOG("after the failure of allocation %u step %d of a bind fails", nth,
		       outcome->after);
	}
	ASSERT_TRUE(nothing_left(_metadata, s));
}

/* How many processes can pin an ASID at once; -1 if that takes too long to say */
static long count_pins(struct sweep *s)
{
	const char *env = getenv("SVA_FAIL_NTH_PINS");
	unsigned int before, fallbacks, i, n = 0;
	pid_t pid[FEW_ASIDS];
	struct sva_queue q;
	struct pollfd told;
	int fds[2];
	char byte;
	long pins;

	if (env && !atoi(env))
		return -1;
	if (s->trace.pipe < 0 || cpu_asids() > FEW_ASIDS || s->queues < FEW_ASIDS || pipe(fds))
		return -1;
	asid_trace_update(&s->trace);
	before = s->trace.shares;
	fallbacks = s->trace.fallbacks;
	told = (struct pollfd) { .fd = fds[0], .events = POLLIN };
	while (n < FEW_ASIDS && s->trace.fallbacks == fallbacks) {
		pid[n] = fork();
		if (pid[n] < 0)
			break;
		if (!pid[n]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sva_queue_open(&q);
			if (write(fds[1], "r", 1) == 1)
				pause();
			_exit(0);
		}
		n++;
		/* It may have died before it could tell */
		if (poll(&told, 1, SVA_TIMEOUT_MS) != 1 || read(fds[0], &byte, 1) != 1)
			break;
		asid_trace_update(&s->trace);
	}
	pins = s->trace.shares - before;
	for (i = 0; i < n; i++)
		kill(pid[i], SIGKILL);
	for (i = 0; i < n; i++)
		waitpid(pid[i], NULL, 0);
	close(fds[0]);
	close(fds[1]);
	return pins;
}

TEST_F_TIMEOUT(fail_nth, each_allocation, 300)
{
	unsigned int nth, refused = 0;

	if (variant->pins)
		self->s.pins = count_pins(&self->s);
	ASSERT_TRUE(nothing_left(_metadata, &self->s));
	for (nth = 1; nth < MAX_NTH; nth++) {
		run_child(_metadata, &self->s, variant->call, variant->open, nth);
		if (!outcome->reached) {
			EXPECT_EQ(0, outcome->ret);
			break;
		}
		if (outcome->ret) {
			refused++;
			EXPECT_EQ(-ENOMEM, outcome->ret) {
				TH_LOG("allocation %u failed, and the call with errno %d", nth,
				       -outcome->ret);
			}
		}
	}
	ksft_print_msg("%u allocations, %u of them refuse the call\n", nth - 1, refused);
	ASSERT_GT(MAX_NTH, nth);
	if (variant->pins)
		ASSERT_EQ(self->s.pins, count_pins(&self->s));
	EXPECT_TRUE(nothing_left(_metadata, &self->s));
}

/*
 * Stage 1 domains in the way of processes: an allocation of the move fails
 */
FIXTURE(fail_move)
{
	struct sweep s;
	struct sva_vfio v;
};

/* NULL, or what failed */
static const char *make_domains(struct sva_vfio *v)
{
	unsigned int i;

	for (i = 0; i < DOMAINS; i++) {
		struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
		struct iommu_hwpt_alloc hwpt = {
			.size = sizeof(hwpt),
			.flags = IOMMU_HWPT_ALLOC_PASID,
			.dev_id = v->dev_id,
		};
		struct vfio_device_attach_iommufd_pt attach = {
			.argsz = sizeof(attach),
			.flags = VFIO_DEVICE_ATTACH_PASID,
			.pasid = i,
		};

		if (ioctl(v->iommufd, IOMMU_IOAS_ALLOC, &ioas))
			return "IOMMU_IOAS_ALLOC";
		hwpt.pt_id = ioas.out_ioas_id;
		if (ioctl(v->iommufd, IOMMU_HWPT_ALLOC, &hwpt))
			return "IOMMU_HWPT_ALLOC";
		attach.pt_id = hwpt.out_hwpt_id;
		if (!i)
			attach.flags = 0;
		if (ioctl(v->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
			return "VFIO_DEVICE_ATTACH_IOMMUFD_PT";
	}
	return NULL;
}

FIXTURE_SETUP(fail_move)
{
	char pci[PCI_NAME_LEN];
	const char *problem;
	struct smmu smmu;
	bool asid16;

	if (!start(_metadata, &self->s))
		return;
	if (self->s.trace.pipe < 0 || !self->s.trace.has_move)
		SKIP(return, "this kernel moves no ASIDs");
	problem = sva_vfio_skip_reason();
	if (problem)
		SKIP(return, "%s", problem);
	if (smmu_map(&smmu, smmu_find(sva_device())))
		SKIP(return, "the SMMU's registers cannot be read: no /dev/mem");
	asid16 = smmu_asid16(&smmu);
	smmu_unmap(&smmu);
	if (asid16 || cpu_asids() > FEW_ASIDS)
		SKIP(return, "no 8-bit ASIDs on both sides: domains are in nobody's way");
	self->s.pins = count_pins(&self->s);
	ASSERT_TRUE(nothing_left(_metadata, &self->s));
	sva_vfio_find(pci);
	problem = sva_vfio_open(&self->v, pci);
	if (!problem)
		problem = make_domains(&self->v);
	ASSERT_EQ(NULL, problem) {
		TH_LOG("%s: %m", problem);
	}
}

FIXTURE_TEARDOWN(fail_move)
{
	sva_vfio_close(&self->v);
	asid_trace_close(&self->s.trace);
}

/*
 * Processes get their ASIDs in turn: if one met a domain, the next most likely
 * meets another.
 */
static bool meet_domain(struct __test_metadata *_metadata, struct sweep *s)
{
	unsigned int i, moves = s->trace.moves;

	for (i = 0; i < FEW_ASIDS && s->trace.moves == moves; i++)
		run_child(_metadata, s, bind_queue, false, 0);
	return s->trace.moves != moves;
}

/* Let each allocation of a process that meets a domain fail; how many kept it */
static unsigned int sweep_moves(struct __test_metadata *_metadata, struct sweep *s)
{
	struct asid_trace *t = &s->trace;
	unsigned int nth, i, kept, moves, ways = 0;
	bool reached = true, met;

	for (nth = 1; nth < MAX_NTH && reached; nth++) {
		kept = t->collisions;
		reached = false;
		met = false;
		/* A process that met no domain tells nothing of the move */
		for (i = 0; i < TRIES && !met; i++) {
			ASSERT_TRUE(meet_domain(_metadata, s));
			moves = t->moves;
			run_child(_metadata, s, bind_queue, false, nth);
			reached |= outcome->reached;
			met = outcome->ret || t->moves != moves || t->collisions != kept;
			if (outcome->ret)
				ASSERT_EQ(-ENOMEM, outcome->ret);
		}
		ways += t->collisions != kept;
	}
	ksft_print_msg("%u domains moved; %u of %u allocations let one keep its ASID\n", t->moves,
		       ways, nth - 2);
	ASSERT_GT(MAX_NTH, nth);
	return ways;
}

TEST_F_TIMEOUT(fail_move, each_allocation, 300)
{
	unsigned int ways = 0, i;

	/*
	 * Without an invalidation array the process gets a private ASID. There
	 * are two, but a debug kernel's own allocations shift the count from one
	 * process to the next, and a sweep may miss both.
	 */
	for (i = 0; i < SWEEPS && !ways; i++)
		ways = sweep_moves(_metadata, &self->s);
	EXPECT_LT(0, ways);
	/* Nobody has a number that belonged to one of them, or holds a pin */
	sva_vfio_close(&self->v);
	EXPECT_EQ(self->s.pins, count_pins(&self->s));
	EXPECT_TRUE(nothing_left(_metadata, &self->s));
}

static pid_t main_pid;

static void give_back(void)
{
	if (getpid() == main_pid)
		sva_vfio_give_back();
}

int main(int argc, char **argv)
{
	/* The harness does not return */
	main_pid = getpid();
	atexit(give_back);
	return test_harness_run(argc, argv);
}
