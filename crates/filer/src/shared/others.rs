// SPDX-License-Identifier: Apache-2.0
//! The other filers of the group, as far as subscribers must wait for them.
//!
//! A filer that is listed and was not heard yet holds the watermark for ten seconds; one that was
//! heard and is silent now, for two minutes; one that said that it stops, not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dulse_types::{Origin, ServerAddress, Stamp};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long one that was never heard is waited for.
const FIRST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long one that was heard is waited for.
const SILENT_TIME_MAX: Duration = Duration::from_secs(120);

/// Other filers followed at once, at most.
pub(crate) const OTHERS_MAX: usize = 1_000;

/// What is known of a filer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Not reached, or not any more.
    Connecting,
    /// Its announcements come in.
    Following,
    /// It said that it stops.
    Left,
    /// It is no filer whose announcements could be followed.
    Foreign,
    /// It is on another store, or has none that is shared.
    Misfit,
}

impl State {
    /// One word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Following => "streaming",
            Self::Left => "left",
            Self::Foreign => "foreign",
            Self::Misfit => "misfit",
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) address: ServerAddress,
    pub(crate) origin: Option<Origin>,
    pub(crate) state: State,
    /// Nothing of it at or below is still to come.
    pub(crate) promise: Stamp,
    pub(crate) last_error: String,
    since: Instant,
    heard: Option<Instant>,
    /// When its promise last rose.
    risen: Instant,
}

impl Other {
    /// Whether it answers and has promised nothing new for this long.
    fn is_stuck(&self, time: Duration) -> bool {
        let answers = self.heard.is_some_and(|heard| heard.elapsed() < time);
        answers && self.risen.elapsed() >= time
    }
}

/// All of them, by address.
pub(crate) struct Others {
    /// Whether somebody lists them at all.
    is_listed: Mutex<bool>,
    started: Mutex<Instant>,
    all: Mutex<BTreeMap<String, Other>>,
    changed: watch::Sender<u64>,
}

