// SPDX-License-Identifier: GPL-2.0-only
/* The kinds of devices there are, and QEMU's sva-testdev as one, see sva_device.h */
#include <errno.h>
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
