//! Lets clients in that send a list of addresses as `:authority`.
//!
//! gRPC clients built on C-core (Python, C++, Ruby) with a target like `ipv4:10.0.0.1:8001,10.0.0.2:8001` send the whole
//! list as the authority of every request. It is no valid authority, and an HTTP/2 server resets the stream. Nothing
//! here needs the value, so the bytes after the first address are overwritten in place, with as many zeros
//! (`10.0.0.1:8001000...`). Because the length stays, so do the frames, and so does the size of every entry in the HPACK
//! tables of both ends: no table has to be kept here, and no block encoded anew.
//!
//! Only a literal that is named `:authority` and not Huffman-coded is looked at: that is how C-core writes it (seen with
//! grpcio 1.85). A connection whose first header block has no list is never looked at again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const AUTHORITY: &[u8] = b":authority";
/// `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: u32 = 1;

/// A connection whose requests have one authority each.
pub(super) struct OneAuthority<S> {
    inner: S,
    /// Raised, and let go, once it is known which protocol is spoken.
    known: Option<Arc<AtomicBool>>,
    /// None once the connection is known to need no help.
    rewriter: Option<Rewriter>,
}

impl<S> OneAuthority<S> {
    /// Raises `known` once the first bytes have told which protocol is spoken.
    pub(super) fn new(inner: S, known: Arc<AtomicBool>) -> OneAuthority<S> {
        OneAuthority { inner, known: Some(known), rewriter: Some(Rewriter::default()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for OneAuthority<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let Some(rewriter) = &mut this.rewriter else { return Poll::Ready(Ok(())) };
        let verdict = rewriter.pass(&mut buf.filled_mut()[before..]);
        if !matches!(rewriter.at, At::Preface { .. })
            && let Some(known) = this.known.take()
        {
            known.store(true, Relaxed);
        }
        if verdict == Verdict::LeaveAlone {
            this.rewriter = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OneAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Whether the rest of a connection must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    KeepLooking,
    LeaveAlone,
}

/// Walks the frames of one connection, in whatever pieces they come.
#[derive(Debug, Default)]
struct Rewriter {
    at: At,
    fields: Fields,
}

/// Where in the framing the next byte stands.
#[derive(Debug)]
enum At {
    Preface {
        seen: usize,
    },
    FrameHead {
        head: [u8; 9],
        seen: usize,
    },
    PadLength {
        rest: usize,
        priority: usize,
        last: bool,
    },
    Payload(Payload),
    /// Not HTTP/2, malformed, or without lists: whoever reads next shall judge it.
    Off,
}

impl Default for At {
    fn default() -> At {
        At::Preface { seen: 0 }
    }
}

/// What is left of one frame: some bytes to skip, a piece of a header block, padding.
#[derive(Clone, Copy, Debug)]
struct Payload {
    skip: usize,
    block: usize,
    padding: usize,
    /// Whether the block ends with this frame.
    last: bool,
}

impl Rewriter {
    /// Looks at the next `bytes` of the connection and mends what must be mended.
    fn pass(&mut self, mut bytes: &mut [u8]) -> Verdict {
        while !bytes.is_empty() {
            let taken = match &mut self.at {
                At::Preface { .. } => self.preface(bytes),
                At::FrameHead { .. } => self.frame_head(bytes),
                At::PadLength { .. } => self.pad_length(bytes),
                At::Payload(_) => self.payload(bytes),
                At::Off => return Verdict::LeaveAlone,
            };
            bytes = &mut bytes[taken..];
            self.end_frame();
        }
        if matches!(self.at, At::Off) { Verdict::LeaveAlone } else { Verdict::KeepLooking }
    }

    fn preface(&mut self, bytes: &[u8]) -> usize {
        let At::Preface { seen } = &mut self.at else { return 0 };
        let taken = bytes.len().min(PREFACE.len() - *seen);
        if bytes[..taken] != PREFACE[*seen..*seen + taken] {
            self.at = At::Off;
            return taken;
        }
        *seen += taken;
        if *seen == PREFACE.len() {
            self.at = At::FrameHead { head: [0; 9], seen: 0 };
        }
        taken
    }

    fn frame_head(&mut self, bytes: &[u8]) -> usize {
        let At::FrameHead { head, seen } = &mut self.at else { return 0 };
        let taken = bytes.len().min(head.len() - *seen);
        head[*seen..*seen + taken].copy_from_slice(&bytes[..taken]);
        *seen += taken;
        if *seen == head.len() {
            self.at = frame(head);
        }
        taken
    }

    fn pad_length(&mut self, bytes: &[u8]) -> usize {
        let At::PadLength { rest, priority, last } = self.at else { return 0 };
        let padding = usize::from(bytes[0]);
        self.at = match rest.checked_sub(priority + padding) {
            Some(block) => At::Payload(Payload { skip: priority, block, padding, last }),
            None => At::Off,
        };
        1
    }

    fn payload(&mut self, bytes: &mut [u8]) -> usize {
        let At::Payload(Payload { skip, block, padding, .. }) = &mut self.at else { return 0 };
        if *skip > 0 {
            return take(skip, bytes.len());
        }
        if *block == 0 {
            return take(padding, bytes.len());
        }
        let taken = take(block, bytes.len());
        if !self.fields.pass(&mut bytes[..taken]) {
            self.at = At::Off;
        }
        taken
    }

    fn end_frame(&mut self) {
        let At::Payload(Payload { skip: 0, block: 0, padding: 0, last }) = self.at else { return };
        self.at = At::FrameHead { head: [0; 9], seen: 0 };
        if last && !self.fields.end_block() {
            self.at = At::Off;
        }
    }
}

/// Takes up to `most` off `left`.
fn take(left: &mut usize, most: usize) -> usize {
    let taken = most.min(*left);
    *left -= taken;
    taken
}

/// What follows a frame's head.
fn frame(head: &[u8; 9]) -> At {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 0x4;
    const PADDED: u8 = 0x8;
    const PRIORITY: u8 = 0x20;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let (kind, flags) = (head[3], head[4]);
    let last = flags & END_HEADERS != 0;
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    match kind {
        HEADERS if flags & PADDED != 0 => match length.checked_sub(1) {
            Some(rest) => At::PadLength { rest, priority, last },
            None => At::Off,
        },
        HEADERS => match length.checked_sub(priority) {
            Some(block) => At::Payload(Payload { skip: priority, block, padding: 0, last }),
            None => At::Off,
        },
        CONTINUATION => At::Payload(Payload { skip: 0, block: length, padding: 0, last }),
        _ => At::Payload(Payload { skip: length, block: 0, padding: 0, last: false }),
    }
}

/// Walks the field representations of header blocks (RFC 7541, section 6) as far as needed to tell names from values.
#[derive(Debug, Default)]
struct Fields {
    at: InField,
    /// Whether the value at hand belongs to `:authority`.
    authority: bool,
    /// Whether a list was met in the value at hand; the rest of it is overwritten.
    in_list: bool,
    /// Whether a list was ever met on this connection.
    met_list: bool,
}

#[derive(Debug, Default)]
enum InField {
    #[default]
    Start,
    /// The further bytes of an integer.
    Integer {
        value: u32,
        shift: u32,
        of: Integer,
    },
    NameLength,
    Name {
        left: u32,
        matched: usize,
        matches: bool,
    },
    ValueLength,
    Value {
        left: u32,
        plain: bool,
    },
}

/// What an integer says.
#[derive(Clone, Copy, Debug)]
enum Integer {
    /// An indexed field or a table size: nothing follows.
    Whole,
    /// The index of a literal's name; zero where the name itself follows.
    NameIndex,
    /// The length of a name.
    Name { plain: bool },
    /// The length of a value.
    Value { plain: bool },
}

impl Fields {
    /// Looks at the next bytes of a block; false if they are malformed.
    fn pass(&mut self, bytes: &mut [u8]) -> bool {
        bytes.iter_mut().all(|byte| self.step(byte).is_some())
    }

    /// Whether the block could end here and later ones must be looked at too.
    fn end_block(&mut self) -> bool {
        matches!(self.at, InField::Start) && self.met_list
    }

    fn step(&mut self, byte: &mut u8) -> Option<()> {
        match &mut self.at {
            InField::Start => {
                let (mask, of) = representation(*byte);
                self.first(*byte, mask, of);
            }
            InField::NameLength => self.first(*byte, 0x7f, Integer::Name { plain: *byte < 0x80 }),
            InField::ValueLength => self.first(*byte, 0x7f, Integer::Value { plain: *byte < 0x80 }),
            InField::Integer { value, shift, of } => {
                let of = *of;
                *value = value.checked_add(u32::from(*byte & 0x7f).checked_shl(*shift)?)?;
                *shift += 7;
                // Four more bytes make lengths of 268 million: more than any block.
                match *byte & 0x80 {
                    0 => {
                        let value = *value;
                        self.integer(value, of);
                    }
                    _ if *shift > 21 => return None,
                    _ => {}
                }
            }
            InField::Name { .. } => self.name(*byte),
            InField::Value { .. } => self.value(byte),
        }
        Some(())
    }

    /// The first byte of an integer whose bits under `mask` count.
    fn first(&mut self, byte: u8, mask: u8, of: Integer) {
        match byte & mask {
            bits if bits == mask => self.at = InField::Integer { value: u32::from(mask), shift: 0, of },
            bits => self.integer(u32::from(bits), of),
        }
    }

    fn integer(&mut self, value: u32, of: Integer) {
        self.at = match of {
            Integer::Whole => InField::Start,
            Integer::NameIndex if value == 0 => InField::NameLength,
            Integer::NameIndex => {
                self.authority = value == AUTHORITY_INDEX;
                InField::ValueLength
            }
            Integer::Name { plain } => {
                self.authority = false;
                match value {
                    0 => InField::ValueLength,
                    left => InField::Name { left, matched: 0, matches: plain && left as usize == AUTHORITY.len() },
                }
            }
            Integer::Value { plain } => {
                self.in_list = false;
                if value == 0 { InField::Start } else { InField::Value { left: value, plain } }
            }
        };
    }

    fn name(&mut self, byte: u8) {
        let InField::Name { left, matched, matches } = &mut self.at else { return };
        *left -= 1;
        *matches = *matches && AUTHORITY[*matched] == byte;
        *matched += 1;
        if *left == 0 {
            self.authority = *matches;
            self.at = InField::ValueLength;
        }
    }

    fn value(&mut self, byte: &mut u8) {
        let InField::Value { left, plain } = &mut self.at else { return };
        if self.authority && *plain {
            self.in_list |= *byte == b',';
            self.met_list |= self.in_list;
            if self.in_list {
                *byte = b'0';
            }
        }
        *left -= 1;
        if *left == 0 {
            self.at = InField::Start;
        }
    }
}

/// What the first byte of a representation says: which of its bits begin an integer, and what that means.
fn representation(byte: u8) -> (u8, Integer) {
    match byte {
        0x80.. => (0x7f, Integer::Whole),
        0x40.. => (0x3f, Integer::NameIndex),
        0x20.. => (0x1f, Integer::Whole),
        _ => (0x0f, Integer::NameIndex),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// One connection as grpcio 1.85 opens it, with the authority given.
    fn grpcio(authority: &str, extra_flags: u8) -> Vec<u8> {
        let mut block = Vec::new();
        if extra_flags & 0x8 != 0 {
            block.push(3);
        }
        if extra_flags & 0x20 != 0 {
            block.extend([0, 0, 0, 0, 7]);
        }
        block.extend(b"@\x05:path*/inference.GRPCInferenceService/ServerLive");
        block.extend(b"@\x0a:authority");
        block.push(authority.len() as u8);
        block.extend(authority.as_bytes());
        block.extend(b"\x83\x86@\x0ccontent-type\x10application/grpc@\x02te\x08trailers");
        if extra_flags & 0x8 != 0 {
            block.extend([0; 3]);
        }
        // Cut in two frames, in the middle of the authority.
        let (head, tail) = block.split_at(80);
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame_bytes(4, 0, &[0, 2, 0, 0, 0, 0]));
        bytes.extend(frame_bytes(1, extra_flags & 0x20, head));
        bytes.extend(frame_bytes(9, 4, tail));
        bytes.extend(frame_bytes(0, 1, b"\x00\x00\x00\x00\x00"));
        bytes
    }

    fn frame_bytes(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn rewritten(bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut rewriter = Rewriter::default();
        let mut rest = &mut bytes[..];
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at_mut((*piece).min(rest.len()));
            rewriter.pass(now);
            rest = later;
        }
        bytes
    }

    /// The bug this is for: without it h2 answers every request of such a client with RST_STREAM.
    #[test]
    fn only_the_first_of_many_addresses_is_left_and_every_length_stays() {
        for flags in [0, 0x20] {
            let list = grpcio("127.0.0.1:8001,127.0.0.1:8002", flags);
            let one = grpcio("127.0.0.1:8001000000000000000", flags);
            assert_eq!(rewritten(&list, &[usize::MAX]), one);
        }
    }

    #[test]
    fn padding_is_no_field() {
        let padded = |authority: &str| {
            let mut block = b"\x03@\x0a:authority".to_vec();
            block.push(authority.len() as u8);
            block.extend(authority.as_bytes());
            block.extend(b",,,");
            [PREFACE, &frame_bytes(1, 0xc, &block), &frame_bytes(1, 0xc, &block)].concat()
        };
        assert_eq!(rewritten(&padded("a:1,b:2"), &[7]), padded("a:10000"));
    }

    /// What the zeros make must be what HTTP calls an authority: else nothing was gained.
    #[test]
    fn what_is_left_is_an_authority() {
        for left in ["127.0.0.1:8001000000000000000", "[::1]:8001000000000000", "pod-a000000"] {
            assert!(left.parse::<http::uri::Authority>().is_ok(), "{left}");
        }
        assert!("127.0.0.1:8001,127.0.0.1:8002".parse::<http::uri::Authority>().is_err());
    }

    /// A connection without lists costs nothing after its first block.
    #[test]
    fn a_connection_without_lists_is_left_alone() {
        let mut bytes = grpcio("a-single-and-quite-long-name.example:8001", 0);
        let before = bytes.clone();
        assert_eq!(Rewriter::default().pass(&mut bytes), Verdict::LeaveAlone);
        assert_eq!(bytes, before);
        assert_eq!(Rewriter::default().pass(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec()), Verdict::LeaveAlone);
    }

    proptest! {
        #[test]
        fn the_pieces_a_connection_comes_in_do_not_matter(pieces in vec(1_usize..40, 1..20)) {
            let list = grpcio("127.0.0.1:8001,127.0.0.1:8002", 0x20);
            prop_assert_eq!(rewritten(&list, &pieces), rewritten(&list, &[usize::MAX]));
        }

        /// Strangers choose these bytes.
        #[test]
        fn nothing_panics(bytes in vec(any::<u8>(), 0..300), pieces in vec(1_usize..40, 1..20), start in 0_usize..3) {
            let start = [&[][..], PREFACE, &[PREFACE, &[0, 1, 0, 1, 0x2c, 0, 0, 0, 1]].concat()][start].to_vec();
            let bytes = [start, bytes].concat();
            prop_assert_eq!(rewritten(&bytes, &pieces).len(), bytes.len());
        }
    }
}
