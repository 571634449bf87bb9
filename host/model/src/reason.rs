//! Why something did not happen, for programs and for people.

use std::borrow::Cow;
use std::fmt;

/// A reason: `code` for programs, `text` for people, `remedy` for programs that do not know the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// From an open set; the host's own are in [`code`].
    pub code: Cow<'static, str>,
    /// One sentence, lower case, without a full stop.
    pub text: String,
    /// What may help.
    pub remedy: Remedy,
}

/// What whoever meets a reason may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// The same may work later.
    Retry,
    /// What was named has changed: look again and choose anew.
    ChooseAnew,
    /// Malformed: the sender must mend it.
    Mend,
    /// Not allowed, or over a limit.
    Denied,
    /// This host does not do that (yet).
    Unsupported,
}

impl Reason {
    /// A reason of one of the host's own codes.
    #[must_use]
    pub fn new(code: &'static str, remedy: Remedy, text: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            text: text.into(),
            remedy,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

/// The host's own reason codes. The set grows; codes never change their meaning.
pub mod code {
    /// An offer named is not outstanding for this framework: expired, rescinded, used or never its own.
    pub const INVALID_OFFERS: &str = "invalid-offers";
    /// What was launched or reserved is not within the offers.
    pub const INSUFFICIENT_RESOURCES: &str = "insufficient-resources";
    /// A task, template or operation is malformed.
    pub const INVALID: &str = "invalid";
    /// The task id is in use by a task that has not ended.
    pub const DUPLICATE_TASK: &str = "duplicate-task";
    /// Another part of an all-or-nothing command failed.
    pub const GROUP_FAILED: &str = "group-failed";
    /// The agent is not connected.
    pub const AGENT_DISCONNECTED: &str = "agent-disconnected";
    /// The agent was lost.
    pub const AGENT_LOST: &str = "agent-lost";
    /// The agent is draining or will be down.
    pub const AGENT_DRAINING: &str = "agent-draining";
    /// An offer's lease ran out.
    pub const LEASE_EXPIRED: &str = "lease-expired";
    /// The framework gave the resources back.
    pub const DECLINED: &str = "declined";
    /// The framework was removed.
    pub const FRAMEWORK_REMOVED: &str = "framework-removed";
    /// An operator asked for it.
    pub const OPERATOR: &str = "operator";
    /// The framework asked for the kill.
    pub const KILLED: &str = "killed";
    /// Killed before it started.
    pub const KILLED_DURING_LAUNCH: &str = "killed-during-launch";
    /// An answer to a reconcile command.
    pub const RECONCILIATION: &str = "reconciliation";
    /// An input's source is no longer there.
    pub const INPUT_LOST: &str = "input-lost";
    /// An input could not be fetched.
    pub const INPUT_FAILED: &str = "input-failed";
    /// The sandbox or process could not be made.
    pub const LAUNCH_FAILED: &str = "launch-failed";
    /// The task's process ended with a status other than 0, or by a signal.
    pub const EXITED: &str = "exited";
    /// The task ran longer than it said it would.
    pub const TOO_LONG: &str = "too-long";
    /// The task used more memory than it holds.
    pub const OUT_OF_MEMORY: &str = "out-of-memory";
    /// The task's runner died with it, or could not be started for it.
    pub const RUNNER_LOST: &str = "runner-lost";
    /// The host does not perform this command yet.
    pub const UNSUPPORTED: &str = "unsupported";
    /// A limit of the host was reached.
    pub const LIMIT: &str = "limit";
    /// What was named does not exist.
    pub const UNKNOWN: &str = "unknown";
    /// The framework may not use the role.
    pub const ROLE_DENIED: &str = "role-denied";
    /// A policy's grant was wrong by what the policy knew.
    pub const INVALID_GRANT: &str = "invalid-grant";
    /// A policy's grant became impossible after the policy last saw the ledger.
    pub const STALE_GRANT: &str = "stale-grant";
    /// The agent's free resources were refused under a filter that still holds.
    pub const FILTERED: &str = "filtered";
    /// The policy would take something back.
    pub const RECLAIM: &str = "reclaim";
    /// The policy does not decide for whom it is.
    pub const OUT_OF_DOMAIN: &str = "out-of-domain";
    /// The framework suppressed the role.
    pub const SUPPRESSED: &str = "suppressed";
    /// The framework has said that it wants nothing.
    pub const NO_DEMAND: &str = "no-demand";
    /// All that was demanded is on offer already.
    pub const DEMAND_MET: &str = "demand-met";
    /// The agent fails the demand's constraints.
    pub const CONSTRAINT: &str = "constraint";
    /// The agent has too little free.
    pub const NO_FIT: &str = "no-fit";
    /// The agent is not offered: inactive or not connected.
    pub const AGENT_INACTIVE: &str = "agent-inactive";
    /// The framework is not active: quarantined, being removed or not started.
    pub const FRAMEWORK_INACTIVE: &str = "framework-inactive";
    /// The agent has gpus and the framework did not ask for any.
    pub const GPU_GUARD: &str = "gpu-guard";
    /// Less than the smallest amount worth an offer.
    pub const BELOW_MINIMUM: &str = "below-minimum";
    /// More than the role's quota allows.
    pub const OVER_LIMIT: &str = "over-limit";
    /// What is free is held ready for other roles' guarantees.
    pub const HELD_BACK: &str = "held-back";
    /// The policy of the role's own domain was given it and left it.
    pub const PASSED_OVER: &str = "passed-over";
    /// Others are served before.
    pub const TURN: &str = "turn";
    /// An offer for it would be made now.
    pub const OFFERABLE: &str = "offerable";
}

/// An error's text with those of its causes: some libraries leave the reason to these.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
