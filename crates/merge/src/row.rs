// SPDX-License-Identifier: Apache-2.0
//! What is kept: rows of names, inodes, keys and members. Layout: `docs/formats/rows.md`.

use bytes::Bytes;
use dulse_types::entry::{ATIME_NEVER, DataPart, MODE_DIRECTORY, join, mode_of};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Entry, Identity, Stamp, Vector, Version};

mod conflict;
mod moved;

pub use conflict::ConflictRow;
pub use moved::MovedRow;

/// First byte of every row.
pub const ROW_VERSION: u8 = 1;

/// The content registers of an inode.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Content {
    /// Version of the data register.
    pub data_version: Version,
    /// For each other origin the greatest data version in the chain it replaced.
    pub seen: Vector,
    /// Chunks, inline bytes, size, md5, mtime.
    pub data: DataPart,
    /// Version of the attribute register.
    pub attributes_version: Version,
    /// Everything else of the entry.
    pub attributes: Bytes,
    /// Access time in nanoseconds, merged by maximum; [`ATIME_NEVER`] when never written.
    pub atime_ns: i64,
}

impl Content {
    /// Registers that nobody has written.
    #[must_use]
    pub fn blank() -> Self {
        Self {
            atime_ns: ATIME_NEVER,
            ..Self::default()
        }
    }
}

/// One name with its registers, and the content of its inode unless that is hard-linked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NameRow {
    /// The name.
    pub name: Identity,
    /// The inode; equal to `name` for all but further links.
    pub inode: Identity,
    /// Whether its birth is merged in.
    pub is_born: bool,
    /// Whether the inode has a row of its own.
    pub is_linked: bool,
    /// Whether this is a derived directory row; nothing else is set then.
    pub is_implied: bool,
    /// Whether there are shadows at its path; kept in the shown row only.
    pub has_shadows: bool,
    /// Version of the place register.
    pub place: Version,
    /// Rank of the place.
    pub rank: u32,
    /// The path; in the key where the space is `entries` or `shadows`.
    pub path: Bytes,
    /// Version of the touch register.
    pub touch: Version,
    /// The greatest touch version a deleter had seen.
    pub kills: Version,
    /// Whether that deleter wanted the chunks kept; part of the kills register.
    pub keeps_chunks: bool,
    /// For each other origin the greatest data version that deleter had seen, and its own where
    /// the chunks are kept; part of the kills register.
    pub kills_seen: Vector,
    /// Of a name that is not shown: per origin the greatest stamp merged into it since it is
    /// not. Kept with graves and partial names only, for knowing when they may be forgotten.
    pub merged: Vector,
    /// Empty when `is_linked`.
    pub content: Content,
}

/// The content of an inode that was ever hard-linked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct InodeRow {
    /// The inode.
    pub inode: Identity,
    /// Whether its birth is merged in.
    pub is_born: bool,
    /// The registers.
    pub content: Content,
}

/// A key's value or the version of its delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvRow {
    /// Version of the write.
    pub version: Version,
    /// The value; `None` in the graves.
    pub value: Option<Bytes>,
}

/// A member as the log knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRow {
    /// 1 member, 2 left, 3 fenced, 4 removed.
    pub state: u8,
    /// Version of the step that said so.
    pub version: Version,
    /// `i64::MAX` while a member. Of one that left, its last stamp: later ones are refused. Of
    /// one that was shut out, the greatest of its stamps that whoever shut it out had; what
    /// other members had beyond it still counts.
    pub cut: Stamp,
    /// Where it was when it joined; a hint, and of several the one that came first may stay.
    pub address: String,
}

impl MemberRow {
    /// A member.
    pub const MEMBER: u8 = 1;
    /// Left by itself.
    pub const LEFT: u8 = 2;
    /// Fenced by another.
    pub const FENCED: u8 = 3;
    /// Removed by an operator.
    pub const REMOVED: u8 = 4;

