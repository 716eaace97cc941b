// SPDX-License-Identifier: Apache-2.0
//! What a filer means to do in several changes. Layout: `docs/formats/change.md`.
//!
//! A tree that is too big for one change is moved or removed in parts, each a change with
//! the step [`crate::Step::TreePart`]. The intent is journaled first, as a record of its
//! own kind that is not replicated, so that a crash in between resumes. A part takes only
//! what its doer had seen when it began: what others do there meanwhile is spared, whatever
//! their clocks say.

use bytes::Bytes;
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Identity, Vector};

/// First byte of an encoded intent.
pub const INTENT_VERSION: u8 = 1;

/// Most signatures that an intent passes on.
const SIGNATURES_MAX: u64 = 1 << 16;

/// What is to be done to a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeWork {
    /// Move it there.
    Move {
        /// The path it gets.
        to: Bytes,
    },
    /// Remove it, deepest names first.
    Delete {
        /// Whether its chunks may be freed.
        delete_chunks: bool,
    },
}

/// A tree change that is done in parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeIntent {
    /// Names it; its parts carry it.
    pub id: Identity,
    /// The top of the tree.
    pub path: Bytes,
    /// What is to be done.
    pub work: TreeWork,
    /// What its doer had applied when it began.
    pub seen: Vector,
    /// Upstream's signatures that its changes pass on.
    pub signatures: Vec<i32>,
    /// Whether another cluster made it.
    pub is_from_other_cluster: bool,
}

const MOVE: u8 = 1;
const DELETE: u8 = 2;

impl TreeIntent {
    /// The bytes of the journal record's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(64 + self.path.len());
        out.u8(INTENT_VERSION);
        self.id.write(&mut out);
        out.bytes(&self.path);
        match &self.work {
            TreeWork::Move { to } => {
                out.u8(MOVE);
                out.bytes(to);
            }
            TreeWork::Delete { delete_chunks } => {
                out.u8(DELETE);
                out.u8(u8::from(*delete_chunks));
            }
        }
        self.seen.write(&mut out);
        out.u8(u8::from(self.is_from_other_cluster));
        out.varint(self.signatures.len() as u64);
        for signature in &self.signatures {
            out.u32_be(signature.cast_unsigned());
        }
        out.into_bytes()
    }

    /// Reads what [`TreeIntent::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut Reader::new(bytes);
        let version = input.u8()?;
        if version != INTENT_VERSION {
            return Err(bad("intent version", version));
        }
        let id = Identity::read(input)?;
        let path = Bytes::copy_from_slice(input.bytes()?);
        let work = match input.u8()? {
            MOVE => TreeWork::Move {
                to: Bytes::copy_from_slice(input.bytes()?),
            },
            DELETE => TreeWork::Delete {
                delete_chunks: input.u8()? != 0,
            },
            other => return Err(bad("work of an intent", other)),
        };
        let seen = Vector::read(input)?;
        let is_from_other_cluster = input.u8()? != 0;
        let len = input.varint()?;
        if len > SIGNATURES_MAX || len > input.remaining() as u64 {
            let what = "signatures";
            return Err(WireError::TooLong { what, len });
        }
        let signatures = (0..len).map(|_| input.u32_be().map(u32::cast_signed));
        let signatures = signatures.collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self {
            id,
            path,
            work,
            seen,
            signatures,
            is_from_other_cluster,
        })
    }
}

fn bad(what: &'static str, value: u8) -> WireError {
    let value = u64::from(value);
    WireError::BadValue { what, value }
}
