"""Who gets in: tokens and keys, good and forged, at both doors. Ids are those of the threats."""

import json
import time
import uuid

import httpx
import pytest

from harness import guests, tokens
from harness.api import ApiError
from harness.cluster import eventually
from harness.servers import Issuer

GRANTS = [{"role": "operator"}]


@pytest.fixture(scope="module")
def key(cluster):
    return tokens.cluster_key(cluster.folder)


@pytest.fixture
def private(api, namespace, caller):
    """The path of a private function."""
    api.deploy(namespace, "private", guests.answer("inside"), public=False)
    eventually(lambda: caller.get(f"/{namespace}/private/").status_code == 401, what="the private function")
    return f"/{namespace}/private/"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def assert_refused(answer, *statuses, asks="bearer"):
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text}"
    error = answer.json()["error"]
    assert error["message"] and error["request_id"], error
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].lower().startswith(asks)


def test_a_good_token_opens_each_door(cluster, key, namespace, private, caller):
    """The control for everything below: forgeries differ from these in one thing each."""
    admin = tokens.sign(tokens.claims("dunlin-admin", grants=GRANTS), *key)
    assert cluster.rest(admin).get("/api/v1/cluster").status_code == 200
    assert cluster.api(admin).call("TokenService.GetIdentity")["subject"] == "e2e"
    call = tokens.sign(tokens.claims(f"dunlin:{namespace}"), *key)
    assert caller.get(private, headers=bearer(call)).text == "inside"


def test_t40_t41_t42_no_forgery_opens_administration(cluster, key):
    with cluster.rest("") as client:
        let_in = {}
        for name, token in tokens.forgeries(*key, "dunlin-admin", grants=GRANTS).items():
            answer = client.get("/api/v1/cluster", headers={"Authorization": f"Bearer {token}"})
            if answer.status_code not in (401, 431, 400):
                let_in[name] = answer.status_code
        assert not let_in
        assert_refused(client.get("/api/v1/cluster"), 401)


def test_t40_t41_t42_no_forgery_opens_a_private_function(key, namespace, private, caller):
    let_in = {}
    for name, token in tokens.forgeries(*key, f"dunlin:{namespace}", scope="anything").items():
        answer = caller.get(private, headers=bearer(token))
        if answer.status_code not in (401, 431, 400):
            let_in[name] = (answer.status_code, answer.text[:100])
    assert not let_in
    assert_refused(caller.get(private), 401)


def test_t40_no_forgery_opens_the_grpc_api(cluster, key):
    with pytest.raises(ApiError) as nobody:
        cluster.api("").call("TokenService.GetIdentity")
    assert nobody.value.reason == "unauthenticated"
    forged = tokens.forgeries(*key, "dunlin-admin", grants=GRANTS)
    for name in ("alg none", "HS256 with the public key, PEM", "another key, this kid", "expired", "no audience of ours"):
        with pytest.raises(ApiError) as refused:
            cluster.api(forged[name]).call("TokenService.GetIdentity")
        assert refused.value.reason == "unauthenticated" and refused.value.message, name


def test_each_audience_is_refused_at_the_other_door(cluster, key, namespace, private, caller):
    admin = tokens.sign(tokens.claims("dunlin-admin", grants=GRANTS), *key)
    call = tokens.sign(tokens.claims(f"dunlin:{namespace}", grants=GRANTS), *key)
    elsewhere = tokens.sign(tokens.claims("dunlin:other"), *key)
    both = tokens.sign(tokens.claims(["dunlin-admin", f"dunlin:{namespace}"], grants=GRANTS), *key)
    assert_refused(caller.get(private, headers=bearer(admin)), 401, 403)
    assert_refused(caller.get(private, headers=bearer(elsewhere)), 401, 403)
    assert_refused(cluster.rest(call).get("/api/v1/cluster"), 401)
    assert not (cluster.rest(both).get("/api/v1/cluster").status_code == 200 and caller.get(private, headers=bearer(both)).status_code == 200), \
        "no token is good for both"


@pytest.mark.parametrize("header", ["Bearer", "Basic dXNlcjpwYXNz", "bearer x", "Bearer a b", "Token x"])
def test_other_authorization_headers_are_refused_clearly(private, caller, header):
    assert_refused(caller.get(private, headers={"Authorization": header}), 401, 400)


# Another issuer.


