// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing beside all else that a process can do with a descriptor,
 * and that others can do to its memory: whoever has the file reaches the memory of the
 * process that opened it by no way, and whatever changes the memory, the device sees it.
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
#include <unistd.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <misc/uacce/uacce.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"
#include "sva_watch.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/*
 * The file in others' hands
 */
FIXTURE(file)
{
	struct common c;
	struct other o;
	struct sva_queue q;
};

FIXTURE_SETUP(file)
{
	self->q.fd = -1;
	self->q.page = NULL;
	start(_metadata, &self->c);
}

FIXTURE_TEARDOWN(file)
{
	other_end(&self->o, SIGKILL);
	sva_queue_close(&self->q);
	finish(_metadata, &self->c);
}

static bool send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 'f';
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1;
}

static int receive_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(sock, &msg, 0) != 1)
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/* Tries to drive the queue, which its owner may have mapped. 0 if it cannot */
static int try_to_use(struct sva_queue *q)
{
	int ret = sva_queue_map(q);

	if (ret != -EPERM && ret != -EEXIST)
		return 10;
	if (mmap(NULL, getpagesize(), PROT_READ, MAP_PRIVATE, q->fd, 0) != MAP_FAILED)
		return 11;
	/* It may stop and start the queue: that reaches nobody's memory */
	if (sva_queue_stop(q) || sva_queue_start(q))
		return 12;
	ret = sva_queue_map(q);
	if (ret != -EPERM && ret != -EEXIST)
		return 13;
	return 0;
}

/*
 * Another user gets the descriptor. It cannot use the queue, neither while the owner
 * lives nor afterwards; and with it goes the bond.
 */
TEST_F_TIMEOUT(file, another_user, 60)
{
	struct other owner = {};
	int sock[2], ret;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		struct sva_queue q = { .fd = -1 };

		close(sock[1]);
		if (!become_nobody())
			_exit(1);
		q.fd = receive_fd(sock[0]);
		if (q.fd < 0)
			_exit(2);
		ret = try_to_use(&q);
		if (ret)
			_exit(ret);
		if (!say(self->o.to, 'r') || !hear(self->o.from, 'g'))
			_exit(3);
		/* The owner is gone */
		ret = try_to_use(&q);
		_exit(ret);
	}
	ret = other_start(&owner);
	ASSERT_LE(0, ret);
	if (!ret) {
		struct sva_queue q;
		__u64 word = 0;

		close(sock[0]);
		if (sva_queue_init(&q) || sva_fill(&q, 0, &word, TAG, 8, NULL) != SVATD_ST_OK ||
		    !send_fd(sock[1], q.fd) || !say(owner.to, 'r') || !hear(owner.from, 'g'))
			_exit(1);
		/* Stopped and started by the other, it is the owner's as before */
		_exit(sva_fill(&q, 0, &word, TAG + 1, 8, NULL) != SVATD_ST_OK || word != TAG + 1);
	}
	close(sock[0]);
	close(sock[1]);
	ASSERT_TRUE(hear(owner.from, 'r'));
	ASSERT_TRUE(hear(self->o.from, 'r'));
	ASSERT_TRUE(say(owner.to, 'g'));
	EXPECT_EQ(0, other_end(&owner, 0));
	ASSERT_TRUE(say(self->o.to, 'g'));
	ret = other_end(&self->o, 0);
	EXPECT_TRUE(WIFEXITED(ret));
	EXPECT_EQ(0, WEXITSTATUS(ret));
}

/*
 * The descriptor is kept over exec(): the program has it and not its queue, whose
 * memory is gone while the device was writing to it.
 */
TEST_F_TIMEOUT(file, exec, 60)
{
	char number[16];
	int ret;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		struct sva_queue q;
		char *p = untouched(MB);

		if (!p || sva_queue_init(&q))
			_exit(1);
		memset(p, 1, MB);
		sva_hammer_start(&q, 0, p, MB, page_size, TAG);
		if (sva_wait_count(&q, 0, 100))
			_exit(2);
		snprintf(number, sizeof(number), "%d", q.fd);
		fcntl(q.fd, F_SETFD, 0);
		setenv("SVA_OTHERS_FD", number, 1);
		execl("/proc/self/exe", "sva_others", NULL);
		_exit(3);
	}
	ret = other_end(&self->o, 0);
	EXPECT_TRUE(WIFEXITED(ret));
	EXPECT_EQ(0, WEXITSTATUS(ret));
}

