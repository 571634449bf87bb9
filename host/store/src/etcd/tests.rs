//! What the etcd backend promises beyond the contract, asked of a real one.

use std::time::{Duration, Instant};

use proffer_model::fact::Fact;
use tokio::runtime::Runtime;

use super::election::{Authority, Election, Role};
use super::follower::{Followed, Follower};
use super::layout::{Head, Keys, Range};
use super::ops::{delete, made_at, put, txn};
use super::proto::{RequestOp, TxnRequest};
use super::{Cluster, EtcdAddress, EtcdError, EtcdStore, OpenClusterError};
use crate::leadership::Fence;
use crate::wire::random::Random;
use crate::{Recovered, Store, WriteStoreError};

#[path = "../../testing/etcd_server.rs"]
mod etcd_server;

use etcd_server::EtcdServer;

/// Whatever is waited for comes within this, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(60);

/// A real etcd, and a host on it that leads.
pub(crate) struct InEtcd {
    server: EtcdServer,
    runtime: Runtime,
}

impl InEtcd {
    pub(crate) fn start_server() -> Option<Self> {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Option<Self> {
        Some(Self {
            server: EtcdServer::start(more)?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        })
    }

    fn address(&self) -> EtcdAddress {
        let text = format!("etcd://{}", self.server.member());
        text.parse().unwrap()
    }

    fn try_open(&self) -> Result<Cluster, OpenClusterError> {
        let open = Cluster::open(self.address(), self.runtime.handle().clone());
        self.runtime.block_on(open)
    }

    fn cluster(&self) -> Cluster {
        self.try_open().unwrap()
    }

    /// Takes the key from whoever has it.
    pub(crate) fn lead(&self) -> (EtcdStore, Recovered) {
        let cluster = self.cluster();
        self.runtime.block_on(async {
            let key = cluster.keys.leader();
            let gone = txn(
                Vec::new(),
                vec![delete((key.clone(), Vec::new()))],
                Vec::new(),
            );
            cluster.client.txn(gone).await.unwrap();
            let made = txn(
                vec![made_at(key.clone(), 0)],
                vec![put(key, Vec::new())],
                Vec::new(),
            );
            let fence = Fence(
                cluster
                    .client
                    .txn(made)
                    .await
                    .unwrap()
                    .header
                    .unwrap()
                    .revision,
            );
            let (follower, recovered) = Follower::load(cluster).await.unwrap();
            let states = recovered.states.clone();
            let store = EtcdStore::lead(follower, states, fence, Authority::unshared());
            (store.await.unwrap(), recovered)
        })
    }

    fn write(&self, ops: Vec<RequestOp>) {
        let cluster = self.raw();
        let written = self
            .runtime
            .block_on(cluster.txn(txn(Vec::new(), ops, Vec::new())));
        assert!(written.unwrap().succeeded);
    }

    fn raw(&self) -> super::client::Client {
        super::client::Client::new(&self.address(), self.runtime.handle().clone())
    }

    /// All keys and values of a range.
    fn dump(&self, (key, range_end): Range) -> Vec<(Vec<u8>, Vec<u8>)> {
        let request = super::proto::RangeRequest {
            key,
            range_end,
            ..Default::default()
        };
        let answer = self.runtime.block_on(self.raw().range(request)).unwrap();
        let pair = |kv: super::proto::KeyValue| (kv.key, kv.value);
        answer.kvs.into_iter().map(pair).collect()
    }

    fn load(&self) -> Result<Recovered, OpenClusterError> {
        let load = Follower::load(self.cluster());
        self.runtime.block_on(load).map(|(_, recovered)| recovered)
    }
}

fn keys() -> Keys {
    Keys::new("proffer/")
}

fn big_step(bytes: usize) -> Fact {
    let value: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    Fact::StepCommitted(Box::new(proffer_model::fact::StepRecord {
        framework: proffer_model::FrameworkId(3),
        step: proffer_model::StepNumber(1),
        writes: vec![proffer_model::framework::StateWrite::Set(
            "big".to_owned(),
            value.into(),
        )],
        effects: Vec::new(),
    }))
}

#[test]
fn a_leader_that_was_followed_by_another_writes_nothing() {
    let Some(etcd) = InEtcd::start_server() else {
        return;
    };
    let mut random = Random::new(1);
    let (mut old, _) = etcd.lead();
    let first = random.facts(3);
    old.append(&first).unwrap();
    let (mut new, recovered) = etcd.lead();
    assert_eq!(recovered.facts, first);
    let before = etcd.dump(keys().all());
    let refused = old.append(&random.facts(2)).unwrap_err();
    assert!(
        matches!(refused, WriteStoreError::Deposed { .. }),
        "{refused}"
    );
    let stopped = old.append(&random.facts(1)).unwrap_err();
    assert!(
        matches!(stopped, WriteStoreError::Stopped { .. }),
        "{stopped}"
    );
    assert_eq!(etcd.dump(keys().all()), before);
    let second = random.facts(2);
    new.append(&second).unwrap();
    assert_eq!(etcd.load().unwrap().facts, [first, second].concat());
}

/// A member that stands still has a request; another was asked in its place, and did it; then the first
/// one goes on. So requests are sent again here, as they were, after the commits that followed.
#[test]
fn a_leaders_own_request_that_comes_late_changes_nothing() {
    let Some(etcd) = InEtcd::start_server() else {
        return;
    };
    let all = Random::new(5).facts(6);
    let (mut store, _) = etcd.lead();
    let requests = |store: &EtcdStore| {
        let next = Head {
            batch: store.head.batch + 1,
            ..store.head
        };
        let head = put(keys().head(), next.encode().unwrap());
        let batch = vec![put(keys().part(next.batch, 0), vec![1; 100]), head];
        [batch, store.takeover_ops()].map(|ops| store.request(ops))
    };
    let come_late = |requests: [TxnRequest; 2]| {
        let before = etcd.dump(keys().all());
        for request in requests {
            let answer = etcd.runtime.block_on(etcd.raw().txn(request)).unwrap();
            assert!(!answer.succeeded);
        }
        assert_eq!(etcd.dump(keys().all()), before);
    };
    let late = requests(&store);
    store.append(&all[..2]).unwrap();
    store.append(&all[2..]).unwrap();
    come_late(late);
    assert_eq!(etcd.load().unwrap().facts, all);
    let late = requests(&store);
    store.snapshot(&all).unwrap();
    come_late(late);
    store.append(&all[..1]).unwrap();
    assert_eq!(etcd.load().unwrap().facts.len(), all.len() + 1);
    // The first try of a takeover, when the second was done.
    let late = requests(&store);
    let (store, _) = etcd.lead();
    come_late(late);
    drop(store);
}

#[test]
fn a_commit_larger_than_a_request_is_there_in_whole_or_not_at_all() {
    let Some(etcd) = InEtcd::start_server() else {
        return;
    };
    let (mut store, _) = etcd.lead();
    store.append(&[big_step(5_000_000)]).unwrap();
    let recovered = etcd.load().unwrap();
    assert_eq!(recovered.facts.len(), 1);
    assert_eq!(recovered.states.len(), 1);
    // A leader died between two parts of its next commit.
    etcd.write(vec![put(keys().part(2, 0), vec![1; 1_000])]);
    etcd.write(vec![put(keys().block_part(9, 0, 0), vec![1; 1_000])]);
    let again = etcd.load().unwrap();
    assert_eq!(again.facts, recovered.facts);
    let (mut store, _) = etcd.lead();
    assert!(etcd.dump(keys().snapshot(9)).is_empty());
    let facts = Random::new(4).facts(2);
    store.append(&facts).unwrap();
    store.snapshot(&facts).unwrap();
    let after = etcd.load().unwrap();
    assert_eq!((after.facts, after.states), (facts, recovered.states));
}

#[test]
fn a_follower_is_told_all_in_order_and_begins_anew_behind_a_snapshot() {
    let Some(etcd) = InEtcd::start_server() else {
        return;
    };
    let mut random = Random::new(8);
    let (mut store, _) = etcd.lead();
    let mut all = random.facts(2);
    store.append(&all).unwrap();
    let (mut follower, mut seen) = etcd
        .runtime
        .block_on(Follower::load(etcd.cluster()))
        .unwrap();
    let mut next = |seen: &mut Recovered| {
        let next = async { tokio::time::timeout(WITHIN, follower.next(seen)).await };
        etcd.runtime.block_on(next).unwrap().unwrap()
    };
    for _ in 0..5 {
        let facts = random.facts(3);
        store.append(&facts).unwrap();
        all.extend(facts);
        while seen.facts.len() < all.len() {
            assert_eq!(next(&mut seen), Followed::More);
        }
        assert_eq!(seen.facts, etcd.load().unwrap().facts);
    }
    // A snapshot of what it has read changes nothing for it.
    store.snapshot(&all[..4]).unwrap();
    store.append(&random.facts(1)).unwrap();
    let len = seen.facts.len();
    while seen.facts.len() == len {
        assert_eq!(next(&mut seen), Followed::More);
    }
    // One of what it has not read does.
    store.append(&random.facts(1)).unwrap();
    let short = random.facts(2);
    store.snapshot(&short).unwrap();
    assert_eq!(next(&mut seen), Followed::Anew);
    assert_eq!(seen.facts, etcd.load().unwrap().facts);
}

#[test]
fn what_is_not_ours_newer_or_damaged_is_refused_by_name_and_left_alone() {
    let Some(etcd) = InEtcd::start_server() else {
        return;
    };
    etcd.write(vec![put(b"proffer/someone's".to_vec(), b"own".to_vec())]);
    let before = etcd.dump(keys().all());
    let error = etcd.try_open().unwrap_err().to_string();
    assert!(
        error.contains("it has the key 'proffer/someone's' and no format"),
        "{error}"
    );
    assert!(error.contains("give another prefix"), "{error}");
    assert_eq!(etcd.dump(keys().all()), before);

    etcd.write(vec![delete(keys().all())]);
    let (mut store, _) = etcd.lead();
    store.append(&Random::new(2).facts(20)).unwrap();
    let (part, mut value) = etcd.dump(keys().batches(1, None)).remove(0);
    value[30] ^= 1;
    etcd.write(vec![put(part, value)]);
    let error = etcd.load().unwrap_err().to_string();
    assert!(
        error.contains("proffer/log/journal/00000000000000000001/0000: its bytes are not those"),
        "{error}"
    );
    etcd.write(vec![delete(keys().batches(1, None))]);
    let error = etcd.load().unwrap_err().to_string();
    assert!(
        error.contains("proffer/log/head: it counts up to"),
        "{error}"
    );

    etcd.write(vec![put(keys().format(), b"proffer store 99\n".to_vec())]);
    let before = etcd.dump(keys().all());
    let error = etcd.try_open().unwrap_err().to_string();
    assert!(error.contains("has format 99"), "{error}");
    assert_eq!(etcd.dump(keys().all()), before);
}

#[test]
fn a_wrong_address_is_told_with_what_was_seen() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Nobody listens on port 1.
    let address: EtcdAddress = "etcd://127.0.0.1:1".parse().unwrap();
    let open = Cluster::open(address, runtime.handle().clone());
    let error = runtime.block_on(open).unwrap_err();
    assert!(
        matches!(&error, OpenClusterError::Etcd(EtcdError::Unreachable { endpoints, why })
            if endpoints == "127.0.0.1:1" && why.contains("refused")),
        "{error}"
    );
}

