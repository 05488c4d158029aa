//! Which accounts must have two-factor authentication.

use crate::ids::UserId;

/// `security.two_factor_required` and the administrators.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FactorPolicy {
    /// Users who administer the server.
    pub admins: Vec<UserId>,
    /// Whether administrators need a second factor.
    pub of_admins: bool,
    /// Whether everybody else does.
    pub of_members: bool,
}

impl FactorPolicy {
    /// Whether this account must have a second factor.
    #[must_use]
    pub fn requires(&self, user: UserId) -> bool {
        if self.admins.contains(&user) { self.of_admins } else { self.of_members }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_its_own_rule() {
        let (admin, member) = (UserId(1), UserId(2));
        for (of_admins, of_members) in [(false, false), (true, false), (false, true), (true, true)] {
            let policy = FactorPolicy { admins: vec![admin], of_admins, of_members };
            assert_eq!((policy.requires(admin), policy.requires(member)), (of_admins, of_members));
        }
    }
}
