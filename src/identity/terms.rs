//! Under what limits and out of which budgets a key calls.

use std::sync::Arc;

use crate::budget::Account;
use crate::limit::ScopePlan;

/// What holds for every request of a key, in the order in which it is asked. Found when the configuration is loaded.
#[derive(Debug, Default)]
pub struct Terms {
    /// Policies of organisation, team and key; those that ask for nothing are left out.
    pub scopes: Vec<Arc<ScopePlan>>,
    /// Budgets, then quotas, of organisation, team or user, and key.
    pub accounts: Vec<Arc<Account>>,
}
