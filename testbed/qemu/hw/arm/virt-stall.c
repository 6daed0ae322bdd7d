/*
 * Functions of the virt machine whose accesses may stall
 *
 * PCI has no register that says so, and no access of a PCI device should. What
 * looks like a PCI function inside of a system may be none, though. Its device
 * tree node, a child of the bridge's, has the property "dma-can-stall" then,
 * and its device in the DSDT the same in _DSD.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <libfdt.h>
#include "qapi/error.h"
#include "hw/arm/smmuv3.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_ats_client.h"
#include "system/device_tree.h"
#include "virt-stall.h"

/* May software choose (IDR0.STALL_MODEL is 0) what is behind @bus to stall? */
static bool smmu_lets_stall(PCIBus *bus)
{
    while (!bus->iommu_ops && bus->parent_dev) {
        bus = pci_get_bus(bus->parent_dev);
    }
    return bus->iommu_ops &&
           object_dynamic_cast(bus->iommu_opaque, TYPE_ARM_SMMUV3) &&
           !object_property_get_uint(bus->iommu_opaque, "stall-model",
                                     &error_abort);
}

/* The path of the node of @pdev, which is made if it is not there */
static char *add_node(VirtMachineState *vms, PCIDevice *pdev)
{
    void *fdt = MACHINE(vms)->fdt;
    PCIBus *bus = pci_get_bus(pdev);
    g_autofree char *parent = bus == vms->bus ? g_strdup(vms->pciehb_nodename) :
                              add_node(vms, bus->parent_dev);
    bool bridge = IS_PCI_BRIDGE(pdev);
    char *node = g_strdup_printf("%s/%s@%x,%x", parent, bridge ? "pci" :
                                 object_get_typename(OBJECT(pdev)),
                                 PCI_SLOT(pdev->devfn), PCI_FUNC(pdev->devfn));

    if (fdt_path_offset(fdt, node) >= 0) {
        return node;
    }
    qemu_fdt_add_subnode(fdt, node);
    /* The bus number is the guest's choice, and nobody reads it here */
    qemu_fdt_setprop_cells(fdt, node, "reg", pdev->devfn << 8, 0, 0, 0, 0);
    if (bridge) {
        qemu_fdt_setprop_string(fdt, node, "device_type", "pci");
        qemu_fdt_setprop_cell(fdt, node, "#address-cells", 3);
        qemu_fdt_setprop_cell(fdt, node, "#size-cells", 2);
        qemu_fdt_setprop(fdt, node, "ranges", NULL, 0);
    }
    return node;
}

static bool may_stall(PCIDevice *pdev)
{
    Object *client = object_dynamic_cast(OBJECT(pdev), TYPE_PCIE_ATS_CLIENT);

    return client && smmu_lets_stall(pci_get_bus(pdev)) &&
           PCIE_ATS_CLIENT_GET_CLASS(client)->can_stall(
               (PCIEATSClient *)client);
}

static void add_function(PCIBus *bus, PCIDevice *pdev, void *opaque)
{
    VirtMachineState *vms = opaque;
    g_autofree char *node = NULL;

    if (!may_stall(pdev)) {
        return;
    }
    node = add_node(vms, pdev);
    qemu_fdt_setprop(MACHINE(vms)->fdt, node, "dma-can-stall", NULL, 0);
}

static void add_functions_of_bus(PCIBus *bus, void *opaque)
{
    pci_for_each_device_under_bus(bus, add_function, opaque);
}

void virt_stall_add_fdt_nodes(VirtMachineState *vms)
{
    if (vms->iommu == VIRT_IOMMU_SMMUV3) {
        pci_for_each_bus(vms->bus, add_functions_of_bus, vms);
    }
}

/* Device properties in _DSD: this one, which is true */
static Aml *dsd(const char *property)
{
    Aml *package = aml_package(2);
    Aml *list = aml_package(1);
    Aml *pair = aml_package(2);

    aml_append(pair, aml_string("%s", property));
    aml_append(pair, aml_int(1));
    aml_append(list, pair);
    aml_append(package, aml_touuid("DAFFD814-6EBA-4D8C-8A91-BC9BBF4AA301"));
    aml_append(package, list);
    return aml_name_decl("_DSD", package);
}

/*
 * Append to @parent the functions on @bus that may stall, and the bridges to
 * such. Return whether there were any.
 */
static bool add_devices(PCIBus *bus, Aml *parent)
{
    bool any = false;

    for (int devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *pdev = bus->devices[devfn];
        bool wanted;
        Aml *dev;

        if (!pdev) {
            continue;
        }
        wanted = may_stall(pdev);
        dev = aml_device("S%.02X", devfn);
        aml_append(dev, aml_name_decl("_ADR", aml_int(PCI_SLOT(devfn) << 16 |
                                                      PCI_FUNC(devfn))));
        if (wanted) {
            aml_append(dev, dsd("dma-can-stall"));
        } else if (IS_PCI_BRIDGE(pdev)) {
            wanted = add_devices(pci_bridge_get_sec_bus(PCI_BRIDGE(pdev)), dev);
        }
        if (wanted) {
            aml_append(parent, dev);
            any = true;
        }
    }
    return any;
}

void virt_stall_add_aml(VirtMachineState *vms, Aml *scope)
{
    Aml *pci0 = aml_scope("PCI0");

    if (vms->iommu == VIRT_IOMMU_SMMUV3 && add_devices(vms->bus, pci0)) {
        aml_append(scope, pci0);
    }
}
