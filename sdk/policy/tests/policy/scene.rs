//! Random pools.

use proffer_model::RevocableUse;
use proffer_model::policy::{TERMS_PLAIN, TermsMarks};
use proffer_policy::{Policy, Random};

use crate::case::Case;

/// How rich a random pool is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// What the oracle understands: plain resources, masks, filters, whole agents or units.
    Plain,
    /// Reservations, revocable resources, gangs, preferred places, bounds per agent, kept room.
    Rich,
}

const ROLES: [&str; 6] = ["eng", "eng/a", "eng/b", "eng/b/c", "ops", "*"];

impl Scene {
    /// Describes a random pool to the case, as changes not yet fed.
    pub(crate) fn describe<P: Policy>(self, case: &mut Case<P>, random: &mut Random) {
        for role in ROLES {
            case.role(role, 1 + i64::from(random.below(3)));
        }
        let agents = 1 + random.below(6);
        for index in 0..agents {
            let resources = format!(
                "cpus:{};mem:{}",
                1 + random.below(12),
                256 * (1 + random.below(12))
            );
            case.agent_with(&format!("agent{index}"), &resources, |agent| {
                agent.active = random.below(8) > 0;
            });
        }
        if self == Self::Rich {
            self.reserve(case, random, agents);
        }
        for mask in [1, 2] {
            let admitted: Vec<u32> = (0..agents).filter(|_| random.below(3) > 0).collect();
            case.mask(mask, &admitted);
        }
        let clients = 1 + random.below(6);
        for index in 0..clients {
            let role = ROLES[random.below(6) as usize];
            let client = case.client_with(role, &format!("client{index}"), |client| {
                client.marks.active = random.below(10) > 0;
                client.marks.suppressed = random.below(10) == 0;
                client.marks.revocable = random.below(2) == 0;
                client.marks.refined = random.below(2) == 0;
                client.mask = [0, 0, 0, 1][random.below(4) as usize];
            });
            for key in 0..random.below(3) {
                self.demand(case, random, (client, &format!("{index}.{key}")), agents);
            }
            for agent in 0..agents {
                if random.below(4) == 0 {
                    let refused = format!("cpus:{};mem:{}", random.below(9), 256 * random.below(9));
                    case.refuse(client, agent, TERMS_PLAIN, &refused);
                }
                if random.below(4) == 0 {
                    self.use_some(case, random, agent, client);
                }
            }
        }
    }

    fn demand<P: Policy>(
        self,
        case: &mut Case<P>,
        random: &mut Random,
        (client, key): (u32, &str),
        agents: u32,
    ) {
        let shape = match random.below(8) {
            0 => String::new(),
            1 => format!("mem:{}", 128 * (1 + random.below(4))),
            _ => format!(
                "cpus:{};mem:{}",
                1 + random.below(3),
                128 * (1 + random.below(4))
            ),
        };
        let now = case.now;
        case.demand_with(client, key, &shape, random.below(30), |demand| {
            demand.priority = random.below(2) as i32;
            demand.mask = [0, 0, 2][random.below(3) as usize];
            if self == Self::Rich {
                demand.gang = [0, 0, 2, 5][random.below(4) as usize];
                demand.per_agent = [0, 0, 1, 3][random.below(4) as usize];
                demand.revocable = [RevocableUse::Never, RevocableUse::Also, RevocableUse::Only]
                    [random.below(3) as usize];
                if random.below(4) == 0 {
                    demand.near = vec![(random.below(agents), 2)];
                    demand.near_until.0 = now + u64::from(random.below(2)) * 1_000_000;
                }
            }
        });
    }

    fn reserve<P: Policy>(self, case: &mut Case<P>, random: &mut Random, agents: u32) {
        let terms = [
            case.terms(&["eng"], TermsMarks::default()),
            case.terms(&["eng", "eng/b"], TermsMarks::default()),
            case.terms(
                &[],
                TermsMarks {
                    revocable: true,
                    ..TermsMarks::default()
                },
            ),
        ];
        for agent in 0..agents {
            for terms in terms {
                if random.below(2) == 0 {
                    case.more(agent, terms, &format!("cpus:{}", 1 + random.below(6)));
                }
            }
        }
    }

    fn use_some<P: Policy>(self, case: &mut Case<P>, random: &mut Random, agent: u32, client: u32) {
        for kind in [0, 1] {
            let free = case.free(agent, client, TERMS_PLAIN, kind) / 1_000;
            let part = |random: &mut Random| {
                i64::from(random.below(u32::try_from(free / 3 + 1).unwrap())) * 1_000
            };
            let (offered, used) = (part(random), part(random));
            let kept = match self {
                Self::Plain => 0,
                Self::Rich => part(random),
            };
            case.hold(agent, client, TERMS_PLAIN, kind, (offered, used, kept));
        }
    }
}
