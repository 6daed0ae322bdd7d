// SPDX-License-Identifier: GPL-2.0-only
/* The kinds of devices there are, and QEMU's sva-testdev as one, see sva_device.h */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "kselftest.h"
#include "sva_device.h"
#include "sva_testdev.h"

static const struct sva_device_ops * const sva_device_kinds[] = {
	&sva_device_testdev,
	&sva_device_copier,
	&sva_device_uio,
	&sva_device_hisi_sec,
};

/**
 * sva_device_find() - Find out of what kind a device is
 * @path: of the device
 *
 * Return: its operations, or NULL if there are none for it.
 */
const struct sva_device_ops *sva_device_find(const char *path)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sva_device_kinds); i++)
		if (sva_device_kinds[i]->match(path))
			return sva_device_kinds[i];
	return NULL;
}

/**
 * sva_device_open() - Bind a device to the calling process
 * @dev: where to
 * @path: of the device
 *
 * Return: 0, or a negative errno (-ENOENT: no operations for it).
 */
int sva_device_open(struct sva_device *dev, const char *path)
{
	int ret;

	memset(dev, 0, sizeof(*dev));
	dev->ops = sva_device_find(path);
	if (!dev->ops)
		return -ENOENT;
	dev->bounce = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (dev->bounce == MAP_FAILED)
		return -errno;
	*dev->bounce = 0;
	ret = dev->ops->open(dev, path);
	if (ret)
		munmap(dev->bounce, sysconf(_SC_PAGESIZE));
	return ret;
}

/**
 * sva_device_close() - Undo sva_device_open()
 * @dev: an open device
 */
void sva_device_close(struct sva_device *dev)
{
	dev->ops->close(dev);
	munmap(dev->bounce, sysconf(_SC_PAGESIZE));
}

/**
 * sva_device_copy() - Let the device copy memory
 * @dev: an open device
 * @dst: where to
 * @src: where from
 * @len: bytes, a multiple of 8 up to a page
 *
 * Return: 0, -EFAULT if an access was refused, or another negative errno.
 */
int sva_device_copy(struct sva_device *dev, void *dst, const void *src, size_t len)
{
	return dev->ops->copy(dev, dst, src, len);
}

/**
 * sva_device_read() - Let the device read 64 bits
 * @dev: an open device
 * @src: where
 * @value: what it found
 *
 * Return: 0, -EFAULT if it was refused, or another negative errno.
 */
int sva_device_read(struct sva_device *dev, const void *src, __u64 *value)
{
	int ret;

	if (dev->ops->read)
		return dev->ops->read(dev, src, value);
	ret = dev->ops->copy(dev, dev->bounce, src, sizeof(*value));
	*value = __atomic_load_n(dev->bounce, __ATOMIC_ACQUIRE);
	return ret;
}

/**
 * sva_device_write() - Let the device write 64 bits
 * @dev: an open device
 * @dst: where to
 * @value: what
 *
 * Return: 0, -EFAULT if it was refused, or another negative errno.
 */
int sva_device_write(struct sva_device *dev, void *dst, __u64 value)
{
	if (dev->ops->write)
		return dev->ops->write(dev, dst, value);
	__atomic_store_n(dev->bounce, value, __ATOMIC_RELEASE);
	return dev->ops->copy(dev, dst, dev->bounce, sizeof(value));
}

/**
 * sva_device_quiesce() - Wait until the device makes no access
 * @dev: an open device
 *
 * Return: 0, or a negative errno.
 */
int sva_device_quiesce(struct sva_device *dev)
{
	return dev->ops->quiesce ? dev->ops->quiesce(dev) : 0;
}

/*
 * A queue for devices that have none like sva-testdev's: a page of memory for the
 * registers, and a thread for what does not end by itself. It tells no addresses of
 * faults, and knows neither SVATD_OP_COMPARE nor SVATD_OP_ATOMIC_ADD.
 */
struct emulation {
	struct sva_device dev;
	pthread_t thread;
	pthread_mutex_t lock;	/* of all that follows: operations come one at a time */
	unsigned int waiting;	/* for the lock, before the thread */
	char *page;
	bool end;
	unsigned int op[SVATD_NUM_SLOTS];
	__u64 offset[SVATD_NUM_SLOTS];	/* where POLL and HAMMER have got to */
};

static __u64 *reg64(struct emulation *e, unsigned int slot, unsigned int offset)
{
	return (__u64 *)(e->page + SVATD_Q_SLOT(slot) + offset);
}

static __u32 *reg32(struct emulation *e, unsigned int slot, unsigned int offset)
{
	return (__u32 *)(e->page + SVATD_Q_SLOT(slot) + offset);
}

