// SPDX-License-Identifier: Apache-2.0
//! Files that upstream's `fs.meta.save` writes and `fs.meta.load` reads: one record for each
//! entry, its length in four bytes before it, big-endian; compressed where the name says so.

use std::collections::HashMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use bytes::Bytes;
use dulse_types::{Entry, FullPath};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use prost::Message;

use crate::item::{Item, SourceError};
use crate::tree::apart;
use crate::value::decode_value;

/// How gzip begins. As a length it would be above [`RECORD_LEN_MAX`].
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Most bytes of a record. Above it, a file is damaged or none of these.
const RECORD_LEN_MAX: usize = 64 << 20;

/// What compressed files are called.
const COMPRESSED: &str = "gz";

/// A record: upstream's `FullEntry`, the entry's bytes kept as they are.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    directory: String,
    #[prost(bytes = "bytes", tag = "2")]
    entry: Bytes,
}

/// The entries of a file, in their order. Memory: some hundred bytes for each hard link.
pub struct MetaSource<R> {
    reader: R,
    place: String,
    is_over: bool,
    /// What the first name of a hard link shows, as a hash, by its id.
    links: HashMap<Bytes, Vec<u8>>,
    /// Names of hard links that show something else.
    n_apart: u64,
}

/// Opens a file, compressed or not.
///
/// # Errors
///
/// `Io`.
pub fn open(file: &Path) -> Result<MetaSource<Box<dyn Read>>, SourceError> {
    let place = file.display().to_string();
    let wrong = |source| SourceError::Io {
        place: place.clone(),
        source,
    };
    let mut opened = BufReader::new(std::fs::File::open(file).map_err(wrong)?);
    let head = std::io::BufRead::fill_buf(&mut opened).map_err(wrong)?;
    let reader: Box<dyn Read> = match head.starts_with(&GZIP) {
        true => Box::new(BufReader::new(MultiGzDecoder::new(opened))),
        false => Box::new(opened),
    };
    Ok(MetaSource::new(reader, &place))
}

impl<R: Read> MetaSource<R> {
    /// Reads what is not compressed; `place` is for errors.
    pub fn new(reader: R, place: &str) -> Self {
        Self {
            reader,
            place: place.to_owned(),
            is_over: false,
            links: HashMap::new(),
            n_apart: 0,
        }
    }

    /// Names of hard links that do not show what the first of its names does, as the store that
    /// the file was made of lacks what they share: each became a file of its own. To be asked at
    /// the end.
    #[must_use]
    pub fn n_apart(&self) -> u64 {
        self.n_apart
    }

    /// An entry; of a name of a hard link that shows something else, a file of its own.
    fn own(&mut self, entry: Entry) -> Entry {
        let Ok(mut fields) = entry.fields() else {
            return entry;
        };
        if fields.hard_link_id.is_empty() {
            return entry;
        }
        // Not shared: how many names there are, and what is derived.
        (fields.hard_link_counter, fields.is_directory) = (0, false);
        let shown = Md5::digest(fields.to_entry(&entry.unknown()).raw()).to_vec();
        let id = fields.hard_link_id;
        if *self.links.entry(id).or_insert_with(|| shown.clone()) == shown {
            return entry;
        }
        self.n_apart += 1;
        apart(&entry)
    }

    fn record(&mut self) -> Result<Option<Record>, SourceError> {
        let io = |source| SourceError::Io {
            place: self.place.clone(),
            source,
        };
        let other = |what: String| SourceError::Other {
            place: self.place.clone(),
            what,
        };
        let mut len = [0; 4];
        let n = read_up_to(&mut self.reader, &mut len).map_err(io)?;
        match n {
            0 => return Ok(None),
            4 => {}
            _ => return Err(other("cut off within the length of a record".to_owned())),
        }
        let len = u32::from_be_bytes(len) as usize;
        if len > RECORD_LEN_MAX {
            let what = format!(
                "no file of fs.meta.save: a record of {len} bytes; expected at most \
                 {RECORD_LEN_MAX}"
            );
            return Err(other(what));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(len as u64).read_to_end(&mut bytes);
        if read.map_err(io)? < len {
            return Err(other("cut off within a record".to_owned()));
        }
        let record = Record::decode(Bytes::from(bytes));
        let record = record.map_err(|e| other(format!("no file of fs.meta.save: {e}")))?;
        Ok(Some(record))
    }
}

impl<R: Read> Iterator for MetaSource<R> {
    type Item = Result<Item, SourceError>;

    /// After an error nothing more is read: nobody knows where the next record begins.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let record = self.record().transpose();
        self.is_over = !matches!(record, Some(Ok(_)));
        Some(record?.map(|record| match item(record) {
            Item::Entry { path, entry } => Item::Entry {
                path,
                entry: self.own(entry),
            },
            other => other,
        }))
    }
}

fn item(record: Record) -> Item {
    let name = Entry::from_bytes(record.entry.clone());
    let name = name
        .and_then(|entry| entry.take_name())
        .map(|(_, name)| name);
    let (name, entry) = match (name, decode_value(&record.entry)) {
        (Ok(name), Ok(entry)) => (name, entry),
        (Err(error), _) => return refused(record.directory, error.to_string()),
        (_, Err(why)) => return refused(record.directory, why),
    };
    let directory = record.directory.trim_end_matches('/');
    match FullPath::of(&record.directory, &name) {
        // The root, which is there without a row.
        Ok(path) if path.is_root() => Item::Local,
        Ok(path) if path.as_str() == format!("{directory}/{name}") => Item::Entry { path, entry },
        Ok(_) => refused(format!("{directory}/{name}"), "is no plain path".to_owned()),
        Err(error) => refused(format!("{directory}/{name}"), error.to_string()),
    }
}

