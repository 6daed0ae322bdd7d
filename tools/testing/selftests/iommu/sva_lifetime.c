// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing: nobody's death, reset or lock hurts anybody else. A
 * process keeps its mmap_lock for seconds, or waits for a page that never comes,
 * while its device waits for it; it is killed, the file is closed by somebody who
 * has it as well, the function is reset, or its driver goes. The kernel has
 * nothing to say to that, others carry on at their own pace, and what the
 * process had is given back.
 *
 * How long the operations take is printed. SVA_LIFETIME_MS is how long one may
 * take that must not wait for others (1000).
 *
 * What mainline does in each case, and which patch changes that, is said there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <linux/pci_regs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <misc/uacce/uacce.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"
#include "sva_watch.h"

#define SLOT		"/sys/bus/pci/slots/0"
#define POWER		"/sys/module/arm_smmu_v3/parameters/power"

/* Memory whose page tables take fork() a second or more to copy */
#define HOLD_SIZE	(64 * MB)
#define HOLD_MAPS	96

static double limit(void)
{
	const char *env = getenv("SVA_LIFETIME_MS");

	return (env ? strtoul(env, NULL, 0) : 1000) / 1e3;
}

/* It waits, and not for a signal */
static bool sleeps(pid_t pid)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	char path[64], state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	do {
		f = fopen(path, "r");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		if (f)
			fclose(f);
		if (state == 'D')
			return true;
		usleep(1000);
	} while (now() < end);
	return false;
}

/*
 * Whoever forks holds its mmap_lock for writing until all page tables are copied
 */
struct hold {
	pthread_t thread, probe;
	int state;		/* 1: about to fork, 2: done */
	unsigned int probes;	/* how often the mmap_lock was free for reading */
	double seconds;
};

