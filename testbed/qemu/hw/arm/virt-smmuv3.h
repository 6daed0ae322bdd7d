/*
 * SMMUs that the user adds to the virt machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_VIRT_SMMUV3_H
#define HW_ARM_VIRT_SMMUV3_H

#include "hw/arm/virt.h"

/* Add the device tree node of the SMMUv3 at @base */
void virt_smmuv3_add_fdt_node(const VirtMachineState *vms, hwaddr base,
                              const int irqs[NUM_SMMU_IRQS], uint32_t phandle);

/* Before @dev, an SMMUv3 that the user adds, is realized: can it be? */
void virt_smmuv3_pre_plug(VirtMachineState *vms, DeviceState *dev,
                          Error **errp);

/* With all devices there, describe the user's SMMUs in the device tree */
void virt_smmuv3_add_user_fdt_nodes(VirtMachineState *vms);

#endif /* HW_ARM_VIRT_SMMUV3_H */
