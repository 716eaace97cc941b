// SPDX-License-Identifier: Apache-2.0
//! The disk's state: files, names, what is durable of them, and what is wrong with it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::io::Errno;

use super::content::File;
use super::loss::{Loss, lose_all, lose_any, lose_behind};
use super::names::Names;

/// The directory on top.
pub(super) const ROOT: u64 = 1;

/// Bytes of unsynced pages of one file above which the oldest go to the disk by themselves, as
/// they would in any system. This bounds the memory.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// What lies under a number.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `None` for a directory.
    pub(super) file: Option<File>,
    /// Permissions.
    pub(super) mode: u32,
    /// Handles that programs hold.
    pub(super) n_open: u64,
}

/// What is slow.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Slowness {
    /// How long a sync takes.
    pub(super) sync: Option<Range<Duration>>,
    /// How long a write takes.
    pub(super) write: Option<Range<Duration>>,
}

/// When the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cut {
    /// Before this request is answered.
    request: u64,
    loss: Loss,
}

/// The state.
#[derive(Debug)]
pub(super) struct Image {
    /// By number.
    pub(super) nodes: BTreeMap<u64, Node>,
    /// Of all directories.
    pub(super) names: Names,
    /// What is slow.
    pub(super) slowness: Slowness,
    /// Syncs of files whose names contain this fail.
    pub(super) failing: Option<String>,
    /// Whether nothing gets through.
    pub(super) is_off: bool,
    /// Requests so far that change something, syncs included.
    pub(super) n_requests: u64,
    /// Syncs that succeeded.
    pub(super) n_synced: u64,
    /// Syncs that failed.
    pub(super) n_failed: u64,
    cut: Option<Cut>,
    next: u64,
    random: StdRng,
}

type Done<T> = Result<T, Errno>;

impl Image {
    /// An empty disk; all its choices follow from the seed.
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        let root = Node {
            file: None,
            mode: 0o755,
            n_open: 0,
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            names: Names::default(),
            slowness: Slowness::default(),
            failing: None,
            is_off: false,
            n_requests: 0,
            n_synced: 0,
            n_failed: 0,
            cut: None,
            next: ROOT + 1,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Cuts the power at the request after so many more; 0 is now.
    pub(super) fn cut_after(&mut self, n: u64, loss: Loss) {
        if n == 0 {
            self.lose(loss);
            return;
        }
        let request = self.n_requests + n;
        self.cut = Some(Cut { request, loss });
    }

    /// The power is back: what is there is what was left.
    pub(super) fn power_on(&mut self) {
        self.is_off = false;
        for node in self.nodes.values_mut() {
            node.n_open = 0;
        }
        self.collect();
    }

    /// How long something of this slowness takes now.
    pub(super) fn delay(&mut self, of: fn(&Slowness) -> &Option<Range<Duration>>) -> Duration {
        match of(&self.slowness).clone() {
            Some(range) => self.random.random_range(range),
            None => Duration::ZERO,
        }
    }

    /// # Errors
    ///
    /// `EIO` when the power is off, as all the others.
    pub(super) fn node(&self, number: u64) -> Done<&Node> {
        self.powered()?;
        self.nodes.get(&number).ok_or(Errno::NOENT)
    }

    /// Where a name leads.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Done<u64> {
        self.powered()?;
        self.names.find(directory, name).ok_or(Errno::NOENT)
    }

    /// Makes a file or a directory.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `ENOENT`.
    pub(super) fn make(&mut self, at: (u64, &OsStr), file: Option<File>, mode: u32) -> Done<u64> {
        self.node(at.0)?;
        if self.names.find(at.0, at.1).is_some() {
            return Err(Errno::EXIST);
        }
        let (number, mode) = (self.next, mode & 0o7777);
        self.next += 1;
        let n_open = 0;
        self.nodes.insert(number, Node { file, mode, n_open });
        self.edit(vec![((at.0, at.1.to_owned()), Some(number))])?;
        Ok(number)
    }

    /// Removes a name.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTEMPTY`.
    pub(super) fn remove(&mut self, directory: u64, name: &OsStr) -> Done<()> {
        let number = self.find(directory, name)?;
        if self.names.list(number).next().is_some() {
            return Err(Errno::NOTEMPTY);
        }
        self.edit(vec![((directory, name.to_owned()), None)])
    }

    /// Moves a name.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTEMPTY`.
    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Done<()> {
        let number = self.find(from.0, from.1)?;
        if let Some(there) = self.names.find(to.0, to.1)
            && self.names.list(there).next().is_some()
        {
            return Err(Errno::NOTEMPTY);
        }
        let gone = ((from.0, from.1.to_owned()), None);
        self.edit(vec![gone, ((to.0, to.1.to_owned()), Some(number))])
    }

