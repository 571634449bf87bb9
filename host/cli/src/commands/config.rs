//! `config check`: every setting, its value, where it comes from, and what is wrong.

use serde_json::json;

use crate::json;
use crate::settings::{InvalidSettings, Settings, agent, all_settings, variable_of};
use crate::table::Columns;

pub(crate) fn check(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let rows: Vec<_> = all_settings()
            .map(|setting| {
                let written = settings.get(setting.key);
                json!({
                    "key": setting.key, "value": written.text,
                    "source": written.source.to_string(), "variable": variable_of(setting.key),
                    "what": setting.what,
                })
            })
            .collect();
        json::print(&json!(rows));
    } else {
        print_table(settings);
    }
    let mut wrong = Vec::new();
    let data = settings.data_dir()?;
    if let Err(InvalidSettings(lines)) = settings.host(data) {
        wrong.extend(lines);
    }
    if let Err(InvalidSettings(lines)) = agent::problems(settings) {
        wrong.extend(lines);
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(InvalidSettings(wrong).into())
    }
}

fn print_table(settings: &Settings) {
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
}
