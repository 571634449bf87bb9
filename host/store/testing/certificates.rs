//! Certificates for tests: an authority, and what it signs, made with the `openssl` command in a directory of
//! their own, good for two days.
//!
//! Included by path where it is needed. Without an `openssl`, tests that want one say so and end,
//! unless `PROFFER_REQUIRE_ALL=1`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An authority's files.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A new key on a curve that everybody knows, unprotected.
const NEW_KEY: [&str; 6] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-sha256",
];

impl Authority {
    /// Makes one, or says why not.
    pub(crate) fn make() -> Option<Self> {
        let there = Command::new("openssl")
            .arg("version")
            .stdout(Stdio::null())
            .status();
        if there.is_err() {
            let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "there is no openssl: apt-get install openssl");
            println!("skipped: there is no openssl (apt-get install openssl)");
            return None;
        }
        let made = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let mut request = vec![
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=a test's authority",
        ];
        request.extend(NEW_KEY);
        request.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        made.openssl(&request);
        Some(made)
    }

    /// The certificate that others trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for both ends of connections to this machine.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        let file = |ending: &str| format!("{name}.{ending}");
        let (key, wanted, certificate) = (file("key"), file("csr"), file("pem"));
        let subject = format!("/CN={name}");
        let mut request = vec!["req", "-subj", &subject];
        request.extend(NEW_KEY);
        request.extend(["-keyout", &key, "-out", &wanted]);
        self.openssl(&request);
        let extensions = file("ext");
        let text = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(self.dir.path().join(&extensions), text).unwrap();
        self.openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-sha256",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-in",
            &wanted,
            "-out",
            &certificate,
        ]);
        Identity {
            certificate: self.dir.path().join(certificate),
            key: self.dir.path().join(key),
        }
    }

    fn openssl(&self, arguments: &[&str]) {
        let dir: &Path = self.dir.path();
        let ran = Command::new("openssl")
            .args(arguments)
            .current_dir(dir)
            .output();
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "openssl {arguments:?}: {said}");
    }
}
