// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing, the basics: sva-testdev works in the address space
 * of the process that opened it, is bound by what that process may do, and by
 * nothing less.
 *
 * Needs no page faults by the device: memory is touched by the CPU first.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <misc/uacce/uacce.h>

#include "kselftest_harness.h"
#include "sva_testdev.h"

#define OLD		0x0102030405060708ULL
#define NEW		0xa1a2a3a4a5a6a7a8ULL

static size_t page_size;

static __u64 load(const __u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(__u64 *p, __u64 value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

/* Private anonymous memory whose pages are all present, and writable by all */
static void *touched(size_t pages)
{
	size_t i, size = pages * page_size;
	char *p;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	for (i = 0; i < size; i++)
		p[i] = i ^ (i >> 8);
	return p;
}

FIXTURE(basic)
{
	struct sva_queue q;
	char *buf;	/* 4 pages */
	char *src;
	char *dst;
};

FIXTURE_SETUP(basic)
{
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	ret = sva_queue_init(&self->q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	self->buf = touched(4);
	ASSERT_NE(NULL, self->buf);
	self->src = self->buf;
	self->dst = self->buf + 2 * page_size;
}

FIXTURE_TEARDOWN(basic)
{
	sva_queue_close(&self->q);
}

TEST_F(basic, nop)
{
	struct sva_op op = { .cmd = SVATD_OP_NOP };

	EXPECT_TRUE(sva_queue_enabled(&self->q));
	EXPECT_EQ(SVATD_ST_OK, sva_run(&self->q, 0, &op, NULL));
}

TEST_F(basic, copy)
{
	struct sva_result res;

	memset(self->dst, 0, 2 * page_size);
	/* Neither address nor length is aligned, and both cross a page */
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst + 5, self->src + 3,
					page_size + 100, &res));
	EXPECT_EQ(page_size + 100, res.count);
	EXPECT_EQ(0, memcmp(self->dst + 5, self->src + 3, page_size + 100));
	EXPECT_EQ(0, self->dst[4]);
	EXPECT_EQ(0, self->dst[page_size + 105]);
}

TEST_F(basic, compare)
{
	struct sva_result res;

	memcpy(self->dst, self->src, 2 * page_size);
	ASSERT_EQ(SVATD_ST_OK, sva_compare(&self->q, 0, self->src, self->dst,
					   2 * page_size, &res));
	self->src[page_size + 17] ^= 0xff;
	ASSERT_EQ(SVATD_ST_MISMATCH, sva_compare(&self->q, 0, self->src, self->dst,
						 2 * page_size, &res));
	EXPECT_EQ(sva_addr(self->src + page_size + 17), res.faddr);
	EXPECT_EQ((__u8)self->src[page_size + 17], res.value);
}

TEST_F(basic, fill)
{
	__u64 *p = (__u64 *)self->dst;
	size_t i, n = page_size / sizeof(*p);
	struct sva_result res;

	ASSERT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, NEW, page_size, &res));
	EXPECT_EQ(page_size, res.count);
	for (i = 0; i < n; i++)
		ASSERT_EQ(NEW, load(&p[i]));
	EXPECT_NE(NEW, load(&p[n]));
}

/* A store by the CPU is seen by the device, without any call in between */
TEST_F(basic, cpu_store_seen_by_device)
{
	__u64 *p = (__u64 *)self->src;
	struct sva_result res;

	store(p, OLD);
	sva_poll_start(&self->q, 0, p, 8, 8, OLD, OLD);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 3));
	store(p, NEW);
	ASSERT_EQ(SVATD_ST_MISMATCH, sva_wait(&self->q, 0, SVA_TIMEOUT_MS, &res));
	EXPECT_EQ(sva_addr(p), res.faddr);
	EXPECT_EQ(NEW, res.value);
}

TEST_F(basic, device_store_seen_by_cpu)
{
	__u64 *p = (__u64 *)self->dst;
	struct sva_result res;

	store(p, OLD);
	sva_hammer_start(&self->q, 0, p, 8, 8, NEW);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 1));
	EXPECT_EQ(NEW, load(p));
	ASSERT_EQ(SVATD_ST_STOPPED, sva_stop(&self->q, 0, &res));
	store(p, OLD);
	usleep(20000);
	EXPECT_EQ(OLD, load(p));
}

#define ADDS		200

