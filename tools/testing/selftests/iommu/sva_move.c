// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes take the ASIDs of DMA domains. With broadcast TLB maintenance a
 * process that is bound to a device has the CPUs' ASID in the SMMU. If a domain
 * that iommufd made has that number, it is moved to another while a device uses
 * it and while pages are unmapped from it. No access may get through with a
 * translation from before, at any time.
 *
 * One sva-testdev belongs to the processes that bind. Another one, behind the
 * same SMMU, is given to vfio-pci: the test drives all its queues, some without
 * PASID and some with, in domains of its own. Threads map a page, let the device
 * read and write it without pause, unmap it, and use the memory for something
 * else as soon as the system call returns. What the device reads or overwrites
 * then, it has reached by a stale translation. The page is at an address that
 * the processes use as well, for other data: so each finds out when it gets the
 * other's translation. Nor may an access outlive the attachment of its PASID.
 *
 * ASIDs of 8 bits on both sides make the CPUs' ASIDs meet those of the domains
 * again and again (QEMU: -cpu ...,x-asid-bits=8 -global arm-smmuv3.x-asid-bits=8).
 *
 * Environment:
 *	SVA_VFIO_DEVICE   PCI name of the device to give to vfio-pci
 *	SVA_MOVE_DOMAINS  number of domains (16)
 *	SVA_MOVE_TARGET   number of moves without which it fails (none; stops at 1000)
 *	SVA_MOVE_SECONDS  ... within this time (300)
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
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_smmu.h"
#include "sva_testdev.h"
#include "sva_vfio.h"

#define MAX_DOMAINS	64
/*
 * Each way into a domain is a CD to be changed when the domain is moved: the
 * more there are, the longer does an unmap have a chance to meet the move
 */
#define MAX_WAYS	32
#define WORKERS		4
/* Of a domain that is not moved, each by other ways */
#define ROUNDS		8
#define BINDERS		2
/*
 * Processes that are bound all the time, so that fewer ASIDs are left to others.
 * Half of the CPUs' ASIDs can be pinned: 126 of 256.
 */
#define IDLERS		100
/* Rounds of a thread from one look at what stays mapped to the next */
#define STEADY_ROUNDS	16
#define SAMPLES		400	/* unmaps whose commands are counted */

/* Dying processes whose ASID a domain gets, and processes tried until they have such an ASID */
#define DYING		4
#define DYING_TRIES	1200
/* ... with so much memory that they take a while to die */
#define DYING_SIZE	(64UL << 20)

/* Where the domains and the processes have their memory */
#define ADDRESS		((char *)0x1000000000)
#define CHURNED		0	/* page that comes and goes */
#define STEADY		1	/* page that stays */
#define SCRATCH		2	/* page that a process lets the device copy to */

/* The device looks at this many places of a page */
#define PLACES		8

/* What memory holds once it is used for something else */
#define CANARY		0xdead00000000dea1ULL

/* A device that is not stopped by then, once it is refused, was not refused */
#define STALE_ACCESSES	(4 * PLACES)

static size_t page_size;

/* One domain, attached to many PASIDs of the device; the first also to none */
struct domain {
	__u32 ioas;
	__u32 hwpt;
	struct sva_queue q[MAX_WAYS];
	__u64 *steady;
};

/* Shared with the processes that bind */
struct shared {
	unsigned int stop;
	unsigned int binds;
	unsigned int bad;
};

static unsigned int from_env(const char *name, unsigned int value)
{
	const char *s = getenv(name);

	return s ? strtoul(s, NULL, 0) : value;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static __u64 load(const __u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* In all places that the device looks at */
static void store(__u64 *page, __u64 value)
{
	unsigned int i;

	for (i = 0; i < PLACES; i++)
		__atomic_store_n(page + i * page_size / PLACES / 8, value, __ATOMIC_RELEASE);
}

static unsigned int differs(const __u64 *page, __u64 value)
{
	unsigned int i, n = 0;

	for (i = 0; i < PLACES; i++)
		n += load(page + i * page_size / PLACES / 8) != value;
	return n;
}

/* Memory that a fork does not copy */
static void *shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static char *address(unsigned int page)
{
	return ADDRESS + page * page_size;
}

struct bar {
	char *p;
	size_t size;
};

/* The second device and its domains, and what is to be seen of the SMMU */
struct machine {
	struct sva_vfio v;
	struct bar ctrl;
	struct bar queues;
	unsigned int nr_domains;
	unsigned int ways;	/* into each of them */
	struct domain d[MAX_DOMAINS];
	struct asid_trace trace;
	struct shared *shared;
	struct smmu smmu;
	bool btm;
};

static bool map_bar(struct bar *bar, int vfio, unsigned int index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };
	void *p;

	if (ioctl(vfio, VFIO_DEVICE_GET_REGION_INFO, &info))
		return false;
	p = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, vfio, info.offset);
	if (p == MAP_FAILED)
		return false;
	bar->p = p;
	bar->size = info.size;
	return true;
}

