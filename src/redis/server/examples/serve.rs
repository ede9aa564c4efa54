//! The Redis face alone, on a port: `cargo run -p plimsoll-redis --example serve -- 127.0.0.1:6380`.

use plimsoll_redis::{Options, Server};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6380".into());
    let listener = TcpListener::bind(&listen).await?;
    let mut options = Options::default();
    options.debug = std::env::args().any(|arg| arg == "--debug");
    let server = Server::new(&options, None);
    let housekeeper = server.clone();
    tokio::spawn(async move { housekeeper.housekeeping().await });
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (server, local) = (server.clone(), stream.local_addr()?);
        tokio::spawn(async move { server.serve(stream, peer, local).await });
    }
}
