//! `plimsoll pod` and `plimsoll demo`.
#![allow(clippy::disallowed_methods, reason = "the demo lives in wall time")]

mod gpu;
mod model;
mod pace;
pub mod pod;

/// Resolves when the user or the system asks this process to end.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match terminate.as_mut() {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminated => (),
    }
}
