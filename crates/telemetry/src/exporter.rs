// SPDX-License-Identifier: Apache-2.0
//! What `/metrics` answers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

use crate::metric::{Kind, Metric};
use crate::process;

/// Observations are folded into their histograms this often, so that a process nobody scrapes
/// does not keep them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Why metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A declaration that cannot be: empty bounds.
    #[error("metric `{0}`: {1}")]
    Declaration(&'static str, String),
    /// There is a recorder already.
    #[error("install the recorder: {0}")]
    Recorder(String),
}

/// Sets gauges from state just before they are rendered.
type Observer = Box<dyn Fn() + Send + Sync>;

/// The recorder is one for the process, and so is its exporter.
static INSTALLED: OnceLock<Exporter> = OnceLock::new();

/// Renders every metric of the process. Cheap to clone.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    observers: Arc<Mutex<Vec<Observer>>>,
}

impl Exporter {
    /// Installs the process's recorder with the declared metrics and starts its upkeep; call
    /// it once, inside a runtime.
    ///
    /// # Errors
    ///
    /// `Declaration` where bounds are empty, `Recorder` where there is one already.
    pub fn install(declared: &[&[&Metric]]) -> Result<Self, InstallError> {
        let mut builder = PrometheusBuilder::new();
        for metric in declared.iter().copied().flatten() {
            if let Kind::Histogram(bounds) = metric.kind {
                let name = Matcher::Full(metric.name.to_owned());
                builder = builder
                    .set_buckets_for_metric(name, bounds)
                    .map_err(|e| InstallError::Declaration(metric.name, e.to_string()))?;
            }
        }
        let handle = builder
            .install_recorder()
            .map_err(|e| InstallError::Recorder(e.to_string()))?;
        for metric in declared.iter().copied().flatten() {
            metric.describe();
        }
        let exporter = Self {
            handle,
            observers: Arc::default(),
        };
        exporter.observe(process::observe);
        // A second one is refused by the recorder above.
        let _ = INSTALLED.set(exporter.clone());
        let upkeep = exporter.handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                upkeep.run_upkeep();
            }
        });
        Ok(exporter)
    }

    /// The exporter of this process; `None` where none was installed, as in most tests.
    #[must_use]
    pub fn installed() -> Option<&'static Self> {
        INSTALLED.get()
    }

    /// Calls `observer` before each rendering; it must be quick.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        self.observers.lock().push(Box::new(observer));
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        for observer in self.observers.lock().iter() {
            observer();
        }
        self.handle.render()
    }
}