static bool hold_prepare(void)
{
	unsigned int i;
	char *p;
	int fd;

	fd = memfd_create("hold", 0);
	if (fd < 0 || ftruncate(fd, HOLD_SIZE))
		return false;
	for (i = 0; i < HOLD_MAPS; i++) {
		p = mmap(NULL, HOLD_SIZE, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
		if (p == MAP_FAILED || mprotect(p, HOLD_SIZE, PROT_READ | PROT_WRITE))
			return false;
		/* With a page of its own it is copied, all of it */
		*p = 1;
	}
	close(fd);
	return true;
}

static void *hold_thread(void *arg)
{
	struct hold *h = arg;
	double start = now();
	pid_t pid;

	__atomic_store_n(&h->state, 1, __ATOMIC_RELEASE);
	pid = fork();
	if (!pid)
		_exit(0);
	h->seconds = now() - start;
	__atomic_store_n(&h->state, 2, __ATOMIC_RELEASE);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return NULL;
}

static bool holds(const struct hold *h)
{
	return __atomic_load_n(&h->state, __ATOMIC_ACQUIRE) < 2;
}

static void *hold_probe(void *arg)
{
	/* Any page that is mapped */
	void *page = (void *)((unsigned long)&page_size & -page_size);
	struct hold *h = arg;
	unsigned char in;

	while (holds(h)) {
		mincore(page, page_size, &in);
		__atomic_add_fetch(&h->probes, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static bool hold_start(struct hold *h)
{
	memset(h, 0, sizeof(*h));
	return !pthread_create(&h->probe, NULL, hold_probe, h) &&
	       !pthread_create(&h->thread, NULL, hold_thread, h);
}

/*
 * Returns when the mmap_lock is held, as those who want it see. The process that forks
 * may see that late: fork() write-protects what it has on its stack.
 */
static void hold_wait(const struct hold *h)
{
	unsigned int before;

	do {
		before = __atomic_load_n(&h->probes, __ATOMIC_ACQUIRE);
		usleep(30000);
	} while ((!__atomic_load_n(&h->state, __ATOMIC_ACQUIRE) ||
		  before != __atomic_load_n(&h->probes, __ATOMIC_ACQUIRE)) && holds(h));
}

static void hold_end(struct hold *h)
{
	pthread_join(h->thread, NULL);
	pthread_join(h->probe, NULL);
	took("fork()", h->seconds);
}

/*
 * It ended before what took @seconds, which did not wait for it: that would have taken
 * almost as long
 */
static bool hold_too_quick(const struct hold *h, double seconds)
{
	return !holds(h) && seconds < h->seconds / 2;
}

#define TOO_QUICK	"fork() was too quick: it ended before what was to be done beside it"

/*
 * A file whose pages never come
 */
struct never {
	char dir[32];
	char file[64];
	int fd;
	int asked;		/* reads that have no answer */
	int fail;		/* reads to fail before that */
	pthread_t thread;
};

static void never_reply(int fd, __u64 unique, int error, const void *data, size_t len)
{
	char buf[512];
	struct fuse_out_header *out = (void *)buf;

	memset(out, 0, sizeof(*out));
	out->len = sizeof(*out) + len;
	out->error = error;
	out->unique = unique;
	if (len)
		memcpy(out + 1, data, len);
	if (write(fd, buf, out->len) < 0)
		return;		/* the request was aborted */
}

static void never_attr(struct fuse_attr *attr, __u64 node)
{
	memset(attr, 0, sizeof(*attr));
	attr->ino = node;
	attr->mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
	attr->nlink = 1;
	attr->size = MB;
}

static void *never_thread(void *arg)
{
	static char buf[FUSE_MIN_READ_BUFFER + (1 << 17)];
	struct fuse_in_header *in = (void *)buf;
	struct never *n = arg;

	while (read(n->fd, buf, sizeof(buf)) >= (ssize_t)sizeof(*in)) {
		struct fuse_init_out init = {
			.major = FUSE_KERNEL_VERSION,
			.minor = FUSE_KERNEL_MINOR_VERSION,
			.max_write = 4096,
		};
		struct fuse_entry_out entry = {
			.nodeid = 2, .entry_valid = 60, .attr_valid = 60,
		};
		struct fuse_attr_out attr = { .attr_valid = 60 };
		struct fuse_open_out open = { .fh = 1, .open_flags = FOPEN_KEEP_CACHE };

		switch (in->opcode) {
		case FUSE_INIT:
			never_reply(n->fd, in->unique, 0, &init, sizeof(init));
			break;
		case FUSE_LOOKUP:
			never_attr(&entry.attr, 2);
			never_reply(n->fd, in->unique, 0, &entry, sizeof(entry));
			break;
		case FUSE_GETATTR:
			never_attr(&attr.attr, in->nodeid);
			never_reply(n->fd, in->unique, 0, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			never_reply(n->fd, in->unique, 0, &open, sizeof(open));
			break;
		case FUSE_READ:
			if (__atomic_load_n(&n->fail, __ATOMIC_ACQUIRE)) {
				__atomic_sub_fetch(&n->fail, 1, __ATOMIC_RELEASE);
				never_reply(n->fd, in->unique, -EIO, NULL, 0);
				break;
			}
			__atomic_add_fetch(&n->asked, 1, __ATOMIC_RELEASE);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
			never_reply(n->fd, in->unique, 0, NULL, 0);
			break;
		default:
			never_reply(n->fd, in->unique, -ENOSYS, NULL, 0);
		}
	}
	return NULL;
}

static int never_start(struct never *n)
{
	char options[128];

	memset(n, 0, sizeof(*n));
	n->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (n->fd < 0)
		return -errno;
	strcpy(n->dir, "/tmp/never-XXXXXX");
	if (!mkdtemp(n->dir))
		return -errno;
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", n->fd);
	if (mount("never", n->dir, "fuse.never", MS_NOSUID | MS_NODEV, options))
		return -errno;
	snprintf(n->file, sizeof(n->file), "%s/file", n->dir);
	return -pthread_create(&n->thread, NULL, never_thread, n);
}

/* All that waits for a page is told that there is none */
static void never_end(struct never *n)
{
	if (n->fd < 0)
		return;
	umount2(n->dir, MNT_FORCE | MNT_DETACH);
	if (n->thread)
		pthread_join(n->thread, NULL);
	close(n->fd);
	rmdir(n->dir);
	n->fd = -1;
}

FIXTURE(mmap_lock)
{
	struct common c;
};

FIXTURE_SETUP(mmap_lock)
{
	start(_metadata, &self->c);
}

FIXTURE_TEARDOWN(mmap_lock)
{
	finish(_metadata, &self->c);
}

/*
 * The last to close the file is a process that has nothing to do with the memory
 * that the device waits for. Mainline frees the groups of the faults, whose
 * handlers run on: "iommu: Leave a group of page faults to its handler" and
 * "iommu: Let no page fault use a bond that is gone". It also waits for them
 * with everybody's lock held: "uacce: Wait for no process with a lock that others
 * need".
 */
TEST_F_TIMEOUT(mmap_lock, stranger_closes, 300)
{
	struct other near = {}, stranger = {};
	size_t size = 8 * MB;
	struct sva_queue q;
	double seconds;
	struct hold *h;
	char *p;
	int ret;

	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	ret = other_start(&near);
	ASSERT_LE(0, ret);
	if (!ret)
		neighbour(&near);
	ASSERT_TRUE(hear(near.from, 'r'));

	h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, h);
	ASSERT_EQ(0, sva_queue_init(&q));
	ret = other_start(&stranger);
	ASSERT_LE(0, ret);
	if (!ret) {
		if (!hear(stranger.from, 'g'))
			_exit(1);
		hold_wait(h);
		seconds = now();
		close(q.fd);
		seconds = now() - seconds;
		ret = holds(h);
		if (write(stranger.to, &seconds, sizeof(seconds)) != sizeof(seconds))
			_exit(1);
		_exit(ret ? 0 : 2);
	}

	ASSERT_TRUE(hold_prepare());
	p = untouched(SVATD_NUM_SLOTS * size);
	ASSERT_NE(NULL, p);
	hammer(&q, p, size);
	sva_queue_close(&q);
	ASSERT_TRUE(say(stranger.to, 'g'));
	ASSERT_TRUE(hold_start(h));
	ASSERT_EQ(sizeof(seconds), read(stranger.from, &seconds, sizeof(seconds)));
	took("close() of another's file beside fork()", seconds);
	EXPECT_GT(limit(), seconds);
	EXPECT_TRUE(works());
	ret = other_end(&stranger, 0);
	hold_end(h);
	EXPECT_EQ(0, other_end(&near, 0));
	if (WIFEXITED(ret) && WEXITSTATUS(ret) == 2 && hold_too_quick(h, seconds) &&
	    __test_passed(_metadata))
		SKIP(return, TOO_QUICK);
	EXPECT_EQ(0, ret);
}

/*
 * A thread that opens the device. What it writes to is shared memory, so that its own
 * page faults do not keep it from open() while another thread forks.
 */
struct opener {
	char stack[256 << 10];
	char path[64];
	int go, fd;
	pid_t tid;
	double seconds;
	struct hold h;
};

static void *opener_thread(void *arg)
{
	struct opener *o = arg;

	o->tid = syscall(SYS_gettid);
	while (!__atomic_load_n(&o->go, __ATOMIC_ACQUIRE))
		;
	o->seconds = now();
	__atomic_store_n(&o->fd, syscall(SYS_openat, AT_FDCWD, o->path, O_RDWR),
			 __ATOMIC_RELEASE);
	o->seconds = now() - o->seconds;
	return NULL;
}

static void fork_and_open(struct other *other, struct opener *o)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (!hold_prepare() || pthread_attr_init(&attr) ||
	    pthread_attr_setstack(&attr, o->stack, sizeof(o->stack)) ||
	    pthread_create(&thread, &attr, opener_thread, o))
		_exit(1);
	while (!__atomic_load_n(&o->tid, __ATOMIC_ACQUIRE))
		usleep(1000);
	if (!say(other->to, 'r') || !hold_start(&o->h))
		_exit(2);
	hold_end(&o->h);
	pthread_join(thread, NULL);
	_exit(o->fd < 0 ? 3 : 0);
}

/*
 * The process that forks opens the device as well. Mainline lets everybody wait for
 * that: "iommu/sva: Do not take an mmap_lock under the global lock" and "uacce: Wait
 * for no process with a lock that others need".
 */
TEST_F_TIMEOUT(mmap_lock, open_beside_fork, 300)
{
	struct other forks = {};
	struct sva_queue q;
	struct opener *o;
	unsigned int probes;
	double seconds, opened;
	bool waits, held;
	int ret;

	o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, o);
	memset(o, 0, sizeof(*o));
	o->fd = -1;
	snprintf(o->path, sizeof(o->path), "%s", sva_device());
	ret = other_start(&forks);
	ASSERT_LE(0, ret);
	if (!ret)
		fork_and_open(&forks, o);
	ASSERT_TRUE(hear(forks.from, 'r'));
	hold_wait(&o->h);
	__atomic_store_n(&o->go, 1, __ATOMIC_RELEASE);
	waits = sleeps(o->tid);
	if (!holds(&o->h)) {
		other_end(&forks, 0);
		SKIP(return, TOO_QUICK);
	}
	ASSERT_TRUE(waits);
	/* Now that open() waits for the mmap_lock, the probe does as well */
	probes = __atomic_load_n(&o->h.probes, __ATOMIC_ACQUIRE);
	opened = now();
	ASSERT_EQ(0, sva_queue_open(&q));
	opened = now() - opened;
	held = probes == __atomic_load_n(&o->h.probes, __ATOMIC_ACQUIRE);
	took("open() beside another's, and its fork()", opened);
	EXPECT_GT(limit(), opened);
	seconds = now();
	sva_queue_close(&q);
	seconds = now() - seconds;
	took("close() beside another's open(), and its fork()", seconds);
	EXPECT_GT(limit(), seconds);

	EXPECT_EQ(0, other_end(&forks, 0));
	took("its open()", o->seconds);
	took("its fork()", o->h.seconds);
	if (!held && hold_too_quick(&o->h, opened) && __test_passed(_metadata))
		SKIP(return, TOO_QUICK);
	EXPECT_TRUE(held) {
		TH_LOG("fork() let go of the mmap_lock first");
	}
}

/*
 * A page that never comes
 */
FIXTURE(never)
{
	struct common c;
	struct never n;
	struct other o;
};

enum after { NOTHING, CLOSE, CLOSE_ONE_OF_TWO, REOPEN, REOPEN_WATCHED };

/* Has writes recorded, which waits for nobody. The file descriptor stays open. */
static bool watch(void *p, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	struct uffdio_register reg = {
		.range = { (unsigned long)p, size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	return fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg);
}

/* Lets the device read the page, and closes it, or does nothing any more */
static void wait_for_ever(struct never *n, struct other *o, enum after after)
{
	struct sva_queue q, second;
	char *p;
	int fd;

	fd = open(n->file, O_RDONLY);
	p = mmap(NULL, MB, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED || madvise(p, MB, MADV_RANDOM) || sva_queue_init(&q))
		_exit(1);
	if (after == REOPEN_WATCHED && !watch(p, MB))
		_exit(6);
	sva_poll_start(&q, 0, p, 8, 8, 0, 0);
	while (!queue_reg(&q, SVATD_Q_STALLED))
		usleep(1000);
	if (after == CLOSE_ONE_OF_TWO && sva_queue_init(&second))
		_exit(2);
	if (!say(o->to, 'r') || !hear(o->from, 'g'))
		_exit(3);
	if (after == NOTHING)
		_exit(0);
	sva_queue_close(&q);
	if (after >= REOPEN && sva_queue_init(&q))
		_exit(5);
	if (!say(o->to, 'c') || !hear(o->from, 'g'))
		_exit(4);
	_exit(0);
}

FIXTURE_SETUP(never)
{
	int ret;

	self->n.fd = -1;
	if (!start(_metadata, &self->c))
		return;
	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	ret = never_start(&self->n);
	if (ret == -ENOENT || ret == -ENODEV)
		SKIP(return, "no FUSE");
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(never)
{
	/* It may wait for a page, which ends here */
	never_end(&self->n);
	other_end(&self->o, SIGKILL);
	finish(_metadata, &self->c);
}

static bool waits_for_ever(struct never *n, struct other *o, enum after after)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	int ret;

	ret = other_start(o);
	if (ret < 0)
		return false;
	if (!ret)
		wait_for_ever(n, o, after);
	if (!hear(o->from, 'r'))
		return false;
	while (!__atomic_load_n(&n->asked, __ATOMIC_ACQUIRE) && now() < end)
		usleep(1000);
	return now() < end;
}

/*
 * Killed, it is gone at once. Its address space is not, as the handler of the fault has
 * a reference, and with it the mapping of the queue: that goes when the page does. On
 * mainline the process may have to wait for the page as well: "iommu/sva: Do not hold
 * the mmap_lock while a page is read".
 */
TEST_F_TIMEOUT(never, killed, 60)
{
	double seconds;

	ASSERT_TRUE(waits_for_ever(&self->n, &self->o, NOTHING));
	EXPECT_TRUE(works());
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	seconds = now() - seconds;
	took("exit of a killed process whose page never comes", seconds);
	EXPECT_GT(limit(), seconds);
	EXPECT_TRUE(works());
}

/*
 * It closes the device itself: it waits for what it has asked for, but not for ever.
 * Mainline frees what the handler is about to use: "iommu: Leave a group of page faults
 * to its handler".
 */
TEST_F_TIMEOUT(never, closed, 60)
{
	struct sva_queue q;
	double seconds;

	/* The device has another bond, so that its fault queue stays in use */
	ASSERT_EQ(0, sva_queue_init(&q));
	ASSERT_TRUE(waits_for_ever(&self->n, &self->o, CLOSE));
	seconds = now();
	ASSERT_TRUE(say(self->o.to, 'g'));
	usleep(1000);
	EXPECT_TRUE(works());
	took("use of the device beside that", now() - seconds);
	ASSERT_TRUE(hear(self->o.from, 'c'));
	seconds = now() - seconds;
	took("close() of the own file while a page never comes", seconds);
	EXPECT_GT(2 + limit(), seconds);
	EXPECT_TRUE(queues_return_to(self->c.queues - 1));
	EXPECT_TRUE(works());
	sva_queue_close(&q);
}

/*
 * It opens the device again, which takes its mmap_lock. On mainline the handler of the
 * fault has that until the page is there, and the process can no longer be killed:
 * "iommu/sva: Do not hold the mmap_lock while a page is read".
 */
static void opened_again(struct __test_metadata *_metadata, struct never *n, struct other *o,
			 enum after after)
{
	struct pollfd says = { .events = POLLIN };
	double seconds;

	ASSERT_TRUE(waits_for_ever(n, o, after));
	says.fd = o->from;
	seconds = now();
	ASSERT_TRUE(say(o->to, 'g'));
	ASSERT_EQ(1, poll(&says, 1, SVA_TIMEOUT_MS)) {
		TH_LOG("the process cannot open the device while a page never comes");
	}
	ASSERT_TRUE(hear(o->from, 'c'));
	seconds = now() - seconds;
	took("close() and open() while a page never comes", seconds);
	EXPECT_GT(2 + limit(), seconds);
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(o, SIGKILL));
	seconds = now() - seconds;
	took("exit after that", seconds);
	EXPECT_GT(limit(), seconds);
}

TEST_F_TIMEOUT(never, opened_again, 60)
{
	opened_again(_metadata, &self->n, &self->o, REOPEN);
}

/* The same, as a monitor that waits for nothing does not make the page come */
TEST_F_TIMEOUT(never, opened_again_watched, 60)
{
	opened_again(_metadata, &self->n, &self->o, REOPEN_WATCHED);
}

/* The same, where the first read fails: the next try releases the mmap_lock as well */
TEST_F_TIMEOUT(never, opened_again_retried, 60)
{
	__atomic_store_n(&self->n.fail, 1, __ATOMIC_RELEASE);
	opened_again(_metadata, &self->n, &self->o, REOPEN);
	EXPECT_EQ(0, __atomic_load_n(&self->n.fail, __ATOMIC_ACQUIRE));
}

/* More than the faults of all processes have workers */
#define CROWD		72

/* All slots wait for pages that never come, in a process that ends */
static void crowd(const struct never *n)
{
	struct sva_queue q;
	unsigned int i;
	char *p;
	int fd;

	fd = open(n->file, O_RDONLY);
	p = mmap(NULL, MB, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED || madvise(p, MB, MADV_RANDOM))
		_exit(1);
	if (!become_nobody())
		_exit(2);
	if (sva_queue_init(&q))
		_exit(3);
	for (i = 0; i < SVATD_NUM_SLOTS; i++)
		sva_poll_start(&q, i, p + i * page_size, 8, 8, 0, 0);
	while (queue_reg(&q, SVATD_Q_STALLED) != (1U << SVATD_NUM_SLOTS) - 1)
		usleep(1000);
	/* The mapping would keep the file for as long as the handlers keep the mm */
	munmap(q.page, page_size);
	_exit(0);
}

/*
 * One user's processes open the device, wait for pages and go, again and again. What
 * handles their faults stays. Other users' faults are still served. Those of this user
 * wait, and are served when the pages come, or are known not to; mainline gives them
 * one of everybody's workers each: "iommu/sva: Leave workers to the page faults of
 * other users".
 */
TEST_F_TIMEOUT(never, crowd, 120)
{
	struct pollfd says = { .events = POLLIN };
	struct sva_queue q;
	unsigned int round;
	double seconds;
	int status, ret;
	pid_t pid;
	char *p;

	ASSERT_EQ(0, chmod(sva_device(), 0666));
	for (round = 0; round < CROWD; round++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			crowd(&self->n);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		if (!become_nobody() || sva_queue_init(&q))
			_exit(1);
		p = untouched(page_size);
		if (!p || !say(self->o.to, 'r') ||
		    sva_fill(&q, 0, p, TAG, 8, NULL) != SVATD_ST_OK || !say(self->o.to, 'd'))
			_exit(2);
		_exit(0);
	}
	ASSERT_TRUE(hear(self->o.from, 'r'));
	EXPECT_EQ(0, chmod(sva_device(), 0600));
	ASSERT_EQ(0, sva_queue_init(&q));
	p = untouched(16 * page_size);
	ASSERT_NE(NULL, p);
	seconds = now();
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&q, 0, p, TAG, 16 * page_size, NULL));
	seconds = now() - seconds;
	took("16 page faults beside 1152 that are never served", seconds);
	EXPECT_GT(limit(), seconds);
	sva_queue_close(&q);

	says.fd = self->o.from;
	EXPECT_EQ(0, poll(&says, 1, 100)) {
		TH_LOG("the user's other faults do not wait");
	}
	never_end(&self->n);
	EXPECT_TRUE(hear(self->o.from, 'd'));
	EXPECT_EQ(0, other_end(&self->o, 0));
}

