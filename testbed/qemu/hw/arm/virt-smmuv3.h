/*
 * SMMUs that the user adds to the virt machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_VIRT_SMMUV3_H
#define HW_ARM_VIRT_SMMUV3_H

#include "hw/arm/smmuv3.h"
#include "hw/arm/virt.h"

/* Add the device tree node of the SMMUv3 at @base */
void virt_smmuv3_add_fdt_node(const VirtMachineState *vms, hwaddr base,
                              const int irqs[NUM_SMMU_IRQS], uint32_t phandle);

/* Before @dev, an SMMUv3 that the user adds, is realized: can it be? */
void virt_smmuv3_pre_plug(VirtMachineState *vms, DeviceState *dev,
                          Error **errp);

/* With all devices there, describe the user's SMMUs in the device tree */
void virt_smmuv3_add_user_fdt_nodes(VirtMachineState *vms);

/* An SMMUv3 of the machine, for the tables that describe it */
typedef struct VirtSMMUv3 {
    SMMUv3State *smmu;
    hwaddr base;
    int irqs[NUM_SMMU_IRQS];    /* SPIs */
    /*
     * The buses behind it, as the guest has numbered them; of the machine's
     * own, which comes first, all that no other one has. None: last < first
     */
    int first_bus, last_bus;
} VirtSMMUv3;

/* All SMMUs of a machine that has some: an array of VirtSMMUv3 */
GArray *virt_smmuv3_all(VirtMachineState *vms);

#endif /* HW_ARM_VIRT_SMMUV3_H */
