/*
 * Barriers that complete TLB maintenance, for those who listen to them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "dsb-listener.h"

ARMDSBListeners arm_dsb_listeners = QLIST_HEAD_INITIALIZER(arm_dsb_listeners);

void arm_dsb_add_listener(ARMDSBListener *listener)
{
    QLIST_INSERT_HEAD(&arm_dsb_listeners, listener, next);
}

void arm_dsb_notify(CPUState *cs)
{
    ARMDSBListener *listener;

    QLIST_FOREACH(listener, &arm_dsb_listeners, next) {
        listener->notify(listener, cs);
    }
}