/*
 * It has another queue, and so the bond. What the SMMU holds for the first may still be
 * served, so nobody else gets that queue before. Mainline's driver turned the DMA of
 * the whole function off in such a case.
 */
TEST_F_TIMEOUT(never, one_of_two_closed, 60)
{
	long queues;

	ASSERT_TRUE(waits_for_ever(&self->n, &self->o, CLOSE_ONE_OF_TWO));
	ASSERT_TRUE(say(self->o.to, 'g'));
	ASSERT_TRUE(hear(self->o.from, 'c'));
	EXPECT_TRUE(works());
	usleep(100000);
	EXPECT_EQ(0, sva_device_attr("available_instances", &queues));
	EXPECT_EQ(self->c.queues - 2, queues);
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
}

/* The function is reset while the SMMU holds the access */
TEST_F_TIMEOUT(never, reset, 60)
{
	double seconds;
	int ret;

	ASSERT_TRUE(waits_for_ever(&self->n, &self->o, NOTHING));
	seconds = now();
	ret = put("1", "/sys/bus/pci/devices/%s/reset", self->c.pci);
	if (ret == -ENOENT)
		SKIP(return, "the function cannot be reset");
	EXPECT_EQ(0, ret);
	took("reset while a page never comes", now() - seconds);
	EXPECT_TRUE(works());
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	seconds = now() - seconds;
	took("exit after that", seconds);
	EXPECT_GT(limit(), seconds);
}