/* Let the device do DMA, and reach its registers: NULL, or what failed */
static const char *start_device(struct machine *m)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	__u16 command;

	if (ioctl(m->v.fd, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    pread(m->v.fd, &command, 2, config.offset + PCI_COMMAND) != 2)
		return "reading configuration space";
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(m->v.fd, &command, 2, config.offset + PCI_COMMAND) != 2)
		return "writing configuration space";
	if (!map_bar(&m->ctrl, m->v.fd, SVATD_BAR_CTRL) ||
	    !map_bar(&m->queues, m->v.fd, SVATD_BAR_QUEUES))
		return "mapping a BAR";
	return NULL;
}

static __u32 ctrl_read(struct machine *m, unsigned int offset)
{
	return __atomic_load_n((__u32 *)(m->ctrl.p + offset), __ATOMIC_RELAXED);
}

static void ctrl_write(struct machine *m, unsigned int offset, __u32 value)
{
	__atomic_store_n((__u32 *)(m->ctrl.p + offset), value, __ATOMIC_RELAXED);
}

static int map_page(struct machine *m, struct domain *d, unsigned int where, void *page)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = d->ioas,
		.user_va = (unsigned long)page,
		.length = page_size,
		.iova = sva_addr(address(where)),
	};

	return ioctl(m->v.iommufd, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

static int unmap_page(struct machine *m, struct domain *d, unsigned int where)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = d->ioas,
		.iova = sva_addr(address(where)),
		.length = page_size,
	};

	return ioctl(m->v.iommufd, IOMMU_IOAS_UNMAP, &unmap) ? -errno : 0;
}

/* What the steady page of a domain holds, and what else the device may find */
static __u64 domain_tag(struct machine *m, struct domain *d, unsigned int round)
{
	return 0xd000000000000000ULL | (__u64)(d - m->d) << 32 | round;
}

/* The device makes no more accesses for a queue after this */
static bool stop_queue(struct machine *m, unsigned int n)
{
	__u32 ctl = ctrl_read(m, SVATD_QCTL(n) + SVATD_QCTL_CTL);
	int ms;

	ctrl_write(m, SVATD_QCTL(n) + SVATD_QCTL_CTL, ctl & ~SVATD_QCTL_CTL_ENABLE);
	for (ms = 0; ms < SVA_TIMEOUT_MS; ms++) {
		if (!(ctrl_read(m, SVATD_QCTL(n) + SVATD_QCTL_STATE) & SVATD_QCTL_STATE_BUSY))
			return true;
		usleep(1000);
	}
	return false;
}