static void *adder(void *p)
{
	int i;

	for (i = 0; i < 100 * ADDS; i++)
		__atomic_fetch_add((__u64 *)p, 1, __ATOMIC_RELAXED);
	return NULL;
}

TEST_F(basic, atomic_add_against_threads)
{
	__u64 *p = (__u64 *)self->dst;
	pthread_t thread[2];
	struct sva_result res;
	__u64 last = 0;
	int i;

	store(p, 0);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, adder, p));
	for (i = 0; i < ADDS; i++) {
		ASSERT_EQ(SVATD_ST_OK,
			  sva_atomic_add(&self->q, 0, p, 1ULL << 32, &res));
		ASSERT_LE(last, res.value);
		last = res.value + (1ULL << 32);
	}
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(((__u64)ADDS << 32) + 200 * ADDS, load(p));
}

TEST_F(basic, two_slots_at_once)
{
	__u64 *a = (__u64 *)self->src, *b = (__u64 *)self->dst;
	struct sva_result res;

	store(a, OLD);
	sva_poll_start(&self->q, 0, a, 8, 8, OLD, OLD);
	sva_hammer_start(&self->q, 15, b, page_size, page_size / 8, NEW);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 3));
	ASSERT_EQ(0, sva_wait_count(&self->q, 15, 8));
	EXPECT_EQ(NEW, load(&b[7 * page_size / 64]));
	/* A third one comes and goes meanwhile */
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 7, self->dst + page_size,
					self->src + page_size, page_size, NULL));
	store(a, NEW);
	EXPECT_EQ(SVATD_ST_MISMATCH, sva_wait(&self->q, 0, SVA_TIMEOUT_MS, &res));
	sva_peek(&self->q, 15, &res);
	EXPECT_EQ(SVATD_ST_RUNNING, res.code);
	EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&self->q, 15, NULL));
}

TEST_F(basic, poll_wakes_up)
{
	struct sva_op op = {
		.cmd = SVATD_OP_COPY | SVATD_CMD_IRQ,
		.src = sva_addr(self->src),
		.dst = sva_addr(self->dst),
		.len = page_size,
	};
	struct sva_result res;
	int i;

	/* Nothing completed: nothing to report */
	EXPECT_EQ(-ETIMEDOUT, sva_wait_irq(&self->q, 3, 50, &res));
	for (i = 0; i < 20; i++) {
		sva_submit(&self->q, 3, &op);
		ASSERT_EQ(SVATD_ST_OK, sva_wait_irq(&self->q, 3, SVA_TIMEOUT_MS, &res));
	}
	EXPECT_EQ(0, memcmp(self->dst, self->src, page_size));
	EXPECT_EQ(-ETIMEDOUT, sva_wait_irq(&self->q, 3, 50, &res));
}

/* An interrupt for a command that fails, too */
TEST_F(basic, poll_wakes_up_by_fault)
{
	struct sva_op op = {
		.cmd = SVATD_OP_POLL | SVATD_CMD_IRQ,
		.src = sva_addr(self->src),
		.len = page_size,
		.stride = 8,
		.arg = OLD,
		.arg2 = OLD,
	};
	struct sva_result res;

	ASSERT_EQ(SVATD_ST_OK,
		  sva_fill(&self->q, 0, self->src, OLD, page_size, NULL));
	sva_submit(&self->q, 1, &op);
	ASSERT_EQ(0, sva_wait_count(&self->q, 1, 3));
	ASSERT_EQ(0, munmap(self->src, page_size));
	ASSERT_EQ(SVATD_ST_FAULT, sva_wait_irq(&self->q, 1, SVA_TIMEOUT_MS, &res));
	EXPECT_EQ(sva_addr(self->src), res.faddr & -page_size);
}

static void *wait_wakeup(void *arg)
{
	return (void *)(long)sva_wait_wakeup(arg, SVA_TIMEOUT_MS);
}

/* Whoever waits for a command that is ended by order is told of it */
static void end_under_poller(struct __test_metadata *_metadata, struct sva_queue *q,
			     __u32 flags, int (*end)(struct sva_queue *q), void *src)
{
	struct sva_op op = {
		.cmd = SVATD_OP_POLL | flags,
		.src = sva_addr(src),
		.len = 8,
		.stride = 8,
		.arg = OLD,
		.arg2 = OLD,
	};
	pthread_t thread;
	void *ret;

	store(src, OLD);
	sva_submit(q, 0, &op);
	ASSERT_EQ(0, sva_wait_count(q, 0, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_wakeup, q));
	/* Most likely it sleeps by then; a few times it need not */
	usleep(50000);
	ASSERT_EQ(0, end(q));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(NULL, ret);
}

