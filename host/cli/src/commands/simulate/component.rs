//! A policy component that answers a simulation's cycles, under the limits that a host gives it.

use std::path::Path;

use anyhow::Context;
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_plugin::{
    Kind, LoadedPlugin, PluginHost, PluginHostConfig, PolicyHandle, PolicyLimits,
};
use proffer_sim::workload::Decide;
use tokio::runtime::Runtime;

use crate::failure::Failure;

/// A component and its instance.
pub(crate) struct Component {
    // Dropped in this order: an instance ends before what runs it.
    instance: Option<PolicyHandle>,
    plugin: LoadedPlugin,
    feeds: Feeds,
    config: String,
    host: PluginHost,
    runtime: Runtime,
}

impl Component {
    /// Loads and configures it.
    pub(crate) fn load(file: &Path, config: &str, data: &Path) -> anyhow::Result<Self> {
        let wrong = || Failure::Usage(format!("{} is not a policy to be used", file.display()));
        let bytes = crate::input::read(file, proffer_rpc::operator::COMPONENT_BYTES_MAX as u64)
            .with_context(|| Failure::NotFound(format!("cannot read {}", file.display())))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start")?;
        let host = PluginHost::new(PluginHostConfig {
            cache: Some(data.join("cache")),
            ..PluginHostConfig::default()
        })?;
        let plugin = runtime
            .block_on(host.load(bytes, Kind::Policy))
            .with_context(wrong)?;
        let (instance, feeds) = runtime
            .block_on(spawn(&host, &plugin, config))
            .with_context(wrong)?;
        Ok(Self {
            instance: Some(instance),
            plugin,
            feeds,
            config: config.to_owned(),
            host,
            runtime,
        })
    }
}

async fn spawn(
    host: &PluginHost,
    plugin: &LoadedPlugin,
    config: &str,
) -> Result<(PolicyHandle, Feeds), proffer_plugin::PluginFault> {
    let limits = PolicyLimits::asked_by(plugin.manifest());
    host.spawn_policy(plugin.clone(), limits, config).await
}

impl Decide for Component {
    fn name(&self) -> String {
        format!("{} {}", self.plugin.name(), self.plugin.version())
    }

    fn feeds(&self) -> Feeds {
        self.feeds
    }

    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        let begins = changes
            .first()
            .is_some_and(|first| first.part != ChangesPart::Delta);
        if begins || self.instance.is_none() {
            self.instance = None;
            let spawned = (self.runtime).block_on(spawn(&self.host, &self.plugin, &self.config));
            let (instance, _) = spawned.map_err(|fault| fault.to_string())?;
            self.instance = Some(instance);
        }
        let Some(instance) = &self.instance else {
            return Err("there is no instance of the policy".to_owned());
        };
        let asked = instance.cycle(changes.to_vec(), cycle.clone());
        let outcome = self.runtime.block_on(asked);
        outcome.result.map_err(|fault| {
            self.instance = None;
            fault.to_string()
        })
    }
}
