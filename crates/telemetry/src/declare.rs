// SPDX-License-Identifier: Apache-2.0
//! The form in which crates declare metrics.

/// Declares metrics, one row each, and the list `METRICS` of them all.
///
/// A macro because a row must not be able to miss the list. The kinds are `counter`, `gauge`
/// and `histogram [bounds]`.
///
/// ```
/// dulse_telemetry::declare! {
///     READY: gauge "dulse_filer_ready", Flag, [], Stable, "Whether namespace calls are served.";
///     WAIT: histogram [0.1, 1.0] "dulse_wait_seconds", Seconds, ["queue"], Evolving, "Time spent.";
/// }
/// assert_eq!(METRICS.len(), 2);
/// ```
#[macro_export]
macro_rules! declare {
    ($($id:ident: $kind:ident $([$($bound:expr),*])? $name:literal, $unit:ident,
        [$($label:literal),*], $stability:ident, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: $crate::Metric = $crate::Metric {
                name: $name,
                kind: $crate::declare!(@kind $kind $([$($bound),*])?),
                unit: $crate::Unit::$unit,
                labels: &[$($label),*],
                stability: $crate::Stability::$stability,
                help: $help,
            };
        )*
        /// All of this file's metrics, in their order.
        pub static METRICS: &[&$crate::Metric] = &[$(&$id),*];
    };
    (@kind counter) => { $crate::Kind::Counter };
    (@kind gauge) => { $crate::Kind::Gauge };
    (@kind histogram [$($bound:expr),*]) => { $crate::Kind::Histogram(&[$($bound),*]) };
}
