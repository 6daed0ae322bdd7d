// SPDX-License-Identifier: GPL-2.0-only
/*
 * An sva-testdev that uio_pci_generic_sva gives to one process, as a whole: what a
 * driver in user space has to do, and an example for other devices, see
 * sva_device.h. (echo uio_pci_sva to driver_override of the PCI device, then give it
 * to that driver.)
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>

#include "sva_device.h"
#include "sva_testdev.h"

/* A number in the PCI device's directory: -1 if there is none */
static long uio_attr(const char *path, const char *name)
{
	char file[PATH_MAX], text[32];
	ssize_t len;
	int fd;

	snprintf(file, sizeof(file), "/sys/class/uio/%.64s/device/%s", path + strlen("/dev/"),
		 name);
	fd = open(file, O_RDONLY);
	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return len > 0 ? strtol(text, NULL, 0) : -1;
}

static bool uio_match(const char *path)
{
	return !strncmp(path, "/dev/uio", strlen("/dev/uio")) && !strchr(path + 5, '/') &&
	       uio_attr(path, "vendor") == SVATD_PCI_VENDOR_ID &&
	       uio_attr(path, "device") == SVATD_PCI_DEVICE_ID;
}

/* BAR n is map n. It must not stay mapped: a mapping keeps the file open */
static void *uio_map(int fd, unsigned int bar, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		       bar * sysconf(_SC_PAGESIZE));

	return p == MAP_FAILED ? NULL : p;
}

static void set(char *ctrl, unsigned int reg, __u32 value)
{
	__atomic_store_n((__u32 *)(ctrl + SVATD_QCTL(0) + reg), value, __ATOMIC_SEQ_CST);
}

/* End what queue 0 does, and let it work in the memory of whom the PASID is for */
static int uio_restart(int fd, long pasid)
{
	char *ctrl = uio_map(fd, SVATD_BAR_CTRL, SVATD_CTRL_SIZE);
	unsigned int ms;
	__u32 busy = 1;

	if (!ctrl)
		return -errno;
	set(ctrl, SVATD_QCTL_CTL, SVATD_QCTL_CTL_PASID);
	for (ms = 0; busy && ms < SVA_TIMEOUT_MS; ms++) {
		busy = __atomic_load_n((__u32 *)(ctrl + SVATD_QCTL(0) + SVATD_QCTL_STATE),
				       __ATOMIC_SEQ_CST) & SVATD_QCTL_STATE_BUSY;
		if (busy)
			usleep(1000);
	}
	if (!busy) {
		set(ctrl, SVATD_QCTL_PASID, pasid);
		set(ctrl, SVATD_QCTL_CTL, SVATD_QCTL_CTL_PASID | SVATD_QCTL_CTL_ENABLE);
	}
	munmap(ctrl, SVATD_CTRL_SIZE);
	return busy ? -ETIMEDOUT : 0;
}

static int uio_queue(struct sva_queue *q, const char *path)
{
	int ret = -EIO;
	long pasid;

	q->page = NULL;
	q->fd = open(path, O_RDWR | O_CLOEXEC);
	if (q->fd < 0)
		return errno == EINVAL ? -EOPNOTSUPP : -errno;	/* what it says of a failed bind */
	pasid = uio_attr(path, "pasid");
	if (pasid > 0)
		ret = uio_restart(q->fd, pasid);
	if (!ret) {
		q->page = uio_map(q->fd, SVATD_BAR_QUEUES, sysconf(_SC_PAGESIZE));
		ret = q->page ? 0 : -errno;
	}
	if (ret)
		sva_queue_close(q);
	return ret;
}

static int uio_open(struct sva_device *dev, const char *path)
{
	struct sva_queue *q = malloc(sizeof(*q));
	int ret = q ? uio_queue(q, path) : -ENOMEM;

	dev->priv = q;
	if (ret)
		free(q);
	return ret;
}

static void uio_close(struct sva_device *dev)
{
	sva_queue_close(dev->priv);	/* the kernel ends what the device does */
	free(dev->priv);
}

static int uio_copy(struct sva_device *dev, void *dst, const void *src, size_t len)
{
	int code = sva_copy(dev->priv, 0, dst, src, len, NULL);

	if (code == SVATD_ST_FAULT)
		return -EFAULT;
	return code == SVATD_ST_OK ? 0 : code < 0 ? code : -EIO;
}

static int uio_quiesce(struct sva_device *dev)
{
	struct sva_result res;

	/* An operation that is stopped has ended its accesses */
	return sva_stop(dev->priv, 0, &res) < 0 ? -ETIMEDOUT : 0;
}

const struct sva_device_ops sva_device_uio = {
	.name = "sva-testdev by uio_pci_generic_sva",
	.match = uio_match,
	.open = uio_open,
	.close = uio_close,
	.copy = uio_copy,
	.quiesce = uio_quiesce,
	.queue = uio_queue,
};