/* The driver goes */
TEST_F_TIMEOUT(never, unbind, 60)
{
	double seconds;

	ASSERT_TRUE(waits_for_ever(&self->n, &self->o, NOTHING));
	seconds = now();
	ASSERT_EQ(0, put(self->c.pci, "/sys/bus/pci/drivers/sva_testdev/unbind"));
	seconds = now() - seconds;
	took("unbind while a page never comes", seconds);
	EXPECT_GT(limit(), seconds);
	EXPECT_EQ(0, put(self->c.pci, "/sys/bus/pci/drivers/sva_testdev/bind"));
	EXPECT_TRUE(works());
}

/*
 * Reset and removal
 */
FIXTURE(function)
{
	struct common c;
	struct other o;
};

FIXTURE_SETUP(function)
{
	start(_metadata, &self->c);
}

FIXTURE_TEARDOWN(function)
{
	other_end(&self->o, SIGKILL);
	finish(_metadata, &self->c);
}

/*
 * The bond of a process that is gone: its child has the file, until the descriptor that
 * is returned is closed
 */
static int leave_bond(struct __test_metadata *_metadata, struct other *o)
{
	struct sva_queue q;
	int ret, go[2];

	ret = pipe(go) ? -errno : other_start(o);
	ASSERT_LE(0, ret);
	if (!ret) {
		close(go[1]);
		if (sva_queue_init(&q))
			_exit(1);
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, 0);
			/* Ends with the pipe */
			_exit(hear(go[0], 'g'));
		}
		_exit(0);
	}
	close(go[0]);
	EXPECT_EQ(0, other_end(o, 0));
	return go[1];
}

/*
 * The process is gone, its child has the file. Mainline warns when the PASID is to be
 * attached again, and when it is detached, if the function has ATS:
 * "iommu/arm-smmu-v3-sva: Attach the domain of a dead process after a reset".
 */
TEST_F_TIMEOUT(function, reset_after_exit, 60)
{
	int ret, go;
	long queues;

	go = leave_bond(_metadata, &self->o);
	EXPECT_EQ(0, sva_device_attr("available_instances", &queues));
	EXPECT_EQ(self->c.queues - 1, queues);
	ret = put("1", "/sys/bus/pci/devices/%s/reset", self->c.pci);
	close(go);
	if (ret == -ENOENT)
		SKIP(return, "the function cannot be reset");
	EXPECT_EQ(0, ret);
}

/* Maps and unmaps the queue pages, or discards memory, until killed */
struct churn {
	struct sva_queue *q;
	char *p;
	size_t size;
};

static void *churn_page(void *arg)
{
	struct churn *c = arg;
	struct sva_queue q = *c->q;

	for (;;) {
		if (!sva_queue_map(&q))
			munmap(q.page, page_size);
	}
	return NULL;
}

static void *churn_memory(void *arg)
{
	struct churn *c = arg;

	for (;;)
		madvise(c->p, c->size, MADV_DONTNEED);
	return NULL;
}

/*
 * Half of the queues write to memory that is discarded, and their pages are mapped and
 * unmapped; if nobody serves faults, they end at the first one. The others go on.
 */
#define BUSY	8

static void be_busy(struct other *o)
{
	static struct sva_queue q[BUSY];
	static struct churn c[BUSY + 1];
	size_t each = MB / 4, size = BUSY * SVATD_NUM_SLOTS * each;
	pthread_t thread;
	unsigned int i;
	char *p;

	p = untouched(size);
	if (!p)
		_exit(1);
	memset(p + size / 2, 1, size / 2);
	for (i = 0; i < BUSY; i++) {
		if (sva_queue_init(&q[i]))
			_exit(2);
		hammer(&q[i], p + i * SVATD_NUM_SLOTS * each, each);
		c[i].q = &q[i];
		if (i < BUSY / 2) {
			munmap(q[i].page, page_size);
			if (pthread_create(&thread, NULL, churn_page, &c[i]))
				_exit(3);
		}
	}
	c[BUSY].p = p;
	c[BUSY].size = size / 2;
	if (pthread_create(&thread, NULL, churn_memory, &c[BUSY]) || !say(o->to, 'r'))
		_exit(4);
	pause();
}

/* The driver is unbound; the function is removed by sysfs; it is unplugged */
enum how { UNBOUND, REMOVED, UNPLUGGED };

/*
 * Ask the host, and wait until the slot and the character device show it. The machine
 * has one slot, and what is in it has the id "function": testbed/tests.cfg.
 */
static int ask_host(const char *what, bool there)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	char adapter = '?';
	int fd;

	ksft_print_msg("qmp %s\n", what);
	fflush(stdout);
	while (now() < end) {
		fd = open(SLOT "/adapter", O_RDONLY);
		if (fd < 0)
			return -errno;
		if (read(fd, &adapter, 1) == 1 && (adapter == '1') == there &&
		    !access(sva_device(), F_OK) == there) {
			close(fd);
			return 0;
		}
		close(fd);
		usleep(10000);
	}
	return -ETIMEDOUT;
}

