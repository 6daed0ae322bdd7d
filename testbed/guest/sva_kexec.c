// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Boots another kernel while the device writes to this process's memory:
 *
 *	sva-kexec boot|crash IMAGE INITRD APPEND
 *
 * At once, or by a crash of this one, whose command line it gets, and APPEND.
 * Returns only if something went wrong.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sva_testdev.h"

#define SIZE	(16UL << 20)

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	size_t len, slot = SIZE / SVATD_NUM_SLOTS;
	char line[4096] = "";
	struct sva_queue q;
	unsigned int i;
	bool crash;
	char *p;

	if (argc != 5 || (strcmp(argv[1], "boot") && strcmp(argv[1], "crash")))
		errx(2, "usage: sva-kexec boot|crash IMAGE INITRD APPEND");
	crash = !strcmp(argv[1], "crash");
	if (read(must_open("/proc/cmdline", O_RDONLY), line, sizeof(line) / 2) <= 0)
		err(1, "/proc/cmdline");
	len = strcspn(line, "\n");
	snprintf(line + len, sizeof(line) - len, " %s", argv[4]);
	if (syscall(SYS_kexec_file_load, must_open(argv[2], O_RDONLY), must_open(argv[3], O_RDONLY),
		    strlen(line) + 1, line, crash ? KEXEC_FILE_ON_CRASH : 0))
		err(1, "kexec_file_load()");

	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED || sva_queue_init(&q))
		errx(1, "no memory, or no device");
	for (i = 0; i < SVATD_NUM_SLOTS; i++)
		sva_hammer_start(&q, i, p + i * slot, slot, getpagesize(), 0x11fe);
	if (sva_wait_count(&q, 0, 1000))
		errx(1, "the device does not write");
	if (crash)
		dprintf(must_open("/proc/sysrq-trigger", O_WRONLY), "c");
	else
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	err(1, "still here");
}
