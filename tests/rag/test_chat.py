"""The judge that asks a server, against a real one on the loopback that also misbehaves; killed, and started again."""

import json
import logging
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from studyguide.rag import chat
from studyguide.rag.chat import ChatJudge, JudgeError, Usage
from studyguide.rag.judges import Grade, Preference, Verdict, ask_all, judge_report

ROOT = Path(__file__).parents[2]
KEY = "sk-loopback-0123456789"
VERDICT = {"reason": "It says so.", "label": "supported", "confidence": 0.9}


class Server(ThreadingHTTPServer):
    """Answers every prompt with `reply(prompt)`, but first, one a request, what stands in `script`.

    A dict or a str is what the model says; (status, headers, body) is sent as it is; a number of seconds is waited
    before the reply; None closes the connection in the middle of a body.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.lock = [], [], threading.Lock()
        self.reply, self.delay, self.usage = lambda prompt: VERDICT, 0, {"prompt_tokens": 100, "completion_tokens": 20}
        self.running = self.most = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # clients that hang up


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(SimpleNamespace(path=self.path, headers=self.headers, body=body))
            action = server.script.pop(0) if server.script else server.delay
            server.running += 1
            server.most = max(server.most, server.running)
        if isinstance(action, int | float):
            time.sleep(action)
            action = server.reply(body["messages"][-1]["content"])
        with server.lock:
            server.running -= 1
        if action is None:
            self.send(200, {"Content-Length": "1000"}, '{"choices": [')
            self.close_connection = True
        elif isinstance(action, tuple):
            self.send(*action)
        else:
            content = action if isinstance(action, str) else json.dumps(action)
            message = {"choices": [{"message": {"role": "assistant", "content": content}}], "usage": server.usage}
            self.send(200, {}, json.dumps(message))

    def send(self, status, headers, body):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the judge would have slept."""
    slept = []
    monkeypatch.setattr(chat, "time", SimpleNamespace(sleep=slept.append))
    return slept


@pytest.fixture
def judge(server):
    with ChatJudge(server.url, "test-model", api_key=KEY, backoff=0.01) as judge:
        yield judge


def prompts(server):
    return [request.body["messages"][-1]["content"] for request in server.requests]


# What is asked, and what comes back


def test_each_method_asks_its_question_and_reads_its_answer(server, judge):
    server.script = [
        {"claims": ["Orrin is the capital.", "It lies on the Alder."]},
        VERDICT,
        {"questions": ["Which?", "What?", "Who?"]},
        {"reason": "Shorter.", "winner": "b"},
        {"reason": "Half of it.", "score": 3},
    ]
    assert judge.claims("Orrin, on the Alder, is the capital.") == ["Orrin is the capital.", "It lies on the Alder."]
    assert judge.verdict("Orrin is the capital.", ["A text.", "Another."]) == Verdict(
        "supported", 0.9, "ChatJudge (test-model)", "It says so."
    )
    assert judge.questions("Orrin.", 2) == ["Which?", "What?"]
    assert judge.prefer("Which?", "Orrin it is.", "Orrin.") == Preference("b", "ChatJudge (test-model)", "Shorter.")
    assert judge.grade("Which?", "Orrin.", "Names it.") == Grade(3, "ChatJudge (test-model)", "Half of it.")
    asked = prompts(server)
    assert "<context 2>\nAnother.\n</context 2>" in asked[1]
    assert "up to 2 different questions" in asked[2]
    assert "<answer a>\nOrrin it is.\n</answer a>" in asked[3]
    assert "<rubric>\nNames it.\n</rubric>" in asked[4]


def test_the_request_is_that_of_openais_interface(server):
    with ChatJudge(f"{server.url}/v1", "m", KEY, parameters={"temperature": 0.5, "seed": 7}) as judge:
        judge.verdict("A.", "B.")
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert {key: request.body[key] for key in ("model", "temperature", "seed")} == {
        "model": "m",
        "temperature": 0.5,
        "seed": 7,
    }
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/api/openai/v1/", "/api/openai/v1/chat/completions"),
    ],
)
def test_base_urls(server, base, path):
    with ChatJudge(server.url + base, "m") as judge:
        judge.verdict("A.", "B.")
    assert server.requests[0].path == path
    assert "Authorization" not in server.requests[0].headers


