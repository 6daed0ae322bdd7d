# SPDX-License-Identifier: GPL-2.0-or-later
# The one machine that Shared Virtual Addressing is tested on, and its devices
CONFIG_ARM_VIRT=y
CONFIG_PCIE_PORT=y
CONFIG_SVA_TESTDEV=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_SERIAL=y
