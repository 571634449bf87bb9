//! What operators do to the policy that decides, through the built command.

use serde_json::Value;

use super::lifecycle::misbehaving;
use super::{Cluster, Guests, wait_for};

/// Exit statuses, as the README lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 4;
const CONFLICT: i32 = 7;

impl Cluster {
    fn policy(&self) -> Value {
        self.ask_json(&["policy", "show"])
    }

    /// The same job once more.
    fn submit_again(&self) {
        wait_for(|| {
            let deleted = self.request("DELETE", "/jobs/count", "", Vec::new());
            deleted.is_some_and(|(status, _)| status == 200)
        });
        self.submit(64 * 1_024);
    }

    fn policy_history(&self) -> Vec<(String, String, String)> {
        let history = self.ask_json(&["policy", "history"]);
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = history.as_array().unwrap().iter();
        rows.map(|row| (text(row, "name"), text(row, "cause"), text(row, "why")))
            .collect()
    }
}

#[test]
fn a_policy_is_swapped_under_a_job_and_one_that_traps_is_taken_back() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let (drf, hostile) = (guests.drf.clone(), misbehaving("policy"));
    let (drf, hostile) = (drf.to_str().unwrap(), hostile.to_str().unwrap());
    let cluster = Cluster::start(guests, 2);
    cluster.run_framework();
    let shown = cluster.policy();
    assert_eq!(
        (&shown["name"], &shown["number"]),
        (&"drf".into(), &0.into())
    );
    let back = cluster.ask(&["policy", "rollback"]);
    assert_eq!(back.status, CONFLICT, "{}", back.stderr);
    // It grants nothing, and traps in its third cycle: the one before goes on.
    let config = cluster.config("rest 3");
    let swap = [
        "policy", "swap", hostile, "--config", &config, "--why", "a try",
    ];
    let swapped = cluster.ask_json(&swap);
    assert_eq!(swapped["record"]["name"], "hostile-policy");
    assert_eq!(swapped["from"]["name"], "drf");
    // However quick the job is, its first cycles are the new policy's.
    cluster.submit(1_024);
    wait_for(|| cluster.policy_history().len() == 3 && cluster.policy()["fallback"] == false);
    let shown = cluster.policy();
    assert_eq!(
        (&shown["name"], &shown["taken_back"]),
        (&"drf".into(), &1.into())
    );
    let fault = shown["last_fault"].to_string();
    assert!(
        fault.contains("as ordered") || fault.contains("trap"),
        "{fault}"
    );
    assert!(cluster.result() == cluster.expected, "another count");
    // Compared, and not put in: the job is done, so there is little to compare.
    let dry = ["policy", "swap", drf, "--shadow", "200ms", "--dry-run"];
    let shown = cluster.ask_json(&dry);
    let trial = &shown["trial"];
    assert_eq!(
        (&trial["ended"], &trial["fault"]),
        (&true.into(), &Value::Null)
    );
    let printed = cluster.ask(&dry);
    assert!(
        printed.stdout.contains("the very same grants"),
        "{}",
        printed.stdout
    );
    assert!(printed.stdout.ends_with("goes on\n"), "{}", printed.stdout);
    let role = cluster.ask(&["explain", "role", "mapreduce"]);
    assert!(role.stdout.contains("decided by: drf"), "{}", role.stdout);
    let row = |name: &str, cause: &str, why: &str| (name.into(), cause.into(), why.into());
    let mut history = vec![
        row("drf", "settings", ""),
        row("hostile-policy", "swapped", "a try"),
        row("drf", "its successor failed", ""),
    ];
    assert_eq!(cluster.policy_history(), history);
    // A policy of the project by its file, then the host's own, then back.
    for (named, name) in [(drf, "drf"), ("native", "drf")] {
        let swapped = cluster.ask(&["policy", "swap", named]);
        assert_eq!(swapped.status, 0, "{}", swapped.stderr);
        history.push(row(name, "swapped", ""));
    }
    assert_eq!(cluster.policy()["digest"], "");
    let back = cluster.ask_json(&["policy", "rollback", "--why", "enough"]);
    assert_ne!(back["record"]["digest"], "");
    history.push(row("drf", "rolled back", "enough"));
    assert_eq!(cluster.policy_history(), history);
    let table = cluster.ask(&["policy", "history"]);
    assert!(
        table.stdout.contains("its successor failed"),
        "{}",
        table.stdout
    );
}

