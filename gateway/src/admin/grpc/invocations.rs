//! Invocations over gRPC.

use dunlin_proto::v1::{self, invocation_service_server::InvocationService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl InvocationService for Api {
    async fn invoke(&self, request: Request<v1::InvokeRequest>) -> Result<Response<v1::InvokeResponse>, Status> {
        self.unary(request, async |app, who, message| app.invoke(&who, message).await).await
    }

    async fn list_invocations(
        &self,
        request: Request<v1::ListInvocationsRequest>,
    ) -> Result<Response<v1::ListInvocationsResponse>, Status> {
        self.unary(request, async |app, who, message| app.invocation_list(&who, message).await).await
    }

    async fn get_invocation(
        &self,
        request: Request<v1::GetInvocationRequest>,
    ) -> Result<Response<v1::GetInvocationResponse>, Status> {
        self.unary(request, async |app, who, message| app.invocation_get(&who, message).await).await
    }

    async fn explain_invocation(
        &self,
        request: Request<v1::ExplainInvocationRequest>,
    ) -> Result<Response<v1::ExplainInvocationResponse>, Status> {
        self.unary(request, async |app, who, message| app.explain(&who, message).await).await
    }

    async fn describe_function(
        &self,
        request: Request<v1::DescribeFunctionRequest>,
    ) -> Result<Response<v1::DescribeFunctionResponse>, Status> {
        self.unary(request, async |app, who, message| app.function_describe(&who, message).await).await
    }
}
