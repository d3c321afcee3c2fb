//! Fetches the secrets that references point to.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::SecretRef;
use crate::identity::Secret;

/// The secret; or `None` and a warning, since a check must pass on a machine without the secrets.
pub(super) fn resolve(reference: &SecretRef, path: &str, config: &Config, problems: &mut Problems<'_>) -> Option<Secret> {
    match fetch(reference, config) {
        Ok(secret) => Some(secret),
        Err(Missing::Refused) => {
            let finding = problems.error(path, "a secret is written out in the file");
            finding.help(
                "refer to it with {env: NAME}, {file: PATH} or {credential: NAME}; `allow_inline_secrets: true` accepts it".to_owned(),
            );
            None
        }
        Err(Missing::Absent(why)) => {
            problems.warn(path, why);
            None
        }
    }
}

/// The secret; or `None` and an error.
pub(super) fn require(reference: &SecretRef, path: &str, config: &Config, problems: &mut Problems<'_>) -> Option<Secret> {
    match fetch(reference, config) {
        Err(Missing::Absent(why)) => {
            problems.error(path, why);
            None
        }
        _ => resolve(reference, path, config, problems),
    }
}

enum Missing {
    Refused,
    Absent(String),
}

fn fetch(reference: &SecretRef, config: &Config) -> Result<Secret, Missing> {
    match reference {
        SecretRef::Inline(secret) if config.root.allow_inline_secrets => Ok(secret.clone()),
        SecretRef::Inline(_) => Err(Missing::Refused),
        SecretRef::Env(name) => {
            let value = config.environment.get(name);
            value.map(|v| Secret::new(v.to_owned())).ok_or_else(|| Missing::Absent(format!("the variable `{name}` is not set")))
        }
        SecretRef::File(path) => from_file(PathBuf::from(path)),
        SecretRef::Credential(name) => {
            if name.contains('/') || name == ".." {
                return Err(Missing::Absent("the name of a credential has no `/`".to_owned()));
            }
            match config.environment.get("CREDENTIALS_DIRECTORY") {
                Some(directory) => from_file(PathBuf::from(directory).join(name)),
                None => Err(Missing::Absent(format!(
                    "credential `{name}`: $CREDENTIALS_DIRECTORY is not set; systemd sets it with LoadCredential="
                ))),
            }
        }
    }
}

/// The content of a file without its final line break.
fn from_file(path: PathBuf) -> Result<Secret, Missing> {
    let shown = path.display();
    let mut text = std::fs::read_to_string(&path).map_err(|e| Missing::Absent(format!("{shown} cannot be read: {e}")))?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    if text.is_empty() { Err(Missing::Absent(format!("{shown} is empty"))) } else { Ok(Secret::new(text)) }
}
