//! Bytes that may be compressed, on their way to somebody who looks at the first of them.

use std::io::{self, Read, Write};

use flate2::read;
use flate2::write::{GzDecoder, ZlibDecoder};
use http::{HeaderMap, HeaderValue};

/// Encodings that can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Compression {
    Gzip,
    Deflate,
    /// Another, or none.
    Unknown,
}

impl Compression {
    /// What the request's `grpc-encoding` says of its messages.
    pub(in crate::forward) fn of(headers: &HeaderMap) -> Compression {
        Compression::named(headers.get("grpc-encoding"))
    }

    pub(super) fn named(name: Option<&HeaderValue>) -> Compression {
        match name.map(HeaderValue::as_bytes) {
            Some(b"gzip") => Compression::Gzip,
            Some(b"deflate") => Compression::Deflate,
            _ => Compression::Unknown,
        }
    }
}

/// Whether more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Progress {
    More,
    Done,
}

/// Feeds a sink that says by an error that it has seen enough.
pub(super) enum Inflate<S: Write> {
    Plain(S),
    Gzip(Box<GzDecoder<S>>),
    Deflate(Box<ZlibDecoder<S>>),
}

impl<S: Write> Inflate<S> {
    pub(super) fn plain(sink: S) -> Inflate<S> {
        Inflate::Plain(sink)
    }

    /// None where nobody here knows how.
    pub(super) fn compressed(compression: Compression, sink: S) -> Option<Inflate<S>> {
        match compression {
            Compression::Gzip => Some(Inflate::Gzip(Box::new(GzDecoder::new(sink)))),
            Compression::Deflate => Some(Inflate::Deflate(Box::new(ZlibDecoder::new(sink)))),
            Compression::Unknown => None,
        }
    }

    pub(super) fn pass(&mut self, piece: &[u8]) -> Progress {
        // An error from a decoder is either the end of our interest or garbage: done in both cases.
        let more = match self {
            Inflate::Plain(sink) => sink.write_all(piece).is_ok(),
            Inflate::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()).is_ok(),
            Inflate::Deflate(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()).is_ok(),
        };
        if more { Progress::More } else { Progress::Done }
    }

    pub(super) fn sink(&self) -> &S {
        match self {
            Inflate::Plain(sink) => sink,
            Inflate::Gzip(decoder) => decoder.get_ref(),
            Inflate::Deflate(decoder) => decoder.get_ref(),
        }
    }
}

/// The first `most` bytes of what `bytes` were made of, as far as they can be read, and whether that is all of it.
pub(in crate::forward) fn inflate(compression: Compression, bytes: &[u8], most: usize) -> (Vec<u8>, bool) {
    fn all(reader: impl Read, most: usize, plain: &mut Vec<u8>) -> io::Result<usize> {
        reader.take(most as u64).read_to_end(plain)
    }
    let mut plain = Vec::new();
    let read = match compression {
        Compression::Gzip => all(read::GzDecoder::new(bytes), most, &mut plain),
        Compression::Deflate => all(read::ZlibDecoder::new(bytes), most, &mut plain),
        Compression::Unknown => return (plain, false),
    };
    let whole = read.is_ok_and(|read| read < most);
    (plain, whole)
}