/* What the program does, before the harness */
static void __attribute__((constructor)) after_exec(void)
{
	const char *number = getenv("SVA_OTHERS_FD");
	struct sva_queue q = {};
	__u64 word = 0;
	int ret;

	if (!number)
		return;
	q.fd = atoi(number);
	ret = try_to_use(&q);
	if (ret)
		_exit(ret);
	/* A queue of its own is another address space's */
	if (sva_queue_init(&q) || sva_fill(&q, 0, &word, TAG, 8, NULL) != SVATD_ST_OK ||
	    word != TAG)
		_exit(20);
	_exit(0);
}

/*
 * io_uring, by system calls alone
 */
struct ring {
	int fd;
	struct io_uring_params p;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
};

static int ring_init(struct ring *r, unsigned int flags)
{
	memset(r, 0, sizeof(*r));
	r->p.flags = flags;
	r->fd = syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return -errno;
	r->sq = mmap(NULL, r->p.sq_off.array + r->p.sq_entries * sizeof(__u32),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, r->p.sq_entries * sizeof(*r->sqe), PROT_READ | PROT_WRITE,
		      MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->sq == MAP_FAILED || r->cq == MAP_FAILED || r->sqe == MAP_FAILED ? -ENOMEM : 0;
}

/* Returns the result of the operation */
static int ring_run(struct ring *r, const struct io_uring_sqe *sqe)
{
	__u32 *tail = (__u32 *)(r->sq + r->p.sq_off.tail);
	__u32 *head = (__u32 *)(r->cq + r->p.cq_off.head);
	__u32 at = *tail & (r->p.sq_entries - 1);
	struct io_uring_cqe *cqe;
	int ret;

	r->sqe[at] = *sqe;
	((__u32 *)(r->sq + r->p.sq_off.array))[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1,
		    IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, NULL, 0) < 0)
		return -errno;
	while (__atomic_load_n((__u32 *)(r->cq + r->p.cq_off.tail), __ATOMIC_ACQUIRE) == *head)
		;
	cqe = (struct io_uring_cqe *)(r->cq + r->p.cq_off.cqes) + (*head & (r->p.cq_entries - 1));
	ret = cqe->res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return ret;
}

/* A kernel thread of the process opens the device: the bond is the process's */
static void open_by_ring(struct __test_metadata *_metadata, struct sva_queue *q, unsigned int setup,
			 __u8 flags)
{
	struct io_uring_sqe open_it = {
		.opcode = IORING_OP_OPENAT,
		.flags = flags,
		.fd = AT_FDCWD,
		.addr = (unsigned long)sva_device(),
		.open_flags = O_RDWR,
	};
	struct io_uring_sqe close_it = { .opcode = IORING_OP_CLOSE, .flags = flags };
	__u64 word = 0;
	struct ring r;
	int ret;

	ret = ring_init(&r, setup);
	if (ret == -ENOSYS || ret == -EPERM)
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, ret);
	q->fd = ring_run(&r, &open_it);
	ASSERT_LE(0, q->fd);
	ASSERT_EQ(0, sva_queue_start(q));
	ASSERT_EQ(0, sva_queue_map(q));
	EXPECT_EQ(SVATD_ST_OK, sva_fill(q, 0, &word, TAG, 8, NULL));
	EXPECT_EQ(TAG, __atomic_load_n(&word, __ATOMIC_ACQUIRE));
	munmap(q->page, page_size);
	q->page = NULL;
	close_it.fd = q->fd;
	EXPECT_EQ(0, ring_run(&r, &close_it));
	q->fd = -1;
	close(r.fd);
}

TEST_F_TIMEOUT(file, io_wq, 60)
{
	open_by_ring(_metadata, &self->q, 0, IOSQE_ASYNC);
}

TEST_F_TIMEOUT(file, io_sq_thread, 60)
{
	open_by_ring(_metadata, &self->q, IORING_SETUP_SQPOLL, 0);
}

/*
 * A child of vfork() is in its parent's address space until it executes a program or
 * ends: the bond is the parent's. The queue is not, as the child's file goes with it.
 */
