"""An OpenTelemetry collector for tests: takes OTLP/gRPC traces and metrics and writes each span and each metric's points as
a line of JSON.

usage: otlp_collector.py [--port N] [--log FILE] [--slow SECONDS] [--refuse N]

Prints `listening PORT` once it takes calls. --slow answers late; --refuse refuses the first N calls (UNAVAILABLE).
Field numbers are those of opentelemetry-proto 1.x; messages are decoded by hand, so that only grpcio is needed.
"""
import argparse
import json
import struct
import threading
import time
from concurrent import futures

import grpc


def decode(data):
    """All fields of a message: {number: [int for varints and fixed, bytes for the rest, ...]}."""
    fields, i = {}, 0

    def varint():
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
        tag = varint()
        kind = tag & 7
        if kind == 0:
            value = varint()
        elif kind == 2:
            size = varint()
            value, i = data[i:i + size], i + size
        else:
            size = 8 if kind == 1 else 4
            value, i = int.from_bytes(data[i:i + size], "little"), i + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def real(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def any_value(data):
    f = decode(data)
    if 1 in f:
        return f[1][0].decode()
    if 2 in f:
        return bool(f[2][0])
    if 3 in f:
        return f[3][0]
    return real(f[4][0]) if 4 in f else None


def attributes(items):
    return {decode(a)[1][0].decode(): any_value(decode(a)[2][0]) for a in items}


def text(f, number):
    return f[number][0].decode() if number in f else ""


def spans(request):
    for resource_spans in decode(request).get(1, []):
        rs = decode(resource_spans)
        resource = attributes(decode(rs[1][0]).get(1, []))
        for scope_spans in rs.get(2, []):
            ss = decode(scope_spans)
            for raw in ss.get(2, []):
                f = decode(raw)
                status = decode(f[15][0]) if 15 in f else {}
                yield {"span": text(f, 5), "trace": f[1][0].hex(), "id": f[2][0].hex(),
                       "parent": f[4][0].hex() if 4 in f else "", "state": text(f, 3), "kind": f.get(6, [0])[0],
                       "ns": f[8][0] - f[7][0], "attributes": attributes(f.get(9, [])),
                       "status": status.get(3, [0])[0], "message": text(status, 2),
                       "scope": text(decode(ss[1][0]), 1), "resource": resource}


def metrics(request):
    for resource_metrics in decode(request).get(1, []):
        for scope_metrics in decode(resource_metrics).get(2, []):
            for raw in decode(scope_metrics).get(2, []):
                f = decode(raw)
                kind = next(k for k in (5, 7, 9) if k in f)
                points = []
                for point in decode(f[kind][0]).get(1, []):
                    p = decode(point)
                    if kind == 9:
                        points.append({"count": p[4][0], "sum": real(p[5][0]), "attributes": attributes(p.get(9, []))})
                    else:
                        points.append({"value": real(p[4][0]), "attributes": attributes(p.get(7, []))})
                yield {"metric": text(f, 1), "unit": text(f, 3),
                       "kind": {5: "gauge", 7: "sum", 9: "histogram"}[kind], "points": points}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", default="/dev/stdout")
    parser.add_argument("--slow", type=float, default=0)
    parser.add_argument("--refuse", type=int, default=0)
    options = parser.parse_args()
    lock, refusals = threading.Lock(), [options.refuse]

    def export(rows):
        def handle(request, context):
            time.sleep(options.slow)
            with lock:
                refused = refusals[0] > 0
                refusals[0] -= refused
                if not refused:
                    with open(options.log, "a") as log:
                        for row in rows(request):
                            log.write(json.dumps(row) + "\n")
            if refused:
                context.abort(grpc.StatusCode.UNAVAILABLE, "come back later")
            return b""
        return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    prefix = "opentelemetry.proto.collector."
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(prefix + "trace.v1.TraceService", {"Export": export(spans)}),
        grpc.method_handlers_generic_handler(prefix + "metrics.v1.MetricsService", {"Export": export(metrics)})))
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    print("listening", port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
