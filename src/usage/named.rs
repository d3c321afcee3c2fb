//! Filters as people write them: by id, or by the name that an id ends with.

use crate::store::records::{RecordError, UsageBy, UsageFilter, UsageRecords};

/// How many of the known are told.
const TOLD: usize = 8;

/// A filter that no record agrees with, whatever its time.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The filter's name.
    pub filter: &'static str,
    /// What it asks for.
    pub value: String,
    /// What there are records of, those that may be meant alone if there are any; the dearest first.
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

/// Puts the id in place of the name that it ends with, `acme/app` for `app`, where no record has what is asked for and one
/// id alone is meant. Says what no record has.
///
/// # Errors
/// When the store does not answer.
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
