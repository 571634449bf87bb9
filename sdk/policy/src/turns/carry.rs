//! What a successor can start from: the allocations so far, by names. Shares need not be carried,
//! they are in the snapshot.
//!
//! Section `usage`, version 1: lines of text, fields separated by tabs, with `\t`, `\n` and `\\`
//! in names escaped: `role ROLE ALL OWN` and `client ROLE NAME COUNT`.

use std::collections::BTreeMap;

use proffer_model::policy::Section;

use super::counts::Counts;
use crate::cluster::Cluster;

const NAME: &str = "usage";
const VERSION: u32 = 1;
/// The host keeps a mebibyte of all sections; what is beyond is left out, and those clients begin
/// at nothing.
const BYTES_MAX: usize = 1 << 20;

pub(super) fn write(cluster: &Cluster, counts: &Counts) -> Section {
    let mut lines: Vec<String> = Vec::new();
    for role in cluster.roles() {
        let (all, own) = counts.of_role(role.handle);
        if all > 0 {
            lines.push(format!("role\t{}\t{all}\t{own}\n", escape(&role.name)));
        }
    }
    for row in cluster.clients() {
        let count = counts.of_client(row.client.handle);
        if count > 0
            && let Some(role) = cluster.role(row.client.role)
        {
            let (role, name) = (escape(&role.name), escape(&row.client.name));
            lines.push(format!("client\t{role}\t{name}\t{count}\n"));
        }
    }
    let mut data = Vec::new();
    for line in lines {
        if data.len() + line.len() > BYTES_MAX {
            break;
        }
        data.extend_from_slice(line.as_bytes());
    }
    Section {
        name: NAME.to_owned(),
        version: VERSION,
        data,
    }
}

pub(super) fn read(
    cluster: &Cluster,
    counts: &mut Counts,
    sections: &[Section],
) -> Result<Vec<String>, String> {
    let Some(section) = sections.iter().find(|section| section.name == NAME) else {
        return Ok(Vec::new());
    };
    if section.version != VERSION {
        return Err(format!(
            "the section '{NAME}' is version {}, and only {VERSION} is known",
            section.version
        ));
    }
    let roles: BTreeMap<&str, u32> = cluster
        .roles()
        .map(|role| (role.name.as_str(), role.handle))
        .collect();
    let clients: BTreeMap<(u32, &str), u32> = cluster
        .clients()
        .map(|row| &row.client)
        .map(|client| ((client.role, client.name.as_str()), client.handle))
        .collect();
    let text = std::str::from_utf8(&section.data)
        .map_err(|error| format!("the section '{NAME}' is not text: {error}"))?;
    // Everything is read before anything is used.
    let mut adopted = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let entry = read_line(line)
            .ok_or_else(|| format!("line {number} of the section '{NAME}' is malformed"))?;
        adopted.push(entry);
    }
    for entry in adopted {
        match entry {
            Entry::Role(name, all, own) => {
                if let Some(&role) = roles.get(name.as_str()) {
                    counts.set_role(role, (all, own));
                }
            }
            Entry::Client(role, name, count) => {
                let role = roles.get(role.as_str());
                let client = role.and_then(|&role| clients.get(&(role, name.as_str())));
                if let Some(&client) = client {
                    counts.set_client(client, count);
                }
            }
        }
    }
    Ok(vec![NAME.to_owned()])
}

enum Entry {
    Role(String, u64, u64),
    Client(String, String, u64),
}

fn read_line(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.split('\t').collect();
    match fields.as_slice() {
        ["role", role, all, own] => Some(Entry::Role(
            unescape(role)?,
            all.parse().ok()?,
            own.parse().ok()?,
        )),
        ["client", role, name, count] => Some(Entry::Client(
            unescape(role)?,
            unescape(name)?,
            count.parse().ok()?,
        )),
        _ => None,
    }
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for char in name.chars() {
        match char {
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\\' => escaped.push_str("\\\\"),
            char => escaped.push(char),
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        name.push(match char {
            '\\' => match chars.next()? {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            char => char,
        });
    }
    Some(name)
}
