//! What all TCP connections of a node have in common.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Lets `stream` send at once, and the kernel find out that the machine at its other end is gone without a word: one that
/// acknowledges nothing for `silence` is given up. A process that is only stopped still answers, by its kernel, until what it
/// does not read fills its buffers; then that is given up too.
pub(crate) fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence / 2).with_interval(silence / 6))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(silence))?;
    Ok(())
}
