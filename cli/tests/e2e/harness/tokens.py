"""Tokens made by hand with PyJWT, as a stranger to Dunlin would make them: good ones, and all kinds of bad ones."""

import base64
import hashlib
import hmac
import json
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def unsealed(sealed, storage_key, purpose):
    """What the platform has encrypted for a purpose, with the key in this file: a mark, the nonce, and AES-256-GCM."""
    mark = b"dunlin1\0"
    assert sealed.startswith(mark), "it is in the clear"
    nonce, body = sealed[len(mark):len(mark) + 12], sealed[len(mark) + 12:]
    return AESGCM(bytes.fromhex(storage_key.read_text())).decrypt(nonce, body, purpose.encode())


def cluster_key(folder):
    """The cluster's own signing key, which a test may read because it runs as the cluster's user: (key, kid)."""
    keys = folder / "scheduler/keys"
    data = unsealed((keys / "token.pk8").read_bytes(), keys / "storage.key", "token.pk8")
    # RFC 5958 with the public key behind, which Python's library does not read; the seed follows its two octet string heads.
    at = data.index(b"\x04\x22\x04\x20") + 4
    key = ed25519.Ed25519PrivateKey.from_private_bytes(data[at:at + 32])
    return key, hashlib.sha256(public_bytes(key)).hexdigest()[:16]


def public_bytes(key):
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def public_pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(audience, **changes):
    """The claims of a good token; a change to None leaves a claim out."""
    now = int(time.time())
    good = {"iss": "dunlin", "aud": audience, "sub": "e2e", "iat": now, "nbf": now, "exp": now + 600, "jti": str(uuid.uuid4())}
    return {name: value for name, value in (good | changes).items() if value is not None}


def sign(payload, key, kid, algorithm="EdDSA", **header):
    return jwt.encode(payload, key, algorithm, headers=({"kid": kid} if kid is not None else {}) | header)


def b64(data):
    if not isinstance(data, bytes):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header, payload, signature=b""):
    """Any three parts; `payload` may be text that no library would write."""
    payload = payload.encode() if isinstance(payload, str) else payload
    return f"{b64(header)}.{b64(payload)}.{b64(signature)}"


def signed_by_hand(header, payload, key):
    """A valid EdDSA signature over parts that a library would refuse to write."""
    unsigned = by_hand(header, payload).rpartition(".")[0]
    return f"{unsigned}.{b64(key.sign(unsigned.encode()))}"


def hmac_confusion(payload, kid, secret, algorithm="HS256"):
    """A token whose HMAC secret is the public key (every spelling of it is somebody's mistake)."""
    unsigned = f"{b64({'alg': algorithm, 'typ': 'JWT', 'kid': kid})}.{b64(payload)}"
    return f"{unsigned}.{b64(hmac.new(secret, unsigned.encode(), algorithm.lower().replace('hs', 'sha')).digest())}"


