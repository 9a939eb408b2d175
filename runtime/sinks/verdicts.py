"""Signed verdicts: a record as a JSON Web Signature (RFC 7515, ES256) that includes the caller's nonce, through joserfc.

openssl ecparam -name prime256v1 -genkey -noout -out key.pem
openssl ec -in key.pem -pubout -out public.pem
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError, DeviceError, UsageError
from ..contract.fields import Json

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

ALGORITHM = "ES256"


class Signer:
    """Signs records with a private key."""

    def __init__(self, key: Path, nonce: str) -> None:
        """key: a PEM file; raises UsageError for a key that cannot sign, DeviceError without joserfc."""
        self._key, self.nonce = _read_key(key, private=True), nonce

    def sign(self, record: Mapping[str, Json]) -> str:
        """The record and the nonce as a compact JWS."""
        from joserfc import jws

        payload = json.dumps({**record, "nonce": self.nonce}, ensure_ascii=False, allow_nan=False)
        return jws.serialize_compact({"alg": ALGORITHM}, payload, self._key, algorithms=[ALGORITHM])


class Checker:
    """Checks signed verdicts with a public key; each nonce that it issued is valid for one verdict."""

    def __init__(self, key: Path) -> None:
        """key: a PEM file; raises UsageError for a file that is not a key, DeviceError without joserfc."""
        self._key, self._open = _read_key(key, private=False), set[str]()

    def nonce(self) -> str:
        """A new nonce, to be given to whoever requests a verdict."""
        nonce = secrets.token_urlsafe(16)
        self._open.add(nonce)
        return nonce

    def accept(self, token: str) -> dict[str, Json]:
        """The record of a verdict; raises DataError if it is forged, or if its nonce is unknown or was used before."""
        record = self.read(token)
        nonce = record.get("nonce")
        if not isinstance(nonce, str) or nonce not in self._open:
            raise DataError(
                "signed answer: its nonce was never issued or was used before, so it may be a copy; reject the answer"
            )
        self._open.remove(nonce)
        return record

    def read(self, token: str) -> dict[str, Json]:
        """The record, with any nonce; raises DataError if it is forged."""
        from joserfc import jws
        from joserfc.errors import JoseError

        try:
            payload = json.loads(jws.deserialize_compact(token, self._key, algorithms=[ALGORITHM]).payload)
        except (JoseError, ValueError) as error:
            raise DataError(
                f"signed answer: its signature does not fit this key ({error}), so it is forged; reject it"
            ) from None
        if not isinstance(payload, dict):
            raise DataError("signed answer: its content is not a record; reject it")
        return payload


def _read_key(path: Path, private: bool) -> ECKey:
    try:
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey
    except ImportError:
        raise DeviceError(
            "signatures need the package joserfc, which is not installed; run: pip install 'numclip[sign]'"
        ) from None
    kind = "private" if private else "public"
    try:
        key = ECKey.import_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot read the {kind} key ({error.strerror}); give another file") from None
    except (JoseError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: expected a {kind} P-256 key as PEM ({error}); give another file") from None
    if key.curve_name != "P-256" or (private and not key.is_private):
        raise UsageError(f"{path}: expected a {kind} P-256 key as PEM, got another kind; give another file")
    return key
