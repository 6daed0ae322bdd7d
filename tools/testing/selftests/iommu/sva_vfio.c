// SPDX-License-Identifier: GPL-2.0-only
/* An sva-testdev with vfio-pci, see sva_vfio.h */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include "sva_smmu.h"
#include "sva_testdev.h"
#include "sva_vfio.h"

static bool write_sysfs(const char *value, const char *fmt, const char *arg)
{
	char path[PATH_MAX];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), fmt, arg);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) >= 0;
	close(fd);
	return ok;
}

/* The last part of what a symbolic link points to */
static bool link_name(char name[PCI_NAME_LEN], const char *fmt, const char *arg)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *base;
	ssize_t len;

	snprintf(path, sizeof(path), fmt, arg);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = '\0';
	base = strrchr(target, '/');
	snprintf(name, PCI_NAME_LEN, "%.*s", PCI_NAME_LEN - 1, base ? base + 1 : target);
	return true;
}

static bool is_testdev(const char *pci)
{
	char path[PATH_MAX];
	unsigned int i, id[2] = {};
	FILE *f;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", pci,
			 i ? "device" : "vendor");
		f = fopen(path, "r");
		if (!f)
			return false;
		if (fscanf(f, "%x", &id[i]) != 1)
			id[i] = 0;
		fclose(f);
	}
	return id[0] == SVATD_PCI_VENDOR_ID && id[1] == SVATD_PCI_DEVICE_ID;
}

/* Give a device to another driver; "" is the one that it has by itself */
static bool change_driver(const char *pci, const char *driver)
{
	char current[PCI_NAME_LEN] = "";

	link_name(current, "/sys/bus/pci/devices/%s/driver", pci);
	if (!strcmp(current, driver))
		return true;
	return write_sysfs(driver[0] ? driver : "\n", "/sys/bus/pci/devices/%s/driver_override",
			   pci) &&
	       (!current[0] || write_sysfs(pci, "/sys/bus/pci/devices/%s/driver/unbind", pci)) &&
	       write_sysfs(pci, "%s", "/sys/bus/pci/drivers_probe");
}

/**
 * sva_vfio_find_all() - The devices that may be given to vfio-pci
 * @pci: where to put their names, in order
 * @max: how many there is room for
 *
 * They are the sva-testdevs behind the SMMU of the one that processes bind to,
 * whatever drivers they have now.
 *
 * Return: their number, not more than @max.
 */
unsigned int sva_vfio_find_all(char (*pci)[PCI_NAME_LEN], unsigned int max)
{
	char first[PCI_NAME_LEN], smmu[SMMU_NAME_LEN], other[SMMU_NAME_LEN];
	const char *dev = sva_device(), *name;
	unsigned int n = 0;
	glob_t found;
	size_t i;

	if (!dev || !smmu_name(dev, smmu) ||
	    !link_name(first, "/sys/class/uacce/%s/device", strrchr(dev, '/') + 1) ||
	    glob("/sys/bus/pci/devices/*", 0, NULL, &found))
		return 0;
	for (i = 0; i < found.gl_pathc && n < max; i++) {
		name = strrchr(found.gl_pathv[i], '/') + 1;
		if (!strcmp(name, first) || !is_testdev(name) || !smmu_name(name, other) ||
		    strcmp(smmu, other))
			continue;
		snprintf(pci[n++], PCI_NAME_LEN, "%s", name);
	}
	globfree(&found);
	return n;
}

/**
 * sva_vfio_find() - The device to give to vfio-pci, whatever driver it has now
 * @pci: where to put its name
 *
 * It is the one in SVA_VFIO_DEVICE in the environment, otherwise the last
 * sva-testdev behind the SMMU of the one that processes bind to.
 *
 * Return: whether there is one.
 */
bool sva_vfio_find(char pci[PCI_NAME_LEN])
{
	char found[MAX_VFIO_DEVICES][PCI_NAME_LEN];
	const char *env = getenv("SVA_VFIO_DEVICE");
	unsigned int n;

	if (env) {
		snprintf(pci, PCI_NAME_LEN, "%s", env);
		return true;
	}
	n = sva_vfio_find_all(found, MAX_VFIO_DEVICES);
	if (n)
		strcpy(pci, found[n - 1]);
	return n;
}