#[test]
fn an_etcd_without_space_refuses_the_write_and_keeps_what_it_has() {
    let Some(etcd) = InEtcd::start_with(&["--quota-backend-bytes", "16777216"]) else {
        return;
    };
    let (mut store, _) = etcd.lead();
    let mut written = 0;
    let error = loop {
        match store.append(&[big_step(900_000)]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the quota is not there");
    };
    assert!(
        matches!(error, WriteStoreError::Etcd(EtcdError::NoSpace { .. })),
        "{error:?}"
    );
    assert!(written > 0);
    // Etcd writes what reaches its quota, and refuses it all the same: the refused step may be there,
    // in whole, as after a crash.
    let there = etcd.load().unwrap().facts.len();
    assert!(
        there == written || there == written + 1,
        "{there} of {written}"
    );
}

#[test]
fn of_two_hosts_one_leads_and_the_other_follows_at_its_end() {
    let Some(mut etcd) = InEtcd::start_server() else {
        return;
    };
    let lease = proffer_model::Duration::from_secs(2);
    let cluster = etcd.cluster();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let start = |place: &str| Election::start(&cluster, lease, place.to_owned()).unwrap();
    let until = |election: &Election, wanted: &dyn Fn(&Role) -> bool| {
        let mut role = election.role();
        runtime.block_on(async {
            let seen = tokio::time::timeout(WITHIN, role.wait_for(|role| wanted(role))).await;
            seen.unwrap().unwrap().clone()
        })
    };
    let leads = |role: &Role| matches!(role, Role::Leading(_));
    let first = start("a:1");
    until(&first, &leads);
    let second = start("b:1");
    let follows = until(&second, &|role| matches!(role, Role::Following(Some(_))));
    assert!(
        matches!(follows, Role::Following(Some(leader)) if leader.place == "a:1"),
        "the leader's place is told"
    );
    assert!(first.authority().holds() && !second.authority().holds());

    // It goes without a word: its lease has to end.
    let authority = first.authority();
    drop(first);
    assert!(!authority.holds());
    until(&second, &leads);
    assert!(second.authority().holds());

    // It says goodbye: the next leads at once.
    let third = start("c:1");
    until(&third, &|role| matches!(role, Role::Following(Some(_))));
    let begun = Instant::now();
    runtime.block_on(second.resign());
    until(&third, &leads);
    assert!(
        begun.elapsed() < Duration::from_millis(1_900),
        "the lease was waited for"
    );

    // etcd goes: the leader ends by itself, before the lease does; etcd comes back: it leads again.
    etcd.server.kill_9();
    until(&third, &|role| matches!(role, Role::Following(_)));
    assert!(!third.authority().holds());
    etcd.server.restart();
    until(&third, &leads);
    drop(entered);
}

#[test]
fn a_host_whose_threads_are_all_busy_keeps_its_lease() {
    let Some(etcd) = InEtcd::start_server() else {
        return;
    };
    let lease = proffer_model::Duration::from_secs(2);
    // Nothing runs on it but while it is driven: all that was spawned there stands still after that.
    let busy = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cluster = etcd.cluster();
    let election = busy.block_on(async {
        let election = Election::start(&cluster, lease, "a:1".to_owned()).unwrap();
        let mut role = election.role();
        let led = role.wait_for(|role| matches!(role, Role::Leading(_)));
        let led = tokio::time::timeout(WITHIN, led).await;
        led.unwrap().unwrap();
        election
    });
    let authority = election.authority();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(lease.0 * 5 / 2) {
        assert!(authority.holds(), "lost after {:?}", begun.elapsed());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(authority.counts().unwrap().terms, 1);
}
