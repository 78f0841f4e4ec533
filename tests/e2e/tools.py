"""Jobs with tools through the plugin, as the host runs them: a model that follows a script (script_model.py), functions in
another process (function_server.py). Prints TAP.

usage: tools.py BUILD
"""
import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(sys.argv[1])
SCRATCH = tempfile.mkdtemp()
atexit.register(shutil.rmtree, SCRATCH, True)


def call(name, arguments):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>' % (name, text)


LINES = {
    "done": "It is done.",
    "hello": ["Hello, ", "world!"],
    "add": call("add", {"a": 2, "b": 40}),
    "again": call("add", {"a": 3, "b": 3}),
    "weather": call("get_weather", {"city": "Oslo"}),
    "upper": call("text___upper", {"text": "quiet"}),
    "odd": call("odd___name___other", {}),
    "slow": call("slow", {"ms": 301}) + "\n" + call("slow", {"ms": 302}) + "\n" + call("slow", {"ms": 303}),
    "longer": call("slow", {"ms": 5000}),
    "hanging": call("hanging", {}),
    "mixed": call("failing", {"why": "no coffee"}) + "\n" + call("nobody", {}) + "\n" + call("add", {"a": 1, "b": 1}),
    "breaking": call("breaking", {}) + "\n" + call("garbage", {}) + "\n" + call("refusing", {}) + "\n" + call("silent", {}),
    "huge": call("huge", {"mib": 4}),
    "misfit": call("add", {"a": 7}),
    "pieces": call("pieces", {"n": 3}),
    "around": ["Let me see.\n", call("add", {"a": 5, "b": 5}), "\nWait."],
    "think": ["<think>\nI should ", "add.\n</think>\n\n", call("add", {"a": 6, "b": 6})],
    # Where a call is forced, the prompt ends with its beginning: up to the name, or up to the arguments.
    '"': 'select_toolset_weather", "arguments": {}}\n</tool_call>',
    ":": ' {"a": 2, "b": 40}}\n</tool_call>',
}


class Server:
    """The FunctionService; its log is read as a list of dicts."""

    def __init__(self, *options, port=0):
        self.log_file = os.path.join(SCRATCH, "log-%d" % time.monotonic_ns())
        open(self.log_file, "w").close()
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "function_server.py"), "--log", self.log_file, "--port", str(port), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.endpoint = "http://127.0.0.1:%d" % self.port
        atexit.register(self.stop)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def log(self, **match):
        with open(self.log_file) as file:
            entries = [json.loads(line) for line in file]
        return [e for e in entries if all(e.get(key) == value for key, value in match.items())]

    def clear(self):
        open(self.log_file, "w").close()

    def wait_for(self, count, **match):
        deadline = time.monotonic() + 30
        while len(self.log(**match)) < count:
            if time.monotonic() > deadline:
                raise AssertionError("the server has not seen %r" % match)
            time.sleep(0.01)


class Result:

    def __init__(self, code, out, err, stream):
        self.code, self.err = code, err
        self.chunks = [json.loads(line) for line in out.splitlines()] if stream else [json.loads(out)] if out else []
        self.last = self.chunks[-1] if self.chunks else {}
        self.text = "".join(c.get("content", {}).get("text", "") for c in self.chunks)
        self.reasoning = "".join(c.get("reasoning_content", "") for c in self.chunks)
        self.results = [r for c in self.chunks for r in c.get("tool_execution_results", [])]
        self.started = [c["tool_execution_started"] for c in self.chunks if "tool_execution_started" in c]

    def __repr__(self):
        return "code %s\n%s\n%s" % (self.code, "\n".join(map(json.dumps, self.chunks))[:3000], self.err[-1500:])


def write(name, value):
    path = os.path.join(SCRATCH, name)
    with open(path, "w") as file:
        json.dump(value, file)
    return path


def user(text):
    return {"role": "USER", "content": {"text": text}}


