// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared Virtual Addressing, shown: a device works on a process's mapped file
 * and malloc()ed memory, by the process's own pointers.
 *
 * Every line printed is the result of what was just done. Exits with 1 when
 * something is not as it should be, with KSFT_SKIP when there is no device.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "kselftest.h"
#include "sva_testdev.h"

/* So large that malloc() gives it a mapping of its own, and free() unmaps it */
#define BUF_SIZE	(1024 * 1024)
#define HALF		(BUF_SIZE / 2)

static bool failed;

static void show(bool good, const char *fmt, ...)
{
	va_list args;

	printf("%s ", good ? "  ok  " : "FAILED");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	failed |= !good;
}

/* How many pages of [addr, addr + len) the process's page tables map */
static size_t mapped(const void *addr, size_t len)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	size_t n = 0;
	__u64 entry;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	for (uintptr_t at = (uintptr_t)addr; at < (uintptr_t)addr + len; at += page)
		if (pread(fd, &entry, 8, at / page * 8) == 8 && entry >> 63)
			n++;
	close(fd);
	return n;
}

/* A new file of @len bytes, mapped, no page of which has been accessed by that */
static char *map_new_file(size_t len)
{
	char block[512];
	int fd;

	fd = memfd_create("sva_demo", 0);
	for (size_t off = 0; off < len; off += sizeof(block)) {
		memset(block, off / sizeof(block) + 1, sizeof(block));
		if (pwrite(fd, block, sizeof(block), off) != sizeof(block))
			return MAP_FAILED;
	}
	return mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
}

int main(void)
{
	struct sva_result res = {};
	size_t before, pages;
	struct sva_queue q;
	char *buf, *file;
	struct sva_op op;
	__u64 *word;
	int ret;

	ret = sva_queue_init(&q);
	if (ret) {
		const char *reason = sva_skip_reason(ret);

		fprintf(stderr, "sva_demo: %s\n", reason ? reason : strerror(-ret));
		return reason ? KSFT_SKIP : 1;
	}
	printf("A process opened %s: the device may use its address space\n", sva_device());

	buf = malloc(BUF_SIZE);
	file = map_new_file(HALF);
	if (!buf || file == MAP_FAILED)
		return 1;
	word = (__u64 *)buf;
	pages = HALF / sysconf(_SC_PAGESIZE);
	printf("It malloc()ed %d bytes at %p, mapped a file of %d at %p, touched neither,\n"
	       "and hands the device the pointers\n", BUF_SIZE, buf, HALF, file);

	before = mapped(file, HALF);
	ret = sva_copy(&q, 0, buf, file, HALF, &res);
	if (ret == SVATD_ST_FAULT) {
		/* Not with an SMMU that cannot stall */
		printf("  --   no stalls: %#llx faults, so the process touches both\n",
		       res.faddr);
		memcpy(buf, file, HALF);
		memset(buf + HALF, 0, HALF);
		before = mapped(file, HALF);
		ret = sva_copy(&q, 0, buf, file, HALF, &res);
	}
	show(ret == SVATD_ST_OK && mapped(file, HALF) == pages &&
	     !memcmp(buf, file, HALF),
	     "the device copied %llu bytes of the file; of its %zu pages %zu were mapped before, %zu are now",
	     res.count, pages, before, mapped(file, HALF));

	ret = sva_copy(&q, 0, buf + HALF, buf, HALF, &res);
	show(ret == SVATD_ST_OK && !memcmp(buf, buf + HALF, HALF),
	     "the device copied %llu bytes from %p to %p; the CPU finds them equal",
	     res.count, buf, buf + HALF);

	ret = sva_compare(&q, 0, buf, buf + HALF, HALF, &res);
	show(ret == SVATD_ST_OK, "the device compared both halves: %s",
	     ret == SVATD_ST_OK ? "equal" : sva_status_name(res.code));

	buf[12345] = 0x42;
	ret = sva_compare(&q, 0, buf, buf + HALF, HALF, &res);
	show(ret == SVATD_ST_MISMATCH && res.faddr == sva_addr(buf + 12345) &&
	     res.value == 0x42,
	     "the CPU stored 0x42 at %p; the device finds %#llx at %#llx",
	     buf + 12345, res.value, res.faddr);

	ret = sva_fill(&q, 0, buf, 0x1122334455667788ULL, 8, &res);
	show(ret == SVATD_ST_OK && *word == 0x1122334455667788ULL,
	     "the device stored 0x1122334455667788 at %p; the CPU reads %#llx",
	     buf, *word);

	ret = sva_atomic_add(&q, 0, (__u64 *)buf, 1, &res);
	show(ret == SVATD_ST_OK && *word == 0x1122334455667789ULL,
	     "the device added 1 to it atomically; the CPU reads %#llx", *word);

	sva_poll_start(&q, 0, buf, 8, 8, *word, *word);
	ret = sva_wait_count(&q, 0, 2);
	*word = 7;
	if (!ret)
		ret = sva_wait(&q, 0, SVA_TIMEOUT_MS, &res);
	show(ret == SVATD_ST_MISMATCH && res.value == 7,
	     "the device watched it; the CPU stored 7, and the device saw %llu",
	     res.value);

	ret = sva_copy(&q, 0, buf + HALF, buf, 8, &res);
	op = (struct sva_op) {
		.cmd = SVATD_OP_FILL,
		.dst = sva_addr(buf),
		.len = 8,
	};
	free(buf);
	printf("The process gave the buffer back: free() unmapped it\n");
	if (ret == SVATD_ST_OK)
		ret = sva_run(&q, 0, &op, &res);
	show(ret == SVATD_ST_FAULT && res.write && res.faddr == op.dst,
	     "the device's next store ended in a %s, reported at %#llx",
	     sva_status_name(res.code), res.faddr);

	sva_queue_close(&q);
	return failed;
}
