//! Hostile guests against the real sandbox: each test is named after the threat that it stands for and says what must hold
//! (error code, time, memory, the process alive, neighbours served). `guests/` has the guests; none is committed compiled.

mod commands;
mod examples;
mod http;
mod neighbours;
mod outbound;
mod residue;
mod support;
