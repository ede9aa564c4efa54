//! What the tests of the wire share: a server in memory and something to say to it.

#![allow(dead_code, reason = "not every suite needs all of it")]

use std::net::{Ipv4Addr, SocketAddr};

use plimsoll_redis::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The bytes that lie between a client and the server at most, each way.
const BETWEEN: usize = 64 << 10;

fn addr(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A connection to the server.
pub(crate) fn connect(server: &Server) -> DuplexStream {
    let (near, far) = tokio::io::duplex(BETWEEN);
    let server = server.clone();
    tokio::spawn(async move { server.serve(far, addr(1), addr(6379)).await });
    near
}

/// Says `pieces`, one packet after the other, then nothing more, and hears all that is answered.
pub(crate) async fn talk(server: &Server, pieces: impl IntoIterator<Item = &[u8]>) -> Vec<u8> {
    let (mut hear, mut say) = tokio::io::split(connect(server));
    let mut heard = Vec::new();
    let speak = async {
        for piece in pieces {
            // It may have been closed for what was said before.
            if say.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = say.shutdown().await;
    };
    let listen = hear.read_to_end(&mut heard);
    let ((), listened) = tokio::join!(speak, listen);
    listened.expect("a stream in memory does not fail");
    heard
}

/// `args` as a client sends them.
pub(crate) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The words of `line`, which spaces part, as a client sends them.
pub(crate) fn words(line: &str) -> Vec<u8> {
    command(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// What `lines` are answered, one after the other on one connection.
pub(crate) async fn ask(server: &Server, lines: &[&str]) -> String {
    let said: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
    String::from_utf8_lossy(&talk(server, [said.as_slice()]).await).into_owned()
}
