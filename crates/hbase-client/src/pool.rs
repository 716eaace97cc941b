// SPDX-License-Identifier: Apache-2.0
//! A few connections per service of a server, made when they are needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::connection::Connection;
use crate::error::Error;
use crate::zookeeper::Address;

/// Servers that are remembered; a cluster of more has its connections made again and again.
const SERVERS_MAX: usize = 1_024;

/// A place for one connection; held while it is made, so that it is made once.
type Slot = tokio::sync::Mutex<Option<Arc<Connection>>>;

struct Server {
    slots: Vec<Slot>,
    next: AtomicUsize,
}

/// All connections of a client.
pub(crate) struct Pool {
    user: String,
    n_each: usize,
    servers: Mutex<HashMap<(Address, &'static str), Arc<Server>>>,
}

impl Pool {
    pub(crate) fn new(user: &str, n_each: usize) -> Self {
        Self {
            user: user.to_owned(),
            n_each: n_each.max(1),
            servers: Mutex::new(HashMap::new()),
        }
    }

    /// A connection that was not over a moment ago.
    ///
    /// # Errors
    ///
    /// `Unavailable`; nothing was written.
    pub(crate) async fn get(
        &self,
        address: &Address,
        service: &'static str,
    ) -> Result<Arc<Connection>, Error> {
        let server = self.server(address, service);
        let turn = server.next.fetch_add(1, Ordering::Relaxed) % server.slots.len();
        let mut slot = server.slots[turn].lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_over()) {
            return Ok(Arc::clone(connection));
        }
        *slot = None;
        let connection = Arc::new(Connection::open(address, service, &self.user).await?);
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn server(&self, address: &Address, service: &'static str) -> Arc<Server> {
        let mut servers = self.servers.lock();
        if servers.len() >= SERVERS_MAX {
            // Who uses one keeps it.
            servers.clear();
        }
        let server = servers
            .entry((address.clone(), service))
            .or_insert_with(|| {
                let slots = (0..self.n_each).map(|_| Slot::default());
                Arc::new(Server {
                    slots: slots.collect(),
                    next: AtomicUsize::new(0),
                })
            });
        Arc::clone(server)
    }
}
