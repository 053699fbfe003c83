"""What asking took is counted, sampled and summed; servers' own metrics are read where there are any."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
import urllib.request
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from reinstruct.commit import Count
from reinstruct.container import main
from reinstruct.errors import RecipeError
from reinstruct.llm import Reply
from reinstruct.metrics import serve_metrics
from reinstruct.server_metrics import ServerUse, ServerWatch, read_metrics, together
from reinstruct.usage import POINTS, Meter, Point, Recorder, Usage, summed
from reinstruct.worker import Progress

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} 30.0
vllm:num_requests_running{{engine="1",model_name="m"}} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="m"}} 5.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} 0.25
vllm:kv_cache_usage_perc{{engine="1",model_name="m"}} 0.5
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{{engine="0",model_name="m"}} {queries}
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{{engine="0",model_name="m"}} 1.7e9
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{{engine="0",model_name="m"}} {hits}
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="m"}} {tokens}
# TYPE vllm:request_success_total counter
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="m"}} 12.0
"""


class MetricsServer:
    """Answers /metrics with the pages it was given, one after the other, and 404 when there are no more."""

    def __init__(self, *pages: str) -> None:
        left, self.paths = list(pages), []
        paths = self.paths

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                paths.append(self.path)
                self.send_response(200 if left else 404)
                self.end_headers()
                self.wfile.write(left.pop(0).encode() if left else b"no")

            def log_message(self, *args):
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


def test_what_vllm_tells_is_read():
    found = read_metrics(VLLM.format(queries=1000, hits=400, tokens=7))
    assert found == {
        "running": 32.0,
        "waiting": 5.0,
        "cache": 0.5,
        "prefix_queries": 1000.0,
        "prefix_hits": 400.0,
        "tokens": 7.0,
    }


@pytest.mark.parametrize("text", ["", "<html>", "up 1\n", "vllm:x{", '{"error": 404}'])
def test_what_is_no_metrics_of_vllm_is_nothing(text: str):
    assert read_metrics(text) == {}


def test_counters_are_told_by_their_growth():
    pages = [VLLM.format(queries=1000, hits=900, tokens=100), VLLM.format(queries=1500, hits=1000, tokens=300)]
    times = iter([10.0, 20.0])
    with MetricsServer(*pages) as server:
        watch = ServerWatch(lambda: next(times))
        for _ in pages:
            watch.look([server.url])
    use = watch.seen()
    assert (use.looks, use.running, use.waiting, use.most_waiting, use.fullest_cache) == (2, 32.0, 5.0, 5, 0.5)
    assert (use.prefix_hit_rate, use.tokens_per_s) == (0.2, 20.0)
    assert server.paths == ["/metrics"] * 2


def test_a_server_without_metrics_is_left_in_peace():
    with MetricsServer() as server:
        watch = ServerWatch()
        for _ in range(3):
            watch.look([server.url, "http://127.0.0.1:9/v1"])
    assert watch.seen() is None
    assert server.paths == ["/metrics"]


def test_what_shards_saw_is_put_together():
    one, other = ServerUse(1, 10, 4, 0, 1, 0.2, 0.3, 10, 100), ServerUse(3, 10, 8, 2, 5, 0.4, 0.9, 90, 100)
    both = together([one, other])
    assert (both.running, both.most_waiting, both.cache, both.fullest_cache) == (7.0, 5, 0.35, 0.9)
    assert both.prefix_hit_rate == 0.5
    assert together([]) is None


@dataclass
class Counts:
    calls: int = 0
    in_flight: int = 0
    retries: dict = field(default_factory=dict)
    replicas: tuple = ()

    def snapshot(self):
        return replace(self, retries=dict(self.retries))


@dataclass
class Client:
    stats: Counts = field(default_factory=Counts)


def test_found_and_asked_replies_are_told_apart():
    now = [100.0]
    client = Client(Counts(calls=7, retries={"timed_out": 1}))
    meter = Meter("m", client, lambda: now[0])
    meter.found(Reply("a", "stop", 5, 6))
    for _ in range(3):
        meter.handed()
    now[0] = 102.0
    client.stats.calls, client.stats.in_flight = 11, 1
    client.stats.retries |= {"http_500": 2}
    meter.answered(Reply("b", "length", 10, 20))
    meter.answered(Reply("c", "stop", 10, 20))
    usage = meter.usage()
    assert (usage.asked, usage.found, usage.calls, usage.retries) == (2, 1, 4, {"http_500": 2})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.tokens_per_s) == (20, 40, 20.0)
    assert usage.finish == {"stop": 2, "length": 1}
    assert (usage.began, usage.seconds, meter.in_flight) == (100.0, 2.0, 1)


