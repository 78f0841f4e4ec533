"""A FunctionService for tests: a real gRPC server whose functions work, fail, hang, break off, or answer with garbage.

usage: function_server.py [--port N] [--log FILE] [--token TOKEN] [--faults SEED] [--tls KEY,CERT]

Prints `listening PORT` once it takes calls. Each call is a line of JSON in the log: when it began, when it ended (seconds),
what was asked, and with which headers; a line {"begun": NAME} goes before it. With --faults a part of the calls, chosen by the seed, fails in one of the ways below.
Messages are encoded by hand (https://protobuf.dev/programming-guides/encoding/), so that only grpcio is needed.
"""
import argparse
import json
import os
import random
import sys
import threading
import time
from concurrent import futures

import grpc

# --- protobuf by hand ---


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """A varint, string, or bytes (of a message) as one field."""
    if isinstance(value, bool) or isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def decode(data):
    """All fields of a message: {number: [varint or bytes, ...]}."""
    fields, i = {}, 0

    def read():
        nonlocal i
        n = shift = 0
        while True:
            byte = data[i]
            i += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n

    while i < len(data):
        tag = read()
        if tag & 7 == 0:
            value = read()
        else:
            size = read()
            value = data[i:i + size]
            i += size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def text_of(fields, number):
    return fields[number][-1].decode() if number in fields else ""


# --- the functions ---