static int take_away(enum how way, const char *pci)
{
	switch (way) {
	case UNBOUND:
		return put(pci, "/sys/bus/pci/drivers/sva_testdev/unbind");
	case REMOVED:
		return put("1", "/sys/bus/pci/devices/%s/remove", pci);
	default:
		return ask_host("device_del function", false);
	}
}

static int bring_back(enum how way, const char *pci)
{
	switch (way) {
	case UNBOUND:
		return put(pci, "/sys/bus/pci/drivers/sva_testdev/bind");
	case REMOVED:
		return put("1", "/sys/bus/pci/rescan");
	default:
		return ask_host("device_add function", true);
	}
}

/* Takes the device away from a busy process, and brings it back */
static void gone_while_busy(struct __test_metadata *_metadata, struct other *o, enum how way,
			    const char *pci)
{
	static const char * const what[] = {
		[UNBOUND] = "unbind of the driver beside a busy process",
		[REMOVED] = "removal beside a busy process",
		[UNPLUGGED] = "unplugging beside a busy process",
	};
	double seconds;
	int ret;

	ret = other_start(o);
	ASSERT_LE(0, ret);
	if (!ret)
		be_busy(o);
	ASSERT_TRUE(hear(o->from, 'r'));
	usleep(100000);
	seconds = now();
	ASSERT_EQ(0, take_away(way, pci));
	seconds = now() - seconds;
	took(what[way], seconds);
	/* For 5 seconds a slot's button may be pressed again, for 1 its power goes */
	EXPECT_GT(limit() + (way == UNPLUGGED ? 6 : 0), seconds);
	ASSERT_EQ(0, bring_back(way, pci));
	EXPECT_TRUE(works());
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(o, SIGKILL));
	took("exit of the busy process", now() - seconds);
}

/*
 * The driver goes while accesses are stalled and threads map and unmap the queues'
 * pages. Mainline waits for one in q->mutex and for the other under it, for 5
 * seconds: "uacce: Wait for no process with a lock that others need".
 */
TEST_F_TIMEOUT(function, unbind_while_busy, 120)
{
	unsigned int round;

	for (round = 0; round < 4; round++)
		gone_while_busy(_metadata, &self->o, UNBOUND, self->c.pci);
}

/* The function itself goes, and comes back */
TEST_F_TIMEOUT(function, removed_while_busy, 120)
{
	gone_while_busy(_metadata, &self->o, REMOVED, self->c.pci);
}

/* The function is reset under it */
TEST_F_TIMEOUT(function, reset_while_busy, 120)
{
	double seconds, longest = 0;
	unsigned int round;
	int ret;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret)
		be_busy(&self->o);
	ASSERT_TRUE(hear(self->o.from, 'r'));
	for (round = 0; round < 8; round++) {
		seconds = now();
		ret = put("1", "/sys/bus/pci/devices/%s/reset", self->c.pci);
		if (ret == -ENOENT)
			SKIP(return, "the function cannot be reset");
		EXPECT_EQ(0, ret);
		seconds = now() - seconds;
		longest = seconds > longest ? seconds : longest;
	}
	took("longest reset beside a busy process", longest);
	EXPECT_TRUE(works());
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	took("exit of the busy process", now() - seconds);
}

/* After a reset the process starts its queue again */
static void start_again(struct __test_metadata *_metadata, struct sva_queue *q)
{
	__u64 word = 0;

	EXPECT_EQ(0, sva_queue_stop(q));
	EXPECT_EQ(0, sva_queue_start(q));
	EXPECT_EQ(SVATD_ST_OK, sva_fill(q, 0, &word, TAG, 8, NULL));
	EXPECT_EQ(TAG, __atomic_load_n(&word, __ATOMIC_ACQUIRE));
	sva_queue_close(q);
}

/* A bond outlives a reset */
TEST_F_TIMEOUT(function, bond_survives_reset, 60)
{
	struct sva_queue q;
	__u64 word = 0;
	int ret;

	ASSERT_EQ(0, sva_queue_init(&q));
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&q, 0, &word, TAG, 8, NULL));
	ret = put("1", "/sys/bus/pci/devices/%s/reset", self->c.pci);
	if (ret) {
		sva_queue_close(&q);
		SKIP(return, "the function cannot be reset");
	}
	start_again(_metadata, &q);
}

/*
 * A region of several pages is mapped and unmapped as a whole. Mainline lets a part be
 * unmapped, and takes that for another region: "uacce: Do not let the mapping of a
 * region be split".
 */
TEST_F_TIMEOUT(function, region_split, 60)
{
	size_t size = 2 * page_size;
	struct sva_queue q;
	char *p, *again;

	ASSERT_EQ(0, sva_queue_init(&q));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, q.fd,
		 UACCE_QFRT_DUS * page_size);
	ASSERT_NE(MAP_FAILED, p);
	p[0] = 1;
	p[page_size] = 2;
	EXPECT_EQ(-1, munmap(p + page_size, page_size));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, munmap(p, page_size));
	EXPECT_EQ(-1, mprotect(p, page_size, PROT_READ));
	again = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, q.fd,
		     UACCE_QFRT_DUS * page_size);
	EXPECT_EQ(MAP_FAILED, again);
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(0, munmap(p, size));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, q.fd,
		 UACCE_QFRT_DUS * page_size);
	EXPECT_NE(MAP_FAILED, p);
	/* That of the queue's registers is as it was */
	EXPECT_EQ(-EEXIST, sva_queue_map(&(struct sva_queue){ .fd = q.fd }));
	munmap(p, size);
	sva_queue_close(&q);
}

/* Offset of the function's ATS capability, or 0 */
static unsigned int find_ats(const char *pci)
{
	unsigned int pos = 0x100, tries;
	char path[PATH_MAX];
	__u32 header;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	for (tries = 0; pos >= 0x100 && tries < 64; tries++) {
		if (pread(fd, &header, sizeof(header), pos) != sizeof(header))
			break;
		if ((header & 0xffff) == PCI_EXT_CAP_ID_ATS) {
			close(fd);
			return pos;
		}
		pos = header >> 20;
	}
	close(fd);
	return 0;
}

static bool config_word(const char *pci, unsigned int offset, __u16 *word, bool set)
{
	char path[PATH_MAX];
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return false;
	ret = set ? pwrite(fd, word, sizeof(*word), offset) :
		    pread(fd, word, sizeof(*word), offset);
	close(fd);
	return ret == sizeof(*word);
}

/*
 * The function's ATS is turned off and on behind the kernel's back, with the ATC in
 * use. What the SMMU translates for it either way is right, and nothing waits for ever.
 */
TEST_F_TIMEOUT(function, ats_toggled, 120)
{
	unsigned int ats = find_ats(self->c.pci), round;
	__u16 on, off;
	int ret;

	if (!ats)
		SKIP(return, "the function has no ATS");
	ats += PCI_ATS_CTRL;
	ASSERT_TRUE(config_word(self->c.pci, ats, &on, false));
	ASSERT_TRUE(on & PCI_ATS_CTRL_ENABLE);
	off = on & ~PCI_ATS_CTRL_ENABLE;
	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret)
		be_busy(&self->o);
	ASSERT_TRUE(hear(self->o.from, 'r'));
	for (round = 0; round < 20; round++) {
		ASSERT_TRUE(config_word(self->c.pci, ats, &off, true));
		EXPECT_TRUE(works());
		ASSERT_TRUE(config_word(self->c.pci, ats, &on, true));
		EXPECT_TRUE(works());
	}
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
}