static unsigned int code_of(int ret)
{
	return !ret ? SVATD_ST_OK : ret == -EFAULT ? SVATD_ST_FAULT : SVATD_ST_BUS;
}

/* A step of what a slot does: SVATD_ST_*, SVATD_ST_RUNNING if there are more to come */
static unsigned int emulate(struct emulation *e, unsigned int slot, unsigned int op)
{
	__u64 *count = reg64(e, slot, SVATD_SLOT_COUNT), *at = &e->offset[slot], value = 0, left;
	__u64 len = *reg64(e, slot, SVATD_SLOT_LEN), arg = *reg64(e, slot, SVATD_SLOT_ARG);
	char *src = (char *)(unsigned long)*reg64(e, slot, SVATD_SLOT_SRC);
	char *dst = (char *)(unsigned long)*reg64(e, slot, SVATD_SLOT_DST);
	int ret;

	switch (op) {
	case SVATD_OP_NOP:
		return SVATD_ST_OK;
	case SVATD_OP_COPY:
		left = len - *at < 2048 ? len - *at : 2048;
		ret = sva_device_copy(&e->dev, dst + *at, src + *at, left);
		*at += left;
		break;
	case SVATD_OP_FILL:
		ret = sva_device_write(&e->dev, dst + *at, arg);
		*at += sizeof(arg);
		break;
	case SVATD_OP_POLL:
		ret = sva_device_read(&e->dev, src + *at, &value);
		*reg64(e, slot, SVATD_SLOT_VALUE) = value;
		if (!ret && value != arg && value != *reg64(e, slot, SVATD_SLOT_ARG2))
			return SVATD_ST_MISMATCH;
		*at += *reg64(e, slot, SVATD_SLOT_STRIDE);
		break;
	case SVATD_OP_HAMMER:
		ret = sva_device_write(&e->dev, dst + *at, arg);
		*at += *reg64(e, slot, SVATD_SLOT_STRIDE);
		break;
	default:
		return SVATD_ST_BAD_CMD;
	}
	if (ret)
		return code_of(ret);
	if (op == SVATD_OP_COPY || op == SVATD_OP_FILL) {
		__atomic_store_n(count, *at, __ATOMIC_RELEASE);
		return *at < len ? SVATD_ST_RUNNING : SVATD_ST_OK;
	}
	__atomic_store_n(count, *count + 1, __ATOMIC_RELEASE);
	if (*at >= len)
		*at = 0;
	return SVATD_ST_RUNNING;
}

static void end_slot(struct emulation *e, unsigned int slot, unsigned int code)
{
	e->op[slot] = 0;
	__atomic_store_n(reg32(e, slot, SVATD_SLOT_STATUS), code, __ATOMIC_RELEASE);
}

/* A step of each slot that reads or writes until it is stopped, or refused */
static void *emulate_all(void *arg)
{
	struct emulation *e = arg;
	unsigned int slot, code;
	cpu_set_t all;

	/* The thread that tests goes from CPU to CPU, alone */
	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	while (!__atomic_load_n(&e->end, __ATOMIC_ACQUIRE)) {
		while (__atomic_load_n(&e->waiting, __ATOMIC_ACQUIRE))
			sched_yield();
		pthread_mutex_lock(&e->lock);
		for (slot = 0; slot < SVATD_NUM_SLOTS; slot++) {
			if (!e->op[slot])
				continue;
			if (__atomic_load_n(reg32(e, slot, SVATD_SLOT_CMD), __ATOMIC_ACQUIRE) ==
			    SVATD_OP_STOP)
				code = SVATD_ST_STOPPED;
			else
				code = emulate(e, slot, e->op[slot]);
			if (code != SVATD_ST_RUNNING)
				end_slot(e, slot, code);
		}
		pthread_mutex_unlock(&e->lock);
		sched_yield();
	}
	return NULL;
}

/**
 * sva_device_queue_submit() - Do what a slot's registers say, or begin with it
 * @q: the queue, from sva_device_queue()
 * @slot: below SVATD_NUM_SLOTS, and not running
 * @cmd: SVATD_OP_*
 */