static int stop_slot(struct sva_queue *q)
{
	struct sva_op op = { .cmd = SVATD_OP_STOP };

	sva_submit(q, 0, &op);
	return 0;
}

TEST_F_TIMEOUT(basic, poll_wakes_up_by_stop, 60)
{
	end_under_poller(_metadata, &self->q, SVATD_CMD_IRQ, stop_slot, self->src);
}

/* Queues share interrupts: each of them is woken, not the first alone */
TEST_F_TIMEOUT(basic, poll_wakes_up_above_63, 60)
{
	struct sva_queue q[65];
	unsigned int i, n;
	long queues;

	ASSERT_EQ(0, sva_device_attr("available_instances", &queues));
	if (queues < (long)ARRAY_SIZE(q))
		SKIP(return, "the device has %ld queues free, %zu are needed", queues,
		     ARRAY_SIZE(q));
	for (n = 0; n < ARRAY_SIZE(q); n++)
		ASSERT_EQ(0, sva_queue_init(&q[n]));
	/* The last ones, which all have a queue below 64 in front of them */
	for (i = n - 2; i < n; i++)
		end_under_poller(_metadata, &q[i], SVATD_CMD_IRQ, stop_slot, self->src);
	while (n)
		sva_queue_close(&q[--n]);
}

/* Whoever waits is told of the end of the queue, which sends no interrupt */
TEST_F_TIMEOUT(basic, poll_wakes_up_by_end_of_queue, 60)
{
	end_under_poller(_metadata, &self->q, 0, sva_queue_stop, self->src);
}

static void expect_read_fault(struct __test_metadata *_metadata,
			      struct sva_queue *q, __u64 addr, void *scratch)
{
	struct sva_op op = {
		.cmd = SVATD_OP_COPY,
		.src = addr,
		.dst = sva_addr(scratch),
		.len = 8,
	};
	struct sva_result res;

	store(scratch, OLD);
	ASSERT_EQ(SVATD_ST_FAULT, sva_run(q, 0, &op, &res)) {
		TH_LOG("read of %#llx: %s", addr,
		       sva_status_name(res.code));
	}
	EXPECT_EQ(addr, res.faddr);
	EXPECT_FALSE(res.write);
	EXPECT_EQ(OLD, load(scratch));
}

static void expect_write_fault(struct __test_metadata *_metadata,
			       struct sva_queue *q, __u64 addr)
{
	struct sva_op op = {
		.cmd = SVATD_OP_FILL,
		.dst = addr,
		.len = 8,
		.arg = NEW,
	};
	struct sva_result res;

	ASSERT_EQ(SVATD_ST_FAULT, sva_run(q, 0, &op, &res)) {
		TH_LOG("write to %#llx: %s", addr,
		       sva_status_name(res.code));
	}
	EXPECT_EQ(addr, res.faddr);
	EXPECT_TRUE(res.write);
}

TEST_F(basic, unmapped_faults)
{
	char *gone = touched(1);

	ASSERT_NE(NULL, gone);
	ASSERT_EQ(0, munmap(gone, page_size));
	expect_read_fault(_metadata, &self->q, sva_addr(gone + 16), self->dst);
	expect_write_fault(_metadata, &self->q, sva_addr(gone + 24));
	/* A fault ends a command, not the queue */
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));
}

TEST_F(basic, null_faults)
{
	expect_read_fault(_metadata, &self->q, 0, self->dst);
	expect_write_fault(_metadata, &self->q, 0);
}

TEST_F(basic, read_only_faults_on_write)
{
	__u64 *p = (__u64 *)self->src;

	store(p, OLD);
	ASSERT_EQ(0, mprotect(p, page_size, PROT_READ));
	expect_write_fault(_metadata, &self->q, sva_addr(p));
	EXPECT_EQ(OLD, load(p));
	ASSERT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, p, 8, NULL));
	EXPECT_EQ(OLD, load((__u64 *)self->dst));
}

