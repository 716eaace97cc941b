// SPDX-License-Identifier: Apache-2.0
//! Samples, their medians, and the table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::drive::Driven;
use crate::machine::Machine;
use crate::system::Kind;
use crate::workloads::{Cpu, Plan};

/// One repetition of one workload on one system.
pub(crate) struct Sample {
    pub(crate) per_second: Option<f64>,
    pub(crate) seconds: f64,
    /// CPU time per operation of the measured filer and of the other.
    pub(crate) cpu_us: (f64, f64),
    pub(crate) latencies_us: Option<Histogram<u64>>,
    /// Of the measured filer and of the other.
    pub(crate) resident_bytes: Option<(u64, u64)>,
}

impl Sample {
    /// Of operations with their latencies.
    pub(crate) fn of(driven: &Driven, used: Cpu) -> Self {
        let mut sample = Self::total(driven.operations, driven.elapsed, used);
        sample.latencies_us = Some(driven.latencies_us.clone());
        sample
    }

    /// Of many operations that were one piece of work.
    pub(crate) fn total(operations: u64, elapsed: Duration, used: Cpu) -> Self {
        let n = operations.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / n;
        Self {
            per_second: Some(n / elapsed.as_secs_f64().max(1e-9)),
            seconds: elapsed.as_secs_f64(),
            cpu_us: (each(used.first), each(used.others)),
            latencies_us: None,
            resident_bytes: None,
        }
    }

    /// Of times alone.
    pub(crate) fn times(times_us: Histogram<u64>, used: Cpu) -> Self {
        let mut sample = Self::total(times_us.len(), Duration::from_secs(1), used);
        sample.per_second = None;
        sample.latencies_us = Some(times_us);
        sample
    }
}

/// What one system came to in one workload: the median of each figure.
#[derive(Clone, Debug, Default)]
struct Figures {
    repetitions: usize,
    per_second: Option<f64>,
    spread: f64,
    cpu_us: f64,
    peer_cpu_us: f64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    resident_mib: Option<(f64, f64)>,
}

/// All samples of a run.
pub(crate) struct Report {
    machine: Machine,
    plan: Plan,
    workloads: Vec<String>,
    samples: BTreeMap<(String, Kind), Vec<Sample>>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(machine: Machine, plan: Plan) -> Self {
        Self {
            machine,
            plan,
            workloads: Vec::new(),
            samples: BTreeMap::new(),
        }
    }

    /// Takes a sample and tells of it on standard error.
    ///
    /// # Errors
    ///
    /// When a histogram is full.
    pub(crate) fn add(&mut self, workload: &str, kind: Kind, sample: Sample) -> Result<()> {
        let rate = sample
            .per_second
            .map_or_else(String::new, |r| format!(" {r:.0}/s"));
        let lag = sample.latencies_us.as_ref().map_or_else(String::new, |h| {
            let (p50, p99) = (h.value_at_quantile(0.5), h.value_at_quantile(0.99));
            format!(", p50 {p50} us, p99 {p99} us")
        });
        eprintln!(
            "  {workload}, {kind:?}:{rate}, cpu {:.1} us, other filer {:.1} us{lag}",
            sample.cpu_us.0, sample.cpu_us.1
        );
        if !self.workloads.iter().any(|w| w == workload) {
            self.workloads.push(workload.to_owned());
        }
        let key = (workload.to_owned(), kind);
        self.samples.entry(key).or_default().push(sample);
        Ok(())
    }

