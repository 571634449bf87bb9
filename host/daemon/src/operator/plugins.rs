//! Components that operators bring: looked at, approved, kept, run.

use std::sync::Arc;
use std::time::Duration;

use proffer_core::{Event, FrameworkUpgrade, NewFramework, Reply};
use proffer_model::RoleName;
use proffer_plugin::{Kind, LoadPluginError, LoadedPlugin};
use proffer_rpc::operator as rpc;
use proffer_rpc::operator::{Answer, OperatorError};
use proffer_store::Pin;

use super::{HostOperator, gone, no_framework, refused, role_names};

/// How long a call under way, the load of the new version and its first step may take together: the
/// operator's own patience (three minutes) shall not end before.
const UPGRADE_WITHIN: Duration = Duration::from_secs(170);

/// What taking gpus is called among the things that a framework asks for: no interface has such a name.
const GPUS: &str = "gpus";

impl HostOperator {
    pub(super) async fn inspect_component(
        &self,
        what: rpc::InspectComponent,
    ) -> Answer<rpc::Plugin> {
        let loaded = self.load(&what.component).await?;
        let manifest = loaded.manifest();
        let limit = |name: &str, value: Option<u32>| {
            value.map(|value| rpc::Limit {
                name: name.to_owned(),
                value: u64::from(value),
            })
        };
        let limits = [
            limit("memory-mib", manifest.limits.memory_mib),
            limit("step-cpu-ms", manifest.limits.step_cpu_ms),
            limit("state-mib", manifest.limits.state_mib),
        ];
        Ok(rpc::Plugin {
            name: loaded.name().to_owned(),
            version: loaded.version().to_owned(),
            world: loaded.kind().name().to_owned(),
            contract: manifest.contract.clone(),
            description: manifest.description.clone(),
            digest: loaded.digest().to_owned(),
            size: loaded.bytes() as u64,
            roles: manifest.roles.clone(),
            imports: asks_for(&loaded),
            limits: limits.into_iter().flatten().collect(),
            config_schema: manifest
                .config_schema
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        })
    }

    /// A framework first, or a policy, whichever it is; what is neither is told as no framework.
    async fn load(&self, component: &[u8]) -> Answer<LoadedPlugin> {
        let no_framework = match self.plugins.load(component.to_vec(), Kind::Framework).await {
            Err(error @ LoadPluginError::WrongWorld { .. }) => error,
            loaded => return loaded.map_err(unfit),
        };
        match self.plugins.load(component.to_vec(), Kind::Policy).await {
            Err(LoadPluginError::WrongWorld { .. }) => Err(unfit(no_framework)),
            loaded => loaded.map_err(unfit),
        }
    }

    pub(super) async fn add(&self, add: rpc::AddFramework) -> Answer<rpc::AddedFramework> {
        let loaded = self
            .plugins
            .load(add.component.to_vec(), Kind::Framework)
            .await
            .map_err(unfit)?;
        check_approved(&loaded, &add.approved)?;
        check_config(&loaded, &add.config)?;
        let name = if add.name.is_empty() {
            loaded.name().to_owned()
        } else {
            add.name
        };
        let digest = loaded.digest().to_owned();
        let _pin = self.keep(&digest, add.component.to_vec()).await?;
        let framework = NewFramework {
            name: Arc::from(name.as_str()),
            version: loaded.version().to_owned(),
            digest: digest.clone(),
            roles: roles(add.roles, &loaded)?,
            config: add.config,
            gpus: loaded.manifest().gpus,
            options: proffer_model::fact::FrameworkOptions::default(),
        };
        match self
            .done(|ticket| Event::FrameworkAdded {
                ticket,
                framework: Box::new(framework),
            })
            .await?
        {
            Reply::Added(id) => Ok(rpc::AddedFramework { id, name, digest }),
            _ => Err(OperatorError::Internal(
                "the framework was neither added nor refused".to_owned(),
            )),
        }
    }

