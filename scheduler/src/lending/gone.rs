//! Whether the process of a gateway that is no longer heard is gone. One that is cut off may go on with what it was lent; of one
//! whose machine says that nobody listens at its address any more, workers have seen the connections end, and cancelled its calls.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};

/// How often it is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// So often in a row nobody must listen: workers have as much time to cancel calls.
const REFUSALS: u32 = 2;
/// An answer that takes longer says nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until nobody listens at an address, `host:port`, at most for so long; says whether that is so.
pub(crate) async fn gone(address: &str, most: Duration) -> bool {
    timeout(most, refuses(address)).await.is_ok()
}

async fn refuses(address: &str) {
    let mut refusals = 0;
    while refusals < REFUSALS {
        tokio::time::sleep(PAUSE).await;
        refusals = if is_refused(address).await { refusals + 1 } else { 0 };
    }
}

/// A connection, silence, and an address that can't be reached prove nothing.
async fn is_refused(address: &str) -> bool {
    let answer = timeout(PATIENCE, TcpStream::connect(address)).await;
    matches!(answer, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_listens_nowhere_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!is_refused(&address).await, "a process that is frozen still has its address");
        drop(listener);
        assert!(is_refused(&address).await && !is_refused("nowhere").await);
    }
}