TEST_F_TIMEOUT(file, vfork, 60)
{
	volatile int result = -1;
	__u64 word = 0;
	int status;
	pid_t pid;

	ASSERT_EQ(0, sva_queue_init(&self->q));
	sva_hammer_start(&self->q, 0, &word, 8, 8, TAG);
	pid = vfork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct sva_queue q;
		__u64 mine = 0;

		result = sva_queue_init(&q);
		if (!result)
			result = sva_fill(&q, 0, &mine, TAG, 8, NULL) != SVATD_ST_OK || mine != TAG;
		/* The mapping is the parent's as well, and would stay */
		if (q.page)
			munmap(q.page, page_size);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, result);
	/* What the parent has goes on */
	EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&self->q, 0, NULL));
	EXPECT_EQ(TAG, __atomic_load_n(&word, __ATOMIC_ACQUIRE));
}

/*
 * What others do to the memory
 */
FIXTURE(memory)
{
	struct common c;
	struct other o;
	struct sva_queue q;
	char *p;
};

FIXTURE_SETUP(memory)
{
	self->q.fd = -1;
	self->q.page = NULL;
	if (!start(_metadata, &self->c))
		return;
	self->p = untouched(MB);
	ASSERT_NE(NULL, self->p);
	ASSERT_EQ(0, sva_queue_init(&self->q));
}

FIXTURE_TEARDOWN(memory)
{
	other_end(&self->o, SIGKILL);
	sva_queue_close(&self->q);
	finish(_metadata, &self->c);
}

/*
 * A process whose device reads a page that it may only read itself: of a file, so
 * that a write by a debugger makes another page of it. It says what the device found.
 */
static void read_for_debugger(struct other *o, bool served)
{
	struct sva_result res;
	struct sva_queue q;
	double end;
	int fd, ret;
	char *p;

	fd = memfd_create("text", 0);
	if (fd < 0 || ftruncate(fd, page_size))
		_exit(1);
	p = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED || *p || sva_queue_init(&q))
		_exit(2);
	sva_poll_start(&q, 0, p, 8, 8, 0, 0);
	if (sva_wait_count(&q, 0, 100) || write(o->to, &p, sizeof(p)) != sizeof(p))
		_exit(3);
	/*
	 * Until the device reads something else. The page is not mapped while it is
	 * replaced: that ends a device's reads whose faults are not served.
	 */
	end = now() + SVA_TIMEOUT_MS / 1e3;
	while ((ret = sva_wait(&q, 0, SVA_TIMEOUT_MS, &res)) == SVATD_ST_FAULT && !served &&
	       now() < end)
		sva_poll_start(&q, 0, p, 8, 8, 0, 0);
	if (ret != SVATD_ST_MISMATCH || res.value != TAG)
		_exit(4);
	_exit(0);
}

TEST_F_TIMEOUT(memory, proc_mem, 60)
{
	__u64 word = TAG;
	char path[64];
	char *there;
	int fd, ret;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret)
		read_for_debugger(&self->o, self->c.served);
	ASSERT_EQ(sizeof(there), read(self->o.from, &there, sizeof(there)));
	/* Some kernels let none but a debugger write to what the process may not */
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, self->o.pid, NULL, NULL));
	snprintf(path, sizeof(path), "/proc/%d/mem", self->o.pid);
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(8, pwrite(fd, &word, 8, (unsigned long)there));
	close(fd);
	EXPECT_EQ(0, other_end(&self->o, 0));
}

TEST_F_TIMEOUT(memory, ptrace, 60)
{
	int ret, status;
	char *there;

	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret)
		read_for_debugger(&self->o, self->c.served);
	ASSERT_EQ(sizeof(there), read(self->o.from, &there, sizeof(there)));
	ASSERT_EQ(0, ptrace(PTRACE_ATTACH, self->o.pid, NULL, NULL));
	ASSERT_EQ(self->o.pid, waitpid(self->o.pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	/* The device does not stop along with its process */
	EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, self->o.pid, there, (void *)TAG));
	EXPECT_EQ(0, ptrace(PTRACE_DETACH, self->o.pid, NULL, NULL));
	EXPECT_EQ(0, other_end(&self->o, 0));
}

