//! The UDP socket under QUIC, with a count of what passes: what arrives here and belongs to no connection is somebody's
//! noise, and worth a metric.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Datagrams and bytes, as UDP payload.
#[derive(Debug, Default)]
pub(crate) struct UdpCounts {
    pub(crate) received: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct CountingSocket {
    pub(crate) inner: Arc<dyn AsyncUdpSocket>,
    pub(crate) counts: Arc<UdpCounts>,
}

impl AsyncUdpSocket for CountingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        let bytes = transmit.contents.len();
        let datagrams = transmit.segment_size.map_or(1, |size| bytes.div_ceil(size));
        self.counts.sent.fetch_add(datagrams as u64, Relaxed);
        self.counts.sent_bytes.fetch_add(bytes as u64, Relaxed);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(n)) = &polled {
            for meta in meta.iter().take(*n) {
                let datagrams = if meta.stride == 0 { 1 } else { meta.len.div_ceil(meta.stride) };
                self.counts.received.fetch_add(datagrams as u64, Relaxed);
                self.counts.received_bytes.fetch_add(meta.len as u64, Relaxed);
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
