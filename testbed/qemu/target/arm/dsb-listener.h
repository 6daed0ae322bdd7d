/*
 * Barriers that complete TLB maintenance, for those who listen to them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_ARM_DSB_LISTENER_H
#define TARGET_ARM_DSB_LISTENER_H

#include "hw/core/cpu.h"
#include "qemu/queue.h"

typedef struct ARMDSBListener ARMDSBListener;

/**
 * struct ARMDSBListener - who wants to know of DSBs
 * @notify: called for each DSB of loads and stores, of at least the Inner
 *          Shareable domain: the ones that complete broadcast TLB maintenance
 *          that the same vCPU has executed before. Called often, by the thread
 *          of @cs, without the BQL.
 */
struct ARMDSBListener {
    void (*notify)(ARMDSBListener *listener, CPUState *cs);
    QLIST_ENTRY(ARMDSBListener) next;
};

typedef QLIST_HEAD(, ARMDSBListener) ARMDSBListeners;
extern ARMDSBListeners arm_dsb_listeners;

/**
 * arm_dsb_add_listener - listen to DSBs from now on
 * @listener: stays on the list for good
 *
 * Translated code calls listeners only if there were any when it was made. So
 * call this before vCPUs run: when a device of the machine is realized, which
 * cannot be unplugged.
 */
void arm_dsb_add_listener(ARMDSBListener *listener);

/* Call all listeners */
void arm_dsb_notify(CPUState *cs);

/* Is there any listener? */
static inline bool arm_dsb_listened(void)
{
#ifdef CONFIG_USER_ONLY
    return false;
#else
    return !QLIST_EMPTY(&arm_dsb_listeners);
#endif
}

#endif
