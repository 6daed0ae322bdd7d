// SPDX-License-Identifier: GPL-2.0-only
/* The queues of sva-testdev, see sva_testdev.h */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <misc/uacce/uacce.h>

#include "kselftest.h"
#include "sva_device.h"
#include "sva_testdev.h"

/* Reads of STATUS before a waiter lets others run */
#define SPINS_PER_YIELD		256

static __u32 read32(const struct sva_queue *q, unsigned int offset)
{
	return __atomic_load_n((__u32 *)((char *)q->page + offset), __ATOMIC_RELAXED);
}

static __u64 read64(const struct sva_queue *q, unsigned int offset)
{
	return __atomic_load_n((__u64 *)((char *)q->page + offset), __ATOMIC_RELAXED);
}

static void write32(struct sva_queue *q, unsigned int offset, __u32 value)
{
	__atomic_store_n((__u32 *)((char *)q->page + offset), value, __ATOMIC_RELAXED);
}

static void write64(struct sva_queue *q, unsigned int offset, __u64 value)
{
	__atomic_store_n((__u64 *)((char *)q->page + offset), value, __ATOMIC_RELAXED);
}

static __u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

/**
 * sva_device() - Find the device to test
 *
 * That is the one named by the environment's SVA_TESTDEV, or else the first.
 *
 * Return: the path of its character device, or NULL if there is none.
 */
const char *sva_device(void)
{
	static char path[PATH_MAX];
	const char *env = getenv("SVA_TESTDEV");
	glob_t found;

	if (env)
		return env;
	if (!path[0] && !glob("/dev/sva_testdev-*", 0, NULL, &found)) {
		snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
		globfree(&found);
	}
	return path[0] ? path : NULL;
}

/**
 * sva_skip_reason() - Tell a machine that cannot run the tests from a failure
 * @err: negative errno from sva_queue_open() or sva_queue_init()
 *
 * Return: why the test should be skipped, or NULL if it should fail.
 */
const char *sva_skip_reason(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENXIO:
		return "no sva-testdev (/dev/sva_testdev-N) on this machine";
	case -EACCES:
	case -EPERM:
		return "no permission to open the sva-testdev";
	case -EOPNOTSUPP:
	case -ENODEV:
		return "this machine's kernel or SMMU does not support SVA";
	case -ENOSPC:
		return "the sva-testdev has no PASID here";
	case -EBUSY:
		return "no free queue on the sva-testdev";
	default:
		return NULL;
	}
}

/**
 * sva_device_attr() - Read an attribute of the device's uacce class device
 * @name: file in /sys/class/uacce/sva_testdev-N
 * @value: the number found
 *
 * Return: 0, or a negative errno.
 */
int sva_device_attr(const char *name, long *value)
{
	const char *dev = sva_device();
	char path[PATH_MAX];
	int ret = 0;
	FILE *f;

	if (!dev)
		return -ENOENT;
	snprintf(path, sizeof(path), "/sys/class/uacce/%s/%s",
		 strrchr(dev, '/') ? strrchr(dev, '/') + 1 : dev, name);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	if (fscanf(f, "%ld", value) != 1)
		ret = -EIO;
	fclose(f);
	return ret;
}

/**
 * sva_status_name() - Name a slot's status
 * @code: SVATD_ST_*
 *
 * Return: the name, for messages.
 */
const char *sva_status_name(unsigned int code)
{
	static const char * const names[] = {
		[SVATD_ST_IDLE] = "idle",
		[SVATD_ST_RUNNING] = "running",
		[SVATD_ST_OK] = "ok",
		[SVATD_ST_MISMATCH] = "mismatch",
		[SVATD_ST_FAULT] = "fault",
		[SVATD_ST_BAD_CMD] = "bad command",
		[SVATD_ST_BAD_ARG] = "bad argument",
		[SVATD_ST_STOPPED] = "stopped",
		[SVATD_ST_DISABLED] = "disabled",
		[SVATD_ST_BUS] = "bus error",
	};

	if (code >= ARRAY_SIZE(names) || !names[code])
		return "unknown status";
	return names[code];
}

static int queue_open_on(struct sva_queue *q, const char *path)
{
	q->page = NULL;
	q->fd = path ? open(path, O_RDWR) : -1;
	if (q->fd < 0)
		return path ? -errno : -ENOENT;
	return 0;
}

/**
 * sva_queue_open() - Get a queue, bound to the mm of the caller
 * @q: the queue, neither mapped nor started
 *
 * Return: 0, or a negative errno (-ENOENT: no device).
 */
