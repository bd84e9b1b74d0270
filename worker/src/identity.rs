//! Who this worker is: its name, which stays with its data folder, and what it tells the scheduler of itself.

use std::{net::SocketAddr, path::Path};

use anyhow::Context;
use dunlin_process::data::write_private;
use dunlin_proto::{
    PROTOCOL_VERSION,
    ids::WorkerId,
    internal::v1::{Endpoint, WorkerHello},
};
use uuid::Uuid;

use crate::Config;

/// The configured name, or the one that this data folder was given at its first use.
///
/// # Errors
/// The name is not valid, or can't be kept.
pub(crate) fn name(configured: &str, data: &Path) -> anyhow::Result<WorkerId> {
    if !configured.is_empty() {
        return Ok(configured.parse()?);
    }
    let file = data.join("name");
    if let Some(name) = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(name);
    }
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = new_name(&machine, Uuid::new_v4());
    write_private(&file, name.as_bytes()).with_context(|| format!("keep the worker's name in {}", file.display()))?;
    Ok(name.parse()?)
}

/// A name that tells the machine, and is unlike that of another worker on it.
fn new_name(machine: &str, random: Uuid) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let lower = machine.trim().to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c| !allowed(c)).filter(|word| !word.is_empty()).collect();
    let slug: String = words.join("-").trim_start_matches(|c: char| !c.is_ascii_lowercase()).chars().take(40).collect();
    let slug = slug.trim_end_matches('-');
    let number: String = random.simple().to_string().chars().take(6).collect();
    format!("{}-{number}", if slug.is_empty() { "worker" } else { slug })
}

/// The id of a worker's one endpoint.
pub(crate) fn endpoint(name: &WorkerId) -> String {
    format!("{name}/1")
}

/// What the scheduler learns when the worker's stream opens.
pub(crate) fn hello(name: &WorkerId, address: SocketAddr, config: &Config, fingerprint: &str) -> WorkerHello {
    WorkerHello {
        worker: name.to_string(),
        protocol_version: PROTOCOL_VERSION,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        endpoints: vec![Endpoint {
            id: endpoint(name),
            address: address.to_string(),
            engine_class: if config.wasi03 { "wasi0.3" } else { "wasi0.2" }.to_owned(),
            fingerprint: fingerprint.to_owned(),
            capacity: config.capacity,
        }],
        incarnation: Uuid::now_v7().to_string(),
        zone: config.zone.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_machine_gives_a_valid_name() {
        for machine in ["node-1", "Web_01.example.com", "", "42", "---", "ÄÖÜ", &"x".repeat(200), "a-"] {
            let name = new_name(machine, Uuid::new_v4());
            assert!(name.parse::<WorkerId>().is_ok(), "{machine:?} gave {name:?}");
        }
    }

    #[test]
    fn a_name_stays_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = name("", folder.path()).unwrap();
        assert_eq!(name("", folder.path()).unwrap(), first);
        assert_eq!(name("chosen", folder.path()).unwrap().as_str(), "chosen");
        assert!(name("Not Valid", folder.path()).is_err());
    }
}