def forgeries(key, kid, audience, **extra):
    """Every bad token by its name. `extra` are claims that would make it powerful, such as grants."""
    now = int(time.time())
    stranger = ed25519.Ed25519PrivateKey.generate()
    rsa_key, ec_key = rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP256R1())
    good = claims(audience, **extra)
    header = {"alg": "EdDSA", "typ": "JWT", "kid": kid}

    def changed(**changes):
        return signed_by_hand(header, json.dumps(claims(audience, **(extra | changes))), key)

    def exact(text):
        return signed_by_hand(header, text, key)

    valid = sign(good, key, kid)
    head, body, signature = valid.split(".")
    forged = {
        # T40: algorithms and keys.
        **{f"alg {alg}": by_hand(header | {"alg": alg}, json.dumps(good)) for alg in ("none", "None", "NONE", "nOnE", "", "HS256", "Ed25519", "RS256")},
        "alg none, signature kept": f"{b64(header | {'alg': 'none'})}.{body}.{signature}",
        "no alg": by_hand({"typ": "JWT", "kid": kid}, json.dumps(good)),
        **{f"HS256 with the public key, {what}": hmac_confusion(good, kid, secret) for what, secret in {
            "raw": public_bytes(key), "PEM": public_pem(key), "PEM without its last newline": public_pem(key).strip(),
            "PEM with CRLF": public_pem(key).replace(b"\n", b"\r\n"), "base64": b64(public_bytes(key)).encode()}.items()},
        "HS512 with the public key": hmac_confusion(good, kid, public_bytes(key), "HS512"),
        "another key, this kid": sign(good, stranger, kid),
        "another key, another kid": sign(good, stranger, "0" * 16),
        "another key, no kid": sign(good, stranger, None),
        "RS256": sign(good, rsa_key, kid, "RS256"),
        "ES256": sign(good, ec_key, kid, "ES256"),
        "embedded jwk": sign(good, stranger, kid, jwk={"kty": "OKP", "crv": "Ed25519", "x": b64(public_bytes(stranger))}),
        "jku": sign(good, stranger, kid, jku="http://127.0.0.1:9/keys"),
        "x5u": sign(good, stranger, kid, x5u="http://127.0.0.1:9/cert"),
        "crit": signed_by_hand(header | {"crit": ["exp"]}, json.dumps(good), key),
        "b64 false": signed_by_hand(header | {"b64": False, "crit": ["b64"]}, json.dumps(good), key),
        "empty signature": f"{head}.{body}.",
        "short signature": f"{head}.{body}.{signature[:-4]}",
        "changed signature": f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "changed body": f"{head}.{b64(good | {'sub': 'somebody else'})}.{signature}",
        "two parts": f"{head}.{body}",
        "five parts": f"{head}.{body}.{signature}.{signature}.{signature}",
        "a token in a token": sign({"token": valid} | claims(audience, exp=now - 120), key, kid),
        "spaces inside": f"{head}. {body}.{signature}",
        "padding": f"{head}==.{body}=.{signature}==",
        "not base64": f"{head}.%%%%.{signature}",
        # T41: what a kid may be.
        **{f"kid {kid_!r:.30}": sign(good, stranger, kid_) for kid_ in ("../../dev/null", "' OR 1=1 --", "x" * 10_000, "\0", "http://127.0.0.1:9/", "token.pem")},
        "kid of another type": signed_by_hand(header | {"kid": 7}, json.dumps(good), stranger),
        # T42: claims.
        "expired": changed(exp=now - 120, iat=now - 600, nbf=now - 600),
        "not yet valid": changed(nbf=now + 300),
        "issued in the future": changed(iat=now + 3600, nbf=None, exp=now + 7200),
        "valid for too long": changed(exp=now + 30 * 86400),
        "wrong issuer": changed(iss="somebody"),
        "issuer in other case": changed(iss="Dunlin"),
        "issuers as a list": changed(iss=["dunlin"]),
        "no audience of ours": changed(aud="dunlin"),
        "audience in other case": changed(aud=audience.upper()),
        "empty audience": changed(aud=""),
        "no audiences": changed(aud=[]),
        **{f"no {name}": changed(**{name: None}) for name in ("exp", "aud", "iss", "sub")},
        "exp as text": exact(json.dumps(good | {"exp": str(now + 600)})),
        "exp negative": changed(exp=-1),
        "exp huge": exact(json.dumps(good | {"exp": 10 ** 30})),
        "exp infinite": exact(json.dumps(good).replace(str(good["exp"]), "1e999")),
        "exp null": exact(json.dumps(good | {"exp": None})),
        "nbf as text": exact(json.dumps(good | {"nbf": "0"})),
        "sub a number": exact(json.dumps(good | {"sub": 7})),
        "sub empty": changed(sub=""),
        "aud twice": exact(json.dumps(good)[:-1] + ', "aud": "other"}'),
        "exp twice": exact('{"exp": 1, ' + json.dumps(good)[1:]),
        "not an object": exact("[]"),
        "not JSON": exact("{"),
        "very long": changed(padding="x" * 20_000),
    }
    return forged
