//! The Redis face alone, on a port: `cargo run -p plimsoll-redis --example serve -- 127.0.0.1:6380 [--threads N] [--debug]`.

use plimsoll_redis::{Options, Server};
use tokio::net::TcpListener;

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let listen = args.first().map_or("127.0.0.1:6380", String::as_str);
    let mut options = Options::default();
    options.debug = args.iter().any(|arg| arg == "--debug");
    let threads = args.iter().position(|arg| arg == "--threads").and_then(|at| args.get(at + 1)?.parse().ok());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // A script that takes long keeps one.
    let runtime = runtime.worker_threads(threads.unwrap_or(2)).enable_all().build()?;
    runtime.block_on(serve(listen, &options))
}

async fn serve(listen: &str, options: &Options) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let server = Server::new(options, None);
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
