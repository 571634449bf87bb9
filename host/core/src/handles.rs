//! Dense numbers for the policy boundary: clients, roles, kinds and terms.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_codec::{codec_newtype, codec_struct};
use proffer_model::policy::{self, NONE, Piece};
use proffer_model::{Amount, Bundle, FrameworkId, KindQuota, Resources, RoleName, Terms};

/// A framework under one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u32);

codec_newtype!(ClientId);

/// Kinds and terms, numbered in the order in which they were first met.
#[derive(Debug)]
pub(crate) struct Kinds {
    names: Vec<Arc<str>>,
    counted: Vec<bool>,
    by_name: BTreeMap<Arc<str>, u32>,
}

codec_struct!(Kinds {
    names,
    counted,
    by_name
});

/// Kinds that every pool has, in the order of [`policy::kind`].
const KNOWN: [&str; 5] = ["cpus", "mem", "disk", "gpus", "ports"];

impl Default for Kinds {
    fn default() -> Self {
        let mut kinds = Self {
            names: Vec::new(),
            counted: Vec::new(),
            by_name: BTreeMap::new(),
        };
        for name in KNOWN {
            kinds.handle(name, name == "ports");
        }
        kinds
    }
}

impl Kinds {
    /// The kind's number, new if it is.
    pub(crate) fn handle(&mut self, name: &str, counted: bool) -> u32 {
        if let Some(handle) = self.by_name.get(name) {
            return *handle;
        }
        let handle = u32::try_from(self.names.len()).unwrap_or(NONE);
        let name: Arc<str> = Arc::from(name);
        self.names.push(Arc::clone(&name));
        self.counted.push(counted);
        self.by_name.insert(name, handle);
        handle
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap_or(NONE)
    }

    pub(crate) fn name(&self, handle: u32) -> Option<&str> {
        self.names.get(handle as usize).map(|name| &**name)
    }

    /// Rows for kinds from `from` on.
    pub(crate) fn rows(&self, from: u32) -> Vec<policy::Kind> {
        (from..self.len())
            .map(|handle| policy::Kind {
                handle,
                name: self.names[handle as usize].to_string(),
                counted: self.counted[handle as usize],
            })
            .collect()
    }

    /// Calls `each` with the kinds of a bundle and their amounts, items counted, kinds with nothing left
    /// out.
    pub(crate) fn each_amount(&mut self, bundle: &Bundle, mut each: impl FnMut(u32, Amount)) {
        let known = [
            bundle.cpus,
            bundle.mem,
            bundle.disk,
            bundle.gpus,
            bundle.ports.amount(),
        ];
        for (handle, amount) in (0_u32..).zip(known) {
            if !amount.is_zero() {
                each(handle, amount);
            }
        }
        for (name, quantity) in &bundle.other {
            let counted = !matches!(quantity, proffer_model::Quantity::Scalar(_));
            each(self.handle(name, counted), quantity.amount());
        }
    }
}

/// Terms by number; 0 is plain.
#[derive(Debug)]
pub(crate) struct TermsTable {
    all: Vec<Terms>,
    by_terms: BTreeMap<Terms, u32>,
}

codec_struct!(TermsTable { all, by_terms });

impl Default for TermsTable {
    fn default() -> Self {
        let plain = Terms::default();
        Self {
            all: vec![plain.clone()],
            by_terms: BTreeMap::from([(plain, policy::TERMS_PLAIN)]),
        }
    }
}

impl TermsTable {
    pub(crate) fn handle(&mut self, terms: &Terms) -> u32 {
        if terms.is_plain() {
            return policy::TERMS_PLAIN;
        }
        if let Some(handle) = self.by_terms.get(terms) {
            return *handle;
        }
        let handle = self.len();
        self.all.push(terms.clone());
        self.by_terms.insert(terms.clone(), handle);
        handle
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.all.len()).unwrap_or(NONE)
    }

    pub(crate) fn get(&self, handle: u32) -> Option<&Terms> {
        self.all.get(handle as usize)
    }
}

/// Roles by number, ancestors included.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    names: Vec<RoleName>,
    weights: Vec<Amount>,
    quotas: Vec<Vec<KindQuota>>,
    by_name: BTreeMap<RoleName, u32>,
}

codec_struct!(Roles {
    names,
    weights,
    quotas,
    by_name
});

impl Roles {
    /// The role's number, new (with its ancestors) if it is.
    pub(crate) fn handle(&mut self, name: &RoleName) -> u32 {
        if let Some(handle) = self.by_name.get(name) {
            return *handle;
        }
        if let Some(parent) = name.parent() {
            self.handle(&parent);
        }
        let handle = self.len();
        self.names.push(name.clone());
        self.weights.push(Amount::ONE);
        self.quotas.push(Vec::new());
        self.by_name.insert(name.clone(), handle);
        handle
    }