def test_nothing_is_contacted_before_a_question_is_asked(server):
    with ChatJudge(server.url, "m") as judge:
        assert (repr(judge), judge.usage) == (f"ChatJudge('{server.url}/v1/', 'm')", Usage(0, 0, 0, 0, None))
    assert server.requests == []


@pytest.mark.parametrize(
    "content",
    [
        "```json\n" + json.dumps(VERDICT) + "\n```",
        "Here you are:\n" + json.dumps(VERDICT, indent=2) + "\nAnything else?",
        json.dumps(VERDICT | {"also": {"nested": "{}"}}),
    ],
)
def test_json_is_found_in_a_fence_or_between_words(server, judge, content):
    server.script = [content]
    assert judge.verdict("A.", "B.").label == "supported"
    assert len(server.requests) == 1


# A server that misbehaves

CUT = json.dumps(VERDICT)[:30]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (CUT, "gave no complete JSON object"),
        ("I think it is supported.", "gave no complete JSON object"),
        (VERDICT | {"label": "true"}, "gave label: Input should be 'supported', 'contradicted' or 'not in context'"),
        (VERDICT | {"confidence": 90}, "gave confidence: Input should be less than or equal to 1"),
        ({"verdict": "supported"}, "gave label: Field required"),
    ],
)
def test_a_wrong_schema_is_asked_once_more_with_the_error_told(server, judge, bad, told):
    server.script = [bad]
    assert judge.verdict("A.", "B.").label == "supported"
    first, second = (request.body["messages"] for request in server.requests)
    assert second[: len(first)] == first
    assert second[-2] == {"role": "assistant", "content": bad if isinstance(bad, str) else json.dumps(bad)}
    assert told in second[-1]["content"]

    server.script = [bad, bad]
    with pytest.raises(JudgeError, match=re.escape(f"was told and still {told}; it said")):
        judge.verdict("C.", "B.")
    assert len(server.requests) == 4


def test_an_answer_cut_off_by_its_length_says_so(server, judge):
    cut = {"choices": [{"message": {"content": CUT}, "finish_reason": "length"}]}
    server.script = [(200, {}, json.dumps(cut))] * 2
    with pytest.raises(JudgeError, match="no complete JSON object, cut off at the token limit; it said"):
        judge.verdict("A.", "B.")


@pytest.mark.parametrize(
    "action",
    [
        (429, {}, "slow down"),
        (500, {}, "oops"),
        (503, {}, "busy"),
        None,
        (200, {}, '{"choices": [{"message'),
        (200, {}, '{"choices": []}'),
        (200, {}, "<html>a login page</html>"),
    ],
)
def test_what_may_pass_is_tried_again(server, judge, waits, action):
    server.script = [action, action]
    assert judge.verdict("A.", "B.").label == "supported"
    assert len(server.requests) == 3
    assert 0.005 <= waits[0] <= 0.01 <= waits[1] <= 0.02


def test_a_slow_server_is_given_up_and_asked_again(server, waits):
    with ChatJudge(server.url, "m", timeout=0.5) as judge:
        server.script = [2]
        assert judge.verdict("A.", "B.").label == "supported"
        server.script = [2] * 2
        judge.retries = 1
        with pytest.raises(JudgeError, match=r"failed 2 times; the last was no answer within 0.5 s"):
            judge.verdict("C.", "B.")
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 301])
def test_other_statuses_are_an_error_at_once(server, judge, waits, status):
    server.script = [(status, {}, "no such model")]
    with pytest.raises(JudgeError, match=f"was refused with status {status}: 'no such model'"):
        judge.verdict("A.", "B.")
    assert (len(server.requests), waits) == (1, [])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ((500, {}, "out of memory"), "failed 3 times; the last was status 500: 'out of memory'"),
        ((200, {}, "hello"), "failed 3 times; the last was status 200 without a completion: 'hello'"),
        (None, "failed 3 times; the last was RemoteProtocolError"),
    ],
)
def test_the_error_after_the_last_try_names_what_came(server, waits, action, message):
    with ChatJudge(server.url, "m", retries=2) as judge:
        server.script = [action] * 3
        with pytest.raises(JudgeError, match=re.escape(message)):
            judge.verdict("A.", "B.")
    assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2


