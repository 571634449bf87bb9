//! Components that hosts share in a real etcd, and who may remove them.

use std::path::PathBuf;
use std::process::Command;

use proffer_store::etcd::{Cluster, Election, Role};
use proffer_store::leadership::Fence;
use proffer_store::{ComponentError, Components};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

#[path = "../testing/etcd_server.rs"]
mod etcd_server;

use etcd_server::EtcdServer;

/// The shortest lease that etcd grants.
const LEASE: proffer_model::Duration = proffer_model::Duration::from_secs(2);

struct InEtcd {
    server: EtcdServer,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

/// A host that leads; until it resigns.
struct Leader {
    election: Election,
    fence: Fence,
}

impl InEtcd {
    fn start() -> Option<Self> {
        Some(Self {
            server: EtcdServer::start(&[])?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            dir: tempfile::tempdir().unwrap(),
        })
    }

    fn cluster(&self) -> Cluster {
        let address = format!("etcd://{}", self.server.member());
        let handle = self.runtime.handle().clone();
        let open = Cluster::open(address.parse().unwrap(), handle);
        self.runtime.block_on(open).unwrap()
    }

    fn lead(&self) -> Leader {
        let cluster = self.cluster();
        let election = Election::start(&cluster, LEASE, "here".to_owned()).unwrap();
        let mut role = election.role();
        let led = self.runtime.block_on(async {
            let led = role.wait_for(|role| matches!(role, Role::Leading(_)));
            led.await.unwrap().clone()
        });
        let Role::Leading(fence) = led else {
            unreachable!("it was waited for");
        };
        Leader { election, fence }
    }

    fn resign(&self, leader: Leader) {
        self.runtime.block_on(leader.election.resign());
    }

    /// A host with a directory of its own.
    fn host(&self, name: &str) -> Components {
        Components::shared(self.path(name), self.cluster())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Keys of components and their parts, as etcd says it.
    fn keys(&self) -> usize {
        let got = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.server.member()])
            .args(["get", "--keys-only", "--prefix", "proffer/component/"])
            .output()
            .unwrap();
        let text = String::from_utf8(got.stdout).unwrap();
        text.lines().filter(|line| !line.is_empty()).count()
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[test]
fn what_nobody_refers_to_goes_from_etcd_by_the_leaders_hand_alone() {
    let Some(etcd) = InEtcd::start() else {
        return;
    };
    let leader = etcd.lead();
    let leads = etcd.host("own").led(leader.fence);
    let follows = etcd.host("other");
    let large = vec![7; 2 * 1024 * 1024];
    let all = [&b"unused"[..], &large, b"again", b"pinned"];
    let digests = all.map(digest_of);
    for (digest, bytes) in digests.iter().zip(all) {
        leads.put(digest, bytes).unwrap();
        // Two hosts may be given the same.
        follows.put(digest, bytes).unwrap();
    }
    let [unused, _, again, pinned] = &digests;
    let _pin = leads.pin(pinned);
    let removal = leads.begin_removal().unwrap();
    let mut listed: Vec<&str> = digests.iter().map(String::as_str).collect();
    listed.sort_unstable();
    assert_eq!(removal.digests().collect::<Vec<_>>(), listed);
    // Another host is given one of them meanwhile.
    follows.put(again, b"again").unwrap();
    let remove = |digest| leads.remove_unused(&removal, digest).unwrap();
    let removed = digests.each_ref().map(|digest| remove(digest));
    assert_eq!(removed, [true, true, false, false]);
    let anew = etcd.host("third");
    for (digest, bytes) in digests.iter().zip(all).take(2) {
        let gone = anew.get(digest).unwrap_err();
        assert!(matches!(gone, ComponentError::Unknown { .. }), "{gone}");
        // A copy is a copy: who has one still may use it.
        assert_eq!(follows.get(digest).unwrap(), bytes);
    }
    assert_eq!(anew.get(again).unwrap(), b"again");
    assert_eq!(anew.get(pinned).unwrap(), b"pinned");
    assert_eq!(etcd.keys(), 4, "two, with a part each");
    // One that does not lead removes its copies.
    let removal = follows.begin_removal().unwrap();
    assert!(follows.remove_unused(&removal, unused).unwrap());
    assert!(follows.remove_unused(&removal, again).unwrap());
    assert_eq!(etcd.keys(), 4);
    etcd.resign(leader);
}

#[test]
fn a_leader_that_was_followed_by_another_removes_no_component() {
    let Some(etcd) = InEtcd::start() else {
        return;
    };
    let leader = etcd.lead();
    let old = etcd.host("own").led(leader.fence);
    let digest = digest_of(b"wanted");
    old.put(&digest, b"wanted").unwrap();
    let removal = old.begin_removal().unwrap();
    etcd.resign(leader);
    assert!(
        !old.remove_unused(&removal, &digest).unwrap(),
        "nobody leads"
    );
    let leader = etcd.lead();
    assert!(!old.remove_unused(&removal, &digest).unwrap());
    assert_eq!(etcd.keys(), 2);
    let new = etcd.host("own").led(leader.fence);
    let removal = new.begin_removal().unwrap();
    assert!(new.remove_unused(&removal, &digest).unwrap());
    assert_eq!(etcd.keys(), 0);
    etcd.resign(leader);
}

/// The policy of a host's settings is no fact's while another host leads, which removes it.
#[test]
fn who_begins_to_lead_shares_what_it_has_pinned_again() {
    let Some(etcd) = InEtcd::start() else {
        return;
    };
    let follows = etcd.host("own");
    let digest = digest_of(b"policy");
    follows.put(&digest, b"policy").unwrap();
    let _pin = follows.pin(&digest);
    let leader = etcd.lead();
    let leads = etcd.host("other").led(leader.fence);
    let removal = leads.begin_removal().unwrap();
    assert!(leads.remove_unused(&removal, &digest).unwrap());
    assert_eq!(etcd.keys(), 0);
    etcd.resign(leader);
    let leader = etcd.lead();
    let now_leads = follows.led(leader.fence);
    now_leads.share_pinned().unwrap();
    assert_eq!(etcd.host("third").get(&digest).unwrap(), b"policy");
    let removal = now_leads.begin_removal().unwrap();
    assert!(!now_leads.remove_unused(&removal, &digest).unwrap());
    assert_eq!(etcd.keys(), 2);
    etcd.resign(leader);
}