int sva_queue_open(struct sva_queue *q)
{
	return queue_open_on(q, sva_device());
}

/**
 * sva_queue_map() - Map the queue page
 * @q: an open queue
 *
 * Return: 0, or a negative errno.
 */
int sva_queue_map(struct sva_queue *q)
{
	long page_size = sysconf(_SC_PAGESIZE);
	void *page;

	page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, q->fd,
		    UACCE_QFRT_MMIO * page_size);
	if (page == MAP_FAILED)
		return -errno;
	q->page = page;
	return 0;
}

/**
 * sva_queue_start() - Let the queue run commands
 * @q: an open queue
 *
 * All slots are idle after it.
 *
 * Return: 0, or a negative errno.
 */
int sva_queue_start(struct sva_queue *q)
{
	return ioctl(q->fd, UACCE_CMD_START_Q) ? -errno : 0;
}

/**
 * sva_queue_stop() - End all commands of the queue and disable it
 * @q: an open queue
 *
 * When it returns the device makes no access any more on behalf of the queue.
 * sva_queue_start() enables it again.
 *
 * Return: 0, or a negative errno.
 */
int sva_queue_stop(struct sva_queue *q)
{
	return ioctl(q->fd, UACCE_CMD_PUT_Q) ? -errno : 0;
}

/**
 * sva_queue_init() - Get a queue that is ready for use
 * @q: the queue
 *
 * Return: 0, or a negative errno; then nothing is left open.
 */
int sva_queue_init(struct sva_queue *q)
{
	return sva_queue_init_on(q, sva_device());
}

/**
 * sva_queue_init_on() - Get a queue of a certain device that is ready for use
 * @q: the queue
 * @path: the device, /dev/sva_testdev-N or another that sva_device.h knows
 *
 * Return: 0, or a negative errno; then nothing is left open.
 */
int sva_queue_init_on(struct sva_queue *q, const char *path)
{
	const struct sva_device_ops *ops = path ? sva_device_find(path) : NULL;
	int ret;

	if (ops && ops->queue)
		return ops->queue(q, path);
	if (ops && ops != &sva_device_testdev)
		return sva_device_queue(q, path);
	ret = queue_open_on(q, path);
	if (ret)
		return ret;
	ret = sva_queue_start(q);
	if (!ret)
		ret = sva_queue_map(q);
	if (ret)
		sva_queue_close(q);
	return ret;
}

/**
 * sva_queue_close() - Give the queue back
 * @q: a queue in whatever state
 */
void sva_queue_close(struct sva_queue *q)
{
	if (q->fd == SVA_FD_EMULATED)
		sva_device_queue_close(q);
	else if (q->page)
		munmap(q->page, sysconf(_SC_PAGESIZE));
	if (q->fd >= 0)
		close(q->fd);
	q->page = NULL;
	q->fd = -1;
}

/**
 * sva_queue_enabled() - Does the device take commands from this queue
 * @q: a mapped queue
 *
 * Return: true if it does.
 */
bool sva_queue_enabled(const struct sva_queue *q)
{
	return read32(q, SVATD_Q_INFO) & SVATD_Q_INFO_ENABLED;
}

/**
 * sva_queue_has_ats() - Does the device have an ATC, which is told by command
 * @q: a mapped queue that has been used
 *
 * Return: true if it does.
 */
bool sva_queue_has_ats(const struct sva_queue *q)
{
	return read32(q, SVATD_Q_ATC_HITS) || read32(q, SVATD_Q_ATC_MISSES);
}

/**
 * sva_submit() - Arm and trigger a slot
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @op: what to do
 */
void sva_submit(struct sva_queue *q, unsigned int slot, const struct sva_op *op)
{
	unsigned int base = SVATD_Q_SLOT(slot);

	write64(q, base + SVATD_SLOT_SRC, op->src);
	write64(q, base + SVATD_SLOT_DST, op->dst);
	write64(q, base + SVATD_SLOT_LEN, op->len);
	write64(q, base + SVATD_SLOT_ARG, op->arg);
	write64(q, base + SVATD_SLOT_ARG2, op->arg2);
	write64(q, base + SVATD_SLOT_STRIDE, op->stride);
	sva_mb_device();
	if (q->fd == SVA_FD_EMULATED)
		sva_device_queue_submit(q, slot, op->cmd);
	else
		write32(q, base + SVATD_SLOT_CMD, op->cmd);
}

