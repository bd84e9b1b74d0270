//! The migrations of the schema, as the program carries them. Not what they do: that is SQL, in `migrations/`, a file each.
//!
//! They are listed here rather than by the macro of the database library, which compiles the whole library, with both
//! databases, a second time for the compiler.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Names and texts of the listed files.
macro_rules! files {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../../migrations/", $name, ".sql")))),*]
    };
}

/// Every file, as `NUMBER_what_it_adds`. A number that is missing has no file.
const FILES: &[(&str, &str)] = files![
    "0001_initial",
    "0002_concurrency",
    "0003_members",
    "0004_reuse",
    "0005_routes",
    "0007_aliases",
    "0008_limits",
    "0010_plans",
    "0011_releases",
    "0013_certificates",
    "0014_key_rotation",
    "0015_changes",
    "0017_audit",
    "0018_rollouts",
    "0019_usage",
    "0020_domain_claims",
    "0021_app_rollouts",
    "0023_webhooks",
    "0024_idempotency",
    "0025_retention",
    "0026_quotas",
    "0027_rollout_routes",
    "0029_version_policy",
    "0031_kept_policy",
];

/// All of them, in their order.
pub(super) fn all() -> Migrator {
    Migrator::with_migrations(FILES.iter().filter_map(|(name, sql)| migration(name, sql)).collect())
}

/// One file; nothing where its name does not begin with a number.
fn migration(name: &str, sql: &'static str) -> Option<Migration> {
    let (number, adds) = name.split_once('_')?;
    Some(Migration::new(
        number.parse().ok()?,
        adds.replace('_', " ").into(),
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FILES, all};

    #[test]
    fn every_file_is_applied_in_the_order_of_the_numbers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(FILES.iter().map(|(name, _)| format!("{name}.sql")).collect::<Vec<_>>(), names);
        let applied: Vec<_> = all()
            .iter()
            .map(|migration| format!("{:04}_{}.sql", migration.version, migration.description.replace(' ', "_")))
            .collect();
        assert_eq!(applied, names);
    }
}
