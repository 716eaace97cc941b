// SPDX-License-Identifier: Apache-2.0
//! What the code logs as an error is an alarm that a human must look at: in a simulated
//! world it is a violation, unless a fault explains it.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Alarms that a full disk explains.
pub(crate) const OF_A_FULL_DISK: &[&str] = &[
    "the disk is full",
    "checkpoint failed",
    "no room for a checkpoint",
];

/// Alarms that a store explains that was set back, until it has heard the others: it said that it
/// had what it lacks now, so they have forgotten what it would need.
pub(crate) const OF_A_STORE_SET_BACK: &[&str] = &["writes to names that are lost here"];

thread_local! {
    static RAISED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Listens from now on.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Where a test has a listener of its own, that one hears.
        let _ = tracing::subscriber::set_global_default(Alarms);
    });
    // A world that ended with a violation may have raised more than it looked at.
    RAISED.with_borrow_mut(Vec::clear);
}

/// What was raised since the last call, or since [`listen`].
///
/// # Errors
///
/// The first alarm that is not expected.
pub(crate) fn raised(is_expected: impl Fn(&str) -> bool) -> Result<(), String> {
    RAISED.with_borrow_mut(|raised| {
        let first = raised.drain(..).find(|text| !is_expected(text));
        first.map_or(Ok(()), |text| Err(format!("alarm: {text}")))
    })
}

struct Alarms;

impl Subscriber for Alarms {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        RAISED.with_borrow_mut(|raised| raised.push(text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{} {value:?} ", field.name());
    }
}