def test_nobody_listens(waits):
    with Server() as gone:
        url = gone.url
    with (
        ChatJudge(url, "m", retries=1) as judge,
        pytest.raises(JudgeError, match="failed 2 times; the last was Connect"),
    ):
        judge.verdict("A.", "B.")


def test_retry_after_is_honoured(server, judge, waits):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    unreadable = [(429, {"Retry-After": value}, "") for value in ("soon", "-5", "nan")]
    server.script = [(429, {"Retry-After": "7"}, ""), *unreadable]
    judge.verdict("A.", "B.")
    assert 7 < waits[0] < 7.1
    assert max(waits[1:]) < 0.1
    waits.clear()
    server.script = [(503, {"Retry-After": date}, "")]
    judge.verdict("C.", "B.")
    assert 40 < waits[0] < 60.1


def test_a_wait_of_an_hour_is_an_error(server, judge, waits):
    server.script = [(429, {"Retry-After": "3600"}, "")]
    with pytest.raises(JudgeError, match="asked to wait 3600 s; status 429"):
        judge.verdict("A.", "B.")
    assert waits == []


# Many at a time


def test_at_most_so_many_requests_are_under_way(server):
    server.delay = 0.05
    server.reply = lambda prompt: VERDICT | {"reason": re.search(r"Claim \d+", prompt)[0]}
    calls = [(f"Claim {i}.", "Text.") for i in range(12)]
    with ChatJudge(server.url, "m", concurrency=3) as judge:
        assert [verdict.reason for verdict in ask_all(judge, "verdict", calls)] == [f"Claim {i}" for i in range(12)]
        with ThreadPoolExecutor(8) as pool:  # threads of somebody else
            list(pool.map(lambda i: judge.verdict(f"Claim {i}.", "Another text."), range(12)))
    assert 2 <= server.most <= 3
    assert judge.usage.requests == 24


def test_after_an_error_no_further_call_is_begun(server, judge):
    server.script = [(400, {}, "bad")] * 8
    with pytest.raises(JudgeError, match="status 400"):
        ask_all(judge, "verdict", [(f"Claim {i}.", "Text.") for i in range(200)])
    assert len(server.requests) < 100


# Cost


def test_tokens_and_cost_by_hand(server):
    with ChatJudge(server.url, "m", price=(2, 10)) as judge:
        server.script = ["no JSON"]
        judge.verdict("A.", "B.")  # asked twice: 200 tokens in, 40 out
        judge.verdict("A.", "B.")
        assert judge.usage == Usage(2, 1, 200, 40, (200 * 2 + 40 * 10) / 1_000_000)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}], ids=str)
def test_the_cost_is_unknown_where_the_server_does_not_count(server, usage):
    with ChatJudge(server.url, "m", price=(2, 10)) as judge:
        judge.verdict("A.", "B.")
        server.usage = usage
        judge.verdict("C.", "B.")
        assert judge.usage == Usage(2, 0, 100, 20, None)


# The cache


def test_what_was_answered_is_not_asked_again(server, tmp_path):
    file = tmp_path / "cache.jsonl"
    for _ in range(2):
        with ChatJudge(server.url, "m", cache=file) as judge:
            assert judge.verdict("A.", "B.").label == "supported"
    assert len(server.requests) == 1
    different = {"model": "other"}, {"parameters": {"temperature": 1}}
    for change in different:
        with ChatJudge(server.url, **{"model": "m", "cache": file} | change) as judge:
            judge.verdict("A.", "B.")
    with ChatJudge(server.url, "m", cache=file) as judge:
        judge.verdict("A.", "Another context.")
    assert len(server.requests) == len(file.read_text().splitlines()) == 4


