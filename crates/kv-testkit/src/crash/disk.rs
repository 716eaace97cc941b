// SPDX-License-Identifier: Apache-2.0
//! What a disk holds after a power loss.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;

use super::work::Event;

/// What a disk writes whole or not at all, unless it tears it, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// Files by name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Image {
    /// Contents by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// One thing that was done to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Bytes were written.
    Write {
        /// The file's name.
        file: String,
        /// From here on, in bytes.
        offset: usize,
        /// These.
        data: Vec<u8>,
    },
    /// Bytes were written and synced, and a power loss between is not looked at: for a rig that
    /// saw only what came of several such.
    WriteDurably {
        /// The file's name.
        file: String,
        /// From here on, in bytes.
        offset: usize,
        /// These.
        data: Vec<u8>,
    },
    /// The length was changed.
    Resize {
        /// The file's name.
        file: String,
        /// To this many bytes.
        len: usize,
    },
    /// The name was removed.
    Remove {
        /// The file's name.
        file: String,
    },
    /// What was done to the file before is on disk.
    Sync {
        /// The file's name.
        file: String,
    },
    /// The work reached something.
    Event(Event),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, offset, data } => {
                write!(f, "write {} bytes at {offset} of {file}", data.len())
            }
            Self::WriteDurably { file, offset, data } => {
                write!(
                    f,
                    "write and sync {} bytes at {offset} of {file}",
                    data.len()
                )
            }
            Self::Resize { file, len } => write!(f, "resize {file} to {len}"),
            Self::Remove { file } => write!(f, "remove {file}"),
            Self::Sync { file } => write!(f, "sync {file}"),
            Self::Event(event) => write!(f, "{event:?}"),
        }
    }
}

/// Everything that was done, in order.
#[derive(Clone, Default, Debug)]
pub struct Recording {
    /// In order.
    pub steps: Vec<Step>,
    /// So many of them had been done when the store was open. A rig that cannot see how a
    /// store is made counts that in, and no crash is tried before.
    pub n_opening: usize,
}

impl Recording {
    /// Bytes were written to a file.
    pub fn write(&mut self, file: &str, offset: usize, data: &[u8]) {
        let (file, data) = (file.to_owned(), data.to_vec());
        self.steps.push(Step::Write { file, offset, data });
    }

    /// A file was made as long as this.
    pub fn resize(&mut self, file: &str, len: usize) {
        let file = file.to_owned();
        self.steps.push(Step::Resize { file, len });
    }

    /// A file was synced.
    pub fn sync(&mut self, file: &str) {
        let file = file.to_owned();
        self.steps.push(Step::Sync { file });
    }
}

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Survival {
    /// None is on disk.
    Nothing,
    /// All are: the system had written them out by itself.
    Everything,
    /// All but the last, of which the beginning is there.
    TornLast,
    /// Only the last.
    OnlyLast,
    /// Each sector of each write with this probability.
    Sectors(f64),
    /// The same, and one of those that are there is half old, half new.
    TornSectors(f64),
}

impl Survival {
    /// Every way once, the random ones with some probability.
    pub(crate) fn all(random: &mut StdRng) -> [Self; 6] {
        [
            Self::Nothing,
            Self::Everything,
            Self::TornLast,
            Self::OnlyLast,
            Self::Sectors(random.random_range(0.05..0.95)),
            Self::TornSectors(random.random_range(0.5..1.0)),
        ]
    }
}

impl Image {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The files as they are in a directory, but those that `skip` names.
    ///
    /// # Panics
    ///
    /// When the directory cannot be read.
    #[must_use]
    pub fn read_from(dir: &Path, skip: &[&str]) -> Self {
        let mut image = Self::new();
        for file in std::fs::read_dir(dir).expect("list the directory") {
            let file = file.expect("list the directory");
            let name = file.file_name().to_string_lossy().into_owned();
            if !skip.contains(&name.as_str()) {
                let content = std::fs::read(file.path()).expect("read a file");
                image.files.insert(name, content);
            }
        }
        image
    }

