"""Metrics as a real Prometheus reads them from a cluster of separate processes: promtool accepts what each of them says, the
server's answers match the calls that were made, and dashboards and alerts name nothing that is not there."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time

import httpx
import pytest
import yaml

from harness import guests
from harness.cluster import Cluster, eventually
from harness.logs import PANIC
from harness.paths import BINARIES, REPO, TOOLS, Cli, plain_environment

DEPLOY = REPO / "deploy"
ROLES = ("gateway", "scheduler", "worker")
LISTEN = '[metrics]\nlisten = "127.0.0.1:0"\n'
# Nobody brings a token of it, so that it is never asked.
ISSUER = 'path_addressing = true\n[[oidc]]\nissuer = "https://id.example.com"\naudience = "dunlin"\n'
# A sampled trace of a caller's.
TRACE = "0af7651916cd43dd8448eb211c80319c"
REQUESTS = 'dunlin_gateway_requests_total{{namespace="default",function="{}",status="{}"}}'.format


def promtool(*arguments, stdin=None, cwd=None):
    ran = subprocess.run([TOOLS / "bin/promtool", *map(str, arguments)], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                         capture_output=True, text=True, cwd=cwd, env=plain_environment(), timeout=60)
    assert ran.returncode == 0, f"promtool {' '.join(map(str, arguments))}: {ran.stdout}{ran.stderr}"
    return ran.stdout + ran.stderr


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return probe.getsockname()[1]


class Prometheus:
    """A server with the scrape configuration and the rules of deploy/, but for the addresses and the interval."""

    def __init__(self, folder, targets):
        self.url = f"http://127.0.0.1:{free_port()}"
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": targets[job["job_name"].removeprefix("dunlin-")]}]
        shutil.copy(DEPLOY / "prometheus/dunlin.rules.yml", folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = open(folder / "prometheus.log", "ab")
        command = [TOOLS / "bin/prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb", "--enable-feature=exemplar-storage",
                   f"--web.listen-address={self.url.removeprefix('http://')}"]
        self.process = subprocess.Popen(command, cwd=folder, env=plain_environment(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        eventually(lambda: httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200, seconds=30, what="Prometheus")

    def get(self, path, **parameters):
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def value(self, expression):
        """The one value of an expression; nothing where there is no such series yet."""
        result = self.get("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else None

    def names(self):
        return set(self.get("label/__name__/values"))

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


# Traces are for a collector; whether it is there, whoever reads metrics learns elsewhere.
TRACES = "\n[tracing]\nendpoint = 'http://127.0.0.1:9'\nratio = 0.0\n"


class World:
    """A cluster whose processes serve metrics, and a Prometheus that reads them."""

    def __init__(self, folder):
        for role in ROLES:
            (folder / f"{role}.toml").write_text(ISSUER + LISTEN + TRACES if role == "gateway" else LISTEN)
        configs = [f"--{role}-arg=--config={folder / f'{role}.toml'}" for role in ROLES]
        self.cluster = Cluster(folder / "cluster", *configs, "--gateways", 1, "--workers", 1)
        self.targets = {role: [self.cluster.metrics_of(name)] for role, name in zip(ROLES, ("gateway-1", "scheduler", "worker-1"), strict=True)}
        self.prometheus = Prometheus(folder, self.targets)

    def text(self, role, accept="text/plain"):
        answer = httpx.get(f"http://{self.targets[role][0]}/metrics", headers={"Accept": accept}, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.text

    def stop(self):
        self.prometheus.stop()
        for log in self.cluster.logs():
            assert not PANIC.search(log.read_text(errors="replace")), log
        self.cluster.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("metrics"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def called(world):
    """Functions that have been called this often, by what callers got: one that answers, one that traps, one that lets in nobody."""
    api = world.cluster.api()
    api.deploy("default", "fine", guests.answer("fine"))
    api.deploy("default", "broken", guests.command("(unreachable)"))
    api.deploy("default", "private", guests.answer("secret"), public=False)
    with world.cluster.http() as caller:
        eventually(lambda: caller.get("/default/private/").status_code == 401, seconds=30, what="the functions")
        eventually(lambda: caller.get("/default/broken/").status_code == 502, seconds=30, what="the broken function")
        eventually(lambda: caller.get("/default/fine/").status_code == 200, seconds=30, what="the function")
        # They are counted a moment after their callers have the answers.
        firsts = {REQUESTS("fine", "2xx"), REQUESTS("broken", "5xx"), REQUESTS("private", "4xx")}
        before = eventually(lambda: (page := samples(world.text("gateway"))) and all(page.get(first) for first in firsts) and page, what="the first calls being counted")
        for _ in range(20):
            assert caller.get("/default/fine/", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}).status_code == 200
        for _ in range(5):
            assert caller.get("/default/broken/").status_code == 502
        for _ in range(3):
            assert caller.get("/default/private/").status_code == 401
        assert caller.get("/nowhere/nothing/").status_code == 404
    return before


def samples(text):
    """Every sample of a page, by its name and labels as they are spelled."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def grown(world, before, series):
    return samples(world.text("gateway")).get(series, 0) - before.get(series, 0)