TEST_F(basic, atomic_on_read_only_faults)
{
	__u64 *p = (__u64 *)self->src;
	struct sva_result res;

	store(p, OLD);
	ASSERT_EQ(0, mprotect(p, page_size, PROT_READ));
	ASSERT_EQ(SVATD_ST_FAULT, sva_atomic_add(&self->q, 0, p, 1, &res));
	EXPECT_EQ(sva_addr(p), res.faddr);
	EXPECT_EQ(OLD, load(p));
}

/* A transfer that runs off the end does the part before, and names the edge */
TEST_F(basic, edge_of_mapping)
{
	char *end = self->src + page_size;
	struct sva_result res;

	memset(self->dst, 0, page_size);
	ASSERT_EQ(0, munmap(end, page_size));
	ASSERT_EQ(SVATD_ST_FAULT, sva_copy(&self->q, 0, self->dst, end - 64, 128, &res));
	EXPECT_EQ(sva_addr(end), res.faddr);
	EXPECT_EQ(64, res.count);
	EXPECT_FALSE(res.write);
	EXPECT_EQ(0, memcmp(self->dst, end - 64, 64));
	EXPECT_EQ(0, self->dst[64]);

	ASSERT_EQ(SVATD_ST_FAULT, sva_fill(&self->q, 0, end - 64, NEW, 128, &res));
	EXPECT_EQ(sva_addr(end), res.faddr);
	EXPECT_TRUE(res.write);
	EXPECT_EQ(NEW, load((__u64 *)(end - 8)));
	/* Up to the last byte there is no fault */
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, end - 64, 64, NULL));
}

/* What belongs to the kernel, and what belongs to nobody */
TEST_F(basic, other_half_faults)
{
	static const __u64 addrs[] = {
		0xffff000000000000ULL,	/* linear map, 48 bits */
		0xffff800000000000ULL,
		0xffff800080000000ULL,	/* kernel image */
		0xfff0000000000000ULL,	/* linear map, 52 bits */
		0xfffffffffffff000ULL,
		0x8000000000000000ULL,	/* in neither half */
		0x0100000000000000ULL,
		0x0010000000000000ULL,
		0x00f0000000001000ULL,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(addrs); i++) {
		expect_read_fault(_metadata, &self->q, addrs[i], self->dst);
		expect_write_fault(_metadata, &self->q, addrs[i]);
	}
}

/* The device takes the whole address, whatever the CPU makes of its top byte */
TEST_F(basic, tagged_address_faults)
{
	expect_read_fault(_metadata, &self->q, sva_addr(self->src) | 0x5aULL << 56,
			  self->dst);
}

/* A device that writes to itself may fail, but must come back */
TEST_F(basic, own_queue_page)
{
	EXPECT_LE(0, sva_copy(&self->q, 0, self->q.page, self->src, 8, NULL));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 1, self->dst, self->src, 8, NULL));
}

TEST_F(basic, bad_commands)
{
	static const __u32 cmds[] = { 99, 255, SVATD_OP_NOP | 0x80000000, SVATD_OP_NOP | 0x200 };
	struct sva_op op = {
		.src = sva_addr(self->src),
		.dst = sva_addr(self->dst),
		.len = 8,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		op.cmd = cmds[i];
		EXPECT_EQ(SVATD_ST_BAD_CMD, sva_run(&self->q, i, &op, NULL));
	}
	op.cmd = SVATD_OP_COPY;
	EXPECT_EQ(SVATD_ST_OK, sva_run(&self->q, 0, &op, NULL));
}