def test_points_stay_few_and_cover_all_the_time():
    now = [0.0]
    meter = Meter("m", clock=lambda: now[0])
    meter.sample()
    meter.handed()
    for _ in range(10_000):
        meter.sample()
        now[0] += 0.5
    meter.answered(Reply("x", completion_tokens=3))
    meter.sample(last=True)
    points = meter.usage().points
    assert POINTS / 2 <= len(points) <= POINTS
    assert (points[0].seconds, points[-1]) == (0.0, Point(5000.0, 0, 1, 3))
    gaps = [after.seconds - before.seconds for before, after in pairwise(points[:-1])]
    assert max(gaps) < 3 * min(gaps)


def usage_from(began: float, seconds: int) -> Usage:
    points = [Point(float(second), 5, second, 10 * second) for second in range(seconds)]
    points.append(Point(float(seconds), 0, seconds, 10 * seconds))
    counts = {"asked": seconds, "found": 1, "calls": seconds + 1, "completion_tokens": 10 * seconds}
    more = {"retries": {"http_429": 1}, "finish": {"stop": seconds}, "points": points}
    return Usage(model="m", **counts, **more, began=began, seconds=float(seconds))


def test_shards_at_work_together_are_summed_on_one_clock():
    total = summed([usage_from(1000.0, 10), usage_from(1005.0, 10), usage_from(1100.0, 10)])
    assert (total.asked, total.found, total.calls, total.retries) == (30, 3, 33, {"http_429": 3})
    assert (total.began, total.seconds, total.tokens_per_s) == (1000.0, 25.0, 12.0)
    most = max(total.points, key=lambda point: point.in_flight)
    assert most.in_flight == 10
    assert 5 <= most.seconds <= 10
    assert {point.in_flight for point in total.points if 20 < point.seconds < 95} == {0}
    assert (total.points[-1].replies, total.points[-1].tokens) == (30, 300)
    assert summed([]) is None
    assert summed([Usage(model="m", found=3)]).seconds == 0.0


def test_a_recorder_notes_points_and_the_servers_metrics():
    with MetricsServer(*[VLLM.format(queries=0, hits=0, tokens=0)] * 9) as server:
        client = Client(Counts(in_flight=2, replicas=(type("Replica", (), {"name": server.url}),)))
        meter = Meter("m", client)
        recorder = Recorder(meter, interval_s=0.01)
        with recorder:
            meter.handed()
            while not server.paths:
                pass
            meter.answered(Reply("x"))
    usage = recorder.usage()
    assert usage.points[-1].in_flight == 2
    assert usage.server.looks >= 1


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def scrape(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()


def test_prometheus_is_told_what_a_worker_does(capfd):
    port, progress = free_port(), Progress()
    serve_metrics(f"127.0.0.1:{port}", progress)
    assert "reinstruct" not in scrape(port)
    progress.step, progress.shard, progress.total = "write-1", 3, 40
    progress.counts = [Count("Write", read=9, kept=7, rejected={"too_short": 2}, unreadable=1)]
    assert "reinstruct_calls" not in scrape(port)
    progress.meter = Meter("m")
    progress.meter.handed()
    progress.meter.found(Reply("", "length", 2, 3))
    told = scrape(port).splitlines()
    for line in (
        'reinstruct_rows_expected{shard="3",step="write-1"} 40.0',
        'reinstruct_rows_read_total{shard="3",stage="Write",step="write-1"} 9.0',
        'reinstruct_rows_rejected_total{reason="too_short",shard="3",stage="Write",step="write-1"} 2.0',
        'reinstruct_replies_unreadable_total{shard="3",stage="Write",step="write-1"} 1.0',
        'reinstruct_calls_in_flight{shard="3",step="write-1"} 1.0',
        'reinstruct_replies_total{origin="log",shard="3",step="write-1"} 1.0',
        'reinstruct_finishes_total{reason="length",shard="3",step="write-1"} 1.0',
    ):
        assert line in told, (line, told)
    serve_metrics(f"127.0.0.1:{port}", progress)
    assert f"no metrics at 127.0.0.1:{port}: Address already in use" in capfd.readouterr().err


@pytest.mark.parametrize("given", ["x", "0", "70000", "host:", "1.5"])
def test_a_port_that_is_none_is_refused(given: str):
    with pytest.raises(RecipeError, match="REINSTRUCT_METRICS_PORT is"):
        serve_metrics(given, Progress())


def test_the_container_refuses_it_before_anything_else(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ask", "--metrics-port", "http"])
    assert ended.value.code == 2
    assert "PORT or HOST:PORT" in capsys.readouterr().out
    assert "prometheus_client" in sys.modules