def test_again_asks_anew_and_remembers_that_too(server, tmp_path):
    file = tmp_path / "cache.jsonl"
    for _ in range(2):
        with ChatJudge(server.url, "m", cache=file) as judge:
            for each in (judge, judge.again(), judge, judge.again()):
                each.verdict("A.", "B.")
    assert len(server.requests) == 2
    assert judge.usage.cached == 4


def test_errors_are_not_kept(server, tmp_path):
    file = tmp_path / "cache.jsonl"
    with ChatJudge(server.url, "m", cache=file) as judge:
        server.script = [(400, {}, "bad"), "no", "no"]
        for _ in range(2):
            with pytest.raises(JudgeError):
                judge.verdict("A.", "B.")
    assert not file.exists()


def test_a_half_written_last_line_is_dropped_at_any_byte(server, tmp_path):
    file = tmp_path / "cache.jsonl"
    with ChatJudge(server.url, "m", cache=file) as judge:
        judge.verdict("A.", "B.")
        judge.verdict("C.", "B.")
    whole = file.read_bytes()
    second = whole.index(b"\n") + 1
    for end in (second + 1, second + 5, second + 40, len(whole) - 1):
        file.write_bytes(whole[:end])
        server.requests.clear()
        with ChatJudge(server.url, "m", cache=file) as judge:
            assert [judge.verdict(claim, "B.").label for claim in ("A.", "C.")] == ["supported"] * 2
        assert [("<claim>\nC." in prompt) for prompt in prompts(server)] == [True]
        assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "Why?"}\n', "line 1 of mine.jsonl is no answer"),
        ('{"key": "a", "answer": {}}\n[]\n', "line 2 of mine.jsonl is no answer"),
        ('{"key": "a", "answer": {}}\n{"key": "b", "ans\n{"key": "c", "answer": {}}\n', "line 2 of mine.jsonl"),
        ("my notes", "the last line of mine.jsonl is no answer"),
    ],
)
def test_another_file_is_never_taken_for_a_cache(tmp_path, content, message):
    file = tmp_path / "mine.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        ChatJudge("http://127.0.0.1:9", "m", cache=file)
    assert file.read_text() == content


KILLED = """
import sys
from studyguide.rag.chat import ChatJudge
from studyguide.rag.judges import ask_all
calls = [(f"Claim {i}.", "Text.") for i in range(40)]
ask_all(ChatJudge(sys.argv[1], "m", cache=sys.argv[2], concurrency=2), "verdict", calls)
"""


def test_killed_half_way_it_asks_only_for_the_missing_verdicts(server, tmp_path):
    file = tmp_path / "cache.jsonl"
    server.delay = 0.1
    server.reply = lambda prompt: VERDICT | {"reason": re.search(r"Claim \d+", prompt)[0]}
    process = subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(file)], cwd=ROOT)
    deadline = time.monotonic() + 200
    while not file.exists() or file.read_bytes().count(b"\n") < 6:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()  # SIGKILL: nothing is tidied up
    process.wait()
    finished = [json.loads(line)["answer"]["reason"] for line in file.read_bytes().split(b"\n")[:-1]]
    assert 6 <= len(finished) < 40
    with file.open("ab") as half:
        half.write(b'{"key": "0123456789abcdef", "answer": {"reason": "Clai')

    server.requests.clear()
    server.delay = 0
    everything = [f"Claim {i}" for i in range(40)]
    for asked in (set(everything) - set(finished), set()):
        with ChatJudge(server.url, "m", cache=file, concurrency=2) as judge:
            verdicts = ask_all(judge, "verdict", [(f"{claim}.", "Text.") for claim in everything])
        assert [verdict.reason for verdict in verdicts] == everything
        found = [re.search(r"Claim \d+", prompt)[0] for prompt in prompts(server)]
        assert sorted(found) == sorted(asked)
        server.requests.clear()