#[test]
fn a_swapped_policy_is_the_one_that_runs_after_a_restart_and_bad_ones_change_nothing() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let hostile = misbehaving("policy");
    let (hostile, mapreduce) = (hostile.to_str().unwrap(), guests.mapreduce.clone());
    let mut cluster = Cluster::start(guests, 1);
    let config = cluster.config("rest 0");
    let swapped = cluster.ask(&["policy", "swap", hostile, "--config", &config]);
    assert_eq!(swapped.status, 0, "{}", swapped.stderr);
    let before = cluster.policy_history();
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    let shown = cluster.policy();
    assert_eq!(
        (&shown["name"], &shown["config"], &shown["fallback"]),
        (&"hostile-policy".into(), &"rest 0".into(), &false.into())
    );
    assert_eq!(cluster.policy_history(), before);
    let text = cluster.dir.path().join("text.wasm");
    std::fs::write(&text, "no component").unwrap();
    let refuse = cluster.config("configure-refuse");
    for (args, status, words) in [
        (
            vec![text.to_str().unwrap()],
            USAGE,
            "not a WebAssembly file",
        ),
        (vec![mapreduce.to_str().unwrap()], USAGE, "framework"),
        (
            vec![hostile, "--config", &refuse],
            USAGE,
            "I do not like this configuration",
        ),
        (
            vec!["no-such"],
            NOT_FOUND,
            "there is no policy 'no-such'; there are ",
        ),
        (vec!["no-such.wasm"], NOT_FOUND, "no-such.wasm"),
        (
            vec!["native", "--config", &refuse],
            USAGE,
            "configure returned an error",
        ),
        (vec![hostile, "--config", "no-such"], USAGE, "no-such"),
        (
            vec![hostile, "--guard", "max-wait<1ms"],
            USAGE,
            "wanted max-wait<SPAN",
        ),
        (vec![hostile, "--shadow", "2d"], USAGE, "a shadow of"),
        (
            vec!["native", "--shadow", "1s"],
            USAGE,
            "tried as its component",
        ),
    ] {
        let refused = cluster.ask(&[&["policy", "swap"], args.as_slice()].concat());
        assert_eq!(refused.status, status, "{args:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(words),
            "{args:?}: {}",
            refused.stderr
        );
    }
    let shown = cluster.policy();
    assert_eq!(
        (&shown["name"], &shown["failures"]),
        (&"hostile-policy".into(), &0.into())
    );
    assert_eq!(cluster.policy_history(), before);
    // It goes back to the settings' policy, whose component is kept too.
    let back = cluster.ask_json(&["policy", "rollback"]);
    assert_eq!(back["record"]["name"], "drf");
    assert_ne!(back["record"]["digest"], "");
}

#[test]
fn the_native_policy_has_its_own_configuration_also_after_a_restart_and_a_rollback() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let drf = guests.drf.clone();
    let mut cluster = Cluster::start(guests, 1);
    cluster.run_framework();
    let given = r#"{"fair-exclude":["mem"]}"#;
    let config = cluster.config(given);
    let is_ours = |shown: &Value| {
        assert_eq!(
            (&shown["name"], &shown["digest"], &shown["config"]),
            (&"drf".into(), &"".into(), &given.into())
        );
        assert_eq!(shown["fallback"], false, "{shown:#}");
    };
    // It is compared beside the other like any policy that is configured.
    let swap = ["policy", "swap", "native", "--config", &config];
    let compared = cluster.ask(&[&swap[..], &["--shadow", "200ms"]].concat());
    assert_eq!(compared.status, 0, "{}", compared.stderr);
    is_ours(&cluster.policy());
    let text = cluster.ask(&["policy", "show"]).stdout;
    assert!(text.contains(&format!("config     {given}\n")), "{text}");
    cluster.submit(64 * 1_024);
    assert!(cluster.result() == cluster.expected, "another count");
    is_ours(&cluster.policy());
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    wait_for(|| cluster.policy()["fallback"] == false);
    is_ours(&cluster.policy());
    let swapped = cluster.ask(&["policy", "swap", drf.to_str().unwrap()]);
    assert_eq!(swapped.status, 0, "{}", swapped.stderr);
    let back = cluster.ask(&["policy", "rollback"]);
    assert_eq!(back.status, 0, "{}", back.stderr);
    is_ours(&cluster.policy());
}

