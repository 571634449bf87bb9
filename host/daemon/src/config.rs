//! What an operator may choose about a host: the settings as they are written, and the checked
//! configuration that everything else uses.
//!
//! [`HOST_SETTINGS`] is the whole list, with defaults, as text. Whoever starts a host puts a text to
//! each of them, from a file, the environment or flags; [`HostConfig::check`] makes a configuration
//! of them that is typed, complete and not looked up anywhere again.

mod policy;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proffer_core::{Allocation, CoreConfig};
use proffer_model::Duration;
use proffer_record::RecordingLimits;
use proffer_rpc::{ListenAddress, Protection};
use proffer_store::etcd::EtcdAddress;

pub use policy::{NATIVE_POLICY, PolicyChoice};
pub use settings::{HOST_SETTINGS, Setting, default_of};

/// How a host is to be. Checked.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Everything of the host's own is below: store, token, compiled code, logs.
    pub data: PathBuf,
    /// Where agents and operators connect.
    pub listen: ListenAddress,
    /// Where metrics and pages are.
    pub http: Option<ListenAddress>,
    /// Certificate chain and key in PEM, if the host speaks TLS.
    pub tls: Option<TlsFiles>,
    /// What decides, until another is loaded.
    pub policy: PolicyChoice,
    /// Where facts are kept.
    pub store: StoreChoice,
    /// Facts in the journal before a snapshot.
    pub journal_max: u64,
    /// What is recorded, if anything is.
    pub recording: Option<RecordingLimits>,
    /// The core's part.
    pub core: CoreConfig,
}

/// Files of a host's TLS identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Files with which etcd is spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTlsFiles {
    /// Who signed the members' certificates.
    pub authority: PathBuf,
    /// This host's own identity, if etcd wants to know who calls.
    pub identity: Option<TlsFiles>,
}

/// Where a host keeps its facts.
#[derive(Clone, Debug)]
pub enum StoreChoice {
    /// Below its data directory: it is the only host.
    Embedded,
    /// In etcd, which several hosts share.
    Shared {
        /// Where that is.
        etcd: EtcdAddress,
        /// How long the leadership lasts without being renewed.
        lease: Duration,
        /// The name under which others reach this host; none: the address that it listens on.
        advertise: Option<String>,
        /// How it is spoken to over TLS; none: in the clear.
        tls: Option<EtcdTlsFiles>,
    },
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = '{value}': {problem}")]
pub struct InvalidSetting {
    /// Which.
    pub key: &'static str,
    /// As it was written.
    pub value: String,
    /// What is wrong, and what was wanted.
    pub problem: String,
}

/// Shorter, and an offer could not cross the network and be answered before it is gone.
const LEASE_MIN: Duration = Duration(100);
/// An agent is asked for a sign of life six times within its timeout: one that is lost costs nothing.
const HEARTBEATS_PER_TIMEOUT: u64 = 6;
/// Twice the interval between two signs of life, at least.
const AGENT_TIMEOUT_MIN: Duration = Duration(1_000);
/// Cycles more often than this would leave no time for anything else in a large cluster.
const INTERVAL_MIN: Duration = Duration(10);
/// etcd grants no shorter lease, with its default timings.
const LEADER_LEASE_MIN: Duration = Duration(2_000);
/// Sooner, and an agent that is restarted would be given up.
const GONE_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longer is 'off'.
const GONE_AFTER_MAX: Duration = Duration(365 * Duration::DAY.0);
/// A smaller recording would hold little more than its checkpoints.
const RECORD_MIB_MIN: u64 = 4;
/// Recordings are for trying policies on what was, and for finding faults; not an archive.
const RECORD_KEEP_MAX: Duration = Duration(366 * Duration::DAY.0);
/// Nobody waits longer, and connections between tools and host do not either.
const SPAN_MAX: Duration = Duration::DAY;

impl HostConfig {
    /// Checks every setting. `text` gives what was written for a key of [`HOST_SETTINGS`].
    ///
    /// # Errors
    /// Every setting that is wrong, not only the first.
    pub fn check(
        data: PathBuf,
        text: impl Fn(&'static str) -> String,
    ) -> Result<Self, Vec<InvalidSetting>> {
        let mut checker = Checker {
            text: &text,
            wrong: Vec::new(),
        };
        let tls = checker.tls();
        let protection = match (&tls, checker.yes_or_no("host.insecure-network")) {
            (Some(_), _) => Protection::Tls,
            (None, true) => Protection::InsecureNetwork,
            (None, false) => Protection::TokenOnly,
        };
        let recording = checker.recording(&data);
        let config = Self {
            data,
            listen: checker.listen("host.listen", protection),
            // Metrics are served in the clear: TLS on the other port does not protect this one.
            http: match (text("host.http").as_str(), protection) {
                ("off" | "", _) => None,
                (_, Protection::Tls) => Some(checker.listen("host.http", Protection::TokenOnly)),
                _ => Some(checker.listen("host.http", protection)),
            },
            tls,
            policy: checker.policy(),
            store: checker.store(),
            journal_max: checker.count("host.journal-max", 1_000),
            recording,
            core: checker.core(),
        };
        if config
            .http
            .is_some_and(|http| http.is_in_the_way_of(config.listen))
        {
            checker.reject("host.http", "host.listen has that port already");
        }
        if checker.wrong.is_empty() {
            Ok(config)
        } else {
            Err(checker.wrong)
        }
    }

    /// The configuration of [`HOST_SETTINGS`]' defaults, on loopback ports that are free.
    #[must_use]
    pub fn loopback(data: PathBuf) -> Self {
        let text = |key: &'static str| match key {
            "host.listen" | "host.http" => "127.0.0.1:0".to_owned(),
            _ => default_of(key),
        };
        Self::check(data, text).expect("the defaults are valid: a test checks them")
    }
}

/// Reads `250ms`, `30s`, `5m`, `2h` or `7d`.
///
/// # Errors
/// What was wanted, as a sentence without the text.
pub fn parse_span(text: &str) -> Result<Duration, &'static str> {
    let wanted = "wanted a number and a unit, as in 250ms, 30s, 5m, 2h or 7d";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wanted)?;
    let milliseconds: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration)
        .ok_or("it is longer than time itself")
}

