"""Domains that namespaces prove by a record in the DNS: who gets one, when, and what is said until then."""

import pytest
from conftest import new_namespace

from harness.cluster import Cluster, eventually
from harness.paths import Cli
from harness.servers import NameServer

SCHEDULER = """
[domains]
dns_servers = ["{address}"]
"""


class World:
    """A cluster that asks a DNS server of ours."""

    def __init__(self, folder):
        self.names = NameServer()
        (folder / "scheduler.toml").write_text(SCHEDULER.format(address=self.names.address))
        (folder / "gateway.toml").write_text('path_addressing = true\ndomain = "fn.localhost"\n')
        self.cluster = Cluster(folder / "cluster", f"--scheduler-arg=--config={folder / 'scheduler.toml'}", f"--gateway-arg=--config={folder / 'gateway.toml'}", "--workers", 1)
        self.cli, self.api = Cli(folder, self.cluster.admin, self.cluster.token), self.cluster.api()

    def add(self, namespace, domain, *options):
        return self.cli.ok("-n", namespace, "domain", "add", domain, "-o", "json", *options).json["proof"]

    def proof(self, namespace, domain):
        return self.cli.ok("-n", namespace, "domain", "show", domain, "-o", "json").json["proof"]

    def says(self, namespace, domain, words):
        self.add(namespace, domain)
        return eventually(lambda: words in (proof := self.proof(namespace, domain))["error"] and proof["state"] == "pending" and proof, what=words)

    def served(self, domain):
        with self.cluster.http() as client:
            return client.get("/", headers={"Host": domain}).text == "served"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("domains"))
    yield made
    made.cluster.stop()
    made.names.close()


def test_a_domain_is_served_once_its_record_is_there_and_not_before(world):
    shop, domain = new_namespace(world.api), "shop.example"
    record = f"_dunlin-challenge.{domain}"
    proof = world.add(shop, domain)
    assert (proof["state"], proof["record_name"]) == ("pending", record) and len(proof["record_text"]) == 43
    added = world.cli.ok("-n", shop, "route", "add", "root", "/", "--respond", "served", "--host", domain)
    assert f"once the domain {domain} is proved" in added.err, added
    world.says(shop, domain, f"there is no TXT record {record}")
    for texts, words in [
        (["something else"], 'has another text: "something else"'),
        (["x" * 1000], 'has another text: "xxxx'),
        (2, f"does not tell the TXT record {record}"),
        ([], "there is no TXT record"),
    ]:
        world.names.texts[record] = texts
        world.says(shop, domain, words)
    assert not world.served(domain)
    # By an alias, among others.
    world.names.texts |= {record: "records.example", "records.example": ["v=spf1 -all", proof["record_text"]]}
    assert world.add(shop, domain)["record_text"] == proof["record_text"], "the record may stay"
    proved = eventually(lambda: (proof := world.proof(shop, domain))["state"] == "proved" and proof, what="the proof")
    assert proved["kind"] == "dns"
    eventually(lambda: world.served(domain), what="the route")
    log = world.api.call("AuditService.ListAuditEntries", parent=f"namespaces/{shop}")["entries"]
    assert "domain.prove" in [entry["action"] for entry in log]


def test_of_two_that_ask_the_one_that_proves_it_has_it(world):
    squatter, owner = new_namespace(world.api), new_namespace(world.api)
    record = "_dunlin-challenge.race.example"
    theirs, own = world.add(squatter, "race.example"), world.add(owner, "race.example")
    assert theirs["record_text"] != own["record_text"]
    # The one with the record steps back, else its proof may come before the other has looked.
    world.cli.ok("-n", owner, "domain", "remove", "race.example", "--yes")
    world.names.texts[record] = [own["record_text"]]
    world.says(squatter, "race.example", "has another text")
    assert world.add(owner, "race.example")["record_text"] == own["record_text"]
    eventually(lambda: world.proof(owner, "race.example")["state"] == "proved", what="the proof")
    eventually(lambda: "belongs to another namespace" in world.proof(squatter, "race.example")["error"], what="the other hearing of it")
    ran = world.cli("-n", squatter, "domain", "add", "x.race.example")
    assert ran.code == 7 and "belongs to another namespace" in ran.err and owner not in ran.err, ran
    # What lies below needs no record.
    assert world.add(owner, "x.race.example")["kind"] == "parent"


def test_an_operator_vouches_and_nobody_else(world):
    shop = new_namespace(world.api)
    token = world.api.call("TokenService.CreateToken", subject="zoe", purpose="TOKEN_PURPOSE_ADMINISTRATION",
                           grants=[{"namespace": shop, "role": "ROLE_ADMIN"}])["token"]
    with world.cluster.rest(token) as client:
        refused = client.post(f"/api/v1/namespaces/{shop}/domains", json={"domain": "vouched.test", "vouch": True})
    assert refused.status_code == 403, refused.text
    assert world.add(shop, "vouched.test", "--vouch")["kind"] == "vouched"
