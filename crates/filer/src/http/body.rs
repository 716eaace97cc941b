// SPDX-License-Identifier: Apache-2.0
//! Request bodies, cut into blocks of the chunk size.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};

/// Cuts a stream of frames into blocks of equal length; only the last is shorter.
pub(super) struct Blocks<S> {
    frames: S,
    block_len: usize,
    /// What the last frame held beyond its block.
    rest: Bytes,
}

impl<S, E> Blocks<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    pub(super) fn new(frames: S, block_len: usize) -> Self {
        Self {
            frames,
            block_len: block_len.max(1),
            rest: Bytes::new(),
        }
    }

    /// The next block, not empty; `None` at the end. A block that is one frame is not copied.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, E> {
        let mut block = BytesMut::new();
        loop {
            let frame = match self.take_rest() {
                Some(rest) => rest,
                None => match self.frames.next().await {
                    Some(frame) => frame?,
                    None if block.is_empty() => return Ok(None),
                    None => return Ok(Some(block.freeze())),
                },
            };
            let room = self.block_len - block.len();
            if frame.len() >= room {
                let mut frame = frame;
                self.rest = frame.split_off(room);
                if block.is_empty() {
                    return Ok(Some(frame));
                }
                block.extend_from_slice(&frame);
                return Ok(Some(block.freeze()));
            }
            if block.is_empty() {
                // A small body often is one frame: look whether more comes before copying.
                match self.frames.next().await {
                    None if frame.is_empty() => return Ok(None),
                    None => return Ok(Some(frame)),
                    Some(next) => {
                        block.extend_from_slice(&frame);
                        self.rest = next?;
                    }
                }
            } else {
                block.extend_from_slice(&frame);
            }
        }
    }

    fn take_rest(&mut self) -> Option<Bytes> {
        (!self.rest.is_empty()).then(|| std::mem::take(&mut self.rest))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn blocks_of(frames: &[&'static str], block_len: usize) -> Vec<Bytes> {
        let frames = frames
            .iter()
            .map(|f| Ok::<_, ()>(Bytes::from_static(f.as_bytes())));
        let mut blocks = Blocks::new(stream::iter(frames), block_len);
        let mut out = Vec::new();
        while let Some(block) = blocks.next().await.unwrap() {
            out.push(block);
        }
        out
    }

    #[tokio::test]
    async fn blocks_are_full_but_the_last() {
        for frames in [
            &["abcdefghij"][..],
            &["a", "b", "cdefg", "", "hij"],
            &["abcd", "efgh", "ij"],
            &["", "abcdefg", "hij", ""],
        ] {
            assert_eq!(
                blocks_of(frames, 4).await,
                ["abcd", "efgh", "ij"],
                "{frames:?}"
            );
            assert_eq!(blocks_of(frames, 99).await, ["abcdefghij"]);
            assert_eq!(blocks_of(frames, 10).await, ["abcdefghij"]);
        }
        assert!(blocks_of(&[], 4).await.is_empty());
        assert!(blocks_of(&["", ""], 4).await.is_empty());
    }
}
