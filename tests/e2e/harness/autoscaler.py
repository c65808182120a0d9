# SPDX-License-Identifier: MIT
"""Autoscalers: one that takes reports and remembers them, or does to them what the test says; and one
that names workers to clients."""

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


class Router(FakeModel):
    """An autoscaler whose /route/ says what the test wants: `say(url, ...)`, the last for ever. A text
    that is no URL is a status without one."""

    def __init__(self):
        super().__init__()
        self.asked, self.words, self.workers = [], iter(()), None
        self.last_word = None
        self.busy = threading.Lock()
        self.on("/route/", self.route)
        self.on("/get_endpoint_workers/", self.list_workers)

    def say(self, *words):
        self.words, self.last_word = iter(words), words[-1]
        return self

    def route(self, exchange):
        body = json.loads(exchange.read_body())
        with self.busy:
            self.asked.append(body)
            word = next(self.words, self.last_word)
            number = len(self.asked)
        if callable(word):
            return word(exchange)
        index = body["request_idx"] or number
        if not word.startswith("http"):
            return exchange.answer_json({"request_idx": index, "status": word})
        return exchange.answer_json(
            {
                **{"url": word, "signature": "c2lnbmVk", "cost": body["cost"], "reqnum": number},
                **{"endpoint": body["endpoint"], "request_idx": index, "__request_id": "r"},
            }
        )

    def list_workers(self, exchange):
        exchange.read_body()
        if self.workers is None:
            return exchange.answer(404)
        return exchange.answer_json(
            [{"id": i, "status": status} for i, status in enumerate(self.workers)]
        )
