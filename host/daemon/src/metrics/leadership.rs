//! How leading goes, on each host of several: the leader's page has it beside everything else, a standby's
//! page has nothing else.

use std::fmt::{self, Write};

use proffer_store::etcd::Authority;

/// Adds it to a page, before the end mark; nothing on a host that is alone.
pub(super) fn write_to(text: &mut String, authority: &Authority) -> fmt::Result {
    let Some(counts) = authority.counts() else {
        return Ok(());
    };
    let leads = u64::from(authority.holds());
    let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
        let suffix = if kind == "counter" { "_total" } else { "" };
        writeln!(text, "# HELP proffer_{name} {help}.")?;
        writeln!(text, "# TYPE proffer_{name} {kind}")?;
        writeln!(text, "proffer_{name}{suffix} {value}")
    };
    metric("leader_leads", "gauge", "1 while this host leads", leads)?;
    let help = "Times at which this host began to lead";
    metric("leader_terms", "counter", help, counts.terms)?;
    let help = "Times at which this host asked etcd to extend its lease";
    metric("leader_renewals", "counter", help, counts.renewals)?;
    let help = "Of these, such as failed or were given up without an answer";
    let failed = counts.renewals_failed;
    metric("leader_renewals_failed", "counter", help, failed)
}

/// A standby's page.
pub(crate) fn standby_text(authority: &Authority) -> String {
    let mut text = String::new();
    if write_to(&mut text, authority).is_err() {
        tracing::error!("the metrics could not be written");
    }
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_alone_says_nothing_of_leading() {
        assert_eq!(standby_text(&Authority::unshared()), "# EOF\n");
    }
}
