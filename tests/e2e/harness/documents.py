# SPDX-License-Identifier: MIT
"""Random JSON texts, spelled in every way that the grammar allows: numbers of all kinds and sizes,
escapes and surrogates, keys that are equal or nearly, deep nesting, white space."""

import math
import struct

EDGE_NUMBERS = """0 -0 0.0 -0.0 -0e5 0E+9 1e16 1e15 9999999999999998.0 9999999999999999.0 1e-4 1e-5 0.0001
0.00001 0.00009999999999999999 1E400 -1e400 1e-400 -1e-400 1.7976931348623157e308 1.7976931348623159e308
4.9e-324 2.4e-324 2.5e-324 2.2250738585072014e-308 5e-324 9007199254740993 9007199254740993.0
9007199254740992e0 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
18446744073709551615 18446744073709551616 300.0 3e2 1.0 100e-2 123456789012345680.0 1e22 1e23
0.1 0.30000000000000004 1e21 12345678901234567890.5 8.5e15 5e15 4503599627370497.5""".split()
SPACES = ["", "", "", "", " ", "\n", "\t", "\r\n", "   "]
LETTER_ESCAPES = ['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]
# Where code points and UTF-16 units sort differently, and the borders of UTF-8's lengths.
EDGE_POINTS = [0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF, 0x2028]


class Documents:
    def __init__(self, random):
        self.random = random
        self.kinds = [self.string, self.number, self.word, self.array, self.object]

    # -- numbers --

    def bits(self):
        """A double of random bits."""
        while True:
            value = struct.unpack("<d", self.random.randbytes(8))[0]
            if math.isfinite(value):
                return value

    def near_power(self):
        value = (2.0 if self.random.random() < 0.5 else 10.0) ** self.random.randint(-300, 300)
        return math.nextafter(value, self.random.choice([-math.inf, math.inf, value]))

    def float_text(self):
        value = self.random.choice([self.bits, self.near_power, self.human])()
        style = self.random.choice(["%r", "%.17g", "%.16e", "%.20E", "%.3e", "%.15g", "%.6f"])
        if style == "%.6f" and abs(value) > 1e30:
            style = "%r"
        return style % value

    def human(self):
        return round(self.random.uniform(-1e6, 1e6), self.random.randint(0, 8))

    def spelled(self):
        """Digits as somebody might type them, zeros at either end."""
        digits = "".join(self.random.choices("0123456789", k=self.random.randint(1, 30)))
        whole = str(int(digits[: self.random.randint(1, len(digits))]))
        fraction = "." + digits if self.random.random() < 0.7 else ""
        exponent = ""
        if self.random.random() < 0.6:
            exponent = self.random.choice("eE") + self.random.choice(["", "+", "-"])
            exponent += str(self.random.choice([0, 5, 15, 16, 17, 290, 308, 309, 330]))
        return self.random.choice(["", "-"]) + whole + fraction + exponent

    def integer(self):
        digits = self.random.choice([1, 3, 9, 18, 19, 20, 21, 40, 400])
        return str(self.random.randint(-(10**digits), 10**digits))

    def number(self, depth=0):
        makers = [self.float_text, self.spelled, self.integer, lambda: self.random.choice(EDGE_NUMBERS)]
        return self.random.choice(makers)()

    # -- strings --

    def escaped(self, unit):
        text = "%04x" % unit
        return "\\u" + "".join(self.random.choice([c, c.upper()]) for c in text)

    def point(self):
        """One code point, raw or escaped."""
        kind = self.random.random()
        if kind < 0.3:
            c = self.random.choice(EDGE_POINTS)
        elif kind < 0.5:
            c = self.random.randint(0x10000, 0x10FFFF)
        else:
            c = self.random.randint(0x20, 0xFFFF)
        if 0xD800 <= c < 0xE000 or c in (0x22, 0x5C) or self.random.random() < 0.5:
            if c < 0x10000:
                return self.escaped(c)
            c -= 0x10000
            return self.escaped(0xD800 + (c >> 10)) + self.escaped(0xDC00 + (c & 0x3FF))
        return chr(c)

    def piece(self):
        kind = self.random.random()
        if kind < 0.5:
            return "".join(self.random.choices("abcXYZ 0189_-~!#[]{}:,", k=self.random.randint(1, 9)))
        if kind < 0.6:
            return self.random.choice(LETTER_ESCAPES)
        if kind < 0.7:
            return self.escaped(self.random.randint(0, 0x7F))
        if kind < 0.78:  # surrogates, lone or in pairs of any order
            return "".join(
                self.escaped(self.random.randint(0xD800, 0xDFFF))
                for _ in range(self.random.randint(1, 3))
            )
        return self.point()

    def string(self, depth=0):
        pieces = self.random.choice([0, 1, 1, 2, 3, 5])
        return '"' + "".join(self.piece() for _ in range(pieces)) + '"'

    def key(self):
        if self.random.random() < 0.4:  # many equal ones, spelled differently
            c = self.random.choice("abc")
            return '"' + self.random.choice([c, self.escaped(ord(c))]) + '"'
        return self.string()

    # -- the rest --

    def word(self, depth=0):
        return self.random.choice(["true", "false", "null"])

    def space(self):
        return self.random.choice(SPACES)

    def list_of(self, make):
        count = self.random.choice([0, 1, 1, 2, 3, 4, 6])
        return ",".join(self.space() + make() + self.space() for _ in range(count)) or self.space()

    def array(self, depth=0):
        return "[" + self.list_of(lambda: self.value(depth + 1)) + "]"

    def object(self, depth=0):
        def member():
            return self.key() + self.space() + ":" + self.space() + self.value(depth + 1)

        return "{" + self.list_of(member) + "}"

    def value(self, depth=0):
        kinds = self.kinds if depth < 3 else self.kinds[:3]
        return self.random.choice(kinds)(depth)

    def deep(self):
        """Up to 500 containers in each other, with siblings."""
        text = self.value(3)
        for _ in range(self.random.randint(1, 500)):
            before = self.number() + "," if self.random.random() < 0.1 else ""
            if self.random.random() < 0.5:
                text = "[" + before + text + "]"
            else:
                text = "{" + self.key() + ":" + text + "}"
        return text

    def auth_data(self):
        names = ["cost", "endpoint", "reqnum", "request_idx", "signature", "url", "__request_id"]
        self.random.shuffle(names)
        return "{" + ",".join(f'"{name}":{self.value(2)}' for name in names) + "}"

    def document(self):
        kind = self.random.random()
        if kind < 0.001:
            return self.deep()
        if kind < 0.3:
            return self.number()
        if kind < 0.4:
            return self.auth_data()
        if kind < 0.6:
            return self.object(1)
        return self.space() + self.value(self.random.randint(0, 2)) + self.space()