void sva_device_queue_submit(struct sva_queue *q, unsigned int slot, __u32 cmd)
{
	struct emulation *e = *(struct emulation **)((char *)q->page + SVATD_Q_EMULATION);
	unsigned int code = SVATD_ST_RUNNING;

	__atomic_add_fetch(&e->waiting, 1, __ATOMIC_ACQ_REL);
	pthread_mutex_lock(&e->lock);
	__atomic_sub_fetch(&e->waiting, 1, __ATOMIC_ACQ_REL);
	e->op[slot] = cmd & SVATD_CMD_OP;
	e->offset[slot] = 0;
	*reg64(e, slot, SVATD_SLOT_COUNT) = 0;
	*reg32(e, slot, SVATD_SLOT_CMD) = cmd;
	*reg32(e, slot, SVATD_SLOT_STATUS) = code;
	if (e->op[slot] != SVATD_OP_POLL && e->op[slot] != SVATD_OP_HAMMER) {
		while (code == SVATD_ST_RUNNING)
			code = emulate(e, slot, e->op[slot]);
		end_slot(e, slot, code);
	}
	pthread_mutex_unlock(&e->lock);
}

/**
 * sva_device_queue() - Get a queue of a device that has none like sva-testdev's
 * @q: the queue; it can be used as if it were sva-testdev's, by this process
 * @path: of the device
 *
 * Return: 0, or a negative errno.
 */
int sva_device_queue(struct sva_queue *q, const char *path)
{
	struct emulation *e = calloc(1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	ret = sva_device_open(&e->dev, path);
	if (ret)
		goto out_free;
	pthread_mutex_init(&e->lock, NULL);
	e->page = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ret = e->page == MAP_FAILED ? -errno : -pthread_create(&e->thread, NULL, emulate_all, e);
	if (ret) {
		if (e->page != MAP_FAILED)
			munmap(e->page, sysconf(_SC_PAGESIZE));
		sva_device_close(&e->dev);
		goto out_free;
	}
	__atomic_store_n((__u32 *)(e->page + SVATD_Q_INFO), SVATD_Q_INFO_ENABLED, __ATOMIC_RELEASE);
	/* In a part of the page that sva-testdev does not use */
	*(struct emulation **)(e->page + SVATD_Q_EMULATION) = e;
	q->fd = SVA_FD_EMULATED;
	q->page = e->page;
	return 0;

out_free:
	free(e);
	return ret;
}

/**
 * sva_device_queue_close() - Undo sva_device_queue()
 * @q: the queue
 */
void sva_device_queue_close(struct sva_queue *q)
{
	struct emulation *e = *(struct emulation **)((char *)q->page + SVATD_Q_EMULATION);

	__atomic_store_n(&e->end, true, __ATOMIC_RELEASE);
	pthread_join(e->thread, NULL);
	sva_device_close(&e->dev);
	munmap(e->page, sysconf(_SC_PAGESIZE));
	free(e);
}

/*
 * QEMU's sva-testdev, by the library of its queues. It can copy; the copier is the
 * same device, which is said to have no other operation.
 */
#define COPIER	"copy:"

static bool testdev_match(const char *path)
{
	return !strncmp(path, "/dev/sva_testdev-", strlen("/dev/sva_testdev-"));
}

static bool copier_match(const char *path)
{
	return !strncmp(path, COPIER, strlen(COPIER)) && testdev_match(path + strlen(COPIER));
}

static int result(int code)
{
	switch (code) {
	case SVATD_ST_OK:
		return 0;
	case SVATD_ST_FAULT:
		return -EFAULT;
	default:
		return code < 0 ? code : -EIO;
	}
}

static int testdev_open(struct sva_device *dev, const char *path)
{
	struct sva_queue *q = malloc(sizeof(*q));
	int ret = -ENOMEM;

	if (q)
		ret = sva_queue_init_on(q, copier_match(path) ? path + strlen(COPIER) : path);
	if (ret)
		free(q);
	else
		dev->priv = q;
	return ret;
}

static void testdev_close(struct sva_device *dev)
{
	sva_queue_close(dev->priv);
	free(dev->priv);
}

static int testdev_copy(struct sva_device *dev, void *dst, const void *src, size_t len)
{
	return result(sva_copy(dev->priv, 0, dst, src, len, NULL));
}

static int testdev_write(struct sva_device *dev, void *dst, __u64 value)
{
	return result(sva_fill(dev->priv, 0, dst, value, sizeof(value), NULL));
}

/* Stopping waits, and ends what runs; all slots are idle then */
static int testdev_quiesce(struct sva_device *dev)
{
	int ret = sva_queue_stop(dev->priv);

	return ret ? ret : sva_queue_start(dev->priv);
}

const struct sva_device_ops sva_device_testdev = {
	.name = "sva-testdev",
	.match = testdev_match,
	.open = testdev_open,
	.close = testdev_close,
	.copy = testdev_copy,
	.write = testdev_write,
	.quiesce = testdev_quiesce,
};

const struct sva_device_ops sva_device_copier = {
	.name = "sva-testdev, copies alone",
	.match = copier_match,
	.open = testdev_open,
	.close = testdev_close,
	.copy = testdev_copy,
	.quiesce = testdev_quiesce,
};