impl Others {
    /// - `has_masters`: whether somebody will list them.
    pub(crate) fn new(has_masters: bool) -> Self {
        Self {
            is_listed: Mutex::new(!has_masters),
            started: Mutex::new(Instant::now()),
            all: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// They are waited for from now on.
    pub(crate) fn begin(&self) {
        *self.started.lock() = Instant::now();
    }

    /// Told whenever one was heard, came or went.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The master has said who is there.
    pub(crate) fn listed(&self) {
        *self.is_listed.lock() = true;
        self.tell();
    }

    /// Notes a filer; whether it is new.
    pub(crate) fn add(&self, address: &ServerAddress) -> bool {
        let mut all = self.all.lock();
        let key = address.http();
        if all.contains_key(&key) || all.len() >= OTHERS_MAX {
            return false;
        }
        let other = Other {
            address: address.clone(),
            origin: None,
            state: State::Connecting,
            promise: Stamp::ZERO,
            last_error: String::new(),
            since: Instant::now(),
            heard: None,
            risen: Instant::now(),
        };
        all.insert(key, other);
        drop(all);
        self.tell();
        true
    }

    /// A filer that had left is back, and says so before it announces anything: it is waited for
    /// like one that is new.
    pub(crate) fn greeted(&self, address: &ServerAddress) {
        self.change(address, |other| {
            if other.state == State::Left {
                other.state = State::Connecting;
                other.heard = None;
                other.since = Instant::now();
            }
        });
    }

    /// A filer answered as this origin; what it was before at another address is gone.
    pub(crate) fn met(&self, address: &ServerAddress, origin: Origin) {
        let mut all = self.all.lock();
        let key = address.http();
        let moved = all.iter().filter(|(at, other)| {
            **at != key && other.origin == Some(origin) && other.state != State::Following
        });
        let moved: Vec<_> = moved.map(|(at, _)| at.clone()).collect();
        for at in moved {
            all.remove(&at);
        }
        if let Some(other) = all.get_mut(&key) {
            if other.origin != Some(origin) {
                other.promise = Stamp::ZERO;
                other.heard = None;
                other.since = Instant::now();
            }
            other.origin = Some(origin);
        }
        drop(all);
        self.tell();
    }

    /// A filer said something; everything up to its promise is here.
    pub(crate) fn heard(&self, address: &ServerAddress, promise: Stamp) {
        self.change(address, |other| {
            other.state = State::Following;
            other.heard = Some(Instant::now());
            if promise > other.promise {
                other.promise = promise;
                other.risen = Instant::now();
            }
            other.last_error.clear();
        });
    }

    /// What became of the attempt to hear one.
    pub(crate) fn ended(&self, address: &ServerAddress, state: State, error: &str) {
        self.change(address, |other| {
            // One that said that it stops does not answer.
            if !(other.state == State::Left && state == State::Connecting) {
                other.state = state;
            }
            error.clone_into(&mut other.last_error);
        });
    }

    /// Forgets a filer that nobody lists and that is silent; whether it is gone.
    pub(crate) fn forget(&self, address: &ServerAddress, is_listed: bool) -> bool {
        let mut all = self.all.lock();
        let key = address.http();
        let Some(other) = all.get(&key) else {
            return true;
        };
        let silent = other.heard.unwrap_or(other.since).elapsed();
        let is_over = silent > SILENT_TIME_MAX || other.state == State::Left;
        if is_listed || !is_over {
            return false;
        }
        all.remove(&key);
        drop(all);
        self.tell();
        true
    }

    /// All of them, in the order of their addresses.
    pub(crate) fn all(&self) -> Vec<Other> {
        self.all.lock().values().cloned().collect()
    }

    /// The same, but for those that answer and have promised nothing new for a time: they wait for
    /// a database, or for what that does not end.
    pub(crate) fn limit_of_moving(&self, own: Stamp, time: Duration) -> Stamp {
        self.limit_of(own, |other| !other.is_stuck(time))
    }

    /// Up to which stamp everything of everybody is here; zero while that cannot be said.
    pub(crate) fn limit(&self, own: Stamp) -> Stamp {
        self.limit_of(own, |_| true)
    }

    fn limit_of(&self, own: Stamp, counts: impl Fn(&Other) -> bool) -> Stamp {
        if !*self.is_listed.lock() && self.started.lock().elapsed() < FIRST_TIME_MAX {
            return Stamp::ZERO;
        }
        let all = self.all.lock();
        let held = all.values().filter(|other| counts(other));
        let held = held.filter_map(|other| match other.state {
            State::Left | State::Foreign | State::Misfit => None,
            State::Connecting | State::Following => match other.heard {
                Some(heard) => (heard.elapsed() < SILENT_TIME_MAX).then_some(other.promise),
                None => (other.since.elapsed() < FIRST_TIME_MAX).then_some(Stamp::ZERO),
            },
        });
        held.fold(own, Stamp::min)
    }

    /// Who is still waited for at a start; `None` when nobody.
    pub(crate) fn awaited(&self) -> Option<String> {
        if !*self.is_listed.lock() {
            let is_over = self.started.lock().elapsed() >= FIRST_TIME_MAX;
            return (!is_over).then(|| "asking a master who else is there".to_owned());
        }
        let all = self.all.lock();
        let awaited = all.values().find(|other| {
            other.state == State::Connecting
                && other.heard.is_none()
                && other.since.elapsed() < FIRST_TIME_MAX
        });
        awaited.map(|other| format!("greeting the filer {}", other.address.http()))
    }

    fn change(&self, address: &ServerAddress, with: impl FnOnce(&mut Other)) {
        let mut all = self.all.lock();
        if let Some(other) = all.get_mut(&address.http()) {
            with(other);
        }
        drop(all);
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_waits_for_those_that_are_there_and_not_for_those_that_left() {
        let others = Others::new(true);
        let a: ServerAddress = "127.0.0.1:8888".parse().unwrap();
        let b: ServerAddress = "127.0.0.1:8889".parse().unwrap();
        let own = Stamp(100);
        assert_eq!(
            others.limit(own),
            Stamp::ZERO,
            "nobody has said who is there"
        );
        others.listed();
        assert_eq!(others.limit(own), own);
        assert!(others.add(&a) && !others.add(&a));
        assert_eq!(others.limit(own), Stamp::ZERO, "it was not heard yet");
        assert!(others.awaited().is_some());
        others.met(&a, Origin(1));
        others.heard(&a, Stamp(40));
        assert_eq!((others.limit(own), others.awaited()), (Stamp(40), None));
        others.ended(&a, State::Connecting, "broken");
        assert_eq!(others.limit(own), Stamp(40), "it may have more below");
        // The same filer at another address.
        others.add(&b);
        others.met(&b, Origin(1));
        others.heard(&b, Stamp(70));
        assert_eq!(others.limit(own), Stamp(70));
        assert!(!others.forget(&b, false), "it was heard just now");
        others.ended(&b, State::Left, "");
        others.ended(&b, State::Connecting, "refused");
        assert_eq!(others.limit(own), own);
        others.greeted(&b);
        assert_eq!(
            others.limit(own),
            Stamp::ZERO,
            "it may announce something any moment"
        );
        others.ended(&b, State::Left, "");
        assert!(others.forget(&b, false) && others.all().is_empty());
    }
}
