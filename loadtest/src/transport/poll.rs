//! Long polling: request, answer, next request from the answer's cursor, over one kept connection.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::data::Publication;
use super::{Fault, Memo, Opening, Signal, channel_query, head, header_has};

/// How long a poll may wait for a publication, in seconds; below every idle timeout on the way.
const WAIT: u32 = 25;

/// One connection's state.
pub struct Wire {
    /// The request up to the cursor's value.
    before: Box<[u8]>,
    /// What follows it.
    after: Box<[u8]>,
    /// Whether the first answer, which gives the cursor to begin from, has come.
    begun: bool,
}

impl Wire {
    pub(super) fn open(opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        let Opening { target, token, channels, resume } = opening;
        let mut before = format!("GET {}/poll", target.base).into_bytes();
        channel_query(channels, &mut before);
        let mut after = format!(" HTTP/1.1\r\nHost: {}\r\n", target.host);
        if !token.is_empty() {
            after.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        after.push_str("\r\n");
        let wire = Self { before: before.into(), after: after.into_bytes().into(), begun: false };
        match resume {
            Some(position) => wire.ask(&position.cursor(channels), out),
            None => {
                out.extend_from_slice(&wire.before);
                out.extend_from_slice(&wire.after);
            }
        }
        wire
    }

    fn ask(&self, cursor: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        // A cursor is made of characters that need no coding.
        out.extend_from_slice(format!("&timeout={WAIT}&cursor={cursor}").as_bytes());
        out.extend_from_slice(&self.after);
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some((start, length, last)) = head(&bytes[used..], |response, start| {
            let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
            match (response.code, length) {
                (Some(200), Some(length)) => Ok((start, length, header_has(response, "connection", "close"))),
                (Some(200), None) => Err(Fault::Protocol("an answer without a content-length")),
                (code, _) => Err(Fault::Status(code.unwrap_or(0))),
            }
        })? {
            let Some(body) = bytes[used..].get(start..start.saturating_add(length)) else { break };
            used += start + length;
            self.answer(body, memo, out, take)?;
            if last {
                return Err(Fault::Ended);
            }
        }
        Ok(used)
    }

    fn answer(
        &mut self,
        body: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<(), Fault> {
        let answer: Answer<'_> =
            serde_json::from_slice(body).map_err(|_| Fault::Protocol("an answer that is none of a poll"))?;
        if !self.begun {
            self.begun = true;
            take(Signal::Ready);
        }
        answer.gaps.iter().for_each(|_| take(Signal::Gap));
        for publication in &answer.publications {
            take(memo.signal(publication.get().as_bytes(), |text| {
                let publication: Publication<'_> = serde_json::from_slice(text)
                    .map_err(|_| Fault::Protocol("what should be a publication is none"))?;
                Ok(publication.signal())
            })?);
        }
        self.ask(&answer.cursor, out);
        Ok(())
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    publications: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    gaps: Vec<&'a RawValue>,
    #[serde(borrow)]
    cursor: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use fanway_protocol::Channel;

    use super::super::Position;
    use super::*;
    use crate::target::Target;

    fn open(resume: Option<&Position>, out: &mut Vec<u8>) -> Wire {
        let target = Target::parse("http://127.0.0.1:1", false).unwrap();
        let channels = [Channel::new("a-0").unwrap()];
        Wire::open(&Opening { target: &target, token: "t", channels: &channels, resume }, out)
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn each_answer_is_followed_by_a_request_from_its_cursor_however_it_is_cut() {
        let first = answer(r#"{"publications":[],"gaps":[],"cursor":"1~e.0"}"#);
        let publication = r#"{"channel":"a-0","offset":1,"epoch":"e","data":{"run":5,"n":0,"at":9},"time":1}"#;
        let second = answer(&format!(r#"{{"publications":[{publication}],"gaps":[{{}}],"cursor":"1~e.1"}}"#));
        let stream = format!("{first}{second}").into_bytes();
        for cut in 0..stream.len() {
            let (mut asked, mut out) = (Vec::new(), Vec::new());
            let mut wire = open(None, &mut asked);
            assert_eq!(
                asked,
                b"GET /poll?channel=a-0 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer t\r\n\r\n"
            );
            let (mut memo, mut signals) = (Memo::default(), Vec::new());
            let mut take = |signal| signals.push(signal);
            let used = wire.receive(&stream[..cut], &mut memo, &mut out, &mut take).unwrap();
            let rest = wire.receive(&stream[used..], &mut memo, &mut out, &mut take).unwrap();
            assert_eq!(used + rest, stream.len());
            let publication = Signal::Publication { run: 5, channel: 0, sequence: 0, due: 9 };
            assert_eq!(signals, [Signal::Ready, Signal::Gap, publication], "cut at {cut}");
            let out = String::from_utf8(out).unwrap();
            assert!(out.starts_with("GET /poll?channel=a-0&timeout=25&cursor=1~e.0 HTTP/1.1\r\n"), "{out}");
            assert!(out.contains("&cursor=1~e.1 HTTP/1.1\r\n"), "{out}");
        }
    }

    #[test]
    fn a_resume_asks_from_its_position_and_refusals_are_faults() {
        let mut asked = Vec::new();
        let mut wire = open(Some(&Position { epochs: vec!["e".into()], offset: 7 }), &mut asked);
        assert!(asked.starts_with(b"GET /poll?channel=a-0&timeout=25&cursor=2~iWRFe.7 HTTP/1.1\r\n"));
        let mut receive =
            |text: &str| wire.receive(text.as_bytes(), &mut Memo::default(), &mut Vec::new(), &mut |_| {}).unwrap_err();
        assert_eq!(receive("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), Fault::Status(503));
        assert_eq!(receive(&answer("[]")), Fault::Protocol("an answer that is none of a poll"));
    }
}