/* Whether the kernel has character devices for VFIO's devices, not only groups */
static bool has_cdevs(void)
{
	bool found = false;
	char line[256];
	FILE *f;

	f = fopen("/proc/devices", "r");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		found |= !!strstr(line, " vfio-dev\n");
	fclose(f);
	return found;
}

/**
 * sva_vfio_skip_reason() - What sva_vfio_open() would miss
 *
 * Return: the reason to skip a test for, or NULL if nothing is missing.
 */
const char *sva_vfio_skip_reason(void)
{
	char pci[PCI_NAME_LEN];

	if (!sva_vfio_find(pci))
		return "no second sva-testdev behind the same SMMU";
	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		return "no vfio-pci in this kernel";
	if (!has_cdevs())
		return "no CONFIG_VFIO_DEVICE_CDEV in this kernel";
	if (access("/dev/iommu", R_OK | W_OK))
		return "no /dev/iommu, or no permission to use it";
	return NULL;
}

/**
 * sva_vfio_open_on() - Give a device to vfio-pci, and bind it to an iommufd
 * @v: where to put it
 * @pci: name of the device
 * @iommufd: an open one, which stays the caller's as well, or -1 for a new one
 *
 * The caller has to call sva_vfio_close(), also if this failed.
 *
 * Return: NULL, or what failed, with errno.
 */
const char *sva_vfio_open_on(struct sva_vfio *v, const char *pci, int iommufd)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	char path[PATH_MAX];
	glob_t found;

	v->fd = -1;
	v->iommufd = -1;
	snprintf(v->pci, sizeof(v->pci), "%s", pci);
	if (!change_driver(v->pci, "vfio-pci"))
		return "giving the device to vfio-pci";
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/vfio*", v->pci);
	if (glob(path, 0, NULL, &found))
		return "finding the VFIO character device";
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	v->fd = open(path, O_RDWR);
	if (v->fd < 0)
		return "open of the VFIO character device";
	v->iommufd = iommufd < 0 ? open("/dev/iommu", O_RDWR) : dup(iommufd);
	if (v->iommufd < 0)
		return "open of /dev/iommu";
	bind.iommufd = v->iommufd;
	if (ioctl(v->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return "VFIO_DEVICE_BIND_IOMMUFD";
	v->dev_id = bind.out_devid;
	return NULL;
}

/**
 * sva_vfio_open() - Give a device to vfio-pci, and bind it to a new iommufd
 * @v: where to put it
 * @pci: name of the device
 *
 * The caller has to call sva_vfio_close(), also if this failed.
 *
 * Return: NULL, or what failed, with errno.
 */
const char *sva_vfio_open(struct sva_vfio *v, const char *pci)
{
	return sva_vfio_open_on(v, pci, -1);
}

/**
 * sva_vfio_close() - Undo sva_vfio_open(), or what it got done
 * @v: the device, or all zero
 *
 * Its domains are freed and its own driver has it again. May be called twice.
 */
void sva_vfio_close(struct sva_vfio *v)
{
	if (!v->pci[0])
		return;
	if (v->fd >= 0)
		close(v->fd);
	if (v->iommufd >= 0)
		close(v->iommufd);
	change_driver(v->pci, "");
	v->pci[0] = '\0';
	v->fd = -1;
	v->iommufd = -1;
}

/**
 * sva_vfio_give_back() - Take devices from vfio-pci that it still has
 *
 * For the end of a program: a test that timed out has had no teardown.
 */
void sva_vfio_give_back(void)
{
	char pci[MAX_VFIO_DEVICES][PCI_NAME_LEN], driver[PCI_NAME_LEN];
	unsigned int i, n = sva_vfio_find_all(pci, MAX_VFIO_DEVICES);

	for (i = 0; i < n; i++)
		if (link_name(driver, "/sys/bus/pci/devices/%s/driver", pci[i]) &&
		    !strcmp(driver, "vfio-pci"))
			change_driver(pci[i], "");
}
