//! Not a test but a way to look at the pages: `cargo test -p dunlin-gateway --test admin -- --ignored --nocapture look`
//! serves them with the sample data for ten minutes and prints where, and a token.

use std::time::Duration;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it serves pages for a person to look at"]
async fn look() {
    let world = World::on(18_081).await;
    println!("http://{}\noperator {}", world.admin, world.tokens.operator());
    println!("viewer {}", world.tokens.with(&[("shop", "viewer")]));
    let peers = world.peers.clone();
    for number in 7304..7904 {
        peers.write(super::world::line(0, &format!("order {number}: paid")));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
