// SPDX-License-Identifier: Apache-2.0
//! A way to a server that is cut when an attempt is sent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a way to the server does to the next attempts.
pub struct Cuts {
    /// Ends before the server gets it.
    pub n_before: AtomicUsize,
    /// Ends when the server has it.
    pub n_behind: AtomicUsize,
    /// The server does not get it, and does not learn that the filer is gone.
    pub n_hanging: AtomicUsize,
    /// New connections are refused.
    pub is_closed: AtomicBool,
    /// What a message has in it that makes an attempt.
    attempt: &'static [u8],
}

impl Cuts {
    /// A way to a port of the loopback interface that cuts nothing yet, and the way's own port.
    ///
    /// # Panics
    ///
    /// When no port is free.
    #[must_use]
    pub fn to(port: u16, attempt: &'static [u8]) -> (Arc<Self>, u16) {
        let cuts = Arc::new(Self {
            n_before: AtomicUsize::new(0),
            n_behind: AtomicUsize::new(0),
            n_hanging: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            attempt,
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let own = listener.local_addr().expect("it is bound").port();
        let its = Arc::clone(&cuts);
        std::thread::spawn(move || its.listen(&listener, port));
        (cuts, own)
    }

    fn listen(self: Arc<Self>, listener: &TcpListener, port: u16) {
        for client in listener.incoming().filter_map(Result::ok) {
            if self.is_closed.load(Ordering::SeqCst) {
                continue;
            }
            // The server may be down: then the way ends here.
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            let (Ok(mut from), Ok(mut back)) = (server.try_clone(), client.try_clone()) else {
                continue;
            };
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            let cuts = Arc::clone(&self);
            std::thread::spawn(move || cuts.pass(client, server));
        }
    }

    fn pass(&self, mut client: TcpStream, mut server: TcpStream) {
        let take = |n: &AtomicUsize| {
            n.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        };
        let mut bytes = vec![0; 1 << 16];
        while let Ok(n @ 1..) = client.read(&mut bytes) {
            let mut texts = bytes[..n].windows(self.attempt.len());
            let is_attempt = texts.any(|text| text == self.attempt);
            if is_attempt && take(&self.n_hanging) {
                let _ = client.shutdown(Shutdown::Both);
                // The server's side stays open, whatever happens.
                std::mem::forget(server);
                return;
            }
            if is_attempt && take(&self.n_before) {
                break;
            }
            let is_cut = is_attempt && take(&self.n_behind);
            if is_cut {
                // The answer finds nobody.
                let _ = client.shutdown(Shutdown::Both);
            }
            if server.write_all(&bytes[..n]).is_err() || is_cut {
                break;
            }
        }
        let _ = (
            client.shutdown(Shutdown::Both),
            server.shutdown(Shutdown::Write),
        );
    }
}