TEST_F(basic, bad_arguments)
{
	struct sva_op op;

	EXPECT_EQ(SVATD_ST_BAD_ARG, sva_fill(&self->q, 0, self->dst, NEW, 12, NULL));
	EXPECT_EQ(SVATD_ST_BAD_ARG,
		  sva_atomic_add(&self->q, 0, (__u64 *)(self->dst + 4), 1, NULL));
	/* Ranges that wrap around the end of the address space */
	op = (struct sva_op) {
		.cmd = SVATD_OP_COPY,
		.src = -8ULL,
		.dst = sva_addr(self->dst),
		.len = 64,
	};
	EXPECT_EQ(SVATD_ST_BAD_ARG, sva_run(&self->q, 0, &op, NULL));
	op = (struct sva_op) {
		.cmd = SVATD_OP_COPY,
		.src = sva_addr(self->src),
		.dst = sva_addr(self->dst),
		.len = -1ULL,
	};
	EXPECT_EQ(SVATD_ST_BAD_ARG, sva_run(&self->q, 0, &op, NULL));
	op = (struct sva_op) {
		.cmd = SVATD_OP_POLL,
		.src = sva_addr(self->src),
		.len = 64,
		.stride = 4,
	};
	EXPECT_EQ(SVATD_ST_BAD_ARG, sva_run(&self->q, 0, &op, NULL));
	op.cmd = SVATD_OP_HAMMER;
	op.dst = op.src + 1;
	op.stride = 8;
	EXPECT_EQ(SVATD_ST_BAD_ARG, sva_run(&self->q, 0, &op, NULL));
}

TEST_F(basic, stop_slot)
{
	struct sva_result res;
	__u64 count;

	ASSERT_EQ(SVATD_ST_OK,
		  sva_fill(&self->q, 0, self->src, OLD, page_size, NULL));
	sva_poll_start(&self->q, 0, self->src, page_size, 8, OLD, OLD);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 10));
	ASSERT_EQ(SVATD_ST_STOPPED, sva_stop(&self->q, 0, &res));
	count = res.count;
	usleep(20000);
	sva_peek(&self->q, 0, &res);
	EXPECT_EQ(count, res.count);
	/* The slot can be used again */
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));
}

/* While a slot runs, arming it again must not change what it does */
TEST_F(basic, running_slot_is_locked)
{
	struct sva_op op = {
		.cmd = SVATD_OP_FILL,
		.dst = sva_addr(self->dst),
		.len = page_size,
		.arg = NEW,
	};
	__u64 *p = (__u64 *)self->dst;

	store((__u64 *)self->src, OLD);
	store(p, OLD);
	sva_poll_start(&self->q, 0, self->src, 8, 8, OLD, OLD);
	sva_submit(&self->q, 0, &op);
	usleep(20000);
	EXPECT_EQ(OLD, load(p));
	EXPECT_EQ(SVATD_ST_STOPPED, sva_stop(&self->q, 0, NULL));
	EXPECT_EQ(OLD, load(p));
}

TEST_F(basic, stop_queue_while_running)
{
	__u64 *p = (__u64 *)self->dst;
	unsigned int slot;

	for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
		sva_hammer_start(&self->q, slot, p + slot, 8, 8, NEW);
	for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
		ASSERT_EQ(0, sva_wait_count(&self->q, slot, 1));
	ASSERT_EQ(0, sva_queue_stop(&self->q));
	/* From here on the device must not write */
	for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
		store(p + slot, OLD);
	usleep(20000);
	for (slot = 0; slot < SVATD_NUM_SLOTS; slot++)
		EXPECT_EQ(OLD, load(p + slot));
	EXPECT_FALSE(sva_queue_enabled(&self->q));
	EXPECT_EQ(SVATD_ST_DISABLED,
		  sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));

	ASSERT_EQ(0, sva_queue_start(&self->q));
	EXPECT_TRUE(sva_queue_enabled(&self->q));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));
}

TEST_F(basic, close_while_running)
{
	__u64 *p = (__u64 *)self->dst;

	sva_hammer_start(&self->q, 0, p, 8, 8, NEW);
	ASSERT_EQ(0, sva_wait_count(&self->q, 0, 1));
	sva_queue_close(&self->q);
	store(p, OLD);
	usleep(20000);
	EXPECT_EQ(OLD, load(p));
}

TEST_F(basic, queue_before_start)
{
	struct sva_queue q;

	ASSERT_EQ(0, sva_queue_open(&q));
	ASSERT_EQ(0, sva_queue_map(&q));
	EXPECT_FALSE(sva_queue_enabled(&q));
	EXPECT_EQ(SVATD_ST_DISABLED, sva_copy(&q, 0, self->dst, self->src, 8, NULL));
	ASSERT_EQ(0, sva_queue_start(&q));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&q, 0, self->dst, self->src, 8, NULL));
	/* Started is started */
	EXPECT_EQ(-EINVAL, sva_queue_start(&q));
	sva_queue_close(&q);
}