/* The type of the function's group: returns 0, or the errno of a refusal */
static int group_type(const char *pci, const char *type)
{
	return put(type, "/sys/bus/pci/devices/%s/iommu_group/type", pci);
}

static int change_group_type(const char *pci, const char *type)
{
	int ret, again;

	ret = put(pci, "/sys/bus/pci/drivers/sva_testdev/unbind");
	if (ret)
		return ret;
	ret = group_type(pci, type);
	again = put(pci, "/sys/bus/pci/drivers/sva_testdev/bind");
	return ret ? ret : again;
}

/*
 * The function's own domain becomes another, while a busy process has bonds, and
 * after the driver has lost them. With an identity domain ATS is turned on by the
 * first bond and off by the last, while with one that translates it is always on.
 */
TEST_F_TIMEOUT(function, group_type_changes, 120)
{
	unsigned int ats = find_ats(self->c.pci), round;
	struct sva_queue q;
	__u16 ctrl = 0;
	int ret;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret)
		be_busy(&self->o);
	ASSERT_TRUE(hear(self->o.from, 'r'));
	/* A driver has it, and with it go bonds */
	EXPECT_EQ(-EPERM, group_type(self->c.pci, "identity"));
	for (round = 0; round < 4; round++) {
		ASSERT_EQ(0, change_group_type(self->c.pci, "identity"));
		if (ats && config_word(self->c.pci, ats + PCI_ATS_CTRL, &ctrl, false))
			EXPECT_FALSE(ctrl & PCI_ATS_CTRL_ENABLE);
		ASSERT_EQ(0, sva_queue_init(&q));
		if (ats && config_word(self->c.pci, ats + PCI_ATS_CTRL, &ctrl, false))
			EXPECT_TRUE(ctrl & PCI_ATS_CTRL_ENABLE);
		/* Others join, and leave first */
		EXPECT_TRUE(works());
		sva_queue_close(&q);
		EXPECT_TRUE(works());
		ASSERT_EQ(0, change_group_type(self->c.pci, "DMA"));
		EXPECT_TRUE(works());
	}
	/* The flush queue comes without a new domain, and so beside bonds */
	ASSERT_EQ(0, sva_queue_init(&q));
	EXPECT_EQ(0, group_type(self->c.pci, "DMA-FQ"));
	EXPECT_TRUE(works());
	sva_queue_close(&q);
	ASSERT_EQ(0, change_group_type(self->c.pci, "DMA"));
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
}

/*
 * Errors that the function reports (PCIe 6.2), injected
 */
struct aer_error {
	__u8 bus, dev, fn;
	__u32 uncorrectable, correctable;
	__u32 header[4];
	__u32 domain;
};

FIXTURE(error)
{
	struct common c;
	struct never n;
	struct other o;
};

FIXTURE_VARIANT(error)
{
	struct aer_error error;
};

FIXTURE_VARIANT_ADD(error, correctable)
{
	.error = { .correctable = PCI_ERR_COR_RCVR },
};

FIXTURE_VARIANT_ADD(error, nonfatal)
{
	.error = { .uncorrectable = PCI_ERR_UNC_POISON_TLP },
};

/* The bus below the root port is reset, and the driver restores the function */
FIXTURE_VARIANT_ADD(error, fatal)
{
	.error = { .uncorrectable = PCI_ERR_UNC_DLP },
};

static bool behind_root_port(const char *pci)
{
	char path[PATH_MAX], real[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", pci);
	return realpath(path, real) && !strncmp(basename(dirname(real)), "0000:", 5);
}

FIXTURE_SETUP(error)
{
	self->n.fd = -1;
	if (!start(_metadata, &self->c))
		return;
	if (access("/dev/aer_inject", W_OK))
		SKIP(return, "no /dev/aer_inject");
	if (!behind_root_port(self->c.pci))
		SKIP(return, "the function is behind no root port");
}

FIXTURE_TEARDOWN(error)
{
	never_end(&self->n);
	other_end(&self->o, SIGKILL);
	finish(_metadata, &self->c);
}

/* How often the kernel has recorded such an error */
static long recorded(const char *pci, const struct aer_error *error)
{
	char path[PATH_MAX], name[32];
	const char *kind = "correctable";
	long count, total = -1;
	FILE *f;

	if (error->uncorrectable)
		kind = error->uncorrectable & PCI_ERR_UNC_DLP ? "fatal" : "nonfatal";
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/aer_dev_%s", pci, kind);
	f = fopen(path, "r");
	if (!f)
		return -1;
	while (fscanf(f, "%31s %ld", name, &count) == 2)
		if (!strncmp(name, "TOTAL_", 6))
			total = count;
	fclose(f);
	return total;
}

/* Does the kernel log say that the function is recovered? */
static bool recovered(int fd)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	char line[1024];
	ssize_t len;

	do {
		len = read(fd, line, sizeof(line) - 1);
		if (len < 0) {
			usleep(1000);
			continue;
		}
		line[len] = '\0';
		if (strstr(line, "device recovery failed"))
			return false;
		if (strstr(line, "device recovery successful"))
			return true;
	} while (now() < end);
	return false;
}

/* Returns when the kernel has done with it */
static void inject(struct __test_metadata *_metadata, const char *pci,
		   const struct aer_error *which)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3, seconds;
	struct aer_error error = *which;
	unsigned int domain, bus, dev, fn;
	int fd, log = kmsg_open();
	long before;

	ASSERT_LE(0, log);
	ASSERT_EQ(4, sscanf(pci, "%x:%x:%x.%x", &domain, &bus, &dev, &fn));
	error.domain = domain;
	error.bus = bus;
	error.dev = dev;
	error.fn = fn;
	before = recorded(pci, which);
	ASSERT_LE(0, before);
	fd = open("/dev/aer_inject", O_WRONLY);
	ASSERT_LE(0, fd);
	seconds = now();
	ASSERT_EQ(sizeof(error), write(fd, &error, sizeof(error)));
	close(fd);
	while (recorded(pci, which) <= before && now() < end)
		usleep(1000);
	EXPECT_EQ(before + 1, recorded(pci, which));
	if (which->uncorrectable)
		EXPECT_TRUE(recovered(log));
	took("error injected and dealt with", now() - seconds);
	close(log);
}

/* The bond outlives it; after a reset the process starts its queue again */
TEST_F_TIMEOUT(error, bond_survives, 60)
{
	struct sva_queue q;
	__u64 word = 0;

	ASSERT_EQ(0, sva_queue_init(&q));
	ASSERT_EQ(SVATD_ST_OK, sva_fill(&q, 0, &word, TAG, 8, NULL));
	inject(_metadata, self->c.pci, &variant->error);
	start_again(_metadata, &q);
}

/* DMA runs, with faults and invalidations */
TEST_F_TIMEOUT(error, while_busy, 120)
{
	unsigned int round;
	int ret;

	for (round = 0; round < 4; round++) {
		ret = other_start(&self->o);
		ASSERT_LE(0, ret);
		if (!ret)
			be_busy(&self->o);
		ASSERT_TRUE(hear(self->o.from, 'r'));
		inject(_metadata, self->c.pci, &variant->error);
		EXPECT_TRUE(works());
		inject(_metadata, self->c.pci, &variant->error);
		EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	}
}

