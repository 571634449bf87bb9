//! Removing components that nothing refers to any more: at the start, and after a framework was removed.
//! Where hosts share an etcd they go from there too, by the hand of the one that leads.

use std::sync::Arc;
use std::time::Duration;

use proffer_model::with_causes;
use proffer_store::Components;
use tokio::sync::Notify;

use crate::handle::{HostGone, LoopHandle};

/// Between two looks at whether facts are durable, which takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks now and at each word, until the host ends.
pub(crate) async fn remove_when_told(
    handle: LoopHandle,
    components: Components,
    framework_removed: Arc<Notify>,
) {
    share_pinned(&components).await;
    while remove_unused(&handle, &components).await.is_ok() {
        framework_removed.notified().await;
    }
}

/// The policy of this host's settings may be put on record: then the others must find it.
async fn share_pinned(components: &Components) {
    let here = components.clone();
    let shared = tokio::task::spawn_blocking(move || here.share_pinned()).await;
    if let Ok(Err(error)) = shared {
        let error = with_causes(&error);
        tracing::warn!(
            error,
            "the settings' policy is not where other hosts find it"
        );
    }
}

async fn remove_unused(handle: &LoopHandle, components: &Components) -> Result<(), HostGone> {
    let here = components.clone();
    let listed = tokio::task::spawn_blocking(move || here.begin_removal()).await;
    let listed = match listed {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => {
            tracing::warn!(error = %with_causes(&error), "components cannot be listed");
            return Ok(());
        }
        // It does not panic, and the next time may be better.
        Err(_) => return Ok(()),
    };
    let (in_use, (as_of, _)) = handle
        .query(|core| (core.components_in_use(), core.durable_up_to()))
        .await?;
    let unused = listed.digests().filter(|digest| !in_use.contains(*digest));
    let unused: Vec<String> = unused.map(str::to_owned).collect();
    if unused.is_empty() {
        return Ok(());
    }
    // A crash before that would bring back who used them.
    while handle.query(|core| core.durable_up_to().1).await? < as_of {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let here = components.clone();
    let removing = tokio::task::spawn_blocking(move || {
        for digest in unused {
            match here.remove_unused(&listed, &digest) {
                Ok(true) => tracing::info!(digest, "a component that nobody uses was removed"),
                // Somebody has brought it again meanwhile.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(digest, error = %with_causes(&error), "a component was not removed");
                }
            }
        }
    });
    // It does not panic.
    let _ended = removing.await.is_ok();
    Ok(())
}
