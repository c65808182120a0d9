# SPDX-License-Identifier: MIT
"""An autoscaler that takes reports and remembers them, or does to them what the test says."""

import json
import threading

from .model import FakeModel, answers
from .timing import wait_until


class FakeAutoscaler(FakeModel):
    """`reports` and `ended` hold what was taken (answered 200), in order. While `fault`, a behaviour
    of harness/model.py, is set, posts go to it and count as refused."""

    def __init__(self, public_pem=None, port=0):
        self.reports, self.ended = [], []
        self.refused = 0
        self.fault = None
        self._taking = threading.Lock()
        super().__init__(port)
        self.on("/worker_status/", lambda exchange: self._take(exchange, self._keep_report))
        self.on("/delete_requests/", lambda exchange: self._take(exchange, self._keep_ended))
        if public_pem:
            self.on("/pubkey/", answers(public_pem))

    def _take(self, exchange, keep):
        fault = self.fault
        if fault:
            with self._taking:
                self.refused += 1
            fault(exchange)
            return
        with self._taking:
            keep(json.loads(exchange.read_body()))
        exchange.answer(200, b'{"ok":true}')

    def _keep_report(self, report):
        self.reports.append(report)

    def _keep_ended(self, body):
        self.ended += body["requests"]

    def wait_report(self, what, condition, since=0, timeout=None):
        """The first report after the `since`-th for which condition(report) holds."""

        def found():
            return next((r for r in list(self.reports)[since:] if condition(r)), None)

        try:
            return wait_until(found, f"a report: {what}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last: {self.reports[-1:]}") from None

    def wait_loaded(self, since=0, timeout=None):
        return self.wait_report(
            "loaded", lambda r: r["loadtime"] > 0 and not r["error_msg"], since, timeout
        )

    def wait_error(self, text, since=0, timeout=None):
        return self.wait_report(text, lambda r: text in r["error_msg"], since, timeout)