/* The process is gone, its child has the file */
TEST_F_TIMEOUT(error, after_exit, 60)
{
	int go;

	go = leave_bond(_metadata, &self->o);
	inject(_metadata, self->c.pci, &variant->error);
	EXPECT_TRUE(works());
	close(go);
}

/* The SMMU holds an access until a page comes */
TEST_F_TIMEOUT(error, while_stalled, 60)
{
	double seconds;
	int ret;

	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	ret = never_start(&self->n);
	if (ret == -ENOENT || ret == -ENODEV)
		SKIP(return, "no FUSE");
	ASSERT_EQ(0, ret);
	ASSERT_TRUE(waits_for_ever(&self->n, &self->o, NOTHING));
	inject(_metadata, self->c.pci, &variant->error);
	EXPECT_TRUE(works());
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	seconds = now() - seconds;
	took("exit after that", seconds);
	EXPECT_GT(limit(), seconds);
}

/*
 * The driver that gives the whole function to a process
 */
FIXTURE(uio)
{
	struct common c;
	struct other o;
};

FIXTURE_SETUP(uio)
{
	if (!start(_metadata, &self->c))
		return;
	if (access("/sys/bus/pci/drivers/uio_pci_sva", F_OK))
		SKIP(return, "no uio_pci_generic_sva");
	ASSERT_EQ(0, put("uio_pci_sva", "/sys/bus/pci/devices/%s/driver_override", self->c.pci));
	ASSERT_EQ(0, put(self->c.pci, "/sys/bus/pci/drivers/sva_testdev/unbind"));
	ASSERT_EQ(0, put(self->c.pci, "/sys/bus/pci/drivers_probe"));
	ASSERT_EQ(0, access("/dev/uio0", R_OK | W_OK));
}

FIXTURE_TEARDOWN(uio)
{
	other_end(&self->o, SIGKILL);
	put(self->c.pci, "/sys/bus/pci/drivers/uio_pci_sva/unbind");
	put("\n", "/sys/bus/pci/devices/%s/driver_override", self->c.pci);
	put(self->c.pci, "/sys/bus/pci/drivers_probe");
	finish(_metadata, &self->c);
}

static __u32 *uio_map(int fd, unsigned int bar, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, bar * page_size);

	return p == MAP_FAILED ? NULL : p;
}

/* The handlers of a process's last faults keep its mapping, and so the file, a little longer */
static int uio_open(void)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	int fd;

	do {
		fd = open("/dev/uio0", O_RDWR);
	} while (fd < 0 && errno == EBUSY && now() < end && !usleep(10000));
	return fd;
}

static long uio_pasid(const char *pci)
{
	char path[PATH_MAX];
	long pasid = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/pasid", pci);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%ld", &pasid) != 1)
		pasid = -1;
	if (f)
		fclose(f);
	return pasid;
}

/* Lets queue 0 work in its own memory, as the driver would */
static bool uio_queue(int fd, struct sva_queue *q, const char *pci)
{
	long pasid = uio_pasid(pci);
	volatile __u32 *ctl;

	ctl = uio_map(fd, SVATD_BAR_CTRL, SVATD_CTRL_SIZE);
	q->page = uio_map(fd, SVATD_BAR_QUEUES, SVATD_QUEUE_STRIDE);
	if (pasid < 0 || !ctl || !q->page)
		return false;
	ctl[(SVATD_QCTL(0) + SVATD_QCTL_PASID) / 4] = pasid;
	ctl[(SVATD_QCTL(0) + SVATD_QCTL_CTL) / 4] = SVATD_QCTL_CTL_ENABLE | SVATD_QCTL_CTL_PASID;
	return true;
}

/*
 * Mainline loses the first bond and unbinds the second twice: "uio:
 * uio_pci_generic_sva: Let one process at a time have the device".
 */
TEST_F_TIMEOUT(uio, opened_twice, 60)
{
	int fd, again, ret;

	fd = open("/dev/uio0", O_RDWR);
	ASSERT_LE(0, fd);
	/* The same process may, and does not lose the device when it closes that */
	again = open("/dev/uio0", O_RDWR);
	EXPECT_LE(0, again);
	close(again);
	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		ret = open("/dev/uio0", O_RDWR);
		_exit(ret >= 0 ? 100 : errno);
	}
	ret = other_end(&self->o, 0);
	EXPECT_EQ(EBUSY, WEXITSTATUS(ret));
	close(fd);
	fd = open("/dev/uio0", O_RDWR);
	EXPECT_LE(0, fd);
	close(fd);
}

/*
 * Killed in the middle of DMA. On mainline the device goes on with a PASID that is
 * somebody else's next: the same patch.
 */
TEST_F_TIMEOUT(uio, killed_while_busy, 60)
{
	volatile __u32 *ctl;
	struct sva_queue q;
	double seconds;
	int ret, fd;
	char *p;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		static struct churn c;

		fd = open("/dev/uio0", O_RDWR);
		p = untouched(SVATD_NUM_SLOTS * MB);
		if (!p || fd < 0 || !uio_queue(fd, &q, self->c.pci))
			_exit(1);
		hammer(&q, p, MB);
		say(self->o.to, 'r');
		c.p = p;
		c.size = SVATD_NUM_SLOTS * MB;
		churn_memory(&c);
	}
	ASSERT_TRUE(hear(self->o.from, 'r'));
	usleep(100000);
	seconds = now();
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));
	took("exit of the process that has the function", now() - seconds);

	fd = uio_open();
	ASSERT_LE(0, fd);
	ctl = uio_map(fd, SVATD_BAR_CTRL, SVATD_CTRL_SIZE);
	ASSERT_NE(NULL, ctl);
	EXPECT_EQ(0, ctl[(SVATD_QCTL(0) + SVATD_QCTL_CTL) / 4] & SVATD_QCTL_CTL_ENABLE) {
		TH_LOG("the dead process's queue is still enabled");
	}
	close(fd);
}

#define LEFT		((char *)0x500000000000)
#define EVENTS_LATE	1.	/* seconds, see QEMU's x-eventq-irq-delay */

/* Has a page at an address that another process uses as well, and does not touch it */
static bool uio_left(int *fd, struct sva_queue *q, const char *pci)
{
	if (mmap(LEFT, page_size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != LEFT)
		return false;
	*fd = uio_open();
	return *fd >= 0 && uio_queue(*fd, q, pci);
}

/*
 * A process is killed while the event of its page fault is in the queue, and before
 * anybody looks there. Its PASID is another process's when somebody does: mainline serves
 * the fault there, with a page that nobody asked for. "iommu/arm-smmu-v3: Handle the
 * events of a PASID before it is detached".
 */
TEST_F_TIMEOUT(uio, event_is_left, 60)
{
	struct sva_queue q;
	int ret, fd;
	long pasid;
	double end;

	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		char *p = untouched(page_size);
		double began = now();

		if (!p || !uio_left(&fd, &q, self->c.pci) ||
		    sva_fill(&q, 0, p, TAG, 8, NULL) != SVATD_ST_OK)
			_exit(1);
		if (now() - began < EVENTS_LATE)
			_exit(2);
		sva_poll_start(&q, 0, LEFT, 8, 8, 0, 0);
		while (!queue_reg(&q, SVATD_Q_STALLED))
			if (now() - began > SVA_TIMEOUT_MS / 1e3)
				_exit(2);
		say(self->o.to, 's');
		pause();
	}
	if (!hear(self->o.from, 's')) {
		ret = other_end(&self->o, 0);
		ASSERT_EQ(2, WEXITSTATUS(ret));
		SKIP(return, "the event queue's interrupt comes at once");
	}
	pasid = uio_pasid(self->c.pci);
	EXPECT_EQ(SIGKILL, other_end(&self->o, SIGKILL));

	/* The PASID is given back a little after the process is gone */
	end = now() + SVA_TIMEOUT_MS / 1e3;
	do {
		ret = other_start(&self->o);
		ASSERT_LE(0, ret);
		if (!ret) {
			char *p = untouched(page_size);
			unsigned char in = 0;

			if (!p || !uio_left(&fd, &q, self->c.pci))
				_exit(1);
			if (uio_pasid(self->c.pci) != pasid)
				_exit(5);
			/* Events are handled in their order */
			if (sva_fill(&q, 0, p, TAG, 8, NULL) != SVATD_ST_OK)
				_exit(2);
			for (end = now() + 1; !(in & 1) && now() < end; usleep(1000))
				if (mincore(LEFT, page_size, &in))
					_exit(3);
			_exit(in & 1 ? 4 : 0);
		}
		ret = other_end(&self->o, 0);
	} while (WIFEXITED(ret) && WEXITSTATUS(ret) == 5 && now() < end);
	EXPECT_TRUE(WIFEXITED(ret));
	EXPECT_EQ(0, WEXITSTATUS(ret)) {
		TH_LOG("4: the fault of another process was served in this one; 5: no such PASID");
	}
}