    /// A member whose join has not arrived.
    #[must_use]
    pub fn unannounced() -> Self {
        Self {
            state: Self::MEMBER,
            version: Version::ZERO,
            cut: Stamp(i64::MAX),
            address: String::new(),
        }
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(ROW_VERSION);
        out.u8(self.state);
        self.version.write(&mut out);
        out.i64_be(self.cut.0);
        out.bytes(self.address.as_bytes());
        out.into_vec()
    }

    /// Reads what [`MemberRow::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let state = input.u8()?;
        let version = Version::read(input)?;
        let cut = Stamp(input.i64_be()?);
        let address = String::from_utf8_lossy(input.bytes()?).into_owned();
        input.finish()?;
        Ok(Self {
            state,
            version,
            cut,
            address,
        })
    }
}

impl KvRow {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(ROW_VERSION);
        self.version.write(&mut out);
        out.u8(u8::from(self.value.is_some()));
        out.raw(self.value.as_deref().unwrap_or_default());
        out.into_vec()
    }

    /// Reads what [`KvRow::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let version = Version::read(input)?;
        let has_value = input.u8()? != 0;
        let value = has_value.then(|| bytes.slice(input.position()..));
        Ok(Self { version, value })
    }
}

const IS_BORN: u8 = 1;
const IS_LINKED: u8 = 1 << 1;
const IS_IMPLIED: u8 = 1 << 2;
const HAS_SHADOWS: u8 = 1 << 3;
const HAS_INODE: u8 = 1 << 4;
const HAS_KILLS: u8 = 1 << 5;
const HAS_PATH: u8 = 1 << 6;
const KEEPS_CHUNKS: u8 = 1 << 7;

const SAME_PLACE: u8 = 1;
const SAME_TOUCH: u8 = 1 << 1;
const SAME_DATA: u8 = 1 << 2;
const SAME_ATTRIBUTES: u8 = 1 << 3;
const HAS_ATIME: u8 = 1 << 4;
const HAS_RANK: u8 = 1 << 5;
const HAS_KILLS_SEEN: u8 = 1 << 6;
const HAS_MERGED: u8 = 1 << 7;

impl Content {
    /// The entry these registers show.
    #[must_use]
    pub fn entry(&self) -> Entry {
        join(&self.attributes, &self.data, self.atime_ns)
    }

    /// Whether the attributes say directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        mode_of(&self.attributes) & MODE_DIRECTORY != 0
    }

    /// Merges another state of the same registers in.
    pub fn merge(&mut self, other: &Self) {
        if other.data_version > self.data_version {
            self.data_version = other.data_version;
            self.seen = other.seen.clone();
            self.data = other.data.clone();
        }
        if other.attributes_version > self.attributes_version {
            self.attributes_version = other.attributes_version;
            self.attributes = other.attributes.clone();
        }
        self.atime_ns = self.atime_ns.max(other.atime_ns);
    }

    fn write(&self, out: &mut Writer, birth: Version) {
        let same = content_flags(self, birth);
        let has_seen = !self.seen.is_empty();
        out.u8(same);
        if same & SAME_DATA == 0 {
            self.data_version.write(out);
        }
        if same & SAME_ATTRIBUTES == 0 {
            self.attributes_version.write(out);
        }
        if same & HAS_ATIME != 0 {
            out.i64_be(self.atime_ns);
        }
        out.u8(u8::from(has_seen));
        if has_seen {
            self.seen.write(out);
        }
        out.bytes(&self.attributes);
        out.bytes(&self.data.0);
    }

    fn read(input: &mut Reader<'_>, birth: Version, whole: &Bytes) -> Result<Self, WireError> {
        let same = input.u8()?;
        let data_version = if same & SAME_DATA != 0 {
            birth
        } else {
            Version::read(input)?
        };
        let attributes_version = if same & SAME_ATTRIBUTES != 0 {
            birth
        } else {
            Version::read(input)?
        };
        let atime_ns = if same & HAS_ATIME != 0 {
            input.i64_be()?
        } else {
            ATIME_NEVER
        };
        let seen = if input.u8()? != 0 {
            Vector::read(input)?
        } else {
            Vector::new()
        };
        let attributes = slice(input, whole)?;
        let data = DataPart(slice(input, whole)?);
        Ok(Self {
            data_version,
            seen,
            data,
            attributes_version,
            attributes,
            atime_ns,
        })
    }
}

