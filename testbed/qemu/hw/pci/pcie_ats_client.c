/*
 * Functions that take part in translation: ATS, and accesses that stall
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pcie_ats_client.h"

static const TypeInfo pcie_ats_client_types[] = {
    {
        .name = TYPE_PCIE_ATS_CLIENT,
        .parent = TYPE_INTERFACE,
        .class_size = sizeof(PCIEATSClientClass),
    },
};

DEFINE_TYPES(pcie_ats_client_types)