@pytest.mark.parametrize("role", ROLES)
def test_promtool_accepts_what_each_process_says(world, called, role):
    assert promtool("check", "metrics", stdin=world.text(role)) == ""


@pytest.mark.parametrize("role", ROLES)
def test_what_each_process_says_ends_where_openmetrics_ends(world, called, role):
    text = world.text(role, "application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n") and "dunlin_build_info{version=" in text


def test_promtool_accepts_rules_and_configuration():
    promtool("check", "rules", DEPLOY / "prometheus/dunlin.rules.yml")
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")


def test_counts_match_calls(world, called):
    duration = 'dunlin_gateway_request_duration_seconds_count{{namespace="default",function="{}"}}'.format
    for series, count in {
        REQUESTS("fine", "2xx"): 20,
        REQUESTS("broken", "5xx"): 5,
        REQUESTS("private", "4xx"): 3,
        duration("fine"): 20,
        'dunlin_gateway_errors_total{code="function_failed"}': 5,
        'dunlin_gateway_refusals_total{reason="unauthenticated"}': 3,
        'dunlin_gateway_refusals_total{reason="not_found"}': 1,
        'dunlin_gateway_invocations_total{outcome="ok"}': 20,
    }.items():
        eventually(lambda: grown(world, called, series) == count, what=f"{series} grown by {count}")


def test_a_real_prometheus_finds_every_process_and_counts_the_calls(world, called):
    prometheus = world.prometheus
    eventually(lambda: prometheus.value('sum(up{job=~"dunlin-.+"})') == 3, seconds=30, what="three processes scraped")
    expected = samples(world.text("gateway"))['dunlin_gateway_requests_total{namespace="default",function="fine",status="2xx"}']
    query = 'sum(dunlin_gateway_requests_total{namespace="default",function="fine",status="2xx"})'
    eventually(lambda: prometheus.value(query) == expected >= 20, seconds=30, what=query)
    failed = 'sum(dunlin_worker_invocations_failed_total{kind="trap"})'
    eventually(lambda: prometheus.value(failed) >= 5, seconds=30, what=failed)
    # A worker that stands still for a moment is not among them.
    eventually(lambda: prometheus.value("sum(dunlin_scheduler_workers{state='accepting'})") == 1, seconds=30, what="the worker")
    assert prometheus.value("sum(dunlin_worker_guest_cpu_seconds_total)") > 0


def test_a_slow_bucket_leads_to_a_trace(world, called):
    def traces():
        found = world.prometheus.get("query_exemplars", query="dunlin_gateway_request_duration_seconds_bucket", start=time.time() - 600, end=time.time() + 60)
        return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

    eventually(lambda: TRACE in traces(), seconds=30, what="the trace as an exemplar")


