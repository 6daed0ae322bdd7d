/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The queues of sva-testdev, for tests of Shared Virtual Addressing: a device
 * that works in the address space of the process that opened it.
 *
 * A slot is armed and triggered by sva_submit(), and its result fetched by
 * sva_wait() or sva_wait_irq(). Slots are independent: several threads may
 * share a queue as long as each has slots of its own. No wait is endless, so
 * that a device or a kernel that hangs shows as an error.
 */
#ifndef SELFTESTS_IOMMU_SVA_TESTDEV_H
#define SELFTESTS_IOMMU_SVA_TESTDEV_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <misc/uacce/sva_testdev.h>

/* Generous: an emulated device below a debug kernel on a busy host is slow */
#define SVA_TIMEOUT_MS		20000

/**
 * struct sva_queue - one queue of the device, bound to the opener's mm
 * @fd: the open device, or -1
 * @page: the queue page, or NULL when it is not mapped
 */
struct sva_queue {
	int fd;
	void *page;
};

/**
 * struct sva_op - what a slot shall do
 * @cmd: SVATD_OP_*, or'ed with SVATD_CMD_IRQ for an interrupt on completion
 * @src: address to read
 * @dst: address to write
 * @len: bytes
 * @arg: as the operation wants
 * @arg2: as the operation wants
 * @stride: bytes between accesses of SVATD_OP_POLL and SVATD_OP_HAMMER
 */
struct sva_op {
	__u32 cmd;
	__u64 src;
	__u64 dst;
	__u64 len;
	__u64 arg;
	__u64 arg2;
	__u64 stride;
};

/**
 * struct sva_result - what a slot did
 * @code: SVATD_ST_*
 * @write: the access that failed was a write
 * @atc: its translation came from the device's ATC
 * @faddr: address that failed
 * @value: value found there
 * @count: progress, in bytes or accesses
 */
struct sva_result {
	unsigned int code;
	bool write;
	bool atc;
	__u64 faddr;
	__u64 value;
	__u64 count;
};

/* The address of @p as the device is told it */
static inline __u64 sva_addr(const void *p)
{
	return (unsigned long)p;
}

/*
 * Orders the CPU's accesses to memory with its accesses to a device: before a
 * trigger, so that the device sees all earlier stores; after its status was read,
 * so that no load of the data is done before.
 */
static inline void sva_mb_device(void)
{
#ifdef __aarch64__
	asm volatile("dsb sy" : : : "memory");
#else
	__sync_synchronize();
#endif
}

const char *sva_device(void);
const char *sva_skip_reason(int err);
int sva_device_attr(const char *name, long *value);
const char *sva_status_name(unsigned int code);

int sva_queue_open(struct sva_queue *q);
int sva_queue_map(struct sva_queue *q);
int sva_queue_start(struct sva_queue *q);
int sva_queue_stop(struct sva_queue *q);
int sva_queue_init(struct sva_queue *q);
int sva_queue_init_on(struct sva_queue *q, const char *path);
void sva_queue_close(struct sva_queue *q);
bool sva_queue_enabled(const struct sva_queue *q);
bool sva_queue_has_ats(const struct sva_queue *q);

void sva_submit(struct sva_queue *q, unsigned int slot, const struct sva_op *op);
void sva_peek(const struct sva_queue *q, unsigned int slot, struct sva_result *res);
int sva_wait(struct sva_queue *q, unsigned int slot, int timeout_ms,
	     struct sva_result *res);
int sva_wait_wakeup(struct sva_queue *q, int timeout_ms);
int sva_wait_irq(struct sva_queue *q, unsigned int slot, int timeout_ms,
		 struct sva_result *res);
int sva_wait_count(struct sva_queue *q, unsigned int slot, __u64 count);
int sva_run(struct sva_queue *q, unsigned int slot, const struct sva_op *op,
	    struct sva_result *res);

int sva_copy(struct sva_queue *q, unsigned int slot, void *dst, const void *src,
	     size_t len, struct sva_result *res);
int sva_fill(struct sva_queue *q, unsigned int slot, void *dst, __u64 value,
	     size_t len, struct sva_result *res);
int sva_compare(struct sva_queue *q, unsigned int slot, const void *a,
		const void *b, size_t len, struct sva_result *res);
int sva_atomic_add(struct sva_queue *q, unsigned int slot, __u64 *dst,
		   __u64 value, struct sva_result *res);
void sva_poll_start(struct sva_queue *q, unsigned int slot, const void *src,
		    size_t len, size_t stride, __u64 allowed,
		    __u64 allowed2);
void sva_hammer_start(struct sva_queue *q, unsigned int slot, void *dst,
		      size_t len, size_t stride, __u64 value);
int sva_stop(struct sva_queue *q, unsigned int slot, struct sva_result *res);

#endif /* SELFTESTS_IOMMU_SVA_TESTDEV_H */
