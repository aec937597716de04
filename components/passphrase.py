"""Whether a passphrase opens a stack's secrets: repeats Pulumi's own check.

`encryptionsalt` in Pulumi.<stack>.yaml is `v1:<salt>:v1:<nonce>:<ciphertext>`, each in base64. The key is PBKDF2 of the
passphrase (SHA-256, a million rounds), the cipher AES-256-GCM, and the right passphrase decrypts it to `pulumi`
(github.com/pulumi/pulumi, pkg/secrets/passphrase).
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
    # Loaded here: only a live stack asks.
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parts = encryption_salt.strip().split(":")
    if len(parts) != 5 or parts[0] != "v1" or parts[2] != "v1":
        return False
    try:
        salt, nonce, sealed = (base64.b64decode(part, validate=True) for part in (parts[1], parts[3], parts[4]))
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ROUNDS, dklen=32)
        return AESGCM(key).decrypt(nonce, sealed, None) == PROOF
    except (binascii.Error, ValueError, InvalidTag):
        return False
