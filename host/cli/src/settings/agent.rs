//! An agent's settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proffer_agent::AgentConfig;
use proffer_agent::TaskUsers;
use proffer_daemon::{InvalidSetting, Setting};
use proffer_model::{Amount, Attribute, AttributeValue, Bundle};
use proffer_rpc::{ListenAddress, PeerAddress, Protection, Tls, Token};

use super::{InvalidSettings, Settings};
use crate::input::{self, TEXT_BYTES_MAX};

/// Everything about an agent that can be set, apart from its data directory.
pub(crate) const AGENT_SETTINGS: &[Setting] = &[
    setting(
        "agent.join",
        "127.0.0.1:5050",
        "the host's address, or those of several with commas between them",
    ),
    setting(
        "agent.listen",
        "127.0.0.1:0",
        "where other agents fetch outputs; port 0: any free one",
    ),
    setting(
        "agent.advertise",
        "",
        "the name or address under which others reach that port; empty: the one listened on",
    ),
    setting(
        "agent.insecure-network",
        "false",
        "listen on and connect to other addresses than loopback without TLS",
    ),
    setting(
        "agent.tls-authority",
        "",
        "PEM file of the authority that signed the host's and agents' certificates",
    ),
    setting(
        "agent.tls-certificate",
        "",
        "PEM file of the agent's own certificate, for the port where others fetch outputs",
    ),
    setting("agent.tls-key", "", "PEM file of its private key"),
    setting(
        "agent.hostname",
        "",
        "the machine's name; empty: what the system says",
    ),
    setting("agent.region", "", "its region"),
    setting("agent.zone", "", "its zone"),
    setting(
        "agent.resources",
        "",
        "what it has, as in cpus:4;mem:8192;ports:[31000-32000]; empty: what is found",
    ),
    setting(
        "agent.attributes",
        "",
        "properties for constraints, as in rack:r1;ssd:1",
    ),
    setting(
        "agent.task-user",
        "",
        "whom tasks run as: a user, or a range as 100000-165535 with one for each framework; empty: nobody if the agent is root, otherwise the agent's user",
    ),
    setting(
        "agent.files",
        "",
        "directories whose files tasks may have as inputs, separated by ':'",
    ),
];

const fn setting(key: &'static str, default: &'static str, what: &'static str) -> Setting {
    Setting { key, default, what }
}

/// The agent's configuration, for this data directory.
pub(crate) fn check(
    settings: &Settings,
    data: PathBuf,
    token: Token,
) -> anyhow::Result<AgentConfig> {
    let mut wrong = Vec::new();
    let mut reject = |key: &'static str, problem: String| {
        let value = settings.text(key);
        wrong.push(InvalidSetting {
            key,
            value,
            problem,
        });
    };
    let mut join = PeerAddress::parse_list(&settings.text("agent.join"))
        .unwrap_or_else(|error| {
            reject("agent.join", error.to_string());
            Vec::new()
        })
        .into_iter();
    let listen = listen(settings).unwrap_or_else(|(key, problem)| {
        reject(key, problem);
        ListenAddress::loopback()
    });
    let resources = match settings.text("agent.resources").as_str() {
        "" => None,
        text => text
            .parse::<Bundle>()
            .map_err(|error| {
                reject("agent.resources", error.to_string());
            })
            .ok(),
    };
    let attributes = attributes(&settings.text("agent.attributes")).unwrap_or_else(|problem| {
        reject("agent.attributes", problem);
        Vec::new()
    });
    let task_users = task_users(&settings.text("agent.task-user")).unwrap_or_else(|problem| {
        reject("agent.task-user", problem);
        TaskUsers::Own
    });
    let files = files(&settings.text("agent.files")).unwrap_or_else(|problem| {
        reject("agent.files", problem);
        Vec::new()
    });
    let tls = client_tls(settings).unwrap_or_else(|(key, problem)| {
        reject(key, problem);
        Tls::Off
    });
    let serve_tls = server_tls(settings).unwrap_or_else(|(key, problem)| {
        reject(key, problem);
        Tls::Off
    });
    let (Some(first), true) = (join.next(), wrong.is_empty()) else {
        return Err(settings.explain(&wrong).into());
    };
    let optional = |key: &str| Some(settings.text(key)).filter(|text| !text.is_empty());
    let mut config = AgentConfig::new(data, first, token)?;
    config.other_hosts = join.collect();
    config.listen = listen;
    config.advertise = optional("agent.advertise");
    config.hostname = optional("agent.hostname");
    config.region = settings.text("agent.region");
    config.zone = settings.text("agent.zone");
    config.resources = resources;
    config.attributes = attributes;
    config.task_users = task_users;
    config.files = files;
    config.tls = tls;
    config.serve_tls = serve_tls;
    Ok(config)
}