def foreign(issuer, kid="first", key=None, audience=Issuer.AUDIENCE, **changes):
    changes = {"iss": issuer.url, "dunlin_grants": ["operator"]} | changes
    return tokens.sign(tokens.claims(audience, **changes), key or issuer.keys[kid], kid, "RS256")


def test_an_oidc_issuers_tokens_are_good_for_what_they_grant(cluster, issuer, namespace, private, caller, secrets_seen):
    assert cluster.rest(foreign(issuer)).get("/api/v1/cluster").status_code == 200
    viewer = foreign(issuer, dunlin_grants=[f"{namespace}:viewer"])
    assert cluster.rest(viewer).get("/api/v1/cluster").status_code == 403
    assert cluster.api(viewer).call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/private")["function"]["name"]
    call = foreign(issuer, audience=f"{issuer.AUDIENCE}-calls", namespace=namespace)
    assert caller.get(private, headers=bearer(call)).text == "inside"
    for wrong in (foreign(issuer, audience=f"{issuer.AUDIENCE}-calls", namespace="other"), foreign(issuer), foreign(issuer, audience="dunlin:" + namespace)):
        assert_refused(caller.get(private, headers=bearer(wrong)), 401, 403)
    secrets_seen += [viewer, call]


def test_a_route_demands_scopes_and_claims(api, cli, issuer, namespace, private, caller, secrets_seen):
    """The tokens are PyJWT's, the demands the route's."""
    cli.ok("route", "add", "orders", "/orders", "--function", "private", "--auth", "jwt", "--scope", "orders:read", "--scope", "orders:list", "--claim", "role=clerk", "--claim", "role=owner",
        "--issuer", issuer.url, "-n", namespace)
    path = f"/{namespace}/orders"
    good = {"scope": "orders:list profile orders:read", "role": ["guest", "owner"]}

    def answer(**changes):
        token = foreign(issuer, audience=f"{issuer.AUDIENCE}-calls", namespace=namespace, **(good | changes))
        secrets_seen.append(token)
        return caller.get(path, headers=bearer(token))

    eventually(lambda: answer().text == "inside", what="the route")
    assert answer(scope=None, scp=["orders:read", "orders:list"], role="clerk").text == "inside"
    for changes in ({"scope": "orders:read"}, {"scope": "ORDERS:READ ORDERS:LIST"}, {"scope": ""}, {"scope": None}):
        refused = answer(**changes)
        assert_refused(refused, 403)
        assert 'error="insufficient_scope", scope="orders:list orders:read"' in refused.headers["www-authenticate"]
    for changes in ({"role": "guest"}, {"role": None}, {"role": {"clerk": True}}, {"role": []}):
        assert_refused(answer(**changes), 403)
    # The cluster's own tokens are of another issuer.
    assert shown(cli, namespace)["token"]["scopes"] == ["orders:list", "orders:read"]


def shown(cli, namespace):
    return next(route for route in json.loads(cli.ok("route", "list", "-n", namespace, "-o", "json").out) if route["name"] == "orders")


def test_a_route_for_keys_takes_no_tokens(api, cli, key, namespace, new_key, private, caller):
    cli.ok("route", "add", "keyed", "/keyed", "--function", "private", "--auth", "key", "-n", namespace)
    path, (_, secret) = f"/{namespace}/keyed", new_key()
    eventually(lambda: caller.get(path, headers={"X-Api-Key": secret}).text == "inside", what="the route")
    assert_refused(caller.get(path, headers=bearer(tokens.sign(tokens.claims(f"dunlin:{namespace}"), *key))), 401, asks="apikey")


def test_an_oidc_issuers_forgeries_are_refused(cluster, issuer, key):
    public = tokens.public_pem(issuer.keys["first"])
    good = tokens.claims(Issuer.AUDIENCE, iss=issuer.url, dunlin_grants=["operator"])
    bad = {
        "HS256 with its public key": tokens.hmac_confusion(good, "first", public),
        "another algorithm of the family": tokens.sign(good, issuer.keys["first"], "first", "PS256"),
        "the cluster's key": tokens.sign(good, key[0], key[1]),
        "the cluster's audience": foreign(issuer, audience="dunlin-admin"),
        "the cluster's name": foreign(issuer, iss="dunlin"),
        "its address with a slash": foreign(issuer, iss=issuer.url + "/"),
        "expired": foreign(issuer, exp=int(time.time()) - 120),
        "no grants": foreign(issuer, dunlin_grants=None),
        "grants of another type": foreign(issuer, dunlin_grants="operator operator"),
        "an unknown role": foreign(issuer, dunlin_grants=["emperor"]),
        "none": tokens.by_hand({"alg": "none", "kid": "first"}, str(good)),
    }
    let_in = {name: code for name, token in bad.items() if (code := cluster.rest(token).get("/api/v1/cluster").status_code) not in (401, 403)}
    assert not let_in


