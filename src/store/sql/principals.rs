//! Organisations, teams, users, models.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::SqlRecords;
use super::row::Row;
use super::statement::Statement;
use crate::store::records::{MemberRow, ModelRow, OrganisationRow, Principals, RecordError};

fn to_text(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned())
}

fn from_text(text: &str) -> Result<BTreeMap<String, String>, RecordError> {
    serde_json::from_str(text).map_err(|_| RecordError::Refused("metadata are not what was written".into()))
}

fn member(row: &mut Row) -> Result<MemberRow, RecordError> {
    Ok(MemberRow { organisation: row.text()?, id: row.text()?, name: row.text()?, metadata: from_text(&row.text()?)? })
}

impl SqlRecords {
    async fn put_member(&self, text: &'static str, row: &MemberRow) -> Result<(), RecordError> {
        let statement = Statement::fixed(text).value(&row.organisation).value(&row.id).value(&row.name).value(to_text(&row.metadata));
        self.within(self.engine.execute(statement)).await.map(|_| ())
    }

    async fn members(&self, text: &'static str, organisation: &str) -> Result<Vec<MemberRow>, RecordError> {
        let mut rows = self.within(self.engine.fetch(Statement::fixed(text).value(organisation))).await?;
        rows.iter_mut().map(member).collect()
    }
}

#[async_trait]
impl Principals for SqlRecords {
    async fn put_organisation(&self, row: &OrganisationRow) -> Result<(), RecordError> {
        let statement = Statement::fixed(
            "INSERT INTO organisations (id, name, metadata) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, metadata = excluded.metadata",
        );
        let statement = statement.value(&row.id).value(&row.name).value(to_text(&row.metadata));
        self.within(self.engine.execute(statement)).await.map(|_| ())
    }

    async fn put_team(&self, row: &MemberRow) -> Result<(), RecordError> {
        let text = "INSERT INTO teams (organisation, id, name, metadata) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (organisation, id) DO UPDATE SET name = excluded.name, metadata = excluded.metadata";
        self.put_member(text, row).await
    }

    async fn put_user(&self, row: &MemberRow) -> Result<(), RecordError> {
        let text = "INSERT INTO users (organisation, id, name, metadata) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (organisation, id) DO UPDATE SET name = excluded.name, metadata = excluded.metadata";
        self.put_member(text, row).await
    }

    async fn put_model(&self, row: &ModelRow) -> Result<(), RecordError> {
        let statement = Statement::fixed(
            "INSERT INTO models (organisation, name, slug, provider, document) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (organisation, name) DO UPDATE \
             SET slug = excluded.slug, provider = excluded.provider, document = excluded.document",
        );
        let statement = statement.value(&row.organisation).value(&row.name).value(&row.slug).value(&row.provider).value(&row.document);
        self.within(self.engine.execute(statement)).await.map(|_| ())
    }

    async fn organisations(&self) -> Result<Vec<OrganisationRow>, RecordError> {
        let statement = Statement::fixed("SELECT id, name, metadata FROM organisations ORDER BY name");
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        let read = |row: &mut Row| Ok(OrganisationRow { id: row.text()?, name: row.text()?, metadata: from_text(&row.text()?)? });
        rows.iter_mut().map(read).collect()
    }

    async fn teams(&self, organisation: &str) -> Result<Vec<MemberRow>, RecordError> {
        self.members("SELECT organisation, id, name, metadata FROM teams WHERE organisation = $1 ORDER BY name", organisation).await
    }

    async fn users(&self, organisation: &str) -> Result<Vec<MemberRow>, RecordError> {
        self.members("SELECT organisation, id, name, metadata FROM users WHERE organisation = $1 ORDER BY name", organisation).await
    }

    async fn models(&self, organisation: &str) -> Result<Vec<ModelRow>, RecordError> {
        let text = "SELECT organisation, name, slug, provider, document FROM models WHERE organisation = $1 ORDER BY name";
        let mut rows = self.within(self.engine.fetch(Statement::fixed(text).value(organisation))).await?;
        let read = |row: &mut Row| {
            Ok(ModelRow { organisation: row.text()?, name: row.text()?, slug: row.text()?, provider: row.text()?, document: row.text()? })
        };
        rows.iter_mut().map(read).collect()
    }
}
