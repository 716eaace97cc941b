// SPDX-License-Identifier: Apache-2.0
//! What of ZooKeeper's protocol it takes to read one node: a session, one question, the end.
//!
//! The crate `zookeeper-client` was considered: it brings some thirty packages and a second
//! reactor beside tokio's for what are two frames here. HBase's nodes are read only when its
//! servers have moved, so a session is not worth keeping.
//!
//! ```text
//! frame          u32 length | body
//! connect        u32 protocol 0 | u64 seen 0 | u32 time-out in ms | u64 session 0
//!                | u32 16, password of zeros
//! connected      u32 protocol | u32 time-out | u64 session | u32 length, password
//! get            u32 number | u32 4 | u32 length, path | u8 watch 0
//! got            u32 number | u64 transaction | i32 error | u32 length, data | …
//! close          u32 number | i32 -11
//! ```
//!
//! Data of HBase's nodes: `ff | u32 length, who wrote it | "PBUF" | message`. All numbers are
//! big-endian.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{Error, ErrorKind};
use crate::frame::put_length;
use crate::pb;

/// ZooKeeper's port where none is named.
const PORT: u16 = 2_181;

/// Largest frame, in bytes: ZooKeeper's own limit.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// How long one server of the quorum may take, all together.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Session time-out that is asked for, in milliseconds; the session ends long before.
const SESSION_MS: u32 = 10_000;

/// Operations and errors.
const GET_DATA: u32 = 4;
const CLOSE: i32 = -11;
const NO_NODE: i32 = -101;

/// First byte of HBase's data.
const HBASE_MAGIC: u8 = 0xff;

/// What stands before a message of HBase.
pub(crate) const MESSAGE_MAGIC: &[u8; 4] = b"PBUF";

/// A server by name and port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why data of a node says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NodeError {
    /// Bytes are missing.
    #[error("an answer of ZooKeeper ends too early")]
    Short,
    /// Not of HBase.
    #[error("the node is not one of HBase")]
    Foreign,
    /// There is no such node.
    #[error("HBase has no such node in ZooKeeper: is it running, and is this its quorum?")]
    NoNode,
    /// ZooKeeper's error.
    #[error("ZooKeeper answers with error {0}")]
    Failed(i32),
    /// It names no server.
    #[error("the node names no server")]
    NoServer,
}

/// Takes the servers of `zkquorum` apart: `host`, `host:port` or `[v6]:port`, between commas.
///
/// # Errors
///
/// The part that is none.
pub fn parse_quorum(text: &str) -> Result<Vec<Address>, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let all: Vec<Address> = parts.map(parse_address).collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(text.to_owned());
    }
    Ok(all)
}

fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || text.to_owned();
    let (host, port) = match text.rsplit_once(':') {
        // Colons without brackets are an address of version 6.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| wrong())?)
        }
        _ => (text, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if host.is_empty() || !host.chars().all(is_plain) || port == 0 {
        return Err(wrong());
    }
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// Which server a node of HBase names: `meta-region-server` or `master`, both alike.
///
/// # Errors
///
/// [`NodeError`] for data that is none.
pub fn decode_server(mut data: Bytes) -> Result<Address, NodeError> {
    if data.first() == Some(&HBASE_MAGIC) {
        data.advance(1);
        let writer = take(&mut data)?;
        drop(writer);
    }
    if !data.starts_with(MESSAGE_MAGIC) {
        return Err(NodeError::Foreign);
    }
    data.advance(MESSAGE_MAGIC.len());
    // Both messages have the server as their first field.
    let message = pb::MetaRegionServer::decode(data).map_err(|_| NodeError::Foreign)?;
    let server = message.server.ok_or(NodeError::NoServer)?;
    let (host, port) = (server.host_name, server.port);
    let port = port.and_then(|port| u16::try_from(port).ok());
    match (host, port) {
        (Some(host), Some(port)) if !host.is_empty() => Ok(Address { host, port }),
        _ => Err(NodeError::NoServer),
    }
}

/// The data in an answer to a question for a node's.
///
/// # Errors
///
/// [`NodeError`] for bytes that are none, and what ZooKeeper says.
pub fn decode_data(mut body: Bytes) -> Result<Bytes, NodeError> {
    if body.len() < 16 {
        return Err(NodeError::Short);
    }
    body.advance(12);
    match body.get_i32() {
        0 => take(&mut body),
        NO_NODE => Err(NodeError::NoNode),
        error => Err(NodeError::Failed(error)),
    }
}

/// Bytes with their length in front.
fn take(from: &mut Bytes) -> Result<Bytes, NodeError> {
    if from.len() < 4 {
        return Err(NodeError::Short);
    }
    // A length below zero is one that is too large.
    let len = from.get_u32() as usize;
    if len > from.len() {
        return Err(NodeError::Short);
    }
    Ok(from.split_to(len))
}

/// Which server a node names, by the first of the quorum that answers.
pub(crate) async fn server_of(quorum: &[Address], node: &str) -> Result<Address, Error> {
    let mut said = Vec::new();
    for address in quorum {
        match tokio::time::timeout(TIME_MAX, ask(address, node)).await {
            Ok(Ok(data)) => {
                let server = decode_server(data);
                return server
                    .map_err(|e| Error::new(ErrorKind::Unavailable, format!("{node}: {e}")));
            }
            Ok(Err(why)) => said.push(format!("{address}: {why}")),
            Err(_) => said.push(format!("{address}: no answer in {} s", TIME_MAX.as_secs())),
        }
    }
    let text = format!(
        "no server of the ZooKeeper quorum says where HBase is: {}",
        said.join("; ")
    );
    Err(Error::unreachable(text))
}

async fn ask(address: &Address, node: &str) -> Result<Bytes, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(text)?;
    let mut hello = BytesMut::new();
    hello.put_u32(0);
    hello.put_u32(0);
    hello.put_u64(0);
    hello.put_u32(SESSION_MS);
    hello.put_u64(0);
    hello.put_u32(16);
    hello.put_bytes(0, 16);
    stream.write_all(&put_length(hello)).await.map_err(text)?;
    read(&mut stream).await?;
    let mut get = BytesMut::new();
    get.put_u32(0);
    get.put_u32(1);
    get.put_u32(GET_DATA);
    get.put_u32(node.len() as u32);
    get.put_slice(node.as_bytes());
    get.put_u8(0);
    stream.write_all(&put_length(get)).await.map_err(text)?;
    let data = decode_data(read(&mut stream).await?).map_err(|e| e.to_string());
    let mut close = BytesMut::new();
    close.put_u32(0);
    close.put_u32(2);
    close.put_i32(CLOSE);
    // Without it the session ends by itself.
    let _ = stream.write_all(&put_length(close)).await;
    data
}