def test_grants_in_a_call_token_are_worth_nothing(cluster, key, namespace):
    token = tokens.sign(tokens.claims(f"dunlin:{namespace}", grants=GRANTS), *key)
    with httpx.Client(base_url=cluster.admin, trust_env=False) as client:
        assert client.get("/api/v1/cluster", headers=bearer(token)).status_code == 401


# Roles.


def token_for(api, secrets_seen, grants, **more):
    made = api.call("TokenService.CreateToken", subject="role", purpose="TOKEN_PURPOSE_ADMINISTRATION", grants=grants, **more)["token"]
    secrets_seen.append(made)
    return made


def test_t46_a_role_does_what_it_may_in_its_namespace_and_nothing_elsewhere(cluster, api, namespace, secrets_seen):
    other = "t-" + uuid.uuid4().hex[:8]
    api.call("NamespaceService.CreateNamespace", namespace_id=other)
    for name in (namespace, other):
        api.deploy(name, "fn", guests.answer("x"))
    wasm = guests.answer("mine")
    doing = {
        "read": lambda a, n: a.call("FunctionService.GetFunction", name=f"namespaces/{n}/functions/fn"),
        "list keys": lambda a, n: a.call("KeyService.ListKeys", parent=f"namespaces/{n}"),
        "records": lambda a, n: a.call("InvocationService.ListInvocations", parent=f"namespaces/{n}"),
        "logs": lambda a, n: list(a.stream("LogService.ReadLogs", parent=f"namespaces/{n}")),
        "upload": lambda a, n: a.upload(n, wasm),
        "invoke": lambda a, n: a.call("InvocationService.Invoke", name=f"namespaces/{n}/functions/fn"),
        "update": lambda a, n: a.call("FunctionService.UpdateFunction", function={"name": f"namespaces/{n}/functions/fn", "description": "d"}, update_mask="description"),
        "make a key": lambda a, n: a.call("KeyService.CreateKey", parent=f"namespaces/{n}", display_name="k"),
        "call token": lambda a, n: a.call("TokenService.CreateToken", subject="s", purpose="TOKEN_PURPOSE_CALL", parent=f"namespaces/{n}"),
        "cluster": lambda a, n: a.call("ClusterService.GetCluster"),
        "make a namespace": lambda a, n: a.call("NamespaceService.CreateNamespace", namespace_id="t-" + uuid.uuid4().hex[:8]),
        "become operator": lambda a, n: a.call("TokenService.CreateToken", subject="s", purpose="TOKEN_PURPOSE_ADMINISTRATION", grants=[{"role": "ROLE_OPERATOR"}]),
    }
    reading, writing, managing = {"read", "list keys", "records", "logs"}, {"upload", "invoke", "update"}, {"make a key", "call token"}
    may = {"ROLE_VIEWER": reading, "ROLE_DEVELOPER": reading | writing, "ROLE_ADMIN": reading | writing | managing}
    wrong = []
    for role, allowed in may.items():
        mine = cluster.api(token_for(api, secrets_seen, [{"namespace": namespace, "role": role}]))
        for what, do in doing.items():
            for where, expected in ((namespace, what in allowed), (other, False)):
                try:
                    do(mine, where)
                    outcome = "ok"
                except ApiError as error:
                    outcome = error.reason
                right = ("ok",) if expected else ("permission_denied",) if where == namespace else ("permission_denied", "not_found")
                if outcome not in right:
                    wrong.append(f"{role} {what} in {'its own' if where == namespace else 'another'} namespace: {outcome}")
    assert not wrong, "\n".join(wrong)