    pub(crate) fn set_weight(&mut self, name: &RoleName, weight: Amount) -> u32 {
        let handle = self.handle(name);
        self.weights[handle as usize] = weight;
        handle
    }

    pub(crate) fn weight(&self, name: &RoleName) -> Amount {
        let handle = self.by_name.get(name);
        handle.map_or(Amount::ONE, |handle| self.weights[*handle as usize])
    }

    pub(crate) fn set_quota(&mut self, name: &RoleName, quotas: Vec<KindQuota>) -> u32 {
        let handle = self.handle(name);
        self.quotas[handle as usize] = quotas;
        handle
    }

    pub(crate) fn quota(&self, name: &RoleName) -> &[KindQuota] {
        let handle = self.by_name.get(name);
        handle.map_or(&[], |handle| self.quotas[*handle as usize].as_slice())
    }

    /// Names with a quota.
    pub(crate) fn with_quota(&self) -> impl Iterator<Item = (&RoleName, &[KindQuota])> {
        let rows = self.names.iter().zip(self.quotas.iter().map(Vec::as_slice));
        rows.filter(|(_, quotas)| !quotas.is_empty())
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap_or(NONE)
    }

    /// Without its quota, which names kinds: see [`Handles::role_row`].
    fn row(&self, handle: u32) -> policy::Role {
        let name = &self.names[handle as usize];
        policy::Role {
            handle,
            name: name.to_string(),
            parent: name
                .parent()
                .and_then(|parent| self.by_name.get(&parent).copied())
                .unwrap_or(NONE),
            weight: self.weights[handle as usize],
            delegated: false,
            quotas: Vec::new(),
        }
    }

    /// Names with weights that differ from 1.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (&RoleName, Amount)> {
        self.names
            .iter()
            .zip(self.weights.iter().copied())
            .filter(|(_, weight)| *weight != Amount::ONE)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&RoleName, Amount)> {
        self.names.iter().zip(self.weights.iter().copied())
    }
}

/// All the numbering that the policy sees.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    pub(crate) kinds: Kinds,
    pub(crate) terms: TermsTable,
    pub(crate) roles: Roles,
    clients: BTreeMap<(FrameworkId, RoleName), ClientId>,
    owners: BTreeMap<ClientId, (FrameworkId, RoleName)>,
    clients_given: u32,
}

codec_struct!(Handles {
    kinds,
    terms,
    roles,
    clients,
    owners,
    clients_given
});

impl Handles {
    /// The client's number, new if it is.
    pub(crate) fn client(&mut self, framework: FrameworkId, role: &RoleName) -> ClientId {
        let key = (framework, role.clone());
        if let Some(client) = self.clients.get(&key) {
            return *client;
        }
        let client = ClientId(self.clients_given);
        self.clients_given = self.clients_given.saturating_add(1);
        self.roles.handle(role);
        self.clients.insert(key.clone(), client);
        self.owners.insert(client, key);
        client
    }

    pub(crate) fn find_client(&self, framework: FrameworkId, role: &RoleName) -> Option<ClientId> {
        self.clients.get(&(framework, role.clone())).copied()
    }

    pub(crate) fn owner(&self, client: ClientId) -> Option<&(FrameworkId, RoleName)> {
        self.owners.get(&client)
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = (ClientId, &(FrameworkId, RoleName))> {
        self.owners.iter().map(|(client, key)| (*client, key))
    }

    pub(crate) fn remove_client(&mut self, client: ClientId) {
        if let Some(key) = self.owners.remove(&client) {
            self.clients.remove(&key);
        }
    }

    /// A framework's clients, under roles that it has left too.
    pub(crate) fn clients_of(&self, framework: FrameworkId) -> impl Iterator<Item = ClientId> {
        self.clients
            .range((framework, RoleName::least())..)
            .take_while(move |((owner, _), _)| *owner == framework)
            .map(|(_, client)| *client)
    }

    pub(crate) fn role_row(&mut self, handle: u32) -> policy::Role {
        let mut row = self.roles.row(handle);
        for quota in &self.roles.quotas[handle as usize] {
            row.quotas.push(policy::Quota {
                kind: self.kinds.handle(&quota.kind, false),
                guarantee: quota.guarantee,
                limit: quota.limit,
            });
        }
        row
    }

    /// Resources as pieces with terms.
    pub(crate) fn pieces(&mut self, resources: &Resources) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.each_piece(resources, |piece| pieces.push(piece));
        pieces
    }

    /// Calls `each` with every piece.
    pub(crate) fn each_piece(&mut self, resources: &Resources, mut each: impl FnMut(Piece)) {
        for (terms, bundle) in resources.piles() {
            let terms = self.terms.handle(terms);
            self.kinds.each_amount(bundle, |kind, amount| {
                each(Piece {
                    terms,
                    kind,
                    amount,
                });
            });
        }
    }
}
