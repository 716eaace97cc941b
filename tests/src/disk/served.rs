// SPDX-License-Identifier: Apache-2.0
//! The disk as a FUSE file system.
//!
//! Locks and shared memory are the kernel's: no other machine has the files. Its page cache
//! passes each write on at once, so the disk sees writes as programs make them; what is written
//! through memory maps comes later.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::FallocateFlags;
use tokio::sync::watch;

use super::content::{File, PAGE};
use super::image::{Image, Node, ROOT};

/// Nobody else changes anything, so the kernel may believe what it knows.
const TTL: Duration = Duration::from_secs(3600);

/// What the disk says that it has room for.
const SIZE_BYTES: u64 = 4 << 30;

/// Shared by those that serve it and whoever does things to it.
pub(super) struct Shared {
    image: Mutex<Image>,
    /// Whether the power is off.
    pub(super) off: watch::Sender<bool>,
}

impl Shared {
    /// A disk.
    #[must_use]
    pub(super) fn new(image: Image) -> Self {
        Self {
            image: Mutex::new(image),
            off: watch::Sender::new(false),
        }
    }

    /// Its state. Never held over a wait.
    pub(super) fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that may cut the power, and tells if it did.
    pub(super) fn act<T>(
        &self,
        act: impl FnOnce(&mut Image) -> Result<T, rustix::io::Errno>,
    ) -> Done<T> {
        let mut image = self.image();
        let done = act(&mut image);
        let is_off = image.is_off;
        drop(image);
        if is_off {
            self.off.send_replace(true);
        }
        done.map_err(|error| Errno::from_i32(error.raw_os_error()))
    }
}

type Done<T> = Result<T, Errno>;

/// What the kernel talks to.
pub(super) struct Served(pub(super) Arc<Shared>);

impl Served {
    /// Does something to the disk, later if that is slow; other requests go on meanwhile.
    fn later(&self, delay: Duration, work: impl FnOnce(&Shared) + Send + 'static) {
        if delay.is_zero() {
            return work(&self.0);
        }
        let shared = Arc::clone(&self.0);
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            work(&shared);
        });
    }

    fn sync(&self, ino: INodeNo, reply: ReplyEmpty) {
        // What comes behind the request is not its concern, however long it takes.
        let begun = self.0.act(|image| {
            let request = image.request(ino.0)?;
            image.may_be_cut()?;
            Ok((request, image.delay(|slow| &slow.sync)))
        });
        match begun {
            Ok((request, delay)) => self.later(delay, move |shared| {
                answer(shared.act(|image| image.sync(ino.0, request)), reply);
            }),
            Err(error) => reply.error(error),
        }
    }

    fn opened(&self, ino: INodeNo) -> Done<()> {
        self.0.act(|image| {
            image.node(ino.0)?;
            if let Some(node) = image.nodes.get_mut(&ino.0) {
                node.n_open += 1;
            }
            Ok(())
        })
    }

    fn attributes(&self, ino: u64) -> Done<FileAttr> {
        self.0.act(|image| Ok(attributes(ino, image.node(ino)?)))
    }
}

fn answer(done: Done<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn attributes(ino: u64, node: &Node) -> FileAttr {
    let (size, n_pages) = match &node.file {
        Some(file) => (file.cached.len, file.cached.pages.len()),
        None => (0, 0),
    };
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: (n_pages * PAGE / 512) as u64,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(node),
        perm: node.mode as u16,
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    }
}

fn kind(node: &Node) -> FileType {
    match node.file {
        Some(_) => FileType::RegularFile,
        None => FileType::Directory,
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.act(|image| {
            let ino = image.find(parent.0, name)?;
            Ok(attributes(ino, image.node(ino)?))
        });
        match found {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.0.act(|image| {
            if let Some(len) = size {
                image.set_len(ino.0, len)?;
            }
            if let Some(mode) = mode
                && let Some(node) = image.nodes.get_mut(&ino.0)
            {
                node.mode = mode & 0o7777;
            }
            Ok(attributes(ino.0, image.node(ino.0)?))
        });
        match set {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.0.act(|image| {
            let ino = image.make((parent.0, name), None, mode & !umask)?;
            Ok(attributes(ino, image.node(ino)?))
        });
        match made {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.0.act(|image| image.remove(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.0.act(|image| image.remove(parent.0, name)), reply);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        answer(self.0.act(|image| image.rename(from, to)), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.opened(ino) {
            // Order: what the kernel knows of the file is right, whoever had it open before.
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.0.act(|image| {
            let ino = image.make((parent.0, name), Some(File::default()), mode & !umask)?;
            if let Some(node) = image.nodes.get_mut(&ino) {
                node.n_open += 1;
            }
            Ok(attributes(ino, image.node(ino)?))
        });
        match made {
            Ok(attributes) => reply.created(
                &TTL,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.0.act(|image| {
            let file = image.node(ino.0)?.file.as_ref();
            let file = file.ok_or(rustix::io::Errno::ISDIR)?;
            Ok(file.cached.read(offset, size as usize))
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let delay = self.0.image().delay(|slow| &slow.write);
        let data = data.to_vec();
        self.later(delay, move |shared| {
            match shared.act(|image| image.write(ino.0, offset, &data)) {
                Ok(()) => reply.written(data.len() as u32),
                Err(error) => reply.error(error),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(node) = self.0.image().nodes.get_mut(&ino.0) {
            node.n_open = node.n_open.saturating_sub(1);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.0.act(|image| {
            image.node(ino.0)?;
            let dots = [".", ".."].map(|dot| (dot.into(), ROOT, FileType::Directory));
            let rows = image.names.list(ino.0).filter_map(|(name, to)| {
                let node = image.nodes.get(&to)?;
                Some((name.to_owned(), to, kind(node)))
            });
            Ok(dots.into_iter().chain(rows).collect::<Vec<_>>())
        });
        match listed {
            Ok(rows) => {
                for (at, (name, to, kind)) in rows.iter().enumerate().skip(offset as usize) {
                    if reply.add(INodeNo(*to), at as u64 + 1, *kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (total, page) = (SIZE_BYTES / PAGE as u64, PAGE as u32);
        let free = total.saturating_sub(self.0.image().used_bytes() / PAGE as u64);
        reply.statfs(total, free, free, 1 << 20, 1 << 20, page, 255, page);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let known = FallocateFlags::KEEP_SIZE;
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        if !known.contains(flags) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        // There is room for all; holes are zeros.
        let done = self.0.act(|image| {
            let file = image.node(ino.0)?.file.as_ref();
            let len = file.map_or(0, |file| file.cached.len);
            if flags.is_empty() && len < offset + length {
                image.set_len(ino.0, offset + length)?;
            }
            Ok(())
        });
        answer(done, reply);
    }
}
