// SPDX-License-Identifier: Apache-2.0
//! Which filers can be in one group: all with embedded stores, or all on one shared store.
//!
//! A filer that would be the odd one does not start. Where it shows later – both started at once,
//! or no master answered – both go on and say so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dulse_client::Masters;
use dulse_proto::announcements as pb;
use dulse_proto::announcements::announcements_client::AnnouncementsClient;
use dulse_proto::filer::GetFilerConfigurationRequest;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_shared::Location;
use dulse_transport::{Dial, Transport, within};
use dulse_types::{Origin, ServerAddress};
use tonic::Code;

use crate::metrics::MISFITS;
use crate::state::{FilerOptions, FilerState};

/// Oldest and newest protocol of `Follow`.
const PROTOCOL: (u32, u32) = (1, 1);

/// How long one filer may take to say what it is.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// How long the masters may take to say who is there, at a start.
const LIST_TIME_MAX: Duration = Duration::from_secs(5);

/// How often a running filer looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a filer is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    pub(crate) origin: Origin,
    pub(crate) address: String,
    pub(crate) group: String,
    /// Whether its store is shared.
    pub(crate) is_shared: bool,
    /// Section of `filer.toml`, or engine.
    pub(crate) store: String,
    protocol: (u32, u32),
    /// Directories in stores of their own.
    located: Vec<pb::Located>,
}

impl Who {
    /// This filer.
    pub(crate) fn own(
        options: &FilerOptions,
        origin: Origin,
        is_shared: bool,
        store: &str,
    ) -> Self {
        Self {
            origin,
            address: options.address.to_string(),
            group: options.group.clone(),
            is_shared,
            store: store.to_owned(),
            protocol: PROTOCOL,
            located: Vec::new(),
        }
    }

    /// And with these directories in stores of their own.
    pub(crate) fn and_locations<'a>(
        mut self,
        locations: impl IntoIterator<Item = &'a Location>,
    ) -> Self {
        let located = locations.into_iter().map(|location| pb::Located {
            path: location.path.as_str().to_owned(),
            store: kind_of(&location.section).to_owned(),
            store_id: location.store_id,
        });
        self.located.extend(located);
        self
    }

    /// What another one said.
    pub(crate) fn of(hello: &pb::Hello) -> Self {
        Self {
            origin: Origin(hello.origin),
            address: hello.address.clone(),
            group: hello.group.clone(),
            is_shared: hello.store_kind == "shared",
            store: hello.store.clone(),
            protocol: (hello.protocol_min, hello.protocol_max),
            located: hello.located.clone(),
        }
    }

    /// What it says.
    pub(crate) fn hello(&self) -> pb::Hello {
        pb::Hello {
            origin: self.origin.0,
            address: self.address.clone(),
            group: self.group.clone(),
            store_kind: if self.is_shared { "shared" } else { "embedded" }.to_owned(),
            store: self.store.clone(),
            protocol_min: self.protocol.0,
            protocol_max: self.protocol.1,
            located: self.located.clone(),
        }
    }

    fn text(&self) -> String {
        match self.is_shared {
            true => format!(
                "is on a shared store ({}, store id {})",
                self.store,
                self.origin.signature()
            ),
            false => format!("has an embedded store ({})", self.store),
        }
    }
}

/// Why two filers of one group cannot be in it, as a sentence that says what to do at `own`;
/// `None` when they can.
pub(crate) fn misfit(own: &Who, other: &Who) -> Option<String> {
    if own.group != other.group {
        return Some(format!(
            "the filer {} is in group `{}`, and this one in `{}`",
            other.address, other.group, own.group
        ));
    }
    let advice = match (own.is_shared, other.is_shared) {
        (false, false) => return other_table(own, other),
        (true, true) if own.origin.signature() == other.origin.signature() => {
            if let Some(text) = other_table(own, other) {
                return Some(text);
            }
            let (min, max) = own.protocol;
            if other.protocol.0 <= max && min <= other.protocol.1 {
                return None;
            }
            return Some(format!(
                "the filer {} speaks other versions of announcements, {}..={}, than this one, \
                 {min}..={max}: upgrade the older",
                other.address, other.protocol.0, other.protocol.1
            ));
        }
        (true, true) => "point this filer's filer.toml at the same database",
        (true, false) => {
            "take the section of the shared store out of this filer's filer.toml, so that it has \
             an embedded store, too"
        }
        (false, true) => {
            "enable the section of that shared store in this filer's filer.toml, and give no \
             --engine"
        }
    };
    Some(format!(
        "this filer {}, and the filer {} of the same group `{}` {}: changes would not reach from \
         one to the other. This filer is the odd one: {advice}, or give it another --filer-group",
        own.text(),
        other.address,
        own.group,
        other.text()
    ))
}

