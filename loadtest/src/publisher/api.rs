//! How publications are handed to a server: the place for other products' ways.

use anyhow::bail;
use serde::Deserialize;

use super::pusher::Application;
use crate::http::Response;
use crate::transport::{Transport, channel_path};

/// A server API.
#[derive(Clone, Debug)]
pub enum Api {
    /// Fanway's, and that of every server of the Centrifugal protocol.
    Centrifugal {
        /// Sent in `X-API-Key`.
        key: String,
    },
    /// A channel is a path and the data a body: nchan, and the small servers in `loadtest/peers`.
    Plain,
    /// That of the Pusher protocol.
    Pusher(Application),
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
pub(super) type Request = (String, String, String);

impl Api {
    /// That of a running server whose clients use a transport.
    pub fn of(transport: Transport, key: &str) -> anyhow::Result<Self> {
        Ok(match transport {
            Transport::Websocket | Transport::Sse | Transport::Poll => Self::Centrifugal { key: key.to_owned() },
            Transport::Plain | Transport::Socketio => Self::Plain,
            Transport::Pusher => Self::Pusher(Application::parse(key)?),
        })
    }

    /// One publication.
    pub fn publish(&self, channel: &str, data: &str) -> Request {
        match self {
            Self::Centrifugal { key } => {
                let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
                ("/api/publish".to_owned(), headers(key), body)
            }
            Self::Plain => (channel_path("/pub/", channel), JSON.to_owned(), data.to_owned()),
            Self::Pusher(application) => application.publish(&[channel], data),
        }
    }

    /// The same data to many channels.
    pub fn broadcast(&self, channels: impl Iterator<Item = String>, data: &str) -> anyhow::Result<Request> {
        match self {
            Self::Centrifugal { key } => {
                let channels: Vec<String> = channels.map(|channel| format!("\"{channel}\"")).collect();
                let body = format!(r#"{{"channels":[{}],"data":{data}}}"#, channels.join(","));
                Ok(("/api/broadcast".to_owned(), headers(key), body))
            }
            Self::Plain => bail!("such a server takes one channel in a request"),
            Self::Pusher(application) => {
                let channels: Vec<String> = channels.collect();
                Ok(application.publish(&channels, data))
            }
        }
    }

    /// What a response to either says; for a broadcast the first failure is that of all.
    pub fn outcome(&self, response: &Response) -> anyhow::Result<Place> {
        if !matches!(self, Self::Centrifugal { .. }) {
            return match response.status {
                200..=202 => Ok(Place::default()),
                status => bail!("HTTP {status}: {}", String::from_utf8_lossy(&response.body).trim_end()),
            };
        }
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

/// The header that says so.
pub(super) const JSON: &str = "Content-Type: application/json\r\n";

fn headers(key: &str) -> String {
    format!("{JSON}X-API-Key: {key}\r\n")
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
        let (_, headers, body) = api.broadcast(["a".to_owned(), "b".to_owned()].into_iter(), "{}").unwrap();
        assert!(headers.ends_with("X-API-Key: k\r\n"));
        assert_eq!(body, r#"{"channels":["a","b"],"data":{}}"#);
    }

    #[test]
    fn plain_servers_get_the_data_itself() {
        let (path, _, body) = Api::Plain.publish("a/b-1", r#"{"n":1}"#);
        assert_eq!((path.as_str(), body.as_str()), ("/pub/a%2Fb-1", r#"{"n":1}"#));
        assert!(Api::Plain.broadcast(["a".to_owned()].into_iter(), "{}").is_err());
        // nchan's answer to a publication in a channel with subscribers, and one that is refused.
        let outcome = |status, body: &str| Api::Plain.outcome(&Response { status, body: body.into() });
        let queued =
            "queued messages: 1\r\nlast requested: 3 sec. ago\r\nactive subscribers: 2\r\nlast message id: 1:0";
        assert_eq!(outcome(201, queued).unwrap(), Place::default());
        assert!(outcome(202, "").is_ok());
        assert_eq!(outcome(403, "no\n").unwrap_err().to_string(), "HTTP 403: no");
    }
}