/* Domain @n, attached to some queues, each with a PASID that is its number */
static const char *new_domain(struct machine *m, unsigned int n)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.flags = IOMMU_HWPT_ALLOC_PASID,
		.dev_id = m->v.dev_id,
	};
	struct domain *d = &m->d[n];
	unsigned int i;

	if (ioctl(m->v.iommufd, IOMMU_IOAS_ALLOC, &ioas))
		return "IOMMU_IOAS_ALLOC";
	d->ioas = ioas.out_ioas_id;
	hwpt.pt_id = ioas.out_ioas_id;
	if (ioctl(m->v.iommufd, IOMMU_HWPT_ALLOC, &hwpt))
		return "IOMMU_HWPT_ALLOC";
	d->hwpt = hwpt.out_hwpt_id;

	for (i = 0; i < m->ways; i++) {
		/* 0 is none */
		__u32 pasid = m->ways * n + i, ctl = pasid ? SVATD_QCTL_CTL_PASID : 0;
		struct vfio_device_attach_iommufd_pt attach = {
			.argsz = sizeof(attach),
			.flags = pasid ? VFIO_DEVICE_ATTACH_PASID : 0,
			.pt_id = d->hwpt,
			.pasid = pasid,
		};

		if (ioctl(m->v.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
			return pasid ? "VFIO_DEVICE_ATTACH_IOMMUFD_PT with a PASID" :
				       "VFIO_DEVICE_ATTACH_IOMMUFD_PT";
		if (!stop_queue(m, pasid))
			return "stopping a queue";
		ctrl_write(m, SVATD_QCTL(pasid) + SVATD_QCTL_PASID, pasid);
		ctrl_write(m, SVATD_QCTL(pasid) + SVATD_QCTL_CTL, ctl);
		ctrl_write(m, SVATD_QCTL(pasid) + SVATD_QCTL_CTL, ctl | SVATD_QCTL_CTL_ENABLE);
		d->q[i].fd = -1;
		d->q[i].page = m->queues.p + pasid * SVATD_QUEUE_STRIDE;
	}

	d->steady = shared_memory(page_size);
	if (!d->steady)
		return "mmap";
	store(d->steady, domain_tag(m, d, 0));
	if (map_page(m, d, STEADY, d->steady))
		return "IOMMU_IOAS_MAP";
	return NULL;
}

static bool free_device(struct machine *m)
{
	bool quiet = true;
	unsigned int i;

	for (i = 0; i < m->ways * m->nr_domains; i++)
		quiet &= stop_queue(m, i);
	m->nr_domains = 0;
	/* Their mappings hold the device open */
	if (m->ctrl.p)
		munmap(m->ctrl.p, m->ctrl.size);
	if (m->queues.p)
		munmap(m->queues.p, m->queues.size);
	sva_vfio_close(&m->v);
	return quiet;
}

FIXTURE(move)
{
	struct machine m;
};

FIXTURE_SETUP(move)
{
	struct machine *m = &self->m;
	char pci[PCI_NAME_LEN];
	unsigned int i, queues;
	const char *problem;
	struct sva_queue q;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	m->trace.pipe = -1;
	ret = sva_queue_init(&q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	sva_queue_close(&q);
	problem = sva_vfio_skip_reason();
	if (problem)
		SKIP(return, "%s", problem);
	ret = asid_trace_open(&m->trace);
	if (ret == -ENOENT)
		SKIP(return, "no tracepoints arm_smmu_v3:arm_smmu_asid_* in this kernel");
	ASSERT_EQ(0, ret);
	if (smmu_map(&m->smmu, smmu_find(sva_device())))
		SKIP(return, "the SMMU's registers cannot be read: no /dev/mem");

	sva_vfio_find(pci);
	problem = sva_vfio_open(&m->v, pci);
	if (!problem)
		problem = start_device(m);
	ASSERT_EQ(NULL, problem) {
		TH_LOG("%s: %m", problem);
	}
	m->nr_domains = from_env("SVA_MOVE_DOMAINS", 16);
	if (m->nr_domains > MAX_DOMAINS)
		m->nr_domains = MAX_DOMAINS;
	queues = ctrl_read(m, SVATD_CAPS) & SVATD_CAPS_QUEUES;
	if (m->nr_domains > queues / 2)
		m->nr_domains = queues / 2;
	if (m->nr_domains < WORKERS) {
		i = m->nr_domains;
		free_device(m);
		SKIP(return, "%u domains are too few for %d threads", i, WORKERS);
	}
	m->ways = queues / m->nr_domains;
	if (m->ways > MAX_WAYS)
		m->ways = MAX_WAYS;
	for (i = 0; i < m->nr_domains; i++) {
		problem = new_domain(m, i);
		ASSERT_EQ(NULL, problem) {
			TH_LOG("domain %u: %s: %m", i, problem);
		}
	}

	/* Without BTM no process wants a certain ASID */
	ASSERT_EQ(0, sva_queue_init(&q));
	sva_queue_close(&q);
	asid_trace_update(&m->trace);
	m->btm = m->trace.shares + m->trace.fallbacks;
	m->shared = shared_memory(page_size);
	ASSERT_NE(NULL, m->shared);
}

FIXTURE_TEARDOWN(move)
{
	struct machine *m = &self->m;
	bool settled = !m->shared || asid_trace_settle(&m->trace, SVA_TIMEOUT_MS);

	asid_trace_close(&m->trace);
	smmu_unmap(&m->smmu);
	EXPECT_TRUE(free_device(m));
	EXPECT_TRUE(settled);
}

/*
 * A page that comes and goes
 */
struct stale {
	unsigned int reads;	/* the device found the canary */
	unsigned int writes;	/* the device overwrote the canary, or went on */
	unsigned int failures;	/* anything else that should not be */
};

static void poll_page(struct sva_queue *q, unsigned int where, __u64 value)
{
	sva_poll_start(q, 0, address(where), page_size, page_size / PLACES, value, value);
}

static void hammer_page(struct sva_queue *q, unsigned int where, __u64 value)
{
	sva_hammer_start(q, 1, address(where), page_size, page_size / PLACES, value);
}

/*
 * Wait until a slot has come this far, or has ended. Sleep meanwhile: the other
 * threads and the processes shall run.
 */
static unsigned int wait_for(struct sva_queue *q, unsigned int slot, __u64 count,
			     struct sva_result *res)
{
	double start = now();

	for (;;) {
		sva_peek(q, slot, res);
		if (res->code != SVATD_ST_RUNNING || res->count >= count ||
		    now() - start > SVA_TIMEOUT_MS / 1e3)
			return res->code;
		usleep(50);
	}
}

static bool runs(struct sva_queue *q, unsigned int slot)
{
	struct sva_result res;

	return wait_for(q, slot, PLACES, &res) == SVATD_ST_RUNNING && res.count >= PLACES;
}

/*
 * After it was unmapped: an access must be refused, and end what runs. A slow host may
 * take its time for that, in which the device does not go on.
 */
static void expect_refused(struct sva_queue *q, unsigned int slot, struct stale *stale)
{
	struct sva_result res;
	unsigned int code;

	sva_peek(q, slot, &res);
	code = wait_for(q, slot, res.count + STALE_ACCESSES, &res);
	if (code == SVATD_ST_FAULT)
		return;
	if (code == SVATD_ST_MISMATCH && res.value == CANARY) {
		stale->reads++;
	} else if (code == SVATD_ST_RUNNING) {
		stale->writes++;
		sva_stop(q, slot, NULL);
	} else {
		ksft_print_msg("slot %u: %s, value %#llx\n", slot, sva_status_name(code),
			       res.value);
		stale->failures++;
	}
}

/*
 * Map the page, let the device read it by one way into the domain and write it
 * by the other, unmap it, and use the memory for something else. If @too_early,
 * use it before it is unmapped: a device that is still allowed to access it
 * looks like one with a stale translation.
 */
static void churn(struct machine *m, struct domain *d, __u64 *page, unsigned int round,
		  bool too_early, struct stale *stale)
{
	struct sva_queue *reader = &d->q[round % m->ways];
	struct sva_queue *writer = &d->q[(round + m->ways / 2) % m->ways];
	__u64 good = domain_tag(m, d, round + 1);
	struct sva_result res;

	store(page, good);
	if (map_page(m, d, CHURNED, page)) {
		stale->failures++;
		return;
	}
	poll_page(reader, CHURNED, good);
	hammer_page(writer, CHURNED, good);
	if (!runs(reader, 0) || !runs(writer, 1))
		stale->failures++;
	if (too_early) {
		/* Without the writer, which would undo it before it is read */
		sva_stop(writer, 1, NULL);
		store(page, CANARY);
		if (wait_for(reader, 0, -1, &res) == SVATD_ST_MISMATCH && res.value == CANARY)
			stale->reads++;
		hammer_page(writer, CHURNED, good);
		if (!runs(writer, 1))
			stale->failures++;
	}
	if (unmap_page(m, d, CHURNED))
		stale->failures++;
	if (!too_early)
		store(page, CANARY);
	expect_refused(writer, 1, stale);
	if (!too_early)
		expect_refused(reader, 0, stale);
	if (differs(page, CANARY))
		stale->writes++;

	if (round % STEADY_ROUNDS)
		return;
	good = domain_tag(m, d, 0);
	poll_page(reader, STEADY, good);
	if (!runs(reader, 0) || sva_stop(reader, 0, NULL) != SVATD_ST_STOPPED)
		stale->failures++;
}

struct worker {
	pthread_t thread;
	struct machine *m;
	unsigned int first;
	bool *stop;
	unsigned int rounds;
	struct stale stale;
};

/* Round the domains that are this thread's */
static void *work(void *arg)
{
	struct worker *w = arg;
	__u64 *page = shared_memory(page_size);
	unsigned int n = w->first;

	while (!__atomic_load_n(w->stop, __ATOMIC_ACQUIRE)) {
		churn(w->m, &w->m->d[n], page, w->rounds++, false, &w->stale);
		n += WORKERS;
		if (n >= w->m->nr_domains)
			n = w->first;
	}
	return NULL;
}

/*
 * Processes that bind
 */
struct binders {
	pid_t pid[BINDERS + IDLERS];
	unsigned int nr;
	int pipe[2];
};

static int new_page(char *addr, __u64 value)
{
	if (mmap(addr, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) != addr)
		return -1;
	store((__u64 *)addr, value);
	return 0;
}

/* Bind, and let the device copy what is at the addresses that domains use */
static int bind_once(unsigned int id)
{
	__u64 value = 0x5a00000000000000ULL | id, *scratch = (__u64 *)address(SCRATCH);
	struct sva_queue q;
	unsigned int i;
	int ret;

	if (new_page(address(CHURNED), value) || new_page(address(STEADY), value) ||
	    new_page(address(SCRATCH), 0))
		return 1;
	ret = sva_queue_init(&q);
	if (ret) {
		ksft_print_msg("bind: %s\n", strerror(-ret));
		return 1;
	}
	for (i = CHURNED; i <= STEADY; i++) {
		ret = sva_copy(&q, 0, scratch, address(i), page_size, NULL);
		if (ret != SVATD_ST_OK || differs(scratch, value)) {
			ksft_print_msg("process: %s, page %u, value %#llx instead of %#llx\n",
				       sva_status_name(ret), i, scratch[0], value);
			return 2;
		}
		store(scratch, 0);
	}
	/* The device has used it: a broadcast drops that */
	munmap(scratch, page_size);
	/* Exit takes longer while it is bound: a grace period of SRCU */
	if (id % 16)
		sva_queue_close(&q);
	return 0;
}

/* Bind, and stay so until the other end of the pipe is closed */
static int idler(int end)
{
	struct sva_queue q;
	char c;

	if (sva_queue_init(&q))
		return 1;
	return read(end, &c, 1);
}

static int binder(unsigned int id, struct shared *shared)
{
	int status;
	pid_t pid;

	while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
		id += BINDERS;
		pid = fork();
		if (pid < 0)
			return 1;
		if (!pid)
			_exit(bind_once(id));
		if (waitpid(pid, &status, 0) != pid)
			return 1;
		if (status)
			__atomic_fetch_add(&shared->bad, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&shared->binds, 1, __ATOMIC_RELAXED);
	}
	return 0;
}

/* What forks must be no copy of this process, with its threads and its files */
static void start_binders(struct __test_metadata *_metadata, struct machine *m,
			  struct binders *b)
{
	unsigned int i;
	long queues;

	ASSERT_EQ(0, sva_device_attr("available_instances", &queues));
	ASSERT_LT(2 * BINDERS, queues);
	b->nr = queues - 2 * BINDERS;
	if (b->nr > IDLERS)
		b->nr = IDLERS;
	b->nr += BINDERS;
	ASSERT_EQ(0, pipe(b->pipe));
	m->shared->stop = 0;
	for (i = 0; i < b->nr; i++) {
		fflush(NULL);
		b->pid[i] = fork();
		ASSERT_LE(0, b->pid[i]);
		if (b->pid[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(m->v.fd);
		close(m->v.iommufd);
		close(b->pipe[1]);
		_exit(i < BINDERS ? binder(i, m->shared) : idler(b->pipe[0]));
	}
}

static void stop_binders(struct __test_metadata *_metadata, struct machine *m,
			 struct binders *b)
{
	unsigned int i;
	int status;

	__atomic_store_n(&m->shared->stop, 1, __ATOMIC_RELEASE);
	close(b->pipe[1]);
	for (i = 0; i < b->nr; i++) {
		EXPECT_EQ(b->pid[i], waitpid(b->pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	close(b->pipe[0]);
	EXPECT_EQ(0, m->shared->bad) {
		TH_LOG("stale access: %u processes' device found what is not theirs",
		       m->shared->bad);
	}
}

/* The ASIDs of the CPUs and of the domains must meet: NULL, or why they do not */
static const char *no_collisions(struct machine *m)
{
	if (!m->btm)
		return "broadcast TLB maintenance is off: no process wants an ASID";
	if (smmu_asid16(&m->smmu))
		return "ASIDs of 16 bits hardly ever meet (QEMU: x-asid-bits=8 for CPUs and SMMU)";
	return NULL;
}

/* In each domain, by all ways */
static void churn_all(struct __test_metadata *_metadata, struct machine *m, bool too_early)
{
	unsigned int i, expected, rounds = ROUNDS * m->nr_domains;
	__u64 *page = shared_memory(page_size);
	struct stale stale = {};

	ASSERT_NE(NULL, page);
	for (i = 0; i < rounds; i++)
		churn(m, &m->d[i / ROUNDS], page, i * m->ways / ROUNDS, too_early, &stale);
	expected = too_early ? rounds : 0;
	EXPECT_EQ(expected, stale.reads);
	EXPECT_EQ(expected, stale.writes);
	EXPECT_EQ(0, stale.failures);
}

/* What finds stale accesses must find them, when memory is reused too early */
TEST_F_TIMEOUT(move, detector, 600)
{
	churn_all(_metadata, &self->m, true);
}

TEST_F_TIMEOUT(move, nothing_moves, 600)
{
	churn_all(_metadata, &self->m, false);
}

/* Give a PASID to the domain @hwpt, or take it away if that is 0 */
static int attach_pasid(struct machine *m, __u32 pasid, __u32 hwpt)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.flags = VFIO_DEVICE_ATTACH_PASID,
		.pt_id = hwpt,
		.pasid = pasid,
	};
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
		.flags = VFIO_DEVICE_DETACH_PASID,
		.pasid = pasid,
	};

	if (hwpt)
		return ioctl(m->v.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ? -errno : 0;
	return ioctl(m->v.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach) ? -errno : 0;
}

/*
 * The device goes on with a PASID while that is detached, and after it: from then
 * on nothing is reached, by way of the TLB or of an ATC. Other ways into the domain
 * stay open, and the next domain that the PASID gets is the only one it reaches.
 */
TEST_F_TIMEOUT(move, detached_in_use, 600)
{
	struct machine *m = &self->m;
	__u64 *page = shared_memory(page_size);
	struct stale stale = {};
	struct sva_result res;
	unsigned int i;

	ASSERT_NE(NULL, page);
	/* One is enough to fail */
	for (i = 1; i < m->ways * WORKERS && !stale.reads && !stale.writes; i++) {
		struct domain *d = &m->d[i / m->ways], *next = &m->d[(i / m->ways + 1) % WORKERS];
		struct sva_queue *q = &d->q[i % m->ways], *other = &d->q[(i + 1) % m->ways];
		__u64 good = domain_tag(m, d, i);

		store(page, good);
		ASSERT_EQ(0, map_page(m, d, CHURNED, page));
		poll_page(q, CHURNED, good);
		hammer_page(q, CHURNED, good);
		poll_page(other, STEADY, domain_tag(m, d, 0));
		if (!runs(q, 0) || !runs(q, 1) || !runs(other, 0))
			stale.failures++;
		ASSERT_EQ(0, attach_pasid(m, i, 0));
		store(page, CANARY);
		expect_refused(q, 1, &stale);
		expect_refused(q, 0, &stale);
		/* Nor does an access that begins now */
		if (sva_fill(q, 2, address(CHURNED), good, page_size, &res) != SVATD_ST_FAULT)
			stale.writes++;
		if (differs(page, CANARY))
			stale.writes++;
		if (!runs(other, 0) || sva_stop(other, 0, NULL) != SVATD_ST_STOPPED)
			stale.failures++;

		ASSERT_EQ(0, attach_pasid(m, i, next->hwpt));
		poll_page(q, STEADY, domain_tag(m, next, 0));
		if (!runs(q, 0) || sva_stop(q, 0, NULL) != SVATD_ST_STOPPED)
			stale.failures++;
		if (sva_fill(q, 2, address(CHURNED), good, page_size, &res) != SVATD_ST_FAULT)
			stale.writes++;
		ASSERT_EQ(0, attach_pasid(m, i, 0));
		ASSERT_EQ(0, attach_pasid(m, i, d->hwpt));
		ASSERT_EQ(0, unmap_page(m, d, CHURNED));
	}
	EXPECT_EQ(0, stale.reads);
	EXPECT_EQ(0, stale.writes);
	EXPECT_EQ(0, stale.failures);
}

/*
 * The ASID of a dying process
 */
struct dying {
	pid_t pid;
	int said;
	int tell;
};

static bool use_only_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

/* Bind; if told to, get ready to die slowly */
static int dying_process(int cpu, int say, int told)
{
	const struct sched_param param = {};
	__u64 *scratch = (__u64 *)address(SCRATCH);
	unsigned int i, page;
	struct sva_queue q;
	char c = 0, *p;

	for (i = CHURNED; i <= SCRATCH; i++)
		if (new_page(address(i), CANARY))
			return 1;
	if (sva_queue_init(&q))
		return 2;
	for (page = CHURNED; page <= STEADY; page++)
		if (sva_copy(&q, 0, scratch, address(page), page_size, NULL) != SVATD_ST_OK)
			return 3;
	if (write(say, &c, 1) != 1 || read(told, &c, 1) != 1)
		return 0;
	p = mmap(NULL, DYING_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || madvise(p, DYING_SIZE, MADV_NOHUGEPAGE) ||
	    madvise(p, DYING_SIZE, MADV_POPULATE_WRITE))
		return 4;
	if (!use_only_cpu(cpu) || sched_setscheduler(0, SCHED_IDLE, &param))
		return 5;
	if (write(say, &c, 1) == 1)
		pause();
	return 6;
}

static void start_dying(struct __test_metadata *_metadata, struct machine *m, int cpu,
			struct dying *p)
{
	int say[2], tell[2];
	char c;

	ASSERT_EQ(0, pipe(say));
	ASSERT_EQ(0, pipe(tell));
	fflush(NULL);
	p->pid = fork();
	ASSERT_LE(0, p->pid);
	if (!p->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(m->v.fd);
		close(m->v.iommufd);
		close(say[0]);
		close(tell[1]);
		_exit(dying_process(cpu, say[1], tell[0]));
	}
	close(say[1]);
	close(tell[0]);
	p->said = say[0];
	p->tell = tell[1];
	ASSERT_EQ(1, read(p->said, &c, 1));
}

static int end_dying(struct dying *p)
{
	int status;

	close(p->tell);
	close(p->said);
	return waitpid(p->pid, &status, 0) == p->pid ? status : -1;
}

/* Somebody who leaves a SCHED_IDLE process hardly any time */
static pid_t start_hog(int cpu)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (use_only_cpu(cpu))
		for (;;)
			;
	_exit(1);
}

/* A new domain, which a PASID of the device gets, must reach its own memory alone */
static void use_heir(struct __test_metadata *_metadata, struct machine *m, __u32 ioas,
		     __u64 *scratch, __u64 good, struct stale *stale)
{
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.flags = IOMMU_HWPT_ALLOC_PASID,
		.dev_id = m->v.dev_id,
		.pt_id = ioas,
	};
	struct iommu_destroy destroy = { .size = sizeof(destroy) };
	struct sva_queue *q = &m->d[0].q[1];

	ASSERT_EQ(0, ioctl(m->v.iommufd, IOMMU_HWPT_ALLOC, &hwpt));
	ASSERT_EQ(0, attach_pasid(m, 1, 0));
	ASSERT_EQ(0, attach_pasid(m, 1, hwpt.out_hwpt_id));
	/* Not mapped in this domain, but in the process */
	if (sva_copy(q, 0, address(SCRATCH), address(CHURNED), page_size, NULL) !=
	    SVATD_ST_FAULT)
		stale->reads++;
	/* Mapped in both */
	store(scratch, 0);
	if (sva_copy(q, 0, address(SCRATCH), address(STEADY), page_size, NULL) != SVATD_ST_OK ||
	    differs(scratch, good))
		stale->writes++;
	ASSERT_EQ(0, attach_pasid(m, 1, 0));
	ASSERT_EQ(0, attach_pasid(m, 1, m->d[0].hwpt));
	destroy.id = hwpt.out_hwpt_id;
	ASSERT_EQ(0, ioctl(m->v.iommufd, IOMMU_DESTROY, &destroy));
}

/*
 * A dying process gives its ASID back before its memory is freed, and the next
 * domain may get the number: that must find nothing in the TLB. When the page tables
 * are freed the CPUs invalidate the ASID once more, so the domain has to come before.
 * A domain's ASID is the lowest that is free. One that has been taken from a domain
 * is that, if nobody else gave one back meanwhile: so this is done several times.
 */
TEST_F_TIMEOUT(move, dying_owner, 600)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct iommu_destroy destroy = { .size = sizeof(destroy) };
	unsigned int tries, moves, frees, done = 0, late = 0;
	struct machine *m = &self->m;
	const char *reason = no_collisions(m);
	__u64 good = 0xd0d0000000000000ULL;
	int cpu, cpus[2], status, n = 0;
	__u64 *steady, *scratch;
	struct stale stale = {};
	struct domain d = {};
	struct dying p;
	cpu_set_t set;
	pid_t hog;
	char c = 0;

	if (reason)
		SKIP(return, "%s", reason);
	if (!m->trace.has_move)
		SKIP(return, "this kernel moves no ASID: no tracepoint arm_smmu_asid_move");
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	for (cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[n++] = cpu;
	if (n < 2)
		SKIP(return, "a single CPU");
	ASSERT_TRUE(use_only_cpu(cpus[0]));

	ASSERT_EQ(0, ioctl(m->v.iommufd, IOMMU_IOAS_ALLOC, &ioas));
	d.ioas = ioas.out_ioas_id;
	steady = shared_memory(page_size);
	scratch = shared_memory(page_size);
	ASSERT_TRUE(steady && scratch);
	store(steady, good);
	ASSERT_EQ(0, map_page(m, &d, STEADY, steady));
	ASSERT_EQ(0, map_page(m, &d, SCRATCH, scratch));

	for (tries = 0; tries < DYING_TRIES && done < DYING; tries++) {
		siginfo_t info = {};
		double start;

		asid_trace_update(&m->trace);
		moves = m->trace.moves;
		start_dying(_metadata, m, cpus[1], &p);
		asid_trace_update(&m->trace);
		if (m->trace.moves == moves) {
			ASSERT_EQ(0, end_dying(&p));
			continue;
		}
		ASSERT_EQ(1, write(p.tell, &c, 1));
		ASSERT_EQ(1, read(p.said, &c, 1));
		frees = m->trace.frees;
		hog = start_hog(cpus[1]);
		ASSERT_LT(0, hog);
		kill(p.pid, SIGKILL);
		start = now();
		do {
			usleep(200);
			asid_trace_update(&m->trace);
		} while (m->trace.frees == frees && now() - start < 6 * SVA_TIMEOUT_MS / 1e3);
		EXPECT_LT(frees, m->trace.frees);
		use_heir(_metadata, m, d.ioas, scratch, good, &stale);
		/* If all of it has gone by now, the domain may have come too late */
		if (waitid(P_PID, p.pid, &info, WEXITED | WNOHANG | WNOWAIT))
			info.si_pid = p.pid;
		*(info.si_pid == p.pid ? &late : &done) += 1;
		kill(hog, SIGKILL);
		waitpid(hog, &status, 0);
		end_dying(&p);
	}
	destroy.id = d.ioas;
	ASSERT_EQ(0, ioctl(m->v.iommufd, IOMMU_DESTROY, &destroy));
	TH_LOG("%u processes, %u whose ASID a domain had, %u died too soon", tries, done + late,
	       late);
	EXPECT_EQ(DYING, done);
	EXPECT_EQ(0, stale.reads + stale.writes) {
		TH_LOG("stale access: %u times the device reached a dead process's memory",
		       stale.reads + stale.writes);
	}
}

/* It ends by itself, as SVA_MOVE_SECONDS has it */
TEST_F_TIMEOUT(move, stress, 3600)
{
	struct machine *m = &self->m;
	unsigned int target = from_env("SVA_MOVE_TARGET", 1000);
	/* A kernel that cannot move a domain shows that soon enough */
	unsigned int seconds = from_env("SVA_MOVE_SECONDS", m->trace.has_move ? 300 : 5);
	const char *reason = no_collisions(m);
	struct worker w[WORKERS];
	struct stale stale = {};
	unsigned int i, found = 0, rounds = 0;
	struct binders b;
	bool stop = false;
	double start;

	if (reason)
		SKIP(return, "%s", reason);
	start_binders(_metadata, m, &b);
	for (i = 0; i < WORKERS; i++) {
		w[i] = (struct worker) { .m = m, .first = i, .stop = &stop };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, work, &w[i]));
	}
	start = now();
	while (now() - start < seconds && m->trace.moves < target && !found) {
		usleep(50000);
		/* One is enough to fail */
		found = __atomic_load_n(&m->shared->bad, __ATOMIC_RELAXED);
		for (i = 0; i < WORKERS; i++)
			found |= __atomic_load_n(&w[i].stale.reads, __ATOMIC_RELAXED) |
				 __atomic_load_n(&w[i].stale.writes, __ATOMIC_RELAXED);
		asid_trace_update(&m->trace);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		rounds += w[i].rounds;
		stale.reads += w[i].stale.reads;
		stale.writes += w[i].stale.writes;
		stale.failures += w[i].stale.failures;
	}
	stop_binders(_metadata, m, &b);
	asid_trace_update(&m->trace);

	TH_LOG("%.0f s: %u domains, %u unmaps, %u processes", now() - start, m->nr_domains,
	       rounds, m->shared->binds);
	TH_LOG("%u moves, %u ASIDs shared, %u fell back, %u of them because of a collision",
	       m->trace.moves, m->trace.shares, m->trace.fallbacks,
	       m->trace.collisions);
	EXPECT_EQ(0, stale.reads + stale.writes) {
		TH_LOG("stale access: %u unmapped pages were read, %u were written", stale.reads,
		       stale.writes);
	}
	EXPECT_EQ(0, stale.failures);
	EXPECT_LT(0, rounds);
	EXPECT_LT(0, m->shared->binds);
	/* Nothing that failed is hidden by that */
	if (!m->trace.has_move && __test_passed(_metadata))
		SKIP(return, "this kernel moves no ASID: no tracepoint arm_smmu_asid_move");
	/* How many there are in what time is the machine's business, if nobody asked */
	EXPECT_LE(getenv("SVA_MOVE_TARGET") ? target : 1, m->trace.moves);
}

