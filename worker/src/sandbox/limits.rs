//! What a guest may use and reach: the kind of artifact, the limits of one invocation, the policy of one version and
//! the configuration of the whole runtime. Plain values; whoever enforces them is named beside each.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use dunlin_proto::outbound::AllowedHosts;

use super::engine::CpuBaseline;

/// One mebibyte, in bytes.
const MIB: u64 = 1 << 20;

/// Configuration of the one [`Runtime`](super::Runtime) of a process.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Sandboxes that may exist at once, busy and prepared together; fixes the size of the instance pool.
    pub max_sandboxes: u32,
    /// Threads for guests that compute for longer than it takes to hand them over.
    pub threads: usize,
    /// The largest linear memory that any version may ask for, in bytes: the size of a pool slot. Address space only.
    pub max_memory_bytes: u64,
    /// Offers WASI 0.3 (`wasi:http/handler@0.3`), by a second engine that only code which needs it runs on.
    /// Part of the fingerprint: code must have been compiled with the same setting.
    pub wasi03: bool,
    /// The CPU that code was compiled for.
    pub cpu: CpuBaseline,
    /// Bytes of each linear memory that stay mapped between guests (zeroed, or reset to the initial image), as long as all
    /// warm slots together hold no more than a quarter of the machine's memory. Only what guests have touched is held. More
    /// than a guest touches saves its next instance every page fault; what is above is given back and faulted in again.
    pub memory_keep_resident_bytes: usize,
    /// The same for each table.
    pub table_keep_resident_bytes: usize,
    /// The same for each fiber stack.
    pub stack_keep_resident_bytes: usize,
    /// Slots that stay assigned to the code which used them last, so that its next instance needs no new mapping.
    pub max_unused_warm_slots: u32,
    /// How outbound HTTP leaves this process.
    pub egress: EgressConfig,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            max_sandboxes: 1000,
            threads: 1,
            max_memory_bytes: 1024 * MIB,
            wasi03: true,
            cpu: CpuBaseline::default(),
            memory_keep_resident_bytes: 32 << 20,
            table_keep_resident_bytes: 256 << 10,
            stack_keep_resident_bytes: 64 << 10,
            max_unused_warm_slots: 200,
            egress: EgressConfig::default(),
        }
    }
}

/// How guests' outbound HTTP requests are resolved and connected. Belongs to the operator, never to a tenant.
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// Networks that are not public but that guests may reach all the same (if their version allows the host).
    pub allow_private: Vec<ipnet::IpNet>,
    /// DNS servers to ask; empty means those of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// PEM certificates that are trusted besides the system's roots.
    pub extra_roots_pem: Vec<u8>,
    /// Most time that resolving one name may take.
    pub dns_timeout: Duration,
    /// Most time for one TCP connection and its TLS handshake.
    pub connect_timeout: Duration,
    /// Most time until the first byte of the response.
    pub first_byte_timeout: Duration,
    /// Most time between two frames of the response body.
    pub between_bytes_timeout: Duration,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            dns_servers: Vec::new(),
            extra_roots_pem: Vec::new(),
            dns_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(30),
            between_bytes_timeout: Duration::from_secs(30),
        }
    }
}

/// What an artifact is and how it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuestKind {
    /// A component that exports `wasi:http/incoming-handler@0.2.x`.
    Http02,
    /// A component that exports `wasi:http/handler@0.3.x`.
    Http03,
    /// A component that exports `wasi:cli/run@0.2.x` (or a preview 1 module that became one): CGI, RFC 3875.
    Command,
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http02 => "http-0.2",
            Self::Http03 => "http-0.3",
            Self::Command => "command",
        })
    }
}

/// A word that names no [`GuestKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown guest kind {0:?}, expected http-0.2, http-0.3 or command")]
pub struct UnknownGuestKind(pub String);

impl FromStr for GuestKind {
    type Err = UnknownGuestKind;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "http-0.2" => Ok(Self::Http02),
            "http-0.3" => Ok(Self::Http03),
            "command" => Ok(Self::Command),
            other => Err(UnknownGuestKind(other.to_owned())),
        }
    }
}

/// What one version was granted.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The limits of each invocation.
    pub limits: Limits,
    /// The only environment variables that the guest sees (besides the CGI ones of a command).
    pub environment: Vec<(String, String)>,
    /// Where the guest may send HTTP requests.
    pub allowed_outbound_hosts: AllowedHosts,
}

/// What one invocation may use. Every field has a failure that names it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sum of all linear memories of the sandbox, in bytes.
    pub memory_bytes: u64,
    /// CPU time of guest code, measured on the thread's own clock.
    pub cpu: Duration,
    /// Wall-clock time; the call's own deadline may be earlier.
    pub wall: Duration,
    /// Most bytes of a request body.
    pub request_body_bytes: u64,
    /// Most bytes of a response body.
    pub response_body_bytes: u64,
    /// Most bytes of all response headers or trailers together, names and values.
    pub response_header_bytes: usize,
    /// Most frames of a response body, empty ones included.
    pub response_frames: u64,
    /// Most bytes of stdout and stderr that are kept; the rest is counted and dropped.
    pub log_bytes: u64,
    /// Longest log line in bytes; the rest of the line is cut off.
    pub max_log_line: usize,
    /// Most elements of all tables of the sandbox together.
    pub table_elements: usize,
    /// Most resources (handles) that the guest may hold at once.
    pub handles: usize,
    /// Most outbound requests of one invocation.
    pub outbound_total: u32,
    /// Most outbound requests that are under way at once.
    pub outbound_concurrent: u32,
    /// Most bytes of the body of one outbound response.
    pub outbound_response_bytes: u64,
    /// Most bytes that one call may copy from the guest into the host.
    pub hostcall_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 * MIB,
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            request_body_bytes: 6 * MIB,
            response_body_bytes: 6 * MIB,
            response_header_bytes: 128 << 10,
            response_frames: 1_000_000,
            log_bytes: 64 << 10,
            max_log_line: 16 << 10,
            table_elements: 20_000,
            handles: 10_000,
            outbound_total: 50,
            outbound_concurrent: 6,
            outbound_response_bytes: 64 * MIB,
            hostcall_bytes: 8 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_being_written_and_read() {
        for kind in [GuestKind::Http02, GuestKind::Http03, GuestKind::Command] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("http".parse::<GuestKind>().is_err());
    }
}
