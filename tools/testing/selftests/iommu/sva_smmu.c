// SPDX-License-Identifier: GPL-2.0-only
/* What can be seen of an SMMUv3, see sva_smmu.h */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kselftest.h"
#include "sva_smmu.h"

/* SMMU register page 0 */
#define SMMU_IDR0		0x00
#define IDR0_BTM		0x20
#define IDR0_HTTU_SHIFT		6
#define IDR0_ASID16		0x1000
#define SMMU_CR2		0x2c
#define CR2_PTM			0x4
#define SMMU_CMDQ_BASE		0x90
#define SMMU_CMDQ_PROD		0x98
#define CMDQ_LOG2SIZE		0x1f

/* For some 50000 events between two calls of asid_trace_update(), on up to 16 CPUs */
#define TRACE_BUFFERS_KB	65536
#define TRACE_BUFFER_KB		4096

/**
 * cpu_asids() - How many ASIDs the CPUs have for processes
 *
 * The kernel said so at boot: 256 or 65536, or half of it under KPTI.
 *
 * Return: the number, or 0 if the kernel log does not tell any more.
 */
unsigned long cpu_asids(void)
{
	static const char text[] = "ASID allocator initialised with ";
	unsigned long n = 0;
	char line[1024];
	const char *p;
	ssize_t len;
	int fd;

	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return 0;
	/* EPIPE: there were more records once */
	while (!n && ((len = read(fd, line, sizeof(line) - 1)) > 0 || errno == EPIPE)) {
		line[len > 0 ? len : 0] = '\0';
		p = strstr(line, text);
		if (p)
			n = strtoul(p + strlen(text), NULL, 10);
	}
	close(fd);
	return n;
}

/**
 * smmu_name() - Name the SMMU that a device is behind
 * @device: character device of a uacce or uio device, or a name in
 *	    /sys/bus/pci/devices
 * @name: its name in /sys/class/iommu, if there is one
 *
 * Return: true if there is one.
 */
bool smmu_name(const char *device, char name[SMMU_NAME_LEN])
{
	static const char * const paths[] = {
		"/sys/class/uacce/%s/device/iommu",
		"/sys/class/uio/%s/device/iommu",
		"/sys/bus/pci/devices/%s/iommu",
	};
	const char *base = strrchr(device, '/');
	char path[PATH_MAX], target[PATH_MAX];
	unsigned int i;
	ssize_t len;

	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		snprintf(path, sizeof(path), paths[i], base ? base + 1 : device);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		base = strrchr(target, '/');
		snprintf(name, SMMU_NAME_LEN, "%.*s", SMMU_NAME_LEN - 1,
			 base ? base + 1 : target);
		return true;
	}
	return false;
}

/**
 * smmu_find() - Find the registers of an SMMU
 * @device: a device that is behind it, or NULL for the first SMMU there is
 *
 * Return: physical address of the registers, or 0.
 */
__u64 smmu_find(const char *device)
{
	char name[SMMU_NAME_LEN];
	__u64 base = 0;
	const char *p;
	glob_t found;

	/* Its name is smmu3.0xADDRESS, whether from device tree or ACPI */
	if (device && smmu_name(device, name) && sscanf(name, "smmu3.%llx", &base) == 1)
		return base;
	if (!glob("/sys/class/iommu/smmu3.*", 0, NULL, &found)) {
		p = strrchr(found.gl_pathv[0], '/') + 1;
		if (sscanf(p, "smmu3.%llx", &base) != 1)
			base = 0;
		if (found.gl_pathc > 1)
			fprintf(stderr, "# several SMMUs, taking %s\n", p);
		globfree(&found);
	}
	return base;
}

/**
 * smmu_map() - Map the registers of an SMMU for reading
 * @smmu: where to
 * @base: physical address
 *
 * This wants /dev/mem, and CONFIG_STRICT_DEVMEM=n.
 *
 * Return: 0, or a negative errno.
 */
int smmu_map(struct smmu *smmu, __u64 base)
{
	void *p;
	int fd;

	smmu->regs = NULL;
	fd = open("/dev/mem", O_RDONLY | O_SYNC);
	if (fd < 0)
		return -errno;
	p = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, fd, base);
	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	smmu->regs = p;
	return 0;
}

/**
 * smmu_unmap() - Undo smmu_map()
 * @smmu: mapped or not
 */
void smmu_unmap(struct smmu *smmu)
{
	if (smmu->regs)
		munmap(smmu->regs, sysconf(_SC_PAGESIZE));
	smmu->regs = NULL;
}

