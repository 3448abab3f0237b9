//! Metrics of the broker, and the macro by which every room declares its own.

/// Declares a struct of Prometheus metrics. The doc comment of a field is its help text; its name is `fanway_` and the
/// field's; labels stand in brackets, buckets (for histograms) after `=`.
///
/// ```ignore
/// metrics! {
///     /// What the kitchen counts.
///     pub struct KitchenMetrics {
///         /// Dishes served.
///         dishes_total: IntCounterVec["kind"],
///         /// Time to cook, in seconds.
///         cooking_seconds: Histogram = [0.1, 1.0, 10.0],
///         /// Cooks at work.
///         cooks: IntGauge,
///     }
/// }
/// let metrics = KitchenMetrics::register(&registry)?;
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$struct_doc:meta])*
        $vis:vis struct $name:ident {
            $( #[doc = $first:literal] $(#[doc = $more:literal])* $field:ident : $kind:ident $([ $($label:literal),+ ])? $(= $buckets:expr)? ),+ $(,)?
        }
    ) => {
        $(#[$struct_doc])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $( #[doc = $first] $(#[doc = $more])* pub $field: ::prometheus::$kind, )+
        }

        impl $name {
            /// Creates the metrics in a registry.
            pub fn register(registry: &::prometheus::Registry) -> Result<Self, ::prometheus::Error> {
                Ok(Self {
                    $( $field: {
                        let name = concat!("fanway_", stringify!($field));
                        let help = concat!($first $(, $more)*).trim();
                        let metric = $crate::metrics!(@new $kind, name, help, ($([ $($label),+ ])?), ($($buckets)?))?;
                        registry.register(Box::new(metric.clone()))?;
                        metric
                    }, )+
                })
            }
        }
    };
    (@new Histogram, $name:ident, $help:ident, (), ($buckets:expr)) => {
        ::prometheus::Histogram::with_opts(::prometheus::HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@new HistogramVec, $name:ident, $help:ident, ([$($label:literal),+]), ($buckets:expr)) => {
        ::prometheus::HistogramVec::new(::prometheus::HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),+])
    };
    (@new $kind:ident, $name:ident, $help:ident, ([$($label:literal),+]), ()) => {
        ::prometheus::$kind::new(::prometheus::Opts::new($name, $help), &[$($label),+])
    };
    (@new $kind:ident, $name:ident, $help:ident, (), ()) => {
        ::prometheus::$kind::new($name, $help)
    };
}

metrics! {
    /// What the broker counts.
    pub struct BrokerMetrics {
        /// Times the feed from the broker broke, so that anything may have been missed.
        broker_interruptions_total: IntCounter,
        /// Publications heard from the broker by this node.
        broker_events_total: IntCounter,
        /// Messages from the broker that could not be read and were treated as missed.
        broker_unreadable_total: IntCounter,
        /// Publications that were logged but that the broker refused to announce; subscribers find them late.
        broker_unannounced_total: IntCounter,
        /// Echo probes that did not come back although the broker answered: this node did not hear.
        broker_deaf_total: IntCounter,
        /// Times this node's connections to the broker were found to lead to different servers.
        broker_split_total: IntCounter,
        /// Failed broker calls by operation and reason.
        broker_errors_total: IntCounterVec["operation", "reason"],
        /// Time of broker calls in seconds, by operation.
        broker_call_seconds: HistogramVec["operation"] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0],
        /// Age in seconds of the newest echo probe that came back through pub/sub; -1 before the first.
        broker_echo_age_seconds: Gauge,
        /// 1 while the broker answers commands, else 0.
        broker_up: IntGauge,
        /// 1 while the broker answers but refuses publishes, by cause, else 0.
        broker_publishes_refused: IntGaugeVec["cause"],
        /// Channels this node wants the broker to deliver.
        broker_subscriptions: IntGauge,
    }
}
