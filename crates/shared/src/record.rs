// SPDX-License-Identifier: Apache-2.0
//! What the journal of a filer on a shared store holds. Byte layout: `docs/formats/shared-journal.md`.

use bytes::Bytes;
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Entry, FullPath};

use crate::backend::Guard;
use crate::rows::RowWrite;

mod steps;

/// Format of the payloads.
const FORMAT_VERSION: u8 = 1;

/// Most events of one record: the names that one rename may move, and the steps beside it.
pub const EVENTS_MAX: usize = 20_000;

/// Most signatures of one record.
const SIGNATURES_MAX: u64 = 1 << 16;

/// One entry that changed, as subscribers are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Where and what it was, unless it is new.
    pub old: Option<(FullPath, Entry)>,
    /// Where and what it is, unless it is gone.
    pub new: Option<(FullPath, Entry)>,
    /// Whether a subscriber may drop the old chunks.
    pub delete_chunks: bool,
}

/// What is announced of one transaction.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Announced {
    /// Upstream's signatures the change has passed, without the own.
    pub signatures: Vec<i32>,
    /// Whether another cluster made it.
    pub is_from_other_cluster: bool,
    /// In order.
    pub events: Vec<Event>,
}

/// A payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Written before the database is asked: what is to be announced once it is applied.
    Intent {
        /// Names the attempt at the database.
        ticket: i64,
        /// What it will have done.
        announced: Announced,
    },
    /// Written before a database without transactions is asked: all that is to be done.
    Steps {
        /// What is to be announced once it is done.
        announced: Announced,
        /// What must hold beside the rows that are written.
        checks: Vec<Guard>,
        /// In the order in which they are written.
        rows: Vec<RowWrite>,
    },
    /// The intent at the position came to nothing.
    Void {
        /// Where the intent is.
        position: u64,
    },
    /// The intent at the position was applied as it says.
    Applied {
        /// Where the intent is.
        position: u64,
    },
    /// Nobody knows how much of the intent at the position was applied, or others have written
    /// over it since: this is what was seen when it was over.
    Seen {
        /// Where the intent is.
        position: u64,
        /// Told in its place.
        announced: Announced,
    },
}

const INTENT: u8 = 1;
const VOID: u8 = 2;
const APPLIED: u8 = 3;
const SEEN: u8 = 4;
const STEPS: u8 = 5;

const HAS_OLD: u8 = 1;
const HAS_NEW: u8 = 2;
const DELETE_CHUNKS: u8 = 4;
/// The new entry is the old one: only its path differs.
const SAME_ENTRY: u8 = 8;

impl Payload {
    /// The bytes of it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(FORMAT_VERSION);
        match self {
            Self::Intent { ticket, announced } => {
                out.u8(INTENT);
                out.i64_be(*ticket);
                announced.write(&mut out);
            }
            Self::Steps {
                announced,
                checks,
                rows,
            } => {
                out.u8(STEPS);
                steps::write(&mut out, announced, checks, rows);
            }
            Self::Void { position } => {
                out.u8(VOID);
                out.u64_be(*position);
            }
            Self::Applied { position } => {
                out.u8(APPLIED);
                out.u64_be(*position);
            }
            Self::Seen {
                position,
                announced,
            } => {
                out.u8(SEEN);
                out.u64_be(*position);
                announced.write(&mut out);
            }
        }
        out.into_bytes()
    }

    /// Reads the bytes of one.
    ///
    /// # Errors
    ///
    /// When they are none, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut Reader::new(bytes);
        let bad = |what, value: u8| WireError::BadValue {
            what,
            value: value.into(),
        };
        let version = input.u8()?;
        if version != FORMAT_VERSION {
            return Err(bad("shared journal version", version));
        }
        let payload = match input.u8()? {
            INTENT => Self::Intent {
                ticket: input.i64_be()?,
                announced: Announced::read(input)?,
            },
            STEPS => steps::read(input)?,
            VOID => Self::Void {
                position: input.u64_be()?,
            },
            APPLIED => Self::Applied {
                position: input.u64_be()?,
            },
            SEEN => Self::Seen {
                position: input.u64_be()?,
                announced: Announced::read(input)?,
            },
            other => return Err(bad("shared journal payload", other)),
        };
        input.finish()?;
        Ok(payload)
    }
}

