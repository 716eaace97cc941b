// SPDX-License-Identifier: Apache-2.0
//! All metrics of the program, from the crates that declare them.

use dulse_telemetry::Metric;

/// One section of `docs/metrics.md`: its title and what belongs to it.
type Group = (&'static str, &'static [&'static [&'static Metric]]);

/// Every declared metric, by who has it.
pub(crate) static GROUPS: &[Group] = &[
    ("Filer", &[dulse_filer::metrics::METRICS]),
    ("Replication", &[dulse_replication::metrics::METRICS]),
    (
        "Store of a filer",
        &[
            dulse_replica::metrics::METRICS,
            dulse_registry::metrics::METRICS,
        ],
    ),
    ("Chunks of a filer", &[dulse_blobs::metrics::METRICS]),
    ("Master", &[dulse_master::metrics::METRICS]),
    ("Volume server", &[dulse_volume::metrics::METRICS]),
    ("Every role", dulse_telemetry::METRICS),
];

/// Every declared metric.
pub(crate) fn declared() -> Vec<&'static [&'static Metric]> {
    GROUPS
        .iter()
        .flat_map(|(_, lists)| lists.iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `cargo xtask fix` sets the variable; otherwise a page that is not fresh fails.
    #[test]
    fn the_page_of_metrics_is_fresh() {
        let page = dulse_telemetry::reference(GROUPS);
        let path = Path::new("../../docs/metrics.md");
        if std::env::var_os("DULSE_WRITE_DOCS").is_some() {
            std::fs::write(path, &page).expect("write docs/metrics.md");
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == page,
            "docs/metrics.md is not fresh; `cargo xtask fix` writes it"
        );
    }

    /// Names in the alert rules that look like metrics.
    fn named(rules: &str) -> Vec<String> {
        let exprs = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("expr: "));
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = exprs.flat_map(|expr| expr.split(move |c| !is_part(c)));
        let named = words.filter(|word| word.contains('_'));
        named.map(str::to_owned).collect()
    }

    #[test]
    fn alert_rules_name_only_declared_metrics() {
        let rules = std::fs::read_to_string("../../deploy/prometheus/dulse.rules.yml").unwrap();
        let names = named(&rules);
        assert!(
            names.len() >= rules.matches("- alert:").count(),
            "{names:?}"
        );
        for name in names {
            let mut all = declared().into_iter().flatten();
            assert!(
                all.any(|metric| metric.name == name),
                "`{name}` is not declared"
            );
        }
    }

    #[test]
    fn a_counter_says_total_unless_the_name_is_upstreams() {
        for metric in declared().into_iter().flatten() {
            let is_counter = metric.kind == dulse_telemetry::Kind::Counter;
            let is_total = metric.name.ends_with("_total");
            let is_upstreams = metric.stability == dulse_telemetry::Stability::Upstream;
            assert!(is_upstreams || is_counter == is_total, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
