/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device that works in the address space of the process that opened it, as far
 * as a test of Shared Virtual Addressing needs it.
 *
 * To add a device, write a file with a struct sva_device_ops (sva_device_uio.c is
 * an example), name the struct in sva_device_kinds[] of sva_device.c, and the file
 * in the Makefile. What the operations have to do:
 *
 * - One of them is called at a time, from whatever thread, and returns when it is done.
 *   It waits no longer than SVA_TIMEOUT_MS: -ETIMEDOUT, not a test that hangs.
 * - Addresses are those of the process. Nothing is pinned, mapped for DMA or
 *   bounced for the test: if the device cannot reach an address, the answer is
 *   -EFAULT, at once and every time. An operation that hides a refusal, by trying
 *   again after a touch by the CPU or by copying itself, hides what is tested.
 * - After -EFAULT the next operation works. If the device wants a reset for that,
 *   the operation that failed has done it, bound to the same process.
 * - What the device stored is seen by the CPU when the operation returns, and what
 *   the CPU stored before by the device: barriers are the operation's affair.
 * - If the device itself keeps descriptors in the process's memory, it has to find
 *   them when the kernel has just marked all pages of the process old (as by
 *   /proc/self/clear_refs): map them anew in copy(), or keep them in the driver's.
 * - A process has one device, and a child of fork() does not use its parent's.
 */
#ifndef SELFTESTS_IOMMU_SVA_DEVICE_H
#define SELFTESTS_IOMMU_SVA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

struct sva_device_ops;
struct sva_queue;

/**
 * struct sva_device - an open device, bound to the process
 * @ops: what can be done with it
 * @bounce: a page of the process's, for devices that can only copy
 * @priv: what @ops keeps
 */
struct sva_device {
	const struct sva_device_ops *ops;
	__u64 *bounce;
	void *priv;
};

/**
 * struct sva_device_ops - what can be done with a kind of device
 * @name: of the kind, for messages
 * @untested: the operations have never run on hardware. @name says so, too, and
 *	      sva_verify uses such a device only if it is named
 * @match: whether this is the path of one; it opens nothing
 * @open: bind the device to the calling process; 0, or a negative errno that
 *	  sva_skip_reason() knows where the machine is not one to test
 * @close: let no access be under way any more, and undo @open
 * @copy: copy @len bytes, a multiple of 8 up to a page, from one virtual address to
 *	  another: 0, -EFAULT if either was refused, or another negative errno
 * @read: the 64 bits at @src; NULL if the device can only copy
 * @write: the 64 bits at @dst; NULL if the device can only copy
 * @quiesce: return when no access is under way, whatever became of the operation
 *	     before (NULL: always so when an operation has returned)
 * @queue: a queue with sva-testdev's registers, which sva_queue_close() closes. NULL
 *	   if the device has no such: sva_queue_init_on() emulates one by a thread
 */
struct sva_device_ops {
	const char *name;
	bool untested;
	bool (*match)(const char *path);
	int (*open)(struct sva_device *dev, const char *path);
	void (*close)(struct sva_device *dev);
	int (*copy)(struct sva_device *dev, void *dst, const void *src, size_t len);
	int (*read)(struct sva_device *dev, const void *src, __u64 *value);
	int (*write)(struct sva_device *dev, void *dst, __u64 value);
	int (*quiesce)(struct sva_device *dev);
	int (*queue)(struct sva_queue *q, const char *path);
};

extern const struct sva_device_ops sva_device_testdev;
extern const struct sva_device_ops sva_device_copier;
extern const struct sva_device_ops sva_device_uio;
extern const struct sva_device_ops sva_device_hisi_sec;

/* struct sva_queue's @fd, if the queue is emulated, and where its page says by what */
#define SVA_FD_EMULATED		-2
#define SVATD_Q_EMULATION	0xff8

const struct sva_device_ops *sva_device_find(const char *path);
int sva_device_open(struct sva_device *dev, const char *path);
void sva_device_close(struct sva_device *dev);
int sva_device_copy(struct sva_device *dev, void *dst, const void *src, size_t len);
int sva_device_read(struct sva_device *dev, const void *src, __u64 *value);
int sva_device_write(struct sva_device *dev, void *dst, __u64 value);
int sva_device_quiesce(struct sva_device *dev);
int sva_device_queue(struct sva_queue *q, const char *path);
void sva_device_queue_submit(struct sva_queue *q, unsigned int slot, __u32 cmd);
void sva_device_queue_close(struct sva_queue *q);

#endif /* SELFTESTS_IOMMU_SVA_DEVICE_H */