impl Announced {
    fn write(&self, out: &mut Writer) {
        self.write_head(out);
        out.varint(self.events.len() as u64);
        for event in &self.events {
            event.write(out);
        }
    }

    /// Everything but the events.
    fn write_head(&self, out: &mut Writer) {
        out.u8(u8::from(self.is_from_other_cluster));
        out.varint(self.signatures.len() as u64);
        for signature in &self.signatures {
            out.u32_be(signature.cast_unsigned());
        }
    }

    fn read_head(input: &mut Reader<'_>) -> Result<(bool, Vec<i32>), WireError> {
        let is_from_other_cluster = input.u8()? & 1 != 0;
        let n_signatures = bounded("signatures", input.varint()?, SIGNATURES_MAX)?;
        let mut signatures = Vec::new();
        for _ in 0..n_signatures {
            signatures.push(input.u32_be()?.cast_signed());
        }
        Ok((is_from_other_cluster, signatures))
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (is_from_other_cluster, signatures) = Self::read_head(input)?;
        let n_events = bounded("events", input.varint()?, EVENTS_MAX as u64)?;
        let mut events = Vec::new();
        for _ in 0..n_events {
            events.push(Event::read(input)?);
        }
        Ok(Self {
            signatures,
            is_from_other_cluster,
            events,
        })
    }
}

impl Event {
    fn write(&self, out: &mut Writer) {
        let is_same = match (&self.old, &self.new) {
            (Some((_, old)), Some((_, new))) => old == new,
            _ => false,
        };
        let mut flags = 0;
        for (is_set, flag) in [
            (self.old.is_some(), HAS_OLD),
            (self.new.is_some(), HAS_NEW),
            (self.delete_chunks, DELETE_CHUNKS),
            (is_same, SAME_ENTRY),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        out.u8(flags);
        if let Some((path, entry)) = &self.old {
            out.bytes(path.as_str().as_bytes());
            out.bytes_u32(entry.raw());
        }
        if let Some((path, entry)) = &self.new {
            out.bytes(path.as_str().as_bytes());
            if !is_same {
                out.bytes_u32(entry.raw());
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = input.u8()?;
        let old = match flags & HAS_OLD {
            0 => None,
            _ => Some((path(input)?, entry(input)?)),
        };
        let new = match flags & HAS_NEW {
            0 => None,
            _ => {
                let path = path(input)?;
                let entry = match (&old, flags & SAME_ENTRY) {
                    (Some((_, old)), SAME_ENTRY) => old.clone(),
                    _ => entry(input)?,
                };
                Some((path, entry))
            }
        };
        Ok(Self {
            old,
            new,
            delete_chunks: flags & DELETE_CHUNKS != 0,
        })
    }
}

fn path(input: &mut Reader<'_>) -> Result<FullPath, WireError> {
    let bad = |what| WireError::BadValue { what, value: 0 };
    let text = std::str::from_utf8(input.bytes()?).map_err(|_| bad("path"))?;
    FullPath::parse(text).map_err(|_| bad("path"))
}

fn entry(input: &mut Reader<'_>) -> Result<Entry, WireError> {
    let length = input.u32_be()? as usize;
    let bytes = Bytes::copy_from_slice(input.raw(length)?);
    let bad = |_| WireError::BadValue {
        what: "entry",
        value: length as u64,
    };
    Entry::from_bytes(bytes).map_err(bad)
}

fn bounded(what: &'static str, n: u64, max: u64) -> Result<u64, WireError> {
    if n <= max {
        Ok(n)
    } else {
        Err(WireError::TooLong { what, len: n })
    }
}
