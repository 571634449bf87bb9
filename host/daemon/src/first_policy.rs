//! Which policy a host begins with.

use std::sync::Arc;

use proffer_core::{Core, Event};
use proffer_model::policy::Feeds;
use proffer_model::with_causes;
use proffer_plugin::{Kind, PluginHost};
use proffer_store::Components;

use crate::config::{NATIVE_POLICY, PolicyChoice};
use crate::host::StartHostError;
use crate::instance::spawn;
use crate::policy_seat::{LoadedPolicy, Loader};

/// Who decides first: the policy that was put in last, or before any was the one of the settings.
pub(crate) async fn first_policy(
    loader: &Loader,
    core: &Core,
    settings: Option<&(LoadedPolicy, Feeds)>,
) -> (Option<LoadedPolicy>, Option<Event>) {
    let found = match core.policy_record() {
        None => settings.cloned(),
        Some(record) if record.is_fallback() => None,
        Some(record) => match loader.load(record).await {
            Ok(found) => Some(found),
            Err(fault) => return (None, Some(Event::PolicyUnavailable { fault })),
        },
    };
    let Some((policy, feeds)) = found else {
        return (None, None);
    };
    let identity = Arc::clone(&policy.identity);
    tracing::info!(
        name = identity.name,
        version = identity.version,
        "the policy is loaded"
    );
    (Some(policy), Some(Event::PolicyLoaded { identity, feeds }))
}

/// The settings' policy. It is kept, so that a rollback finds it.
pub(crate) async fn load_policy(
    plugins: &PluginHost,
    components: &Components,
    choice: &PolicyChoice,
) -> Result<Option<(LoadedPolicy, Feeds)>, StartHostError> {
    let (file, config) = match choice {
        PolicyChoice::Native { config } if config.is_empty() => return Ok(None),
        PolicyChoice::Native { config } => {
            let policy = LoadedPolicy::native(config);
            let spawned = spawn(plugins, &policy).await;
            let (_, feeds) = spawned.map_err(|source| StartHostError::StartPolicy {
                path: NATIVE_POLICY.into(),
                source,
            })?;
            return Ok(Some((policy, feeds)));
        }
        PolicyChoice::Component { file, config } => (file, config),
    };
    let path = file.clone();
    let bytes = tokio::fs::read(file)
        .await
        .map_err(|source| StartHostError::Read {
            path: path.clone(),
            source,
        })?;
    let plugin = plugins
        .load(bytes.clone(), Kind::Policy)
        .await
        .map_err(|source| StartHostError::LoadPolicy {
            path: path.clone(),
            source,
        })?;
    let (components, digest) = (components.clone(), plugin.digest().to_owned());
    let kept = tokio::task::spawn_blocking(move || components.put(&digest, &bytes)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(error = %with_causes(&error), "no rollback will find the settings' policy");
    }
    let policy = LoadedPolicy::new(plugin, config);
    let (_, feeds) = spawn(plugins, &policy)
        .await
        .map_err(|source| StartHostError::StartPolicy { path, source })?;
    Ok(Some((policy, feeds)))
}
