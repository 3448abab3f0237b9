//! The registry that every room's metrics live in, and its text form.

use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A registry with the figures of the process and of the build. Rooms register theirs in it.
pub fn registry() -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    let build_info =
        IntGaugeVec::new(Opts::new("fanway_build_info", "Always 1; the label tells the version."), &["version"])?;
    build_info.with_label_values(&[VERSION]).set(1);
    registry.register(Box::new(build_info))?;
    Ok(registry)
}

/// The answer to `GET /metrics`: content type and body.
pub fn encode(registry: &Registry) -> (&'static str, String) {
    let mut body = String::new();
    // Writing into a `String` cannot fail; what else is reported is a metric that was registered badly, whose lines are
    // then missing.
    if let Err(error) = TextEncoder::new().encode_utf8(&registry.gather(), &mut body) {
        tracing::error!(%error, "metrics cannot be encoded");
    }
    (prometheus::TEXT_FORMAT, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_and_build_are_told() {
        let (content_type, body) = encode(&registry().unwrap());
        assert_eq!(content_type, prometheus::Encoder::format_type(&TextEncoder::new()));
        assert!(body.contains(&format!("fanway_build_info{{version=\"{VERSION}\"}} 1")), "{body}");
        assert!(body.contains("process_resident_memory_bytes"), "{body}");
    }
}
