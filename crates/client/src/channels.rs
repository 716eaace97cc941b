// SPDX-License-Identifier: Apache-2.0
//! Connections by address, kept.

use std::collections::HashMap;

use dulse_transport::{Dial, DialError, Transport};
use parking_lot::Mutex;
use tonic::transport::Channel;

/// Addresses remembered; above it all are dropped, which costs one connection each.
const CHANNELS_MAX: usize = 4_096;

/// Channels that connect with their first call, one for each address.
pub struct Channels {
    transport: Transport,
    dial: Dial,
    known: Mutex<HashMap<String, Channel>>,
}

impl Channels {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(transport: Transport, dial: Dial) -> Self {
        Self {
            transport,
            dial,
            known: Mutex::default(),
        }
    }

    /// The channel to `host:port` of a gRPC listener.
    ///
    /// # Errors
    ///
    /// `Address` when it is none.
    pub fn to(&self, grpc: &str) -> Result<Channel, DialError> {
        let mut known = self.known.lock();
        if let Some(channel) = known.get(grpc) {
            return Ok(channel.clone());
        }
        let channel = self.transport.channel(grpc, self.dial)?;
        if known.len() >= CHANNELS_MAX {
            known.clear();
        }
        known.insert(grpc.to_owned(), channel.clone());
        Ok(channel)
    }
}
