//! The cluster's own certificate authority: its key is an encrypted file that only the scheduler reads, and everybody
//! trusts the certificates that it issues. They live for a day at most and name a role and a process.
//!
//! Who may have one is not decided here (`members.rs`).

use std::time::Duration;

use anyhow::{Context, ensure};
use dunlin_process::{data::write_private, shutdown::Shutdown};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Digest,
    trust::{Identity, Member, Role},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer, pem::PemObject};
use time::OffsetDateTime;

use crate::{keyring::Keyring, model::Time};

/// How long the authority itself is good.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How much clocks may differ at the most; a tenth of a short life.
const SKEW: Duration = Duration::from_secs(300);

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    lifetime: Duration,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// A certificate that has been issued.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    /// SHA-256 of the public key.
    pub(crate) key: Digest,
}

impl Authority {
    /// Reads the authority from `keys/authority.pk8` and `keys/authority.pem`, or makes it. Its certificates live for
    /// `lifetime`.
    pub(crate) fn open(keys: &Keyring, lifetime: Duration) -> anyhow::Result<Self> {
        let pkcs8 = keys.key("authority.pk8")?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519);
        let key = key.context("read the key of the cluster's authority")?;
        let file = keys.file("authority.pem");
        let certificate = if file.exists() {
            CertificateDer::from_pem_file(&file).with_context(|| format!("read certificate {}", file.display()))?
        } else {
            let made = own(&key, Time::now()).context("make the certificate of the cluster's authority")?;
            write_private(&file, made.pem().as_bytes()).with_context(|| format!("write {}", file.display()))?;
            made.der().clone()
        };
        ensure!(
            is_of(&certificate, &key),
            "{} is not the certificate of the key beside it; put both back together",
            file.display()
        );
        let issuer = Issuer::from_ca_cert_der(&certificate, key).context("read the authority's certificate")?;
        Ok(Self { issuer, certificate, lifetime })
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate.
    pub(crate) fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A certificate for the key of a signing request (PKCS #10, DER), whose signature proves that the key is there. Nothing
    /// else of the request counts.
    ///
    /// # Errors
    /// It is no such request.
    pub(crate) fn issue(&self, identity: &Identity, request: &[u8], now: Time) -> Result<Issued, ApiError> {
        let wrong = |what: &str| ApiError::invalid("signing_request", what);
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request);
        let request = request.map_err(|_| wrong("signing_request must be a PKCS #10 request, signed by its key"))?;
        if *request.public_key.algorithm() != PKCS_ED25519 {
            return Err(wrong("signing_request must be for an Ed25519 key"));
        }
        self.certify(identity, &request.public_key, now).map_err(|error| {
            tracing::error!(%error, %identity, "a certificate can't be issued");
            ApiError::new(ErrorCode::Internal, "the certificate can't be issued; the scheduler's log says why")
        })
    }

    fn certify(&self, identity: &Identity, key: &impl PublicKeyData, now: Time) -> Result<Issued, rcgen::Error> {
        let from = Time(now.0 - Time(0).after(SKEW.min(self.lifetime / 10)).0);
        let mut params = params(&identity.id, from, self.lifetime);
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(key, &self.issuer)?.der().clone();
        Ok(Issued { certificate, key: Digest::of(&key.subject_public_key_info()) })
    }

    /// The scheduler itself as a member, with a key of this process alone.
    ///
    /// # Errors
    /// The name is none, or there is no key.
    pub(crate) fn member(&self, name: &str) -> anyhow::Result<Member> {
        let identity = Identity::new(Role::Scheduler, name).map_err(anyhow::Error::msg).context("--name")?;
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let issued = self.certify(&identity, &key, Time::now())?;
        let key = PrivatePkcs8KeyDer::from(key.serialized_der());
        Ok(Member::new(&key, issued.certificate, self.certificate.clone())?)
    }

    /// Renews the scheduler's own certificate at half its life, until the shutdown begins.
    pub(crate) async fn keep_fresh(&self, member: &Member, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.lifetime / 2) => {}
                () = shutdown.begun() => return,
            }
            if let Err(error) = self.renew(member) {
                tracing::error!(cause = format!("{error:#}"), "the scheduler's certificate can't be renewed");
            }
        }
    }

    fn renew(&self, member: &Member) -> anyhow::Result<()> {
        let request = member.signing_request()?;
        Ok(member.replace(self.issue(member.identity(), &request, Time::now())?.certificate)?)
    }
}

fn params(name: &str, from: Time, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (moment(from), moment(from.after(life)));
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
    params
}

fn moment(time: Time) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The authority's own certificate. Its name tells it from those of other clusters.
fn own(key: &KeyPair, now: Time) -> Result<rcgen::Certificate, rcgen::Error> {
    let mark: String = Digest::of(&key.subject_public_key_info()).hex().chars().take(16).collect();
    let from = Time(now.0 - Time(0).after(SKEW).0);
    let mut params = params(&format!("Dunlin authority {mark}"), from, AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key)
}

/// Whether a certificate is of a key.
fn is_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let raw = key.subject_public_key_info();
    certificate.windows(raw.len()).any(|part| part == raw)
}

#[cfg(test)]
mod tests;