#[test]
fn a_canary_decides_for_its_roles_until_it_is_promoted_rolled_back_or_fails() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let (drf, hostile) = (guests.drf.clone(), misbehaving("policy"));
    let (drf, hostile) = (drf.to_str().unwrap(), hostile.to_str().unwrap());
    let mut cluster = Cluster::start(guests, 2);
    cluster.run_framework();
    let canary = |policy, more: &[&'static str]| {
        let swap = ["policy", "swap", policy, "--canary", "mapreduce"];
        [swap.as_slice(), more].concat()
    };
    let begun = cluster.ask_json(&canary(drf, &["--why", "try it"]));
    assert_eq!(
        (&begun["record"]["cause"], &begun["record"]["roles"][0]),
        (&"canary".into(), &"mapreduce".into())
    );
    // The job's role is the canary's: every one of its offers is.
    cluster.submit(64 * 1_024);
    assert!(cluster.result() == cluster.expected, "another count");
    let shown = cluster.policy();
    assert_eq!(shown["canary"]["name"], "drf");
    assert!(shown["canary"]["grants"].as_u64() > Some(0), "{shown:#}");
    assert!(
        shown["canary"]["left_to_it"].as_u64() > Some(0),
        "{shown:#}"
    );
    assert_eq!(shown["canary"]["outside"], 0);
    let text = cluster.ask(&["policy", "show"]).stdout;
    assert!(
        text.contains("decides for mapreduce until `policy swap --promote`"),
        "{text}"
    );
    let role = cluster.ask(&["explain", "role", "mapreduce"]);
    assert!(
        role.stdout.contains("a canary for mapreduce"),
        "{}",
        role.stdout
    );
    let back = cluster.ask(&["policy", "rollback", "--why", "enough"]);
    assert!(
        back.stdout.contains("decides for all again"),
        "{}{}",
        back.stdout,
        back.stderr
    );
    assert_eq!(cluster.policy()["canary"], Value::Null);
    // One that traps as a canary is out at once, and only it.
    let config = cluster.config("rest 2");
    let failing = canary(hostile, &["--config"]);
    let failing = [failing.as_slice(), &[config.as_str()]].concat();
    assert_eq!(cluster.ask(&failing).status, 0);
    cluster.submit_again();
    assert!(cluster.result() == cluster.expected, "another count");
    wait_for(|| cluster.policy()["canary"] == Value::Null);
    assert_eq!(
        cluster.policy()["failures"],
        0,
        "the policy of the seat did not fail"
    );
    // Promoted, it is the policy; of a host that is started anew nothing is left but the record.
    assert_eq!(cluster.ask(&canary(drf, &[])).status, 0);
    let promoted = cluster.ask_json(&["policy", "swap", "--promote", "--why", "good"]);
    assert_eq!(promoted["record"]["cause"], "swapped");
    assert_eq!(cluster.ask(&canary(drf, &["--for", "1h"])).status, 0);
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    assert_eq!(cluster.policy()["canary"], Value::Null);
    let causes = cluster.policy_history();
    let causes: Vec<&str> = causes.iter().map(|(_, cause, _)| cause.as_str()).collect();
    assert_eq!(
        causes,
        [
            "settings",
            "canary",
            "canary ended",
            "canary",
            "canary ended",
            "canary",
            "swapped",
            "canary",
            "canary ended"
        ]
    );
    for (args, status, words) in [
        (
            vec!["policy", "swap", "--promote"],
            CONFLICT,
            "no canary decides",
        ),
        (
            vec!["policy", "swap", drf, "--canary", "no-such"],
            NOT_FOUND,
            "no role 'no-such'",
        ),
        (
            vec!["policy", "swap", drf, "--canary", "a//b"],
            USAGE,
            "a//b",
        ),
        (
            vec!["policy", "swap", drf, "--for", "1h"],
            USAGE,
            "--canary",
        ),
        (
            vec!["policy", "swap", "native", "--canary", "mapreduce"],
            USAGE,
            "component",
        ),
        (
            vec!["policy", "swap", drf, "--canary", "mapreduce", "--dry-run"],
            USAGE,
            "after how long",
        ),
    ] {
        let refused = cluster.ask(&args);
        assert_eq!(refused.status, status, "{args:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(words),
            "{args:?}: {}",
            refused.stderr
        );
    }
}

