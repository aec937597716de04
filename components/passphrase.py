"""Whether an empty passphrase opens a stack's secrets: Pulumi's own check, repeated.

`encryptionsalt` in Pulumi.<stack>.yaml is `v1:<salt>:v1:<nonce>:<ciphertext>`, each in base64. The key is PBKDF2 of the
passphrase (SHA-256, a million rounds), the cipher AES-256-GCM, and the text of a right passphrase is `pulumi`
(github.com/pulumi/pulumi, pkg/secrets/passphrase). The first block of the key stream covers its six letters, so one
block of AES decides it. Nothing is kept secret with this cipher; that would need a library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

ROUNDS: Final = 1_000_000
PROOF: Final = b"pulumi"


def opens(passphrase: str, encryption_salt: str) -> bool:
    """Whether the passphrase is the one that the salt was made with; takes a third of a second."""
    parts = encryption_salt.strip().split(":")
    if len(parts) != 5 or parts[0] != "v1" or parts[2] != "v1":
        return False
    try:
        salt, nonce, sealed = (base64.b64decode(part, validate=True) for part in (parts[1], parts[3], parts[4]))
    except binascii.Error:
        return False
    if len(nonce) != 12:
        return False
    key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ROUNDS, dklen=32)
    # GCM's counter is 1 for the tag and 2 for the first block of text.
    stream = encrypt_block(key, nonce + (2).to_bytes(4, "big"))
    return bytes(a ^ b for a, b in zip(sealed[: len(PROOF)], stream, strict=False)) == PROOF


def encrypt_block(key: bytes, block: bytes) -> bytes:
    """One block of AES-256 (FIPS 197)."""
    words = _expanded(key)
    state = _xor(block, b"".join(words[:4]))
    for number in range(1, 15):
        state = bytes(_SBOX[byte] for byte in state)
        state = bytes(state[(4 * (index // 4 + index % 4) + index % 4) % 16] for index in range(16))
        if number < 14:
            state = b"".join(_mixed(state[column : column + 4]) for column in range(0, 16, 4))
        state = _xor(state, b"".join(words[4 * number : 4 * number + 4]))
    return state


def _expanded(key: bytes) -> list[bytes]:
    words = [key[index : index + 4] for index in range(0, 32, 4)]
    constant = 1
    for index in range(8, 60):
        word = words[-1]
        if index % 8 == 0:
            word = bytes(_SBOX[byte] for byte in word[1:] + word[:1])
            word = _xor(word, bytes([constant, 0, 0, 0]))
            constant = _doubled(constant)
        elif index % 8 == 4:
            word = bytes(_SBOX[byte] for byte in word)
        words.append(_xor(words[-8], word))
    return words


def _mixed(column: bytes) -> bytes:
    total = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes(byte ^ total ^ _doubled(byte ^ column[(row + 1) % 4]) for row, byte in enumerate(column))


def _doubled(byte: int) -> int:
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _substitutions() -> bytes:
    """The S-box: the inverse in GF(2^8) by powers of 3 and of its inverse, then the affine map."""
    box = [0x63] * 256
    power = inverse = 1
    while True:
        power ^= _doubled(power)
        for shift in (1, 2, 4):
            inverse ^= inverse << shift & 0xFF
        if inverse & 0x80:
            inverse ^= 0x09
        turned = [(inverse << shift | inverse >> (8 - shift)) & 0xFF for shift in range(5)]
        box[power] = turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4] ^ 0x63
        if power == 1:
            return bytes(box)


_SBOX: Final = _substitutions()
