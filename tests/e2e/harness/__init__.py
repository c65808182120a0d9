# SPDX-License-Identifier: MIT
"""The independent peers of the end-to-end tests: clients, model servers and an autoscaler of their
own, on raw sockets, so that no library hides what is on the wire."""
