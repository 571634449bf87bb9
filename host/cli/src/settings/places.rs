//! Where files are when nobody says: by the XDG rules.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use etcetera::BaseStrategy;

use crate::failure::Failure;
use crate::input;

/// The file's name, here and in the user's configuration directory.
const FILE: &str = "proffer.toml";

/// `proffer` in the user's data directory.
pub(crate) fn default_data_dir() -> Result<PathBuf, Failure> {
    Ok(strategy()?.data_dir().join("proffer"))
}

fn strategy() -> Result<impl BaseStrategy, Failure> {
    etcetera::choose_base_strategy().map_err(|error| {
        Failure::Usage(format!(
            "no home directory: {error}; set HOME, or give --data DIR"
        ))
    })
}

/// The file given, or named by `PROFFER_SETTINGS`, or `proffer.toml` here, or the user's own.
pub(super) fn find_file(given: Option<&Path>) -> anyhow::Result<Option<(PathBuf, String)>> {
    let named = given
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("PROFFER_SETTINGS").map(PathBuf::from));
    if let Some(path) = named {
        let text = read(&path)?.with_context(|| {
            let text = format!("there is no settings file {}", path.display());
            Failure::Usage(text)
        })?;
        return Ok(Some((path, text)));
    }
    let mut places = vec![PathBuf::from(FILE)];
    // Without a home there is one place less to look at.
    if let Ok(strategy) = strategy() {
        places.push(strategy.config_dir().join("proffer").join(FILE));
    }
    for path in places {
        if let Some(text) = read(&path)? {
            return Ok(Some((path, text)));
        }
    }
    Ok(None)
}

/// The file's text; none if there is none.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let what = || Failure::Usage(format!("cannot read the configuration {}", path.display()));
    match input::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(what),
    }
}
