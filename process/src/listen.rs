//! Opening a port, and sharing its connections among threads. What is served there is not known here.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::mpsc,
};

use crate::{cores::Cores, shutdown::Shutdown};

/// Connections that may wait until they are accepted; the system lowers it to its own maximum. Whoever finds no place is
/// not told so but tries again after a second (RFC 6298 2.1), so that callers who all connect at once must find one.
const BACKLOG: u32 = 65_535;

/// How long to wait when the system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(50);
/// Connections that wait for a thread to begin with them.
const WAITING: usize = 256;

/// Listens on an address, with room for many who connect in the same moment.
///
/// # Errors
/// The address is taken or not one of this machine, or its port needs privileges.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A process that starts again gets its port while connections of the last one linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Where connections come from.
#[derive(Debug)]
pub enum Sockets {
    /// The port itself.
    Port(TcpListener),
    /// Whoever accepts for several threads: a connection belongs to the thread that waits for it.
    Handed(mpsc::Receiver<Handed>),
}

/// A connection that belongs to no thread yet, and where it comes from.
pub type Handed = (std::net::TcpStream, SocketAddr);

impl Sockets {
    /// The connections of a port for each of these threads in turn. They are accepted until the shutdown begins.
    #[must_use]
    pub fn share(listener: TcpListener, cores: &Cores, shutdown: &Shutdown) -> Vec<(Handle, Self)> {
        if let [only] = cores.handles() {
            return vec![(only.clone(), Self::Port(listener))];
        }
        let (senders, shared) = cores
            .handles()
            .iter()
            .map(|core| {
                let (sender, receiver) = mpsc::channel(WAITING);
                (sender, (core.clone(), Self::Handed(receiver)))
            })
            .unzip();
        shutdown.spawn(hand_out(listener, senders, shutdown.clone()));
        shared
    }

    /// The next connection. Cancel-safe.
    ///
    /// # Errors
    /// The system can't accept it, or not now.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Port(listener) => listener.accept().await,
            Self::Handed(receiver) => match receiver.recv().await {
                Some((stream, from)) => Ok((TcpStream::from_std(stream)?, from)),
                // The process ends.
                None => std::future::pending().await,
            },
        }
    }
}

impl From<TcpListener> for Sockets {
    fn from(listener: TcpListener) -> Self {
        Self::Port(listener)
    }
}

/// Accepts for others, who take turns.
async fn hand_out(listener: TcpListener, takers: Vec<mpsc::Sender<Handed>>, shutdown: Shutdown) {
    for taker in takers.iter().cycle() {
        let handed = async {
            let (stream, from) = accept(&listener).await;
            if let Ok(stream) = stream.into_std() {
                // Whoever takes none any more is about to end.
                let _ = taker.send((stream, from)).await;
            }
        };
        tokio::select! { () = handed => {}, () = shutdown.begun() => return }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => pause(&error).await,
        }
    }
}

/// Waits a moment where the system has no more file descriptors or memory; one connection's failure is its own.
pub async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(BREATH).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn many_may_connect_before_one_is_accepted() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..300 {
            waiting.push(TcpStream::connect(address).await.unwrap());
        }
        for _ in &waiting {
            listener.accept().await.unwrap();
        }
        assert!(listen(address).is_err(), "a port has one listener");
    }

    #[tokio::test]
    async fn threads_take_turns() {
        let (cores, shutdown) = (Cores::start(2).unwrap(), Shutdown::default());
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut shared = Sockets::share(listener, &cores, &shutdown);
        assert_eq!(shared.len(), 2);
        for round in 0..4 {
            let caller = TcpStream::connect(address).await.unwrap();
            let (_, sockets) = &mut shared[round % 2];
            assert_eq!(sockets.accept().await.unwrap().1, caller.local_addr().unwrap());
        }
        shutdown.begin();
        assert!(shutdown.finish(Duration::from_secs(20)).await);
    }
}
