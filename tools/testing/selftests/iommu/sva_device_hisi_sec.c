// SPDX-License-Identifier: GPL-2.0-only
/*
 * The SEC engine of HiSilicon's Kunpeng, by uacce (hisi_sec2.uacce_mode=1). It copies by
 * encrypting to a page of ours and decrypting from there: triple DES, whose blocks have
 * 8 bytes, by ECB.
 *
 * UNTESTED: this has never run on hardware. It is written from what the kernel's driver
 * (drivers/crypto/hisilicon/qm.c, sec2/) and Linaro's uadk (drv/hisi_qm_udrv.c,
 * drv/hisi_sec.c) show of the interface. Not public is what the types of error mean: one
 * is a refused access if the engine works right after, between addresses of ours.
 * Nor is what a refused access does. The kernel resets an engine that reports an error
 * of its bus (sec_hw_errors[], bits 0 and 1): its other users feel that, and our queue
 * is dead. As others can cause a reset, that is -EIO.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <misc/uacce/hisi_qm.h>
#include <misc/uacce/uacce.h>

#include "sva_device.h"
#include "sva_testdev.h"

#define DOORBELL	0x1000	/* in the MMIO region */
#define RING_SQ		0
#define RING_CQ		1
#define BD_SIZE		128	/* of a request */
#define BD_STATUS	28	/* word: done, and the type of error */
#define CQE_SIZE	16
#define ENCRYPT		1
#define DECRYPT		2
#define ALG_3DES	1
#define KEYS_3		1
#define PREFETCH_MAX	0x6000
#define SPINS		10000

struct sec {
	int fd;
	unsigned long version;
	char *region[2];	/* by enum uacce_qfrt */
	size_t size[2];
	struct hisi_qp_ctx ctx;
	struct hisi_qp_info info;
	unsigned int tail, head, phase;
	bool busy;
	size_t page;
	char *own;		/* a page that the data pass through, and one for the key */
};

/* A number in the directory of the uacce device: 0 if there is none */
static unsigned long sec_attr(const char *path, const char *name, const char *format)
{
	unsigned long value = 0;
	char file[PATH_MAX];
	FILE *f;

	snprintf(file, sizeof(file), "/sys/class/uacce/%.64s/%s", path + strlen("/dev/"), name);
	f = fopen(file, "r");
	if (f && fscanf(f, format, &value) != 1)
		value = 0;
	if (f)
		fclose(f);
	return value;
}

static bool sec_match(const char *path)
{
	return !strncmp(path, "/dev/hisi_sec2-", strlen("/dev/hisi_sec2-"));
}

/* The kernel resets the engine: 1, nothing may be sent; 2, what was sent has ended */
static bool is_stopped(const struct sec *s, int which)
{
	const __u32 *end = (__u32 *)(s->region[UACCE_QFRT_DUS] + s->size[UACCE_QFRT_DUS]);

	return __atomic_load_n(end - which, __ATOMIC_RELAXED) == 1;
}

static void ring(struct sec *s, __u64 which, __u64 index)
{
	sva_mb_device();
	__atomic_store_n((__u64 *)(s->region[UACCE_QFRT_MMIO] + DOORBELL),
			 s->ctx.id | which << 12 | index << 32, __ATOMIC_RELAXED);
}

/* Wait for the request: -EFAULT for whatever error the engine names */
static int sec_wait(struct sec *s)
{
	unsigned int slot = (s->tail + s->info.sq_depth - 1) % s->info.sq_depth, i;
	char *dus = s->region[UACCE_QFRT_DUS];
	__u16 *cqe = (__u16 *)(dus + BD_SIZE * s->info.sq_depth + CQE_SIZE * s->head);
	__u32 status;

	for (i = 0; (__atomic_load_n(&cqe[7], __ATOMIC_ACQUIRE) & 1) != s->phase; i++) {
		if (is_stopped(s, 2))
			return -EIO;
		if (i > SPINS + SVA_TIMEOUT_MS)
			return -ETIMEDOUT;
		if (i > SPINS)
			usleep(1000);
	}
	sva_mb_device();
	s->busy = false;
	status = ((__u32 *)(dus + BD_SIZE * slot))[BD_STATUS];
	if (cqe[4] != slot)
		return -EIO;
	s->head = (s->head + 1) % s->info.cq_depth;
	if (!s->head)
		s->phase ^= 1;
	ring(s, RING_CQ, s->head);
	if (status >> 16 & 0xff)
		return -EFAULT;
	return status & 1 ? 0 : -EIO;
}

static void put(__u32 *bd, unsigned int word, const void *p)
{
	__u64 addr = (unsigned long)p;

	memcpy(bd + word, &addr, sizeof(addr));
}

