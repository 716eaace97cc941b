// SPDX-License-Identifier: Apache-2.0
//! The paths of a name that moved. Layout: `docs/formats/rows.md`.

use bytes::Bytes;
use dulse_types::Version;
use dulse_types::wire::{Reader, WireError, Writer};

use super::{ROW_VERSION, slice, start};

/// Every place that somebody gave a name, since its place was last stable.
///
/// Losing places count too: their givers hint at them until they know better.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MovedRow {
    /// Version and path of each place, the present one first, no path twice.
    pub places: Vec<(Version, Bytes)>,
}

impl MovedRow {
    /// Takes note of an earlier or losing place.
    pub fn remember(&mut self, place: (Version, Bytes)) {
        match self.places.iter_mut().find(|known| known.1 == place.1) {
            Some(known) => known.0 = known.0.max(place.0),
            None => self.places.push(place),
        }
    }

    /// Makes this the present place.
    pub fn move_to(&mut self, place: (Version, Bytes)) {
        self.places.retain(|known| known.1 != place.1);
        self.places.insert(0, place);
    }

    /// Forgets the places before the greatest stable one: nobody hints at them any more.
    /// False when nothing is left that the name's own row does not say.
    #[must_use]
    pub fn trim(&mut self, is_stable: impl Fn(Version) -> bool) -> bool {
        let stable = self.places.iter().map(|place| place.0);
        let Some(greatest) = stable.filter(|version| is_stable(*version)).max() else {
            return true;
        };
        self.places
            .retain(|place| place.0 >= greatest || !is_stable(place.0));
        self.places.len() > 1 || !self.places.iter().all(|place| is_stable(place.0))
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(ROW_VERSION);
        out.varint(self.places.len() as u64);
        for (version, path) in &self.places {
            version.write(&mut out);
            out.bytes(path);
        }
        out.into_vec()
    }

    /// Reads what [`MovedRow::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let count = input.varint()?;
        let read = |input: &mut Reader<'_>| Ok((Version::read(input)?, slice(input, bytes)?));
        let mut places = Vec::new();
        for _ in 0..count {
            places.push(read(input)?);
        }
        input.finish()?;
        Ok(Self { places })
    }
}
