// SPDX-License-Identifier: Apache-2.0
//! What the core is told of this filer and of others.

use std::time::Duration;

use dulse_merge::MemberRow;
use dulse_replica::Shared;
use dulse_types::{Origin, ServerAddress, Stamp, Vector, Version};

/// Who this filer is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who stamps its changes.
    pub origin: Origin,
    /// A random number of this process: tells a copied store from the same one.
    pub instance: u64,
    /// Where it is.
    pub address: ServerAddress,
    /// When the process started, by its wall clock, in nanoseconds since 1970: of two on copies
    /// of one store the later one steps aside.
    pub started_ns: i64,
    /// Found a cluster without looking for others.
    pub is_alone: bool,
    /// The store had another origin: it joins a cluster and never founds one.
    pub must_join: bool,
    /// A member that is silent for this long is shut out.
    pub offline_max: Duration,
}

/// The own replica at this moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is applied of everybody's log.
    pub applied: &'a Vector,
    /// Members as the log knows them, with the address they joined from.
    pub members: &'a [(Origin, ServerAddress)],
    /// Those that were members and are no more.
    pub gone: &'a [Gone],
}

/// An origin that is a member no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Who.
    pub origin: Origin,
    /// How it went.
    pub how: End,
    /// The change that says so.
    pub end: Version,
    /// Where it was, as far as the log knows.
    pub address: Option<ServerAddress>,
}

/// How a member went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By itself, after handing over all it had.
    Left,
    /// Another shut it out, since it was silent.
    Fenced,
    /// An operator removed it.
    Removed,
}

impl End {
    /// As operators read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Fenced => "fenced",
            Self::Removed => "removed",
        }
    }
}

/// Who is a member as the log knows it, and who is one no more.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Membership {
    /// Members, with the address they joined from.
    pub members: Vec<(Origin, ServerAddress)>,
    /// Members no more.
    pub gone: Vec<Gone>,
}

impl Membership {
    /// Sorts the log's rows; `unknown` stands for an address that does not parse.
    #[must_use]
    pub fn of(rows: Vec<(Origin, MemberRow)>, unknown: &ServerAddress) -> Self {
        let mut sorted = Self::default();
        for (origin, row) in rows {
            let address = row.address.parse().ok();
            let how = match row.state {
                MemberRow::MEMBER => {
                    let address = address.unwrap_or_else(|| unknown.clone());
                    sorted.members.push((origin, address));
                    continue;
                }
                MemberRow::LEFT => End::Left,
                MemberRow::FENCED => End::Fenced,
                _ => End::Removed,
            };
            let end = row.version;
            sorted.gone.push(Gone {
                origin,
                how,
                end,
                address,
            });
        }
        sorted
    }

    /// What the core looks at.
    #[must_use]
    pub fn view<'a>(&'a self, applied: &'a Vector) -> View<'a> {
        View {
            applied,
            members: &self.members,
            gone: &self.gone,
        }
    }
}

/// What a peer answered to the handshake.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Who it is.
    pub origin: Origin,
    /// Its process.
    pub instance: u64,
    /// Whether it has no history.
    pub is_fresh: bool,
    /// What it has.
    pub vector: Vector,
    /// Whom it holds for members no more, and what it has of each.
    pub gone: Vec<(Origin, Stamp)>,
    /// Whom it holds for members.
    pub members: Vec<Origin>,
    /// Whether it serves.
    pub is_ready: bool,
    /// See [`Settings::started_ns`].
    pub started_ns: i64,
    /// Where this store's log parted from what it has of it; see `Shared::forked_at`.
    pub forked: Option<Stamp>,
    /// Whether this store's log no longer has what follows what it has of it; see
    /// `Shared::is_cut_behind`.
    pub is_cut_behind: bool,
    /// Up to where it has forgotten; see `Shared::forgotten`.
    pub forgotten: Vector,
    /// Whether this store lacks some of that.
    pub lacks_forgotten: bool,
    /// How far the own log went when this arrived: nobody can have more of it, unless this store
    /// was set back.
    pub own: Stamp,
    /// The change by which this filer joined, that by which its author joined, and so on.
    pub joins: Vec<Version>,
    /// Of the like of the peer, those that are not here.
    pub unheard: Vec<Version>,
    /// Whether the peer told them back to a founder, so that what is not among them is nowhere.
    pub is_founder_told: bool,
    /// What the peer heard this filer promise last.
    pub promised: Stamp,
}

/// More than this above the wall clock nobody has promised anything.
const PROMISED_MAX: Duration = Duration::from_secs(24 * 3600);

impl Greeting {
    /// Compares what a peer answered with what is here, and keeps what others heard this filer
    /// promise. The driver and the simulation do so before the core is told. Cost: two reads of
    /// one change of the log.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn compare(&mut self, shared: &Shared) -> Result<(), dulse_store::Error> {
        let own = shared.origin();
        let has = self.vector.get(own);
        let max = i64::try_from(PROMISED_MAX.as_nanos()).unwrap_or(i64::MAX);
        if self.promised.0 > shared.wall_ns().saturating_add(max) {
            let (peer, promised) = (self.origin, self.promised);
            tracing::warn!(%peer, %promised, "it says that this filer promised what it cannot have");
        } else {
            shared.keep_promise(self.promised);
        }
        let vector = shared.vector();
        // ⚠ Not what is applied: peers have what is in the log, and the engine may be slow.
        self.own = shared.logged();
        self.joins = shared.joins()?;
        self.is_founder_told = leads_to_a_founder(self.origin, &self.unheard);
        self.unheard.retain(|join| !vector.covers(*join));
        self.forked = shared.forked_at(own, has)?;
        self.is_cut_behind = shared.is_cut_behind(own, has)?;
        // Who takes in a state has nothing yet.
        self.lacks_forgotten = !shared.is_fresh() && !vector.includes(&self.forgotten);
        Ok(())
    }
}

/// Whether joins, each that of the author of the one before, end with one who made its own.
fn leads_to_a_founder(whose: Origin, joins: &[Version]) -> bool {
    let authors = joins.iter().map(|join| join.origin);
    let before = std::iter::once(whose).chain(authors.clone());
    before.zip(authors).any(|(whose, by)| whose == by)
}

/// Why a handshake came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No connection or no answer: tried again soon.
    Broken(String),
    /// It does not speak our protocol.
    Foreign,
    /// It may not replicate with us, or we not with it.
    Refused(String),
}
