//! Usage filters as people write them: an id, or the name that an id ends with.

use crate::store::records::{RecordError, UsageBy, UsageFilter, UsageRecords};

/// How many known values a message lists.
const TOLD: usize = 8;

/// A filter value that no record has, at any time.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The name of the filter.
    pub filter: &'static str,
    /// The value that was asked for.
    pub value: String,
    /// Values that records do have: those that may have been meant, or else all; the most expensive first.
    pub known: Vec<String>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no usage record has the {} `{}`", self.filter, self.value)?;
        match self.known.as_slice() {
            [] => Ok(()),
            known => write!(f, "; there are records of {}", known.join(", ")),
        }
    }
}

/// Replaces a name by the id that ends with it (`acme/app` for `app`), if no record has the value itself and exactly one id
/// matches. Returns the values that no record has.
///
/// # Errors
/// The store did not answer.
pub async fn named(records: &dyn UsageRecords, filter: &mut UsageFilter) -> Result<Vec<Unknown>, RecordError> {
    let mut unknown = Vec::new();
    let asked = [
        ("organisation", UsageBy::Organisation, &mut filter.organisation),
        ("key", UsageBy::Key, &mut filter.key),
        ("team", UsageBy::Team, &mut filter.team),
        ("user", UsageBy::User, &mut filter.user),
        ("provider", UsageBy::Provider, &mut filter.provider),
        ("model", UsageBy::Model, &mut filter.model),
        ("plugin", UsageBy::Plugin, &mut filter.plugin),
    ];
    for (name, by, asked) in asked {
        let Some(value) = asked else { continue };
        let sums = records.sum_usage(&UsageFilter::default(), by).await?;
        let mut known: Vec<String> = sums.into_iter().filter_map(|sum| sum.group).collect();
        if known.contains(value) {
            continue;
        }
        let ends = |id: &String| id.strip_suffix(value.as_str()).is_some_and(|before| before.ends_with('/'));
        let mut meant: Vec<String> = known.iter().filter(|id| ends(id)).cloned().collect();
        match (meant.pop(), meant.is_empty()) {
            (Some(one), true) => *asked = Some(one),
            (last, _) => {
                meant.extend(last);
                if !meant.is_empty() {
                    known = meant;
                }
                known.truncate(TOLD);
                unknown.push(Unknown { filter: name, value: value.clone(), known });
            }
        }
    }
    Ok(unknown)
}