/* A process is dumped while its device writes, and ends after that */
TEST_F_TIMEOUT(memory, core_dump, 120)
{
	static const char pattern[] = "/proc/sys/kernel/core_pattern";
	struct rlimit most = { 64 * MB, 64 * MB };
	char path[64];
	struct stat st;
	double seconds;
	int ret;
	pid_t pid;

	if (put("/tmp/sva_core.%p", "%s", pattern))
		SKIP(return, "no core dumps");
	ret = other_start(&self->o);
	ASSERT_LE(0, ret);
	if (!ret) {
		struct sva_queue q;
		char *p = untouched(SVATD_NUM_SLOTS * MB / 4);

		if (!p || setrlimit(RLIMIT_CORE, &most) || sva_queue_init(&q))
			_exit(1);
		memset(p, 1, SVATD_NUM_SLOTS * MB / 4);
		hammer(&q, p, MB / 4);
		if (sva_wait_count(&q, 0, 10))
			_exit(2);
		say(self->o.to, 'r');
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	pid = self->o.pid;
	ASSERT_TRUE(hear(self->o.from, 'r'));
	seconds = now();
	ret = other_end(&self->o, 0);
	took("core dump", now() - seconds);
	EXPECT_TRUE(WIFSIGNALED(ret));
	EXPECT_TRUE(WCOREDUMP(ret));
	snprintf(path, sizeof(path), "/tmp/sva_core.%d", pid);
	EXPECT_EQ(0, stat(path, &st));
	EXPECT_LT(4 * MB, st.st_size);
	unlink(path);
	put("core", "%s", pattern);
}

/* A guard region ends the device's accesses, and what was in it does not come back */
TEST_F_TIMEOUT(memory, guard_region, 60)
{
	struct sva_result res;

	memset(self->p, 1, 4 * page_size);
	sva_hammer_start(&self->q, 0, self->p, 4 * page_size, page_size, TAG);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 100));
	if (madvise(self->p + page_size, page_size, MADV_GUARD_INSTALL)) {
		sva_stop(&self->q, 0, NULL);
		SKIP(return, "no guard regions");
	}
	EXPECT_EQ(SVATD_ST_FAULT, sva_wait(&self->q, 0, SVA_TIMEOUT_MS, &res));
	EXPECT_EQ(sva_addr(self->p + page_size), res.faddr);
	EXPECT_EQ(SVATD_ST_FAULT, sva_fill(&self->q, 0, self->p + page_size, TAG, 8, NULL));
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p, TAG, 8, NULL));
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p + 2 * page_size, TAG, 8, NULL));
	ASSERT_EQ(0, madvise(self->p, 4 * page_size, MADV_GUARD_REMOVE));
	/* By the CPU first, where the device's faults are not served */
	EXPECT_EQ(0, __atomic_load_n((__u64 *)(self->p + page_size), __ATOMIC_ACQUIRE));
	self->p[page_size] = 1;
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p + page_size, TAG, 8, NULL));
	EXPECT_EQ(TAG, *(__u64 *)(self->p + page_size));
	/* Where nothing was before it */
	ASSERT_EQ(0, madvise(self->p + 8 * page_size, page_size, MADV_GUARD_INSTALL));
	EXPECT_EQ(SVATD_ST_FAULT, sva_fill(&self->q, 0, self->p + 8 * page_size, TAG, 8, NULL));
}

#define TRACKED		16

static int uffd_wp(void *p, size_t size, __u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (unsigned long)p, size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		return -1;
	return fd;
}

/* Pages of the range that were written, a bit for each; they are not any more */
static long written(char *p)
{
	struct page_region found[TRACKED];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (unsigned long)p,
		.end = (unsigned long)p + TRACKED * page_size,
		.vec = (unsigned long)found,
		.vec_len = TRACKED,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY), i, ret;
	unsigned long at;
	long bits = 0;

	ret = ioctl(fd, PAGEMAP_SCAN, &arg);
	close(fd);
	if (ret < 0)
		return -errno;
	for (i = 0; i < ret; i++)
		for (at = found[i].start; at < found[i].end; at += page_size)
			bits |= 1L << (at - (unsigned long)p) / page_size;
	return bits;
}

/*
 * Who looks which pages were written (PAGEMAP_SCAN) finds those that the device wrote to,
 * each time again, whether it has written there before or not
 */
