// SPDX-License-Identifier: Apache-2.0
//! One metric as it is declared.

use metrics::{Counter, Gauge, Histogram, IntoLabels};

/// What kind of number it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by upper bounds, ascending.
    Histogram(&'static [f64]),
}

/// What one of it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// 1 is yes, 0 is no.
    Flag,
    /// A number that says something only beside others of its kind.
    Opaque,
}

/// What dashboards may count on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stability {
    /// Upstream's name and meaning: its dashboards know it.
    Upstream,
    /// Changes only with a line in the changelog.
    Stable,
    /// May change with any version.
    Evolving,
}

/// A declared metric. Made with [`crate::declare!`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Metric {
    /// As it is printed.
    pub name: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// What one of it is.
    pub unit: Unit,
    /// Keys of its labels. Values come from small fixed sets, never from paths.
    pub labels: &'static [&'static str],
    /// What dashboards may count on.
    pub stability: Stability,
    /// One sentence.
    pub help: &'static str,
}

impl Metric {
    /// The counter with these labels; cheap to keep.
    pub fn counter(&self, labels: impl IntoLabels) -> Counter {
        metrics::counter!(self.name, labels)
    }

    /// The gauge with these labels.
    pub fn gauge(&self, labels: impl IntoLabels) -> Gauge {
        metrics::gauge!(self.name, labels)
    }

    /// The histogram with these labels; cheap to keep.
    pub fn histogram(&self, labels: impl IntoLabels) -> Histogram {
        metrics::histogram!(self.name, labels)
    }

    /// Adds to the counter without labels.
    pub fn add(&self, count: u64) {
        metrics::counter!(self.name).increment(count);
    }

    /// Sets the counter without labels to a total that is counted elsewhere.
    pub fn total(&self, total: u64) {
        metrics::counter!(self.name).absolute(total);
    }

    /// Sets the gauge without labels. Numbers above 2^53 are rounded.
    pub fn set(&self, value: f64) {
        metrics::gauge!(self.name).set(value);
    }

    /// Records one observation in the histogram without labels.
    pub fn record(&self, value: f64) {
        metrics::histogram!(self.name).record(value);
    }

    pub(crate) fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.help),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, self.help),
        }
    }
}