/// The part of a section's name that says what kind of store it is.
fn kind_of(section: &str) -> &str {
    section.split('.').next().unwrap_or(section)
}

/// Where two filers that could go together do not agree on where a directory's entries are.
fn other_table(own: &Who, other: &Who) -> Option<String> {
    let both = own.located.iter().chain(&other.located);
    let path = both.map(|one| &one.path).find(|path| {
        let at = |who: &Who| who.located.iter().find(|one| one.path == **path).cloned();
        at(own) != at(other)
    })?;
    let text = |who: &Who| match who.located.iter().find(|one| one.path == *path) {
        None => "in the default store".to_owned(),
        Some(one) => format!("in {} (store id {})", one.store, one.store_id.cast_signed()),
    };
    Some(format!(
        "this filer keeps what is in `{path}` {}, and the filer {} of the same group `{}` keeps it \
         {}: each would show other entries there. This filer is the odd one: give it the same \
         sections with a `location` in filer.toml, or another --filer-group",
        text(own),
        other.address,
        own.group,
        text(other)
    ))
}

/// Looks at a start whether the filers that run can go together with this one.
///
/// # Errors
///
/// The sentence that says why not.
pub(crate) async fn check(own: &Who, options: &FilerOptions) -> Result<(), String> {
    let found = look(own, options).await;
    match found.into_iter().next() {
        Some((_, why)) => Err(why),
        None => Ok(()),
    }
}

