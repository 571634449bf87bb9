//! Components in etcd: there as long as a fact names them, over a change of leader, and gone after that.

use std::collections::BTreeSet;
use std::process::Command;

use crate::Hosts;

impl Hosts {
    /// Digests of components in etcd, as etcd says it.
    fn components(&self) -> BTreeSet<String> {
        let got = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.members()])
            .args(["get", "--keys-only", "--prefix", "proffer/component/"])
            .output()
            .unwrap();
        let text = String::from_utf8(got.stdout).unwrap();
        let names = text
            .lines()
            .filter_map(|line| line.strip_prefix("proffer/component/"));
        // Its parts have the same name, and a number behind it.
        let digest = |name: &str| name.split('/').next().unwrap().to_owned();
        names.map(digest).collect()
    }

    #[track_caller]
    fn succeeds(&self, words: &[&str]) {
        let run = self.ask(words);
        assert!(run.status.success(), "{words:?}: {run:?}");
    }
}

#[test]
fn components_stay_in_etcd_while_a_fact_names_them() {
    let Some(mut hosts) = Hosts::start(2) else {
        return;
    };
    let (mapreduce, drf) = (hosts.guests.mapreduce.clone(), hosts.guests.drf.clone());
    let (mapreduce, drf) = (mapreduce.display().to_string(), drf.display().to_string());
    hosts.succeeds(&["framework", "run", "--approve", &mapreduce]);
    hosts.succeeds(&["role", "set", "mapreduce", "--policy", &drf]);
    let both = hosts.components();
    assert_eq!(both.len(), 2, "a framework's and a role's own policy");
    let first = hosts.wait_for_leader();
    hosts.hosts[first].0.kill().unwrap();
    hosts.wait_for("another leader", |hosts| {
        hosts.leader().is_some_and(|leader| leader != first)
    });
    // The new leader has looked for what nobody refers to before it loads what the facts name.
    hosts.wait_for("the role's policy", |hosts| {
        let shown = hosts.ask(&["role", "show", "mapreduce", "--json"]);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        shown["policy"]["fallback"] == false
    });
    assert_eq!(hosts.components(), both);
    hosts.succeeds(&["framework", "remove", "mapreduce"]);
    hosts.wait_for("the framework's component to go", |hosts| {
        hosts.components() != both
    });
    let left = hosts.components();
    assert!(
        left.len() == 1 && left.is_subset(&both),
        "{left:?} of {both:?}"
    );
}
