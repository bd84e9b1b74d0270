"""Tokens of a second independent library, jwcrypto: every algorithm that an issuer may sign with, the shapes of attacks that a JOSE library makes
better than hands do, and issuers whose keys can't be fetched.

Three issuers, one a family of keys, have their keys at one server; a cluster of its own trusts them for calls."""

import json
import time

import pytest
from jwcrypto import jwe, jwk, jws, jwt

from harness import guests
from harness.api import ApiError
from harness.cluster import Cluster, eventually
from harness.logs import PANIC
from harness.servers import Server, reply

AUDIENCE = "jose"
# What a key is made of, and which algorithms its issuer may sign with.
FAMILIES = {
    "rsa": (lambda kid: jwk.JWK.generate(kty="RSA", size=2048, kid=kid), ("RS256", "RS384", "PS256", "PS512")),
    "ec": (lambda kid: jwk.JWK.generate(kty="EC", crv="P-256", kid=kid), ("ES256",)),
    "ed": (lambda kid: jwk.JWK.generate(kty="OKP", crv="Ed25519", kid=kid), ("EdDSA",)),
}
ALGORITHMS = [(family, algorithm) for family, (_, algorithms) in FAMILIES.items() for algorithm in algorithms]
TROUBLES = {
    "failing": ("answers with an error", 500, b""),
    "garbage": ("is no set of keys", 200, b"<html>internal-host.test</html>"),
    "huge": ("has more than 1048576 bytes", 200, b" " * (10 << 20)),
}


class Issuers:
    """All of them; `keys` are the private keys, by family."""

    def __init__(self):
        self.keys = {family: make(f"{family}-1") for family, (make, _) in FAMILIES.items()}
        self.server = Server(self._serve)

    def _serve(self, request):
        name = request.path.strip("/")
        if name in TROUBLES:
            _, status, body = TROUBLES[name]
            return reply(request, body, "application/json", status)
        keys = {"keys": [self.keys[name].export_public(as_dict=True) | {"use": "sig"}]}
        reply(request, json.dumps(keys).encode(), "application/json")

    def named(self, name):
        return f"https://{name}.example.com"

    def config(self):
        """For a gateway; plain HTTP and a loopback address, which the operator allows, but for the last one."""
        def issuer(name, path, algorithms=("RS256",), private="true"):
            url = path if "://" in path else f"{self.server.url}/{path}"
            return (f'[[oidc]]\nissuer = "{self.named(name)}"\naudience = "{AUDIENCE}"\npurpose = "call"\nnamespaces = ["jose"]\n'
                    f'jwks_url = "{url}"\nallow_private = {private}\nalgorithms = {json.dumps(algorithms)}\n')

        parts = [issuer(family, family, algorithms) for family, (_, algorithms) in FAMILIES.items()]
        parts += [issuer(name, name) for name in TROUBLES]
        parts += [issuer("down", "http://127.0.0.1:1/keys"), issuer("private", "https://127.0.0.1:1/keys", private="false")]
        return "path_addressing = true\n" + "".join(parts)

    def claims(self, name, **changes):
        now = int(time.time())
        good = {"iss": self.named(name), "aud": AUDIENCE, "sub": "zoe", "iat": now, "exp": now + 300}
        return {claim: value for claim, value in (good | changes).items() if value is not None}

    def token(self, name, algorithm, key=None, header=None, **changes):
        key = key or self.keys[name]
        made = jwt.JWT(header={"alg": algorithm, "kid": key.get("kid")} | (header or {}), claims=self.claims(name, **changes))
        made.make_signed_token(key)
        return made.serialize()


@pytest.fixture(scope="module")
def issuers():
    made = Issuers()
    yield made
    made.server.close()


@pytest.fixture(scope="module")
def ask(tmp_path_factory, issuers):
    """Calls a private function with a token."""
    folder = tmp_path_factory.mktemp("jose")
    (folder / "gateway.toml").write_text(issuers.config())
    cluster = Cluster(folder / "cluster", f"--gateway-arg=--config={folder / 'gateway.toml'}", "--gateways", 1, "--workers", 1)
    try:
        api = cluster.api()
        try:
            api.call("NamespaceService.CreateNamespace", namespace_id="jose")
        except ApiError as error:
            assert error.reason == "already_exists", error
        api.deploy("jose", "private", guests.answer("inside"), public=False)
        with cluster.http() as caller:
            eventually(lambda: caller.get("/jose/private/").status_code == 401, seconds=30, what="the function")
            yield lambda token: caller.get("/jose/private/", headers={"Authorization": f"Bearer {token}"})
        for log in cluster.logs():
            assert not PANIC.search(log.read_text(errors="replace")), log
    finally:
        cluster.stop()


@pytest.mark.parametrize(("family", "algorithm"), ALGORITHMS)
def test_a_token_of_another_library_is_good(ask, issuers, family, algorithm):
    answer = ask(issuers.token(family, algorithm))
    assert (answer.status_code, answer.text) == (200, "inside"), answer.text