    fn figures(&self, workload: &str, kind: Kind) -> Option<Figures> {
        let samples = self.samples.get(&(workload.to_owned(), kind))?;
        let rates: Vec<_> = samples.iter().filter_map(|s| s.per_second).collect();
        let mut latencies: Option<Histogram<u64>> = None;
        for of_one in samples.iter().filter_map(|s| s.latencies_us.as_ref()) {
            match &mut latencies {
                // Histograms of one kind always fit together.
                Some(all) => drop(all.add(of_one)),
                None => latencies = Some(of_one.clone()),
            }
        }
        let cpu: Vec<_> = samples.iter().map(|s| s.cpu_us.0).collect();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let resident: Vec<_> = samples.iter().filter_map(|s| s.resident_bytes).collect();
        let greatest = cpu.iter().copied().fold(0.0, f64::max);
        let least = cpu.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Figures {
            repetitions: samples.len(),
            per_second: median(&rates),
            spread: (greatest - least) / median(&cpu).unwrap_or(1.0).max(1e-9),
            cpu_us: median(&cpu).unwrap_or(0.0),
            peer_cpu_us: median(&samples.iter().map(|s| s.cpu_us.1).collect::<Vec<_>>())
                .unwrap_or(0.0),
            p50_us: latencies.as_ref().map(|h| h.value_at_quantile(0.5)),
            p99_us: latencies.as_ref().map(|h| h.value_at_quantile(0.99)),
            resident_mib: median(&resident.iter().map(|r| mib(r.0)).collect::<Vec<_>>()).zip(
                median(&resident.iter().map(|r| mib(r.1)).collect::<Vec<_>>()),
            ),
        })
    }

    /// The whole as text.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", self.machine);
        let _ = writeln!(
            out,
            "{} repetition(s), medians; timed workloads {:?} each\n",
            self.plan.repetitions, self.plan.time
        );
        let _ = writeln!(
            out,
            "{:<30} {:<9} {:>10} {:>7} {:>11} {:>7} {:>10} {:>9} {:>9} {:>7}",
            "workload",
            "system",
            "per second",
            "ratio",
            "CPU us/op",
            "ratio",
            "other us",
            "p50 ms",
            "p99 ms",
            "spread"
        );
        for workload in &self.workloads {
            let base = self.figures(workload, Kind::Upstream);
            for kind in [Kind::Upstream, Kind::Dulse, Kind::Ceiling] {
                if let Some(figures) = self.figures(workload, kind) {
                    let shown = if kind == Kind::Upstream { "" } else { "-" };
                    let base = base.as_ref().filter(|_| shown == "-");
                    out.push_str(&line(workload, kind, &figures, base));
                }
            }
        }
        out.push_str(EXPLANATION);
        out
    }

    /// The same figures for programs.
    pub(crate) fn json(&self) -> Value {
        let mut rows = Vec::new();
        for (workload, kind) in self.samples.keys() {
            let Some(f) = self.figures(workload, *kind) else {
                continue;
            };
            rows.push(json!({
                "workload": workload,
                "system": format!("{kind:?}").to_lowercase(),
                "repetitions": f.repetitions,
                "per_second": f.per_second,
                "cpu_us_per_operation": f.cpu_us,
                "other_filer_cpu_us_per_operation": f.peer_cpu_us,
                "p50_us": f.p50_us,
                "p99_us": f.p99_us,
                "resident_mib": f.resident_mib.map(|r| json!({"measured": r.0, "other": r.1})),
                "seconds": self.samples[&(workload.clone(), *kind)]
                    .iter().map(|s| s.seconds).collect::<Vec<_>>(),
            }));
        }
        json!({
            "machine": self.machine.to_string(),
            "repetitions": self.plan.repetitions,
            "rows": rows,
        })
    }
}

/// What the columns mean, and what is not measured.
const EXPLANATION: &str = "
ratio: against upstream's line; above 1 is faster in the rates, below 1 is cheaper in CPU time
CPU us/op: user + system time of the measured filer, per operation, all its threads, background
  work included; in catch-up and bootstrap the filer that takes
other us: the same of the other filer
p50, p99: as a client sees it, all repetitions together; \"visible at the peer\": from the
  acknowledgement until a lookup at the other filer finds it, asked again and again
spread: (greatest - least) / median of the CPU time over the repetitions
not measured: networks (all is loopback, clients and servers share the machine), TLS, power loss,
  directories beyond 1,000 files, several masters or volume servers; the CPU time of masters and
  volume servers is in no figure
";

fn line(workload: &str, kind: Kind, f: &Figures, base: Option<&Figures>) -> String {
    let number = |n: Option<f64>, digits: usize| {
        n.map_or_else(|| "-".to_owned(), |n| format!("{n:.digits$}"))
    };
    let ratio = |own: Option<f64>, of: Option<f64>| {
        number(own.zip(of).map(|(own, of)| own / of.max(1e-9)), 2)
    };
    let ms = |us: Option<u64>| number(us.map(|us| us as f64 / 1000.0), 2);
    let rate_ratio = ratio(f.per_second, base.and_then(|b| b.per_second));
    let cpu_ratio = ratio(Some(f.cpu_us), base.map(|b| b.cpu_us));
    let mut out = format!(
        "{:<30} {:<9} {:>10} {:>7} {:>11.1} {:>7} {:>10} {:>9} {:>9} {:>6.0}%\n",
        workload,
        format!("{kind:?}").to_lowercase(),
        number(f.per_second, 0),
        rate_ratio,
        f.cpu_us,
        cpu_ratio,
        number(Some(f.peer_cpu_us).filter(|us| *us > 0.0), 1),
        ms(f.p50_us),
        ms(f.p99_us),
        f.spread * 100.0
    );
    if let Some((fresh, old)) = f.resident_mib {
        let of = base.and_then(|b| b.resident_mib);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{:<30} {:<9} fresh filer {fresh:.0} MiB (ratio {}), the one it came from {old:.0} \
             MiB (ratio {})",
            "  resident memory after it",
            format!("{kind:?}").to_lowercase(),
            ratio(Some(fresh), of.map(|b| b.0)),
            ratio(Some(old), of.map(|b| b.1)),
        );
    }
    out
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_ours_by_theirs() -> Result<()> {
        let mut report = Report::new(Machine::default(), Plan::quick());
        let used = |us| Cpu {
            first: Duration::from_micros(us),
            others: Duration::ZERO,
        };
        let second = Duration::from_secs(1);
        report.add(
            "w",
            Kind::Upstream,
            Sample::total(100, second, used(10_000)),
        )?;
        report.add("w", Kind::Dulse, Sample::total(250, second, used(5_000)))?;
        let table = report.table();
        let ours = table.lines().find(|l| l.contains("dulse")).unwrap();
        let words: Vec<_> = ours.split_whitespace().collect();
        assert_eq!(words[2..6], ["250", "2.50", "20.0", "0.20"], "{table}");
        Ok(())
    }
}
