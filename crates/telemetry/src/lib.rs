// SPDX-License-Identifier: Apache-2.0
//! Logs, metrics, request ids.
//!
//! A crate declares its metrics in one file with [`declare!`]; [`Exporter`] renders them
//! all, and [`reference()`] writes `docs/metrics.md` from the same declarations. A request
//! has one [`RequestId`] through all the processes that it touches: [`GrpcLayer`] and
//! [`HttpLayer`] take it in or make it, [`request::headers`] passes it on.
//!
//! Not here: listeners, and what any one role measures.

mod declare;
mod exporter;
pub mod layer;
pub mod logs;
mod metric;
pub mod process;
mod reference;
pub mod request;

pub use exporter::{Exporter, InstallError};
pub use layer::{GrpcLayer, GrpcObserved, HttpLayer, HttpObserved};
pub use metric::{Kind, Metric, Stability, Unit};
pub use reference::reference;
pub use request::RequestId;

/// Metrics that every role has: of its process and of the calls it serves.
pub static METRICS: &[&[&Metric]] = &[process::METRICS, layer::METRICS];