def forgeries(issuers, family, algorithm):
    """Bad tokens by name. Each differs from a good one in what its name says."""
    make, _ = FAMILIES[family]
    key, claims = issuers.keys[family], json.dumps(issuers.claims(family))
    stranger, kid = make("stranger"), key.get("kid")
    like = make(kid)
    good = issuers.token(family, algorithm)
    head, body, signature = good.split(".")

    def signed(protected, by=key, payload=claims):
        made = jws.JWS(payload)
        made.allowed_algs = [algorithm, "HS256", "HS512"]
        made.add_signature(by, protected["alg"], json.dumps(protected))
        return made.serialize(compact=True)

    def encrypted(payload, **header):
        """A token that only the issuer's public key was needed for."""
        if family == "ed":
            secret = jwk.JWK.generate(kty="oct", size=256)
            made = jwe.JWE(payload, json.dumps({"alg": "dir", "enc": "A256GCM", "kid": kid} | header), recipient=secret)
        else:
            alg = "RSA-OAEP-256" if family == "rsa" else "ECDH-ES"
            made = jwe.JWE(payload, json.dumps({"alg": alg, "enc": "A256GCM", "kid": kid} | header), recipient=jwk.JWK(**key.export_public(as_dict=True)))
        return made.serialize(compact=True)

    pem = key.export_to_pem()
    secrets = {"PEM": pem, "PEM without its last newline": pem.strip(), "JWK": key.export_public().encode()}
    part = lambda data: jwk.base64url_encode(json.dumps(data))  # noqa: E731
    return {
        "none": f"{part({'alg': 'none', 'kid': kid})}.{body}.",
        "none, signature kept": f"{part({'alg': 'none', 'kid': kid})}.{body}.{signature}",
        **{f"HS256 with the public key as {what}": signed({"alg": "HS256", "kid": kid}, jwk.JWK(kty="oct", k=jwk.base64url_encode(secret))) for what, secret in secrets.items()},
        "HS512 with the public key": signed({"alg": "HS512", "kid": kid}, jwk.JWK(kty="oct", k=jwk.base64url_encode(pem))),
        "a kid that is not there": signed({"alg": algorithm, "kid": "nobody"}),
        "another key by its own kid": signed({"alg": algorithm, "kid": "stranger"}, stranger),
        "another key by this kid": signed({"alg": algorithm, "kid": kid}, like),
        "another key without a kid": signed({"alg": algorithm}, stranger),
        "a kid that is a path": signed({"alg": algorithm, "kid": "../../../../dev/null"}, stranger),
        "an embedded key": signed({"alg": algorithm, "jwk": stranger.export_public(as_dict=True)}, stranger),
        "an embedded key by this kid": signed({"alg": algorithm, "kid": kid, "jwk": like.export_public(as_dict=True)}, like),
        "a jku": signed({"alg": algorithm, "kid": "stranger", "jku": f"{issuers.server.url}/stranger"}, stranger),
        "encrypted claims": encrypted(claims),
        "a good token in an encrypted one": encrypted(good, cty="JWT"),
        "a good token in a signed one": signed({"alg": algorithm, "kid": kid, "cty": "JWT"}, payload=good),
        "JSON serialization": json.dumps({"payload": body, "protected": head, "signature": signature}),
        "expired": issuers.token(family, algorithm, exp=int(time.time()) - 120, iat=int(time.time()) - 600),
        "another audience": issuers.token(family, algorithm, aud="somebody"),
        "another issuer of the cluster's": issuers.token(family, algorithm, iss=issuers.named("ec" if family == "rsa" else "rsa")),
        "an issuer that is not the cluster's": issuers.token(family, algorithm, iss="https://evil.example.com"),
    }


@pytest.mark.parametrize(("family", "algorithm"), [("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")])
def test_t40_no_forgery_of_another_library_is_let_in(ask, issuers, family, algorithm):
    let_in = {}
    for name, token in forgeries(issuers, family, algorithm).items():
        answer = ask(token)
        if answer.status_code != 401 or answer.json()["error"]["code"] != "unauthenticated":
            let_in[name] = (answer.status_code, answer.text[:200])
    assert not let_in
    assert ask(issuers.token(family, algorithm)).status_code == 200, "and the good one still is"
    assert not any(path == "/stranger" for path, _ in issuers.server.requests), "nothing is fetched that a token names"


def test_an_algorithm_of_the_family_that_the_operator_has_not_listed_is_refused(ask, issuers):
    for algorithm in ("RS512", "PS384"):
        assert ask(issuers.token("rsa", algorithm)).status_code == 401, algorithm


@pytest.mark.parametrize(("name", "why"), [("down", "can't be reached"), ("private", "private address"), *((name, why) for name, (why, _, _) in TROUBLES.items())])
def test_a_token_whose_keys_cannot_be_fetched_gets_503_and_the_reason(ask, issuers, name, why):
    answer = ask(issuers.token(name, "RS256", issuers.keys["rsa"]))
    error = answer.json()["error"]
    assert answer.status_code == 503 and error["code"] == "unavailable", answer.text
    assert why in error["message"] and issuers.named(name) in error["message"] and error["hint"], answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert not any(secret in answer.text for secret in ("127.0.0.1", "internal-host")), answer.text
    before = len(issuers.server.requests)
    for other in range(20):
        assert ask(issuers.token(name, "RS256", issuers.keys["rsa"], sub=f"other-{other}")).status_code == 503
    assert len(issuers.server.requests) == before, "callers cause no more fetches"