def test_a_token_grants_no_more_than_its_makers(cluster, api, namespace, secrets_seen):
    admin = cluster.api(token_for(api, secrets_seen, [{"namespace": namespace, "role": "ROLE_ADMIN"}]))
    token_for(admin, secrets_seen, [{"namespace": namespace, "role": "ROLE_DEVELOPER"}])
    for grants in ([{"role": "ROLE_OPERATOR"}], [{"namespace": "other", "role": "ROLE_VIEWER"}]):
        with pytest.raises(ApiError) as refused:
            token_for(admin, secrets_seen, grants)
        assert refused.value.reason in ("permission_denied", "not_found")
    with pytest.raises(ApiError) as long:
        token_for(api, secrets_seen, [{"role": "ROLE_OPERATOR"}], lifetime="90000s")
    assert long.value.reason == "invalid_argument" and long.value.field == "lifetime"


# Keys.


@pytest.fixture
def new_key(api, namespace, secrets_seen):
    def make(**more):
        made = api.call("KeyService.CreateKey", parent=f"namespaces/{namespace}", display_name="test", **more)
        secrets_seen.append(made["secret"])
        return made["key"], made["secret"]

    return make


def test_a_key_opens_its_namespaces_functions_until_it_is_revoked(cluster, api, new_key, private, caller):
    key, secret = new_key()
    assert secret.startswith("dk_") and secret.startswith(key["prefix"])
    eventually(lambda: caller.get(private, headers={"X-Api-Key": secret}).text == "inside", what="the key by X-Api-Key")
    assert caller.get(private, headers=bearer(secret)).text == "inside"
    listed = api.call("KeyService.ListKeys", parent=key["name"].partition("/keys/")[0])["keys"]
    assert secret not in str(listed) and listed[0]["name"] == key["name"]
    assert_refused(cluster.rest(secret).get("/api/v1/cluster"), 401)
    api.call("KeyService.RevokeKey", name=key["name"])
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            eventually(lambda: client.get(private, headers={"X-Api-Key": secret}).status_code == 401, what="the revocation")


def test_a_rotated_key_has_two_secrets_until_the_old_one_ends(cluster, api, new_key, private, namespace, cli, secrets_seen):
    key, old = new_key()
    bare = key["name"].rpartition("/")[2]
    run = lambda *arguments: cli.ok("-n", namespace, "key", *arguments)  # noqa: E731

    def everywhere(secret, status, what):
        for gateway in (0, 1):
            with cluster.http(gateway) as client:
                eventually(lambda: client.get(private, headers={"X-Api-Key": secret}).status_code == status, what=what)

    everywhere(old, 200, "the key")
    new = run("rotate", bare, "--overlap", "1h").out.strip()
    secrets_seen.append(new)
    assert new.startswith(key["prefix"]) and new != old
    everywhere(new, 200, "the new secret")
    everywhere(old, 200, "the old secret")
    assert "valid, old secret until 20" in run("list").out
    with pytest.raises(ApiError) as early:
        api.call("KeyService.RotateKey", name=key["name"])
    assert early.value.reason == "failed_precondition" and "still valid" in early.value.message
    run("rotate", bare, "--finish")
    everywhere(old, 401, "the old secret's end")
    everywhere(new, 200, "the new secret")
    newest = run("rotate", bare, "--overlap", "0s").out.strip()
    secrets_seen.append(newest)
    everywhere(newest, 200, "the newest secret")
    everywhere(new, 401, "the end of the one before")
    newer = api.call("KeyService.RotateKey", name=key["name"], overlap="2s")["secret"]
    secrets_seen.append(newer)
    everywhere(newer, 200, "a fourth secret")
    everywhere(newest, 401, "the end of the third by itself")
    with pytest.raises(ApiError) as long:
        api.call("KeyService.RotateKey", name=key["name"], overlap="2592001s")
    assert long.value.reason == "invalid_argument" and long.value.field == "overlap"


def test_unknown_damaged_expired_and_foreign_keys_are_refused(api, new_key, namespace, private, caller):
    _, secret = new_key()
    eventually(lambda: caller.get(private, headers={"X-Api-Key": secret}).status_code == 200, what="the key")
    changed = secret[:-10] + ("A" if secret[-10] != "A" else "B") + secret[-9:]
    for wrong in (changed, secret[:-1], secret + "0", secret.upper(), "dk_", "dk__", "dk_a_b_c", "x", "", "dk_" + "a" * 12 + "_" + "b" * 43 + "_000000", "dk_\u00e9".encode("latin-1")):
        assert_refused(caller.get(private, headers={"X-Api-Key": wrong}), 401)
    _, short = new_key(lifetime="1s")
    time.sleep(2.5)
    assert_refused(caller.get(private, headers={"X-Api-Key": short}), 401)
    other = "t-" + uuid.uuid4().hex[:8]
    api.call("NamespaceService.CreateNamespace", namespace_id=other)
    api.deploy(other, "private", guests.answer("theirs"), public=False)
    eventually(lambda: caller.get(f"/{other}/private/").status_code == 401, what="the other function")
    assert_refused(caller.get(f"/{other}/private/", headers={"X-Api-Key": secret}), 401, 403)


