//! A pod's connections, to be cut all at once: a process that is stopped keeps them for ever, with all that is in
//! flight there.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module's description.
#[derive(Default)]
pub(super) struct Ties {
    /// How often they were cut.
    cuts: AtomicU64,
    open: Mutex<Vec<Weak<Tie>>>,
}

#[derive(Default)]
struct Tie {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Ties {
    /// How often they were cut so far.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }

    /// Lets `stream` be cut with the others.
    pub(super) fn tie<S>(&self, stream: S) -> Tied<S> {
        let tie = Arc::<Tie>::default();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|tie| tie.strong_count() > 0);
        open.push(Arc::downgrade(&tie));
        Tied { stream, tie }
    }

    /// Breaks all connections that there are.
    pub(super) fn cut(&self) {
        self.cuts.fetch_add(1, SeqCst);
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for tie in open.iter().filter_map(Weak::upgrade) {
            tie.is_cut.store(true, SeqCst);
            tie.reader.wake();
        }
    }
}

/// A stream that fails from when it is cut.
pub(super) struct Tied<S> {
    stream: S,
    tie: Arc<Tie>,
}

impl<S> Tied<S> {
    fn check(&self) -> io::Result<()> {
        match self.tie.is_cut.load(SeqCst) {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "given up")),
            false => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tied<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            return Poll::Ready(read);
        }
        // Looked at only where nothing comes, which is so where it is cut.
        self.tie.reader.register(cx.waker());
        match self.check() {
            Ok(()) => Poll::Pending,
            cut => Poll::Ready(cut),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tied<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
