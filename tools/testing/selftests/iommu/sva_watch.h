/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests of SVA that end, disturb or starve processes: other processes, what the
 * kernel has to say, and whether the device and its queues are as before. Include
 * kselftest_harness.h first.
 */
#ifndef SELFTESTS_IOMMU_SVA_WATCH_H
#define SELFTESTS_IOMMU_SVA_WATCH_H

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sva_testdev.h"

#ifndef __printf
#define __printf(a, b)	__attribute__((format(printf, a, b)))
#endif

#define TAG		0x11fe00000000ULL
#define MB		(1UL << 20)

static size_t page_size;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static inline void took(const char *what, double seconds)
{
	ksft_print_msg("%s: %.1f ms\n", what, seconds * 1e3);
}

static inline __u32 queue_reg(const struct sva_queue *q, unsigned int offset)
{
	return __atomic_load_n((__u32 *)((char *)q->page + offset), __ATOMIC_RELAXED);
}

static char *untouched(size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

/* All slots of the queue write to each page of @size bytes for each, for ever */
static void hammer(struct sva_queue *q, char *p, size_t size)
{
	unsigned int i;

	for (i = 0; i < SVATD_NUM_SLOTS; i++)
		sva_hammer_start(q, i, p + i * size, size, page_size, TAG);
}

/* Is there a queue, and does it work? */
static bool works(void)
{
	__u64 word = 0;
	struct sva_queue q;
	bool ok;

	if (sva_queue_init(&q))
		return false;
	ok = sva_fill(&q, 0, &word, TAG, sizeof(word), NULL) == SVATD_ST_OK &&
	     __atomic_load_n(&word, __ATOMIC_ACQUIRE) == TAG;
	sva_queue_close(&q);
	return ok;
}

static bool queues_return_to(long expected)
{
	double end = now() + SVA_TIMEOUT_MS / 1e3;
	long is = -1;

	do {
		if (!sva_device_attr("available_instances", &is) && is == expected)
			return true;
		usleep(1000);
	} while (now() < end);
	ksft_print_msg("%ld queues available, %ld before\n", is, expected);
	return false;
}

/*
 * Sysfs
 */
static int __printf(2, 3) put(const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	int fd, ret;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The PCI function behind the character device */
static bool function(char *name, size_t size)
{
	const char *dev = sva_device();
	char link[PATH_MAX], real[PATH_MAX];

	if (!dev)
		return false;
	snprintf(link, sizeof(link), "/sys/class/uacce/%s/device", strrchr(dev, '/') + 1);
	if (!realpath(link, real))
		return false;
	snprintf(name, size, "%s", basename(real));
	return true;
}

/*
 * The kernel log
 */
static int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* Lines that tell of trouble, since the last time */
static unsigned int kmsg_bad(int fd)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "Oops", "INFO: task", "list_del corruption",
		"CMD_SYNC timeout", "CMDQ timeout", "does not come to rest",
		"stays in use",
	};
	unsigned int i, found = 0;
	char line[1024];
	ssize_t len;

	for (;;) {
		len = read(fd, line, sizeof(line) - 1);
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0)
			return found;
		line[len] = '\0';
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			if (strstr(line, bad[i])) {
				ksft_print_msg("kernel log: %s", line);
				found++;
			}
		}
	}
}

/*
 * A process of its own. It says when it is ready, and goes on when it is told to
 */
struct other {
	pid_t pid;
	int to, from;
};

static bool say(int fd, char byte)
{
	return write(fd, &byte, 1) == 1;
}

static bool hear(int fd, char byte)
{
	char is;

	return read(fd, &is, 1) == 1 && is == byte;
}

/* Returns 0 in the new process, which talks by the same struct */
static int other_start(struct other *o)
{
	int there[2], back[2];

	if (pipe(there) || pipe(back))
		return -errno;
	o->pid = fork();
	if (o->pid < 0)
		return -errno;
	if (!o->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(there[1]);
		close(back[0]);
		o->from = there[0];
		o->to = back[1];
		return 0;
	}
	close(there[0]);
	close(back[1]);
	o->to = there[1];
	o->from = back[0];
	return 1;
}

#define NOBODY		65534

/* The new credentials make the kernel forget whose death is to kill the process */
static inline bool become_nobody(void)
{
	return !setgid(NOBODY) && !setuid(NOBODY) && !prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Its wait status */
static int other_end(struct other *o, int sig)
{
	int status = -1;

	if (o->pid <= 0)
		return status;
	if (sig)
		kill(o->pid, sig);
	close(o->to);
	waitpid(o->pid, &status, 0);
	close(o->from);
	o->pid = 0;
	return status;
}

/*
 * What is common to all cases
 */
struct common {
	long queues;
	int kmsg;
	bool served;
	char pci[64];
};

static bool start(struct __test_metadata *_metadata, struct common *c)
{
	struct sva_queue q;
	int ret;
	char *p;

	page_size = sysconf(_SC_PAGESIZE);
	ret = sva_queue_init(&q);
	if (ret && sva_skip_reason(ret))
		SKIP(return false, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	p = untouched(page_size);
	ASSERT_NE(NULL, p);
	c->served = sva_fill(&q, 0, p, TAG, 8, NULL) == SVATD_ST_OK;
	munmap(p, page_size);
	sva_queue_close(&q);
	ASSERT_TRUE(function(c->pci, sizeof(c->pci)));
	c->kmsg = kmsg_open();
	ASSERT_LE(0, c->kmsg);
	/* Those of earlier cases come back late, maybe */
	usleep(50000);
	ASSERT_EQ(0, sva_device_attr("available_instances", &c->queues));
	return true;
}

/* Everything is as it was before */
static void finish(struct __test_metadata *_metadata, struct common *c)
{
	EXPECT_TRUE(queues_return_to(c->queues));
	EXPECT_TRUE(works());
	EXPECT_EQ(0, kmsg_bad(c->kmsg));
	close(c->kmsg);
}

#define NOT_SERVED	"faults of this device are not served"

/* A process whose device works, all along. Told to end, it says whether it did */
static inline void neighbour(struct other *o)
{
	struct sva_queue q;
	char byte, *p;

	p = untouched(page_size);
	if (!p || sva_queue_init(&q) || !say(o->to, 'r'))
		_exit(1);
	*p = 1;
	fcntl(o->from, F_SETFL, O_NONBLOCK);
	while (read(o->from, &byte, 1) < 0) {
		if (sva_fill(&q, 0, p, TAG, 8, NULL) != SVATD_ST_OK)
			_exit(2);
		usleep(1000);
	}
	_exit(0);
}

#endif /* SELFTESTS_IOMMU_SVA_WATCH_H */
