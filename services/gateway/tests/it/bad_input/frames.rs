//! WebSocket frames (corpus rows 62-86, without those that wait for a clock).

use super::*;

/// The largest message of a client, as the node's settings have it by default.
const LIMIT: usize = 64 * 1024;

/// What a row must be answered with.
#[derive(Clone, Debug)]
enum Expected {
    /// A close frame with one of these codes.
    Closes(&'static [u16]),
    /// The same, or a connection that breaks: the client goes on sending much more than the node reads before it parts.
    Cut(&'static [u16]),
    /// Nothing, and the session goes on.
    Lives,
}

use Expected::{Closes, Cut, Lives};

struct Row {
    name: String,
    bytes: Vec<u8>,
    expected: Expected,
}

fn row(name: impl Into<String>, frames: &[Frame], expected: Expected) -> Row {
    Row { name: name.into(), bytes: frames.iter().flat_map(Frame::bytes).collect(), expected }
}

fn text(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Frame::TEXT, payload)
}

fn more(payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(Frame::CONTINUATION, payload)
}

/// Rows of a few frames each.
fn rows() -> Vec<Row> {
    const PROTOCOL: Expected = Closes(&[1002]);
    const UTF8: Expected = Closes(&[1007]);
    const TOO_BIG: Expected = Closes(&[1009]);
    const BAD_REQUEST: Expected = Closes(&[3501]);
    let ping = r#"{"id":5,"ping":{}}"#;
    let mut rows = vec![
        row("62 text without mask", &[text(ping).unmasked()], PROTOCOL),
        row("62 ping without mask", &[Frame::new(Frame::PING, "").unmasked()], PROTOCOL),
        row("62 close without mask", &[Frame::close(1000, "").unmasked()], PROTOCOL),
        row("65 ping of 126 bytes", &[Frame::new(Frame::PING, vec![0; 126])], PROTOCOL),
        row("65 pong of 126 bytes", &[Frame::new(Frame::PONG, vec![0; 126])], PROTOCOL),
        row("65 close of 126 bytes", &[Frame::close(1000, &"x".repeat(124))], PROTOCOL),
        row("65 ping in fragments", &[Frame::new(Frame::PING, "a").unfinished()], PROTOCOL),
        row("65 close in fragments", &[Frame::close(1000, "").unfinished()], PROTOCOL),
        row("66 close of 1 byte", &[Frame::new(Frame::CLOSE, [3])], PROTOCOL),
        row("68 empty close", &[Frame::new(Frame::CLOSE, "")], Closes(&[1005])),
        row("69 reason not UTF-8", &[Frame::new(Frame::CLOSE, [0x03, 0xE8, 0xFF])], Closes(&[1007, 1002])),
        row("70 character cut off by the end", &[text([b'a', 0xE2, 0x82])], UTF8),
        row("70 split over fragments", &[text([b'"', 0xE2]).unfinished(), more([0x28, b'"'])], UTF8),
        row("70 wrong before the end", &[text([0xFF]).unfinished()], UTF8),
        row("71 continuation of nothing", &[more("a")], PROTOCOL),
        row("71 last fragment of nothing", &[more("a").unfinished()], PROTOCOL),
        row("71 text inside a message", &[text("{").unfinished(), text("}")], PROTOCOL),
        row("71 binary inside a message", &[text("{").unfinished(), Frame::new(Frame::BINARY, "}")], PROTOCOL),
        row("72 the limit and 1", &[text(vec![b' '; LIMIT + 1])], TOO_BIG),
        row(
            "72 fragments of the limit and 1",
            &[text(vec![b' '; LIMIT / 2]).unfinished(), more(vec![b' '; LIMIT / 2]).unfinished(), more(" ")],
            TOO_BIG,
        ),
        row("73 2^63-1 announced", &[text("").declaring(u64::MAX >> 1, 8)], Closes(&[1009, 1002])),
        row("73 2^64-1 announced", &[text("").declaring(u64::MAX, 8)], Closes(&[1009, 1002])),
        row(
            "73 2^63-1 announced by a continuation",
            &[text("{").unfinished(), more("").declaring(u64::MAX >> 1, 8)],
            Closes(&[1009, 1002]),
        ),
        row("74 5 bytes in the 2-byte form", &[text("hello").declaring(5, 2)], PROTOCOL),
        row("74 200 bytes in the 8-byte form", &[text("x".repeat(200)).declaring(200, 8)], PROTOCOL),
        row("77 100 pings at once", &vec![Frame::new(Frame::PING, "a"); 100], Lives),
        // More than may come at once: the next command waits until there is a token for it.
        row("77 300 pings at once", &vec![Frame::new(Frame::PING, "a"); 300], Lives),
        row("78 unsolicited pongs", &vec![Frame::new(Frame::PONG, "a"); 20], Lives),
        row("80 binary", &[Frame::new(Frame::BINARY, ping)], Closes(&[1003])),
        row("80 binary in fragments", &[Frame::new(Frame::BINARY, "{").unfinished()], Closes(&[1003])),
        row("82 commands after close", &[Frame::close(1000, ""), text(ping), text("{")], Closes(&[1000])),
        row("82 garbage after close", &[Frame::close(1000, ""), text("").unmasked().with_rsv(7)], Closes(&[1000])),
        row("82 ping and close at once", &[Frame::new(Frame::PING, "a"), Frame::close(1000, "")], Closes(&[1000])),
        row("82 ping and a fault at once", &[Frame::new(Frame::PING, "a"), more("a")], PROTOCOL),
        row("command in fragments", &[text(&ping[..7]).unfinished(), more(&ping[7..])], Lives),
        row(
            "ping inside a message",
            &[text(&ping[..7]).unfinished(), Frame::new(Frame::PING, "a"), more(&ping[7..])],
            Lives,
        ),
        row("empty fragments", &[text("").unfinished(), more("").unfinished(), more(ping)], Lives),
    ];
    for rsv in [4, 2, 1, 7] {
        rows.push(row(format!("63 reserved bits {rsv:03b}"), &[text(ping).with_rsv(rsv)], PROTOCOL));
    }
    // `{}` deflated, as permessage-deflate sends it.
    rows.push(row("86 compressed", &[text([0xAA, 0xAE, 0x05, 0x00]).with_rsv(4)], PROTOCOL));
    for opcode in (3..8).chain(11..16) {
        rows.push(row(format!("64 opcode {opcode}"), &[Frame::new(opcode, "")], PROTOCOL));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        rows.push(row(format!("66 close {code}"), &[Frame::close(code, "")], PROTOCOL));
    }
    for code in [&[1000], &[1001], &[3000], &[3008], &[4999]] {
        rows.push(row(format!("67 close {}", code[0]), &[Frame::close(code[0], "bye")], Closes(code)));
    }
    for bad in [[0xFF, 0x20, 0x20, 0x20], [0xED, 0xA0, 0x80, 0x20], [0xC0, 0xAF, 0x20, 0x20], [0xF4, 0x90, 0x80, 0x80]]
    {
        rows.push(row(format!("70 {bad:02x?}"), &[text(bad)], UTF8));
    }
    for nonsense in ["", "\n", " ", "null", "[]", "\"x\"", "0", "{}{}", "\n\n"] {
        rows.push(row(format!("81 {nonsense:?}"), &[text(nonsense)], BAD_REQUEST));
    }
    let garbage: [&[u8]; 4] =
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 64], b"{\"id\":1}"];
    for bytes in garbage {
        let name = format!("84 {}", bytes.escape_ascii());
        rows.push(Row { name, bytes: bytes.to_vec(), expected: PROTOCOL });
    }
    rows
}

