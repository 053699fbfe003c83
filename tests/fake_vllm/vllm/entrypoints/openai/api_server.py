"""Stands for vLLM's server where tests are about processes, not models. Files in the model's folder say how it behaves.

fails       it ends while starting, with these words
dies-after  it ends with code 9 after so many answers, once
answered    it writes each prompt here before it answers
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

parser = argparse.ArgumentParser()
for name in ("--model", "--served-model-name", "--host", "--port"):
    parser.add_argument(name, required=True)
asked, other = parser.parse_known_args()
folder, lock = Path(asked.model), Lock()


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.tell({"data": [{"id": asked.served_model_name, "flags": other}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            live_or_die()
            with (folder / "answered").open("a") as answered:
                answered.write(json.dumps([body["model"], body["prompt"]]) + "\n")
            self.tell({"choices": [{"text": "re: " + body["prompt"], "finish_reason": "stop"}], "usage": {}})

    def tell(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def live_or_die():
    left = folder / "dies-after"
    if left.exists():
        count = int(left.read_text())
        if count == 0:
            left.unlink()
            print("MemoryError: the model is gone", flush=True)
            os._exit(9)
        left.write_text(str(count - 1))


if (folder / "fails").exists():
    print("(EngineCore pid=7) ERROR 11-21 12:00:00 [core.py:1] ValueError: " + (folder / "fails").read_text())
    sys.exit("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
ThreadingHTTPServer((asked.host, int(asked.port)), Answers).serve_forever()