/*
 * Commands for an unmap: for each domain the least counts, as those of others, whose
 * process has just gone, may be among them
 */
struct commands {
	unsigned int least;
	unsigned int one_more;	/* unmaps with one command more than the least */
	unsigned int most;	/* of the domains, not of all unmaps */
};

static struct commands count_commands(struct __test_metadata *_metadata,
				      struct machine *m)
{
	__u64 *page = shared_memory(page_size);
	__u32 prod, n[SAMPLES], least[MAX_DOMAINS];
	struct commands c = {};
	unsigned int i, k;

	ASSERT_NE(NULL, page);
	for (i = 0; i < SAMPLES; i++) {
		struct domain *d = &m->d[i % m->nr_domains];

		store(page, i);
		ASSERT_EQ(0, map_page(m, d, CHURNED, page));
		for (k = 0; k < m->ways; k += (m->ways + 7) / 8)
			ASSERT_EQ(SVATD_ST_OK,
				  sva_fill(&d->q[k], 2, address(CHURNED), i, page_size, NULL));
		prod = smmu_cmdq_prod(&m->smmu);
		ASSERT_EQ(0, unmap_page(m, d, CHURNED));
		n[i] = smmu_cmdq_advance(&m->smmu, prod, smmu_cmdq_prod(&m->smmu));
	}
	munmap(page, page_size);
	for (i = 0; i < SAMPLES; i++) {
		k = i % m->nr_domains;
		if (i < m->nr_domains || n[i] < least[k])
			least[k] = n[i];
	}
	c.least = least[0];
	for (k = 0; k < m->nr_domains; k++) {
		if (least[k] < c.least)
			c.least = least[k];
		if (least[k] > c.most)
			c.most = least[k];
	}
	for (i = 0; i < SAMPLES; i++)
		c.one_more += n[i] == c.least + 1;
	return c;
}

