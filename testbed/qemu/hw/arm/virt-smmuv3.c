/*
 * SMMUs that the user adds to the virt machine
 *
 * Each is for the bus behind one root port, or for one more root complex
 * (pxb-pcie). All other PCI devices have the machine's own SMMU. See
 * docs/specs/smmuv3.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/arm/fdt.h"
#include "hw/arm/smmuv3.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "hw/platform-bus.h"
#include "system/device_tree.h"
#include "virt-smmuv3.h"

typedef struct IOMMUMap {
    VirtMachineState *vms;
    uint32_t phandle[PCI_BUS_MAX];  /* of the SMMU, by bus number */
} IOMMUMap;

void virt_smmuv3_add_fdt_node(const VirtMachineState *vms, hwaddr base,
                              const int irqs[NUM_SMMU_IRQS], uint32_t phandle)
{
    static const char irq_names[] = "eventq\0priq\0cmdq-sync\0gerror";
    g_autofree char *node = g_strdup_printf("/smmuv3@%" PRIx64, base);
    void *fdt = MACHINE(vms)->fdt;

    qemu_fdt_add_subnode(fdt, node);
    qemu_fdt_setprop_string(fdt, node, "compatible", "arm,smmu-v3");
    qemu_fdt_setprop_sized_cells(fdt, node, "reg", 2, base,
                                 2, vms->memmap[VIRT_SMMU].size);
    qemu_fdt_setprop_cells(fdt, node, "interrupts",
        GIC_FDT_IRQ_TYPE_SPI, irqs[0], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI,
        GIC_FDT_IRQ_TYPE_SPI, irqs[1], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI,
        GIC_FDT_IRQ_TYPE_SPI, irqs[2], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI,
        GIC_FDT_IRQ_TYPE_SPI, irqs[3], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI);
    qemu_fdt_setprop(fdt, node, "interrupt-names", irq_names,
                     sizeof(irq_names));
    qemu_fdt_setprop(fdt, node, "dma-coherent", NULL, 0);
    qemu_fdt_setprop_cell(fdt, node, "#iommu-cells", 1);
    qemu_fdt_setprop_cell(fdt, node, "phandle", phandle);
}

static bool may_have_smmu(const VirtMachineState *vms, PCIBus *bus)
{
    PCIDevice *dev = bus ? pci_bridge_get_device(bus) : NULL;

    return dev && pci_get_bus(dev) == vms->bus &&
           (object_dynamic_cast(OBJECT(dev), TYPE_PCIE_ROOT_PORT) ||
            object_dynamic_cast(OBJECT(dev), "pxb-pcie"));
}

void virt_smmuv3_pre_plug(VirtMachineState *vms, DeviceState *dev,
                          Error **errp)
{
    VirtMachineClass *vmc = VIRT_MACHINE_GET_CLASS(vms);
    PCIBus *bus = ARM_SMMU(dev)->primary_bus;

    if (vms->iommu != VIRT_IOMMU_SMMUV3 || vms->default_bus_bypass_iommu) {
        error_setg(errp, "arm-smmuv3: the machine needs an SMMU of its own: "
                   "iommu=smmuv3, without default-bus-bypass-iommu");
        return;
    }
    if (!may_have_smmu(vms, bus)) {
        error_setg(errp, "arm-smmuv3: primary-bus must be the id of a root "
                   "port or of a pxb-pcie of pcie.0");
        return;
    }
    if (bus->iommu_ops) {
        error_setg(errp, "arm-smmuv3: bus '%s' has an SMMU already",
                   BUS(bus)->name);
        return;
    }
    if (!QTAILQ_EMPTY(&BUS(bus)->children)) {
        error_setg(errp, "arm-smmuv3: must come before the devices on bus "
                   "'%s'", BUS(bus)->name);
        return;
    }

    /* As the machine's own, but here the user may have another wish */
    if (!ARM_SMMUV3(dev)->stage && !vmc->no_nested_smmu) {
        object_property_set_str(OBJECT(dev), "stage", "nested", &error_abort);
    }
}

/*
 * @bus has number @num. Find out the numbers of @wanted, and of the buses
 * behind it. Return the highest number used from @bus on.
 *
 * The guest numbers buses, not QEMU. But a device tree names RIDs, so it has to
 * foresee what the guest will do. This is what Linux does if no firmware has
 * done so before: depth first, in the order of devfn, without gaps.
 */
static int find_bus_numbers(PCIBus *bus, int num, PCIBus *wanted,
                            int *first, int *last)
{
    int max = num;

    for (int devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *pdev = bus->devices[devfn];

        if (pdev && IS_PCI_BRIDGE(pdev)) {
            max = find_bus_numbers(pci_bridge_get_sec_bus(PCI_BRIDGE(pdev)),
                                   max + 1, wanted, first, last);
        }
    }
    if (bus == wanted) {
        *first = num;
        *last = max;
    }
    return max;
}

