// SPDX-License-Identifier: Apache-2.0
//! Frames: a length, a header and a message, each with its own length.
//!
//! ```text
//! connection   "HBas" | version 0x00 | authentication 0x50 (none) | u32 length | ConnectionHeader
//! request      u32 length | varint length, RequestHeader | varint length, message
//! response     u32 length | varint length, ResponseHeader | varint length, message
//! ```
//!
//! Lengths in `u32` are big-endian and do not count themselves. A response with an exception has
//! no message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::pb;

/// First bytes of a connection: magic, version, no authentication.
pub(crate) const PREAMBLE: &[u8; 6] = b"HBas\x00\x50";

/// Longest varint of a length, in bytes.
const LENGTH_LEN_MAX: usize = 5;

/// Why a frame is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// It ends too early.
    #[error("a frame ends within its header or its message")]
    Short,
    /// A header is no header.
    #[error("the header of a frame does not decode")]
    Header,
    /// The header names no call.
    #[error("the header of a frame names no call")]
    NoCall,
}

/// What a server threw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Java's class, with its package.
    pub class: String,
    /// What it says, with the stack.
    pub text: String,
    /// Whether the server says that trying again is of no use.
    pub is_final: bool,
}

/// A response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// Which call it answers.
    pub call: u32,
    /// The message, or what was thrown.
    pub outcome: Result<Bytes, Exception>,
}

/// A whole request, its length in front.
pub(crate) fn request(header: &pb::RequestHeader, message: &impl Message) -> Bytes {
    let len = header.encoded_len() + message.encoded_len();
    let mut out = BytesMut::with_capacity(len + 4 + 2 * LENGTH_LEN_MAX);
    out.put_u32(0);
    // A `BytesMut` grows; nothing else fails.
    let _ = header.encode_length_delimited(&mut out);
    let _ = message.encode_length_delimited(&mut out);
    put_length(out)
}

/// The start of a connection.
pub(crate) fn hello(service: &str, user: &str) -> Bytes {
    let header = pb::ConnectionHeader {
        user_info: Some(pb::UserInformation {
            effective_user: Some(user.to_owned()),
        }),
        service_name: Some(service.to_owned()),
    };
    let mut out = BytesMut::with_capacity(PREAMBLE.len() + 4 + header.encoded_len());
    out.put_slice(PREAMBLE);
    out.put_u32(header.encoded_len() as u32);
    let _ = header.encode(&mut out);
    out.freeze()
}

/// Fills in the length, which is known now.
pub(crate) fn put_length(mut out: BytesMut) -> Bytes {
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

/// Takes a response apart; `frame` has no length in front any more.
///
/// # Errors
///
/// [`FrameError`] for bytes that are no response.
pub fn decode_response(mut frame: Bytes) -> Result<Response, FrameError> {
    let header = delimited(&mut frame)?;
    let header = pb::ResponseHeader::decode(header).map_err(|_| FrameError::Header)?;
    let call = header.call_id.ok_or(FrameError::NoCall)?;
    if let Some(exception) = header.exception {
        let exception = Exception {
            class: exception.exception_class_name.unwrap_or_default(),
            text: exception.stack_trace.unwrap_or_default(),
            is_final: exception.do_not_retry.unwrap_or_default(),
        };
        return Ok(Response {
            call,
            outcome: Err(exception),
        });
    }
    let message = delimited(&mut frame)?;
    Ok(Response {
        call,
        outcome: Ok(message),
    })
}

/// A message with its length in front.
fn delimited(from: &mut Bytes) -> Result<Bytes, FrameError> {
    let len = prost::decode_length_delimiter(&mut *from).map_err(|_| FrameError::Short)?;
    if len > from.remaining() {
        return Err(FrameError::Short);
    }
    Ok(from.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(header: &pb::ResponseHeader, message: Option<&[u8]>) -> Bytes {
        let mut out = header.encode_length_delimited_to_vec();
        if let Some(message) = message {
            out.push(message.len() as u8);
            out.extend_from_slice(message);
        }
        out.into()
    }

    #[test]
    fn responses_are_taken_apart() {
        let header = pb::ResponseHeader {
            call_id: Some(7),
            ..Default::default()
        };
        let read = decode_response(response(&header, Some(b"abc"))).unwrap();
        assert_eq!(
            (read.call, read.outcome),
            (7, Ok(Bytes::from_static(b"abc")))
        );
        let thrown = pb::ResponseHeader {
            call_id: Some(8),
            exception: Some(pb::ExceptionResponse {
                exception_class_name: Some("a.B".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let read = decode_response(response(&thrown, None)).unwrap();
        assert_eq!(read.outcome.unwrap_err().class, "a.B");
    }

    #[test]
    fn what_is_no_response_is_said_to_be_none() {
        for (bytes, expect) in [
            (&b""[..], FrameError::Short),
            (b"\x05\x08", FrameError::Short),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                FrameError::Short,
            ),
            (b"\x02\xff\xff", FrameError::Header),
            (b"\x00\x00", FrameError::NoCall),
            (b"\x02\x08\x01\x05abc", FrameError::Short),
        ] {
            assert_eq!(decode_response(Bytes::copy_from_slice(bytes)), Err(expect));
        }
    }

    #[test]
    fn a_request_has_its_length_in_front() {
        let header = pb::RequestHeader {
            call_id: Some(1),
            ..Default::default()
        };
        let frame = request(&header, &pb::Get::default());
        assert_eq!(&frame[..], b"\x00\x00\x00\x04\x02\x08\x01\x00");
    }
}