    /// Writes the files into a directory.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn write_to(&self, dir: &Path) {
        for (name, content) in &self.files {
            std::fs::write(dir.join(name), content).expect("write a file");
        }
    }

    fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.files.entry(name.to_owned()).or_default()
    }

    fn put(&mut self, file: &str, offset: usize, data: &[u8]) {
        let content = self.file(file);
        let end = offset + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(data);
    }

    /// Does a step, all of it.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Write { file, offset, data } | Step::WriteDurably { file, offset, data } => {
                self.put(file, *offset, data);
            }
            Step::Resize { file, len } => self.file(file).resize(*len, 0),
            Step::Remove { file } => drop(self.files.remove(file)),
            Step::Sync { .. } | Step::Event(_) => {}
        }
    }
}

impl Recording {
    /// How many steps are such.
    #[must_use]
    pub fn count(&self, is_such: impl Fn(&Step) -> bool) -> usize {
        self.steps.iter().filter(|step| is_such(step)).count()
    }

    /// After the first `at` steps: the batches that must be there, to those that may be.
    pub(crate) fn promised(&self, at: usize) -> RangeInclusive<usize> {
        let (mut least, mut most) = (0, 0);
        for step in &self.steps[..at] {
            match step {
                Step::Event(Event::Begun(n)) => most = *n,
                Step::Event(Event::Checkpointed(n)) => least = *n,
                _ => {}
            }
        }
        least..=most
    }

    /// The disk when the power is lost after the first `at` steps.
    pub(crate) fn lose_power(
        &self,
        start: &Image,
        at: usize,
        survival: &Survival,
        random: &mut StdRng,
    ) -> Image {
        let mut image = start.clone();
        let mut pending: Vec<&Step> = Vec::new();
        for step in &self.steps[..at] {
            match step {
                Step::Sync { file } => pending.retain(|step| {
                    let is_synced = of(step) == Some(file);
                    if is_synced {
                        image.apply(step);
                    }
                    !is_synced
                }),
                Step::WriteDurably { .. } => image.apply(step),
                Step::Event(_) => {}
                _ => pending.push(step),
            }
        }
        survive(&mut image, &pending, *survival, random);
        image
    }
}

fn of(step: &Step) -> Option<&String> {
    match step {
        Step::Write { file, .. }
        | Step::Resize { file, .. }
        | Step::WriteDurably { file, .. }
        | Step::Remove { file }
        | Step::Sync { file } => Some(file),
        Step::Event(_) => None,
    }
}

fn survive(image: &mut Image, pending: &[&Step], survival: Survival, random: &mut StdRng) {
    let Some((last, others)) = pending.split_last() else {
        return;
    };
    match survival {
        Survival::Nothing => {}
        Survival::Everything => pending.iter().for_each(|step| image.apply(step)),
        Survival::OnlyLast => image.apply(last),
        Survival::TornLast => {
            others.iter().for_each(|step| image.apply(step));
            if let Step::Write { file, offset, data } = last {
                let torn = random.random_range(0..=data.len());
                image.put(file, *offset, &data[..torn]);
            }
        }
        Survival::Sectors(p) => keep_sectors(image, pending, p, usize::MAX, random),
        Survival::TornSectors(p) => {
            let n: usize = pending.iter().map(|step| sectors(step).count()).sum();
            let torn = random.random_range(0..n.max(1));
            keep_sectors(image, pending, p, torn, random);
        }
    }
}

/// Offset and bytes of each sector that a write touches.
fn sectors(step: &Step) -> impl Iterator<Item = (usize, &[u8])> {
    let (mut at, mut rest) = match step {
        Step::Write { offset, data, .. } => (*offset, &data[..]),
        _ => (0, &[][..]),
    };
    std::iter::from_fn(move || {
        let length = rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES);
        let (sector, behind) = rest.split_at(length);
        let found = (at, sector);
        (at, rest) = (at + length, behind);
        (!sector.is_empty()).then_some(found)
    })
}

fn keep_sectors(image: &mut Image, pending: &[&Step], p: f64, torn: usize, random: &mut StdRng) {
    let mut n = 0;
    for step in pending {
        match step {
            Step::Write { file, .. } => {
                for (offset, sector) in sectors(step) {
                    if random.random_bool(p) {
                        let until = if n == torn {
                            sector.len() / 2
                        } else {
                            sector.len()
                        };
                        image.put(file, offset, &sector[..until]);
                    }
                    n += 1;
                }
            }
            Step::Resize { .. } | Step::Remove { .. } if random.random_bool(p) => {
                image.apply(step);
            }
            _ => {}
        }
    }
}
