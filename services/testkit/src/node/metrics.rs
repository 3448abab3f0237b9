//! The Prometheus text format, as far as tests read it.

/// The sum of a metric's series that have all these labels; `None` when there is none.
pub(super) fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let values = text.lines().filter_map(|line| value(line, name, labels));
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

fn value(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (series, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    // Label values of Fanway have no quotes or commas to escape.
    let has = |(label, value): &(&str, &str)| series.split(',').any(|pair| pair == format!("{label}=\"{value}\""));
    labels.iter().all(has).then(|| value.split(' ').next()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_series_that_match() {
        let text = "# HELP fanway_connections open\n# TYPE fanway_connections gauge\n\
                    fanway_connections{transport=\"websocket\",tls=\"no\"} 3\nfanway_connections{transport=\"sse\",tls=\"no\"} 4\n\
                    fanway_connections_limit 10\nup 1 1700000000000\n";
        assert_eq!(sum(text, "fanway_connections", &[]), Some(7.0));
        assert_eq!(sum(text, "fanway_connections", &[("transport", "sse")]), Some(4.0));
        assert_eq!(sum(text, "fanway_connections", &[("transport", "poll")]), None);
        assert_eq!(sum(text, "fanway_connections_limit", &[]), Some(10.0));
        assert_eq!(sum(text, "fanway_conn", &[]), None);
        assert_eq!(sum(text, "up", &[]), Some(1.0));
    }
}
