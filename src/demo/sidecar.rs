//! The real sidecar, on threads of its own.

use tokio::sync::oneshot;

use super::Sidecar;
use crate::app::{self, Deps};
use crate::config::Loaded;
use crate::lifecycle::Stage;

/// Builds it and runs it beside the demo.
pub(super) async fn start(loaded: Loaded) -> Result<Sidecar, String> {
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
        let found = (outbound, bound.admin, bound.remote.stop.clone());
        // Where nobody hears it, the demo is over.
        if tell.send(Ok(found)).is_ok() {
            let _ = bound.run();
        }
    };
    let thread = std::thread::Builder::new().name("sidecar".to_owned());
    thread.spawn(run).map_err(|error| error.to_string())?;
    let ended_early = || "it ended at once".to_owned();
    let (outbound, admin, stop) = told.await.map_err(|_| ended_early())??;
    Ok(Sidecar {
        outbound: outbound.ok_or("it listens nowhere")?,
        admin,
        stop: Box::pin(async move {
            stop.advance(Stage::Drain);
            let _ = ended.await;
        }),
    })
}