/**
 * sva_peek() - Look at a slot without waiting
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS
 * @res: its state; of a slot that still runs, only @code and @count mean
 *	 anything
 */
void sva_peek(const struct sva_queue *q, unsigned int slot, struct sva_result *res)
{
	unsigned int base = SVATD_Q_SLOT(slot);
	__u32 status = read32(q, base + SVATD_SLOT_STATUS);

	sva_mb_device();
	res->code = status & SVATD_STATUS_CODE;
	res->write = status & SVATD_STATUS_WRITE;
	res->atc = status & SVATD_STATUS_ATC;
	res->faddr = read64(q, base + SVATD_SLOT_FADDR);
	res->value = read64(q, base + SVATD_SLOT_VALUE);
	res->count = read64(q, base + SVATD_SLOT_COUNT);
}

static bool slot_running(const struct sva_queue *q, unsigned int slot)
{
	__u32 status = read32(q, SVATD_Q_SLOT(slot) + SVATD_SLOT_STATUS);

	return (status & SVATD_STATUS_CODE) == SVATD_ST_RUNNING;
}

static int finish(struct sva_queue *q, unsigned int slot, struct sva_result *res)
{
	struct sva_result unused;

	write32(q, SVATD_Q_DONE, 1U << slot);
	sva_peek(q, slot, res ? res : &unused);
	return res ? (int)res->code : (int)unused.code;
}

/**
 * sva_wait() - Wait for a slot by reading its status
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS
 * @timeout_ms: how long to wait
 * @res: NULL, or where to store the result; at a timeout, the state
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT if the slot still runs.
 */
int sva_wait(struct sva_queue *q, unsigned int slot, int timeout_ms,
	     struct sva_result *res)
{
	__u64 deadline = now_ms() + timeout_ms;
	unsigned int spins = 0;

	while (slot_running(q, slot)) {
		if (++spins % SPINS_PER_YIELD)
			continue;
		if (now_ms() > deadline) {
			if (res)
				sva_peek(q, slot, res);
			return -ETIMEDOUT;
		}
		sched_yield();
	}
	return finish(q, slot, res);
}

/**
 * sva_wait_wakeup() - Wait until poll() on the queue is woken
 * @q: an open queue
 * @timeout_ms: how long to wait
 *
 * When its time is over poll() looks a last time, and finds what completed without
 * an interrupt. That is no wake-up.
 *
 * Return: 0, -ETIMEDOUT, or another negative errno.
 */
int sva_wait_wakeup(struct sva_queue *q, int timeout_ms)
{
	struct pollfd pfd = { .fd = q->fd, .events = POLLIN };
	__u64 deadline = now_ms() + timeout_ms;
	int ret;

	ret = poll(&pfd, 1, timeout_ms);
	if (ret < 0)
		return -errno;
	return ret && now_ms() < deadline ? 0 : -ETIMEDOUT;
}

/**
 * sva_wait_irq() - Wait for a slot by poll() on the queue
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, started with SVATD_CMD_IRQ; no other slot of
 *	  the queue may be left with its bit in SVATD_Q_DONE set
 * @timeout_ms: how long to wait
 * @res: NULL, or where to store the result; at a timeout, the state
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT if no interrupt came.
 */
int sva_wait_irq(struct sva_queue *q, unsigned int slot, int timeout_ms,
		 struct sva_result *res)
{
	int ret = sva_wait_wakeup(q, timeout_ms);

	if (ret == -ETIMEDOUT || (!ret && slot_running(q, slot))) {
		if (res)
			sva_peek(q, slot, res);
		return -ETIMEDOUT;
	}
	return ret ? ret : finish(q, slot, res);
}

/**
 * sva_wait_count() - Wait until a running slot has come this far
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS
 * @count: what SVATD_SLOT_COUNT has to reach
 *
 * Return: 0, -ETIMEDOUT, or -EPIPE if the slot ended before.
 */
int sva_wait_count(struct sva_queue *q, unsigned int slot, __u64 count)
{
	unsigned int offset = SVATD_Q_SLOT(slot) + SVATD_SLOT_COUNT;
	__u64 deadline = now_ms() + SVA_TIMEOUT_MS;

	while (read64(q, offset) < count) {
		if (!slot_running(q, slot))
			return -EPIPE;
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		sched_yield();
	}
	return 0;
}

/**
 * sva_run() - Run a command to its end
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @op: what to do
 * @res: NULL, or where to store the result
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT.
 */