/// Looks again and again, for as long as the filer runs.
pub(crate) async fn watch(state: Arc<FilerState>) {
    let own = state.who();
    let mut known = BTreeSet::new();
    loop {
        let found = look(&own, &state.options).await;
        MISFITS.set(found.len() as f64);
        let now: BTreeSet<_> = found.iter().map(|(address, _)| address.clone()).collect();
        for (address, why) in found.iter().filter(|(address, _)| !known.contains(address)) {
            tracing::error!(%address, %why, "two filers of one group do not go together; this \
                one goes on, and sees nothing of the other");
        }
        for address in known.difference(&now) {
            tracing::info!(address, "a filer that did not go with this one is gone");
        }
        known = now;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The filers of the group that do not go with this one, and why. Whoever does not answer is
/// not among them.
async fn look(own: &Who, options: &FilerOptions) -> Vec<(String, String)> {
    if options.masters.is_empty() {
        return Vec::new();
    }
    let masters = Masters::new(options.transport.clone(), options.masters.clone());
    let listing = dulse_client::listed_filers(&masters, &options.group);
    let Ok(Ok(listed)) = tokio::time::timeout(LIST_TIME_MAX, listing).await else {
        return Vec::new();
    };
    let others = listed.into_iter().filter_map(|address| {
        let parsed: ServerAddress = address.parse().ok()?;
        (!parsed.is_same_server(&options.address)).then_some(parsed)
    });
    let asked = others.map(|address| async move {
        let asked = judge(own, &options.transport, &address).await;
        asked.map(|why| (address.to_string(), why))
    });
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().flatten().collect()
}

/// Asks one filer what it is.
async fn judge(own: &Who, transport: &Transport, address: &ServerAddress) -> Option<String> {
    let dial = Dial::within(ANSWER_TIME_MAX).calls_within(ANSWER_TIME_MAX);
    let channel = transport.connect(&address.grpc(), dial).await.ok()?;
    let mut client = AnnouncementsClient::new(channel.clone());
    match within(ANSWER_TIME_MAX, client.greet(own.hello())).await {
        Ok(theirs) => {
            let theirs = Who::of(&theirs.into_inner());
            // The master lists by group, too: another group there is an address used anew.
            let is_same = theirs.group == own.group && theirs.origin != own.origin;
            is_same.then(|| misfit(own, &theirs)).flatten()
        }
        Err(status) if status.code() == Code::Unimplemented && own.is_shared => {
            let mut client = SeaweedFilerClient::new(channel);
            let asked = client.get_filer_configuration(GetFilerConfigurationRequest {});
            let theirs = within(ANSWER_TIME_MAX, asked).await.ok()?.into_inner();
            (theirs.signature != own.origin.signature()).then(|| {
                format!(
                    "this filer {}, and the filer {address} of the same group `{}` has another \
                     store ({}, store id {}): changes would not reach from one to the other. This \
                     filer is the odd one: point both at the same database, or give this one \
                     another --filer-group",
                    own.text(),
                    own.group,
                    theirs.version,
                    theirs.signature
                )
            })
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(is_shared: bool, id: u64, group: &str) -> Who {
        Who {
            origin: Origin(7 << 32 | id),
            address: format!("10.0.0.{id}:8888"),
            group: group.to_owned(),
            is_shared,
            store: if is_shared { "postgres" } else { "redb" }.to_owned(),
            protocol: PROTOCOL,
            located: Vec::new(),
        }
    }

    #[test]
    fn a_filer_with_another_table_of_locations_is_the_odd_one() {
        let location = |path: &str, section: &str, store_id| Location {
            path: dulse_types::FullPath::parse(path).unwrap(),
            section: section.to_owned(),
            store_id,
        };
        let plain = who(true, 1, "g");
        let table = |all: &[Location]| plain.clone().and_locations(all);
        let tmp = table(&[location("/tmp", "redis2.tmp", 5)]);
        // What it is called in filer.toml is each filer's own.
        let alike = table(&[location("/tmp", "redis2.other", 5)]);
        assert_eq!(misfit(&tmp, &alike), None);
        assert_eq!(Who::of(&tmp.hello()), tmp);
        let deeper = [
            location("/tmp", "redis2.tmp", 5),
            location("/tmp/d", "mysql.d", 6),
        ];
        for (other, says) in [
            (plain.clone(), "keeps it in the default store"),
            (
                table(&[location("/tmp", "redis2.tmp", 6)]),
                "keeps it in redis2 (store id 6)",
            ),
            (
                table(&[location("/tmp", "redis3.tmp", 5)]),
                "keeps it in redis3 (store id 5)",
            ),
            (table(&deeper), "`/tmp/d` in the default store"),
        ] {
            let text = misfit(&tmp, &other).unwrap_or_default();
            assert!(
                text.contains(says) && text.contains("is the odd one"),
                "{text}"
            );
            assert!(misfit(&other, &tmp).is_some());
        }
    }

    #[test]
    fn the_odd_one_is_told_what_to_do() {
        let told = |own: &Who, other: &Who| misfit(own, other).unwrap_or_default();
        let (shared, second) = (who(true, 1, "g"), who(true, 2, "g"));
        let embedded = who(false, 3, "g");
        assert_eq!(told(&shared, &shared), "");
        assert_eq!(told(&embedded, &who(false, 4, "g")), "");
        let text = told(&shared, &embedded);
        assert!(text.contains("so that it has an embedded store"), "{text}");
        let text = told(&embedded, &shared);
        assert!(text.contains("enable the section"), "{text}");
        assert!(
            text.contains("10.0.0.1:8888") && text.contains("postgres"),
            "{text}"
        );
        let text = told(&shared, &second);
        assert!(text.contains("the same database"), "{text}");
        let newer = Who {
            protocol: (2, 3),
            ..shared.clone()
        };
        assert!(told(&shared, &newer).contains("upgrade the older"));
        assert!(told(&shared, &who(true, 1, "h")).contains("group `h`"));
    }

    #[test]
    fn what_a_filer_says_is_what_it_is() {
        for one in [who(true, 1, "g"), who(false, 3, "")] {
            assert_eq!(Who::of(&one.hello()), one);
        }
    }
}