/* Where the user's SMMU @sbdev has its registers and interrupts */
static hwaddr user_resources(VirtMachineState *vms, SysBusDevice *sbdev,
                             int irqs[NUM_SMMU_IRQS])
{
    PlatformBusDevice *pbus = PLATFORM_BUS_DEVICE(vms->platform_bus_dev);

    for (int i = 0; i < NUM_SMMU_IRQS; i++) {
        irqs[i] = vms->irqmap[VIRT_PLATFORM_BUS] +
                  platform_bus_get_irqn(pbus, sbdev, i);
    }
    return vms->memmap[VIRT_PLATFORM_BUS].base +
           platform_bus_get_mmio_addr(pbus, sbdev, 0);
}

static void add_user_fdt_node(SysBusDevice *sbdev, void *opaque)
{
    IOMMUMap *map = opaque;
    VirtMachineState *vms = map->vms;
    uint32_t phandle;
    int irqs[NUM_SMMU_IRQS], first = 0, last = -1;
    hwaddr base;

    if (!object_dynamic_cast(OBJECT(sbdev), TYPE_ARM_SMMUV3)) {
        return;
    }
    base = user_resources(vms, sbdev, irqs);
    phandle = qemu_fdt_alloc_phandle(MACHINE(vms)->fdt);
    virt_smmuv3_add_fdt_node(vms, base, irqs, phandle);

    find_bus_numbers(vms->bus, 0, ARM_SMMU(sbdev)->primary_bus, &first, &last);
    for (int bus = first; bus <= MIN(last, PCI_BUS_MAX - 1); bus++) {
        map->phandle[bus] = phandle;
    }
}

void virt_smmuv3_add_user_fdt_nodes(VirtMachineState *vms)
{
    IOMMUMap map = { .vms = vms };
    g_autofree uint32_t *cells = g_new(uint32_t, 4 * PCI_BUS_MAX);
    int n = 0;

    if (vms->iommu != VIRT_IOMMU_SMMUV3 || vms->default_bus_bypass_iommu) {
        return;
    }
    for (int bus = 0; bus < PCI_BUS_MAX; bus++) {
        map.phandle[bus] = vms->iommu_phandle;
    }
    foreach_dynamic_sysbus_device(add_user_fdt_node, &map);

    /* RID, SMMU, StreamID, how many: an entry for each run of buses */
    for (int bus = 0, end; bus < PCI_BUS_MAX; bus = end) {
        for (end = bus + 1; end < PCI_BUS_MAX; end++) {
            if (map.phandle[end] != map.phandle[bus]) {
                break;
            }
        }
        cells[n++] = cpu_to_be32(PCI_BUILD_BDF(bus, 0));
        cells[n++] = cpu_to_be32(map.phandle[bus]);
        cells[n++] = cpu_to_be32(PCI_BUILD_BDF(bus, 0));
        cells[n++] = cpu_to_be32(PCI_BUILD_BDF(end - bus, 0));
    }
    qemu_fdt_setprop(MACHINE(vms)->fdt, vms->pciehb_nodename, "iommu-map",
                     cells, n * sizeof(*cells));
}

typedef struct AllSMMUs {
    VirtMachineState *vms;
    GArray *found;
} AllSMMUs;

static void add_user_smmu(SysBusDevice *sbdev, void *opaque)
{
    AllSMMUs *all = opaque;
    VirtSMMUv3 smmu = { };
    PCIDevice *port;
    PCIBus *bus;

    if (!object_dynamic_cast(OBJECT(sbdev), TYPE_ARM_SMMUV3)) {
        return;
    }
    smmu.smmu = ARM_SMMUV3(sbdev);
    smmu.base = user_resources(all->vms, sbdev, smmu.irqs);
    bus = ARM_SMMU(sbdev)->primary_bus;
    if (pci_bus_is_root(bus)) {
        pci_bus_range(bus, &smmu.first_bus, &smmu.last_bus);
    } else {
        port = pci_bridge_get_device(bus);
        smmu.first_bus = pci_bus_num(bus);
        smmu.last_bus = pci_get_byte(port->config + PCI_SUBORDINATE_BUS);
    }
    /* Firmware asks for the tables when it has numbered the buses */
    if (!smmu.first_bus) {
        smmu.last_bus = -1;
    }
    g_array_append_val(all->found, smmu);
}

GArray *virt_smmuv3_all(VirtMachineState *vms)
{
    AllSMMUs all = { vms, g_array_new(false, true, sizeof(VirtSMMUv3)) };
    VirtSMMUv3 own = {
        .smmu = ARM_SMMUV3(vms->bus->iommu_opaque),
        .base = vms->memmap[VIRT_SMMU].base,
        .last_bus = PCI_BUS_MAX - 1,
    };

    for (int i = 0; i < NUM_SMMU_IRQS; i++) {
        own.irqs[i] = vms->irqmap[VIRT_SMMU] + i;
    }
    g_array_append_val(all.found, own);
    foreach_dynamic_sysbus_device(add_user_smmu, &all);
    return all.found;
}
