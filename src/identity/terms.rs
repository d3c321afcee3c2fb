//! The limits, budgets and quotas that apply to a key.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Team, User};
use crate::budget::{Account, AccountKind, OwnerKind};
use crate::limit::{Course, ScopePlan};

/// The policies and accounts of a key, in the order in which they are asked. Collected when the configuration is loaded.
#[derive(Debug, Default)]
pub struct Terms {
    /// The policies of organisation, team and key that limit anything.
    pub scopes: Vec<Arc<ScopePlan>>,
    /// The budgets, then the quotas, of organisation, team or user, and key.
    pub accounts: Vec<Arc<Account>>,
    /// A cache of the limits that apply with each recently used resource.
    courses: ArcSwap<Vec<Arc<Course>>>,
}

/// How many courses are cached.
const REMEMBERED: usize = 16;

impl Terms {
    /// The terms of a key: its policies, and those of the organisation's accounts that it draws on.
    pub fn of(
        accounts: &[Arc<Account>],
        scopes: impl IntoIterator<Item = Option<Arc<ScopePlan>>>,
        key: &str,
        (team, user): (Option<&Team>, Option<&User>),
    ) -> Self {
        let draws = |account: &&Arc<Account>| match account.owner {
            OwnerKind::Org => true,
            OwnerKind::Team => team.is_some_and(|team| team.id == account.owner_id),
            OwnerKind::User => user.is_some_and(|user| user.id == account.owner_id),
            OwnerKind::ApiKey => *account.owner_id == *key,
        };
        let mut mine: Vec<_> = accounts.iter().filter(draws).cloned().collect();
        mine.sort_by_key(|account| (account.kind == AccountKind::Quota, account.owner));
        Self { scopes: scopes.into_iter().flatten().collect(), accounts: mine, courses: ArcSwap::default() }
    }

    /// All limits that apply to a request, from the gateway-wide ones to those of the resource, collected or from the cache.
    pub fn course(&self, global: Option<&Arc<ScopePlan>>, resource: Option<&Arc<ScopePlan>>) -> Arc<Course> {
        let known = self.courses.load();
        if let Some(course) = known.iter().find(|course| course.is(global, resource)) {
            return Arc::clone(course);
        }
        let course = Arc::new(Course::new(global, &self.scopes, resource));
        // A course that another thread adds at the same time may be lost; it is collected again then. The oldest is evicted first.
        let kept = known.iter().skip((known.len() + 1).saturating_sub(REMEMBERED));
        self.courses.store(Arc::new(kept.chain([&course]).cloned().collect()));
        course
    }

    /// Whether both consist of the very same policies and accounts (the same objects, not equal ones).
    pub(super) fn is(&self, other: &Self) -> bool {
        fn same<T>(these: &[Arc<T>], those: &[Arc<T>]) -> bool {
            these.len() == those.len() && these.iter().zip(those).all(|(this, that)| Arc::ptr_eq(this, that))
        }
        same(&self.scopes, &other.scopes) && same(&self.accounts, &other.accounts)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limit::Scope;

    #[test]
    fn the_way_to_a_resource_is_found_once_and_the_oldest_is_forgotten() {
        let plan = |n: usize| {
            let policy = serde_yaml::from_str("ratelimit: {requests: {per_minute: 9}}").unwrap();
            Arc::new(ScopePlan::new(Scope::Model, "acme", &n.to_string(), &policy).unwrap())
        };
        let (terms, models) = (Terms::default(), (0..=REMEMBERED).map(plan).collect::<Vec<_>>());
        let first = terms.course(None, Some(&models[0]));
        for model in &models[..REMEMBERED] {
            terms.course(None, Some(model));
        }
        assert!(Arc::ptr_eq(&first, &terms.course(None, Some(&models[0]))));
        let second = terms.course(None, Some(&models[1]));
        terms.course(None, Some(&models[REMEMBERED]));
        assert!(Arc::ptr_eq(&second, &terms.course(None, Some(&models[1]))));
        assert!(!Arc::ptr_eq(&first, &terms.course(None, Some(&models[0]))), "of more there is no end");
        assert!(!Arc::ptr_eq(&second, &terms.course(Some(&models[0]), Some(&models[1]))), "another configuration's policy");
    }
}
