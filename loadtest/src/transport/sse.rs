//! Plain server-sent events over HTTP/1.1.

use super::chunked::{self, Chunked};
use super::data::Publication;
use super::{Fault, Memo, Opening, Signal, channel_query, head, header_has};

/// One connection's state.
#[derive(Default)]
pub struct Wire {
    stage: Stage,
}

#[derive(Default)]
enum Stage {
    /// The response's head is still to come.
    #[default]
    Head,
    /// The body ends with the connection.
    Plain,
    /// The body comes in chunks. Holds content that is no whole event yet; empty while idle.
    Chunked(Chunked, Vec<u8>),
}

impl Wire {
    pub(super) fn open(opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        let Opening { target, token, channels, resume } = opening;
        out.extend_from_slice(format!("GET {}/sse", target.base).as_bytes());
        channel_query(channels, out);
        out.extend_from_slice(
            format!(" HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n", target.host).as_bytes(),
        );
        if !token.is_empty() {
            out.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
        }
        if let Some(position) = resume {
            out.extend_from_slice(format!("Last-Event-ID: {}\r\n", position.cursor(channels)).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        Self::default()
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        let mut used = 0;
        if let Stage::Head = self.stage {
            let body = head(bytes, |response, length| match response.code {
                Some(200) if header_has(response, "content-type", "text/event-stream") => {
                    Ok((length, header_has(response, "transfer-encoding", "chunked")))
                }
                code => Err(Fault::Status(code.unwrap_or(0))),
            })?;
            let Some((length, chunked)) = body else { return Ok(0) };
            used = length;
            self.stage = if chunked { Stage::Chunked(Chunked::default(), Vec::new()) } else { Stage::Plain };
        }
        match &mut self.stage {
            Stage::Head => Ok(used),
            Stage::Plain => Ok(used + events(&bytes[used..], memo, take)?),
            Stage::Chunked(chunked, content) => {
                // A chunk that is here as a whole is read where it is, as the events of a plain stream are.
                while content.is_empty() && *chunked == Chunked::default() {
                    let Some((chunk, length)) = chunked::whole(&bytes[used..]) else { break };
                    let whole = events(chunk, memo, take)?;
                    content.extend_from_slice(&chunk[whole..]);
                    used += length;
                }
                chunked.decode(&bytes[used..], content)?;
                let whole = events(content, memo, take)?;
                content.drain(..whole);
                if content.is_empty() {
                    *content = Vec::new();
                }
                if *chunked == Chunked::End { Err(Fault::Ended) } else { Ok(bytes.len()) }
            }
        }
    }
}

/// Takes whole events (up to their blank lines) from the front of the content, and lines that belong to none, and returns
/// how many bytes they had.
///
/// Lines end in LF or CRLF; a lone CR, which the standard also allows, is not read.
fn events(content: &[u8], memo: &mut Memo, take: &mut dyn FnMut(Signal)) -> Result<usize, Fault> {
    let (mut whole, mut at) = (0, 0);
    let (mut kind, mut data): (&[u8], Option<&[u8]>) = (b"message", None);
    while let Some(length) = content[at..].iter().position(|byte| *byte == b'\n') {
        let line = &content[at..at + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += length + 1;
        if let Some(value) = field(line, b"event:") {
            kind = value;
        } else if let Some(value) = field(line, b"data:") {
            if data.replace(value).is_some() {
                return Err(Fault::Protocol("an event of several data lines"));
            }
        } else if line.is_empty() {
            whole = at;
            let kind = std::mem::replace(&mut kind, b"message");
            if let Some(data) = data.take() {
                take(match kind {
                    b"message" => memo.signal(data, publication)?,
                    b"ready" | b"open" => Signal::Ready,
                    b"gap" => Signal::Gap,
                    _ => Signal::Other,
                });
            }
        } else if data.is_none() && kind == b"message" {
            // A comment, or a field that means nothing here.
            whole = at;
        }
    }
    Ok(whole)
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

fn publication(data: &[u8]) -> Result<Signal, Fault> {
    let publication: Publication<'_> =
        serde_json::from_slice(data).map_err(|_| Fault::Protocol("an event that is no publication"))?;
    Ok(publication.signal())
}

#[cfg(test)]
mod tests {
    use fanway_protocol::Channel;

    use super::*;
    use crate::target::Target;

    const BODY: &str = ": hello\nretry: 1000\nevent: ready\ndata: {\"cursor\":\"1~e.0\"}\nid: 1~e.0\n\n\
                        data: {\"channel\":\"a-3\",\"offset\":1,\"epoch\":\"e\",\"data\":{\"run\":5,\"n\":0,\"at\":9},\"time\":1}\r\nid: 1~e.1\r\n\r\n\
                        :\n:\nevent: gap\ndata: {\"channel\":\"a\",\"reason\":\"x\"}\nid: 1~f.0\n\n";

    /// Receives in two parts, cut everywhere.
    fn receive(stream: &[u8]) -> Vec<(Vec<Signal>, Option<Fault>)> {
        let target = Target::parse("http://127.0.0.1:1", false).unwrap();
        let channel = Channel::new("a/b").unwrap();
        let outcomes = (0..stream.len()).map(|cut| {
            let mut out = Vec::new();
            let channels = [channel.clone(), Channel::new("b").unwrap()];
            let opening = Opening { target: &target, token: "t", channels: &channels, resume: None };
            let mut wire = Wire::open(&opening, &mut out);
            assert!(out.starts_with(b"GET /sse?channel=a%2Fb&channel=b HTTP/1.1\r\n"));
            let (mut memo, mut signals) = (Memo::default(), Vec::new());
            let mut take = |signal| signals.push(signal);
            let fault = wire
                .receive(&stream[..cut], &mut memo, &mut take)
                .and_then(|used| wire.receive(&stream[used..], &mut memo, &mut take));
            (signals, fault.err())
        });
        outcomes.collect()
    }

    #[test]
    fn events_are_read_however_they_are_cut_and_coded() {
        let signals = vec![Signal::Ready, Signal::Publication { run: 5, channel: 3, sequence: 0, due: 9 }, Signal::Gap];
        let plain = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n{BODY}");
        assert!(receive(plain.as_bytes()).into_iter().all(|outcome| outcome == (signals.clone(), None)));
        let (first, second) = BODY.split_at(77);
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n",
            first.len(),
            second.len()
        );
        assert!(receive(chunked.as_bytes()).into_iter().all(|outcome| outcome == (signals.clone(), None)));
        // As Fanway writes it: an event is a chunk, and so is a line between two.
        let lines = [": hello\nretry: 1000\n", ":\n", "retry: 500\n"];
        let (ready, rest) = BODY.strip_prefix(lines[0]).unwrap().split_once("\n\n").unwrap();
        let (publication, gap) = rest.split_once(":\n").unwrap();
        let chunks = [lines[0], &format!("{ready}\n\n"), publication, lines[1], gap, lines[2]];
        let coded = chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).concat();
        let head = chunked.split_once("\r\n\r\n").unwrap().0;
        let by_event = format!("{head}\r\n\r\n{coded}");
        assert!(receive(by_event.as_bytes()).into_iter().all(|outcome| outcome == (signals.clone(), None)));
        let ended = format!("{chunked}0\r\n\r\n");
        assert!(receive(ended.as_bytes()).into_iter().all(|outcome| outcome == (signals.clone(), Some(Fault::Ended))));
    }

    #[test]
    fn refusals_and_nonsense_are_faults() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        for (stream, fault) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n".to_owned(), Fault::Status(401)),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n".to_owned(), Fault::Status(200)),
            (format!("{head}data: nonsense\n\n"), Fault::Protocol("an event that is no publication")),
        ] {
            for outcome in receive(stream.as_bytes()) {
                assert_eq!(outcome, (vec![], Some(fault.clone())));
            }
        }
    }
}