TEST_F_TIMEOUT(memory, pagemap_scan, 60)
{
	unsigned int round, i;
	long bits;
	int uffd;

	if (!self->c.served)
		SKIP(return, NOT_SERVED);
	memset(self->p, 1, TRACKED * page_size);
	uffd = uffd_wp(self->p, TRACKED * page_size,
		       UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
	if (uffd < 0)
		SKIP(return, "no userfaultfd that protects from writes");
	bits = written(self->p);
	if (bits == -ENOTTY)
		SKIP(return, "no PAGEMAP_SCAN");
	ASSERT_LE(0, bits);
	for (round = 0; round < 8; round++) {
		long expected = 0;

		for (i = round % 3; i < TRACKED; i += 3) {
			EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p + i * page_size,
							TAG, 8, NULL));
			expected |= 1L << i;
		}
		/* A read is no write */
		EXPECT_EQ(SVATD_ST_OK, sva_compare(&self->q, 0, self->p, self->p,
						   TRACKED * page_size, NULL));
		EXPECT_EQ(expected, written(self->p));
		EXPECT_EQ(0, written(self->p));
	}
	close(uffd);
}

/*
 * A range that a monitor protects from writes: the device's are refused, as the
 * monitor would have to be waited for. It does not get through, and finds what it may
 * as soon as it may.
 */
TEST_F_TIMEOUT(memory, uffd_write_protect, 60)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)self->p, TRACKED * page_size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int uffd;

	memset(self->p, 1, TRACKED * page_size);
	uffd = uffd_wp(self->p, TRACKED * page_size, 0);
	if (uffd < 0)
		SKIP(return, "no userfaultfd that protects from writes");
	sva_hammer_start(&self->q, 0, self->p, TRACKED * page_size, page_size, TAG);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 100));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
	EXPECT_EQ(SVATD_ST_FAULT, sva_wait(&self->q, 0, SVA_TIMEOUT_MS, NULL));
	EXPECT_EQ(SVATD_ST_OK, sva_compare(&self->q, 0, self->p, self->p, page_size, NULL));
	EXPECT_EQ(SVATD_ST_FAULT, sva_fill(&self->q, 0, self->p, TAG + 1, 8, NULL));
	EXPECT_EQ(TAG, *(__u64 *)self->p);
	wp.mode = 0;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
	*self->p = 1;
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, self->p, TAG + 1, 8, NULL));
	EXPECT_EQ(TAG + 1, *(__u64 *)self->p);
	close(uffd);
}

/* Huge pages of each size that there is */
TEST_F_TIMEOUT(memory, hugetlb, 60)
{
	unsigned int i, sizes = 0;
	glob_t all;

	ASSERT_EQ(0, glob("/sys/kernel/mm/hugepages/hugepages-*kB", 0, NULL, &all));
	for (i = 0; i < all.gl_pathc; i++) {
		size_t kb = strtoul(strstr(all.gl_pathv[i], "hugepages-") + 10, NULL, 10);
		size_t size = kb << 10;
		struct sva_result res;
		char *p;

		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			 (__builtin_ctzl(size) << MAP_HUGE_SHIFT), -1, 0);
		if (p == MAP_FAILED) {
			ksft_print_msg("no huge page of %zu kB\n", kb);
			continue;
		}
		sizes++;
		if (!self->c.served)
			*p = 1;
		EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p + size - 8, TAG, 8, NULL));
		EXPECT_EQ(TAG, *(__u64 *)(p + size - 8));
		sva_hammer_start(&self->q, 0, p, size, size / 16, TAG + 1);
		ASSERT_EQ(0, sva_wait_count(&self->q, 0, 100));
		EXPECT_EQ(TAG + 1, *(__u64 *)(p + size / 2));
		munmap(p, size);
		EXPECT_EQ(SVATD_ST_FAULT, sva_wait(&self->q, 0, SVA_TIMEOUT_MS, &res));
		ksft_print_msg("huge page of %zu kB\n", kb);
	}
	globfree(&all);
	if (!sizes)
		SKIP(return, "no huge pages");
}

/*
 * The kernel's next page tables are made of pages that had places in a file. Pages of
 * ramfs are like page tables in that they cannot be moved, so they are taken for those.
 */
