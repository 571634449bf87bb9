//! What the command line takes, and what it says of the rest.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(line.split_whitespace())
}

fn refused(line: &str) -> (ErrorKind, String) {
    let error = parse(line).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn the_definition_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn help_lists_every_exit_status() {
    let help = CommandLine::command().render_help().to_string();
    for (status, meaning) in crate::failure::EXIT_STATUSES {
        assert!(
            help.contains(&format!("{status:>3}  {meaning}")),
            "{status}"
        );
    }
}

#[test]
fn the_commands_of_the_manual_parse() {
    for line in [
        "proffer demo",
        "proffer demo --input d --out counts.tsv --split 64KiB --reducers 2 --agents 5",
        "proffer up --agents 3 --listen 127.0.0.1:0",
        "proffer host --data d --set host.lease=10s --json",
        "proffer agent --join 127.0.0.1:5050 --resources cpus:4;mem:8192 --files /a --files /b",
        "proffer agent list --json",
        "proffer framework run f.wasm --name n --role eng --config c.json --approve",
        "proffer framework list",
        "proffer framework remove n",
        "proffer task list --framework n --state running --state failed",
        "proffer task kill n t --grace 5s",
        "proffer task logs n t --stderr -f",
        "proffer task fetch n t out/0",
        "proffer offer list",
        "proffer role weight eng 2.5",
        "proffer policy show",
        "proffer status",
        "proffer explain framework n",
        "proffer explain task n t",
        "proffer request n POST /jobs @job.json",
        "proffer plugin new n --kind policy",
        "proffer plugin build a b",
        "proffer plugin inspect f.wasm",
        "proffer config check",
        "proffer runner --any -x thing",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_arguments_are_usage_errors_that_say_what_is_wanted() {
    let (kind, text) = refused("proffer demo --split 64kilo");
    assert_eq!(kind, ErrorKind::ValueValidation);
    assert!(
        text.contains("wanted bytes, as in 4096, 64KiB or 1MiB"),
        "{text}"
    );
    let (_, text) = refused("proffer demo --split 0");
    assert!(text.contains("at least one byte"), "{text}");
    let (_, text) = refused("proffer demo --reducers 0");
    assert!(text.contains("1..=1000"), "{text}");
    let (_, text) = refused("proffer task list --state runing");
    assert!(text.contains("wanted one of staging"), "{text}");
    let (_, text) = refused("proffer role weight eng much");
    assert!(text.contains("is not an amount"), "{text}");
    let (kind, _) = refused("proffer frobnicate");
    assert_eq!(kind, ErrorKind::InvalidSubcommand);
    let error = parse("proffer status --set lease")
        .unwrap()
        .global
        .flags()
        .unwrap_err();
    assert!(error.to_string().contains("wanted KEY=VALUE"), "{error}");
}

#[test]
fn flags_name_the_settings_that_exist() {
    let line = "proffer up --listen a --http b --allocation c --lease d --policy e --policy-config f \
                --tls-certificate g --tls-key h --insecure-network";
    let Command::Up(up) = parse(line).unwrap().command else {
        panic!("not up");
    };
    let line = "proffer agent --join a --resources b --attributes c --task-user d --files e \
                --listen f --insecure-network";
    let Command::Agent(agent) = parse(line).unwrap().command else {
        panic!("not agent");
    };
    let flags = [up.host.flags(), agent.run.flags()].concat();
    assert_eq!(flags.len(), 16);
    for flag in flags {
        let known = crate::settings::all_settings().any(|setting| setting.key == flag.key);
        assert!(known, "{}", flag.key);
    }
}