def obj(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


INT, STR = {"type": "integer"}, {"type": "string"}
FUNCTIONS = {
    # name: (is a worker, description, {method: (description or None, schema)})
    "add": (False, "Adds two whole numbers.", {"run": (None, obj(a=INT, b=INT))}),
    "get_weather": (True, "The weather of a city.", {"run": ("Tells the weather of a city.", obj(city=STR))}),
    "slow": (False, "Waits for some milliseconds.", {"run": (None, obj(ms=INT))}),
    "failing": (False, "Always fails.", {"run": (None, obj(why=STR))}),
    "refusing": (False, "Ends with a gRPC error.", {"run": (None, obj())}),
    "breaking": (False, "Breaks off in the middle.", {"run": (None, obj())}),
    "garbage": (False, "Answers with bytes that are no message.", {"run": (None, obj())}),
    "silent": (False, "Answers with nothing.", {"run": (None, obj())}),
    "huge": (False, "Answers with many MiB.", {"run": (None, obj(mib=INT))}),
    "pieces": (False, "Answers in pieces.", {"run": (None, obj(n=INT))}),
    "hanging": (False, "Never answers.", {"run": (None, obj())}),
    "text": (False, "Changes a text.", {
        "upper": ("Makes a text upper-case.", obj(text=STR)),
        "lower": (None, obj(text=STR)),
    }),
    "odd___name": (True, "Its name holds the separator.", {"run": (None, obj()), "other": (None, obj())}),
    "odd___single": (True, "Its name holds the separator.", {"run": (None, obj())}),
    "broken_schema": (False, "Its schema is no JSON.", {"run": (None, None)}),
}
SETS = {
    "demo": ["add", "get_weather", "text"],
    "one": ["add"],
    "weather": ["get_weather"],
    "slow": ["slow"],
    "empty": [],
    "all": list(FUNCTIONS),
}


def encode_specs(name):
    worker, description, methods = FUNCTIONS[name]
    out = field(1, 0) + field(2, field(1, 7))
    if worker:
        out += field(3, field(1, 8))
    out += field(4, name) + field(5, description)
    entries = b""
    for method, (about, schema) in methods.items():
        value = field(1, about) if about else b""
        value += field(2, json.dumps(schema) if schema is not None else "{not json")
        entries += field(1, field(1, method) + field(2, value))
    return out + field(7, entries)


def result(output, status=0, message=None):
    out = field(1, output)
    if status or message is None:
        out += field(2, status)
    if message is not None:
        out += field(3, message) + field(4, "E%d" % status)
    return out + field(5, field(1, "4711") + field(2, 1) + field(3, 2))


def run_function(name, method, args, server, context):
    """Yields encoded FunctionResults, or bytes that are none."""
    if name == "add":
        yield result(str(args["a"] + args["b"]))
    elif name == "get_weather":
        yield result(json.dumps({"city": args["city"], "sky": "clear", "celsius": 21}))
    elif name == "slow":
        time.sleep(args["ms"] / 1000)
        yield result("waited %d ms" % args["ms"])
    elif name == "failing":
        yield result("", 2, "it failed: " + args["why"])
    elif name == "refusing":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
    elif name == "breaking":
        yield result("the first half, ")
        context.abort(grpc.StatusCode.INTERNAL, "broke off")
    elif name == "garbage":
        yield b"\xff\xff\xff\xff garbage"
    elif name == "silent":
        return
    elif name == "huge":
        yield result("x" * (args["mib"] << 20))
    elif name == "pieces":
        for i in range(args["n"]):
            yield result("piece %d;" % i)
    elif name == "hanging":
        while context.is_active():
            time.sleep(0.02)
    elif name == "text":
        yield result(args["text"].upper() if method == "upper" else args["text"].lower())
    elif name.startswith("odd___"):
        yield result("%s %s" % (name, method))
    else:
        context.abort(grpc.StatusCode.NOT_FOUND, "no function " + name)


class Server:

    def __init__(self, options):
        self.token = options.token
        self.log_file = open(options.log, "a") if options.log else None
        self.lock = threading.Lock()
        self.faults = random.Random(options.faults) if options.faults is not None else None

    def log(self, **entry):
        if self.log_file is None:
            return
        with self.lock:
            self.log_file.write(json.dumps(entry) + "\n")
            self.log_file.flush()

    def check(self, context):
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        if self.token is not None and headers.get("jobworkerp-auth") != self.token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")
        return headers

    def find_list_by_set(self, request, context):
        headers = self.check(context)
        name = text_of(decode(request), 1)
        self.log(call="FindListBySet", set=name, headers=headers)
        if name == "garbage":
            yield b"\xff\xff\xff\xff"
            return
        if name == "hanging":
            while context.is_active():
                time.sleep(0.02)
        if name == "flaky" and self.fault() is not None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
        if name not in SETS and name != "flaky":
            context.abort(grpc.StatusCode.NOT_FOUND, "no function set " + name)
        for function in SETS.get(name, SETS["demo"]):
            yield encode_specs(function)

    def find_list(self, request, context):
        headers = self.check(context)
        fields = decode(request)
        no_runners, no_workers = bool(fields.get(1, [0])[-1]), bool(fields.get(2, [0])[-1])
        self.log(call="FindList", exclude_runner=no_runners, exclude_worker=no_workers, headers=headers)
        for name, (worker, _, _) in FUNCTIONS.items():
            if not (no_workers if worker else no_runners):
                yield encode_specs(name)

    def find_sets(self, request, context):
        headers = self.check(context)
        self.log(call="FindSets", headers=headers)
        for number, name in enumerate(SETS):
            data = field(1, name) + field(2, "What is in %s." % name)
            yield field(1, field(1, number + 1)) + field(2, data)

    def fault(self):
        """Most calls go well; few of them hang, and fewer take the server down."""
        with self.lock:
            chance = self.faults.random() if self.faults is not None else 1
            if chance < 0.005:
                return "die"
            if chance < 0.02:
                return "hanging"
            return self.faults.choice(["failing", "refusing", "breaking", "garbage", "silent"]) if chance < 0.4 else None

    def call(self, request, context):
        headers = self.check(context)
        fields = decode(request)
        runner, worker = text_of(fields, 1), text_of(fields, 2)
        name, method = runner or worker, "run"
        options = decode(fields[6][-1]) if 6 in fields else {}
        entry = {"call": "Call", "runner": runner, "worker": worker, "args": text_of(fields, 4), "headers": headers}
        entry["timeout_ms"] = options.get(1, [None])[-1]
        entry["streaming"] = options.get(2, [None])[-1]
        entry["metadata"] = {text_of(decode(e), 1): text_of(decode(e), 2) for e in options.get(3, [])}
        entry["start"] = time.monotonic()
        self.log(begun=name)
        try:
            # A function with several methods is called as NAME___METHOD, where it is no function of that name itself.
            if name not in FUNCTIONS:
                name, _, method = name.rpartition("___")
            known = name in FUNCTIONS and method in FUNCTIONS[name][2]
            if not known or FUNCTIONS[name][0] != bool(worker):
                context.abort(grpc.StatusCode.NOT_FOUND, "no %s %s" % ("worker" if worker else "runner", runner or worker))
            fault = self.fault()
            if fault == "die":
                os._exit(9)
            args = json.loads(text_of(fields, 4) or "{}")
            if fault == "failing":
                args = {"why": "by chance"}
            yield from run_function(fault or name, method, args, self, context)
        finally:
            entry["end"] = time.monotonic()
            entry["cancelled"] = not context.is_active()
            self.log(**entry)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log")
    parser.add_argument("--token")
    parser.add_argument("--faults", type=int)
    parser.add_argument("--tls")
    options = parser.parse_args()
    service = Server(options)
    stream = grpc.unary_stream_rpc_method_handler
    handlers = {
        "FindList": stream(service.find_list),
        "FindListBySet": stream(service.find_list_by_set),
        "Call": stream(service.call),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64),
                         options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
    package = "jobworkerp.function.service."
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(package + "FunctionService", handlers),
        grpc.method_handlers_generic_handler(package + "FunctionSetService", {"FindList": stream(service.find_sets)}),
    ))
    address = "127.0.0.1:%d" % options.port
    if options.tls:
        key, cert = (open(path, "rb").read() for path in options.tls.split(","))
        port = server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port(address)
    if port == 0:
        sys.exit("the port is taken")
    server.start()
    print("listening", port, flush=True)
    sys.stdin.read()  # until the one who started it goes
    server.stop(None)


main()