int sva_run(struct sva_queue *q, unsigned int slot, const struct sva_op *op,
	    struct sva_result *res)
{
	sva_submit(q, slot, op);
	return sva_wait(q, slot, SVA_TIMEOUT_MS, res);
}

/**
 * sva_copy() - Let the device copy memory
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @dst: where to
 * @src: where from
 * @len: bytes
 * @res: NULL, or where to store the result
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT.
 */
int sva_copy(struct sva_queue *q, unsigned int slot, void *dst, const void *src,
	     size_t len, struct sva_result *res)
{
	struct sva_op op = {
		.cmd = SVATD_OP_COPY,
		.src = sva_addr(src),
		.dst = sva_addr(dst),
		.len = len,
	};

	return sva_run(q, slot, &op, res);
}

/**
 * sva_fill() - Let the device fill memory with a 64-bit value
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @dst: where to
 * @value: what to store
 * @len: bytes, a multiple of 8
 * @res: NULL, or where to store the result
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT.
 */
int sva_fill(struct sva_queue *q, unsigned int slot, void *dst, __u64 value,
	     size_t len, struct sva_result *res)
{
	struct sva_op op = {
		.cmd = SVATD_OP_FILL,
		.dst = sva_addr(dst),
		.len = len,
		.arg = value,
	};

	return sva_run(q, slot, &op, res);
}

/**
 * sva_compare() - Let the device compare memory
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @a: one range; the result names the first byte in it that differs
 * @b: the other
 * @len: bytes
 * @res: NULL, or where to store the result
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT.
 */
int sva_compare(struct sva_queue *q, unsigned int slot, const void *a,
		const void *b, size_t len, struct sva_result *res)
{
	struct sva_op op = {
		.cmd = SVATD_OP_COMPARE,
		.src = sva_addr(a),
		.dst = sva_addr(b),
		.len = len,
	};

	return sva_run(q, slot, &op, res);
}

/**
 * sva_atomic_add() - Let the device add to a 64-bit number, atomically
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @dst: the number
 * @value: what to add
 * @res: NULL, or where to store the result; its @value is the old number
 *
 * Return: SVATD_ST_*, or -ETIMEDOUT.
 */
int sva_atomic_add(struct sva_queue *q, unsigned int slot, __u64 *dst,
		   __u64 value, struct sva_result *res)
{
	struct sva_op op = {
		.cmd = SVATD_OP_ATOMIC_ADD,
		.dst = sva_addr(dst),
		.len = sizeof(*dst),
		.arg = value,
	};

	return sva_run(q, slot, &op, res);
}

/**
 * sva_poll_start() - Let the device read a range again and again
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @src: where to read 64 bits each
 * @len: bytes
 * @stride: bytes from one read to the next
 * @allowed: a value that may be found
 * @allowed2: another
 *
 * Until it finds something else, or is not allowed to read, or sva_stop().
 */
void sva_poll_start(struct sva_queue *q, unsigned int slot, const void *src,
		    size_t len, size_t stride, __u64 allowed,
		    __u64 allowed2)
{
	struct sva_op op = {
		.cmd = SVATD_OP_POLL,
		.src = sva_addr(src),
		.len = len,
		.stride = stride,
		.arg = allowed,
		.arg2 = allowed2,
	};

	sva_submit(q, slot, &op);
}

/**
 * sva_hammer_start() - Let the device write a range again and again
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @dst: where to write 64 bits each
 * @len: bytes
 * @stride: bytes from one write to the next
 * @value: what to write
 *
 * Until it is not allowed to write, or sva_stop().
 */
void sva_hammer_start(struct sva_queue *q, unsigned int slot, void *dst,
		      size_t len, size_t stride, __u64 value)
{
	struct sva_op op = {
		.cmd = SVATD_OP_HAMMER,
		.dst = sva_addr(dst),
		.len = len,
		.stride = stride,
		.arg = value,
	};

	sva_submit(q, slot, &op);
}

/**
 * sva_stop() - End what a slot runs
 * @q: a mapped queue
 * @slot: below SVATD_NUM_SLOTS
 * @res: NULL, or where to store the result
 *
 * Return: SVATD_ST_* (SVATD_ST_STOPPED unless the slot had ended by itself),
 *	   or -ETIMEDOUT.
 */
int sva_stop(struct sva_queue *q, unsigned int slot, struct sva_result *res)
{
	if (slot_running(q, slot))
		write32(q, SVATD_Q_SLOT(slot) + SVATD_SLOT_CMD, SVATD_OP_STOP);
	return sva_wait(q, slot, SVA_TIMEOUT_MS, res);
}
