// SPDX-License-Identifier: Apache-2.0
//! The table of what was measured, for docs/stores.md.

use std::fmt::Write as _;

use super::{Figures, Measured, Row, Theirs};

const HEAD: &str = "\
| store | call | upstream/s | ours/s | ratio | upstream p50, p99 ms | ours p50, p99 ms \
| filer CPU µs: upstream | ours | database CPU µs: upstream | ours |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";

/// Which server each store was on, the table, and what is wrong with dashes in it.
pub(super) fn of(stores: &[Measured]) -> String {
    let mut text = String::new();
    for (n, store) in stores.iter().enumerate() {
        let same: Vec<&Measured> = stores.iter().filter(|s| s.synced == store.synced).collect();
        let is_first = stores[..n].iter().all(|s| s.synced != store.synced);
        if is_first {
            let names: Vec<String> = same.iter().map(|s| format!("`{}`", s.section)).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "- {}: {}", names.join(", "), store.synced);
        }
    }
    text.push('\n');
    text.push_str(HEAD);
    let mut wrong = Vec::new();
    for store in stores {
        for row in &store.rows {
            text.push_str(&line(store.section, row, &mut wrong));
        }
    }
    for (n, what) in wrong.iter().enumerate() {
        let _ = write!(text, "\n({}) {what}\n", n + 1);
    }
    text
}

/// One line; what is wrong with upstream is told at its end.
fn line(section: &str, row: &Row, wrong: &mut Vec<String>) -> String {
    let ours = &row.ours;
    let call = row.call.name();
    match &row.upstream {
        Theirs::Figures(theirs) => format!(
            "| `{section}` | {call} | {:.0} | {:.0} | {:.2} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            theirs.per_second,
            ours.per_second,
            ours.per_second / theirs.per_second.max(1e-9),
            latencies(theirs),
            latencies(ours),
            theirs.cpu_us,
            ours.cpu_us,
            theirs.database_us,
            ours.database_us,
        ),
        Theirs::Wrong(what) => {
            wrong.push(format!(
                "Upstream's filer on `{section}` {what}, so it was not measured."
            ));
            format!(
                "| `{section}` | {call} | – ({}) | {:.0} | – | – | {} | – | {:.0} | – | {:.0} |\n",
                wrong.len(),
                ours.per_second,
                latencies(ours),
                ours.cpu_us,
                ours.database_us,
            )
        }
    }
}

fn latencies(figures: &Figures) -> String {
    format!("{:.1}, {:.1}", figures.p50_ms, figures.p99_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::grpc::Call;

    fn figures(per_second: f64) -> Figures {
        Figures {
            per_second,
            p50_ms: 1.25,
            p99_ms: 20.0,
            cpu_us: 100.0,
            database_us: 55.5,
        }
    }

    fn measured(section: &'static str, upstream: Theirs) -> Measured {
        let row = Row {
            call: Call::List,
            upstream,
            ours: figures(300.0),
        };
        Measured {
            section,
            synced: "Server 1, `sync = on`",
            rows: vec![row],
        }
    }

    #[test]
    fn ratios_are_ours_by_theirs() {
        let text = of(&[measured("a", Theirs::Figures(figures(200.0)))]);
        let line =
            "| `a` | list-1000 | 200 | 300 | 1.50 | 1.2, 20.0 | 1.2, 20.0 | 100 | 100 | 56 | 56 |";
        assert_eq!(text.lines().last(), Some(line), "{text}");
        let columns = |line: &str| line.matches('|').count();
        let lines = text.lines().filter(|line| line.starts_with('|'));
        assert!(lines.clone().all(|l| columns(l) == columns(line)), "{text}");
    }

    #[test]
    fn what_upstream_does_not_do_is_a_dash_and_is_said() {
        let wrong = Theirs::Wrong("lists nothing".to_owned());
        let text = of(&[
            measured("a", wrong.clone()),
            measured("b", Theirs::Figures(figures(1.0))),
            measured("c", wrong),
        ]);
        assert!(
            text.starts_with("- `a`, `b`, `c`: Server 1, `sync = on`\n\n|"),
            "{text}"
        );
        assert!(
            text.contains("| `a` | list-1000 | – (1) | 300 | – |"),
            "{text}"
        );
        assert!(
            text.contains("| `c` | list-1000 | – (2) | 300 | – |"),
            "{text}"
        );
        let note = "(2) Upstream's filer on `c` lists nothing, so it was not measured.";
        assert_eq!(text.lines().last(), Some(note), "{text}");
    }
}