fn refused(what: String, why: String) -> Item {
    Item::Refused { what, why }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

/// Writes such a file.
pub struct MetaWriter {
    out: Out,
}

enum Out {
    Plain(BufWriter<std::fs::File>),
    Compressed(Box<GzEncoder<BufWriter<std::fs::File>>>),
}

impl MetaWriter {
    /// Makes a file that is not there yet; one whose name ends in `.gz` is compressed.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(file: &Path) -> std::io::Result<Self> {
        let out = BufWriter::new(std::fs::File::create_new(file)?);
        let is_compressed = file.extension().is_some_and(|e| e == COMPRESSED);
        Ok(Self {
            out: match is_compressed {
                true => Out::Compressed(Box::new(GzEncoder::new(out, Compression::default()))),
                false => Out::Plain(out),
            },
        })
    }

    /// Adds an entry, its name in it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the entry is too large to be read again.
    pub fn add(&mut self, directory: &str, entry: &Entry) -> std::io::Result<()> {
        let record = Record {
            directory: directory.to_owned(),
            entry: entry.raw().clone(),
        };
        let bytes = record.encode_to_vec();
        if bytes.len() > RECORD_LEN_MAX {
            let what = format!(
                "an entry of {} bytes; expected at most {RECORD_LEN_MAX}",
                bytes.len()
            );
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        }
        let out: &mut dyn Write = match &mut self.out {
            Out::Plain(out) => out,
            Out::Compressed(out) => out,
        };
        // Checked above: it is far below four bytes' worth.
        out.write_all(&(bytes.len() as u32).to_be_bytes())?;
        out.write_all(&bytes)
    }

    /// Ends the file; on disk at return.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(self) -> std::io::Result<()> {
        let out = match self.out {
            Out::Plain(out) => out,
            Out::Compressed(out) => out.finish()?,
        };
        out.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()
    }
}

#[cfg(test)]
mod tests {
    use dulse_types::{EntryFields, UnknownFields};

    use super::*;

    fn record(directory: &str, entry: &[u8]) -> Vec<u8> {
        let record = Record {
            directory: directory.to_owned(),
            entry: Bytes::copy_from_slice(entry),
        };
        let bytes = record.encode_to_vec();
        let mut out = (bytes.len() as u32).to_be_bytes().to_vec();
        out.extend(bytes);
        out
    }

    fn read(bytes: &[u8]) -> Vec<Result<Item, String>> {
        let items = MetaSource::new(bytes, "x");
        items.map(|item| item.map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn what_is_written_is_read_plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        // A name, and field 98, which nobody knows.
        let entry = Entry::from_bytes(Bytes::from_static(b"\x0a\x01x\x92\x06\x01u")).unwrap();
        for name in ["a.meta", "a.meta.gz"] {
            let file = dir.path().join(name);
            let mut writer = MetaWriter::create(&file).unwrap();
            writer.add("/", &entry).unwrap();
            writer.add("/d", &entry).unwrap();
            writer.finish().unwrap();
            let is_gzip = std::fs::read(&file).unwrap().starts_with(&GZIP);
            assert_eq!(is_gzip, name.ends_with("gz"));
            let items: Vec<_> = open(&file).unwrap().map(Result::unwrap).collect();
            let expect = ["/x", "/d/x"].map(|path| Item::Entry {
                path: FullPath::parse(path).unwrap(),
                entry: entry.take_name().unwrap().0,
            });
            assert_eq!(items, expect);
        }
    }

    /// Where the store of the file lacked what two names share, the second was written over the
    /// first, and the import could not be finished.
    #[test]
    fn names_of_a_hard_link_that_show_different_things_are_files_of_their_own() {
        let linked = |name: &str, content: &'static [u8], counter| {
            let fields = EntryFields {
                name: name.to_owned(),
                hard_link_id: Bytes::from_static(&[7; 17]),
                hard_link_counter: counter,
                content: Bytes::from_static(content),
                ..EntryFields::default()
            };
            record("/", fields.to_entry(&UnknownFields::default()).raw())
        };
        let bytes = [
            linked("a", b"one", 2),
            linked("b", b"one", 3),
            linked("c", b"two", 2),
        ];
        let bytes = bytes.concat();
        let mut items = MetaSource::new(&bytes[..], "x");
        let has_ids: Vec<bool> = items
            .by_ref()
            .map(|item| match item.unwrap() {
                Item::Entry { entry, .. } => !entry.fields().unwrap().hard_link_id.is_empty(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((has_ids, items.n_apart()), (vec![true, true, false], 1));
    }

    #[test]
    fn what_is_cut_off_or_none_of_these_is_said() {
        let whole = record("/", b"\x0a\x01x");
        for len in 1..whole.len() {
            let items = read(&whole[..len]);
            assert!(items.len() == 1 && items[0].is_err(), "{len}: {items:?}");
        }
        let [Err(error)] = &read(b"\x7f\xff\xff\xff")[..] else {
            panic!("a length above the limit")
        };
        assert!(error.contains("no file of fs.meta.save"), "{error}");
        assert_eq!(read(b""), []);
    }

    #[test]
    fn paths_that_cannot_be_are_refused_by_name_and_the_rest_is_read() {
        let mut bytes = record("/", b"");
        bytes.extend(record("/a", b"\x0a\x02.."));
        bytes.extend(record("relative", b"\x0a\x01x"));
        bytes.extend(record("/a", b"\x0a"));
        bytes.extend(record("/a", b"\x0a\x01x"));
        let items = read(&bytes);
        assert_eq!(items[0], Ok(Item::Local));
        for refused in &items[1..4] {
            assert!(matches!(refused, Ok(Item::Refused { .. })), "{refused:?}");
        }
        assert!(matches!(items[4], Ok(Item::Entry { .. })));
    }
}
