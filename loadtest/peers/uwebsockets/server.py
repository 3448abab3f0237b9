"""Channels as topics of uWebSockets, through its Python binding socketify: C++ does the fan-out, no Python runs in it.

  ws://.../sub/<channel>         receives the channel's publications as text
  POST http://.../pub/<channel>  publishes the body

It listens on 127.0.0.1:$PORT, logs nothing, and keeps no history.
"""

import os

from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()


def upgrade(response, request, context):
    key = request.get_header("sec-websocket-key")
    protocol = request.get_header("sec-websocket-protocol")
    extensions = request.get_header("sec-websocket-extensions")
    response.upgrade(key, protocol, extensions, context, request.get_parameter(0))


def opened(socket):
    socket.subscribe(socket.get_user_data())


def publish(response, request):
    channel = request.get_parameter(0)
    parts = []

    def received(response, part, is_last):
        if part:
            parts.append(part)
        if is_last:
            app.publish(channel, b"".join(parts), OpCode.TEXT)
            response.end("{}")

    response.on_aborted(lambda response: None)
    response.on_data(received)


app.ws(
    "/sub/:channel",
    {
        "compression": CompressOptions.DISABLED,
        # It pings a little before this time, in seconds, has passed in silence; the binding does not unless told to.
        "idle_timeout": 32,
        "send_pings_automatically": True,
        "max_payload_length": 1024 * 1024,
        "max_backpressure": 1024 * 1024,
        "upgrade": upgrade,
        "open": opened,
    },
)
app.post("/pub/:channel", publish)
app.listen(AppListenOptions(port=int(os.environ["PORT"]), host="127.0.0.1"), lambda config: None)
app.run()