static __u32 smmu_read(const struct smmu *smmu, unsigned int offset)
{
	return __atomic_load_n((__u32 *)(smmu->regs + offset), __ATOMIC_RELAXED);
}

/**
 * smmu_asid16() - Does the SMMU have ASIDs of 16 bits
 * @smmu: a mapped SMMU
 *
 * Return: false if they have 8 bits.
 */
bool smmu_asid16(const struct smmu *smmu)
{
	return smmu_read(smmu, SMMU_IDR0) & IDR0_ASID16;
}

/**
 * smmu_httu() - What the SMMU updates of a page table by itself
 * @smmu: a mapped SMMU
 *
 * Return: IDR0.HTTU: nothing (0), the Access flag (1), and the dirty state (2).
 */
unsigned int smmu_httu(const struct smmu *smmu)
{
	return smmu_read(smmu, SMMU_IDR0) >> IDR0_HTTU_SHIFT & 3;
}

/**
 * smmu_listens() - Whether the SMMU obeys the CPUs' broadcasts
 * @smmu: mapped registers
 *
 * Return: it can (IDR0.BTM), and the kernel has told it to (CR2.PTM is 0)
 */
bool smmu_listens(const struct smmu *smmu)
{
	return (smmu_read(smmu, SMMU_IDR0) & IDR0_BTM) && !(smmu_read(smmu, SMMU_CR2) & CR2_PTM);
}

/**
 * smmu_cmdq_prod() - Where the kernel will put the SMMU's next command
 * @smmu: an SMMU, mapped or not
 *
 * Return: SMMU_CMDQ_PROD, or 0 if it cannot be read.
 */
__u32 smmu_cmdq_prod(const struct smmu *smmu)
{
	return smmu->regs ? smmu_read(smmu, SMMU_CMDQ_PROD) : 0;
}

/**
 * smmu_cmdq_advance() - How many commands the SMMU was sent
 * @smmu: a mapped SMMU
 * @from: smmu_cmdq_prod() before
 * @to: smmu_cmdq_prod() after
 *
 * Return: the number, which is right if it is less than twice the queue's size.
 */
__u32 smmu_cmdq_advance(const struct smmu *smmu, __u32 from, __u32 to)
{
	__u32 log2size = smmu_read(smmu, SMMU_CMDQ_BASE) & CMDQ_LOG2SIZE;

	/* The index has one bit more than it needs: it tells a full turn */
	return (to - from) & ((2U << log2size) - 1);
}

/*
 * Tracepoints
 */
static int write_file(const char *dir, const char *name, const char *value)
{
	char path[PATH_MAX];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static bool has_event(const char *tracefs, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/events/arm_smmu_v3/%s", tracefs, name);
	return !access(path, F_OK);
}

static const char *find_tracefs(void)
{
	static const char * const dirs[] = {
		"/sys/kernel/tracing", "/sys/kernel/debug/tracing",
	};
	unsigned int i;
	char path[64];

	mount("tracefs", dirs[0], "tracefs", 0, NULL);
	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/instances", dirs[i]);
		if (!access(path, W_OK))
			return dirs[i];
	}
	return NULL;
}

/**
 * asid_trace_open() - Begin to record what becomes of ASIDs
 * @t: where to
 *
 * In a tracing instance of its own, so that no other user of tracing is
 * disturbed.
 *
 * Return: 0, -ENOENT if the kernel has no such tracepoints, or a negative errno.
 */
int asid_trace_open(struct asid_trace *t)
{
	const char *tracefs = find_tracefs();
	long size = TRACE_BUFFERS_KB / sysconf(_SC_NPROCESSORS_CONF);
	char path[PATH_MAX];
	int ret;

	memset(t, 0, sizeof(*t));
	t->pipe = -1;
	if (!tracefs || !has_event(tracefs, "arm_smmu_asid_share"))
		return -ENOENT;
	t->has_move = has_event(tracefs, "arm_smmu_asid_move");
	t->live = calloc(MAX_SMMUS, sizeof(*t->live));
	if (!t->live)
		return -ENOMEM;

	snprintf(t->instance, sizeof(t->instance), "%s/instances/sva-%d", tracefs, getpid());
	if (mkdir(t->instance, 0700)) {
		ret = -errno;
		t->instance[0] = '\0';
		goto out;
	}
	/* Each CPU has one */
	snprintf(path, sizeof(path), "%ld", size < TRACE_BUFFER_KB ? size : TRACE_BUFFER_KB);
	ret = write_file(t->instance, "buffer_size_kb", path);
	if (!ret)
		ret = write_file(t->instance, "events/arm_smmu_v3/enable", "1");
	if (ret)
		goto out;
	snprintf(path, sizeof(path), "%s/trace_pipe", t->instance);
	t->pipe = open(path, O_RDONLY | O_NONBLOCK);
	if (t->pipe < 0)
		ret = -errno;
out:
	if (ret)
		asid_trace_close(t);
	return ret;
}