def start(script, functions=None, *, server=None, stream=True, using="chat", messages=None, env=None, settings=None,
          metadata=None, model="script.gguf", options=None, **more):
    """Starts a job; `functions` are its function_options."""
    args = {"options": {"temperature": 0, **(options or {})}, **more}
    if functions is not None:
        args["function_options"] = functions
    if using == "chat":
        args["messages"] = messages or [user(script)]
    else:
        args["prompt"] = script
    number = time.monotonic_ns()
    runner = {"gguf_model": {"model_name_or_path": os.path.join(SCRATCH, model)}, **(settings or {})}
    worker = write("worker-%d.json" % number, {"runner_settings": runner})
    job = write("job-%d.json" % number, {"args": args, "using": using, "metadata": metadata or {}})
    environment = {**os.environ, "RUST_LOG": "info", **(env or {})}
    environment.pop("MISTRAL_GRPC_ENDPOINT", None)
    if server is not None:
        environment["MISTRAL_GRPC_ENDPOINT"] = server if isinstance(server, str) else server.endpoint
    command = [os.path.join(BUILD, "mistral-runner"), "run", "--worker", worker, "--job", job]
    return subprocess.Popen(command + (["--stream", "--json"] if stream else []), env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, stream=True):
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out, err, stream)


def run(*args, **more):
    return finish(start(*args, **more), more.get("stream", True))


