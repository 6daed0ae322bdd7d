/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An sva-testdev that is given to vfio-pci, so that a test can make DMA domains
 * for it with iommufd, behind the SMMU that processes bind to.
 */
#ifndef SELFTESTS_IOMMU_SVA_VFIO_H
#define SELFTESTS_IOMMU_SVA_VFIO_H

#include <stdbool.h>

#include <linux/types.h>

#define PCI_NAME_LEN		32
#define MAX_VFIO_DEVICES	8

/**
 * struct sva_vfio - a device with vfio-pci
 * @pci: its name, empty when no driver has been changed
 * @fd: the open device, or -1
 * @iommufd: what it is bound to, or -1
 * @dev_id: its ID there
 */
struct sva_vfio {
	char pci[PCI_NAME_LEN];
	int fd;
	int iommufd;
	__u32 dev_id;
};

unsigned int sva_vfio_find_all(char (*pci)[PCI_NAME_LEN], unsigned int max);
bool sva_vfio_find(char pci[PCI_NAME_LEN]);
const char *sva_vfio_skip_reason(void);
const char *sva_vfio_open_on(struct sva_vfio *v, const char *pci, int iommufd);
const char *sva_vfio_open(struct sva_vfio *v, const char *pci);
void sva_vfio_close(struct sva_vfio *v);
void sva_vfio_give_back(void);

#endif /* SELFTESTS_IOMMU_SVA_VFIO_H */
