"""A hub on loopback for the tests: the API and a second port that serves large files, in many moods.

usage: hub_server.py FOLDER LOG

FOLDER/ORG/NAME/... are the repositories' files; the name says how the server behaves. Prints the two ports.
LOG gets a line for each request: "hub|cdn METHOD PATH range=RANGE token=TOKEN". Files over 64 KiB are "large": named by
their SHA-256 and redirected to the other port, as the hub does with LFS files.
"""
import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 64 * 1024
COMMIT = "0123456789abcdef0123456789abcdef01234567"
folder, log_path = sys.argv[1:3]
lock = threading.Lock()
counts = {}
digests = {}


def count(key):
    with lock:
        counts[key] = counts.get(key, 0) + 1
        return counts[key]


def repo_files(repo):
    root = os.path.join(folder, repo)
    for path, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(path, name), root)


def etag_of(path):
    if path not in digests:
        data = open(path, "rb").read()
        if len(data) > LARGE:
            digests[path] = hashlib.sha256(data).hexdigest()
        else:
            digests[path] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return digests[path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self):
        with lock, open(log_path, "a") as log:
            token = self.headers.get("Authorization", "-").replace(" ", "_")
            print(self.server.role, self.command, self.path, "range=" + self.headers.get("Range", "-"),
                  "token=" + token, file=log)

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, str(value))
        if not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, text):
        self.answer(status, [("X-Error-Code", code), ("X-Error-Message", text)])

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.note()
        try:
            (self.cdn if self.server.role == "cdn" else self.hub)()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # --- the hub itself

    def refused(self, mood):
        token = self.headers.get("Authorization")
        if mood == "gated":
            self.refuse(403 if token else 401, "GatedRepo", "Access to model is restricted")
        elif mood == "private" and token != "Bearer secret":
            self.refuse(401, "RepoNotFound", "Invalid username or password.")
        elif mood == "limited" or (mood == "busy" and count(("busy", self.path)) <= 2):
            self.answer(429, [("Retry-After", 0)])
        elif mood == "shaky" and count(("shaky", self.path)) <= 2:
            self.answer(500)
        else:
            return False
        return True

    def hub(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "api":
            repo, mood, revision = "/".join(parts[2:4]), parts[3], parts[5]
        else:
            repo, mood, revision = "/".join(parts[0:2]), parts[1], parts[3]
        if self.refused(mood):
            return
        if not os.path.isdir(os.path.join(folder, repo)):
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif revision not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
        elif parts[0] == "api":
            names = sorted(repo_files(repo))
            if mood == "evil":
                names += ["../../../evil.gguf", "/tmp/evil.gguf", "a/../../evil.gguf", "x\nevil.gguf"]
            body = json.dumps({"id": repo, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode()
            self.answer(200, [("Content-Type", "application/json")], b"<html>" if mood == "noise" else body)
        else:
            self.resolve(repo, mood, "/".join(parts[4:]))

    def resolve(self, repo, mood, name):
        path = os.path.join(folder, repo, name)
        if not os.path.isfile(path) or mood == "vanished":
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        size = os.path.getsize(path)
        headers = [("X-Repo-Commit", COMMIT)]
        if mood == "loop":
            self.answer(307, headers + [("Location", self.path)])
        elif size <= LARGE:
            data = open(path, "rb").read()
            self.answer(200, headers + [("ETag", '"%s"' % etag_of(path))], data)
        else:
            told = {"small": size - 1000, "large": size + 1000, "huge": 1 << 50}.get(mood, size)
            etag = "../../evil" if mood == "badtag" else etag_of(path)
            self.answer(302, headers + [("X-Linked-Etag", '"%s"' % etag), ("X-Linked-Size", told),
                                        ("Location", "http://127.0.0.1:%d/%s/%s" % (cdn.server_port, repo, name))])

    # --- the files

    def cdn(self):
        path = os.path.join(folder, self.path.strip("/"))
        mood = self.path.split("/")[2]
        data = open(path, "rb").read()
        first, last, status = 0, len(data) - 1, 200
        if "Range" in self.headers and mood != "norange":
            first, last = (int(x) for x in self.headers["Range"].split("=")[1].split("-"))
            status = 206
            if first >= len(data):
                self.answer(416, [("Content-Range", "bytes */%d" % len(data))])
                return
        if mood == "wrongrange":
            first += 1
        last = min(last, len(data) - 1)
        body = data[first:last + 1]
        if mood == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        headers = [("Content-Length", len(body))]
        if status == 206:
            headers.append(("Content-Range", "bytes %d-%d/%d" % (first, last, len(data))))
        self.answer(status, headers)
        self.send(mood, body)

    def send(self, mood, body):
        step = 16384 if mood == "slow" else 65536
        for at in range(0, len(body), step):
            if mood == "torn" and at >= 3 * step:
                self.close_connection = True
                return
            if mood == "stall" and at >= step and count("stall") <= 3:
                time.sleep(3)
                self.close_connection = True
                return
            if mood == "slow":
                time.sleep(0.05)
            self.wfile.write(body[at:at + step])


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


hub, cdn = Server(("127.0.0.1", 0), Handler), Server(("127.0.0.1", 0), Handler)
hub.role, cdn.role = "hub", "cdn"
threading.Thread(target=cdn.serve_forever, daemon=True).start()
print(hub.server_port, cdn.server_port, flush=True)
hub.serve_forever()
