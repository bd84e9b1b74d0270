//! Logs over gRPC.

use dunlin_proto::v1::{self, log_service_server::LogService};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl LogService for Api {
    type ReadLogsStream = BoxStream<'static, Result<v1::ReadLogsResponse, Status>>;

    async fn read_logs(&self, request: Request<v1::ReadLogsRequest>) -> Result<Response<Self::ReadLogsStream>, Status> {
        self.unary(request, async |app, who, message| {
            let events = app.log_read(&who, message).await?;
            Ok(events.map(|event| event.map_err(Status::from)).boxed())
        })
        .await
    }
}