def test_a_key_for_some_functions_opens_those_alone(api, new_key, namespace, private, caller):
    api.deploy(namespace, "other", guests.answer("other"), public=False)
    _, secret = new_key(functions=["other"])
    eventually(lambda: caller.get(f"/{namespace}/other/", headers={"X-Api-Key": secret}).text == "other", what="the key")
    assert_refused(caller.get(private, headers={"X-Api-Key": secret}), 403)


def test_of_two_credentials_the_key_decides(new_key, private, caller):
    _, secret = new_key()
    eventually(lambda: caller.get(private, headers={"X-Api-Key": secret}).status_code == 200, what="the key")
    assert caller.get(private, headers={"X-Api-Key": secret, "Authorization": "Bearer nonsense"}).status_code == 200
    assert_refused(caller.get(private, headers={"X-Api-Key": "nonsense", "Authorization": f"Bearer {secret}"}), 401)


def test_a_credential_that_the_gateway_consumed_never_reaches_the_guest(api, namespace, new_key, key, call_when_ready, caller):
    api.deploy(namespace, "private-env", guests.ENVIRONMENT, public=False)
    _, secret = new_key()
    token = tokens.sign(tokens.claims(f"dunlin:{namespace}"), *key)
    for headers in ({"X-Api-Key": secret}, bearer(secret), bearer(token)):
        answer = eventually(lambda: (a := caller.get(f"/{namespace}/private-env/", headers=headers | {"X-Other": "kept"})).status_code == 200 and a, what="the function")
        assert secret not in answer.text and token not in answer.text and "AUTHORIZATION" not in answer.text and "API_KEY" not in answer.text
        assert "HTTP_X_OTHER=kept" in answer.text
    forged = {"dunlin-principal": "root", "dunlin-claims": "{}", "dunlin-key": "root"}
    by_token = caller.get(f"/{namespace}/private-env/", headers=bearer(token) | forged).text.split("\0")
    assert "HTTP_DUNLIN_PRINCIPAL=e2e" in by_token and not any(line.startswith("HTTP_DUNLIN_KEY=") for line in by_token)
    claims = next(line.partition("=")[2] for line in by_token if line.startswith("HTTP_DUNLIN_CLAIMS="))
    assert json.loads(claims)["aud"] == f"dunlin:{namespace}"
    by_key = caller.get(f"/{namespace}/private-env/", headers=bearer(secret) | forged).text.split("\0")
    assert any(line.startswith("HTTP_DUNLIN_KEY=") and line[16:] in secret for line in by_key) and not any("root" in line for line in by_key if "DUNLIN" in line)
    api.deploy(namespace, "public-env", guests.ENVIRONMENT, public=True)
    answer = call_when_ready(f"/{namespace}/public-env/", headers={"Authorization": "Bearer the-functions-own"})
    assert "HTTP_AUTHORIZATION=Bearer the-functions-own" in answer.text, "a public function does its own authentication"


# Keys of the other issuer that change: last, since the gateway asks for them no more than once in half a minute.


@pytest.mark.timeout(120)
def test_t43_a_rotated_key_is_found(cluster, issuer):
    issuer.rotate("second")
    token = foreign(issuer, "second")
    eventually(lambda: cluster.rest(token).get("/api/v1/cluster").status_code == 200, seconds=60, every=1, what="the new key being known")


def test_t41_unknown_kids_do_not_make_the_gateway_ask_its_issuer_over_and_over(cluster, issuer):
    before = issuer.key_fetches()
    with cluster.rest("") as client:
        for i in range(200):
            assert client.get("/api/v1/cluster", headers=bearer(foreign(issuer, f"kid-{i}", next(iter(issuer.keys.values()))))).status_code == 401
    assert issuer.key_fetches() - before <= 2
