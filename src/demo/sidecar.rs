//! The real sidecar, on threads of its own.

use std::net::SocketAddr;
use std::pin::Pin;

use tokio::sync::oneshot;

use super::Sidecar;
use crate::app::{self, Deps};
use crate::config::Loaded;
use crate::lifecycle::Stage;

/// What runs, and where the sides that its config has listen.
pub(super) struct Running {
    pub(super) outbound: Option<SocketAddr>,
    pub(super) inbound: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    /// As [`Sidecar::stop`].
    pub(super) stop: Pin<Box<dyn Future<Output = ()>>>,
}

/// Builds it with both sides and runs it beside the demo.
pub(super) async fn start(loaded: Loaded) -> Result<Sidecar, String> {
    let running = run(loaded).await?;
    Ok(Sidecar {
        outbound: running.outbound.ok_or("outbound listens nowhere")?,
        inbound: running.inbound.ok_or("inbound listens nowhere")?,
        admin: running.admin.ok_or("admin listens nowhere")?,
        stop: running.stop,
    })
}

/// The same with the sides that there are.
pub(super) async fn run(loaded: Loaded) -> Result<Running, String> {
    let (tell, told) = oneshot::channel();
    let (done, ended) = oneshot::channel::<()>();
    let run = move || {
        let _done = done;
        let bound = match app::build(loaded, Deps::system()) {
            Ok(bound) => bound,
            Err(error) => {
                let _ = tell.send(Err(error.to_string()));
                return;
            }
        };
        let outbound = bound.outbound.as_ref().and_then(|address| address.tcp());
        let inbound = bound.inbound.as_ref().and_then(|address| address.tcp());
        let stop = bound.remote.stop.clone();
        // Where nobody hears it, the demo is over.
        if tell
            .send(Ok((outbound, inbound, bound.admin, stop)))
            .is_ok()
        {
            let _ = bound.run();
        }
    };
    let thread = std::thread::Builder::new().name("sidecar".to_owned());
    thread.spawn(run).map_err(|error| error.to_string())?;
    let ended_early = || "it ended at once".to_owned();
    let (outbound, inbound, admin, stop) = told.await.map_err(|_| ended_early())??;
    Ok(Running {
        outbound,
        inbound,
        admin,
        stop: Box::pin(async move {
            stop.advance(Stage::Drain);
            let _ = ended.await;
        }),
    })
}
