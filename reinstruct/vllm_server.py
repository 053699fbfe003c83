"""vLLM servers at work: replicas of one model, started together, waited for, started anew when one dies.

The rule: no server outlives this process, however it ends; each runs under `guard`.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from reinstruct.errors import LLMError
from reinstruct.vllm_launch import GRACE_S, Serving, Vllm, command, environment, free_port, template_for

START_S = 1800  # weights, compilation and graphs of a large model
POLL_S = 0.25
# What vLLM puts before each line, and what it says when the cause was said before.
_PREFIX = re.compile(r"^(\(\w+ pid=\d+\) )?((ERROR|WARNING|INFO) \d\d-\d\d [\d:]+ \[[^\]]+\] ?)?")
_ERROR = re.compile(r"^(api_server|\w[\w.]*(Error|Exception)|.*: error): ?.+")
_ELSEWHERE = ("See root cause above", "Engine core initialization failed")


class Replica:
    """One server: its command, its port, its log and, while it runs, its process."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._argv = [sys.executable, "-m", "reinstruct.guard", str(GRACE_S), *argv]
        self._environment = environment
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self._said_before = 0  # length of the log when the process was started

    def start(self) -> None:
        """Start it; it is of use once `is_ready`."""
        self.was_ready = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment
            )

    @property
    def was_started(self) -> bool:
        return self._process is not None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether it lists its models: the weights are loaded."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            self.was_ready = connection.getresponse().status == 200
            return self.was_ready
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def failure(self) -> LLMError:
        """Why it ended, as far as its log says."""
        code = self._process.returncode if self._process else None
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            said = last_words(log.read().decode(errors="replace"))
        return LLMError(f"the vLLM server at {self.url} ended with code {code}: {said} (its log: {self.log})")

    def ask_to_end(self) -> None:
        """Let it finish what it is answering, if it has begun to answer at all."""
        if self._process and self._process.stdin and not self._process.stdin.closed:
            with suppress(BrokenPipeError):
                self._process.stdin.write(b"" if self.was_ready else b"now")
                self._process.stdin.close()

    def wait(self) -> None:
        """Return once nothing of it is left."""
        if self._process:
            self._process.wait()
            self._process = None


class Replicas:
    """Servers of one model, one per share of `devices`. `stopped` is asked while they start; true gives up.

    `ports`: one for each; none: any that is free. Logs go to `folder`, named after the model.
    """

    def __init__(
        self,
        vllm: Vllm,
        serving: Serving,
        folder: Path,
        *,
        devices: Sequence[str] = (),
        count: int = 1,
        ports: Sequence[int] = (),
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = serving.name
        self.is_closed = False
        self._failure: LLMError | None = None
        self._stopped = stopped
        self._lock = threading.Lock()
        template = _template_file(serving, folder)
        self.replicas: list[Replica] = []
        for number in range(count):
            port = ports[number] if ports else free_port()
            argv = command(vllm, serving, port, template)
            log = folder / f"{serving.name}-{number}.log"
            self.replicas.append(Replica(argv, environment(devices, number, count), port, log))

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(replica.url for replica in self.replicas)

    def start(self) -> list[LLMError]:
        """Start those that do not run, and return once all are ready; why those that had ended did.

        LLMError if one ends before it is ready, or is not in time: then all are ended, and so it is from then on.
        """
        with self._lock:
            if self._failure:
                raise self._failure
            dead = [] if self.is_closed else [replica for replica in self.replicas if not replica.is_running]
            why = [replica.failure() for replica in dead if replica.was_started]
            for replica in dead:
                replica.start()
            try:
                self._wait_for(dead)
            except LLMError as error:
                self._failure = error
        if self._failure:
            self.close()
            raise self._failure
        return why

    def _wait_for(self, started: list[Replica]) -> None:
        until = time.monotonic() + START_S
        waiting = started
        while waiting and not self.is_closed and not self._stopped():
            for replica in waiting:
                if not replica.is_running:
                    raise replica.failure()
            waiting = [replica for replica in waiting if not replica.is_ready()]
            if waiting and time.monotonic() > until:
                raise LLMError(f"{waiting[0].url} was not ready in {START_S} s; see {waiting[0].log}")
            time.sleep(POLL_S if waiting else 0)

    def close(self) -> None:
        """End them all for good, and return once nothing of them is left."""
        self.is_closed = True  # whoever waits for them to be ready lets go
        with self._lock:
            for replica in self.replicas:
                replica.ask_to_end()
            for replica in self.replicas:
                replica.wait()


def last_words(log: str) -> str:
    """The line of a log that says best why vLLM ended: its last error, but none that points to an earlier one."""
    lines = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    errors = [line for line in lines if _ERROR.match(line) and not any(words in line for words in _ELSEWHERE)]
    return (errors or [line for line in lines if line] or ["no output"])[-1][:500]


def _template_file(serving: Serving, folder: Path) -> str:
    text = template_for(serving.model)
    if not text:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "chat_template.jinja"
    path.write_text(text, encoding="utf-8")
    return str(path)
