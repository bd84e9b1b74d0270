//! Questions to several processes at once: each has a second to answer where nothing else is said, and whoever does not is named.

use std::{future::Future, time::Duration};

use dunlin_proto::ApiError;
use futures::{StreamExt, stream::FuturesUnordered};
use tonic::{Response, Status};

/// How long another process may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for the answers of several processes, each with its name; says who did not give one, in the order of names.
pub(super) async fn gather<A, F>(questions: impl Iterator<Item = (String, F)>) -> (Vec<A>, Vec<String>)
where
    F: Future<Output = Result<A, ApiError>>,
{
    gather_within(PATIENCE, questions).await
}

/// The same where each may take this long.
pub(super) async fn gather_within<A, F>(
    patience: Duration,
    questions: impl Iterator<Item = (String, F)>,
) -> (Vec<A>, Vec<String>)
where
    F: Future<Output = Result<A, ApiError>>,
{
    let asked = questions.map(|(name, question)| async move {
        let answer = tokio::time::timeout(patience, question).await;
        (name, answer)
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let (mut answers, mut unreachable) = (Vec::new(), Vec::new());
    while let Some((name, answer)) = asked.next().await {
        match answer {
            Ok(Ok(answer)) => answers.push(answer),
            Ok(Err(error)) => {
                tracing::debug!(peer = name, %error, "a process did not answer");
                unreachable.push(name);
            }
            Err(_) => unreachable.push(name),
        }
    }
    unreachable.sort_unstable();
    (answers, unreachable)
}

/// The message of an answer.
pub(super) fn message<A>(answer: Result<Response<A>, Status>) -> Result<A, ApiError> {
    answer.map(Response::into_inner).map_err(ApiError::from)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_is_silent_or_refuses_is_named_and_nobody_waits_for_them() {
        let begun = tokio::time::Instant::now();
        let questions = [
            ("d", std::future::pending().boxed()),
            ("a", async { Ok(1) }.boxed()),
            ("c", async { Err(ApiError::internal()) }.boxed()),
            ("b", async { Ok(2) }.boxed()),
        ];
        let (mut answers, unreachable) = gather(questions.into_iter().map(|(name, q)| (name.to_owned(), q))).await;
        answers.sort_unstable();
        assert_eq!((answers, unreachable), (vec![1, 2], vec!["c".to_owned(), "d".to_owned()]));
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