    /// Writes.
    ///
    /// # Errors
    ///
    /// `EISDIR`; `EIO` when the power goes with it.
    pub(super) fn write(&mut self, number: u64, offset: u64, data: &[u8]) -> Done<()> {
        let request = self.request(number)?;
        let file = self.file(number)?;
        file.write(request, offset, data);
        if file.pending_bytes() > PENDING_BYTES_MAX
            && let Some((oldest, _)) = file.pending.get(file.pending.len() / 2)
        {
            file.sync(*oldest);
        }
        self.may_be_cut()
    }

    /// Cuts or extends a file.
    ///
    /// # Errors
    ///
    /// As [`Image::write`].
    pub(super) fn set_len(&mut self, number: u64, len: u64) -> Done<()> {
        let request = self.request(number)?;
        self.file(number)?.set_len(request, len);
        self.may_be_cut()
    }

    /// Makes a file or directory durable as it was at a request.
    ///
    /// # Errors
    ///
    /// `EIO` when it is to fail, or the power is off.
    pub(super) fn sync(&mut self, number: u64, until: u64) -> Done<()> {
        self.powered()?;
        let fails = self.failing.as_ref().is_some_and(|part| {
            let leads_here = |(_, to): &(_, &u64)| **to == number;
            let name = self.names.now.iter().find(leads_here);
            let name = name.map_or(String::new(), |((_, n), _)| {
                n.to_string_lossy().into_owned()
            });
            name.contains(part.as_str())
        });
        if fails {
            self.n_failed += 1;
            if let Ok(file) = self.file(number) {
                file.fail_sync(until);
            }
            return Err(Errno::IO);
        }
        match self.file(number) {
            Ok(file) => file.sync(until),
            Err(_) => self.names.sync(number, until),
        }
        self.n_synced += 1;
        self.collect();
        Ok(())
    }

    /// Counts a request that changes something, perhaps the last.
    ///
    /// # Errors
    ///
    /// `EIO`, `ENOENT`.
    pub(super) fn request(&mut self, number: u64) -> Done<u64> {
        self.node(number)?;
        self.n_requests += 1;
        Ok(self.n_requests)
    }

    /// The power goes with the last request if it is its time.
    ///
    /// # Errors
    ///
    /// `EIO` when it does.
    pub(super) fn may_be_cut(&mut self) -> Done<()> {
        if let Some(cut) = self.cut.take_if(|cut| cut.request <= self.n_requests) {
            self.lose(cut.loss);
        }
        self.powered()
    }

    /// Every file that is durable: its path and content. To be asked when the power is off.
    #[must_use]
    pub(super) fn files(&self) -> Vec<(OsString, Vec<u8>)> {
        let mut files = Vec::new();
        let mut dirs = vec![(ROOT, OsString::new())];
        while let Some((dir, path)) = dirs.pop() {
            for (name, number) in self.names.list(dir) {
                let mut at = path.clone();
                at.push("/");
                at.push(name);
                let Some(node) = self.nodes.get(&number) else {
                    continue;
                };
                match &node.file {
                    Some(file) => {
                        let content = &file.durable;
                        files.push((at, content.read(0, content.len as usize)));
                    }
                    None => dirs.push((number, at)),
                }
            }
        }
        files
    }

    /// Bytes in pages.
    #[must_use]
    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| node.file.as_ref());
        let pages = files.map(|f| f.cached.pages.len() as u64);
        pages.sum::<u64>() * super::content::PAGE as u64
    }

    fn edit(&mut self, names: Vec<(super::names::Name, Option<u64>)>) -> Done<()> {
        let request = self.request(ROOT)?;
        self.names.edit(request, names);
        self.may_be_cut()
    }

    fn file(&mut self, number: u64) -> Done<&mut File> {
        let node = self.nodes.get_mut(&number).ok_or(Errno::NOENT)?;
        node.file.as_mut().ok_or(Errno::ISDIR)
    }

    fn powered(&self) -> Done<()> {
        if self.is_off { Err(Errno::IO) } else { Ok(()) }
    }

    fn lose(&mut self, loss: Loss) {
        self.is_off = true;
        self.cut = None;
        let random = &mut self.random;
        let files = || self.nodes.values().filter_map(|node| node.file.as_ref());
        let oldest = files().filter_map(|f| f.pending.front().map(|(request, _)| *request));
        let last = random.random_range(oldest.min().unwrap_or(0)..=self.n_requests);
        match loss {
            Loss::All => self.names.lose(|_| false),
            Loss::Behind => self.names.lose(|edit| edit.request <= last),
            Loss::Any => self.names.lose(|_| random.random()),
        }
        for file in self.nodes.values_mut().filter_map(|n| n.file.as_mut()) {
            match loss {
                Loss::All => lose_all(file),
                Loss::Behind => lose_behind(file, last, random),
                Loss::Any => lose_any(file, random),
            }
        }
    }

    /// Forgets what nothing leads to.
    fn collect(&mut self) {
        let reachable = self.names.reachable();
        self.nodes.retain(|number, node| {
            *number == ROOT || node.n_open > 0 || reachable.contains(number)
        });
    }
}