static unsigned char *live_asids(struct asid_trace *t, const char *smmu)
{
	unsigned int i;

	for (i = 0; i < t->nr_smmus; i++)
		if (!strcmp(t->smmus[i], smmu))
			return t->live[i];
	if (i == MAX_SMMUS)
		return NULL;
	strcpy(t->smmus[t->nr_smmus++], smmu);
	return t->live[i];
}

static void seen(struct asid_trace *t, unsigned int asid)
{
	if (asid < t->last / 2)
		t->wraps++;
	t->last = asid;
}

static void evaluate(struct asid_trace *t, const char *line)
{
	char event[32], smmu[SMMU_NAME_LEN];
	unsigned char *live;
	unsigned int a, b;
	const char *p;

	if (strstr(line, "LOST")) {
		ksft_print_msg("tracing: %s\n", line);
		t->errors++;
		return;
	}
	p = strstr(line, "arm_smmu_asid_");
	if (!p || sscanf(p, "arm_smmu_asid_%31[a-z]: %63s %*[a-z]=%u %*[a-z]=%u", event, smmu,
			 &a, &b) < 3)
		return;
	live = live_asids(t, smmu);
	if (!live || a >= MAX_ASIDS) {
		t->errors++;
		return;
	}
	if (!strcmp(event, "share")) {
		if (live[a]++) {
			ksft_print_msg("ASID %u is shared twice\n", a);
			t->errors++;
		}
		t->shares++;
		seen(t, a);
	} else if (!strcmp(event, "free")) {
		if (!live[a]--) {
			ksft_print_msg("ASID %u is given back, but was not shared\n", a);
			live[a] = 0;
			t->errors++;
		}
		t->frees++;
	} else if (!strcmp(event, "fallback")) {
		t->fallbacks++;
		if (a) {
			t->collisions++;
			seen(t, a);
		}
	} else if (!strcmp(event, "move")) {
		t->moves++;
	}
}

/**
 * asid_trace_update() - Evaluate what was recorded since the last call
 * @t: an open trace
 */
void asid_trace_update(struct asid_trace *t)
{
	char *end, *line;
	ssize_t n;

	while ((n = read(t->pipe, t->line + t->len, sizeof(t->line) - 1 - t->len)) > 0) {
		t->len += n;
		t->line[t->len] = '\0';
		line = t->line;
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			evaluate(t, line);
			line = end + 1;
		}
		t->len = strlen(line);
		memmove(t->line, line, t->len);
		/* Not a line of these events */
		if (t->len == sizeof(t->line) - 1)
			t->len = 0;
	}
}

/**
 * asid_trace_live() - Count the ASIDs that are shared now
 * @t: an open trace
 *
 * Return: their number, over all SMMUs.
 */
unsigned int asid_trace_live(const struct asid_trace *t)
{
	return t->shares - t->frees;
}

/**
 * asid_trace_settle() - Wait until every shared ASID was given back
 * @t: an open trace
 * @timeout_ms: how long to wait: a process that was killed closes its files
 *		a moment after it was waited for
 *
 * Return: true if nothing is left, and no event contradicted another.
 */
bool asid_trace_settle(struct asid_trace *t, int timeout_ms)
{
	int ms;

	for (ms = 0; ms < timeout_ms; ms += 10) {
		asid_trace_update(t);
		if (!asid_trace_live(t))
			break;
		usleep(10000);
	}
	if (asid_trace_live(t))
		ksft_print_msg("%u ASIDs taken, %u given back\n", t->shares, t->frees);
	return !asid_trace_live(t) && !t->errors;
}

/**
 * asid_trace_close() - End recording
 * @t: open or not
 */
void asid_trace_close(struct asid_trace *t)
{
	if (t->pipe >= 0)
		close(t->pipe);
	t->pipe = -1;
	if (t->instance[0])
		rmdir(t->instance);
	t->instance[0] = '\0';
	free(t->live);
	t->live = NULL;
}