/*
 * Moves cost nothing before and after. Meanwhile, what is counted contains the
 * commands of the moves and of the processes that come and go.
 */
TEST_F_TIMEOUT(move, commands_per_unmap, 600)
{
	struct machine *m = &self->m;
	const char *reason = no_collisions(m);
	struct commands before, during, after;
	unsigned int moves;
	struct binders b;

	if (reason)
		SKIP(return, "%s", reason);
	if (!m->trace.has_move)
		SKIP(return, "this kernel moves no ASID: no tracepoint arm_smmu_asid_move");
	before = count_commands(_metadata, m);
	moves = m->trace.moves;
	start_binders(_metadata, m, &b);
	during = count_commands(_metadata, m);
	stop_binders(_metadata, m, &b);
	EXPECT_TRUE(asid_trace_settle(&m->trace, SVA_TIMEOUT_MS));
	moves = m->trace.moves - moves;
	after = count_commands(_metadata, m);
	TH_LOG("commands per unmap: %u to %u before, %u to %u after", before.least, before.most,
	       after.least, after.most);
	TH_LOG("during %u moves: %u to %u, of %d unmaps %u with one more than the least", moves,
	       during.least, during.most, SAMPLES, during.one_more);
	EXPECT_LT(0, moves);
	EXPECT_EQ(before.least, before.most);
	EXPECT_EQ(before.least, after.least);
	EXPECT_EQ(before.most, after.most);
	EXPECT_EQ(before.least, during.least);
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
