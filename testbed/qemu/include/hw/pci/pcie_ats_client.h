/*
 * Functions that take part in translation: ATS, and accesses that stall
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_PCI_PCIE_ATS_CLIENT_H
#define HW_PCI_PCIE_ATS_CLIENT_H

#include "exec/memory.h"
#include "qom/object.h"

/*
 * Address Type of a TLP, in MemTxAttrs.pci_at and so in the index of an IOMMU
 * memory region, if it has indexes for it.
 *
 * translate() with PCI_AT_REQUEST is a Translation Request for the page that
 * the address lies in: what the IOMMU would grant, and no fault is reported.
 * With PCI_AT_TRANSLATED the address is one that such a request returned: the
 * entry says whether the IOMMU lets the access pass.
 */
#define PCI_AT_UNTRANSLATED 0
#define PCI_AT_REQUEST      1
#define PCI_AT_TRANSLATED   2

#define TYPE_PCIE_ATS_CLIENT "pcie-ats-client"

typedef struct PCIEATSClient PCIEATSClient;
typedef struct PCIEATSClientClass PCIEATSClientClass;
DECLARE_CLASS_CHECKERS(PCIEATSClientClass, PCIE_ATS_CLIENT,
                       TYPE_PCIE_ATS_CLIENT)
#define PCIE_ATS_CLIENT(obj) \
    INTERFACE_CHECK(PCIEATSClient, (obj), TYPE_PCIE_ATS_CLIENT)

/**
 * struct PCIEATSClientClass - what the IOMMU tells the function behind it
 *
 * All are called with the BQL held, by an IOMMU that holds no lock of its own:
 * the function may translate addresses meanwhile.
 *
 * @invalidate: an Invalidate Request for [@addr, @last]. Without a PASID
 *              (@pasid is negative) it applies to translations with any PASID
 *              and with none. With one, to those of that PASID or, if @global,
 *              of any PASID. It is complete on return.
 * @can_stall: may accesses of this function be held at all?
 * @stall: called from within translate(): the IOMMU wants to hold that access
 *         until software has decided. Returns a number that names the access,
 *         for @resume, or 0 if the function cannot wait. If it can, translate()
 *         then returns no permission, and that means nothing.
 * @resume: the access named @id ends with a fault or, if @retry, is to be made
 *          again from its translation on. A number that is not known (any more)
 *          is ignored.
 * @drain: accesses that have been translated are to be made now, if they have
 *         not been yet: the IOMMU is about to say that an invalidation is
 *         complete.
 * @each: call @fn for each translation in the function's ATC, with a number
 *        that no other has or had, and PASID, IOVA, size, address and
 *        permission. It is the one that may be called with a lock held: no
 *        address may be translated meanwhile.
 */
struct PCIEATSClientClass {
    InterfaceClass parent_class;

    void (*invalidate)(PCIEATSClient *client, int pasid, bool global,
                       uint64_t addr, uint64_t last);
    bool (*can_stall)(PCIEATSClient *client);
    uint64_t (*stall)(PCIEATSClient *client);
    void (*resume)(PCIEATSClient *client, uint64_t id, bool retry);
    void (*drain)(PCIEATSClient *client);
    void (*each)(PCIEATSClient *client,
                 void (*fn)(void *opaque, uint64_t seq, int pasid,
                            uint64_t iova, uint64_t size, uint64_t addr,
                            IOMMUAccessFlags perm), void *opaque);
};

#endif