# The key


def test_the_key_is_in_no_cache_log_error_or_repr(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "cache.jsonl"
    said = []
    with ChatJudge(server.url, "m", api_key=KEY, cache=file, retries=0) as judge:
        judge.verdict("A.", "B.")
        server.reply = lambda prompt: VERDICT | {"reason": f"You sent {KEY}."}  # a server that echoes the header
        judge.verdict("C.", "B.")
        echo = f"the key {KEY} is not valid"
        for action in ((401, {}, echo), (500, {}, echo), (200, {}, echo), echo):
            server.script = [action, action]
            with pytest.raises(JudgeError) as caught:
                judge.verdict("D.", "B.")
            said += [str(caught.value), repr(caught.value)]
        said += [repr(judge), str(vars(judge)), repr(judge.again())]
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    for text in (*said, caplog.text, file.read_text()):
        assert KEY not in text
    assert "You sent [api key]." in file.read_text()


@pytest.mark.parametrize("key", ["sk-secret\n", "sk secret", "", "sk-sécret", 7])
def test_a_key_that_no_header_can_carry_is_not_shown(key):
    with pytest.raises(ValueError, match="api_key holds more than printable ASCII") as caught:
        ChatJudge("http://127.0.0.1:9", "m", api_key=key)
    assert "secret" not in str(caught.value)


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"base_url": "localhost:8000"}, ValueError, "base_url is 'localhost:8000'; expected an address"),
        ({"base_url": "ftp://host/v1"}, ValueError, "expected an address such as"),
        ({"base_url": "http://me:pass@host/v1"}, ValueError, "a key belongs into api_key"),
        ({"base_url": "http://host/v1?key=abc"}, ValueError, "a key belongs into api_key"),
        ({"base_url": " "}, ValueError, "base_url is blank"),
        ({"model": None}, TypeError, "model is None; expected a text"),
        ({"concurrency": 0}, ValueError, "concurrency is 0; expected at least 1"),
        ({"retries": -1}, ValueError, "retries -1"),
        ({"timeout": 0}, ValueError, "timeout 0"),
        ({"backoff": -1}, ValueError, "backoff -1"),
        ({"price": (1,)}, ValueError, "price a pair or None"),
        ({"price": (1, -1)}, ValueError, "price a pair or None"),
    ],
)
def test_errors_of_the_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ChatJudge(**{"base_url": "http://127.0.0.1:9", "model": "m"} | arguments)


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("claims", [" "], ValueError, "text is blank"),
        ("verdict", ["A.", []], ValueError, "context is empty"),
        ("verdict", ["A.", ["B.", None]], TypeError, "context is None; expected a text"),
        ("questions", ["A.", 0], ValueError, "n is 0; expected at least 1"),
        ("prefer", ["Why?", "A.", ""], ValueError, "b is blank"),
        ("grade", ["Why?", "A.", 5], TypeError, "rubric is 5; expected a text"),
    ],
)
def test_errors_of_a_call_come_before_the_server_is_asked(server, judge, method, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        getattr(judge, method)(*arguments)
    assert server.requests == []


# With the report


def test_a_report_asks_each_verdict_twice_and_resumes_from_the_cache(server, tmp_path):
    from studyguide.rag.datasets import samples

    some = samples("hallucinating")[:4]
    claims = sum(len(sample.claims) for sample in some)
    server.reply = lambda prompt: {"winner": "a"} if "winner" in prompt else VERDICT
    for _ in range(2):
        with ChatJudge(server.url, "m", cache=tmp_path / "cache.jsonl") as judge:
            report = judge_report(judge, some, rng=0)
    assert len(server.requests) == 2 * claims + 2 * len(some)
    assert (report.judge, report.padded.estimate.item(), report.first) == ("ChatJudge (m)", 0, None)
