//! How publications are handed to a server: the place for other products' ways.

use anyhow::bail;
use serde::Deserialize;

use crate::http::Response;

/// A server API.
#[derive(Clone, Debug)]
pub enum Api {
    /// Fanway's, and that of every server of the Centrifugal protocol.
    Centrifugal {
        /// Sent in `X-API-Key`.
        key: String,
    },
}

/// What a publish is answered with: where it stands in the channel's history, if the server says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Place {
    /// The channel's epoch.
    #[serde(default)]
    pub epoch: String,
    /// The publication's offset.
    #[serde(default)]
    pub offset: u64,
}

/// A request's path, its headers as whole lines, and its body.
pub(super) type Request = (&'static str, String, String);

impl Api {
    /// One publication.
    pub fn publish(&self, channel: &str, data: &str) -> Request {
        let Self::Centrifugal { key } = self;
        let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
        ("/api/publish", headers(key), body)
    }

    /// The same data to many channels.
    pub fn broadcast(&self, channels: impl Iterator<Item = String>, data: &str) -> Request {
        let Self::Centrifugal { key } = self;
        let channels: Vec<String> = channels.map(|channel| format!("\"{channel}\"")).collect();
        let body = format!(r#"{{"channels":[{}],"data":{data}}}"#, channels.join(","));
        ("/api/broadcast", headers(key), body)
    }

    /// What a response to either says; for a broadcast the first failure is that of all.
    pub fn outcome(&self, response: &Response) -> anyhow::Result<Place> {
        let answer: Option<Answer> = serde_json::from_slice(&response.body).ok();
        match (response.status, answer) {
            (200, Some(Answer { error: None, result: Some(result) })) => {
                match result.responses.into_iter().find_map(|response| response.error) {
                    Some(error) => bail!("error {}: {}", error.code, error.message),
                    None => Ok(result.place),
                }
            }
            (200, Some(Answer { error: None, result: None })) => Ok(Place::default()),
            (status, Some(Answer { error: Some(error), .. })) => {
                bail!("HTTP {status}, error {}: {}", error.code, error.message)
            }
            (status, _) => bail!("HTTP {status}"),
        }
    }
}

fn headers(key: &str) -> String {
    format!("Content-Type: application/json\r\nX-API-Key: {key}\r\n")
}

#[derive(Deserialize)]
struct Answer {
    error: Option<Problem>,
    result: Option<Outcome>,
}

#[derive(Deserialize)]
struct Problem {
    code: serde_json::Value,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(flatten)]
    place: Place,
    #[serde(default)]
    responses: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    error: Option<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let api = Api::Centrifugal { key: "k".into() };
        let outcome = |status, body: &str| api.outcome(&Response { status, body: body.into() });
        let place = Place { epoch: "e".into(), offset: 7 };
        assert_eq!(outcome(200, r#"{"result":{"offset":7,"epoch":"e"}}"#).unwrap(), place);
        assert_eq!(outcome(200, r#"{"result":{}}"#).unwrap(), Place::default());
        assert!(outcome(200, r#"{"result":{"responses":[{"result":{"offset":1}},{"result":{}}]}}"#).is_ok());
        for (status, body, reason) in [
            (200, r#"{"error":{"code":102,"message":"unknown channel"}}"#, "unknown channel"),
            (200, r#"{"result":{"responses":[{"result":{}},{"error":{"code":100,"message":"oops"}}]}}"#, "oops"),
            (401, "", "HTTP 401"),
            (503, r#"{"error":{"code":100,"message":"away"}}"#, "HTTP 503, error 100: away"),
        ] {
            assert!(outcome(status, body).unwrap_err().to_string().contains(reason), "{body}");
        }
    }

    #[test]
    fn requests_are_json() {
        let api = Api::Centrifugal { key: "k".into() };
        let (_, headers, body) = api.broadcast(["a".to_owned(), "b".to_owned()].into_iter(), "{}");
        assert!(headers.ends_with("X-API-Key: k\r\n"));
        assert_eq!(body, r#"{"channels":["a","b"],"data":{}}"#);
    }
}
