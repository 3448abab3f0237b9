"""Event-stream client on one of Python's libraries: streams.py LIBRARY URL TOKEN

None of them reconnects by itself, so this is the loop that their documentation shows: it sends the last id as
`Last-Event-ID` and waits as long as the last `retry:` said. Prints lines of JSON: `opened`, every event by its name, `ended`
(in good order), `broken` (the library raised an error that it documents) and `crashed`.
"""

import asyncio
import json
import sys
import time
import traceback

import aiohttp
import httpx
import httpx_sse
import requests
import sseclient

ACCEPT = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
# In seconds: to connect, and between two reads, which is several pings of the server.
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 120


def report(kind, **value):
    print(json.dumps({"kind": kind, "value": value}), flush=True)


class Follower:
    """State that outlives a connection: the last id and the delay before the next connection."""

    def __init__(self):
        self.last_event_id = None
        self.delay = 1.0

    def headers(self):
        return {**ACCEPT, **({"Last-Event-ID": self.last_event_id} if self.last_event_id else {})}

    def event(self, name, data, id, retry):
        self.last_event_id = id or self.last_event_id
        if retry is not None:
            self.delay = int(retry) / 1000
        report(name, data=data, id=id)


class Lines:
    """The parser that programs write around a reader of lines: every blank line ends an event, even an empty one."""

    def __init__(self, follower):
        self.follower = follower
        self.fields = {}

    def feed(self, line):
        if line and not line.startswith(":"):
            name, _, value = line.partition(":")
            self.fields[name] = value.removeprefix(" ")
        elif not line:
            fields, self.fields = self.fields, {}
            name = fields.get("event", "message")
            self.follower.event(name, fields.get("data", ""), fields.get("id"), fields.get("retry"))


def follow_sseclient(url, auth, follower):
    with get(url, auth, follower) as response:
        for event in sseclient.SSEClient(response).events():
            follower.event(event.event, event.data, event.id, event.retry)


def follow_requests(url, auth, follower):
    with get(url, auth, follower) as response:
        lines = Lines(follower)
        for line in response.iter_lines():
            lines.feed(line.decode())


def get(url, auth, follower):
    timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
    response = requests.get(url, headers={**follower.headers(), **auth}, stream=True, timeout=timeout)
    response.raise_for_status()
    report("opened")
    return response


def follow_httpx(url, auth, follower):
    timeout = httpx.Timeout(CONNECT_TIMEOUT, read=READ_TIMEOUT)
    headers = {**follower.headers(), **auth}
    with httpx.Client(timeout=timeout) as client, httpx_sse.connect_sse(client, "GET", url, headers=headers) as source:
        source.response.raise_for_status()
        report("opened")
        for event in source.iter_sse():
            follower.event(event.event, event.data, event.id, event.retry)


def follow_aiohttp(url, auth, follower):
    async def follow():
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        headers = {**follower.headers(), **auth}
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, headers=headers) as response:
            response.raise_for_status()
            report("opened")
            lines = Lines(follower)
            async for line in response.content:
                lines.feed(line.decode().rstrip("\r\n"))

    asyncio.run(follow())


FOLLOW = {
    "sseclient-py": follow_sseclient,
    "requests": follow_requests,
    "httpx-sse": follow_httpx,
    "aiohttp": follow_aiohttp,
}
FAILURES = (requests.RequestException, httpx.HTTPError, aiohttp.ClientError, OSError)


def main(library, url, token):
    follower = Follower()
    while True:
        try:
            FOLLOW[library](url, {"Authorization": f"Bearer {token}"}, follower)
            report("ended")
        except FAILURES as error:
            report("broken", error=repr(error))
        time.sleep(follower.delay)


try:
    main(*sys.argv[1:])
except Exception:
    report("crashed", traceback=traceback.format_exc())
