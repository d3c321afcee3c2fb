//! Under what limits and out of which budgets a key calls.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{Team, User};
use crate::budget::{Account, AccountKind, OwnerKind};
use crate::limit::{Course, ScopePlan};

/// What holds for every request of a key, in the order in which it is asked. Found when the configuration is loaded.
#[derive(Debug, Default)]
pub struct Terms {
    /// Policies of organisation, team and key; those that ask for nothing are left out.
    pub scopes: Vec<Arc<ScopePlan>>,
    /// Budgets, then quotas, of organisation, team or user, and key.
    pub accounts: Vec<Arc<Account>>,
    /// The limits of the resource that was asked for last: mostly it is asked for again.
    course: ArcSwapOption<Course>,
}

impl Terms {
    /// What holds for a key: the policies it meets and those of the organisation's accounts that it draws on.
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
        Self { scopes: scopes.into_iter().flatten().collect(), accounts: mine, course: ArcSwapOption::empty() }
    }

    /// All limits that a request meets, from the gateway's own to those of the resource that it asks for.
    pub fn course(&self, global: Option<&Arc<ScopePlan>>, resource: Option<&Arc<ScopePlan>>) -> Arc<Course> {
        if let Some(course) = self.course.load().as_ref().filter(|course| course.is(global, resource)) {
            return Arc::clone(course);
        }
        let course = Arc::new(Course::new(global, &self.scopes, resource));
        self.course.store(Some(Arc::clone(&course)));
        course
    }

    /// Whether these are the same policies and accounts, not only equal ones.
    pub(super) fn is(&self, other: &Self) -> bool {
        fn same<T>(these: &[Arc<T>], those: &[Arc<T>]) -> bool {
            these.len() == those.len() && these.iter().zip(those).all(|(this, that)| Arc::ptr_eq(this, that))
        }
        same(&self.scopes, &other.scopes) && same(&self.accounts, &other.accounts)
    }
}
