/* SPDX-License-Identifier: MIT
 * Tells systemd how the worker is (sd_notify(3)'s protocol: datagrams to $NOTIFY_SOCKET). Without
 * that variable every function does nothing. */
#pragma once

/* Opens the socket and, when $WATCHDOG_USEC asks for it, begins to tell twice per period that the
 * loop turns. */
void lw_notify_open(void);
void lw_notify_ready(void);              /* READY=1; once counts */
void lw_notify_status(const char *text); /* what `systemctl status` shows; control characters
                                            become spaces */
void lw_notify_stopping(void);
void lw_notify_close(void); /* also when it never opened */
