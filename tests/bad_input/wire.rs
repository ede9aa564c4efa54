//! Bytes on a connection, as no client would send them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here may take; what has not happened by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection to a node.
pub(crate) struct Raw(TcpStream);

/// A frame that the node sent.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(addr: &str) -> Raw {
        Raw(TcpStream::connect(addr).await.unwrap())
    }

    /// One that speaks HTTP/2, as far as the settings.
    pub(crate) async fn http2(addr: &str) -> Raw {
        let mut raw = Raw::connect(addr).await;
        raw.says(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    /// Says `bytes`; whether the node still takes them.
    pub(crate) async fn says(&mut self, bytes: &[u8]) -> bool {
        tokio::time::timeout(PATIENCE, self.0.write_all(bytes)).await.is_ok_and(|said| said.is_ok())
    }

    /// Says `bytes` one by one, with a pause before each, until the node has enough.
    pub(crate) async fn says_slowly(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            tokio::time::sleep(pause).await;
            if self.0.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    }

    /// All that the node says until it closes the connection.
    pub(crate) async fn hears_out(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        // A connection that is reset is closed too.
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut said)).await.expect("never closed");
        said
    }

    /// The same as text.
    pub(crate) async fn hears(&mut self) -> String {
        String::from_utf8_lossy(&self.hears_out().await).into_owned()
    }

    /// The next frame; none where the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("the node says nothing")
    }

    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], payload })
    }

    /// The kinds of the frames that the node sends until it closes the connection, or until one is `last`.
    pub(crate) async fn frames_until(&mut self, last: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            let is_last = frame.kind == last;
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a gRPC request by which the pod does `what`, as a block without a table.
pub(crate) fn grpc_block(what: &str) -> Vec<u8> {
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let mut block = vec![0x83, 0x86, 0x04];
    literal(&mut block, path);
    block.push(0x01);
    literal(&mut block, "node");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers"), ("x-do", what)] {
        field(&mut block, name, value);
    }
    block
}

/// A field that no table keeps.
pub(crate) fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    literal(block, name);
    literal(block, value);
}

fn literal(block: &mut Vec<u8>, text: &str) {
    // An integer with seven bits in its first byte (RFC 7541, 5.1).
    match text.len() {
        length @ ..127 => block.push(length as u8),
        length => {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push(0x80 | (rest & 0x7f) as u8);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
    }
    block.extend(text.as_bytes());
}
