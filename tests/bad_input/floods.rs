//! Callers that keep a node busy with frames that cost them nothing.

use std::time::Duration;

use crate::fake::Pod;
use crate::fake::rest::both;
use crate::fake::world::{World, world};
use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, frame, grpc_block,
};
use crate::{beside, resident};

/// What a connection may make a node hold, whatever it sends: windows of 16 MiB are the most that it was offered.
const MOST_BYTES: usize = 64 << 20;

/// Says `bytes` again and again, never reading an answer, until the node has enough or `times` are over.
async fn flood(raw: &mut Raw, bytes: &[u8], times: usize) -> bool {
    for _ in 0..times {
        match tokio::time::timeout(Duration::from_secs(2), raw.says(bytes)).await {
            Ok(true) => {}
            Ok(false) => return true,
            // It does not read on, because nobody reads what it says: it holds no more then.
            Err(_) => return false,
        }
    }
    false
}

async fn flooded(world: &World, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let before = resident();
    let good = beside(world);
    let mut raw = Raw::http2(&world.addr).await;
    let many = frame(kind, flags, stream, payload).repeat(1000);
    flood(&mut raw, &many, 300).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < MOST_BYTES, "{grown} bytes for one connection");
    good.was_served(world).await;
}

/// CVE-2023-44487: a request and its cancel, over and over. Each takes a pod's time if it gets so far; none may leave a ticket.
#[tokio::test]
async fn requests_that_are_reset_at_once_leave_nothing_behind() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let before = resident();
    let mut raw = Raw::http2(&world.addr).await;
    let block = grpc_block("hang");
    for batch in 0..200_u32 {
        let pair = |i: u32| {
            let stream = 2 * (batch * 100 + i) + 1;
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, 0, stream, &[0, 0, 0, 0, 1]), reset].concat()
        };
        let pairs: Vec<u8> = (0..100).flat_map(pair).collect();
        if !raw.says(&pairs).await {
            break;
        }
    }
    assert!(resident().saturating_sub(before) < MOST_BYTES);
    good.was_served(&world).await;
}

/// The same where the node is the one to reset (MadeYouReset, CVE-2025-8671): a frame that is an error on its stream follows each
/// request.
#[tokio::test]
async fn requests_that_make_the_node_reset_leave_nothing_behind() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let mut raw = Raw::http2(&world.addr).await;
    let block = grpc_block("hang");
    for batch in 0..100_u32 {
        let pair = |i: u32| {
            let stream = 2 * (batch * 100 + i) + 1;
            // A window that grows by nothing.
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block), frame(8, 0, stream, &[0; 4])].concat()
        };
        let pairs: Vec<u8> = (0..100).flat_map(pair).collect();
        if !raw.says(&pairs).await {
            break;
        }
    }
    let told = raw.frames_until(GOAWAY).await;
    assert!(told.iter().any(|frame| frame.kind == GOAWAY));
    good.was_served(&world).await;
}

/// CVE-2024-27316: a head that never ends.
#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let before = resident();
    let mut raw = Raw::http2(&world.addr).await;
    raw.says(&frame(HEADERS, 0, 1, &grpc_block("echo"))).await;
    let piece: Vec<u8> = (0..100).flat_map(|_| [0, 1, b'x', 100].into_iter().chain([b'y'; 100])).collect();
    let has_enough = flood(&mut raw, &frame(CONTINUATION, 0, 1, &piece), 10_000).await;
    assert!(has_enough, "100 MB of headers were taken");
    assert!(resident().saturating_sub(before) < MOST_BYTES);
    good.was_served(&world).await;
}

/// Each of these asks for an answer, and nobody reads them.
#[tokio::test]
async fn questions_whose_answers_nobody_reads_are_bounded() {
    let pod = both("a").await.0;
    let world = world(&[&pod], |_| {}).await;
    flooded(&world, SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).await;
    flooded(&world, PING, 0, 0, &[7; 8]).await;
}

/// Each of these is nothing, and costs a look.
#[tokio::test]
async fn frames_with_nothing_in_them_are_bounded() {
    let pod: Pod = both("a").await.0;
    let world = world(&[&pod], |_| {}).await;
    flooded(&world, 2, 0, 1, &[0, 0, 0, 0, 1]).await;
    let good = beside(&world);
    let mut raw = Raw::http2(&world.addr).await;
    raw.says(&frame(HEADERS, END_HEADERS, 1, &grpc_block("echo"))).await;
    let before = resident();
    flood(&mut raw, &frame(DATA, 0, 1, &[]).repeat(1000), 300).await;
    assert!(resident().saturating_sub(before) < MOST_BYTES);
    drop(raw);
    good.was_served(&world).await;
}