TOOLS = {"use_function_calling": True, "function_set_name": "all"}
CLIENT_TOOLS = json.dumps([{"type": "function", "function": {
    "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}])
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def equal(found, wanted):
    assert found == wanted, "found %.500r, not %.500r" % (found, wanted)


def holds(text, part):
    assert part in text, "%r is not in %r" % (part, text[-1500:])


# --- without a service ---


@test
def no_endpoint_is_a_warning(server):
    r = run("hello", TOOLS)
    equal((r.code, r.text), (0, "Hello, world!"))
    holds(r.err, "no FunctionService is configured")


@test
def an_unreachable_endpoint_is_a_warning(server):
    r = run("hello", TOOLS, server="http://127.0.0.1:1")
    equal((r.code, r.text), (0, "Hello, world!"))
    holds(r.err, "127.0.0.1:1")


@test
def an_endpoint_that_is_none_is_a_warning(server):
    r = run("hello", TOOLS, server="nonsense://x")
    equal((r.code, r.text), (0, "Hello, world!"))
    holds(r.err, "MISTRAL_GRPC_ENDPOINT")


@test
def without_tools_nothing_is_asked(server):
    r = run("hello", server=server)
    equal((r.code, r.text, server.log()), (0, "Hello, world!", []))


@test
def what_a_required_call_needs_is_an_error(server):
    r = run("hello", {**TOOLS, "tool_choice": "required"})
    assert r.code != 0
    holds(r.err, "no FunctionService is configured")


# --- the loop ---


@test
def a_call_and_its_result_stream(server):
    r = run("add done", TOOLS, server=server)
    equal((r.code, r.text), (0, "It is done."))
    equal([(s["fn_name"], json.loads(s["fn_arguments"])) for s in r.started], [("add", {"a": 2, "b": 40})])
    equal([(x["fn_name"], x["result"], x["success"], x["job_id"]) for x in r.results], [("add", "42", True, "4711")])
    equal(r.started[0]["call_id"], r.results[0]["call_id"])
    kinds = [next((k for k in ("tool_execution_started", "tool_execution_results", "content") if k in c), "end") for c in r.chunks]
    equal(kinds, ["tool_execution_started", "tool_execution_results", "content", "end"])
    equal([c["done"] for c in r.chunks], [False, False, False, True])


@test
def one_result_has_it_all(server):
    r = run("around done", TOOLS, server=server, stream=False)
    equal((r.code, len(r.chunks)), (0, 1))
    equal(r.text, "Let me see.\n\nWait.It is done.")
    equal([x["result"] for x in r.results], ["10"])
    assert r.last["done"] and r.last["usage"]["completion_tokens"] >= 4


@test
def usage_is_the_sum_and_the_prefix_is_reused(server):
    one = run("done", TOOLS, server=server)
    r = run("add again done", TOOLS, server=server)
    equal([x["result"] for x in r.results], ["42", "6"])
    assert r.last["usage"]["prompt_tokens"] > 2 * one.last["usage"]["prompt_tokens"], r
    cached = [line for line in r.err.splitlines() if "from the cache" in line]
    equal(len(cached), 3)
    assert "(0 from" in cached[0] and "(0 from" not in cached[1] and "(0 from" not in cached[2], cached


@test
def the_last_chunk_may_repeat_everything(server):
    r = run("around done", TOOLS, server=server, settings={"stream_final_full_text": True})
    equal(r.last["content"]["text"], "Let me see.\n\nWait.It is done.")
    equal([x["result"] for x in r.last["tool_execution_results"]], ["10"])


@test
def text_around_calls_survives(server):
    r = run("around done", TOOLS, server=server)
    equal(r.text, "Let me see.\n\nWait.It is done.")


@test
def reasoning_goes_its_own_way(server):
    r = run("think done", TOOLS, server=server, options={"extract_reasoning_content": True})
    equal((r.code, r.text, r.reasoning), (0, "It is done.", "I should add."))
    equal([x["result"] for x in r.results], ["12"])


@test
def a_worker_is_called_by_its_name(server):
    r = run("weather upper odd done", TOOLS, server=server, settings={"tool_calling": {"max_iterations": 5}})
    equal(r.text, "It is done.")
    equal([(c["worker"], c["runner"]) for c in server.log(call="Call")],
          [("get_weather", ""), ("", "text___upper"), ("odd___name___other", "")])
    equal([x["result"] for x in r.results][1:], ["QUIET", "odd___name other"])


@test
def the_tools_of_a_choice(server):
    for runners, workers in ((True, False), (False, True), (True, True)):
        server.clear()
        r = run("hello", {"use_function_calling": True, "use_runners_as_function": runners,
                          "use_workers_as_function": workers}, server=server)
        equal(r.text, "Hello, world!")
        equal([(c["exclude_runner"], c["exclude_worker"]) for c in server.log(call="FindList")],
              [(not runners, not workers)])


@test
def what_is_not_in_the_set_is_unknown(server):
    r = run("weather done", {"use_function_calling": True, "function_set_name": "one"}, server=server)
    equal((r.code, r.text), (0, "It is done."))
    equal([x["success"] for x in r.results], [False])
    holds(r.results[0]["error"], "there is no tool \"get_weather\"; the tools are add")


@test
def a_set_that_does_not_exist_is_an_error(server):
    r = run("hello", {"use_function_calling": True, "function_set_name": "missing"}, server=server)
    assert r.code != 0
    holds(r.err, "no function set missing")


@test
def a_listing_that_never_comes_is_a_warning(server):
    r = run("hello", {"use_function_calling": True, "function_set_name": "hanging"}, server=server,
            env={"MISTRAL_TOOL_TIMEOUT_SEC": "1"})
    equal((r.code, r.text), (0, "Hello, world!"))
    holds(r.err, "within 1.0 s")


@test
def a_listing_of_garbage_is_an_error(server):
    r = run("hello", {"use_function_calling": True, "function_set_name": "garbage"}, server=server)
    assert r.code != 0
    holds(r.err, "cannot be read")


@test
def an_empty_set_is_a_warning(server):
    r = run("hello", {"use_function_calling": True, "function_set_name": "empty"}, server=server)
    equal((r.code, r.text), (0, "Hello, world!"))


def overlaps(calls):
    return max(sum(a["start"] < b["end"] and b["start"] < a["end"] for b in calls) for a in calls)


@test
def calls_run_side_by_side(server):
    r = run("slow done", TOOLS, server=server)
    equal((r.code, r.text), (0, "It is done."))
    calls = server.log(call="Call")
    equal((len(calls), overlaps(calls)), (3, 3))
    equal([json.loads(s["fn_arguments"])["ms"] for s in r.started], [301, 302, 303])


@test
def or_one_after_the_other(server):
    r = run("slow done", TOOLS, server=server, env={"MISTRAL_PARALLEL_TOOLS": "false"})
    equal((r.code, r.text), (0, "It is done."))
    calls = server.log(call="Call")
    equal((len(calls), overlaps(calls)), (3, 1))
    equal([x["result"] for x in r.results], ["waited 301 ms", "waited 302 ms", "waited 303 ms"])


@test
def the_settings_win_over_the_environment(server):
    r = run("slow done", TOOLS, server=server, env={"MISTRAL_PARALLEL_TOOLS": "true"},
            settings={"tool_calling": {"parallel_execution": False, "grpc_endpoint": server.endpoint}})
    equal((r.code, overlaps(server.log(call="Call"))), (0, 1))


@test
def pieces_of_a_result_are_joined(server):
    r = run("pieces done", TOOLS, server=server)
    equal([x["result"] for x in r.results], ["piece 0;piece 1;piece 2;"])


# --- what goes wrong ---


@test
def failures_are_told_and_the_loop_goes_on(server):
    r = run("mixed done", TOOLS, server=server)
    equal((r.code, r.text), (0, "It is done."))
    by_name = {x["fn_name"]: x for x in r.results}
    equal((by_name["add"]["success"], by_name["add"]["result"]), (True, "2"))
    equal((by_name["failing"]["success"], by_name["nobody"]["success"]), (False, False))
    holds(by_name["failing"]["error"], "it failed: no coffee")
    holds(by_name["nobody"]["error"], "there is no tool \"nobody\"")


@test
def broken_answers_are_failures(server):
    r = run("breaking done", TOOLS, server=server)
    equal((r.code, r.text), (0, "It is done."))
    by_name = {x["fn_name"]: x["error"] for x in r.results}
    holds(by_name["breaking"], "broke off")
    holds(by_name["breaking"], "the first half")
    holds(by_name["garbage"], "cannot be read")
    holds(by_name["refusing"], "not today")
    holds(by_name["silent"], "no result")


@test
def a_call_that_takes_too_long_is_a_failure(server):
    r = run("hanging done", TOOLS, server=server, env={"MISTRAL_TOOL_TIMEOUT_SEC": "1"})
    equal((r.code, r.text), (0, "It is done."))
    holds(r.results[0]["error"], "within 1.0 s")
    equal(server.log(call="Call")[0]["timeout_ms"], 1000)


@test
def arguments_that_do_not_fit_are_told(server):
    r = run("misfit done", TOOLS, server=server)
    equal((r.code, r.text), (0, "It is done."))
    holds(r.results[0]["error"], "\"b\"")
    equal(server.log(call="Call"), [])


@test
def a_huge_result_is_cut_for_the_model(server):
    r = run("huge done", TOOLS, server=server)
    equal((r.code, r.text), (0, "It is done."))
    equal(len(r.results[0]["result"]), 4 << 20)


@test
def too_many_rounds_are_an_error(server):
    r = run("add add add add done", TOOLS, server=server, env={"MISTRAL_MAX_ITERATIONS": "2"})
    assert r.code != 0
    holds(r.err, "2 rounds")
    equal([x["result"] for x in r.results], ["42", "42"])


@test
def a_cancelled_job_cancels_its_calls(server):
    process = start("hanging done", TOOLS, server=server)
    server.wait_for(1, begun="hanging")
    process.send_signal(signal.SIGINT)
    r = finish(process)
    assert r.code != 0
    server.wait_for(1, call="Call")
    equal(server.log(call="Call")[0]["cancelled"], True)


@test
def a_server_that_dies_is_a_failure(server):
    mortal = Server()
    process = start("longer done", TOOLS, server=mortal)
    mortal.wait_for(1, begun="slow")
    mortal.stop()
    r = finish(process)
    equal((r.code, r.text, r.results[0]["success"]), (0, "It is done.", False))
    holds(r.results[0]["error"], mortal.endpoint)


@test
def a_server_that_comes_back_is_used(server):
    mortal = Server()
    process = start("longer add done", TOOLS, server=mortal, env={"MISTRAL_TOOL_TIMEOUT_SEC": "20"})
    mortal.wait_for(1, begun="slow")
    mortal.stop()
    # The port stays taken until the old server is gone; the next round may begin before the new one is there.
    back = Server(port=mortal.port)
    r = finish(process)
    equal((r.code, r.text, r.results[0]["success"]), (0, "It is done.", False))
    assert r.results[1]["success"] or mortal.endpoint in r.results[1]["error"], r
    back.stop()


@test
def the_token_is_sent(server):
    guarded = Server("--token", "sesame")
    r = run("add done", TOOLS, server=guarded, env={"AUTH_TOKEN": "sesame"})
    equal((r.code, [x["result"] for x in r.results]), (0, ["42"]))
    r = run("add done", TOOLS, server=guarded, env={"AUTH_TOKEN": "wrong"})
    assert r.code != 0
    holds(r.err, "UNAUTHENTICATED")
    guarded.stop()


@test
def the_trace_goes_along(server):
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    run("add done", TOOLS, server=server, metadata={"traceparent": trace, "other": "x"})
    sent = server.log(call="Call")[0]
    holds(sent["headers"]["traceparent"], "0123456789abcdef0123456789abcdef")
    equal(sent["metadata"]["traceparent"], sent["headers"]["traceparent"])


@test
def each_call_has_a_span(server):
    log = os.path.join(SCRATCH, "spans")
    collector = subprocess.Popen([sys.executable, os.path.join(HERE, "otlp_collector.py"), "--log", log],
                                 stdout=subprocess.PIPE, text=True)
    atexit.register(collector.kill)
    port = collector.stdout.readline().split()[1]
    r = run("mixed done", TOOLS, server=server, env={"OTLP_ADDR": "http://127.0.0.1:" + port})
    collector.kill()
    equal(r.code, 0)
    with open(log) as file:
        lines = [json.loads(line) for line in file]
    spans = {x["span"]: x for x in lines if "span" in x}
    chat, add, failing = spans["mistralrs.chat"], spans["mistralrs.tool.add"], spans["mistralrs.tool.failing"]
    equal((add["parent"], add["trace"], add["status"]), (chat["id"], chat["trace"], 0))
    equal((add["attributes"]["output"], json.loads(add["attributes"]["input"])), ("2", {"a": 1, "b": 1}))
    equal(failing["status"], 2)
    holds(failing["message"], "no coffee")
    sent = [c["headers"]["traceparent"] for c in server.log(call="Call", runner="add")]
    equal(sent, ["00-%s-%s-01" % (add["trace"], add["id"])])


# --- the client runs the calls ---


def pending(r):
    equal((r.code, r.last.get("requires_tool_execution")), (0, True))
    return [(c["fn_name"], json.loads(c["fn_arguments"])) for c in r.last["pending_tool_calls"]["calls"]]


@test
def manual_calls_wait_for_the_client(server):
    for stream in (True, False):
        r = run("add done", {**TOOLS, "is_auto_calling": False}, server=server, stream=stream)
        equal(pending(r), [("add", {"a": 2, "b": 40})])
        equal(server.log(call="Call"), [])


@test
def client_tools_wait_for_the_client(server):
    r = run("add done", {"use_function_calling": True, "client_tools_json": CLIENT_TOOLS})
    equal(pending(r), [("add", {"a": 2, "b": 40})])
    asked = r.last["pending_tool_calls"]["calls"]
    r = run("", {"use_function_calling": True, "client_tools_json": CLIENT_TOOLS}, messages=[
        user("add done"),
        {"role": "ASSISTANT", "content": {"tool_calls": {"calls": asked}}},
        {"role": "TOOL", "content": {"tool_results": {"results": [{"call_id": asked[0]["call_id"], "content": "42"}]}}},
    ])
    equal((r.code, r.text), (0, "It is done."))


@test
def requested_calls_are_run_first(server):
    request = {"call_id": "c1", "fn_name": "add", "fn_arguments": '{"a": 20, "b": 1}'}
    for functions in ({**TOOLS, "is_auto_calling": False}, None):
        server.clear()
        r = run("", functions, server=server, messages=[
            user("add done"),
            {"role": "ASSISTANT", "content": {"tool_calls": {"calls": [request]}}},
            {"role": "TOOL", "content": {"tool_execution_requests": {"requests": [request]}}},
        ])
        equal((r.code, r.text), (0, "It is done."))
        equal([(x["call_id"], x["result"]) for x in r.results], [("c1", "21")])


@test
def requested_calls_without_a_service_are_told(server):
    r = run("", messages=[user("x done"), {"role": "TOOL", "content": {"tool_execution_requests": {
        "requests": [{"call_id": "c1", "fn_name": "add", "fn_arguments": "{}"}]}}}])
    equal((r.code, r.text), (0, "It is done."))
    holds(r.results[0]["error"], "no FunctionService is configured")


@test
def client_tools_are_checked(server):
    for tools, said in (("{", "no JSON array"), ("{}", "no JSON array"), ('[{"type": "function"}]', "the tool 0"),
                        ('[{"function": {"name": ""}}]', "name"), ('[{"function": {"name": "a"}}, {"function": {"name": "a"}}]',
                                                                  "the tool 1 has the name of an earlier one")):
        r = run("hello", {"use_function_calling": True, "client_tools_json": tools})
        assert r.code != 0
        holds(r.err, said)
    r = run("hello", {**TOOLS, "client_tools_json": CLIENT_TOOLS}, server=server)
    assert r.code != 0
    holds(r.err, "give one or the other")


@test
def tool_choice_none_calls_nothing(server):
    r = run("hello", {**TOOLS, "tool_choice": "none"}, server=server)
    equal((r.code, r.text, r.results), (0, "Hello, world!", []))


@test
def tool_choice_forces_a_call(server):
    named = json.dumps({"type": "function", "function": {"name": "add"}})
    for functions in ({**TOOLS, "tool_choice": named}, {**TOOLS, "tool_choice": "add"},
                      {"use_function_calling": True, "function_set_name": "one", "tool_choice": "required"}):
        server.clear()
        r = run("hello done", functions, server=server)
        equal((r.code, r.text), (0, "It is done."))
        equal([(x["fn_name"], x["result"]) for x in r.results], [("add", "42")])
        r = run("hello done", {**functions, "is_auto_calling": False}, server=server)
        equal((pending(r), r.text), ([("add", {"a": 2, "b": 40})], ""))


@test
def tool_choice_is_checked(server):
    for choice, said in (("nobody", "\"nobody\""), ('{"type":"function","function":{"name":"nobody"}}', "\"nobody\""),
                         ('{"type":"function"}', "no JSON object that names a tool"), ("{", "no JSON object")):
        r = run("hello", {**TOOLS, "tool_choice": choice}, server=server)
        assert r.code != 0
        holds(r.err, said)


@test
def one_call_where_only_one_is_wanted(server):
    r = run("slow done", {**TOOLS, "parallel_tool_calls": False}, server=server)
    equal((r.code, len(r.results)), (0, 1))


# --- the rest ---


@test
def a_function_set_is_chosen(server):
    r = run("weather done", {"use_function_calling": True, "auto_select_function_set": True}, server=server)
    equal((r.code, r.text), (0, "It is done."))
    equal([x["fn_name"] for x in r.results], ["get_weather"])
    equal([c["set"] for c in server.log(call="FindListBySet")], ["weather"])
    equal(len(server.log(call="FindSets")), 1)


@test
def completion_calls_tools_too(server):
    r = run("add done", TOOLS, server=server, using="completion")
    equal((r.code, r.text), (0, "It is done."))
    equal(len(server.log(call="Call")), 1)
    assert r.last["context"]["ollama"]["data"]


@test
def completion_without_a_service_is_plain(server):
    r = run("<<hello>>", TOOLS, using="completion")
    equal((r.code, r.text), (0, "Hello, world!"))


# --- the model that ships ---

TINY = os.path.join(os.path.dirname(HERE), "..", "models", "mistral-runner-tiny.gguf")


def fits(name, arguments):
    if name == "add":
        return set(arguments) == {"a", "b"} and all(type(x) is int for x in arguments.values())
    if name == "get_weather":
        return set(arguments) == {"city"} and type(arguments["city"]) is str
    return name in ("text___upper", "text___lower") and set(arguments) == {"text"} and type(arguments["text"]) is str


@test
def a_forced_call_always_parses_and_fits(server):
    named = {"use_function_calling": True, "function_set_name": "demo", "is_auto_calling": False}
    for seed in range(8):
        choice = "add" if seed % 2 else "required"
        r = run("What is the weather in Oslo?", {**named, "tool_choice": choice}, server=server, model=TINY, stream=seed < 4,
                options={"temperature": 1.5, "seed": seed, "max_tokens": 400})
        for name, arguments in pending(r):
            assert fits(name, arguments) and (choice != "add" or name == "add"), r


@test
def forced_calls_run_side_by_side_or_not(server):
    for parallel in ("true", "false"):
        server.clear()
        r = run("What is 2 plus 40?", {"use_function_calling": True, "function_set_name": "one", "tool_choice": "add"},
                server=server, model=TINY, env={"MISTRAL_PARALLEL_TOOLS": parallel}, options={"max_tokens": 200})
        calls = server.log(call="Call")
        assert calls and all(fits("add", json.loads(c["args"])) for c in calls), r
        assert r.results and all(x["success"] for x in r.results), r
        equal(len(r.results), len(r.started))


@test
def a_call_of_its_own_accord_fits_too(server):
    for seed in range(6):
        r = run("What is the weather in Oslo?", {"use_function_calling": True, "function_set_name": "demo", "is_auto_calling": False},
                server=server, model=TINY, options={"temperature": 0.8, "seed": seed, "max_tokens": 300})
        equal(r.code, 0)
        if r.last.get("requires_tool_execution"):
            assert all(fits(name, arguments) for name, arguments in pending(r)), r


def main():
    lines = write("lines.json", LINES)
    subprocess.run([sys.executable, os.path.join(HERE, "script_model.py"), os.path.join(SCRATCH, "script.gguf"), lines], check=True)
    server = Server()
    wanted = sys.argv[2:]
    failed = 0
    tests = [t for t in TESTS if not wanted or t.__name__ in wanted]
    for number, function in enumerate(tests, 1):
        server.clear()
        try:
            function(server)
            print("ok %d - %s" % (number, function.__name__.replace("_", " ")), flush=True)
        except Exception as error:  # a test that breaks is a failed one
            failed += 1
            print("not ok %d - %s" % (number, function.__name__.replace("_", " ")))
            print("\n".join("# " + line for line in (type(error).__name__ + ": " + str(error)[:2000]).splitlines()), flush=True)
    print("1..%d" % len(tests))
    sys.exit(failed > 0)


main()