/// The settings of an agent alone, for `config check`: nothing of the machine is looked at but what
/// they name.
pub(crate) fn checked(settings: &Settings) -> Result<AgentConfig, InvalidSettings> {
    // Any token will do: none is sent.
    let token =
        Token::parse("no-token-is-sent-here").map_err(|e| InvalidSettings(vec![e.to_string()]))?;
    match check(settings, PathBuf::from("."), token) {
        Ok(config) => Ok(config),
        Err(error) => match error.downcast::<InvalidSettings>() {
            Ok(wrong) => Err(wrong),
            Err(error) => Err(InvalidSettings(vec![format!("{error:#}")])),
        },
    }
}

fn listen(settings: &Settings) -> Result<ListenAddress, Wrong> {
    let key = "agent.listen";
    let has_certificate = !settings.text("agent.tls-certificate").is_empty();
    let protection = match (trusts_network(settings)?, has_certificate) {
        (_, true) => Protection::Tls,
        (true, false) => Protection::InsecureNetwork,
        (false, false) => Protection::TokenOnly,
    };
    let address: SocketAddr = settings.text(key).parse().map_err(|_| {
        let wanted = "wanted an IP address and a port, as in 127.0.0.1:0";
        (key, wanted.to_owned())
    })?;
    ListenAddress::check(address, protection).map_err(|refused| (key, refused.to_string()))
}

/// `rack:r1;cores:8`: a value that is a number is one.
fn attributes(text: &str) -> Result<Vec<Attribute>, String> {
    let mut attributes = Vec::new();
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        let (name, value) = part
            .split_once(':')
            .filter(|(name, _)| (1..=255).contains(&name.trim().len()))
            .ok_or_else(|| format!("'{part}' is no attribute: wanted NAME:VALUE"))?;
        let value = value.trim();
        let value = match value.parse::<Amount>() {
            Ok(number) => AttributeValue::Scalar(number),
            Err(_) => AttributeValue::Text(value.to_owned()),
        };
        attributes.push(Attribute {
            name: name.trim().to_owned(),
            value,
        });
    }
    Ok(attributes)
}

fn task_users(text: &str) -> Result<TaskUsers, String> {
    match text {
        "" => TaskUsers::default_here(),
        text => TaskUsers::parse(text),
    }
    .map_err(|error| error.to_string())
}

fn files(text: &str) -> Result<Vec<PathBuf>, String> {
    text.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| match std::fs::canonicalize(dir) {
            Ok(path) if path.is_dir() => Ok(path),
            Ok(_) => Err(format!("'{dir}' is not a directory")),
            Err(error) => Err(format!("'{dir}': {error}")),
        })
        .collect()
}

/// Which setting, and what is wrong with it.
pub(crate) type Wrong = (&'static str, String);

fn trusts_network(settings: &Settings) -> Result<bool, Wrong> {
    match settings.text("agent.insecure-network").as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(("agent.insecure-network", "wanted true or false".to_owned())),
    }
}

/// For connections that are made: to the host, to agents. Where the host's own certificate is known
/// and no authority is named, it vouches for itself.
pub(crate) fn client_tls(settings: &Settings) -> Result<Tls, Wrong> {
    for key in ["agent.tls-authority", "host.tls-certificate"] {
        let path = settings.text(key);
        if !path.is_empty() {
            let authority = read(key, &path)?;
            return Ok(Tls::Client { authority });
        }
    }
    match trusts_network(settings)? {
        true => Ok(Tls::Trusted),
        false => Ok(Tls::Off),
    }
}

/// For the agent's own port.
fn server_tls(settings: &Settings) -> Result<Tls, Wrong> {
    let keys = ["agent.tls-certificate", "agent.tls-key"];
    let [certificate, key] = keys.map(|key| settings.text(key));
    if certificate.is_empty() && key.is_empty() {
        return Ok(Tls::Off);
    }
    if certificate.is_empty() || key.is_empty() {
        let problem = "a certificate and its key are wanted, both or none";
        return Err((
            keys[usize::from(!certificate.is_empty())],
            problem.to_owned(),
        ));
    }
    let tls = Tls::Server {
        certificate: read(keys[0], &certificate)?,
        key: read(keys[1], &key)?,
    };
    tls.check_server().map_err(|problem| (keys[0], problem))?;
    Ok(tls)
}

fn read(key: &'static str, path: &str) -> Result<Vec<u8>, Wrong> {
    input::read(Path::new(path), TEXT_BYTES_MAX)
        .map_err(|error| (key, format!("cannot read {path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_numbers_or_texts() {
        let found = attributes("rack:r1; cores:8;; url:http://x:1 ").unwrap();
        let shown: Vec<String> = found.iter().map(|a| format!("{a:?}")).collect();
        expect_test::expect![[r#"
            Attribute { name: "rack", value: Text("r1") }
            Attribute { name: "cores", value: Scalar(Amount(8000)) }
            Attribute { name: "url", value: Text("http://x:1") }"#]]
        .assert_eq(&shown.join("\n"));
        for bad in ["rack", ":x", "a:1;b"] {
            assert!(attributes(bad).unwrap_err().contains("wanted NAME:VALUE"));
        }
    }
}
