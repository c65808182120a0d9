# SPDX-License-Identifier: MIT
"""The autoscaler's side of the signature: RSA PKCS#1 v1.5 with SHA-256, the key from openssl's
command line, the arithmetic our own, so that it is independent of the program under test."""

import base64
import hashlib
import json
import re
import subprocess

SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


class Signer:
    def __init__(self, directory, name="key"):
        self.key_file = directory / f"{name}.pem"
        self.public_file = directory / f"{name}.pub.pem"
        self._openssl("genrsa", "-out", str(self.key_file), "2048")
        self._openssl("rsa", "-in", str(self.key_file), "-pubout", "-out", str(self.public_file))
        self.public_pem = self.public_file.read_bytes()
        text = self._openssl("rsa", "-in", str(self.key_file), "-noout", "-text").decode()
        self.modulus = self._number(text, "modulus")
        self.exponent = self._number(text, "privateExponent")
        self._cache = {}

    @staticmethod
    def _openssl(*arguments):
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout

    @staticmethod
    def _number(text, name):
        digits = re.search(rf"^{name}:\n((?:    +[0-9a-f:]+\n)+)", text, re.MULTILINE).group(1)
        return int(re.sub(r"[^0-9a-f]", "", digits), 16)

    def sign(self, message):
        """base64 signature of bytes."""
        if message not in self._cache:
            size = (self.modulus.bit_length() + 7) // 8
            tail = SHA256_PREFIX + hashlib.sha256(message).digest()
            block = b"\x00\x01" + b"\xff" * (size - 3 - len(tail)) + b"\x00" + tail
            number = pow(int.from_bytes(block, "big"), self.exponent, self.modulus)
            self._cache[message] = base64.b64encode(number.to_bytes(size, "big")).decode()
        return self._cache[message]

    def sign_url(self, url):
        """Scheme `url`: what Python prints for the message is the signed text."""
        return self.sign(json.dumps({"url": url}, indent=4, sort_keys=True).encode())

    def sign_auth(self, auth, scheme):
        """auth_data with its signature under a scheme."""
        keys, in_order = {
            "url": (["url"], True),
            "sorted": (["cost", "endpoint", "reqnum", "request_idx", "url"], True),
            "legacy": (["cost", "endpoint", "reqnum", "url"], False),
        }[scheme]
        message = {key: auth[key] for key in keys}
        text = json.dumps(message, indent=4, sort_keys=in_order)
        return {**auth, "signature": self.sign(text.encode())}