def test_every_alert_can_be_evaluated(world, called):
    def unhealthy():
        rules = [rule for group in world.prometheus.get("rules")["groups"] for rule in group["rules"]]
        assert len(rules) >= 15
        return [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]

    eventually(lambda: not unhealthy(), seconds=30, what="every alert evaluated")
    firing = [alert["labels"]["alertname"] for alert in world.prometheus.get("alerts")["alerts"] if alert["state"] == "firing"]
    assert not {"DunlinNoWorkers", "DunlinProcessDown", "DunlinDatabaseDown"} & set(firing), firing


def metrics_in(expression):
    """The names of metrics in an expression: what is of ours, of processes in general, or Prometheus's own `up`."""
    return set(re.findall(r"\b(?:dunlin_[a-z_]+|process_[a-z_]+|up)\b(?=[{\[ )\n]|$)", re.sub(r'"[^"]*"', '""', expression)))


def expressions():
    rules = yaml.safe_load((DEPLOY / "prometheus/dunlin.rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for file in sorted((DEPLOY / "grafana").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{file.name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{file.name}: ${variable['name']}", variable["query"].removeprefix("label_values(").rpartition(",")[0]


def test_dashboards_and_alerts_name_nothing_that_is_not_there(world, called):
    eventually(lambda: world.prometheus.value('sum(up{job=~"dunlin-.+"})') == 3, seconds=30, what="three processes scraped")
    known, missing = world.prometheus.names(), []
    for where, expression in expressions():
        named = metrics_in(expression)
        assert named, f"{where} names no metric: {expression}"
        missing += [f"{where}: {name}" for name in sorted(named - known)]
    assert not missing, "\n".join(missing)


def test_every_panel_is_a_query_that_prometheus_understands(world, called):
    for where, expression in expressions():
        for variable, value in {"$__rate_interval": "1m", "$namespace": ".*", "$function": ".*", "$instance": ".*"}.items():
            expression = expression.replace(variable, value)
        answer = httpx.get(f"{world.prometheus.url}/api/v1/query", params={"query": expression}, trust_env=False)
        assert answer.status_code == 200, f"{where}: {expression}: {answer.text}"


def test_names_have_units_and_are_ours(world, called):
    for role in ROLES:
        families = re.findall(r"^# TYPE (\S+) (\S+)$", world.text(role), re.M)
        assert len(families) == len({name for name, _ in families}), "a family appears twice"
        for name, kind in families:
            assert name.startswith((f"dunlin_{role}_", "dunlin_build_info", "process_")), name
            assert (kind == "counter") == name.endswith("_total"), name


def test_on_the_administration_port_only_operators_read_metrics(world, called):
    with world.cluster.rest() as operator:
        page = operator.get("/metrics")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'dunlin_gateway_requests_total{namespace="default",function="fine",status="2xx"}' in page.text
    with world.cluster.rest(token="") as nobody:
        assert nobody.get("/metrics").status_code == 401


def test_an_address_beyond_loopback_must_be_meant(tmp_path):
    config = tmp_path / "worker.toml"
    config.write_text('[metrics]\nlisten = "0.0.0.0:0"\n')
    command = [BINARIES / "dunlin-worker", "--config", config, "--data-dir", tmp_path / "data"]
    ran = subprocess.run(command, env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert ran.returncode != 0 and "metrics.allow_remote = true" in ran.stderr, ran.stderr


def test_up_shows_all_three_roles_at_one_address(tmp_path):
    functions, admin = free_port(), free_port()
    command = [BINARIES / "dunlin", "up", "--no-sample", "--data-dir", tmp_path / "data", "--functions", f"127.0.0.1:{functions}", "--admin", f"127.0.0.1:{admin}"]
    scrapes = f"127.0.0.1:{free_port()}"
    environment = plain_environment(HOME=str(tmp_path), DUNLIN_UP_GATEWAY__METRICS__LISTEN=scrapes)
    with open(tmp_path / "up.log", "wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        def page():
            text = httpx.get(f"http://{scrapes}/metrics", trust_env=False).text
            return text if "dunlin_scheduler_ready 1" in text and "dunlin_worker_capacity " in text and "dunlin_gateway_sessions " in text else None

        text = eventually(page, seconds=30, what="metrics of all three roles")
        assert promtool("check", "metrics", stdin=text) == ""
        assert text.count("# TYPE process_cpu_seconds_total ") == 1
        token = Cli(tmp_path, f"http://127.0.0.1:{admin}").ok("token", "create", "--role", "operator").out.strip()
        page = httpx.get(f"http://127.0.0.1:{admin}/metrics", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert page.status_code == 200 and "dunlin_worker_capacity " in page.text, page.text[:200]
    finally:
        process.terminate()
        process.wait(40)


def test_the_alerts_fire_when_they_should(tmp_path):
    """promtool plays some hours of a cluster that loses its worker, then its calls, and then whoever it tells."""
    rules = yaml.safe_load((DEPLOY / "prometheus/dunlin.rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        # What people read is not compared.
        rule.pop("annotations")
    (tmp_path / "dunlin.rules.yml").write_text(yaml.safe_dump(rules))
    labels = {"severity": "critical"}
    case = {
        "rule_files": ["dunlin.rules.yml"],
        "evaluation_interval": "15s",
        "tests": [{
            "interval": "15s",
            "input_series": [
                {"series": 'dunlin_scheduler_workers{state="accepting",job="dunlin-scheduler",instance="s"}', "values": "1x20 0x40"},
                {"series": 'up{job="dunlin-worker",instance="w"}', "values": "1x20 0x40"},
                {"series": 'dunlin_gateway_requests_total{namespace="shop",function="pay",status="2xx",job="dunlin-gateway",instance="g"}', "values": "0+100x20 2000x40"},
                {"series": 'dunlin_gateway_requests_total{namespace="shop",function="pay",status="5xx",job="dunlin-gateway",instance="g"}', "values": "0x20 0+100x40"},
                {"series": 'dunlin_scheduler_webhook_deliveries_total{outcome="given_up",job="dunlin-scheduler",instance="s"}', "values": "0x20 0+1x40"},
                {"series": 'dunlin_scheduler_webhook_deliveries_total{outcome="delivered",job="dunlin-scheduler",instance="s"}', "values": "0+1x20 20x600"},
                {"series": 'dunlin_scheduler_webhook_events_pending{job="dunlin-scheduler",instance="s"}', "values": "3x620"},
            ],
            "alert_rule_test": [
                {"eval_time": "4m", "alertname": "DunlinNoWorkers", "exp_alerts": []},
                {"eval_time": "8m", "alertname": "DunlinNoWorkers", "exp_alerts": [{"exp_labels": labels}]},
                {"eval_time": "8m", "alertname": "DunlinProcessDown", "exp_alerts": [{"exp_labels": labels | {"job": "dunlin-worker", "instance": "w"}}]},
                {"eval_time": "5m", "alertname": "DunlinFunctionFails", "exp_alerts": []},
                {"eval_time": "14m", "alertname": "DunlinFunctionFails", "exp_alerts": [{"exp_labels": {"severity": "warning", "namespace": "shop", "function": "pay"}}]},
                {"eval_time": "4m", "alertname": "DunlinWebhookEventsGivenUp", "exp_alerts": []},
                {"eval_time": "14m", "alertname": "DunlinWebhookEventsGivenUp", "exp_alerts": [{"exp_labels": {"severity": "warning"}}]},
                {"eval_time": "60m", "alertname": "DunlinWebhooksReachNobody", "exp_alerts": []},
                {"eval_time": "140m", "alertname": "DunlinWebhooksReachNobody", "exp_alerts": [{"exp_labels": {"severity": "warning"}}]},
            ],
        }],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(case))
    promtool("test", "rules", "test.yml", cwd=tmp_path)