/// Turns texts into values. What is wrong is noted, and a placeholder is used until all are checked.
struct Checker<'t> {
    text: &'t dyn Fn(&'static str) -> String,
    wrong: Vec<InvalidSetting>,
}

impl Checker<'_> {
    fn reject(&mut self, key: &'static str, problem: impl Into<String>) {
        self.wrong.push(InvalidSetting {
            key,
            value: (self.text)(key).chars().take(200).collect(),
            problem: problem.into(),
        });
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        self.identity("host.tls-certificate", "host.tls-key")
    }

    /// A certificate and its key: both or neither.
    fn identity(
        &mut self,
        certificate_setting: &'static str,
        key_setting: &'static str,
    ) -> Option<TlsFiles> {
        let certificate = (self.text)(certificate_setting);
        let key = (self.text)(key_setting);
        match (certificate.is_empty(), key.is_empty()) {
            (true, true) => None,
            (false, false) => Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (true, false) => {
                self.reject(
                    certificate_setting,
                    "a key is given, so a certificate is wanted too",
                );
                None
            }
            (false, true) => {
                self.reject(
                    key_setting,
                    "a certificate is given, so its key is wanted too",
                );
                None
            }
        }
    }

    /// How etcd is spoken to over TLS, if it is.
    fn store_tls(&mut self, shares: bool) -> Option<EtcdTlsFiles> {
        let authority = (self.text)("host.store-authority");
        let identity = self.identity("host.store-certificate", "host.store-key");
        match (authority.is_empty(), &identity) {
            (true, None) => None,
            (true, Some(_)) => {
                self.reject(
                    "host.store-authority",
                    "a certificate for etcd is given, so the authority of etcd's own is wanted too",
                );
                None
            }
            (false, _) if !shares => {
                self.reject(
                    "host.store-authority",
                    "it is for etcd, and host.store names none",
                );
                None
            }
            (false, _) => Some(EtcdTlsFiles {
                authority: authority.into(),
                identity,
            }),
        }
    }

    fn yes_or_no(&mut self, key: &'static str) -> bool {
        match (self.text)(key).as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.reject(key, "wanted true or false");
                false
            }
        }
    }

    fn listen(&mut self, key: &'static str, protection: Protection) -> ListenAddress {
        let text = (self.text)(key);
        let problem = match text.parse::<SocketAddr>() {
            Ok(address) => match ListenAddress::check(address, protection) {
                Ok(address) => return address,
                Err(refused) => refused.to_string(),
            },
            Err(_) => "wanted an IP address and a port, as in 127.0.0.1:5050 or [::1]:0".to_owned(),
        };
        self.reject(key, problem);
        ListenAddress::loopback()
    }

    fn recording(&mut self, data: &Path) -> Option<RecordingLimits> {
        let wanted = self.yes_or_no("host.record");
        let mib = self.count("host.record-max-mib", RECORD_MIB_MIN);
        let keep = self.span_up_to("host.record-keep", Duration::from_secs(60), RECORD_KEEP_MAX);
        wanted.then(|| RecordingLimits {
            dir: data.join("recording"),
            bytes_max: mib.saturating_mul(1 << 20),
            keep: std::time::Duration::from_millis(keep.0),
        })
    }

    fn span(&mut self, key: &'static str, least: Duration) -> Duration {
        self.span_up_to(key, least, SPAN_MAX)
    }

    fn span_up_to(&mut self, key: &'static str, least: Duration, most: Duration) -> Duration {
        let problem = match parse_span(&(self.text)(key)) {
            Ok(span) if span < least => format!("wanted at least {least}"),
            Ok(span) if span > most => format!("wanted at most {}d", most.0 / Duration::DAY.0),
            Ok(span) => return span,
            Err(problem) => problem.to_owned(),
        };
        self.reject(key, problem);
        least
    }

    fn count(&mut self, key: &'static str, least: u64) -> u64 {
        match (self.text)(key).parse::<u64>() {
            Ok(count) if count >= least => return count,
            Ok(_) => self.reject(key, format!("wanted at least {least}")),
            Err(_) => self.reject(key, "wanted a whole number"),
        }
        least
    }

    fn store(&mut self) -> StoreChoice {
        let text = (self.text)("host.store");
        let lease = self.span("host.leader-lease", LEADER_LEASE_MIN);
        let advertise = Some((self.text)("host.advertise")).filter(|name| !name.is_empty());
        if let Some(name) = &advertise
            && (name.contains([':', '/']) || name.contains(char::is_whitespace))
        {
            self.reject(
                "host.advertise",
                "wanted a name or an IPv4 address, without a port",
            );
        }
        let tls = self.store_tls(!text.is_empty());
        if text.is_empty() {
            return StoreChoice::Embedded;
        }
        match text.parse() {
            Ok(etcd) => StoreChoice::Shared {
                etcd,
                lease,
                advertise,
                tls,
            },
            Err(error) => {
                self.reject("host.store", error.to_string());
                StoreChoice::Embedded
            }
        }
    }

    fn core(&mut self) -> CoreConfig {
        let allocation = match (self.text)("host.allocation").as_str() {
            "interval" => Allocation::Interval(self.span("host.interval", INTERVAL_MIN)),
            other => {
                if other != "events" {
                    self.reject("host.allocation", "wanted events or interval");
                }
                Allocation::Events {
                    reoffer: self.span("host.reoffer", Duration::ZERO),
                    sweep: self.span("host.sweep", INTERVAL_MIN),
                }
            }
        };
        let agent_timeout = self.span("host.agent-timeout", AGENT_TIMEOUT_MIN);
        let cluster = (self.text)("host.cluster");
        if cluster.is_empty() || cluster.len() > 255 || cluster.contains(char::is_control) {
            self.reject(
                "host.cluster",
                "wanted 1 to 255 bytes without control characters",
            );
        }
        CoreConfig {
            cluster,
            region: (self.text)("host.region"),
            allocation,
            lease: self.span("host.lease", LEASE_MIN),
            heartbeat: Duration(agent_timeout.0 / HEARTBEATS_PER_TIMEOUT),
            agent_timeout,
            agent_gone_after: self.gone_after(),
            agent_removals: self.removals(),
            request_timeout: self.span("host.request-timeout", Duration(100)),
            ended_tasks_max: self.size("host.ended-tasks-max", 0),
            outputs_max: self.size("host.outputs-max", 1),
            tasks_max: self.size("host.tasks-max", 1),
            step_failures_max: self.small("host.step-failures-max"),
            policy_failures_max: self.small("host.policy-failures-max"),
            ..CoreConfig::default()
        }
    }

    fn gone_after(&mut self) -> Option<Duration> {
        let key = "host.agent-gone-after";
        let text = (self.text)(key);
        if text == "off" {
            return None;
        }
        match parse_span(&text) {
            Ok(span) if (GONE_AFTER_MIN..=GONE_AFTER_MAX).contains(&span) => return Some(span),
            Ok(_) => self.reject(key, "wanted 1s to 365d, or off"),
            Err(problem) => self.reject(key, problem),
        }
        None
    }

    /// `10/15m`: so many within so long.
    fn removals(&mut self) -> (u32, Duration) {
        let key = "host.agent-removals";
        let text = (self.text)(key);
        let parsed = text.split_once('/').and_then(|(count, span)| {
            let count = count
                .trim()
                .parse::<u32>()
                .ok()
                .filter(|count| *count > 0)?;
            let span = parse_span(span.trim()).ok()?;
            (Duration(1)..=SPAN_MAX)
                .contains(&span)
                .then_some((count, span))
        });
        parsed.unwrap_or_else(|| {
            self.reject(
                key,
                "wanted a number of agents and a span up to 1d, as in 10/15m",
            );
            CoreConfig::default().agent_removals
        })
    }

    fn size(&mut self, key: &'static str, least: u64) -> usize {
        usize::try_from(self.count(key, least)).unwrap_or(usize::MAX)
    }

    fn small(&mut self, key: &'static str) -> u32 {
        u32::try_from(self.count(key, 1)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(changes: &[(&str, &str)]) -> Result<HostConfig, Vec<String>> {
        let text = |key: &'static str| {
            let change = changes.iter().find(|(changed, _)| *changed == key);
            change.map_or_else(|| default_of(key), |(_, text)| (*text).to_owned())
        };
        for (key, _) in changes {
            assert!(HOST_SETTINGS.iter().any(|s| s.key == *key), "{key}");
        }
        HostConfig::check("data".into(), text)
            .map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_are_valid_and_those_of_the_core() {
        let config = check(&[]).unwrap();
        assert_eq!(config.core, CoreConfig::default());
        assert_eq!(config.listen.address().to_string(), "127.0.0.1:5050");
        let native = |config: &str| PolicyChoice::Native {
            config: config.to_owned(),
        };
        assert_eq!(config.policy, native(""));
        let given = r#"{"fair-exclude":["gpus"]}"#;
        let config = check(&[("host.policy-config", given)]).unwrap();
        assert_eq!(config.policy, native(given));
        let wrong = check(&[("host.policy-config", r#"{"fair":true}"#)]).unwrap_err();
        assert!(wrong[0].contains("there is no setting 'fair'"), "{wrong:?}");
        assert_eq!(
            HostConfig::loopback("data".into()).listen,
            ListenAddress::loopback()
        );
    }

    #[test]
    fn every_wrong_setting_is_named_with_what_was_wanted() {
        let wrong = check(&[
            ("host.listen", "5050"),
            ("host.lease", "30"),
            ("host.reoffer", "2d"),
            ("host.agent-timeout", "10ms"),
            ("host.ended-tasks-max", "many"),
            ("host.policy-config", "{"),
            ("host.insecure-network", "yes"),
            ("host.agent-gone-after", "never"),
            ("host.agent-removals", "0/1m"),
        ])
        .unwrap_err();
        assert_eq!(wrong.len(), 9, "{wrong:#?}");
        assert!(
            wrong
                .iter()
                .any(|w| w.starts_with("host.lease = '30': wanted a number and a unit"))
        );
        assert!(wrong.contains(&"host.reoffer = '2d': wanted at most 1d".to_owned()));
        assert!(wrong.contains(&"host.agent-timeout = '10ms': wanted at least 1s".to_owned()));
    }

    #[test]
    fn other_addresses_than_loopback_want_tls_or_a_word() {
        let open = ("host.listen", "0.0.0.0:5050");
        let wrong = check(&[open]).unwrap_err();
        assert!(wrong[0].contains("--insecure-network"), "{wrong:?}");
        check(&[open, ("host.insecure-network", "true")]).unwrap();
        let tls = [("host.tls-certificate", "c.pem"), ("host.tls-key", "k.pem")];
        check(&[open, tls[0], tls[1]]).unwrap();
        let wrong = check(&[tls[0]]).unwrap_err();
        assert!(wrong[0].starts_with("host.tls-key"), "{wrong:?}");
        let wrong = check(&[("host.http", "0.0.0.0:1"), tls[0], tls[1]]).unwrap_err();
        assert!(wrong[0].starts_with("host.http"), "{wrong:?}");
        let wrong = check(&[("host.http", "127.0.0.1:5050")]).unwrap_err();
        assert_eq!(
            wrong,
            ["host.http = '127.0.0.1:5050': host.listen has that port already"]
        );
    }

    #[test]
    fn spans_have_units() {
        for (text, ms) in [
            ("0ms", 0),
            ("250ms", 250),
            ("2s", 2_000),
            ("1m", 60_000),
            ("1 h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_span(text), Ok(Duration(ms)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1 week",
            "99999999999999999999s",
            "99999999999999999d",
        ] {
            parse_span(bad).unwrap_err();
        }
    }
}
