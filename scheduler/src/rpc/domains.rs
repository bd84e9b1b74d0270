//! `DomainService`.

use dunlin_proto::{
    ids::DomainName,
    metadata,
    names::{DomainRef, NamespaceRef},
    v1::{self, domain_service_server::DomainService},
};
use tonic::{Request, Response, Status};

use super::{Desk, convert, functions::beyond, name, page};
use crate::{
    claims::LIFE,
    model::{ClaimRecord, DomainTls, Held, ProofKind, Time},
};

#[tonic::async_trait]
impl DomainService for Desk {
    async fn create_domain(
        &self,
        request: Request<v1::CreateDomainRequest>,
    ) -> Result<Response<v1::CreateDomainResponse>, Status> {
        let (creator, store) = (metadata::actor(&request), self.store(&request)?);
        let request = request.into_inner();
        let (wanted, app) = (claim(&request, creator)?, self.app()?);
        let held = if request.vouch || !app.claims.prover.is_on() {
            let given = wanted.given(ProofKind::Vouched, wanted.create_time);
            store.domain_create(&given).await?;
            Held::Owned(given)
        } else {
            store.domain_claim(&wanted).await?
        };
        let owned = matches!(held, Held::Owned(_));
        if owned {
            app.config_changed().await;
        }
        // Others that ask for it find out as well.
        app.claims.hint();
        tracing::info!(namespace = %wanted.name.namespace, domain = %wanted.name.domain, owned, actor = wanted.creator, "a domain has been asked for");
        let domain = convert::domain(&held, None, &app.claims.prover);
        Ok(Response::new(v1::CreateDomainResponse { domain: Some(domain) }))
    }

    async fn list_domains(
        &self,
        request: Request<v1::ListDomainsRequest>,
    ) -> Result<Response<v1::ListDomainsResponse>, Status> {
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let (size, list) = (page::size(request.page_size)?, format!("domains/{namespace}"));
        let after: String = page::read(&list, &request.page_token)?.unwrap_or_default();
        let app = self.app()?;
        let owned = app.store.domain_list(&namespace, &after, beyond(size)).await?;
        let claims = app.store.claim_list(&namespace, &after, beyond(size)).await?;
        let certificates = app.store.certificate_list(&namespace).await?;
        // Both are in order, and as long as a page at the most.
        let mut found: Vec<_> =
            owned.into_iter().map(Held::Owned).chain(claims.into_iter().map(Held::Claimed)).collect();
        found.sort_by(|one, other| one.name().cmp(other.name()));
        let (found, next_page_token) = page::cut(&list, found, size, |held| held.name().domain.to_string());
        let certificate = |held: &Held| certificates.iter().find(|it| it.domain == held.name().domain);
        let domain = |held: &Held| convert::domain(held, certificate(held), &app.claims.prover);
        let domains = found.iter().map(domain).collect();
        Ok(Response::new(v1::ListDomainsResponse { domains, next_page_token }))
    }

    async fn delete_domain(
        &self,
        request: Request<v1::DeleteDomainRequest>,
    ) -> Result<Response<v1::DeleteDomainResponse>, Status> {
        let actor = metadata::actor(&request);
        let target: DomainRef = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        self.store(&request)?.domain_delete(&target).await?;
        app.config_changed().await;
        app.claims.hint();
        tracing::info!(namespace = %target.namespace, domain = %target.domain, actor, "a domain has been taken away");
        Ok(Response::new(v1::DeleteDomainResponse {}))
    }
}

/// What is asked for.
fn claim(request: &v1::CreateDomainRequest, creator: String) -> Result<ClaimRecord, Status> {
    let NamespaceRef { namespace } = name("parent", &request.parent)?;
    let domain: DomainName = name("domain", &request.domain)?;
    let tls = match request.tls() {
        v1::DomainTls::Unspecified | v1::DomainTls::Acme => DomainTls::Acme,
        v1::DomainTls::None => DomainTls::None,
    };
    let now = Time::now();
    Ok(ClaimRecord {
        name: DomainRef { namespace, domain },
        creator,
        create_time: now,
        tls,
        attempts: 0,
        error: String::new(),
        hint: String::new(),
        attempt: Some(now),
        expire: now.after(LIFE),
    })
}