static int sec_run(struct sec *s, unsigned int what, void *dst, const void *src, size_t len)
{
	__u32 bd[BD_SIZE / 4] = {};

	if (s->busy || is_stopped(s, 1))
		return -EIO;
	/* The type, and that there is a destination; zeroes say ECB, and flat buffers */
	if (s->version == 2) {
		bd[0] = 2 | what << 4 | 1 << 9;
		bd[3] = KEYS_3 << 9 | ALG_3DES << 16;
		bd[5] = len;
		put(bd, 22, s->own + s->page);
		put(bd, 24, src);
		put(bd, 26, dst);
	} else {
		bd[0] = 3 | 1 << 9;
		bd[1] = what | KEYS_3 << 13 | ALG_3DES << 20;
		put(bd, 4, src);
		put(bd, 12, s->own + s->page);
		bd[14] = (len <= PREFETCH_MAX) << 27;	/* as uadk does with SVA */
		bd[18] = len;
		put(bd, 19, dst);
	}
	memcpy(s->region[UACCE_QFRT_DUS] + BD_SIZE * s->tail, bd, BD_SIZE);
	s->tail = (s->tail + 1) % s->info.sq_depth;
	s->busy = true;
	ring(s, RING_SQ, s->tail);
	return sec_wait(s);
}

static int sec_copy(struct sva_device *dev, void *dst, const void *src, size_t len)
{
	struct sec *s = dev->priv;
	char *key = s->own + s->page;
	int ret;

	/* The same pages, mapped anew, so that they are young and dirty */
	madvise(s->own, 2 * s->page, MADV_DONTNEED);
	__atomic_store_n(s->own, 0, __ATOMIC_RELAXED);
	memcpy(key, "three keys that are all different", 24);
	ret = sec_run(s, ENCRYPT, s->own, src, len);
	if (!ret)
		ret = sec_run(s, DECRYPT, dst, s->own, len);
	if (ret == -EFAULT && sec_run(s, ENCRYPT, key + 64, key + 128, 8))
		ret = -EIO;
	return ret;
}

static int sec_quiesce(struct sva_device *dev)
{
	struct sec *s = dev->priv;

	return s->busy && sec_wait(s) == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

static void sec_close(struct sva_device *dev)
{
	struct sec *s = dev->priv;
	unsigned int i;

	/* A mapping keeps the file open, and the last to close it waits for the engine */
	for (i = 0; i < 2; i++)
		if (s->region[i] && s->region[i] != MAP_FAILED)
			munmap(s->region[i], s->size[i]);
	if (s->fd >= 0)
		close(s->fd);
	munmap(s->own, 2 * s->page);
	free(s);
}

static int sec_start(struct sec *s, const char *path)
{
	const size_t *size = s->size;
	unsigned int i;

	s->fd = open(path, O_RDWR | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	for (i = 0; i < 2; i++) {
		s->size[i] = sec_attr(path, i ? "region_dus_size" : "region_mmio_size", "%lu");
		s->region[i] = mmap(NULL, s->size[i], PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
				    i * s->page);
		if (s->region[i] == MAP_FAILED)
			return -errno;
	}
	if (ioctl(s->fd, UACCE_CMD_QM_SET_QP_CTX, &s->ctx) ||
	    ioctl(s->fd, UACCE_CMD_QM_SET_QP_INFO, &s->info))
		return -errno;
	if (s->info.sqe_size != BD_SIZE || size[UACCE_QFRT_MMIO] < DOORBELL + 8 ||
	    size[UACCE_QFRT_DUS] < s->info.sq_depth * BD_SIZE + s->info.cq_depth * CQE_SIZE + 8UL)
		return -EPROTO;
	return ioctl(s->fd, UACCE_CMD_START_Q) ? -errno : 0;
}

static int sec_open(struct sva_device *dev, const char *path)
{
	unsigned long version = sec_attr(path, "api", "hisi_qm_v%lu");
	struct sec *s;
	int ret;

	/* UACCE_DEV_SVA, and a version whose requests are known */
	if (!(sec_attr(path, "flags", "%lu") & 1) || (version != 2 && version != 3 && version != 5))
		return -EOPNOTSUPP;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	dev->priv = s;
	s->version = version;
	s->phase = 1;
	s->page = sysconf(_SC_PAGESIZE);
	/* Shared: where an old translation of it leads to is still this memory */
	s->own = mmap(NULL, 2 * s->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->own == MAP_FAILED) {
		free(s);
		return -ENOMEM;
	}
	ret = sec_start(s, path);
	if (ret)
		sec_close(dev);
	return ret;
}

const struct sva_device_ops sva_device_hisi_sec = {
	.name = "HiSilicon SEC, untested: never run on hardware",
	.untested = true,
	.match = sec_match,
	.open = sec_open,
	.close = sec_close,
	.copy = sec_copy,
	.quiesce = sec_quiesce,
};