async fn read(stream: &mut TcpStream) -> Result<Bytes, String> {
    let len = stream.read_u32().await.map_err(|e| e.to_string())? as usize;
    if len > FRAME_BYTES_MAX {
        return Err(format!("a frame of {len} bytes; at most {FRAME_BYTES_MAX}"));
    }
    let mut body = vec![0; len];
    stream
        .read_exact(&mut body)
        .await
        .map_err(|e| e.to_string())?;
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_are_taken_apart() {
        let all = parse_quorum("a, b:2182,[::1]:3,10.0.0.1,::1").unwrap();
        let shown: Vec<String> = all
            .iter()
            .map(|a| format!("{}|{}", a.host, a.port))
            .collect();
        assert_eq!(
            shown,
            ["a|2181", "b|2182", "::1|3", "10.0.0.1|2181", "::1|2181"]
        );
        for wrong in ["", ",", "a:b", "a:0", "a:70000", "a b", ":1"] {
            parse_quorum(wrong).unwrap_err();
        }
    }

    #[test]
    fn nodes_name_a_server() {
        let message = pb::Master {
            master: Some(pb::ServerName {
                host_name: Some("h".to_owned()),
                port: Some(16_020),
                start_code: Some(1),
            }),
        };
        let plain = [&MESSAGE_MAGIC[..], &message.encode_to_vec()].concat();
        let written = [&b"\xff\x00\x00\x00\x03me!"[..], &plain].concat();
        for data in [plain, written] {
            let server = decode_server(data.into()).unwrap();
            assert_eq!(server.to_string(), "h:16020");
        }
        for (data, expect) in [
            (&b""[..], NodeError::Foreign),
            (b"\xff\x00\x00", NodeError::Short),
            (b"\xff\xff\xff\xff\xff", NodeError::Short),
            (b"PBUF", NodeError::NoServer),
            (b"PBUF\xff", NodeError::Foreign),
        ] {
            assert_eq!(decode_server(Bytes::copy_from_slice(data)), Err(expect));
        }
    }

    #[test]
    fn answers_have_data_or_say_why_not() {
        let answer = |error: i32, rest: &[u8]| {
            let head = [&[0; 12][..], &error.to_be_bytes(), rest].concat();
            decode_data(head.into())
        };
        assert_eq!(
            answer(0, b"\x00\x00\x00\x01abc"),
            Ok(Bytes::from_static(b"a"))
        );
        assert_eq!(answer(0, b"\x00\x00\x00\x04abc"), Err(NodeError::Short));
        assert_eq!(answer(-101, b""), Err(NodeError::NoNode));
        assert_eq!(answer(-4, b""), Err(NodeError::Failed(-4)));
        assert_eq!(decode_data(Bytes::new()), Err(NodeError::Short));
    }
}
