// SPDX-License-Identifier: Apache-2.0
//! `docs/metrics.md`, from the declarations.

use std::fmt::Write;

use crate::metric::{Kind, Metric, Stability, Unit};

const HEAD: &str = "# Metrics

Every role answers `GET /metrics` on its HTTP port in Prometheus' text format, also while it is not ready.
This page is generated from the declarations in the code: `cargo xtask fix` writes it, `cargo xtask check` compares it.

*upstream* is a name that upstream's dashboards know; *stable* changes only with a line in the changelog; *evolving* may change with any version.
Labels come from small fixed sets and never hold paths.
";

/// The page: a section for each group, in the order given.
///
/// # Panics
///
/// When two declarations share a name: that is a mistake in the code.
#[must_use]
pub fn reference(groups: &[(&str, &[&[&Metric]])]) -> String {
    let mut page = HEAD.to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for (title, lists) in groups {
        let _ = write!(
            page,
            "\n## {title}\n\n| name | kind | unit | labels | stability | what it says |\n|---|---|---|---|---|---|\n"
        );
        for metric in lists.iter().copied().flatten() {
            assert!(
                seen.insert(metric.name),
                "`{}` is declared twice",
                metric.name
            );
            row(&mut page, metric);
        }
    }
    page
}

fn row(page: &mut String, metric: &Metric) {
    let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "| `{}` | {} | {} | {} | {} | {} |",
        metric.name,
        kind(metric.kind),
        unit(metric.unit),
        labels.join(", "),
        stability(metric.stability),
        metric.help
    );
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
        Unit::Flag => "0 or 1",
        Unit::Opaque => "opaque",
    }
}

fn stability(stability: Stability) -> &'static str {
    match stability {
        Stability::Upstream => "upstream",
        Stability::Stable => "stable",
        Stability::Evolving => "evolving",
    }
}
