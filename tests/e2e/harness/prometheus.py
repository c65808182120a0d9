# SPDX-License-Identifier: MIT
"""A strict reader of Prometheus' text format 0.0.4: everything that a scraper might stumble over is
an error here. Bytes in, samples out; no sockets."""

import math
import re

METRIC = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"^({METRIC})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)$")
NUMBER = re.compile(r"^([+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|\+Inf|-Inf|NaN)$")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class BadText(AssertionError):
    """The text is not what it should be."""


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.type = name, help_text, None
        self.samples = {}  # (name, ((label, value), ...)) → number

    def names(self):
        ends = ("_bucket", "_sum", "_count") if self.type == "histogram" else ("",)
        return [self.name + end for end in ends]


def need(condition, what, line=""):
    if not condition:
        raise BadText(f"{what}: {line!r}" if line else what)


def unescape(text):
    return re.sub(r"\\.", lambda m: ESCAPES[m.group()], text)


def parse_sample(line):
    m = SAMPLE.match(line)
    need(m, "not a sample", line)
    need(NUMBER.match(m.groups()[-1]), "not a number", line)
    pairs = [(n, unescape(v)) for n, v in re.findall(LABEL, m.group(2) or "")]
    need(len({n for n, _ in pairs}) == len(pairs), "a label twice", line)
    return m.group(1), tuple(pairs), float(m.groups()[-1])


def check_histogram(family):
    """Each series: buckets ascend to +Inf, cumulate, and agree with _count; _sum is there."""
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(p for p in labels if p[0] != "le")
        one = series.setdefault(rest, {"buckets": []})
        if name.endswith("_bucket"):
            need(len(labels) == len(rest) + 1, f"{name}: a bucket without le")
            one["buckets"].append((float(dict(labels)["le"]), value))
        else:
            need(len(labels) == len(rest), f"{name}: le outside of a bucket")
            one[name[len(family.name) :]] = value
    for labels, one in series.items():
        where = f"{family.name}{dict(labels)}"
        bounds = [b for b, _ in one["buckets"]]
        counts = [c for _, c in one["buckets"]]
        need(bounds and bounds == sorted(set(bounds)), f"{where}: bounds {bounds}")
        need(bounds[-1] == math.inf, f"{where}: no +Inf")
        need(counts == sorted(counts), f"{where}: not cumulated {counts}")
        need(one.get("_count") == counts[-1], f"{where}: _count is not the +Inf bucket")
        need("_sum" in one and one["_sum"] >= 0, f"{where}: no _sum")
        need(counts[-1] or one["_sum"] == 0, f"{where}: a sum of nothing")


def check_family(family):
    need(family.type, f"{family.name}: no TYPE")
    need(family.help, f"{family.name}: no HELP")
    counter = family.name.endswith("_total")
    need(counter == (family.type == "counter"), f"{family.name}: a {family.type} by that name")
    for (name, _), value in family.samples.items():
        need(family.type == "gauge" or value >= 0, f"{name}: {value}")
        need(not math.isnan(value), f"{name}: not a number")
    if family.type == "histogram":
        check_histogram(family)


class Metrics:
    def __init__(self, text):
        need(isinstance(text, bytes), "bytes, please")
        text = text.decode("utf-8")
        need(text.endswith("\n"), "the last line is open")
        self.families = {}
        self._family = None
        for line in text[:-1].split("\n"):
            self._take(line)
        for family in self.families.values():
            check_family(family)

    def _take(self, line):
        need(not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", line), "a control character", line)
        if line.startswith("# HELP "):
            _, _, name, help_text = line.split(" ", 3)
            need(re.fullmatch(METRIC, name), "bad name", line)
            need(name not in self.families, "a family twice", line)
            need(not re.search(r"\\(?![\\n])", help_text), "a bad escape", line)
            self._family = self.families[name] = Family(name, help_text)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            need(self._family and name == self._family.name, "TYPE of another family", line)
            need(self._family.type is None and kind in TYPES, "bad TYPE", line)
            need(not self._family.samples, "TYPE behind samples", line)
            self._family.type = kind
        else:
            name, labels, value = parse_sample(line)
            need(self._family and name in self._family.names(), "outside of its family", line)
            key = (name, tuple(sorted(labels)))
            need(key not in self._family.samples, "a sample twice", line)
            self._family.samples[key] = value

    def get(self, name, **labels):
        """The value of a sample; luaworker_ goes without saying. None when there is none."""
        name = "luaworker_" + name
        for family in self.families.values():
            if name in family.names():
                return family.samples.get((name, tuple(sorted(labels.items()))))
        return None

    def label_values(self, label):
        return {
            value
            for family in self.families.values()
            for _, labels in family.samples
            for name, value in labels
            if name == label
        }
