// SPDX-License-Identifier: Apache-2.0
//! Clients in a closed loop, or at a given rate: each has one request in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// Significant digits of the histograms.
const DIGITS: u8 = 3;

/// When to stop, and how fast to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// No request starts later.
    pub(crate) time: Duration,
    /// Most operations.
    pub(crate) operations: u64,
    /// Operations begun per second by all clients together; as fast as they can where absent.
    pub(crate) rate: Option<f64>,
}

impl Limits {
    /// For some time, as fast as it goes.
    pub(crate) fn time(time: Duration) -> Self {
        Self {
            time,
            operations: u64::MAX,
            rate: None,
        }
    }

    /// Until this many are done, as fast as it goes.
    pub(crate) fn operations(operations: u64) -> Self {
        Self {
            time: Duration::from_secs(3600),
            operations,
            rate: None,
        }
    }
}

/// What came of it. Operations 0 to `operations` - 1 were done, in about that order.
pub(crate) struct Driven {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    /// In microseconds, from when each was begun.
    pub(crate) latencies_us: Histogram<u64>,
}

/// An empty histogram of microseconds.
///
/// # Errors
///
/// Never with these digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(DIGITS)?)
}

/// Has every client do operations, whose numbers count up over all clients.
///
/// # Errors
///
/// The first operation that fails.
pub(crate) async fn drive<C, F, Fut>(clients: &[C], limits: Limits, operation: F) -> Result<Driven>
where
    C: Clone + Send + 'static,
    F: Fn(C, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    // Whoever gives up the drive ends its clients, too.
    let mut tasks = JoinSet::new();
    for client in clients {
        let (client, next, operation) = (client.clone(), Arc::clone(&next), operation.clone());
        tasks.spawn(one_client(client, next, start, limits, operation));
    }
    let mut latencies_us = histogram()?;
    while let Some(ended) = tasks.join_next().await {
        latencies_us.add(ended??)?;
    }
    Ok(Driven {
        operations: latencies_us.len(),
        elapsed: start.elapsed(),
        latencies_us,
    })
}

async fn one_client<C, F, Fut>(
    client: C,
    next: Arc<AtomicU64>,
    start: Instant,
    limits: Limits,
    operation: F,
) -> Result<Histogram<u64>>
where
    C: Clone,
    F: Fn(C, u64) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let mut latencies = histogram()?;
    // Order: the time is looked at before a number is taken, so that no number is left out.
    while start.elapsed() < limits.time {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= limits.operations {
            break;
        }
        if let Some(rate) = limits.rate {
            let due = start + Duration::from_secs_f64(n as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        let began = Instant::now();
        operation(client.clone(), n)
            .await
            .with_context(|| format!("operation {n}"))?;
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        latencies.record(us)?;
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_number_is_taken_once() -> Result<()> {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let driven = drive(&[(); 5], Limits::operations(1000), move |(), n| {
            let log = Arc::clone(&log);
            async move {
                log.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(n);
                Ok(())
            }
        })
        .await?;
        assert_eq!(driven.operations, 1000);
        let mut seen = seen
            .lock()
            .map_err(|_| anyhow::anyhow!("poisoned"))?
            .clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        Ok(())
    }

    #[tokio::test]
    async fn clients_end_with_the_drive() -> Result<()> {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let driving = drive(&[(); 3], Limits::operations(u64::MAX), move |(), _| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(())
            }
        });
        let ended = tokio::time::timeout(Duration::from_millis(50), driving).await;
        assert!(ended.is_err(), "nobody stops it");
        tokio::task::yield_now().await;
        let at_end = count.load(Ordering::Relaxed);
        assert!(at_end > 0);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(count.load(Ordering::Relaxed), at_end);
        Ok(())
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_number() {
        let failed = drive(&[()], Limits::operations(9), |(), n| async move {
            anyhow::ensure!(n < 4, "too much");
            Ok(())
        });
        let text = format!("{:#}", failed.await.err().unwrap());
        assert!(text.contains("operation 4"), "{text}");
    }
}