/* Several queues of one process work in the same address space */
TEST_F(basic, second_queue)
{
	__u64 *p = (__u64 *)self->dst;
	struct sva_queue q;

	store(p, OLD);
	ASSERT_EQ(0, sva_queue_init(&q));
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&q, 0, p, NEW, 8, NULL));
	EXPECT_EQ(NEW, load(p));
	sva_queue_close(&q);
	/* One queue gone, the other still bound */
	EXPECT_EQ(SVATD_ST_OK, sva_fill(&self->q, 0, p, OLD, 8, NULL));
	EXPECT_EQ(OLD, load(p));
}

/*
 * A queue works in the address space of who opened it. Nobody else may drive
 * it: not a child, whatever it inherits.
 */
TEST_F(basic, other_process_cannot_map)
{
	struct sva_queue q;
	int status;
	pid_t pid;

	ASSERT_EQ(0, sva_queue_open(&q));
	ASSERT_EQ(0, sva_queue_start(&q));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(-sva_queue_map(&q));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EPERM, WEXITSTATUS(status));
	/* It stays the parent's. (The store ends copy on write after fork) */
	memset(self->dst, 0, 8);
	ASSERT_EQ(0, sva_queue_map(&q));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&q, 0, self->dst, self->src, 8, NULL));
	sva_queue_close(&q);
}

/* What the parent has mapped, the child has not */
TEST_F(basic, queue_page_is_not_inherited)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		_exit(sva_queue_enabled(&self->q));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	/* Not there at all, or a page of zeroes */
	EXPECT_TRUE(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
	memset(self->dst, 0, 8);
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));
}

static int try_mmap(int fd, size_t size, int prot, int flags, off_t offset)
{
	void *p = mmap(NULL, size, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return errno;
	munmap(p, size);
	return 0;
}

TEST_F(basic, bad_mmap)
{
	const int rw = PROT_READ | PROT_WRITE;
	struct sva_queue q;
	int i;

	ASSERT_EQ(0, sva_queue_open(&q));
	EXPECT_EQ(EINVAL, try_mmap(q.fd, 2 * page_size, rw, MAP_SHARED, 0));
	EXPECT_EQ(EINVAL, try_mmap(q.fd, 64 * page_size, rw, MAP_SHARED, 0));
	for (i = 1; i < 40; i++)
		EXPECT_EQ(EINVAL, try_mmap(q.fd, page_size, rw, MAP_SHARED,
					   i * page_size));
	EXPECT_EQ(EINVAL, try_mmap(q.fd, page_size, rw, MAP_SHARED,
				   0x7ffffffff000ULL & -page_size));
	/* A copy of registers is good for nothing */
	EXPECT_NE(0, try_mmap(q.fd, page_size, rw, MAP_PRIVATE, 0));
	/* None of it got in the way */
	ASSERT_EQ(0, sva_queue_start(&q));
	ASSERT_EQ(0, sva_queue_map(&q));
	EXPECT_EQ(EEXIST, try_mmap(q.fd, page_size, rw, MAP_SHARED, 0));
	EXPECT_EQ(MAP_FAILED, mremap(q.page, page_size, 2 * page_size, MREMAP_MAYMOVE));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&q, 0, self->dst, self->src, 8, NULL));
	sva_queue_close(&q);
}

TEST_F(basic, bad_ioctl)
{
	unsigned int nr;

	for (nr = 2; nr < 64; nr++) {
		EXPECT_EQ(-1, ioctl(self->q.fd, _IO('W', nr), 0));
		EXPECT_EQ(-1, ioctl(self->q.fd, _IOWR('W', nr, __u64), 0));
	}
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));
}

/* Any value in any register of the queue page harms only the one who wrote it */
TEST_F(basic, scribble_on_queue_page)
{
	__u32 *page = self->q.page;
	unsigned int i, round;

	srandom(1);
	for (round = 0; round < 4; round++)
		for (i = 0; i < SVATD_QUEUE_SIZE / sizeof(*page); i++)
			__atomic_store_n(&page[i], random() ^ ((__u32)random() << 16),
					 __ATOMIC_RELAXED);
	ASSERT_EQ(0, sva_queue_stop(&self->q));
	ASSERT_EQ(0, sva_queue_start(&self->q));
	EXPECT_EQ(SVATD_ST_OK, sva_copy(&self->q, 0, self->dst, self->src, 8, NULL));
}

TEST_HARNESS_MAIN