fn content_flags(content: &Content, birth: Version) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(content.data_version == birth, SAME_DATA)
        | flag(content.attributes_version == birth, SAME_ATTRIBUTES)
        | flag(content.atime_ns != ATIME_NEVER, HAS_ATIME)
}

/// Takes length-prefixed bytes out of `whole` without copying.
fn slice(input: &mut Reader<'_>, whole: &Bytes) -> Result<Bytes, WireError> {
    let taken = input.bytes()?.len();
    let end = input.position();
    Ok(whole.slice(end - taken..end))
}

fn start(bytes: &[u8]) -> Result<Reader<'_>, WireError> {
    let mut input = Reader::new(bytes);
    let version = input.u8()?;
    if version != ROW_VERSION {
        return Err(WireError::BadValue {
            what: "row version",
            value: u64::from(version),
        });
    }
    Ok(input)
}

impl NameRow {
    /// A row for a name of which nothing is known yet.
    #[must_use]
    pub fn new(name: Identity, inode: Identity) -> Self {
        Self {
            name,
            inode,
            content: Content::blank(),
            ..Self::default()
        }
    }

    /// A derived directory row.
    #[must_use]
    pub fn implied() -> Self {
        Self {
            is_implied: true,
            ..Self::new(Identity::default(), Identity::default())
        }
    }

