#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A web server for tests that serves one folder and knows byte ranges: range-http-server.py PORT FOLDER"""
import http.server
import os
import re
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, with_body):
        name = os.path.join(sys.argv[2], os.path.basename(self.path))
        if not os.path.isfile(name):
            self.send_error(404)
            return
        size = os.path.getsize(name)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if with_body:
            with open(name, "rb") as f:
                f.seek(first)
                self.wfile.write(f.read(last - first + 1))

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
