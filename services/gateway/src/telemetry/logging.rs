//! Log lines: to standard error, fields rather than prose, never tokens, payloads or keys.

use std::borrow::Cow;
use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::settings::{LogFormat, Settings};
use super::traces::{TARGET, Traces};

/// Starts logging for the process, and hands spans to who keeps them; a second call changes nothing.
pub fn init(settings: &Settings, traces: Option<&Traces>) {
    // The level was validated with the settings.
    let filter = filter(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("fanway=info"));
    let _ = match traces {
        None => registry().with(filter).with(lines(settings)).try_init(),
        Some(traces) => {
            // Spans are for the collector, not for the log.
            let filter = filter.add_directive(format!("{TARGET}=off").parse().unwrap_or(LevelFilter::INFO.into()));
            registry().with(lines(settings).with_filter(filter)).with(traces.layer()).try_init()
        }
    };
}

/// The filter of `telemetry.log_level`. A level without a target holds for Fanway's own crates, the others are silent
/// unless the setting names them (`info,h2=debug`).
///
/// Libraries log per input: h2 one WARN for each PING acknowledgement that nobody asked for, rustls one per alert. At a
/// level of their own a client without credentials would fill the log; what of it matters Fanway logs itself.
pub(super) fn filter(log_level: &str) -> Result<EnvFilter, ParseError> {
    let directives: Vec<_> = log_level
        .split(',')
        .map(str::trim)
        .map(|directive| match directive.parse::<LevelFilter>() {
            // The target is a prefix: it covers `fanway_hub` and the rest.
            Ok(level) => Cow::from(format!("fanway={level}")),
            Err(_) => Cow::from(directive),
        })
        .collect();
    EnvFilter::try_new(directives.join(","))
}

fn lines<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tracing::{Level, enabled};

    use super::*;

    #[test]
    fn a_level_holds_for_fanway_and_libraries_are_silent_unless_named() {
        let within = |log_level: &str, check: fn()| {
            tracing::subscriber::with_default(registry().with(filter(log_level).unwrap()), check);
        };
        within("info", || {
            assert!(enabled!(target: "fanway_gateway::app", Level::INFO));
            assert!(enabled!(target: "fanway_broker::redis", Level::INFO));
            assert!(!enabled!(target: "fanway_hub", Level::DEBUG));
            assert!(!enabled!(target: "h2::proto::ping_pong", Level::WARN));
            assert!(!enabled!(target: "rustls::common_state", Level::ERROR));
        });
        within("debug, h2=warn", || {
            assert!(enabled!(target: "fanway_hub", Level::DEBUG));
            assert!(enabled!(target: "h2::proto::ping_pong", Level::WARN));
            assert!(!enabled!(target: "rustls::common_state", Level::ERROR));
        });
        within("warn,fanway_hub=debug", || {
            assert!(enabled!(target: "fanway_hub::session", Level::DEBUG));
            assert!(!enabled!(target: "fanway_broker", Level::INFO));
        });
    }
}