    /// Whether some write came after all that its deleters had seen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.touch > self.kills
    }

    /// Whether the deleter wanted the chunks of this data kept. ⚠ Of data that it had not seen
    /// nobody does. Whoever removed one of several names had seen none.
    #[must_use]
    pub fn keeps(&self, data: Version) -> bool {
        let has_seen = self.kills_seen.get(data.origin) >= data.stamp;
        self.keeps_chunks && (has_seen || self.kills_seen.is_empty())
    }

    /// Merges a write of the kills register: the greater touch; of equal ones what either
    /// deleter had seen, and the chunks kept if either wants that.
    pub fn merge_kills(&mut self, touch: Version, keeps_chunks: bool, seen: &Vector) {
        match touch.cmp(&self.kills) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                self.keeps_chunks |= keeps_chunks;
                self.kills_seen.merge_max(seen);
            }
            std::cmp::Ordering::Greater => {
                self.kills = touch;
                self.keeps_chunks = keeps_chunks;
                self.kills_seen = seen.clone();
            }
        }
    }

    /// What decides which of several names at one path shows.
    #[must_use]
    pub fn place_order(&self) -> (Version, u32, Identity) {
        (self.place, self.rank, self.name)
    }

    /// The stored bytes; the path goes in where the key does not hold it.
    #[must_use]
    pub fn encode(&self, with_path: bool) -> Vec<u8> {
        let mut out = Writer::with_capacity(96 + self.content.attributes.len());
        let kept_apart = with_path.then_some(&self.merged);
        self.write(&mut out, with_path, self.has_shadows, kept_apart);
        out.into_vec()
    }

    /// The bytes the digest hashes: the same at every replica with the same registers.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(160 + self.content.attributes.len());
        self.write(&mut out, true, false, None);
        out.into_vec()
    }

    fn write(&self, out: &mut Writer, with_path: bool, has_shadows: bool, merged: Option<&Vector>) {
        let merged = merged.filter(|merged| !merged.is_empty());
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let birth = self.name.birth();
        out.u8(ROW_VERSION);
        out.u8(flag(self.is_born, IS_BORN)
            | flag(self.is_linked, IS_LINKED)
            | flag(self.is_implied, IS_IMPLIED)
            | flag(has_shadows, HAS_SHADOWS)
            | flag(self.inode != self.name, HAS_INODE)
            | flag(!self.kills.is_zero(), HAS_KILLS)
            | flag(self.keeps_chunks, KEEPS_CHUNKS)
            | flag(with_path, HAS_PATH));
        if self.is_implied {
            return;
        }
        self.name.write(out);
        if self.inode != self.name {
            self.inode.write(out);
        }
        out.u8(flag(self.place == birth, SAME_PLACE)
            | flag(self.touch == birth, SAME_TOUCH)
            | flag(self.rank != 0, HAS_RANK)
            | flag(!self.kills_seen.is_empty(), HAS_KILLS_SEEN)
            | flag(merged.is_some(), HAS_MERGED));
        if self.place != birth {
            self.place.write(out);
        }
        if self.rank != 0 {
            out.varint(u64::from(self.rank));
        }
        if self.touch != birth {
            self.touch.write(out);
        }
        if !self.kills.is_zero() {
            self.kills.write(out);
        }
        if !self.kills_seen.is_empty() {
            self.kills_seen.write(out);
        }
        if with_path {
            out.bytes(&self.path);
        }
        if let Some(merged) = merged {
            merged.write(out);
        }
        if !self.is_linked {
            self.content.write(out, birth);
        }
    }

    /// Reads what [`NameRow::encode`] wrote; `path` is used where the bytes hold none.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &Bytes, path: &[u8]) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let flags = input.u8()?;
        let has = |flag: u8| flags & flag != 0;
        if has(IS_IMPLIED) {
            let mut row = Self::implied();
            row.path = Bytes::copy_from_slice(path);
            row.has_shadows = has(HAS_SHADOWS);
            return Ok(row);
        }
        let name = Identity::read(input)?;
        let inode = if has(HAS_INODE) {
            Identity::read(input)?
        } else {
            name
        };
        let birth = name.birth();
        let mut row = Self::new(name, inode);
        row.is_born = has(IS_BORN);
        row.is_linked = has(IS_LINKED);
        row.keeps_chunks = has(KEEPS_CHUNKS);
        row.has_shadows = has(HAS_SHADOWS);
        let same = input.u8()?;
        row.place = if same & SAME_PLACE != 0 {
            birth
        } else {
            Version::read(input)?
        };
        row.rank = if same & HAS_RANK != 0 {
            input.varint_u32()?
        } else {
            0
        };
        row.touch = if same & SAME_TOUCH != 0 {
            birth
        } else {
            Version::read(input)?
        };
        row.kills = if has(HAS_KILLS) {
            Version::read(input)?
        } else {
            Version::ZERO
        };
        if same & HAS_KILLS_SEEN != 0 {
            row.kills_seen = Vector::read(input)?;
        }
        row.path = if has(HAS_PATH) {
            slice(input, bytes)?
        } else {
            Bytes::copy_from_slice(path)
        };
        if same & HAS_MERGED != 0 {
            row.merged = Vector::read(input)?;
        }
        if !row.is_linked {
            row.content = Content::read(input, birth, bytes)?;
        }
        input.finish()?;
        Ok(row)
    }
}

impl InodeRow {
    /// The stored bytes, which are also what the digest hashes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(ROW_VERSION);
        out.u8(u8::from(self.is_born));
        self.inode.write(&mut out);
        self.content.write(&mut out, self.inode.birth());
        out.into_vec()
    }

    /// Reads what [`InodeRow::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let is_born = input.u8()? != 0;
        let inode = Identity::read(input)?;
        let content = Content::read(input, inode.birth(), bytes)?;
        input.finish()?;
        Ok(Self {
            inode,
            is_born,
            content,
        })
    }
}