static bool leave_file_pages(void)
{
	char dir[] = "/tmp/sva-ramfs-XXXXXX";
	bool ok = false;
	char *page;
	int fd, i;

	page = calloc(1, page_size);
	if (!page || !mkdtemp(dir))
		goto out_free;
	if (mount("none", dir, "ramfs", 0, NULL))
		goto out_rmdir;
	fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	if (fd >= 0) {
		for (i = 0, ok = true; i < 256 && ok; i++)
			ok = write(fd, page, page_size) == (ssize_t)page_size;
		close(fd);
	}
	umount2(dir, MNT_DETACH);
out_rmdir:
	rmdir(dir);
out_free:
	free(page);
	return ok;
}

/*
 * A child has what the device wrote to huge pages whose size is not that of a PMD. On
 * mainline fork() takes a page table whose page has been a file's for one that is shared
 * ("mm: hugetlb: Do not take other page tables for shared PMD tables"), and the child has
 * zeroes instead.
 */
TEST_F_TIMEOUT(memory, hugetlb_fork, 60)
{
	unsigned int i, round, sizes = 0;
	int status;
	glob_t all;
	pid_t pid;
	__u64 *p;

	if (!leave_file_pages())
		SKIP(return, "no ramfs");
	ASSERT_EQ(0, glob("/sys/kernel/mm/hugepages/hugepages-*kB", 0, NULL, &all));
	for (i = 0; i < all.gl_pathc; i++) {
		size_t size = strtoul(strstr(all.gl_pathv[i], "hugepages-") + 10, NULL, 10) << 10;
		unsigned int lost = 0;

		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_HUGETLB | (__builtin_ctzl(size) << MAP_HUGE_SHIFT), -1, 0);
		if (p == MAP_FAILED)
			continue;
		*p = 0;
		for (round = 1; round <= 20; round++) {
			ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, TAG + round, 8, NULL));
			ASSERT_TRUE(leave_file_pages());
			pid = fork();
			ASSERT_LE(0, pid);
			if (!pid)
				_exit(*(volatile __u64 *)p != TAG + round);
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			/* SIGBUS if there is not even a page of zeroes */
			ASSERT_TRUE(WIFEXITED(status) || WTERMSIG(status) == SIGBUS);
			lost += status != 0;
			/* A page to write to, while the child is not there to keep its own */
			*p = 0;
		}
		EXPECT_EQ(0, lost) {
			TH_LOG("huge pages of %zu kB", size >> 10);
		}
		/* A PMD has a table of its page's entries, of 8 bytes each */
		sizes += size != page_size / 8 * page_size;
		munmap(p, size);
	}
	globfree(&all);
	if (!sizes)
		SKIP(return, "no huge pages but those of PMDs");
}

/* lib/test_hmm_uapi.h is no header of the uAPI */
struct hmm_command {
	__u64 addr;
	__u64 ptr;
	__u64 pages;
	__u64 done;
	__u64 faults;
};

#define HMM_TO_DEVICE		_IOWR('H', 0x02, struct hmm_command)

/*
 * Memory that is a device's own, where neither CPUs nor other devices reach it: if
 * faults are served it comes back, with all that was in it. If not, the access fails.
 */
TEST_F_TIMEOUT(memory, device_private, 60)
{
	char *copy = malloc(TRACKED * page_size);
	struct hmm_command cmd = {
		.addr = (unsigned long)self->p,
		.ptr = (unsigned long)copy,
		.pages = TRACKED,
	};
	__u64 *words = (__u64 *)self->p;
	unsigned int i, step = page_size / 8;
	int fd, ret;

	fd = open("/dev/hmm_dmirror0", O_RDWR);
	if (fd < 0)
		SKIP(return, "no test_hmm");
	for (i = 0; i < TRACKED; i++)
		words[i * step] = TAG + i;
	sva_poll_start(&self->q, 0, self->p, 8, 8, TAG, TAG);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 100));
	sva_stop(&self->q, 0, NULL);
	ASSERT_EQ(0, ioctl(fd, HMM_TO_DEVICE, &cmd));
	EXPECT_EQ(TRACKED, cmd.done);
	for (i = 0; i < TRACKED; i++) {
		ret = sva_atomic_add(&self->q, 0, &words[i * step], 1, NULL);
		EXPECT_EQ(self->c.served ? SVATD_ST_OK : SVATD_ST_FAULT, ret);
	}
	for (i = 0; i < TRACKED; i++)
		EXPECT_EQ(TAG + i + self->c.served, words[i * step]);
	close(fd);
	free(copy);
}

TEST_HARNESS_MAIN
