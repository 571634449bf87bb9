//! A domain: the roles within whose subtrees a policy decides, when not one decides for all.

use std::fmt;

use proffer_codec::codec_struct;
use proffer_model::RoleName;

/// Roles, each with all below it. None of them is below another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Domain {
    roles: Vec<RoleName>,
}

codec_struct!(Domain { roles });

impl Domain {
    /// Of these roles, in order; what is below another of them is left out.
    pub(crate) fn of(mut roles: Vec<RoleName>) -> Self {
        roles.sort_unstable();
        roles.dedup();
        let all = roles.clone();
        roles.retain(|role| !all.iter().any(|other| role.is_strictly_below(other)));
        Self { roles }
    }

    pub(crate) fn roles(&self) -> &[RoleName] {
        &self.roles
    }

    /// Whether the role is one of them, or below one.
    pub(crate) fn holds(&self, role: &RoleName) -> bool {
        let holds = |own: &RoleName| own == role || role.is_strictly_below(own);
        self.roles.iter().any(holds)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.roles.iter().map(RoleName::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_roles_with_all_below_them() {
        let role = |name: &str| RoleName::new(name).unwrap();
        let domain = Domain::of(["ops", "eng/web", "eng", "ops"].map(role).to_vec());
        assert_eq!(domain.to_string(), "eng, ops");
        for (name, holds) in [
            ("eng", true),
            ("eng/web/blog", true),
            ("ops/x", true),
            ("engine", false),
            ("*", false),
        ] {
            assert_eq!(domain.holds(&role(name)), holds, "{name}");
        }
    }
}
