//! Frames of HTTP/2 that are against its rules, and bytes that are none.

use std::sync::{Arc, Mutex};

use crate::beside;
use crate::fake::rest::both;
use crate::fake::world::world;
use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, Raw, SETTINGS, frame,
    grpc_block,
};

const WINDOW_UPDATE: u8 = 8;
const PADDED: u8 = 8;

/// What is against the rules of a connection ends it, with a GOAWAY that says so, and costs nobody else a request.
#[tokio::test]
async fn a_connection_that_breaks_the_rules_is_told_so() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let block = grpc_block("echo");
    let padded = [&[255][..], &block].concat();
    for (what, bytes) in [
        ("data of no stream", frame(DATA, 0, 0, b"x")),
        ("data of a stream that was never opened", frame(DATA, 0, 7, b"x")),
        ("a stream of the server's", frame(HEADERS, END_HEADERS, 2, &block)),
        (
            "streams backwards",
            [frame(HEADERS, END_HEADERS, 5, &block), frame(HEADERS, END_HEADERS, 3, &block)].concat(),
        ),
        ("a reset of what is not open", frame(RST_STREAM, 0, 9, &[0; 4])),
        ("settings in pieces", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a short ping", frame(PING, 0, 0, &[0; 7])),
        ("a window beyond all bounds", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        ("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block)),
        ("something else in a head", [frame(HEADERS, 0, 1, &block), frame(PING, 0, 0, &[0; 8])].concat()),
        ("an entry of no table", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0x7f])),
        ("a text that never ends", frame(HEADERS, END_HEADERS, 1, &[0x40, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("more padding than frame", frame(HEADERS, END_HEADERS | PADDED, 1, &padded)),
        ("a frame beyond the limit", [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 1000]].concat()),
    ] {
        let mut raw = Raw::http2(&world.addr).await;
        raw.says(&bytes).await;
        let said = raw.frames_until(GOAWAY).await;
        assert!(said.iter().any(|frame| frame.kind == GOAWAY), "{what}: {said:?}");
        raw.hears_out().await;
    }
    good.was_served(&world).await;
}

/// Bytes of a die (a linear congruential one: the same at every run).
struct Die(u64);

impl Die {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

/// Nothing that a stranger sends may make the node panic, in whatever pieces it comes; no answer would tell of it.
#[tokio::test]
async fn random_frames_panic_nowhere() {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let noted = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        // The fake pods panic at what they do not know.
        if panic.location().is_none_or(|at| !at.file().starts_with("tests/")) {
            noted.lock().unwrap().push(panic.to_string());
        }
    }));
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let mut die = Die(7);
    for _ in 0..300 {
        let mut bytes = if die.below(8) == 0 { die.bytes(60) } else { PREFACE.to_vec() };
        for _ in 0..die.below(20) {
            let (kind, flags, stream) = (die.below(11) as u8, die.below(64) as u8, die.below(8) as u32);
            bytes.extend(match die.below(4) {
                0 => frame(HEADERS, END_HEADERS | (flags & END_STREAM), stream | 1, &grpc_block("echo")),
                1 => frame(DATA, flags & END_STREAM, stream | 1, &die.bytes(40)),
                2 => die.bytes(30),
                _ => frame(kind, flags, stream, &die.bytes(60)),
            });
        }
        let mut raw = Raw::connect(&world.addr).await;
        let cut = die.below(bytes.len() as u64 + 1) as usize;
        raw.says(&bytes[..cut]).await;
        tokio::task::yield_now().await;
        raw.says(&bytes[cut..]).await;
    }
    good.was_served(&world).await;
    let panics = panics.lock().unwrap();
    assert!(panics.is_empty(), "{panics:?}");
}
