//! Log lines: to standard error, fields rather than prose, never tokens, payloads or keys.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::settings::{LogFormat, Settings};
use super::traces::{TARGET, Traces};

/// Starts logging for the process, and hands spans to who keeps them; a second call changes nothing.
pub fn init(settings: &Settings, traces: Option<&Traces>) {
    // The level was validated with the settings.
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = match traces {
        None => registry().with(filter).with(lines(settings)).try_init(),
        Some(traces) => {
            // Spans are for the collector, not for the log.
            let filter = filter.add_directive(format!("{TARGET}=off").parse().unwrap_or(LevelFilter::INFO.into()));
            registry().with(lines(settings).with_filter(filter)).with(traces.layer()).try_init()
        }
    };
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
