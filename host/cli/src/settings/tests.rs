//! Layers of settings, and what is said of those that are wrong.

use expect_test::expect;

use super::*;

fn flag(key: &str, text: &str) -> FlagValue {
    FlagValue {
        key: key.to_owned(),
        text: text.to_owned(),
        flag: format!("--{key}"),
    }
}

fn layer(
    file: &str,
    environment: &[(&str, &str)],
    flags: Vec<FlagValue>,
) -> Result<Settings, InvalidSettings> {
    let environment = environment
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Settings::layer(Some((Path::new("proffer.toml"), file)), environment, flags)
}

#[test]
fn later_layers_win_and_every_value_knows_its_own() {
    let file = "data = '/file'\n\n[host]\nlisten = '127.0.0.1:1'\nlease = '1s'\njournal-max = 5000\n\
                insecure-network = false\n[agent]\nfiles = ['/a', '/b']\n";
    let environment = [
        ("PROFFER_HOST_LISTEN", "127.0.0.1:2"),
        ("PROFFER_HOST_LEASE", "2s"),
        ("PROFFER_LOG", "debug"),
        ("PROFFER_HOST_LAESE", "2s"),
        ("HOME", "/"),
    ];
    let settings = layer(file, &environment, vec![flag("host.listen", "127.0.0.1:3")]).unwrap();
    let shown: Vec<String> = all_settings()
        .map(|setting| (setting.key, settings.get(setting.key)))
        .filter(|(_, written)| written.source != Source::Default)
        .map(|(key, written)| format!("{key} = {} ({})", written.text, written.source))
        .collect();
    expect![[r#"
        data = /file (proffer.toml:1)
        host.listen = 127.0.0.1:3 (--host.listen)
        host.insecure-network = false (proffer.toml:7)
        host.lease = 2s (PROFFER_HOST_LEASE)
        host.journal-max = 5000 (proffer.toml:6)
        agent.files = /a:/b (proffer.toml:9)"#]]
    .assert_eq(&shown.join("\n"));
    assert_eq!(
        settings.unknown_variables,
        ["PROFFER_HOST_LAESE is set and is no setting; did you mean PROFFER_HOST_LEASE?"]
    );
    let host = settings.host("/file".into()).unwrap();
    assert_eq!(host.core.lease, proffer_model::Duration(2_000));
}

#[test]
fn unknown_keys_are_named_with_their_line_and_what_was_meant() {
    let file = "[host]\nlisten = '127.0.0.1:1'\nlisen = 'x'\n[hots]\na = 1\n[agent]\nzone = {}\n";
    let wrong = layer(file, &[], vec![flag("host.polciy", "x"), flag("zzz", "x")]).unwrap_err();
    expect![[r#"
        proffer.toml:7: agent.zone is a table; wanted text, a number, true or false, or a list of texts
        proffer.toml:3: unknown setting 'host.lisen'; did you mean 'host.listen'?
        proffer.toml:4: unknown table [hots]
        --host.polciy: unknown setting 'host.polciy'; did you mean 'host.policy'?
        --zzz: unknown setting 'zzz'; `proffer config check` lists all"#]]
    .assert_eq(&wrong.to_string());
}

#[test]
fn files_that_are_no_toml_are_refused_by_line() {
    let wrong = layer("[host]\nlisten = 127.0.0.1:1\n", &[], Vec::new()).unwrap_err();
    assert!(wrong.to_string().starts_with("proffer.toml:2: "), "{wrong}");
}

#[test]
fn wrong_values_say_where_they_were_written() {
    let file = "[host]\nlease = 'soon'\n";
    let settings = layer(file, &[("PROFFER_HOST_LISTEN", "0.0.0.0:1")], Vec::new()).unwrap();
    let wrong = settings.host("d".into()).unwrap_err();
    expect![[r#"
        PROFFER_HOST_LISTEN: host.listen = '0.0.0.0:1': listening on 0.0.0.0:1 would send the token over the network in the clear; listen on 127.0.0.1, give a TLS certificate and key, or pass --insecure-network
        proffer.toml:2: host.lease = 'soon': wanted a number and a unit, as in 250ms, 30s, 5m, 2h or 7d"#]]
    .assert_eq(&wrong.to_string());
    let settings = layer(
        "[agent]\nresources = 'cpus:lots'\njoin = 'x'",
        &[],
        Vec::new(),
    )
    .unwrap();
    let wrong = agent::checked(&settings).unwrap_err().to_string();
    assert!(
        wrong.contains("proffer.toml:2: agent.resources = 'cpus:lots'"),
        "{wrong}"
    );
    assert!(
        wrong.contains("proffer.toml:3: agent.join = 'x'"),
        "{wrong}"
    );
}

#[test]
fn every_setting_has_a_variable_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for setting in all_settings() {
        assert!(seen.insert(variable_of(setting.key)), "{}", setting.key);
        assert!(!setting.what.is_empty() && !setting.what.ends_with('.'));
    }
    assert_eq!(variable_of("host.tls-key"), "PROFFER_HOST_TLS_KEY");
}
