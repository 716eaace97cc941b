// SPDX-License-Identifier: Apache-2.0
//! What the server's settings mean for what is acknowledged: said at the start, since nothing
//! that a filer does can mend it.

/// Settings of a server, from `INFO` and, where it may be asked, `CONFIG`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settings {
    /// Whether it writes an append-only file.
    pub(crate) is_appending: bool,
    /// When it syncs that; `None` when it does not say.
    pub(crate) fsync: Option<String>,
    /// Memory it may use; 0 for all.
    pub(crate) memory_max_bytes: u64,
    /// What it does when that is full.
    pub(crate) eviction: String,
    /// Replicas that follow it.
    pub(crate) n_replicas: u64,
    /// Replicas without which it takes no writes; `None` when it does not say.
    pub(crate) n_replicas_min: Option<u64>,
}

impl Settings {
    /// Takes what `INFO` says.
    pub(crate) fn of(info: &str) -> Self {
        let value = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
        };
        let number = |name: &str| value(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            is_appending: value("aof_enabled") == Some("1"),
            fsync: None,
            memory_max_bytes: number("maxmemory"),
            eviction: value("maxmemory_policy").unwrap_or_default().to_owned(),
            n_replicas: number("connected_slaves"),
            n_replicas_min: None,
        }
    }

    /// What an operator must know, in sentences; empty when all is well.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.is_appending {
            out.push(
                "the server keeps no append-only file (`appendonly no`): when it ends, it loses \
                 what was acknowledged since its last snapshot; expected `appendonly yes` with \
                 `appendfsync always`"
                    .to_owned(),
            );
        } else if let Some(fsync) = self.fsync.as_deref().filter(|fsync| *fsync != "always") {
            let lost = match fsync {
                "everysec" => "about a second",
                _ => "all that the system has not written yet",
            };
            out.push(format!(
                "the server syncs its append-only file with `appendfsync {fsync}`: when its \
                 machine fails, {lost} of what was acknowledged is lost; expected `always`"
            ));
        }
        if self.n_replicas > 0 && self.n_replicas_min == Some(0) {
            out.push(
                "the server acknowledges without its replicas: what they do not have yet is lost \
                 when one of them takes over; `min-replicas-to-write` and `min-replicas-max-lag` \
                 bound how much"
                    .to_owned(),
            );
        }
        if self.memory_max_bytes > 0 && self.eviction.starts_with("allkeys") {
            out.push(format!(
                "the server throws entries away when its memory is full (`maxmemory-policy {}`); \
                 expected `noeviction`",
                self.eviction
            ));
        }
        if self.memory_max_bytes > 0 && self.eviction.starts_with("volatile") {
            out.push(format!(
                "the server throws entries with a time to live away when its memory is full \
                 (`maxmemory-policy {}`); expected `noeviction`",
                self.eviction
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Persistence\r\naof_enabled:1\r\n# Memory\r\nmaxmemory:0\r\n\
        maxmemory_policy:noeviction\r\nconnected_slaves:0\r\n";

    fn warnings(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::of(INFO);
        settings.fsync = Some("always".to_owned());
        change(&mut settings);
        settings.warnings().join("; ")
    }

    #[test]
    fn a_server_that_syncs_everything_is_not_warned_of() {
        assert_eq!(warnings(|_| {}), "");
    }

    #[test]
    fn what_can_be_lost_is_said_with_what_is_expected() {
        assert!(warnings(|s| s.is_appending = false).contains("`appendonly no`"));
        assert!(warnings(|s| s.fsync = Some("everysec".to_owned())).contains("a second"));
        let replicas = warnings(|s| {
            s.n_replicas = 2;
            s.n_replicas_min = Some(0);
        });
        assert!(replicas.contains("min-replicas-to-write"), "{replicas}");
        let evicting = warnings(|s| {
            s.memory_max_bytes = 1;
            "allkeys-lru".clone_into(&mut s.eviction);
        });
        assert!(evicting.contains("noeviction"), "{evicting}");
    }

    #[test]
    fn any_text_is_read() {
        assert_eq!(Settings::of("").warnings().len(), 1);
        assert_eq!(Settings::of("maxmemory:x\naof_enabled").memory_max_bytes, 0);
    }
}