    /// Another version, checked in full beside the one that runs: world, contract, manifest, what it
    /// asks for. Nothing of the one that runs is touched before the core has the word.
    pub(super) async fn upgrade(
        &self,
        upgrade: rpc::UpgradeFramework,
    ) -> Answer<rpc::UpgradedFramework> {
        let name = upgrade.name.clone();
        let before = self
            .look(move |core| {
                core.framework_named(&name)
                    .ok_or_else(|| no_framework(&name))
            })
            .await??;
        let loaded = self
            .plugins
            .load(upgrade.component.to_vec(), Kind::Framework)
            .await
            .map_err(unfit)?;
        check_approved(&loaded, &upgrade.approved)?;
        if let Some(other) = self.component_name(&before.digest).await
            && other != loaded.name()
        {
            return Err(OperatorError::Invalid(format!(
                "{} runs the component '{other}', and this is '{}': remove the framework and run the \
                 other one, its state is of no use to it",
                upgrade.name,
                loaded.name()
            )));
        }
        if loaded.manifest().gpus && !before.gpus {
            return Err(OperatorError::Invalid(format!(
                "this version takes gpus and {} was added without: that cannot change while it runs; \
                 remove it and run the new version",
                upgrade.name
            )));
        }
        let config = upgrade.config.as_deref();
        check_config(&loaded, config.unwrap_or(&before.config))?;
        let digest = loaded.digest().to_owned();
        let _pin = self.keep(&digest, upgrade.component.to_vec()).await?;
        let asked = FrameworkUpgrade {
            name: upgrade.name,
            version: loaded.version().to_owned(),
            digest: digest.clone(),
            config: upgrade.config,
        };
        let event = |ticket| Event::FrameworkUpgradeAsked {
            ticket,
            upgrade: Box::new(asked),
        };
        match self
            .handle
            .call(event, UPGRADE_WITHIN)
            .await
            .map_err(gone)?
        {
            Reply::Refused(why) => Err(refused(&why)),
            _ => Ok(rpc::UpgradedFramework {
                from: before.version,
                version: loaded.version().to_owned(),
                digest,
            }),
        }
    }

    /// The name in the manifest of a component that is kept; none if it cannot be read, which is no
    /// reason to keep it.
    async fn component_name(&self, digest: &str) -> Option<String> {
        let (components, digest) = (self.components.clone(), digest.to_owned());
        let read = tokio::task::spawn_blocking(move || components.get(&digest)).await;
        let loaded = self.plugins.load(read.ok()?.ok()?, Kind::Framework).await;
        Some(loaded.ok()?.name().to_owned())
    }

    /// Keeps a component: for good once the core refers to it, and until then as long as the pin is held.
    pub(super) async fn keep(&self, digest: &str, bytes: Vec<u8>) -> Answer<Pin> {
        let pin = self.components.pin(digest);
        let (components, digest) = (self.components.clone(), digest.to_owned());
        let kept = tokio::task::spawn_blocking(move || components.put(&digest, &bytes)).await;
        match kept {
            Ok(Ok(())) => Ok(pin),
            Ok(Err(error)) => Err(OperatorError::Unavailable(error.to_string())),
            Err(error) => Err(OperatorError::Internal(error.to_string())),
        }
    }
}

/// All that an operator approves: what it imports, and the gpus that it takes.
fn asks_for(loaded: &LoadedPlugin) -> Vec<String> {
    let gpus = loaded.manifest().gpus.then(|| GPUS.to_owned());
    loaded.imports().iter().cloned().chain(gpus).collect()
}

/// Everything that it asks for has been approved.
fn check_approved(loaded: &LoadedPlugin, approved: &[String]) -> Answer<()> {
    let mut missing = asks_for(loaded);
    missing.retain(|asked| !approved.contains(asked));
    if missing.is_empty() {
        return Ok(());
    }
    Err(OperatorError::Denied(format!(
        "not approved: {} asks for {}",
        loaded.name(),
        missing.join(", ")
    )))
}

fn check_config(loaded: &LoadedPlugin, config: &str) -> Answer<()> {
    let checked = loaded.check_config(config);
    checked.map_err(|error| OperatorError::Invalid(error.to_string()))
}

/// Those given; else those that the manifest asks for; else everybody's.
fn roles(given: Vec<RoleName>, loaded: &LoadedPlugin) -> Answer<Vec<RoleName>> {
    if !given.is_empty() {
        return Ok(given);
    }
    let asked = role_names(&loaded.manifest().roles)?;
    Ok(if asked.is_empty() {
        vec![RoleName::star()]
    } else {
        asked
    })
}

fn unfit(error: LoadPluginError) -> OperatorError {
    OperatorError::Invalid(error.to_string())
}
