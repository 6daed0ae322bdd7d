/*
 * Functions of the virt machine whose accesses may stall
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_VIRT_STALL_H
#define HW_ARM_VIRT_STALL_H

#include "hw/acpi/aml-build.h"
#include "hw/arm/virt.h"

/* With all devices there, describe those that may stall in the device tree */
void virt_stall_add_fdt_nodes(VirtMachineState *vms);

/* The same for the DSDT: @scope is \_SB, which has PCI0 already */
void virt_stall_add_aml(VirtMachineState *vms, Aml *scope);

#endif
