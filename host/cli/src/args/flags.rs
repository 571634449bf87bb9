//! Flags of hosts and agents: settings that are often given.

use std::path::PathBuf;

use clap::Args;

use super::AgentAsk;
use crate::settings::FlagValue;

/// A host with agents.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) agents: u32,
    #[command(flatten)]
    pub(crate) host: HostFlags,
}

/// Settings of a host that are often given; every other with --set.
#[derive(Debug, Default, Args)]
pub(crate) struct HostFlags {
    /// Where agents and operators connect; port 0: any free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where facts are kept, for several hosts: etcd://HOST:PORT,HOST:PORT/PREFIX [default: below --data]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where /metrics, /healthz and pages are; `off`: nowhere
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// When offers are made: events or interval
    #[arg(long, value_name = "MODE")]
    allocation: Option<String>,
    /// How long an offer stands, as in 30s
    #[arg(long, value_name = "SPAN")]
    lease: Option<String>,
    /// The allocation policy: a shipped one by name, or a component's file [default: the native one]
    #[arg(long, value_name = "FILE")]
    policy: Option<String>,
    /// The policy's configuration
    #[arg(long, value_name = "JSON")]
    policy_config: Option<String>,
    /// Certificate chain (PEM)
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// Private key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Listen on other addresses than loopback without TLS
    #[arg(long)]
    insecure_network: bool,
}

/// An agent, or something about agents.
#[derive(Debug, Args)]
pub(crate) struct AgentCommand {
    #[command(subcommand)]
    pub(crate) ask: Option<AgentAsk>,
    #[command(flatten)]
    pub(crate) run: AgentFlags,
}

/// Settings of an agent that are often given; every other with --set.
#[derive(Debug, Default, Args)]
pub(crate) struct AgentFlags {
    /// The host's address
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// What it has, as in "cpus:4;mem:8192;ports:[31000-32000]" [default: what is found]
    #[arg(long, value_name = "RESOURCES")]
    resources: Option<String>,
    /// Properties for constraints, as in "rack:r1;ssd:1"
    #[arg(long, value_name = "ATTRIBUTES")]
    attributes: Option<String>,
    /// Whom tasks run as [default: nobody, if the agent is root]
    #[arg(long, value_name = "USER")]
    task_user: Option<String>,
    /// A directory whose files tasks may have as inputs; may be repeated
    #[arg(long, value_name = "DIR")]
    files: Vec<String>,
    /// Where other agents fetch outputs; port 0: any free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The token's file [default: token in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Listen on other addresses than loopback without TLS
    #[arg(long)]
    insecure_network: bool,
}

impl HostFlags {
    /// What these flags say of settings.
    pub(crate) fn flags(&self) -> Vec<FlagValue> {
        let insecure = self.insecure_network.then(|| "true".to_owned());
        values([
            ("host.listen", "--listen", self.listen.clone()),
            ("host.store", "--store", self.store.clone()),
            ("host.http", "--http", self.http.clone()),
            ("host.allocation", "--allocation", self.allocation.clone()),
            ("host.lease", "--lease", self.lease.clone()),
            ("host.policy", "--policy", self.policy.clone()),
            (
                "host.policy-config",
                "--policy-config",
                self.policy_config.clone(),
            ),
            (
                "host.tls-certificate",
                "--tls-certificate",
                self.tls_certificate.clone(),
            ),
            ("host.tls-key", "--tls-key", self.tls_key.clone()),
            ("host.insecure-network", "--insecure-network", insecure),
        ])
    }
}

impl AgentFlags {
    /// What these flags say of settings.
    pub(crate) fn flags(&self) -> Vec<FlagValue> {
        let insecure = self.insecure_network.then(|| "true".to_owned());
        let files = (!self.files.is_empty()).then(|| self.files.join(":"));
        values([
            ("agent.join", "--join", self.join.clone()),
            ("agent.resources", "--resources", self.resources.clone()),
            ("agent.attributes", "--attributes", self.attributes.clone()),
            ("agent.task-user", "--task-user", self.task_user.clone()),
            ("agent.files", "--files", files),
            ("agent.listen", "--listen", self.listen.clone()),
            ("agent.insecure-network", "--insecure-network", insecure),
        ])
    }
}

fn values<const N: usize>(given: [(&str, &str, Option<String>); N]) -> Vec<FlagValue> {
    let given = given.into_iter().filter_map(|(key, flag, text)| {
        Some(FlagValue {
            key: key.to_owned(),
            text: text?,
            flag: flag.to_owned(),
        })
    });
    given.collect()
}