/// Rows of very many frames.
fn floods() -> Vec<Row> {
    let endless = |fragment: Frame, count: usize| {
        let mut bytes = text("").unfinished().bytes();
        bytes.extend(fragment.unfinished().bytes().repeat(count));
        bytes
    };
    let cut = Cut(&[1008, 1009, 3013]);
    let flood = |name: &str, bytes| Row { name: name.to_owned(), bytes, expected: cut.clone() };
    vec![
        flood("75 200k empty fragments", endless(more(""), 200_000)),
        flood("75 131k fragments of one byte", endless(more("a"), 131_000)),
        flood("77 100k pings", Frame::new(Frame::PING, "a").bytes().repeat(100_000)),
        flood("78 100k pongs", Frame::new(Frame::PONG, "a").bytes().repeat(100_000)),
        flood("98 100k commands", text(r#"{"id":5,"ping":{}}"#).bytes().repeat(100_000)),
    ]
}

/// Plays a row on a session of its own and says what is wrong with the answer.
async fn play(node: &Node, token: &str, row: &Row) -> Option<String> {
    let mut raw = session(node, token).await;
    raw.write(&row.bytes).await;
    match &row.expected {
        Lives => {
            let wrong = lives(&mut raw).await;
            raw.write_frame(&Frame::close(1000, "")).await;
            wrong
        }
        Closes(codes) => match ending(&mut raw).await {
            Ok(code) if codes.contains(&code) => None,
            Ok(code) => Some(format!("close {code} instead of {codes:?}")),
            Err(wrong) => Some(wrong),
        },
        Cut(codes) => match ending(&mut raw).await {
            Ok(code) if !codes.contains(&code) => Some(format!("close {code} instead of {codes:?}")),
            Err(wrong) if wrong.contains("TimedOut") => Some(wrong),
            Ok(_) | Err(_) => None,
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames() {
    let node = node().start().await;
    let token = token(&node);
    let mut table = Table::default();
    for row in rows().iter().chain(&floods()) {
        table.row(&row.name, play(&node, &token, row).await);
    }
    table.check();
    unharmed(&node, &token).await;
}

/// The pongs for a burst of pings: the newest answers them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_pings_is_answered_once() {
    let node = node().start().await;
    let mut raw = session(&node, &token(&node)).await;
    let burst: Vec<u8> = (0..100).flat_map(|n| Frame::new(Frame::PING, format!("{n}")).bytes()).collect();
    raw.write(burst).await;
    let mut pongs = Vec::new();
    while pongs.last().is_none_or(|last| last != b"99") {
        match raw.read_frame().await {
            Incoming::Frame(Frame { opcode: Frame::PONG, payload, .. }) => pongs.push(payload),
            other => panic!("{other:?} after {} pongs", pongs.len()),
        }
    }
    // One read of the node may end inside the burst.
    assert!(pongs.len() <= 4, "{} pongs", pongs.len());
    assert_eq!(lives(&mut raw).await, None);
}

/// Row 83: a client that half-closes, resets, or drops its connection without a word.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_without_a_word() {
    let node = node().start().await;
    let token = token(&node);
    for _ in 0..10 {
        let mut half = session(&node, &token).await;
        half.finish().await;
        let (_, end) = half.read_to_end(PATIENCE).await;
        assert_eq!(end, Incoming::End, "the node closes as well");
        drop(session(&node, &token).await);
        reset(&node, &token).await;
        let mut inside = session(&node, &token).await;
        inside.write(&text("{}").bytes()[..3]).await;
    }
    unharmed(&node, &token).await;
}

/// A session that ends with a reset.
async fn reset(node: &Node, token: &str) {
    let connect = text(json!({"id": 1, "connect": {"token": token}}).to_string());
    let socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    let mut socket = socket;
    let raw = Raw::connect(node.websocket_url()).await;
    socket.write_all(raw.handshake_request(&[]).as_bytes()).await.unwrap();
    socket.write_all(&connect.bytes()).await.unwrap();
    let mut first = [0; 1];
    socket.read_exact(&mut first).await.unwrap();
    socket.set_zero_linger().unwrap();
}

/// No row costs memory that stays: many rounds of the whole table leave the node as large as few.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_many_times_leaves_no_memory_behind() {
    // One user connects far more often than a user may.
    let node = std::sync::Arc::new(node().set("limits.user.connect_rate", 0).start().await);
    let token = token(&node);
    let rounds = async |count: usize| {
        let mut players = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (node, token) = (node.clone(), token.clone());
            players.spawn(async move {
                for row in rows() {
                    let wrong = play(&node, &token, &row).await;
                    assert_eq!(wrong, None, "{}", row.name);
                }
            });
            while players.len() >= 8 {
                players.join_next().await.unwrap().unwrap();
            }
        }
        while let Some(played) = players.join_next().await {
            played.unwrap();
        }
        emptied(&node).await;
        node.rss()
    };
    let warm = rounds(20).await;
    let after = rounds(180).await;
    let grown = after.saturating_sub(warm);
    // 180 rounds are some 16,000 sessions: 1 KiB kept of each would be 16 MiB.
    assert!(grown < 12 << 20, "{grown} bytes more than {warm}");
    unharmed(&node, &token).await;
}
