//! The settings of a host as they are written: keys, defaults, what each is for.

/// A setting: its key, what it is if nobody says, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `host.listen`, for instance: `[host]` and `listen = …` in `proffer.toml`, `PROFFER_HOST_LISTEN` in
    /// the environment.
    pub key: &'static str,
    /// As it would be written.
    pub default: &'static str,
    /// In one line.
    pub what: &'static str,
}

/// Everything about a host that can be set, apart from its data directory.
pub const HOST_SETTINGS: &[Setting] = &[
    setting(
        "host.listen",
        "127.0.0.1:5050",
        "where agents and operators connect (gRPC); port 0: any free one",
    ),
    setting(
        "host.http",
        "127.0.0.1:5051",
        "where /metrics, /healthz and pages are (HTTP); 'off': nowhere",
    ),
    setting(
        "host.store",
        "",
        "where facts are kept: empty: below the data directory; or etcd://HOST:PORT,HOST:PORT/PREFIX, for several hosts",
    ),
    setting(
        "host.store-authority",
        "",
        "PEM file of the authority that signed etcd's certificates: etcd is spoken to over TLS; empty: in the clear",
    ),
    setting(
        "host.store-certificate",
        "",
        "PEM file of this host's certificate for etcd, if etcd wants one",
    ),
    setting("host.store-key", "", "PEM file of its private key"),
    setting(
        "host.leader-lease",
        "5s",
        "with etcd: how long a host that is gone is waited for before another leads",
    ),
    setting(
        "host.advertise",
        "",
        "with etcd: the name or address under which others reach this host; empty: the one listened on",
    ),
    setting(
        "host.insecure-network",
        "false",
        "listen on other addresses than loopback without TLS",
    ),
    setting(
        "host.tls-certificate",
        "",
        "PEM file of the host's certificate chain",
    ),
    setting("host.tls-key", "", "PEM file of its private key"),
    setting(
        "host.cluster",
        "local",
        "the cluster's id, told to frameworks",
    ),
    setting("host.region", "", "the host's region, told to frameworks"),
    setting(
        "host.allocation",
        "events",
        "'events': offers as soon as something comes free or is wanted; 'interval': periodic",
    ),
    setting(
        "host.interval",
        "1s",
        "between two cycles, with allocation = interval",
    ),
    setting(
        "host.reoffer",
        "1s",
        "what a framework gave back goes to itself no sooner, with allocation = events",
    ),
    setting(
        "host.sweep",
        "10s",
        "between two cycles over everything, with allocation = events",
    ),
    setting("host.lease", "30s", "how long an offer stands"),
    setting(
        "host.agent-timeout",
        "30s",
        "an agent not heard of for so long is disconnected, and after as long again unreachable",
    ),
    setting(
        "host.agent-gone-after",
        "14d",
        "an unreachable agent is given up after so long, with its tasks; 'off': only by 'agent gone'",
    ),
    setting(
        "host.agent-removals",
        "10/15m",
        "so many agents within so long are given up by time",
    ),
    setting(
        "host.request-timeout",
        "30s",
        "how long an operator's request waits for its framework",
    ),
    setting(
        "host.policy",
        "",
        "the allocation policy: a shipped one by name, or a component's file; empty or native: the host's own drf policy",
    ),
    setting(
        "host.policy-config",
        "{}",
        "the policy's configuration (JSON)",
    ),
    setting(
        "host.ended-tasks-max",
        "10000",
        "ended tasks remembered per framework; the oldest go first",
    ),
    setting(
        "host.outputs-max",
        "100000",
        "names of outputs remembered per framework; the oldest go first",
    ),
    setting(
        "host.tasks-max",
        "1000000",
        "tasks that one framework may have at once",
    ),
    setting(
        "host.step-failures-max",
        "10",
        "failed tries of a step in a row before a framework is quarantined",
    ),
    setting(
        "host.policy-failures-max",
        "5",
        "failed cycles in a row before a policy is left out",
    ),
    setting(
        "host.journal-max",
        "200000",
        "facts in the journal before it is replaced by a snapshot",
    ),
    setting(
        "host.record",
        "true",
        "record what the core is told, below recording in the data directory, for `proffer replay`",
    ),
    setting(
        "host.record-max-mib",
        "256",
        "size of the recording; the oldest part goes first",
    ),
    setting(
        "host.record-keep",
        "7d",
        "age of the recording's oldest part",
    ),
];

const fn setting(key: &'static str, default: &'static str, what: &'static str) -> Setting {
    Setting { key, default, what }
}

/// The default of a setting; empty if there is no such.
#[must_use]
pub fn default_of(key: &str) -> String {
    HOST_SETTINGS
        .iter()
        .find(|setting| setting.key == key)
        .map(|setting| setting.default.to_owned())
        .unwrap_or_default()
}