/*
 * What takes a machine, a host or a kernel made for it
 */
FIXTURE(machine)
{
	struct common c;
	struct other o;
};

FIXTURE_SETUP(machine)
{
	start(_metadata, &self->c);
}

FIXTURE_TEARDOWN(machine)
{
	other_end(&self->o, SIGKILL);
	finish(_metadata, &self->c);
}

/* The slot is emptied, and filled again, by a host that is asked to: testbed/vm.py */
TEST_F_TIMEOUT(machine, unplugged_while_busy, 180)
{
	unsigned int round;

	if (access(SLOT, F_OK) || !getenv("SVA_HOST"))
		SKIP(return, "no slot, or no host that obeys (SVA_HOST)");
	for (round = 0; round < 3; round++)
		gone_while_busy(_metadata, &self->o, UNPLUGGED, self->c.pci);
}

/* Maps the other one of two pages */
static bool other_page(char *p, int fd)
{
	static unsigned int n;

	if (mmap(p, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
		 fd, n++ % 2 * page_size) != p)
		return false;
	memset(p, 0, 8);
	return true;
}

/* The device writes to it */
static bool written(struct sva_queue *q, char *p)
{
	return sva_fill(q, 0, p, TAG, 8, NULL) == SVATD_ST_OK &&
	       __atomic_load_n((__u64 *)p, __ATOMIC_ACQUIRE) == TAG;
}

/*
 * The SMMU loses its registers behind the driver's back, and is set up again, as runtime
 * PM will: processes that are bound stay so, and the SMMU hears of what they change then.
 * What they changed meanwhile it could not hear of. By a parameter of a kernel that is made
 * for this test.
 */
TEST_F_TIMEOUT(machine, power_is_lost, 60)
{
	char *p = untouched(page_size);
	int fd = memfd_create("pages", 0);
	struct sva_queue q;
	unsigned int i;

	if (access(POWER, F_OK))
		SKIP(return, "this kernel cannot take the SMMU's power");
	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 2 * page_size));
	ASSERT_EQ(0, sva_queue_init(&q));
	for (i = 0; i < 100; i++) {
		ASSERT_TRUE(other_page(p, fd));
		ASSERT_TRUE(written(&q, p));
		if (i % 20 != 10)
			continue;
		ASSERT_EQ(0, put("0", POWER));
		ASSERT_TRUE(other_page(p, fd));
		ASSERT_EQ(0, put("1", POWER));
		ASSERT_TRUE(written(&q, p));
	}
	sva_queue_close(&q);
	close(fd);
	EXPECT_TRUE(works());
}

/* By /dev/mem: this mapping of a BAR outlives the function */
static volatile __u32 *bar_map(const char *pci, unsigned int bar, size_t size)
{
	unsigned long long start = 0;
	void *p = MAP_FAILED;
	char path[PATH_MAX];
	FILE *f;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", pci);
	f = fopen(path, "r");
	if (!f)
		return NULL;
	do {
		if (fscanf(f, "%llx %*x %*x", &start) != 1)
			start = 0;
	} while (bar--);
	fclose(f);
	fd = open("/dev/mem", O_RDWR | O_SYNC);
	if (fd < 0)
		return NULL;
	if (start)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* Without a driver, the function decodes its BARs and may do DMA */
static bool set_command(const char *pci, __u16 value)
{
	char path[PATH_MAX];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return false;
	done = pwrite(fd, &value, sizeof(value), PCI_COMMAND) == sizeof(value);
	close(fd);
	return done;
}

/*
 * A function is removed while the event of its stalled access is in the queue. On
 * mainline the access waits for ever: "iommu/arm-smmu-v3: Answer stalls of a device
 * that is gone".
 */
TEST_F_TIMEOUT(machine, event_is_left, 90)
{
	volatile __u32 *ctl;
	struct sva_queue q;
	double end, gone;
	bool late;

	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	ctl = bar_map(self->c.pci, SVATD_BAR_CTRL, SVATD_CTRL_SIZE);
	q.page = (void *)bar_map(self->c.pci, SVATD_BAR_QUEUES, SVATD_QUEUE_STRIDE);
	ASSERT_NE(NULL, ctl);
	ASSERT_NE(NULL, q.page);
	ASSERT_EQ(0, put(self->c.pci, "/sys/bus/pci/drivers/sva_testdev/unbind"));
	EXPECT_TRUE(set_command(self->c.pci, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER));

	/* Of no process: nobody else waits for this event */
	ctl[(SVATD_QCTL(0) + SVATD_QCTL_CTL) / 4] = SVATD_QCTL_CTL_ENABLE;
	sva_poll_start(&q, 0, LEFT, 8, 8, 0, 0);
	for (end = now() + SVA_TIMEOUT_MS / 1e3; !queue_reg(&q, SVATD_Q_STALLS) && now() < end;)
		;
	usleep(EVENTS_LATE * 1e6);
	late = queue_reg(&q, SVATD_Q_STALLED);
	EXPECT_EQ(0, put("1", "/sys/bus/pci/devices/%s/remove", self->c.pci));
	gone = now();
	if (late && !queue_reg(&q, SVATD_Q_STALLED))
		ksft_print_msg("too slow: the event was handled before the function was gone\n");
	for (end = gone + SVA_TIMEOUT_MS / 1e3; queue_reg(&q, SVATD_Q_STALLED) && now() < end;
	     usleep(10000))
		;
	took("end of the access of a function that is gone", now() - gone);
	EXPECT_EQ(0, queue_reg(&q, SVATD_Q_STALLED)) {
		TH_LOG("the access of a function that was removed is still stalled");
	}
	ctl[(SVATD_QCTL(0) + SVATD_QCTL_CTL) / 4] = 0;
	EXPECT_EQ(0, put("1", "/sys/bus/pci/rescan"));
	EXPECT_TRUE(works());
	if (!late && __test_passed(_metadata))
		SKIP(return, "the event queue's interrupt comes at once");
}

TEST_HARNESS_MAIN