#[test]
fn a_roles_own_policy_shares_what_its_subtree_is_granted_and_its_faults_are_its_own() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let (drf, hostile) = (guests.drf.clone(), misbehaving("policy"));
    let (drf, hostile) = (drf.to_str().unwrap(), hostile.to_str().unwrap());
    let mut cluster = Cluster::start(guests, 2);
    cluster.run_framework();
    let set = |cluster: &Cluster, more: &[&str]| {
        let args = [&["role", "set", "mapreduce", "--policy"], more].concat();
        cluster.ask(&args)
    };
    let role =
        |cluster: &Cluster| cluster.ask_json(&["role", "show", "mapreduce"])["policy"].clone();
    assert_eq!(role(&cluster), Value::Null);
    let done = set(&cluster, &[drf, "--why", "ours"]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    cluster.submit(64 * 1_024);
    assert!(cluster.result() == cluster.expected, "another count");
    let shown = role(&cluster);
    assert_eq!(
        (&shown["name"], &shown["why"]),
        (&"drf".into(), &"ours".into())
    );
    assert!(shown["offers"].as_u64() > Some(0), "{shown:#}");
    assert_eq!(
        (&shown["failures"], &shown["native_turns"]),
        (&0.into(), &0.into())
    );
    // One that spins, one that traps, one that grants what is not its own: the job is done all the same, by
    // the native policy within, and the policy of the seat has not failed.
    for word in ["spin", "trap 1", "strangers"] {
        let config = cluster.config(word);
        let done = set(&cluster, &[hostile, "--config", &config]);
        assert_eq!(done.status, 0, "{word}: {}", done.stderr);
        cluster.submit_again();
        assert!(
            cluster.result() == cluster.expected,
            "{word}: another count"
        );
        let shown = role(&cluster);
        assert!(shown["failures"].as_u64() > Some(0), "{word}: {shown:#}");
        assert_ne!(shown["last_fault"], Value::Null, "{word}");
    }
    assert_eq!(cluster.policy()["failures"], 0);
    // One that leaves all that it is given is asked why, and its guard has the native policy decide.
    let config = cluster.config("rest 1000000");
    let guarded = [hostile, "--config", &config, "--guard", "max-wait<3s"];
    assert_eq!(set(&cluster, &guarded).status, 0);
    cluster.submit_again();
    wait_for(|| {
        let why = cluster.ask_json(&["explain", "framework", "mapreduce"]);
        let says = |row: &Value| {
            let policy = row["policy"].as_str().unwrap_or_default();
            policy.starts_with("hostile-policy") && row["why"]["code"] == "turn"
        };
        why["reasons"].as_array().unwrap().iter().any(says)
    });
    assert!(cluster.result() == cluster.expected, "another count");
    let shown = role(&cluster);
    assert_eq!(
        (&shown["fallback"], &shown["failures"], &shown["guards"][0]),
        (&true.into(), &0.into(), &"max-wait<3s".into()),
        "{shown:#}"
    );
    assert_eq!(shown["last_fault"]["code"], "guard", "{shown:#}");
    // It is the role's after a restart, and loaded again.
    assert_eq!(set(&cluster, &[drf]).status, 0);
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    wait_for(|| role(&cluster)["fallback"] == false);
    assert_eq!(role(&cluster)["name"], "drf");
    let text = cluster.ask(&["role", "show", "mapreduce"]).stdout;
    assert!(text.contains("policy     drf "), "{text}");
    for (args, status, words) in [
        (
            vec!["role", "set", "mapreduce/web", "--policy", drf],
            FAILED,
            "`role set mapreduce --policy none`",
        ),
        (
            vec!["role", "set", "mapreduce", "--policy", "native"],
            USAGE,
            "native policy stands in",
        ),
        (
            vec!["role", "set", "mapreduce", "--policy", drf, "--weight", "2"],
            USAGE,
            "--weight",
        ),
        (
            vec!["role", "set", "mapreduce", "--policy", "no-such"],
            NOT_FOUND,
            "no policy 'no-such'",
        ),
    ] {
        let refused = cluster.ask(&args);
        assert_eq!(refused.status, status, "{args:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(words),
            "{args:?}: {}",
            refused.stderr
        );
    }
    assert_eq!(set(&cluster, &["none"]).status, 0);
    assert_eq!(role(&cluster), Value::Null);
    // One that nobody has used may have its own before anybody comes.
    let set = cluster.ask(&["role", "set", "yet-to-come", "--policy", drf]);
    assert_eq!(set.status, 0, "{}", set.stderr);
    let listed = cluster.ask(&["role", "list"]).stdout;
    assert!(listed.contains("yet-to-come"), "{listed}");
}
