//! `config check`: every setting, its value, where it comes from, and what is wrong.

use std::io::ErrorKind;
use std::path::Path;

use proffer_agent::AgentConfig;
use proffer_build::World;
use proffer_daemon::config::TlsFiles;
use proffer_daemon::{HostConfig, InvalidSetting};
use proffer_rpc::{Tls, Token};
use proffer_sim::workload::Native;
use serde_json::json;

use super::framework::read_component;
use super::shipped::{self, Named};
use crate::connect::token_file;
use crate::input::{self, TEXT_BYTES_MAX};
use crate::json;
use crate::settings::{InvalidSettings, Settings, Source, agent, all_settings, variable_of};
use crate::table::Columns;

/// The setting that names the policy.
const POLICY: &str = "host.policy";
/// The setting that configures it.
const POLICY_CONFIG: &str = "host.policy-config";

pub(crate) fn check(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let data = settings.data_dir()?;
    wrong.extend(problem_of_data(&data));
    let agent = agent::checked(settings);
    let mut policy = None;
    match (settings.host(data), &agent) {
        (Err(InvalidSettings(lines)), _) => wrong.extend(lines),
        (Ok(host), agent) => {
            let mut files = Vec::new();
            let tls = host.tls.as_ref();
            files.extend(tls.and_then(|tls| problem_of_tls(settings, tls)));
            let named = shipped::of_settings(&host);
            match named.and_then(|named| check_policy(settings, &host, named)) {
                Ok(resolved) => policy = Some(resolved),
                Err(problem) => files.push(problem),
            }
            wrong.extend(settings.explain(&files).0);
            if let Ok(agent) = agent {
                wrong.extend(problem_of_ports(settings, &host, agent));
            }
        }
    }
    if as_json {
        print_json(settings, policy.as_deref());
    } else {
        print_table(settings, policy.as_deref());
    }
    if let Err(InvalidSettings(lines)) = agent {
        wrong.extend(lines);
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(InvalidSettings(wrong).into())
    }
}

/// What keeps a host from its data directory. One that is not there is made.
fn problem_of_data(data: &Path) -> Option<String> {
    let problem = |problem: String| Some(format!("data: {}: {problem}", data.display()));
    match std::fs::read_dir(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return problem(error.to_string()),
        Ok(_) => {}
    }
    let own = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    if let Err(error) = rustix::fs::access(data, own) {
        return problem(format!("it cannot be written: {error}"));
    }
    let token = token_file(data);
    match token.exists().then(|| Token::read(&token)) {
        Some(Err(error)) => Some(format!("data: {:#}", anyhow::Error::from(error))),
        _ => None,
    }
}

fn problem_of_tls(settings: &Settings, files: &TlsFiles) -> Option<InvalidSetting> {
    let read = |key, path: &Path| {
        input::read(path, TEXT_BYTES_MAX).map_err(|error| (key, error.to_string()))
    };
    let tls = read("host.tls-certificate", &files.certificate).and_then(|certificate| {
        let key = read("host.tls-key", &files.key)?;
        Ok(Tls::Server { certificate, key })
    });
    let checked = tls.and_then(|tls| {
        tls.check_server()
            .map_err(|problem| ("host.tls-certificate", problem))
    });
    let (key, problem) = checked.err()?;
    Some(InvalidSetting {
        key,
        value: settings.text(key),
        problem,
    })
}

/// What decides, in words.
fn check_policy(
    settings: &Settings,
    host: &HostConfig,
    named: Option<Named>,
) -> Result<String, InvalidSetting> {
    let invalid = |key: &'static str, problem: String| InvalidSetting {
        key,
        value: settings.text(key),
        problem,
    };
    let wrong = |problem: String| invalid(POLICY, problem);
    if let Some(Named::Shipped(name)) = &named
        && Native::names().any(|native| native == name)
    {
        // The same source answers natively.
        let configured = Native::named(name, &settings.text(POLICY_CONFIG));
        configured.map_err(|error| invalid(POLICY_CONFIG, error.to_string()))?;
    }
    if let Some(Named::File(file)) = &named {
        let read = read_component(file).and_then(|bytes| Ok(proffer_build::inspect(&bytes)?));
        let inspection = read.map_err(|error| wrong(format!("{error:#}")))?;
        if inspection.world != World::Policy {
            return Err(wrong(format!("it is a {}, not a policy", inspection.world)));
        }
    }
    shipped::in_words(host, named.as_ref()).map_err(|error| wrong(format!("{error:#}")))
}

/// Two that would listen on one port of this machine, if both run here: so it must have been said of both.
fn problem_of_ports(settings: &Settings, host: &HostConfig, agent: &AgentConfig) -> Option<String> {
    let is_written = |key: &str| settings.get(key).source != Source::Default;
    let hosts = [("host.listen", Some(host.listen)), ("host.http", host.http)];
    let meets = hosts.into_iter().find_map(|(key, address)| {
        let meets = agent.listen.is_in_the_way_of(address?) && is_written(key);
        meets.then_some(key)
    });
    let wrong = InvalidSetting {
        key: "agent.listen",
        value: settings.text("agent.listen"),
        problem: format!("{} has that port already", meets?),
    };
    settings.explain(&[wrong]).0.pop()
}

fn print_json(settings: &Settings, policy: Option<&str>) {
    let rows = all_settings().map(|setting| {
        let written = settings.get(setting.key);
        let mut row = json!({
            "key": setting.key, "value": written.text,
            "source": written.source.to_string(), "variable": variable_of(setting.key),
            "what": setting.what,
        });
        if setting.key == POLICY {
            row["resolved"] = json!(policy);
        }
        row
    });
    json::print(&json!(rows.collect::<Vec<_>>()));
}

fn print_table(settings: &Settings, policy: Option<&str>) {
    let mut columns = Columns::new(&["SETTING", "VALUE", "SOURCE", "WHAT IT IS FOR"]);
    for setting in all_settings() {
        let written = settings.get(setting.key);
        let shown = match written.text.as_str() {
            "" => "-".to_owned(),
            text => text.to_owned(),
        };
        let source = written.source.to_string();
        columns.row([
            setting.key.to_owned(),
            shown,
            source,
            setting.what.to_owned(),
        ]);
    }
    out!("{columns}");
    match &settings.file {
        Some(file) => outln!("\nfile: {}", file.display()),
        None => outln!("\nno proffer.toml"),
    }
    if let Some(policy) = policy {
        outln!("policy: {policy}");
    }
}
