"""The server API through the library `cent`, against the node at FANWAY_URL: every method of Fanway, and errors."""

import asyncio
import base64
import json
import os
import unittest
import uuid

import cent
from cent import exceptions

API = os.environ["FANWAY_URL"] + "/api"
KEY = os.environ["FANWAY_API_KEY"]


class AsyncCalls:
    """The asynchronous client behind the methods of the synchronous one."""

    def __getattr__(self, method):
        async def call(request):
            client = cent.AsyncClient(API, KEY)
            try:
                return await getattr(client, method)(request)
            finally:
                await client.close()

        return lambda request: asyncio.run(call(request))


class ServerApi(unittest.TestCase):
    def setUp(self):
        self.client = self.make_client()
        self.channel = f"orders-{uuid.uuid4()}"

    def make_client(self):
        client = cent.Client(API, KEY)
        self.addCleanup(client.close)
        return client

    def publish(self, data, **more):
        return self.client.publish(cent.PublishRequest(channel=self.channel, data=data, **more))

    def history(self, limit=100, **more):
        return self.client.history(cent.HistoryRequest(channel=self.channel, limit=limit, **more))

    def data(self):
        return [publication.data for publication in self.history().publications]

    def test_publish_answers_the_position(self):
        first, second = self.publish({"n": 1}, tags={"lang": "en"}), self.publish("two")
        self.assertEqual([first.offset, second.offset], [1, 2])
        self.assertEqual(first.epoch, second.epoch)
        history = self.history()
        self.assertEqual((history.offset, history.epoch), (2, first.epoch))
        self.assertEqual([one.data for one in history.publications], [{"n": 1}, "two"])
        self.assertEqual([one.tags for one in history.publications], [{"lang": "en"}, None])

    def test_publish_with_every_kind_of_data(self):
        kinds = [0, -1.5, False, "", "ünïcode 👍", [], [1, [2]], {}, {"a": None}]
        for data in kinds:
            self.publish(data)
        self.assertEqual(self.data(), kinds)

    def test_publish_without_history_has_no_position(self):
        result = self.publish("passing", skip_history=True)
        self.assertIn(result.offset, (None, 0))
        self.assertEqual(self.data(), [])

    def test_publish_again_with_an_idempotency_key(self):
        first = self.publish("once", idempotency_key="a")
        self.assertEqual(self.publish("once", idempotency_key="a").offset, first.offset)
        self.assertEqual(self.data(), ["once"])

    def test_publish_as_base64_beside_empty_data(self):
        wanted = {"as": "base64"}
        b64data = base64.b64encode(json.dumps(wanted).encode()).decode()
        for empty in ("", {}, [], None):
            self.publish(empty, b64data=b64data)
        self.publish("data", b64data="")
        self.assertEqual(self.data(), [wanted] * 4 + ["data"])

    def test_broadcast_answers_for_each_channel_in_order(self):
        other = f"{self.channel}-2"
        self.publish("before")
        channels = [other, "nowhere:a", self.channel, other]
        responses = self.client.broadcast(cent.BroadcastRequest(channels=channels, data={"to": "all"})).responses
        self.assertEqual([one.result and one.result.offset for one in responses], [1, None, 2, 2])
        self.assertEqual([one.error and one.error.code for one in responses], [None, 102, None, None])
        self.assertTrue(responses[1].error.message)
        self.assertEqual(self.data(), ["before", {"to": "all"}])

    def test_history_in_pages_and_in_reverse(self):
        for n in range(1, 6):
            self.publish(n)
        page = self.history(limit=2)
        self.assertEqual([one.data for one in page.publications], [1, 2])
        since = cent.StreamPosition(offset=page.publications[-1].offset, epoch=page.epoch)
        page = self.history(limit=2, since=since)
        self.assertEqual([one.data for one in page.publications], [3, 4])
        self.assertEqual([one.data for one in self.history(limit=2, reverse=True).publications], [5, 4])
        self.assertEqual(self.history(limit=None).publications, [])

    def test_history_of_a_channel_that_was_never_used(self):
        history = self.history()
        self.assertEqual((history.publications, history.offset), ([], 0))
        self.assertTrue(history.epoch)

    def test_info_names_the_node(self):
        (node,) = self.client.info(cent.InfoRequest()).nodes
        self.assertTrue(node.uid and node.name and node.version)

    def test_errors_have_code_and_message(self):
        refused = {
            102: lambda: self.client.publish(cent.PublishRequest(channel="nowhere:a", data=1)),
            107: lambda: self.client.publish(cent.PublishRequest(channel="with space", data=1)),
            112: lambda: self.history(since=cent.StreamPosition(offset=1, epoch="nonsense")),
        }
        for code, call in refused.items():
            with self.assertRaises(exceptions.CentApiResponseError) as raised:
                call()
            self.assertEqual(raised.exception.code, code)
            self.assertTrue(raised.exception.message)

    def test_a_method_that_is_not_there_is_refused(self):
        with self.assertRaises(exceptions.CentTransportError) as raised:
            self.client.presence(cent.PresenceRequest(channel=self.channel))
        self.assertEqual(raised.exception.status_code, 404)

    def test_another_key_is_refused(self):
        client = cent.Client(API, "another-key")
        self.addCleanup(client.close)
        with self.assertRaises(exceptions.CentUnauthorizedError):
            client.info(cent.InfoRequest())


class ServerApiAsync(ServerApi):
    def make_client(self):
        return AsyncCalls()


if __name__ == "__main__":
    unittest.main()
