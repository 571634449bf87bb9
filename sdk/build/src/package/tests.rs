//! Tests of the parent module.

use tempfile::TempDir;

use super::*;

/// Directories with files, by path.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

const WORKSPACE: &str = r#"
[workspace]
members = ["plugins/*", "sdk"]
exclude = ["apart"]
[workspace.package]
version = "0.4.0"
description = "inherited"
[workspace.dependencies]
sdk = { path = "sdk" }
serde = "1"
[profile.guest]
inherits = "release"
"#;

const FRAMEWORK: &str = r#"
[package]
name = "proffer-cron"
version.workspace = true
description.workspace = true
[package.metadata.proffer]
kind = "framework"
name = "cron"
[dependencies]
sdk.workspace = true
serde.workspace = true
[dev-dependencies]
kit = { path = "../../kit" }
"#;

const SDK: &str = r#"
[package]
name = "sdk"
[target.'cfg(unix)'.dependencies]
model = { path = "../model/./x/.." }
"#;

const MODEL: &str = "[package]\nname = \"model\"\n[dependencies]\nsdk = { path = \"../sdk\" }\n";

fn sample() -> TempDir {
    tree(&[
        ("Cargo.toml", WORKSPACE),
        ("plugins/cron/Cargo.toml", FRAMEWORK),
        ("sdk/Cargo.toml", SDK),
        ("model/Cargo.toml", MODEL),
    ])
}

fn error_of(dir: &Path) -> String {
    Package::read(dir).unwrap_err().to_string()
}

#[test]
fn a_member_inherits_from_its_workspace() {
    let tree = sample();
    let root = fs::canonicalize(tree.path()).unwrap();
    let package = Package::read(&root.join("plugins/cron")).unwrap();
    assert_eq!(
        (package.name.as_str(), package.kind),
        ("cron", GuestKind::Framework)
    );
    assert_eq!(package.workspace_root, root);
    assert!(package.has_guest_profile);
    let draft = package.draft.unwrap();
    assert_eq!(draft.name.as_deref(), Some("cron"));
    assert_eq!(draft.version.as_deref(), Some("0.4.0"));
    assert_eq!(draft.description.as_deref(), Some("inherited"));
    assert_eq!(draft.world, Some(PluginWorld::Framework));
    assert_eq!(draft.language.as_deref(), Some("rust"));
}

/// Through the workspace, for one platform, in a circle; but not those of tests.
#[test]
fn sources_are_those_of_all_path_dependencies() {
    let tree = sample();
    let root = fs::canonicalize(tree.path()).unwrap();
    let package = Package::read(&root.join("plugins/cron")).unwrap();
    let expected = ["model", "plugins/cron", "sdk"].map(|dir| root.join(dir));
    assert_eq!(package.source_dirs, BTreeSet::from(expected));
}

#[test]
fn a_package_of_its_own_is_its_own_workspace() {
    let tree = sample();
    let alone = "[package]\nname = \"alone\"\n[package.metadata.proffer]\nkind = \"task\"\n";
    for (dir, extra) in [("apart/alone", ""), ("plugins/alone", "[workspace]\n")] {
        let dir = tree.path().join(dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("Cargo.toml"), format!("{alone}{extra}")).unwrap();
        let package = Package::read(&dir).unwrap();
        assert_eq!(package.workspace_root, fs::canonicalize(&dir).unwrap());
        assert_eq!(
            (package.name.as_str(), package.kind),
            ("alone", GuestKind::Task)
        );
        assert!(!package.has_guest_profile && package.draft.is_none());
    }
}

#[test]
fn the_plugin_manifest_beside_it_is_read_and_checked() {
    let tree = sample();
    let dir = tree.path().join("plugins/cron");
    fs::write(dir.join(DRAFT_TOML), "name = \"other\"\nversion = \"9\"").unwrap();
    let package = Package::read(&dir).unwrap();
    assert_eq!(package.name, "other");
    assert_eq!(package.draft.unwrap().version.as_deref(), Some("9"));
    fs::write(dir.join(DRAFT_TOML), "world = \"policy\"").unwrap();
    assert!(
        error_of(&dir)
            .ends_with("says world = \"policy\", and Cargo.toml says kind = \"framework\"")
    );
    fs::write(dir.join(DRAFT_TOML), "nmae = \"x\"").unwrap();
    assert!(error_of(&dir).ends_with("is not a valid plug-in manifest"));
    fs::remove_file(dir.join(DRAFT_TOML)).unwrap();
    fs::write(dir.join(DRAFT_JSON), r#"{"name":"json"}"#).unwrap();
    assert_eq!(Package::read(&dir).unwrap().name, "json");
}

#[test]
fn what_is_no_guest_is_named() {
    let tree = sample();
    assert!(error_of(&tree.path().join("nowhere")).starts_with("cannot read "));
    assert!(error_of(tree.path()).contains("has no [package]"));
    assert!(error_of(&tree.path().join("sdk")).contains("add [package.metadata.proffer]"));
    let cargo_toml = tree.path().join("sdk/Cargo.toml");
    fs::write(&cargo_toml, "[package").unwrap();
    assert!(error_of(&tree.path().join("sdk")).ends_with("is not a valid cargo manifest"));
    fs::write(
        &cargo_toml,
        "[package]\nname = \"A_B\"\n[package.metadata.proffer]\nkind = \"task\"\n",
    )
    .unwrap();
    assert!(error_of(&tree.path().join("sdk")).ends_with("is not a valid plug-in manifest"));
}
